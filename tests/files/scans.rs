//! Scans for viruses by a real clamd: what is infected, and what was not scanned, cannot be read.

use std::fs;

use dotmac_testkit::{
    Clamd,
    clamd::{eicar, test_files},
    eventually,
};
use futures_util::future::join_all;
use reqwest::Method;
use serde_json::json;

use crate::{
    house::{House, noise},
    tus_client::{create, file_of, patch},
};

const AWAY: &str = "scanner_unavailable";

async fn events(house: &House, kind: &str) -> Vec<serde_json::Value> {
    let events = house.get(&format!("/events?type={kind}&limit=200")).await;
    events.body["items"].as_array().unwrap().clone()
}

#[tokio::test]
async fn a_virus_is_quarantined_and_nothing_else_is() {
    let clamd = Clamd::start().await;
    for address in [clamd.address(), clamd.socket()] {
        House::on_both(&[("DOTMAC_FILES_CLAMD", &address)], async |house| {
            house.instances[0]
                .until_component("files.scanner", "ready", None)
                .await;
            let clean = house.file("name=clean.bin", noise(1, 1_000_000)).await;
            assert_eq!(
                (clean.text("state"), &clean.body["version"]),
                ("ready", &json!(1))
            );
            let path = format!("/files/{}/content", clean.text("id"));
            assert_eq!(house.get(&path).await.bytes, noise(1, 1_000_000));

            let hidden = [noise(2, 100_000), eicar().into_bytes(), noise(3, 100_000)].concat();
            for (name, bytes) in [("eicar.com", eicar().into_bytes()), ("hidden.bin", hidden)] {
                let refused = house.put(&format!("name={name}"), bytes).await;
                assert_eq!(refused.short(), (422, "malware_found"), "{refused:?}");
            }
            let found = house.get("/files?state=quarantined&sort=created_at").await;
            let found = found.body["items"].as_array().unwrap().clone();
            assert_eq!(found.len(), 2, "{found:?}");
            let id = found[0]["id"].as_str().unwrap();
            for part in ["content", "info", "text", "renditions/1x1.png"] {
                let refused = house.get(&format!("/files/{id}/{part}")).await;
                assert_eq!(refused.short(), (409, "file_state"), "{part} {refused:?}");
            }
            let copy = house.post(&format!("/files/{id}/copy"), json!({})).await;
            assert_eq!(copy.short(), (409, "file_state"), "{copy:?}");

            let quarantined = events(&house, "file.quarantined.v1").await;
            assert_eq!(quarantined.len(), 2, "{quarantined:?}");
            let data = &quarantined[0]["data"];
            let finding = data["finding"].as_str().unwrap();
            assert!(finding.starts_with("Eicar-Test-Signature"), "{finding}");
            assert_eq!(events(&house, "file.created.v1").await.len(), 1);
            let series = "dotmac_files_scans_total{outcome=\"infected\"}";
            assert_eq!(house.instances[0].metric(series).await, Some(2.0));
            // It can be deleted, and nothing is left of it.
            let deleted = house.delete(&format!("/files/{id}"), "\"1\"").await;
            assert_eq!(deleted.status, 204, "{deleted:?}");
            house.assert_clean(3).await;
        })
        .await;
    }
}

/// Archives, documents, mails and packed programs that hold what clamd is to find, from ClamAV itself.
#[tokio::test]
async fn each_of_clamavs_test_files_is_quarantined() {
    let clamd = Clamd::start().await;
    let files = test_files();
    assert!(files.len() >= 40, "{files:?}");
    House::on_both(&[("DOTMAC_FILES_CLAMD", &clamd.address())], async |house| {
        let house = &house;
        for some in files.chunks(4) {
            let uploads = some.iter().map(async |file| {
                let name = file.file_name().unwrap().to_str().unwrap();
                let refused = house
                    .put(&format!("name={name}"), fs::read(file).unwrap())
                    .await;
                assert_eq!(
                    refused.short(),
                    (422, "malware_found"),
                    "{name}: {refused:?}"
                );
            });
            join_all(uploads).await;
        }
        let found = house.get("/files?state=quarantined&limit=200").await;
        assert_eq!(found.body["items"].as_array().unwrap().len(), files.len());
        let quarantined = events(house, "file.quarantined.v1").await;
        assert_eq!(quarantined.len(), files.len());
        for event in quarantined {
            let finding = event["data"]["finding"].as_str().unwrap();
            assert!(finding.starts_with("ClamAV-Test-File"), "{finding}");
        }
        // The same wrappings around something else are clean.
        let zip = b"PK\x05\x06\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
        for (name, bytes) in [("clam.exe", &b"MZ\x90\0\x03\0\0\0"[..]), ("clam.zip", zip)] {
            let clean = house.file(&format!("name={name}"), bytes).await;
            assert_eq!(clean.text("state"), "ready", "{name}");
        }
        house.assert_clean(files.len() + 2).await;
    })
    .await;
}

