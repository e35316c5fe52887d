//! Names that are none, lengths that lie, digests that are wrong or of another algorithm: at every entrance, and nothing is left.

use std::time::Duration;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use dotmac_testkit::eventually;
use reqwest::Method;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};
use url::form_urlencoded::byte_serialize;

use crate::{
    house::{Answer, House, noise, sha256},
    tus_client::{OFFSET_STREAM, TUS, create, metadata, offset, tus},
    uploads::send_form,
};

/// Names that are refused wherever one is given.
fn no_names() -> Vec<String> {
    let (long, wide) = ("a".repeat(300), "ä".repeat(128));
    let names = [
        "",
        ".",
        "..",
        "a/b",
        "/etc/passwd",
        "../../etc/passwd",
        "a\\b",
        "a\nb",
        "a\u{1b}[2J",
        "a\u{7f}",
        "a\u{85}",
        " a",
        "a ",
        "a\u{200b}b",
        "invoice\u{202e}fdp.exe",
        "a\u{fffd}",
        &long,
        &wide,
    ];
    names.map(str::to_owned).into()
}

#[tokio::test]
async fn a_name_that_is_none_is_refused_at_every_entrance() {
    House::on_both(&[], async |house| {
        let kept = house.file("name=kept.txt", "hello").await;
        let path = format!("/files/{}", kept.text("id"));
        for name in no_names() {
            let encoded: String = byte_serialize(name.as_bytes()).collect();
            let file = ("name=\"file\"; filename=\"a\"", &b"hello"[..]);
            let named = [file, ("name=\"name\"", name.as_bytes())];
            let described = metadata(&[("filename", &name)]);
            let headers = [("upload-length", "5"), ("upload-metadata", &*described)];
            let direct = json!({ "name": name, "size": 5, "sha256": sha256(b"hello") });
            for (entrance, refused) in [
                ("query", house.put(&format!("name={encoded}"), "a").await),
                ("form", send_form(&house, &named).await),
                (
                    "tus",
                    tus(&house, 0, Method::POST, "/files/tus", &headers, Vec::new()).await,
                ),
                ("direct", house.post("/files/direct", direct).await),
                (
                    "patch",
                    house.patch(&path, "*", json!({ "name": name })).await,
                ),
                (
                    "move",
                    house
                        .post(&format!("{path}/move"), json!({ "name": name }))
                        .await,
                ),
                (
                    "copy",
                    house
                        .post(&format!("{path}/copy"), json!({ "name": name }))
                        .await,
                ),
            ] {
                let found = (refused.short(), refused.field());
                assert_eq!(found, ((422, "validation"), "name"), "{entrance} {name:?}");
            }
            let items = json!({ "items": [{ "op": "move", "id": kept.text("id"), "name": name }] });
            let batch = house.post("/files/batch", items).await;
            let error = &batch.body["items"][0]["error"];
            assert_eq!(
                error["errors"][0]["field"], "name",
                "batch {name:?}: {batch:?}"
            );
        }
        for filename in ["a/b", "..", "a\u{202e}b", &"a".repeat(300)] {
            let disposition = format!("name=\"file\"; filename=\"{filename}\"");
            let fields = [(disposition.as_str(), &b"hello"[..])];
            let refused = send_form(&house, &fields).await;
            let found = (refused.short(), refused.field());
            assert_eq!(found, ((422, "validation"), "name"), "{filename:?}");
        }
        assert_eq!(house.get(&path).await.body, kept.body);
        assert_eq!(house.usage().await, (5, 0, 1));
        house.assert_clean(1).await;
    })
    .await;
}

#[tokio::test]
async fn what_is_no_utf_8_is_refused_at_every_entrance() {
    let house = House::on_sqlite(1, &[]).await;
    let kept = house.file("name=kept.txt", "hello").await;
    let path = format!("/files/{}", kept.text("id"));
    let raw = |method, path: &str, body: &'static [u8]| {
        let request = house.request(0, method, path).header("if-match", "*");
        house.send(
            request
                .header("content-type", "application/json")
                .body(body),
        )
    };
    let described = format!("filename {}", STANDARD.encode(b"a\xff"));
    let headers = [("upload-length", "5"), ("upload-metadata", &*described)];
    for (entrance, refused) in [
        ("query", house.put("name=a%FF", "a").await),
        ("folder", house.put("name=a&folder=%C3", "a").await),
        (
            "tus",
            tus(&house, 0, Method::POST, "/files/tus", &headers, Vec::new()).await,
        ),
        (
            "patch",
            raw(Method::PATCH, &path, b"{\"name\":\"a\xff\"}").await,
        ),
        (
            "surrogate",
            raw(Method::PATCH, &path, b"{\"name\":\"a\\ud800\"}").await,
        ),
        (
            "null",
            raw(Method::PATCH, &path, b"{\"name\":\"a\\u0000\"}").await,
        ),
        (
            "move",
            raw(
                Method::POST,
                &format!("{path}/move"),
                b"{\"name\":\"\xc3\"}",
            )
            .await,
        ),
    ] {
        assert!(
            matches!(refused.status, 400 | 422),
            "{entrance}: {refused:?}"
        );
        assert!(!refused.short().1.is_empty(), "{entrance}: {refused:?}");
    }
    assert_eq!(house.get(&path).await.body, kept.body);
    house.assert_clean(1).await;
}

