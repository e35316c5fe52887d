//! A store that speaks S3, a real one: what is written another client reads; it goes away, is slow, refuses, gets other keys.

use std::{process::Command, time::Duration};

use dotmac_testkit::{
    Daemon, Moto, OpenBao, Seaweed, eventually, openbao::ROOT_TOKEN, proxy::Proxy, repository,
    seaweed::Keys,
};
use reqwest::Method;
use serde_json::{Value, json};

use crate::house::{Answer, House, noise, sha256};

/// What boto3 finds in a bucket: names with sizes and hashes.
pub(crate) fn seen_by_boto3(endpoint: &str, keys: &Keys, bucket: &str) -> Value {
    boto3(&[endpoint, &keys.access, &keys.secret, bucket])
}

/// Ends the uploads in parts that are under way in a bucket, past the daemon: their names.
pub(crate) fn aborted_by_boto3(endpoint: &str, keys: &Keys, bucket: &str) -> Vec<Value> {
    let found = boto3(&[endpoint, &keys.access, &keys.secret, bucket, "abort"]);
    found["uploads"].as_array().unwrap().clone()
}

fn boto3(arguments: &[&str]) -> Value {
    let python = repository().join("target/tools/s3/bin/python");
    let read = Command::new(python)
        .arg(repository().join("tests/files/read_bucket.py"))
        .args(arguments)
        .env_clear()
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&read.stderr);
    assert!(read.status.success(), "{said}");
    serde_json::from_slice(&read.stdout).unwrap()
}

#[tokio::test]
async fn boto3_reads_what_was_written() {
    let keys = Keys::of("boto");
    let store = Seaweed::start(std::slice::from_ref(&keys)).await;
    let house = House::on_s3(&store.endpoint(), &keys, "what-was-written", &[]).await;
    // In one piece, in parts, in parts to the byte.
    let sizes = [0, 1, 5 * 1024 * 1024 - 1, 5 * 1024 * 1024, 20_000_001];
    let mut expected = Vec::new();
    for (seed, size) in sizes.into_iter().enumerate() {
        let bytes = noise(seed as u64, size);
        let made = house.file(&format!("name={size}.bin"), bytes.clone()).await;
        assert_eq!(made.text("sha256"), sha256(&bytes));
        expected.push((size as u64, sha256(&bytes)));
    }
    let found = seen_by_boto3(&store.endpoint(), &keys, "what-was-written");
    let mut found: Vec<(u64, String)> = serde_json::from_value(found["blobs"].clone()).unwrap();
    found.sort();
    expected.sort();
    assert_eq!(found, expected);
    let uploads = seen_by_boto3(&store.endpoint(), &keys, "what-was-written");
    assert_eq!(
        uploads["uploads"],
        json!([]),
        "parts without an object are left"
    );
    let (code, output) = house.run(&["files", "check"]).await;
    assert!(code == 0 && output.starts_with("5 blobs\n"), "{output}");
}

