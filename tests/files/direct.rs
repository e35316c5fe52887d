//! Parts that clients send to the store themselves.

use dotmac_testkit::{
    eventually,
    seaweed::{Keys, Seaweed},
};
use futures_util::future::join_all;
use reqwest::{Client, StatusCode};
use serde_json::{Value, json};

use crate::house::{Answer, House, noise, sha256};

/// The settings of a bucket of a store that speaks S3.
pub(crate) fn settings(store: &Seaweed, keys: &Keys, bucket: &str) -> Vec<(&'static str, String)> {
    vec![
        ("DOTMAC_FILES_ENDPOINT", store.endpoint()),
        ("DOTMAC_FILES_BUCKET", bucket.to_owned()),
        ("DOTMAC_FILES_ACCESS_KEY", keys.access.clone()),
        ("DOTMAC_FILES_SECRET_KEY", keys.secret.clone()),
    ]
}

async fn begin(house: &House, bytes: &[u8], sha256: &str) -> Answer {
    let new = json!({ "name": "a.bin", "size": bytes.len(), "sha256": sha256, "folder": "/d", "metadata": { "k": "v" } });
    let begun = house.post("/files/direct", new).await;
    assert_eq!(begun.status, 201, "{begun:?}");
    begun
}

/// Sends a part as a client would: with no credentials.
async fn send(part: &Value, bytes: &[u8]) -> StatusCode {
    let number = |field: &str| usize::try_from(part[field].as_u64().unwrap()).unwrap();
    let range = number("offset")..number("offset") + number("size");
    let client = Client::builder().no_proxy().build().unwrap();
    let request = client.put(part["url"].as_str().unwrap());
    let sent = request.body(bytes[range].to_vec()).send().await;
    sent.unwrap().status()
}

#[tokio::test]
async fn what_a_client_sends_to_the_store_is_verified_before_it_is_a_file() {
    let keys = Keys::of("direct");
    let store = Seaweed::start(std::slice::from_ref(&keys)).await;
    for (bucket, is_sqlite) in [("one", true), ("two", false)] {
        let mut given = settings(&store, &keys, bucket);
        given.push(("DOTMAC_FILES_PROVIDER", "s3".to_owned()));
        given.push(("DOTMAC_FILES_SWEEP_INTERVAL", "300ms".to_owned()));
        let given: Vec<_> = given
            .iter()
            .map(|(key, value)| (*key, value.as_str()))
            .collect();
        let house = match is_sqlite {
            true => House::on_sqlite(1, &given).await,
            false => House::on_postgres(1, &given).await,
        };
        // More than one part.
        let bytes = noise(7, 70_000_000);
        let begun = begin(&house, &bytes, &sha256(&bytes)).await;
        let path = format!("/files/{}", begun.text("file_id"));
        let parts = begun.body["parts"].as_array().unwrap();
        assert_eq!(parts.len(), 2, "{parts:?}");
        assert_eq!(house.usage().await, (0, 70_000_000, 0));
        assert_eq!(send(&parts[1], &bytes).await, 200);
        let complete = format!("{path}/complete");
        let early = house.post(&complete, json!({})).await;
        assert_eq!(early.short(), (409, "parts_missing"), "{early:?}");
        assert_eq!(early.field(), "parts[0]");
        assert_eq!(house.get(&path).await.status, 404);
        assert_eq!(send(&parts[0], &bytes).await, 200);
        // Of several requests one verifies it, and the others are asked to wait or get the file.
        let all = (0..4).map(|_| house.post(&complete, json!({})));
        let mut answers = join_all(all).await;
        for answer in &answers {
            let short = answer.short();
            assert!(
                matches!(short, (200, "") | (409, "upload_taken")),
                "{answer:?}"
            );
        }
        answers.retain(|answer| answer.status == 200);
        let file = answers.remove(0);
        assert_eq!(
            (file.text("sha256"), file.text("name"), file.text("folder")),
            (&*sha256(&bytes), "a.bin", "/d")
        );
        assert_eq!(file.body["metadata"], json!({ "k": "v" }));
        assert!(house.get(&format!("{path}/content")).await.bytes == bytes);
        let again = house.post(&complete, json!({})).await;
        assert_eq!(again.body, file.body);
        assert_eq!(house.usage().await, (70_000_000, 0, 1));

        // Other bytes than were announced.
        let begun = begin(&house, b"hello", &sha256(b"hello")).await;
        let path = format!("/files/{}", begun.text("file_id"));
        assert_eq!(send(&begun.body["parts"][0], b"hullo").await, 200);
        let refused = house.post(&format!("{path}/complete"), json!({})).await;
        assert_eq!(refused.short(), (422, "digest_mismatch"), "{refused:?}");
        assert_eq!(refused.field(), "sha256");
        let gone = house.post(&format!("{path}/complete"), json!({})).await;
        assert_eq!(gone.short(), (404, "upload_not_found"));
        assert_eq!(house.usage().await, (70_000_000, 0, 1));
        // Late writes are deleted too, after the address expires.
        assert_eq!(send(&begun.body["parts"][0], b"hello").await, 200);
        house
            .sql("UPDATE file_blob SET url_until = created_at WHERE url_until IS NOT NULL")
            .await;
        eventually("the late bytes to be gone", || async {
            (store.list(bucket, "blobs").len() == 1).then_some(())
        })
        .await;
        let (code, output) = house.run(&["files", "check"]).await;
        assert_eq!(code, 0, "{output}");
        assert!(output.starts_with("1 blobs\n0 names"), "{output}");
    }
}