#[tokio::test]
async fn a_virus_that_comes_in_parts_or_as_a_new_content_cannot_be_read() {
    let clamd = Clamd::start().await;
    House::on_both(&[("DOTMAC_FILES_CLAMD", &clamd.address())], async |house| {
        let bytes = [noise(7, 50_000), eicar().into_bytes()].concat();
        let upload = create(&house, bytes.len(), "parts.com").await;
        for range in [0..50_010, 50_010..bytes.len()] {
            let at = range.start;
            assert_eq!(
                patch(&house, 0, &upload, at, &bytes[range]).await.status,
                204
            );
        }
        let clean = house.file("name=a.txt", "hello").await;
        let content = format!("/files/{}/content", clean.text("id"));
        let replace = house
            .request(0, Method::PUT, &content)
            .header("if-match", "*");
        let refused = house.send(replace.body(eicar())).await;
        assert_eq!(refused.short(), (422, "malware_found"), "{refused:?}");
        for path in [file_of(&upload), format!("/files/{}", clean.text("id"))] {
            eventually("the file to be quarantined", || async {
                (house.get(&path).await.text("state") == "quarantined").then_some(())
            })
            .await;
            let read = house.get(&format!("{path}/content")).await;
            assert_eq!(read.short(), (409, "file_state"), "{read:?}");
            let link = house.post(&format!("{path}/links"), json!({})).await;
            assert_eq!(link.short(), (409, "file_state"), "{link:?}");
        }
        assert_eq!(events(&house, "file.quarantined.v1").await.len(), 2);
        assert_eq!(events(&house, "file.created.v1").await.len(), 1);
        assert!(events(&house, "file.updated.v1").await.is_empty());
    })
    .await;
}

#[tokio::test]
async fn what_is_not_scanned_to_its_end_is_rejected() {
    let clamd = Clamd::start().await;
    House::on_both(&[("DOTMAC_FILES_CLAMD", &clamd.address())], async |house| {
        let refused = house.put("name=long.bin", noise(4, 6_000_000)).await;
        assert_eq!(refused.short(), (422, "scan_refused"), "{refused:?}");
        let found = house.get("/files?state=rejected").await;
        let id = found.body["items"][0]["id"].as_str().unwrap();
        let read = house.get(&format!("/files/{id}/content")).await;
        assert_eq!(read.short(), (409, "file_state"));
        let made = house.file("name=short.bin", noise(5, 3_000_000)).await;
        assert_eq!(made.text("state"), "ready");
    })
    .await;
}

#[tokio::test]
async fn while_clamd_is_away_files_wait_and_cannot_be_read() {
    let mut clamd = Clamd::start().await;
    let settings = [("DOTMAC_FILES_CLAMD", clamd.address())];
    let settings = settings
        .each_ref()
        .map(|(key, value)| (*key, value.as_str()));
    let house = House::on_sqlite(1, &settings).await;
    clamd.kill();
    let daemon = &house.instances[0];
    daemon
        .until_component("files.scanner", "degraded", Some(AWAY))
        .await;
    assert_eq!(daemon.get("/ready").await.status(), 200);
    let waiting = house.file("name=a.bin", noise(6, 100_000)).await;
    assert_eq!(waiting.text("state"), "scanning");
    let path = format!("/files/{}", waiting.text("id"));
    let read = house.get(&format!("{path}/content")).await;
    assert_eq!(read.short(), (409, "file_state"));
    assert!(events(&house, "file.created.v1").await.is_empty());
    clamd.restart().await;
    eventually("the file to be scanned", || async {
        (house.get(&path).await.text("state") == "ready").then_some(())
    })
    .await;
    let read = house.get(&format!("{path}/content")).await;
    assert_eq!(read.bytes, noise(6, 100_000));
    assert_eq!(events(&house, "file.created.v1").await.len(), 1);
    daemon.until_component("files.scanner", "ready", None).await;
}

#[tokio::test]
async fn without_a_scanner_nothing_is_scanned_and_no_component_exists() {
    let house = House::on_sqlite(1, &[]).await;
    let made = house.file("name=eicar.com", eicar()).await;
    assert_eq!(made.text("state"), "ready");
    let ready = house.instances[0].json("/ready").await.1;
    assert!(
        ready["components"].get("files.scanner").is_none(),
        "{ready}"
    );
    let (code, output) = house.run(&["check"]).await;
    assert_eq!(code, 0, "{output}");
}
