//! Instances that are killed, again and again, while clients upload, replace, copy and delete: what was acknowledged is there, with
//! its hash, and nothing else is.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    time::Duration,
};

use dotmac_testkit::{eventually, process};
use futures_util::future::join_all;
use reqwest::Method;
use serde_json::json;

use crate::{
    house::{House, noise, sha256},
    tus_client::{OFFSET_STREAM, TUS, file_of, metadata},
};

/// Clients at once.
const CLIENTS: u64 = 6;

/// How often an instance is killed on each back end, unless `DOTMAC_FAULT_ROUNDS` says otherwise.
const ROUNDS: u64 = 4;

/// What clients were answered: the hash of each file by its id. A file whose last request was not answered is in no such list.
#[derive(Default)]
struct Acknowledged {
    files: RefCell<BTreeMap<String, String>>,
    deleted: RefCell<Vec<String>>,
    /// Requests that were answered as they should be.
    count: Cell<u64>,
    is_over: Cell<bool>,
}

#[tokio::test]
async fn files_that_were_acknowledged_are_whole_after_instances_were_killed_under_load() {
    #[expect(clippy::disallowed_methods, reason = "a test has no settings")]
    let rounds = std::env::var("DOTMAC_FAULT_ROUNDS").ok();
    let rounds = rounds.map_or(ROUNDS, |rounds| rounds.parse().unwrap());
    let settings = [
        ("DOTMAC_FILES_SWEEP_INTERVAL", "500ms"),
        ("DOTMAC_FILES_TRASH_RETENTION", "1s"),
    ];
    for mut house in [
        House::on_sqlite(2, &settings).await,
        House::on_postgres(2, &settings).await,
    ] {
        let mut random = fastrand::Rng::with_seed(11);
        let known = Acknowledged::default();
        for round in 0..rounds {
            known.is_over.set(false);
            let clients = (0..CLIENTS).map(|client| run(&house, &known, round * CLIENTS + client));
            // However quick the machine is: once so many more were answered, and somewhere in the middle of what comes next.
            let goal = known.count.get() + random.u64(CLIENTS..3 * CLIENTS);
            let pause = Duration::from_millis(random.u64(0..60));
            let killing = async {
                eventually("requests to be answered", || async {
                    (known.count.get() >= goal).then_some(())
                })
                .await;
                tokio::time::sleep(pause).await;
                process::signal(house.instances[1].pid(), "KILL");
                known.is_over.set(true);
            };
            tokio::join!(join_all(clients), killing);
            drop(house.instances.remove(1));
            house.add_instance().await;
        }
        assert_whole(&house, &known).await;
    }
}

/// One client: does one thing after another until it is over.
async fn run(house: &House, known: &Acknowledged, seed: u64) {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut own: Vec<String> = Vec::new();
    while !known.is_over.get() {
        let (instance, size) = (random.usize(0..2), random.usize(1..2_000_000));
        let bytes = noise(random.u64(..), size);
        let done = match (random.u8(0..8), own.is_empty()) {
            (0..3, _) | (_, true) => upload(house, known, instance, &bytes).await,
            (3..5, _) => upload_in_parts(house, known, instance, &bytes, &mut random).await,
            (5, _) => {
                let id = own[random.usize(..own.len())].clone();
                replace(house, known, instance, &id, &bytes).await
            }
            (6, _) => {
                let id = own[random.usize(..own.len())].clone();
                copy(house, known, instance, &id).await
            }
            _ => {
                let id = own.swap_remove(random.usize(..own.len()));
                delete(house, known, instance, &id).await
            }
        };
        own.extend(done);
    }
}

impl Acknowledged {
    fn keep(&self, id: &str, hash: String) -> Option<String> {
        self.count.set(self.count.get() + 1);
        self.files.borrow_mut().insert(id.to_owned(), hash);
        Some(id.to_owned())
    }

    /// Nothing is known of a file from now on until its next request is answered.
    fn forget(&self, id: &str) -> Option<String> {
        self.files.borrow_mut().remove(id)
    }
}

async fn upload(
    house: &House,
    known: &Acknowledged,
    instance: usize,
    bytes: &[u8],
) -> Option<String> {
    let request = house.request(instance, Method::PUT, "/files/content?name=a.bin");
    let made = house.attempt(request.body(bytes.to_vec())).await?;
    let hash = sha256(bytes);
    (made.status == 201).then(|| assert_eq!(made.text("sha256"), hash))?;
    known.keep(made.text("id"), hash)
}

