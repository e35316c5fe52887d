//! Uploads that are resumed: by tus 1.0, on any instance, after any cut.

use aws_lc_rs::digest;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use dotmac_testkit::{eventually, process};
use reqwest::Method;
use serde_json::json;
use tokio::io::AsyncWriteExt as _;

use crate::{
    house::{Answer, House, noise, sha256},
    tus_client::{OFFSET_STREAM, TUS, begin, create, file_of, metadata, offset, patch, tus},
};

#[tokio::test]
async fn an_upload_goes_on_where_it_was_cut_and_becomes_the_file_that_was_sent() {
    House::on_both(&[], async |house| {
        let options = house
            .request(0, Method::OPTIONS, "/files/tus")
            .send()
            .await
            .unwrap();
        let options = Answer::of(options).await;
        assert_eq!(
            (options.status, options.header("tus-version")),
            (204, "1.0.0")
        );
        let extensions = "creation,creation-with-upload,termination,checksum,expiration";
        assert_eq!(options.header("tus-extension"), extensions);
        assert_eq!(options.header("tus-max-size"), "5368709120");

        let bytes = noise(1, 9_000_000);
        let path = create(&house, bytes.len(), "a.bin").await;
        assert_eq!(house.usage().await, (0, 9_000_000, 0));
        assert_eq!(house.get(&file_of(&path)).await.status, 404);
        for range in [0..1, 1..100_000, 100_000..8_999_999] {
            let came = patch(&house, 0, &path, range.start, &bytes[range.clone()]).await;
            assert_eq!(
                (came.status, came.header("upload-offset")),
                (204, &*range.end.to_string()),
                "{came:?}"
            );
            assert_eq!(offset(&house, 0, &path).await, range.end);
        }
        let elsewhere = patch(&house, 0, &path, 5, b"a").await;
        assert_eq!(elsewhere.short(), (409, "upload_offset"), "{elsewhere:?}");
        let beyond = patch(&house, 0, &path, 8_999_999, b"ab").await;
        assert_eq!(beyond.short(), (413, "upload_too_long"), "{beyond:?}");
        let last = patch(&house, 0, &path, 8_999_999, &bytes[8_999_999..]).await;
        assert_eq!(last.status, 204, "{last:?}");
        let file = house.get(&file_of(&path)).await;
        assert_eq!(
            (file.text("name"), file.text("folder"), file.text("state")),
            ("a.bin", "/t", "ready")
        );
        assert_eq!(
            (file.text("sha256"), &file.body["metadata"]),
            (&*sha256(&bytes), &json!({ "k": "v" }))
        );
        assert!(
            house
                .get(&format!("{}/content", file_of(&path)))
                .await
                .bytes
                == bytes
        );
        assert_eq!(house.usage().await, (9_000_000, 0, 1));
        house.assert_clean(1).await;
        // A client that did not get the last answer learns that all has come.
        assert_eq!(offset(&house, 0, &path).await, bytes.len());
        let shown = house.get(&path).await;
        assert_eq!(shown.body["received"], 9_000_000);
        assert_eq!(shown.header("upload-length"), "9000000");
        let again = patch(&house, 0, &path, 8_999_999, &bytes[8_999_999..]).await;
        assert_eq!(again.short(), (409, "upload_offset"), "{again:?}");
        let ended = tus(&house, 0, Method::DELETE, &path, &[], Vec::new()).await;
        assert_eq!(ended.short(), (409, "file_state"), "{ended:?}");
    })
    .await;
}

