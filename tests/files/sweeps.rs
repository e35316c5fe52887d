//! What is done without a request: the sweep, and the comparison of store and tables.

use std::{
    fs::{self, File},
    path::Path,
    time::{Duration, SystemTime},
};

use dotmac_testkit::eventually;
use serde_json::json;

use crate::house::{House, noise};

/// Puts a file into the store past the daemon, an hour ago.
fn stray(path: &Path) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let old = SystemTime::now() - Duration::from_secs(3600);
    File::create(path).unwrap().set_modified(old).unwrap();
}

#[tokio::test]
async fn few_objects_without_a_row_are_deleted_and_many_are_only_reported() {
    let settings = [("DOTMAC_FILES_CHECK_INTERVAL", "1s")];
    House::on_both(&settings, async |house| {
        for number in 0..3 {
            house
                .file(&format!("name={number}"), noise(number, 1000))
                .await;
        }
        // What a write and a probe leave that were killed.
        let few = [
            "blobs/ff/0190aaaa-0000-7000-8000-0000000000ff#1",
            "probes/0190aaaa-0000-7000-8000-0000000000fe",
        ];
        let few = few.map(|name| house.store().join(name));
        few.iter().for_each(|path| stray(path));
        eventually("what is left to be deleted", || async {
            few.iter().all(|path| !path.exists()).then_some(())
        })
        .await;
        // As if the database were that of another store. They appear at once: a check in between would delete the first ones.
        let (aside, place) = (
            house.store().join("aside"),
            house.store().join("blobs/aside"),
        );
        let many = ["a0", "a1", "a2", "a3"];
        let many = many.map(|end| format!("0190aaaa-0000-7000-8000-0000000000{end}"));
        many.iter().for_each(|name| stray(&aside.join(name)));
        fs::rename(&aside, &place).unwrap();
        let many = many.map(|name| place.join(name));
        let daemon = &house.instances[0];
        eventually("the check to report them", || async {
            let reported = "more objects without a row than are deleted automatically";
            let log = daemon.lines().join("\n");
            log.contains(reported).then_some(())
        })
        .await;
        assert_eq!(daemon.metric("dotmac_files_orphans").await, Some(4.0));
        assert!(many.iter().all(|path| path.exists()));
        let (code, output) = house.run(&["files", "check", "--repair"]).await;
        assert!(
            code == 0 && output.contains("4 names in the store"),
            "{output}"
        );
        house.assert_clean(3).await;
    })
    .await;
}

#[tokio::test]
async fn what_the_store_does_not_delete_keeps_nothing_else_waiting() {
    let settings = [
        ("DOTMAC_FILES_SWEEP_INTERVAL", "200ms"),
        ("DOTMAC_FILES_TRASH_RETENTION", "1s"),
    ];
    House::on_both(&settings, async |house| {
        let first = house.file("name=first", noise(1, 1000)).await;
        let stuck = house.stored().remove(0);
        // A directory is not deleted like a file.
        fs::remove_file(&stuck).unwrap();
        fs::create_dir(&stuck).unwrap();
        fs::write(stuck.join("kept"), "").unwrap();
        let second = house.file("name=second", noise(2, 1000)).await;
        for file in [&first, &second] {
            let path = format!("/files/{}", file.text("id"));
            assert_eq!(house.delete(&path, "*").await.status, 204);
        }
        house.until_usage((0, 0, 0)).await;
        eventually("the second one to be deleted", || async {
            (house.stored() == [stuck.join("kept")]).then_some(())
        })
        .await;
        let listed = house.get("/files?state=deleted").await;
        assert_eq!(listed.body["items"], json!([]));
        fs::remove_dir_all(&stuck).unwrap();
        fs::write(&stuck, "").unwrap();
        eventually("the first one to be deleted", || async {
            house.stored().is_empty().then_some(())
        })
        .await;
        house.assert_clean(0).await;
    })
    .await;
}
