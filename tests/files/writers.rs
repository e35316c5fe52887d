//! Two that write the same at once: one of them is served, and nothing is mixed.

use futures_util::future::join_all;
use reqwest::Method;

use crate::{
    house::{House, noise, sha256},
    tus_client::{create, file_of, patch, tus},
};

const ROUNDS: usize = 8;

#[tokio::test]
async fn of_two_writers_of_an_upload_one_is_served_and_nothing_is_mixed() {
    for house in [
        House::on_sqlite(2, &[]).await,
        House::on_postgres(2, &[]).await,
    ] {
        for round in 0..ROUNDS {
            let path = create(&house, 1_000_000, "a.bin").await;
            let bytes = [noise(1, 1_000_000), noise(2, 1_000_000)];
            let writers = bytes
                .iter()
                .enumerate()
                .map(|(at, bytes)| patch(&house, (at + round) % 2, &path, 0, bytes));
            let answers = join_all(writers).await;
            let mut served = Vec::new();
            for (answer, bytes) in answers.iter().zip(&bytes) {
                match answer.short() {
                    (204, _) => served.push(sha256(bytes)),
                    (409, "upload_offset" | "upload_taken") => {}
                    other => panic!("{other:?}: {answer:?}"),
                }
            }
            assert_eq!(served.len(), 1, "{answers:?}");
            let file = house.get(&file_of(&path)).await;
            assert_eq!(file.text("sha256"), served[0]);
        }
        let all = ROUNDS as i64;
        house.until_usage((all * 1_000_000, 0, all)).await;
        house.assert_clean(ROUNDS).await;
    }
}

/// Each request that makes the file writes all bytes again, so further ones would fill the disk beyond every quota.
#[tokio::test]
async fn while_one_request_makes_the_file_of_an_upload_no_other_one_does() {
    House::on_both(&[], async |house| {
        let path = create(&house, 1000, "a.bin").await;
        assert_eq!(patch(&house, 0, &path, 0, &noise(3, 999)).await.status, 204);
        // As while a request works on it. One byte is missing, so each attempt fails and is counted.
        house
            .sql("UPDATE file_upload SET received = length, touched_at = '2099-01-01 00:00:00.000000'")
            .await;
        let failed = "dotmac_files_uploads_total{outcome=\"failed\"}";
        let daemon = &house.instances[0];
        let ends = (0..4).map(|_| patch(&house, 0, &path, 1000, b""));
        for ended in join_all(ends).await {
            let found = (ended.status, ended.header("upload-offset"));
            assert_eq!(found, (204, "1000"), "{ended:?}");
        }
        assert_eq!(daemon.metric(failed).await, Some(0.0));
        // That request has ended.
        house
            .sql("UPDATE file_upload SET touched_at = '2026-01-01 00:00:00.000000'")
            .await;
        assert_eq!(patch(&house, 0, &path, 1000, b"").await.status, 204);
        assert_eq!(daemon.metric(failed).await, Some(1.0));
        let ended = tus(&house, 0, Method::DELETE, &path, &[], Vec::new()).await;
        assert_eq!(ended.status, 204);
        house.until_usage((0, 0, 0)).await;
        house.assert_clean(0).await;
    })
    .await;
}

#[tokio::test]
async fn of_two_that_replace_the_version_that_both_have_seen_one_is_served() {
    for house in [
        House::on_sqlite(2, &[]).await,
        House::on_postgres(2, &[]).await,
    ] {
        for _ in 0..ROUNDS {
            let made = house.file("name=a.txt", "one").await;
            let path = format!("/files/{}/content", made.text("id"));
            let writers = [(0, "second"), (1, "third!")].map(|(instance, bytes)| {
                let request = house.request(instance, Method::PUT, &path);
                house.send(request.header("if-match", "\"1\"").body(bytes))
            });
            let answers = join_all(writers).await;
            let mut short: Vec<_> = answers.iter().map(|it| it.short()).collect();
            short.sort_unstable();
            assert_eq!(short, [(200, ""), (412, "precondition_failed")]);
            let served = answers.iter().find(|it| it.status == 200).unwrap();
            let read = house.get(&path).await;
            assert_eq!(sha256(&read.bytes), served.text("sha256"));
        }
        let all = ROUNDS as i64;
        house.until_usage((all * 9, 0, all)).await;
        house.assert_clean(2 * ROUNDS).await;
    }
}