#[tokio::test]
async fn what_tus_does_not_allow_is_refused_by_its_header() {
    let house = House::on_sqlite(1, &[("DOTMAC_FILES_MAX_SIZE", "1MiB")]).await;
    let named = metadata(&[("filename", "a")]);
    let post = |headers: Vec<(&'static str, String)>| {
        let request = house.request(0, Method::POST, "/files/tus");
        let request = headers.into_iter().fold(request, |request, (name, value)| {
            request.header(name, value)
        });
        house.send(request)
    };
    let tus_header = || ("tus-resumable", "1.0.0".to_owned());
    for (headers, expected, field) in [
        (
            vec![("upload-length", "1".to_owned())],
            (412, "tus_version"),
            "",
        ),
        (vec![tus_header()], (400, "invalid_upload"), "upload-length"),
        (
            vec![tus_header(), ("upload-length", "-1".into())],
            (400, "invalid_upload"),
            "upload-length",
        ),
        (
            vec![tus_header(), ("upload-length", "1".into())],
            (400, "invalid_upload"),
            "upload-metadata",
        ),
        (
            vec![
                tus_header(),
                ("upload-length", "1".into()),
                ("upload-metadata", "filename %%".into()),
            ],
            (400, "invalid_upload"),
            "upload-metadata",
        ),
        (
            vec![
                tus_header(),
                ("upload-length", "1".into()),
                ("upload-metadata", metadata(&[("filename", "a/b")])),
            ],
            (422, "validation"),
            "name",
        ),
        (
            vec![
                tus_header(),
                ("upload-length", "1048577".into()),
                ("upload-metadata", named),
            ],
            (413, "file_too_large"),
            "file",
        ),
    ] {
        let refused = post(headers).await;
        assert_eq!(
            (refused.short(), refused.field()),
            (expected, field),
            "{refused:?}"
        );
        assert_eq!(refused.header("tus-resumable"), "1.0.0");
    }
    let path = create(&house, 5, "a.txt").await;
    let wrong = tus(
        &house,
        0,
        Method::PATCH,
        &path,
        &[("upload-offset", "0")],
        b"hello".to_vec(),
    )
    .await;
    assert_eq!(wrong.short(), (415, "unsupported_media_type"));
    let hash = |algorithm: &'static digest::Algorithm| {
        STANDARD.encode(digest::digest(algorithm, b"hello"))
    };
    let sha1 = format!("sha1 {}", hash(&digest::SHA1_FOR_LEGACY_USE_ONLY));
    let checked = async |checksum: &str, bytes: &[u8]| {
        let headers = [
            ("upload-offset", "0"),
            OFFSET_STREAM,
            ("upload-checksum", checksum),
        ];
        tus(&house, 0, Method::PATCH, &path, &headers, bytes.to_vec()).await
    };
    assert_eq!(
        checked("md5 YQ==", b"hello").await.short(),
        (400, "invalid_upload")
    );
    assert_eq!(
        checked(&sha1, b"hullo").await.short(),
        (460, "checksum_mismatch")
    );
    assert_eq!(offset(&house, 0, &path).await, 0);
    assert_eq!(checked(&sha1, b"hello").await.status, 204);
    assert_eq!(
        house.get(&file_of(&path)).await.text("sha256"),
        sha256(b"hello")
    );
    house.assert_clean(1).await;
}

#[tokio::test]
async fn an_upload_comes_with_its_beginning_and_is_ended_or_expires() {
    let settings = [("DOTMAC_FILES_SWEEP_INTERVAL", "200ms")];
    House::on_both(&settings, async |house| {
        let described = metadata(&[("filename", "a.txt"), ("filetype", "text/plain")]);
        let headers = [
            ("upload-length", "5"),
            ("upload-metadata", &*described),
            OFFSET_STREAM,
        ];
        let made = tus(
            &house,
            0,
            Method::POST,
            "/files/tus",
            &headers,
            b"hel".to_vec(),
        )
        .await;
        assert_eq!(
            (made.status, made.header("upload-offset")),
            (201, "3"),
            "{made:?}"
        );
        let path = made
            .header("location")
            .trim_start_matches("/api/v1")
            .to_owned();
        // Where PATCH does not come through.
        let headers = [
            ("upload-offset", "3"),
            OFFSET_STREAM,
            ("x-http-method-override", "PATCH"),
        ];
        let rest = tus(&house, 0, Method::POST, &path, &headers, b"lo".to_vec()).await;
        assert_eq!(
            (rest.status, rest.header("upload-offset")),
            (204, "5"),
            "{rest:?}"
        );
        let empty = create(&house, 0, "empty").await;
        assert_eq!(house.get(&file_of(&empty)).await.body["size"], 0);
        assert_eq!(house.get(&file_of(&path)).await.text("type"), "text/plain");

        let ended = create(&house, 100, "b").await;
        assert_eq!(patch(&house, 0, &ended, 0, &[0; 50]).await.status, 204);
        let other = house.user("other@example.com", &["files.files.*"]).await;
        let theirs = house
            .request(0, Method::DELETE, &ended)
            .header(TUS.0, TUS.1)
            .bearer_auth(other);
        assert_eq!(theirs.send().await.unwrap().status(), 404);
        assert_eq!(
            tus(&house, 0, Method::DELETE, &ended, &[], Vec::new())
                .await
                .status,
            204
        );
        assert_eq!(
            tus(&house, 0, Method::DELETE, &ended, &[], Vec::new())
                .await
                .short(),
            (404, "upload_not_found")
        );

        let lies = metadata(&[("filename", "a.png"), ("filetype", "image/png")]);
        let headers = [("upload-length", "5"), ("upload-metadata", &*lies)];
        let made = tus(&house, 0, Method::POST, "/files/tus", &headers, Vec::new()).await;
        let path = made
            .header("location")
            .trim_start_matches("/api/v1")
            .to_owned();
        assert_eq!(
            patch(&house, 0, &path, 0, b"hello").await.short(),
            (422, "type_mismatch")
        );

        let expires = create(&house, 100, "c").await;
        assert_eq!(patch(&house, 0, &expires, 0, &[0; 50]).await.status, 204);
        house
            .sql("UPDATE file_upload SET expires_at = '2026-01-01 00:00:00.000000'")
            .await;
        house.until_usage((5, 0, 2)).await;
        assert_eq!(
            patch(&house, 0, &expires, 50, b"a").await.short(),
            (404, "upload_not_found")
        );
        eventually("all parts to be gone", || async {
            (house.stored().len() == 2).then_some(())
        })
        .await;
        house.assert_clean(2).await;
    })
    .await;
}