/// Another store than most tests have, with ways of its own.
#[tokio::test]
async fn moto_takes_parts_gives_ranges_and_forgets_what_is_deleted() {
    let (store, keys) = (Moto::start("in-memory").await, Keys::of("moto"));
    let settings = [
        ("DOTMAC_FILES_SWEEP_INTERVAL", "200ms"),
        ("DOTMAC_FILES_TRASH_RETENTION", "1s"),
    ];
    let house = House::on_s3(&store.endpoint(), &keys, "in-memory", &settings).await;
    let daemon = &house.instances[0];
    daemon.until_component("files.storage", "ready", None).await;
    let seen = || seen_by_boto3(&store.endpoint(), &keys, "in-memory");
    let (mut paths, mut expected) = (Vec::new(), Vec::new());
    let sizes = [0, 1, 5 * 1024 * 1024 - 1, 5 * 1024 * 1024, 12_000_001];
    for (seed, size) in sizes.into_iter().enumerate() {
        let bytes = noise(seed as u64, size);
        let made = house.file(&format!("name={size}.bin"), bytes.clone()).await;
        let path = format!("/files/{}", made.text("id"));
        let content = format!("{path}/content");
        let read = house.get(&content).await;
        assert!(read.status == 200 && read.bytes == bytes, "{size}");
        if size > 100 {
            let request = house.request(0, Method::GET, &content);
            let part = house.send(request.header("range", "bytes=-70")).await;
            assert_eq!((part.status, &*part.bytes), (206, &bytes[size - 70..]));
        }
        paths.push(path);
        expected.push((size as u64, sha256(&bytes)));
    }
    // One whose parts are there when it is refused.
    let request = house.request(0, Method::PUT, "/files/content?name=a.bin");
    let lying = request
        .header("x-content-sha256", "0".repeat(64))
        .body(noise(9, 12_000_000));
    assert_eq!(house.send(lying).await.short(), (422, "digest_mismatch"));
    let found = seen();
    let mut found_blobs: Vec<(u64, String)> =
        serde_json::from_value(found["blobs"].clone()).unwrap();
    found_blobs.sort();
    expected.sort();
    assert_eq!(found_blobs, expected);
    assert_eq!(found["uploads"], json!([]), "parts are left");
    for path in &paths {
        assert_eq!(house.delete(path, "*").await.status, 204);
    }
    house.until_usage((0, 0, 0)).await;
    eventually("the bucket to be empty", || async {
        (seen()["blobs"] == json!([])).then_some(())
    })
    .await;
    let (code, output) = house.run(&["files", "check"]).await;
    assert!(code == 0 && output.starts_with("0 blobs\n"), "{output}");
}

#[tokio::test]
async fn a_store_that_is_away_or_slow_refuses_uploads_and_comes_back() {
    let keys = Keys::of("away");
    let store = Seaweed::start(std::slice::from_ref(&keys)).await;
    let wire = Proxy::before(store.port).await;
    let endpoint = format!("http://127.0.0.1:{}", wire.port);
    let house = House::on_s3(&endpoint, &keys, "away", &[]).await;
    let bytes = noise(1, 300_000);
    let made = house.file("name=kept.bin", bytes.clone()).await;
    let path = format!("/files/{}/content", made.text("id"));
    let daemon = &house.instances[0];

    // Slow: everything takes longer, and is done.
    wire.delay(Duration::from_millis(50));
    let slow = house.file("name=slow.bin", noise(2, 300_000)).await;
    assert_eq!(slow.text("state"), "ready");

    wire.cut();
    daemon
        .until_component("files.storage", "degraded", Some("storage_unusable"))
        .await;
    let ready = daemon.get("/ready").await;
    assert_eq!(ready.status(), 200);
    for _ in 0..2 {
        let refused = house.put("name=a.bin", bytes.clone()).await;
        assert_eq!(refused.short(), (503, "storage_unavailable"), "{refused:?}");
        assert_eq!(refused.header("retry-after"), "5");
    }
    let refused = house.get(&path).await;
    assert_eq!(refused.short(), (503, "storage_unavailable"), "{refused:?}");
    // Requests without bytes still work.
    assert_eq!(
        house.get("/files").await.body["items"]
            .as_array()
            .unwrap()
            .len(),
        2
    );

    wire.mend();
    daemon.until_component("files.storage", "ready", None).await;
    assert_eq!(house.get(&path).await.bytes, bytes);
    house.file("name=a.bin", bytes.clone()).await;
    house.until_usage((900_000, 0, 3)).await;
    eventually("what has failed to be cleared away", || async {
        (store.list("away", "blobs").len() == 3).then_some(())
    })
    .await;
    let (code, output) = house.run(&["files", "check"]).await;
    assert!(code == 0 && output.starts_with("3 blobs\n"), "{output}");
}

