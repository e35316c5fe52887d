//! Clients that go away, instances that are killed, stores that are full, gone or tampered with: nothing is left behind.

use std::{
    fs::{self, File},
    time::{Duration, SystemTime},
};

use dotmac_testkit::{Daemon, eventually, process, small_disk::SmallDisk};
use serde_json::json;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::{
    house::{House, noise, sha256},
    tus_client::{create, file_of, offset, patch},
};

/// Begins an upload of `size` bytes and sends `sent` of them.
async fn begin(house: &House, instance: usize, size: usize, sent: usize) -> TcpStream {
    let daemon = &house.instances[instance];
    let mut stream = TcpStream::connect(daemon.base.trim_start_matches("http://"))
        .await
        .unwrap();
    let head = format!(
        "PUT /api/v1/files/content?name=cut.bin HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {}\r\n\
         content-length: {size}\r\n\r\n",
        house.token
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.write_all(&noise(3, size)[..sent]).await.unwrap();
    stream.flush().await.unwrap();
    stream
}

/// Waits until an upload holds so many bytes of the quota.
async fn until_held(house: &House, bytes: i64) {
    eventually("the upload to be under way", || async {
        (house.usage().await.1 == bytes).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_client_that_goes_away_leaves_nothing() {
    House::on_every(&[], async |house| {
        for sent in [0, 1, 100_000, 999_999] {
            let stream = begin(&house, 0, 1_000_000, sent).await;
            until_held(&house, 1_000_000).await;
            drop(stream);
            house.until_usage((0, 0, 0)).await;
            eventually("the bytes to be cleared away", || async {
                house.stored().is_empty().then_some(())
            })
            .await;
        }
        house.assert_clean(0).await;
        let cut = "dotmac_files_uploads_total{outcome=\"cut\"}";
        let refused = "dotmac_files_uploads_total{outcome=\"refused\"}";
        eventually("the uploads to be counted", || async {
            let (cut, refused) = (
                house.instances[0].metric(cut).await?,
                house.instances[0].metric(refused).await?,
            );
            (cut + refused == 4.0).then_some(())
        })
        .await;
    })
    .await;
}

#[tokio::test]
async fn what_a_killed_instance_leaves_is_cleared_away_by_another() {
    let settings = [("DOTMAC_FILES_SWEEP_INTERVAL", "200ms")];
    for mut house in [
        House::on_sqlite(2, &settings).await,
        House::on_postgres(2, &settings).await,
    ] {
        let kept = house.file("name=kept.txt", "hello").await;
        let mut streams = Vec::new();
        for sent in [0, 10, 400_000, 999_999] {
            streams.push(begin(&house, 1, 1_000_000, sent).await);
        }
        until_held(&house, 4_000_000).await;
        let killed = house.instances.remove(1);
        process::signal(killed.pid(), "KILL");
        drop(killed);
        // Its leases run out.
        house.sql("UPDATE file_blob SET lease_until = '2026-01-01 00:00:00.000000' WHERE state = 'writing'").await;
        house.until_usage((5, 0, 1)).await;
        eventually("what was written to be cleared away", || async {
            (house.stored().len() == 1).then_some(())
        })
        .await;
        house.assert_clean(1).await;
        house.add_instance().await;
        let path = format!("/files/{}/content", kept.text("id"));
        let read = house
            .send(house.request(1, reqwest::Method::GET, &path))
            .await;
        assert_eq!(read.bytes, b"hello");
    }
}

/// As when an instance stood still for so long that another gave its upload up.
#[tokio::test]
async fn an_upload_that_was_given_up_makes_no_file() {
    let settings = [("DOTMAC_FILES_SWEEP_INTERVAL", "200ms")];
    House::on_every(&settings, async |house| {
        let mut stream = begin(&house, 0, 300_000, 200_000).await;
        until_held(&house, 300_000).await;
        house
            .sql("UPDATE file_blob SET lease_until = '2026-01-01 00:00:00.000000'")
            .await;
        house.until_usage((0, 0, 0)).await;
        stream
            .write_all(&noise(3, 300_000)[200_000..])
            .await
            .unwrap();
        let mut answer = vec![0; 12];
        stream.read_exact(&mut answer).await.unwrap();
        assert_eq!(String::from_utf8_lossy(&answer), "HTTP/1.1 503");
        assert_eq!(house.get("/files").await.body["items"], json!([]));
        eventually("the bytes to be cleared away", || async {
            house.stored().is_empty().then_some(())
        })
        .await;
        house.assert_clean(0).await;
    })
    .await;
}

#[tokio::test]
async fn what_one_instance_stores_another_reads() {
    for house in [
        House::on_sqlite(2, &[]).await,
        House::on_postgres(2, &[]).await,
    ] {
        let bytes = noise(4, 500_000);
        let made = house.file("name=a.bin", bytes.clone()).await;
        let path = format!("/files/{}/content", made.text("id"));
        let read = house
            .send(house.request(1, reqwest::Method::GET, &path))
            .await;
        assert!(read.status == 200 && read.bytes == bytes);
    }
}

#[tokio::test]
async fn bytes_past_the_tables_are_found_named_and_repaired() {
    House::on_both(&[], async |house| {
        let made = house.file("name=a.bin", noise(5, 200_000)).await;
        let folder = house.store().join("blobs/ff");
        fs::create_dir_all(&folder).unwrap();
        let old = SystemTime::now() - Duration::from_secs(3600);
        for name in [
            "0190aaaa-0000-7000-8000-0000000000ff",
            "0190aaaa-0000-7000-8000-0000000000fe#1",
            "stray",
        ] {
            let file = File::create(folder.join(name)).unwrap();
            file.set_modified(old).unwrap();
        }
        // As a write that is under way, whose row this check may not see yet.
        File::create(folder.join("0190aaaa-0000-7000-8000-0000000000fd")).unwrap();
        house.sql("UPDATE file_usage SET used = used + 7").await;
        let (code, output) = house.run(&["files", "check"]).await;
        assert_eq!(code, 1, "{output}");
        for line in [
            "3 names in the store",
            "0190aaaa-0000-7000-8000-0000000000fe#1",
            "2 tenants and owners",
        ] {
            assert!(output.contains(line), "{output}");
        }
        let (code, output) = house.run(&["files", "check", "--repair"]).await;
        assert_eq!(code, 0, "{output}");
        fs::remove_file(folder.join("0190aaaa-0000-7000-8000-0000000000fd")).unwrap();
        house.assert_clean(1).await;
        assert_eq!(house.usage().await, (200_000, 0, 1));

        fs::remove_file(&house.stored()[0]).unwrap();
        let (code, output) = house.run(&["files", "check", "--repair"]).await;
        assert!(
            code == 1 && output.contains("1 blobs whose bytes are not in the store"),
            "{output}"
        );
        let lost = house
            .get(&format!("/files/{}/content", made.text("id")))
            .await;
        assert_eq!(lost.short(), (503, "storage_unavailable"), "{lost:?}");
    })
    .await;
}

#[tokio::test]
async fn a_store_that_cannot_be_used_is_reported_and_takes_nothing_else_down() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("no-directory");
    File::create(&file).unwrap();
    let daemon = Daemon::builder()
        .env("DOTMAC_FILES_PATH", file.display())
        .spawn()
        .await;
    daemon
        .until_component("files.storage", "degraded", Some("storage_unusable"))
        .await;
    assert_eq!(daemon.get("/ready").await.status(), 200);
    fs::remove_file(&file).unwrap();
    daemon.until_component("files.storage", "ready", None).await;
}

#[tokio::test]
async fn a_full_disk_refuses_uploads_and_keeps_what_is_there() {
    let Some(disk) = SmallDisk::mount(4096) else {
        return;
    };
    let path = disk.path().join("store").display().to_string();
    let house = House::on_sqlite(1, &[("DOTMAC_FILES_PATH", &path)]).await;
    let (small, large) = (noise(6, 100_000), noise(7, 3_000_000));
    let kept = house.file("name=kept", small.clone()).await;
    disk.take(2048);
    for _ in 0..3 {
        let refused = house.put("name=a", large.clone()).await;
        assert_eq!(refused.short(), (503, "storage_full"), "{refused:?}");
    }
    house.until_usage((100_000, 0, 1)).await;
    let read = house
        .get(&format!("/files/{}/content", kept.text("id")))
        .await;
    assert!(read.bytes == small);
    disk.free();
    let made = house.file("name=a", large.clone()).await;
    assert_eq!(made.text("sha256"), sha256(&large));
    let (code, output) = house.run(&["files", "check"]).await;
    assert!(code == 0 && output.starts_with("2 blobs"), "{output}");
}

#[tokio::test]
async fn on_a_full_disk_an_upload_in_parts_waits_and_goes_on() {
    let Some(disk) = SmallDisk::mount(8192) else {
        return;
    };
    let path = disk.path().join("store").display().to_string();
    let house = House::on_sqlite(1, &[("DOTMAC_FILES_PATH", &path)]).await;
    let bytes = noise(8, 3_000_000);
    let upload = create(&house, bytes.len(), "a.bin").await;
    let first = patch(&house, 0, &upload, 0, &bytes[..1_000_000]).await;
    assert_eq!(first.status, 204, "{first:?}");
    disk.take(6500);
    for _ in 0..2 {
        let refused = patch(&house, 0, &upload, 1_000_000, &bytes[1_000_000..]).await;
        assert_eq!(refused.short(), (503, "storage_full"), "{refused:?}");
        assert_eq!(offset(&house, 0, &upload).await, 1_000_000);
    }
    assert_eq!(house.usage().await, (0, 3_000_000, 0));
    disk.free();
    let rest = patch(&house, 0, &upload, 1_000_000, &bytes[1_000_000..]).await;
    assert_eq!(rest.status, 204, "{rest:?}");
    let file = house.get(&file_of(&upload)).await;
    assert_eq!(file.text("sha256"), sha256(&bytes));
    let (code, output) = house.run(&["files", "check"]).await;
    assert!(
        code == 0 && output.starts_with("1 blobs\n0 names"),
        "{output}"
    );
}
