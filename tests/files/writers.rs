//! Two that write the same at once: one of them is served, and nothing is mixed.

use futures_util::future::join_all;
use reqwest::Method;

use crate::{
    house::{House, noise, sha256},
    tus_client::{create, file_of, patch},
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