#[tokio::test]
async fn a_store_that_is_lost_in_the_middle_of_parts_leaves_nothing() {
    let keys = Keys::of("parts");
    let store = Seaweed::start(std::slice::from_ref(&keys)).await;
    let wire = Proxy::before(store.port).await;
    let endpoint = format!("http://127.0.0.1:{}", wire.port);
    let house = House::on_s3(
        &endpoint,
        &keys,
        "parts",
        &[("DOTMAC_FILES_SWEEP_INTERVAL", "500ms")],
    )
    .await;
    let bytes = noise(3, 12_000_000);
    let pieces = {
        let bytes = bytes.clone();
        let cut = async move |wire: &Proxy| {
            tokio::time::sleep(Duration::from_millis(300)).await;
            wire.cut();
        };
        let (head, tail) = (bytes[..8_000_000].to_vec(), bytes[8_000_000..].to_vec());
        let body = futures_util::stream::unfold(0, move |step| {
            let (head, tail) = (head.clone(), tail.clone());
            async move {
                match step {
                    0 => Some((Ok::<_, std::io::Error>(head), 1)),
                    1 => {
                        tokio::time::sleep(Duration::from_millis(600)).await;
                        Some((Ok(tail), 2))
                    }
                    _ => None,
                }
            }
        });
        let (answer, ()) = tokio::join!(
            house.put("name=a.bin", reqwest::Body::wrap_stream(body)),
            cut(&wire)
        );
        answer
    };
    assert_eq!(pieces.short(), (503, "storage_unavailable"), "{pieces:?}");
    wire.mend();
    house.until_usage((0, 0, 0)).await;
    let made = house.file("name=a.bin", bytes.clone()).await;
    let read = house
        .get(&format!("/files/{}/content", made.text("id")))
        .await;
    assert!(read.bytes == bytes);
    eventually("what was written to be cleared away", || async {
        (store.list("parts", "blobs").len() == 1).then_some(())
    })
    .await;
}

#[tokio::test]
async fn keys_from_vault_are_followed_without_a_restart() {
    let (old, new) = (Keys::of("old"), Keys::of("new"));
    let mut store = Seaweed::start(std::slice::from_ref(&old)).await;
    let vault = OpenBao::start().await;
    let write = async |keys: &Keys| {
        vault
            .write("storage/access_key", "value", &keys.access)
            .await;
        vault
            .write("storage/secret_key", "value", &keys.secret)
            .await;
    };
    write(&old).await;
    let settings = [
        ("DOTMAC_VAULT_ADDR", vault.address()),
        ("DOTMAC_VAULT_TOKEN", ROOT_TOKEN.to_owned()),
    ];
    let settings: Vec<_> = settings
        .iter()
        .map(|(key, value)| (*key, value.as_str()))
        .collect();
    let house = House::on_s3_by_vault(&store.endpoint(), "rotated", &settings).await;
    let bytes = noise(4, 6_000_000);
    let made = house.file("name=a.bin", bytes.clone()).await;
    let path = format!("/files/{}/content", made.text("id"));

    // The store knows the new keys alone: what is signed by the old ones is refused.
    store.restart(std::slice::from_ref(&new)).await;
    let daemon: &Daemon = &house.instances[0];
    daemon
        .until_component("files.storage", "degraded", Some("storage_refused"))
        .await;
    let refused = house.put("name=b.bin", noise(5, 1000)).await;
    assert_eq!(refused.short(), (503, "storage_unavailable"), "{refused:?}");

    write(&new).await;
    daemon.signal("HUP");
    daemon.until_component("files.storage", "ready", None).await;
    assert_eq!(house.get(&path).await.bytes, bytes);
    house.file("name=b.bin", noise(5, 1000)).await;
    let log = serde_json::to_string(&daemon.log()).unwrap();
    for keys in [&old, &new] {
        assert!(!log.contains(&keys.secret), "a key is in the log");
    }
}

#[tokio::test]
async fn two_instances_share_a_bucket() {
    let keys = Keys::of("two");
    let store = Seaweed::start(std::slice::from_ref(&keys)).await;
    let mut house = House::on_s3(&store.endpoint(), &keys, "shared", &[]).await;
    house.add_instance().await;
    let bytes = noise(6, 7_000_000);
    let made = house.file("name=a.bin", bytes.clone()).await;
    let path = format!("/files/{}/content", made.text("id"));
    let read = house
        .send(
            house
                .request(1, Method::GET, &path)
                .header("range", "bytes=5242879-5242881"),
        )
        .await;
    assert_eq!(read.bytes, bytes[5_242_879..5_242_882]);
    let token = house.other_tenant().await;
    let other = house.request(1, Method::GET, &path).bearer_auth(token);
    let other = Answer::of(other.send().await.unwrap()).await;
    assert_eq!(other.short(), (404, "file_not_found"));
}