/// Two requests of which the second one may go to the other instance.
async fn upload_in_parts(
    house: &House,
    known: &Acknowledged,
    instance: usize,
    bytes: &[u8],
    random: &mut fastrand::Rng,
) -> Option<String> {
    let described = metadata(&[("filename", "parts.bin")]);
    let begin = house
        .request(instance, Method::POST, "/files/tus")
        .header(TUS.0, TUS.1)
        .header("upload-length", bytes.len())
        .header("upload-metadata", described);
    let begun = house.attempt(begin).await?;
    (begun.status == 201).then_some(())?;
    let path = begun
        .header("location")
        .trim_start_matches("/api/v1")
        .to_owned();
    let middle = random.usize(0..bytes.len());
    for range in [0..middle, middle..bytes.len()] {
        let go_on = house
            .request(random.usize(0..2), Method::PATCH, &path)
            .header(TUS.0, TUS.1)
            .header("upload-offset", range.start)
            .header(OFFSET_STREAM.0, OFFSET_STREAM.1);
        let came = house.attempt(go_on.body(bytes[range].to_vec())).await?;
        (came.status == 204).then_some(())?;
    }
    let file = file_of(&path);
    known.keep(file.trim_start_matches("/files/"), sha256(bytes))
}

async fn replace(
    house: &House,
    known: &Acknowledged,
    instance: usize,
    id: &str,
    bytes: &[u8],
) -> Option<String> {
    known.forget(id)?;
    let request = house.request(instance, Method::PUT, &format!("/files/{id}/content"));
    let request = request.header("if-match", "*").body(bytes.to_vec());
    let replaced = house.attempt(request).await?;
    (replaced.status == 200).then_some(())?;
    known.keep(id, sha256(bytes));
    None
}

async fn copy(house: &House, known: &Acknowledged, instance: usize, id: &str) -> Option<String> {
    let hash = known.files.borrow().get(id).cloned()?;
    let request = house.request(instance, Method::POST, &format!("/files/{id}/copy"));
    let made = house.attempt(request.json(&json!({}))).await?;
    (made.status == 201).then(|| assert_eq!(made.text("sha256"), hash))?;
    known.keep(made.text("id"), hash)
}

async fn delete(house: &House, known: &Acknowledged, instance: usize, id: &str) -> Option<String> {
    known.forget(id)?;
    let request = house.request(instance, Method::DELETE, &format!("/files/{id}"));
    let deleted = house.attempt(request.header("if-match", "*")).await?;
    if deleted.status == 204 {
        known.deleted.borrow_mut().push(id.to_owned());
    }
    None
}

async fn assert_whole(house: &House, known: &Acknowledged) {
    // Leases of those that were killed run out, and uploads that were not ended expire.
    house.sql("UPDATE file_blob SET lease_until = '2026-01-01 00:00:00.000000' WHERE state = 'writing'").await;
    house.sql("UPDATE file_upload SET expires_at = '2026-01-01 00:00:00.000000' WHERE received < length").await;
    house.sql("UPDATE file_upload SET touched_at = '2026-01-01 00:00:00.000000' WHERE received = length").await;
    eventually("what was left behind to be cleared away", || async {
        let trash = house.get("/files?state=deleted").await;
        let (_, reserved, _) = house.usage().await;
        (reserved == 0 && trash.body["items"] == json!([])).then_some(())?;
        let (code, output) = house.run(&["files", "check"]).await;
        let blobs: usize = output.split(' ').next()?.parse().ok()?;
        (code == 0 && house.stored().len() == blobs).then_some(())
    })
    .await;
    let (files, deleted) = (known.files.borrow().clone(), known.deleted.borrow().clone());
    for (id, hash) in &files {
        let file = house.get(&format!("/files/{id}")).await;
        assert_eq!(
            (file.status, file.text("sha256")),
            (200, &**hash),
            "{file:?}"
        );
    }
    for id in &deleted {
        let file = house.get(&format!("/files/{id}/content")).await;
        assert_eq!(file.short(), (404, "file_not_found"), "{id}");
    }
    // Every file that there is, acknowledged or not, has the bytes that it says.
    let (mut cursor, mut read) = (String::new(), 0);
    loop {
        let page = house.get(&format!("/files?limit=100{cursor}")).await;
        for file in page.body["items"].as_array().unwrap() {
            let id = file["id"].as_str().unwrap();
            let content = house.get(&format!("/files/{id}/content")).await;
            assert_eq!(content.status, 200, "{content:?}");
            assert_eq!(file["sha256"], sha256(&content.bytes), "{file}");
            read += 1;
        }
        match page.body["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    assert!(read >= files.len(), "{read} of {}", files.len());
}