#[tokio::test]
async fn of_two_requests_the_later_one_goes_on_at_once() {
    House::on_both(&[], async |house| {
        let bytes = noise(2, 1_000_000);
        let path = create(&house, bytes.len(), "a.bin").await;
        // A connection that stays open and sends no more.
        let mut stuck = begin(&house, 0, &path, 0, &bytes, 400_000).await;
        eventually("its bytes to be taken", || async {
            (!house.stored().is_empty()).then_some(())
        })
        .await;
        assert_eq!(offset(&house, 0, &path).await, 0);
        let half = patch(&house, 0, &path, 0, &bytes[..500_000]).await;
        assert_eq!(half.status, 204, "{half:?}");
        // Later bytes of the first one do not count.
        stuck.write_all(&bytes[400_000..]).await.ok();
        let rest = patch(&house, 0, &path, 500_000, &bytes[500_000..]).await;
        assert_eq!(rest.status, 204, "{rest:?}");
        assert_eq!(
            house.get(&file_of(&path)).await.text("sha256"),
            sha256(&bytes)
        );
        drop(stuck);
        house.until_usage((1_000_000, 0, 1)).await;
        eventually("what the first one sent to be cleared away", || async {
            (house.stored().len() == 1).then_some(())
        })
        .await;
        house.assert_clean(1).await;
    })
    .await;
}

#[tokio::test]
async fn killed_at_any_byte_an_upload_goes_on_elsewhere_with_the_same_hash() {
    let settings = [("DOTMAC_FILES_SWEEP_INTERVAL", "500ms")];
    for mut house in [
        House::on_sqlite(2, &settings).await,
        House::on_postgres(2, &settings).await,
    ] {
        let bytes = noise(3, 20_000_000);
        let path = create(&house, bytes.len(), "a.bin").await;
        let mut random = fastrand::Rng::with_seed(4);
        for _ in 0..4 {
            let at = offset(&house, 0, &path).await;
            let left = bytes.len() - at;
            let sent = random.usize(1..left.min(9_000_000));
            let stream = begin(&house, 1, &path, at, &bytes, sent).await;
            // Somewhere in the middle of what it does with them.
            tokio::time::sleep(std::time::Duration::from_millis(random.u64(0..60))).await;
            let killed = house.instances.remove(1);
            process::signal(killed.pid(), "KILL");
            drop((killed, stream));
            house.add_instance().await;
        }
        loop {
            let at = offset(&house, 1, &path).await;
            let end = bytes.len().min(at + 6_000_000);
            let came = patch(&house, 1, &path, at, &bytes[at..end]).await;
            assert_eq!(came.status, 204, "{came:?}");
            if end == bytes.len() {
                break;
            }
        }
        let file = house.get(&file_of(&path)).await;
        assert_eq!(file.text("sha256"), sha256(&bytes));
        assert!(
            house
                .get(&format!("{}/content", file_of(&path)))
                .await
                .bytes
                == bytes
        );
        house.sql("UPDATE file_blob SET lease_until = '2026-01-01 00:00:00.000000' WHERE state = 'writing'").await;
        eventually("what the killed ones left to be cleared away", || async {
            (house.stored().len() == 1).then_some(())
        })
        .await;
        house.until_usage((20_000_000, 0, 1)).await;
        house.assert_clean(1).await;
    }
}

#[tokio::test]
async fn a_directory_takes_nothing_past_the_daemon() {
    let house = House::on_sqlite(1, &[]).await;
    let new = json!({ "name": "a", "size": 5, "sha256": sha256(b"hello") });
    let refused = house.post("/files/direct", new).await;
    assert_eq!(
        refused.short(),
        (422, "direct_not_configured"),
        "{refused:?}"
    );
    let new = json!({ "name": "a", "size": 5, "sha256": "abc" });
    let wrong = house.post("/files/direct", new).await;
    assert_eq!(
        (wrong.short(), wrong.field()),
        ((422, "validation"), "sha256")
    );
    let path = create(&house, 5, "a").await;
    let complete = format!("{}/complete", file_of(&path));
    let other = house.post(&complete, json!({})).await;
    assert_eq!(other.short(), (404, "upload_not_found"), "{other:?}");
    assert_eq!(house.usage().await, (0, 5, 0));
}
