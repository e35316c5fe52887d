//! Stored bytes equal the sent ones, and false announcements are refused without a rest.

use dotmac_testkit::eventually;
use reqwest::{Method, header::HeaderValue};
use serde_json::json;

use crate::house::{Answer, House, noise, sha256};

/// A form of fields, each with its disposition, and its content type.
fn form(fields: &[(&str, &[u8])]) -> (String, Vec<u8>) {
    let mut body = Vec::new();
    for (disposition, bytes) in fields {
        let head = format!("--b0und\r\nContent-Disposition: form-data; {disposition}\r\n\r\n");
        body.extend_from_slice(head.as_bytes());
        body.extend_from_slice(bytes);
        body.extend_from_slice(b"\r\n");
    }
    body.extend_from_slice(b"--b0und--\r\n");
    ("multipart/form-data; boundary=b0und".to_owned(), body)
}

pub(crate) async fn send_form(house: &House, fields: &[(&str, &[u8])]) -> Answer {
    let (kind, body) = form(fields);
    let request = house.request(0, Method::POST, "/files");
    house
        .send(request.header("content-type", kind).body(body))
        .await
}

#[tokio::test]
async fn a_file_is_what_was_sent_whatever_its_size() {
    House::on_every(&[], async |house| {
        let mut used = 0;
        let sizes = [0, 1, 131_071, 131_072, 131_073, 3_000_000];
        for (number, size) in sizes.into_iter().enumerate() {
            let bytes = noise(number as u64, size);
            let request = house.request(
                0,
                Method::PUT,
                "/files/content?name=n%C3%A4me.bin&folder=a/b",
            );
            let request = request
                .header("x-content-sha256", sha256(&bytes))
                .header("content-type", "application/x-made-up");
            let made = house.send(request.body(bytes.clone())).await;
            assert_eq!(made.status, 201, "{size}: {made:?}");
            let path = format!("/api/v1/files/{}", made.text("id"));
            assert_eq!(made.header("location"), path);
            assert_eq!(made.header("etag"), "\"1\"");
            for (field, value) in [
                ("name", json!("näme.bin")),
                ("size", json!(size)),
                ("sha256", json!(sha256(&bytes))),
                ("type", json!("application/octet-stream")),
                ("type_declared", json!("application/x-made-up")),
                ("state", json!("ready")),
                ("folder", json!("/a/b")),
                ("metadata", json!({})),
                ("version", json!(1)),
            ] {
                assert_eq!(made.body[field], value, "{size}: {field}");
            }
            let fields: Vec<_> = made.body.as_object().unwrap().keys().collect();
            assert_eq!(fields.len(), 13, "{fields:?}");
            let path = path.trim_start_matches("/api/v1");
            assert_eq!(house.get(path).await.body, made.body);
            let read = house.get(&format!("{path}/content")).await;
            assert_eq!(read.status, 200, "{size}");
            assert!(read.bytes == bytes, "{size}: other bytes");
            used += i64::try_from(size).unwrap();
            assert_eq!(house.usage().await, (used, 0, number as i64 + 1));
        }
        house.assert_clean(sizes.len()).await;
    })
    .await;
}

/// The rule that texts of requests have no NUL is not for files: curl says that a file is a form.
#[tokio::test]
async fn a_file_may_have_any_byte_whatever_its_type_is_said_to_be() {
    House::on_every(&[], async |house| {
        for (kind, bytes) in [
            ("application/x-www-form-urlencoded", &b"a\0b%00"[..]),
            ("application/json", br#"{"a":"\u0000"}"#),
        ] {
            let request = house.request(0, Method::PUT, "/files/content?name=a.bin");
            let request = request.header("content-type", kind).body(bytes.to_vec());
            let made = house.send(request).await;
            assert_eq!(made.status, 201, "{kind}: {made:?}");
            assert_eq!(made.text("sha256"), sha256(bytes));
        }
    })
    .await;
}

#[tokio::test]
async fn what_lies_about_its_hash_or_its_type_is_refused_and_leaves_nothing() {
    House::on_every(&[], async |house| {
        let put = |headers: &[(&str, &str)], bytes: &'static [u8]| {
            let request = house.request(0, Method::PUT, "/files/content?name=a");
            let request = headers.iter().fold(request, |request, (name, value)| {
                request.header(*name, *value)
            });
            house.send(request.body(bytes))
        };
        let right = "LPJNul+wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ=";
        let zeros = "0".repeat(64);
        let lies = [
            (
                vec![(
                    "content-digest",
                    "sha-256=:RvfvvBbjLT5UYFQNRVZEURRj8eNqcsYGhLBJBsMSsvQ=:",
                )],
                (422, "digest_mismatch"),
            ),
            (
                vec![("x-content-sha256", &*zeros)],
                (422, "digest_mismatch"),
            ),
            (vec![("x-content-sha256", "abc")], (400, "invalid_digest")),
            (
                vec![("content-digest", "sha-512=:YQ==:")],
                (400, "invalid_digest"),
            ),
            (
                vec![("content-digest", "sha-256=:abc:")],
                (400, "invalid_digest"),
            ),
            (vec![("content-type", "image/png")], (422, "type_mismatch")),
        ];
        for (headers, expected) in &lies {
            let refused = put(headers, b"hello").await;
            assert_eq!(refused.short(), *expected, "{headers:?}: {refused:?}");
            assert!(!refused.field().is_empty(), "{refused:?}");
        }
        assert_eq!(house.usage().await, (0, 0, 0));
        house.assert_clean(0).await;
        let right = format!("sha-512=:YQ==:, sha-256=:{right}:");
        assert_eq!(
            put(&[("content-digest", &right)], b"hello").await.status,
            201
        );
        house.assert_clean(1).await;
        let refused = "dotmac_files_uploads_total{outcome=\"refused\"}";
        eventually("refusals to be counted", || async {
            let refused = house.instances[0].metric(refused).await?;
            (refused == 3.0).then_some(())
        })
        .await;
    })
    .await;
}