/// What is answered to a request that no client would send: the status; `None` if the connection is ended without one.
async fn send_raw(house: &House, headers: &str, body: &[u8]) -> Option<u16> {
    let place = house.instances[0].base.trim_start_matches("http://");
    let mut stream = TcpStream::connect(place).await.unwrap();
    let head = format!(
        "PUT /api/v1/files/content?name=a HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {}\r\n{headers}\r\n",
        house.token
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.write_all(body).await.ok();
    // One that waits for more learns that no more will come.
    if timeout(Duration::from_millis(500), stream.readable())
        .await
        .is_err()
    {
        stream.shutdown().await.ok();
    }
    let mut answer = vec![0; 12];
    let read = timeout(Duration::from_secs(20), stream.read_exact(&mut answer)).await;
    read.unwrap().ok()?;
    let answer = String::from_utf8(answer).unwrap();
    Some(answer[9..].parse().unwrap())
}

#[tokio::test]
async fn a_length_that_lies_leaves_nothing() {
    House::on_both(&[], async |house| {
        let hash = format!("x-content-sha256: {}\r\n", sha256(b"hello"));
        for (headers, body, expected) in [
            // Less than it announces, more, and none at all.
            ("content-length: 10\r\n", &b"hello"[..], &[400][..]),
            ("content-length: 3\r\n", b"hello", &[422]),
            ("content-length: 0\r\n", b"hello", &[422]),
            ("content-length: -1\r\n", b"hello", &[400]),
            ("content-length: five\r\n", b"hello", &[400]),
            ("content-length: 5 5\r\n", b"hello", &[400]),
            (
                "content-length: 99999999999999999999999\r\n",
                b"hello",
                &[400, 413],
            ),
            ("content-length: 1000000000000\r\n", b"hello", &[413]),
            // Two that differ, or two ways to say it: a proxy may see another request than the daemon.
            (
                "content-length: 5\r\ncontent-length: 3\r\n",
                b"hello",
                &[400],
            ),
            (
                "content-length: 5\r\ntransfer-encoding: chunked\r\n",
                b"5\r\nhello\r\n0\r\n\r\n",
                &[400],
            ),
            (
                "transfer-encoding: chunked\r\n",
                b"zz\r\nhello\r\n0\r\n\r\n",
                &[400],
            ),
            (
                "transfer-encoding: chunked\r\n",
                b"ffffffffffffffffff\r\nhello\r\n",
                &[400],
            ),
            ("transfer-encoding: chunked\r\n", b"5\r\nhello\r\n", &[400]),
            ("transfer-encoding: chunked\r\n", b"9\r\nhello", &[400]),
            ("transfer-encoding: gzip\r\n", b"hello", &[400, 501]),
        ] {
            let status = send_raw(&house, &format!("{headers}{hash}"), body).await;
            let is_refused = status.is_none_or(|status| expected.contains(&status));
            assert!(is_refused, "{headers:?} {body:?}: {status:?}");
        }
        house.until_usage((0, 0, 0)).await;
        eventually("what came to be cleared away", || async {
            house.stored().is_empty().then_some(())
        })
        .await;
        assert_eq!(house.get("/files").await.body["items"], json!([]));
        house.assert_clean(0).await;
    })
    .await;
}

type Header = (&'static str, String);
/// Status and code.
type Refusal = (u16, &'static str);

/// Headers with a hash of `hello` that is wrong, or of an algorithm that is not checked.
fn wrong_digests() -> Vec<(Header, Refusal)> {
    let zeros = STANDARD.encode([0; 32]);
    let (mismatch, invalid) = ((422, "digest_mismatch"), (400, "invalid_digest"));
    vec![
        (("content-digest", format!("sha-256=:{zeros}:")), mismatch),
        (("x-content-sha256", "0".repeat(64)), mismatch),
        (("x-content-sha256", "0".repeat(63)), invalid),
        (("x-content-sha256", "g".repeat(64)), invalid),
        (("x-content-sha256", String::new()), invalid),
        (("content-digest", String::new()), invalid),
        (("content-digest", format!("sha-512=:{zeros}:")), invalid),
        (
            (
                "content-digest",
                "md5=:XUFAKrxLKna5cZ2REBfFkg==:".to_owned(),
            ),
            invalid,
        ),
        (("content-digest", "unixsum=30637".to_owned()), invalid),
        (
            ("content-digest", format!("sha-256={}", sha256(b"hello"))),
            invalid,
        ),
        (
            ("content-digest", "sha-256=:LPJNul+wow4=:".to_owned()),
            invalid,
        ),
        (("content-digest", "sha-256".to_owned()), invalid),
    ]
}

#[tokio::test]
async fn a_digest_that_is_wrong_or_of_another_algorithm_is_refused_at_every_entrance() {
    House::on_both(&[], async |house| {
        let kept = house.file("name=kept.txt", "first").await;
        let path = format!("/files/{}/content", kept.text("id"));
        for ((header, value), expected) in wrong_digests() {
            for place in ["/files/content?name=a", &path] {
                let request = house.request(0, Method::PUT, place).header("if-match", "*");
                let refused = house.send(request.header(header, &value).body("hello")).await;
                let found = (refused.short(), refused.field());
                assert_eq!(found, (expected, header), "{place} {value:?}: {refused:?}");
            }
            // Of a form, such a header would be the hash of all of it.
            let form = "--b\r\ncontent-disposition: form-data; name=\"file\"; filename=\"a\"\r\n\r\nhello\r\n--b--\r\n";
            let request = house.request(0, Method::POST, "/files");
            let request = request.header("content-type", "multipart/form-data; boundary=b");
            let refused = house.send(request.header(header, &value).body(form)).await;
            let found = (refused.short(), refused.field());
            assert_eq!(found, ((400, "invalid_digest"), header), "{value:?}");
        }
        let upload = create(&house, 5, "a.txt").await;
        let (sha1, zeros) = (STANDARD.encode([0; 20]), STANDARD.encode([0; 32]));
        for (checksum, expected) in [
            (format!("sha1 {sha1}"), (460, "checksum_mismatch")),
            (format!("sha256 {zeros}"), (460, "checksum_mismatch")),
            (format!("sha256 {sha1}"), (460, "checksum_mismatch")),
            (format!("SHA256 {zeros}"), (400, "invalid_upload")),
            (format!("sha512 {zeros}"), (400, "invalid_upload")),
            ("crc32 AAAAAA==".to_owned(), (400, "invalid_upload")),
            ("sha256".to_owned(), (400, "invalid_upload")),
            ("sha256 %%".to_owned(), (400, "invalid_upload")),
        ] {
            let headers = [("upload-offset", "0"), OFFSET_STREAM, ("upload-checksum", &*checksum)];
            let refused = tus(&house, 0, Method::PATCH, &upload, &headers, b"hello".to_vec()).await;
            assert_eq!(refused.short(), expected, "{checksum}: {refused:?}");
            assert_eq!(offset(&house, 0, &upload).await, 0, "{checksum}");
        }
        assert_eq!(house.get(&path).await.bytes, b"first");
        assert_eq!(house.usage().await, (5, 5, 1));
        let ended = tus(&house, 0, Method::DELETE, &upload, &[], Vec::new()).await;
        assert_eq!(ended.status, 204);
        assert_eq!(house.usage().await, (5, 0, 1));
        house.assert_clean(1).await;
    })
    .await;
}

#[tokio::test]
async fn an_upload_in_parts_whose_length_lies_never_becomes_another_file() {
    let house = House::on_sqlite(1, &[("DOTMAC_FILES_TENANT_QUOTA", "1MiB")]).await;
    let named = metadata(&[("filename", "a")]);
    let begin = async |length: &str, body: &[u8]| -> Answer {
        let headers = [
            ("upload-length", length),
            ("upload-metadata", &*named),
            OFFSET_STREAM,
        ];
        tus(
            &house,
            0,
            Method::POST,
            "/files/tus",
            &headers,
            body.to_vec(),
        )
        .await
    };
    for (length, body, expected) in [
        ("", &b""[..], (400, "invalid_upload")),
        ("-5", b"", (400, "invalid_upload")),
        ("5.0", b"", (400, "invalid_upload")),
        ("0x5", b"", (400, "invalid_upload")),
        ("99999999999999999999", b"", (400, "invalid_upload")),
        ("9223372036854775807", b"", (413, "file_too_large")),
        ("2000000", b"", (413, "quota_exceeded")),
    ] {
        assert_eq!(begin(length, body).await.short(), expected, "{length:?}");
    }
    assert_eq!(house.usage().await, (0, 0, 0));
    // It is begun all the same, with nothing: its client sees how far it has come.
    let short = begin("3", b"hello").await;
    let begun = (short.status, short.header("upload-offset"));
    assert_eq!(begun, (201, "0"), "{short:?}");
    let made = begin("9", b"hello").await;
    assert_eq!(
        (made.status, made.header("upload-offset")),
        (201, "5"),
        "{made:?}"
    );
    let path = made
        .header("location")
        .trim_start_matches("/api/v1")
        .to_owned();
    for (at, expected) in [
        ("4", "upload_offset"),
        ("6", "upload_offset"),
        ("-1", "invalid_upload"),
        ("99999999999999999999", "invalid_upload"),
    ] {
        let headers = [("upload-offset", at), OFFSET_STREAM];
        let refused = tus(&house, 0, Method::PATCH, &path, &headers, noise(1, 4)).await;
        assert_eq!(refused.short().1, expected, "{at}: {refused:?}");
    }
    let shown = house
        .send(house.request(0, Method::GET, &path).header(TUS.0, TUS.1))
        .await;
    assert_eq!(shown.body["received"], Value::from(5), "{shown:?}");
    assert_eq!(house.get("/files").await.body["items"], json!([]));
}