#[tokio::test]
async fn a_digest_that_is_there_twice_or_is_no_text_is_not_taken_for_absent() {
    let house = House::on_sqlite(1, &[]).await;
    let (right, wrong) = (sha256(b"hello"), sha256(b"hullo"));
    let upload = |lines: [(&'static str, Vec<u8>); 2]| {
        let request = house.request(0, Method::PUT, "/files/content?name=a");
        let request = lines.into_iter().fold(request, |request, (name, value)| {
            request.header(name, HeaderValue::from_bytes(&value).unwrap())
        });
        house.send(request.body("hello"))
    };
    let (hex, digest) = ("x-content-sha256", "content-digest");
    let sha_256 = b"sha-256=:LPJNul+wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ=:";
    let other = ("x-other", b"a".to_vec());
    for lines in [
        [(hex, right.clone().into_bytes()), (hex, wrong.into_bytes())],
        [(hex, b"\xff\xfe".to_vec()), other.clone()],
        [(digest, b"\xff\xfe".to_vec()), other.clone()],
        [
            (digest, sha_256.to_vec()),
            (digest, b"sha-256=:\xff:".to_vec()),
        ],
    ] {
        let refused = upload(lines).await;
        assert_eq!(refused.short(), (400, "invalid_digest"), "{refused:?}");
    }
    // A list in two lines is one list.
    let made = upload([(digest, b"md5=:YQ==:".to_vec()), (digest, sha_256.to_vec())]).await;
    assert_eq!((made.status, made.text("sha256")), (201, &*right));
    house.assert_clean(1).await;
}

#[tokio::test]
async fn a_name_that_is_none_is_refused_before_a_byte_is_taken() {
    let house = House::on_sqlite(1, &[]).await;
    let (long, just) = ("a".repeat(256), "a".repeat(255));
    for name in [
        "",
        "%2e",
        "..",
        "a%2Fb",
        "..%2F..%2Fetc%2Fpasswd",
        "a%5Cb",
        "a%0Ab",
        "a%7F",
        "%20a",
        "a%FFb",
        "a%C3",
        "invoice%E2%80%AEfdp.exe",
        &long,
    ] {
        let refused = house.put(&format!("name={name}"), "a").await;
        assert_eq!(
            (refused.status, refused.field()),
            (422, "name"),
            "{name}: {refused:?}"
        );
    }
    for folder in ["..", "a/../b", "a//b", "a%0A", "a%5Cb"] {
        let refused = house.put(&format!("name=a&folder={folder}"), "a").await;
        assert_eq!(
            (refused.status, refused.field()),
            (422, "folder"),
            "{folder}: {refused:?}"
        );
    }
    for (query, field) in [("folder=a", "name"), ("name=a&nam=b", "nam")] {
        let refused = house.put(query, "a").await;
        assert_eq!(refused.short(), (400, "invalid_query"), "{refused:?}");
        assert_eq!(refused.field(), field);
    }
    // A NUL is refused before any handler.
    assert_eq!(
        house.put("name=a%00b", "a").await.short(),
        (422, "invalid_value")
    );
    assert_eq!(
        house.file(&format!("name={just}"), "a").await.text("name"),
        just
    );
    // One form of a letter.
    assert_eq!(house.file("name=a%CC%88", "a").await.text("name"), "ä");
    house.assert_clean(2).await;
}

#[tokio::test]
async fn a_form_has_its_fields_in_any_order_and_no_others() {
    House::on_every(&[], async |house| {
        let file = ("name=\"file\"; filename=\"a.txt\"", &b"hello"[..]);
        let metadata = ("name=\"metadata\"", &br#"{"k":"v"}"#[..]);
        let folder = ("name=\"folder\"", &b"/x"[..]);
        for fields in [[file, metadata, folder], [metadata, folder, file]] {
            let made = send_form(&house, &fields).await;
            assert_eq!(made.status, 201, "{made:?}");
            assert_eq!((made.text("name"), made.text("folder")), ("a.txt", "/x"));
            assert_eq!(made.body["metadata"], json!({ "k": "v" }));
            assert_eq!(made.text("sha256"), sha256(b"hello"));
        }
        let named = [file, ("name=\"name\"", b"b.txt")];
        assert_eq!(send_form(&house, &named).await.text("name"), "b.txt");
        for (fields, expected, field) in [
            (vec![folder], (400, "invalid_form"), "file"),
            (vec![file, file], (400, "invalid_form"), "file"),
            (vec![file, folder, folder], (400, "invalid_form"), "folder"),
            (
                vec![file, ("name=\"owner\"", b"a")],
                (400, "invalid_form"),
                "owner",
            ),
            (
                vec![file, ("name=\"metadata\"", b"[1]")],
                (422, "validation"),
                "metadata",
            ),
            (
                vec![file, ("name=\"name\"", b"a/b")],
                (422, "validation"),
                "name",
            ),
            (
                vec![file, ("name=\"name\"", b"a\xff")],
                (422, "validation"),
                "name",
            ),
            (
                vec![("name=\"file\"", b"hello")],
                (422, "validation"),
                "name",
            ),
        ] {
            let refused = send_form(&house, &fields).await;
            assert_eq!(refused.short(), expected, "{refused:?}");
            assert_eq!(refused.field(), field, "{refused:?}");
        }
        let request = house.request(0, Method::POST, "/files").json(&json!({}));
        assert_eq!(
            house.send(request).await.short(),
            (415, "unsupported_media_type")
        );
        let (kind, body) = form(&[file]);
        let cut = house
            .request(0, Method::POST, "/files")
            .header("content-type", kind);
        let cut = house.send(cut.body(body[..body.len() - 12].to_vec())).await;
        assert_eq!(cut.short(), (400, "incomplete_body"), "{cut:?}");
        house.until_usage((15, 0, 3)).await;
        house.assert_clean(3).await;
    })
    .await;
}

#[tokio::test]
async fn too_large_a_file_is_refused_at_its_head_and_in_chunks() {
    let settings = [("DOTMAC_FILES_MAX_UPLOAD", "100KiB")];
    let house = House::on_sqlite(1, &settings).await;
    let announced = house.put("name=a", noise(1, 102_401)).await;
    assert_eq!(announced.short(), (413, "body_too_large"), "{announced:?}");
    let pieces = || (0..30).map(|number| Ok::<_, std::io::Error>(noise(number, 10_240)));
    let chunks = futures_util::stream::iter(pieces());
    let chunked = house
        .put("name=a", reqwest::Body::wrap_stream(chunks))
        .await;
    assert_eq!(chunked.short(), (413, "body_too_large"), "{chunked:?}");
    let fields = [("name=\"file\"; filename=\"a\"", &*noise(1, 102_401))];
    let form = send_form(&house, &fields).await;
    assert_eq!(form.short(), (413, "file_too_large"), "{form:?}");
    house.until_usage((0, 0, 0)).await;
    let chunks = futures_util::stream::iter(pieces().take(10));
    assert_eq!(
        house
            .file("name=a", reqwest::Body::wrap_stream(chunks))
            .await
            .body["size"],
        102_400
    );
    house.assert_clean(1).await;
}

#[tokio::test]
async fn more_uploads_than_there_may_be_are_asked_to_come_later() {
    let house = House::on_sqlite(1, &[("DOTMAC_FILES_MAX_UPLOADS", "1")]).await;
    let (sender, receiver) = tokio::sync::oneshot::channel::<()>();
    let slow = futures_util::stream::once(async move {
        receiver.await.ok();
        Ok::<_, std::io::Error>(b"hello".to_vec())
    });
    let slow = house.put("name=slow", reqwest::Body::wrap_stream(slow));
    let meanwhile = async {
        eventually("the first upload to begin", || async {
            let active = house.instances[0]
                .metric("dotmac_files_uploads_active")
                .await;
            (active == Some(1.0)).then_some(())
        })
        .await;
        let busy = house.put("name=b", "b").await;
        assert_eq!(busy.short(), (503, "too_many_uploads"), "{busy:?}");
        assert_eq!(busy.header("retry-after"), "1");
        sender.send(()).unwrap();
    };
    assert_eq!(tokio::join!(slow, meanwhile).0.status, 201);
}
