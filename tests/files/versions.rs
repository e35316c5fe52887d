//! Contents replace each other, are kept as versions, read, restored and deleted, and count while they are there.

use dotmac_testkit::eventually;
use reqwest::Method;
use serde_json::{Value, json};

use crate::house::{Answer, House, sha256};

async fn replace(house: &House, path: &str, tag: &str, bytes: &str) -> Answer {
    let request = house.request(0, Method::PUT, &format!("{path}/content"));
    let request = request
        .header("if-match", tag)
        .header("x-content-sha256", sha256(bytes.as_bytes()));
    house.send(request.body(bytes.to_owned())).await
}

/// Numbers and sizes of the versions, the newest first.
async fn versions(house: &House, path: &str) -> Vec<(i64, i64, bool)> {
    let listed = house.get(&format!("{path}/versions")).await;
    assert_eq!(listed.status, 200, "{listed:?}");
    let items = listed.body["items"].as_array().unwrap().iter();
    items
        .map(|it| {
            let number = |field: &str| it[field].as_i64().unwrap();
            let is_current = it["is_current"] == Value::Bool(true);
            (number("number"), number("size"), is_current)
        })
        .collect()
}

#[tokio::test]
async fn a_content_that_is_replaced_can_be_read_and_restored() {
    House::on_both(&[], async |house| {
        let made = house.file("name=a.txt&folder=a", "one").await;
        let path = format!("/files/{}", made.text("id"));
        let second = replace(&house, &path, "\"1\"", "second").await;
        assert_eq!(second.status, 200, "{second:?}");
        assert_eq!(second.header("etag"), "\"2\"");
        assert_eq!(second.text("sha256"), sha256(b"second"));
        assert_eq!(
            (second.text("name"), second.text("folder")),
            ("a.txt", "/a")
        );
        assert_eq!(house.usage().await, (9, 0, 1));
        assert_eq!(versions(&house, &path).await, [(2, 6, true), (1, 3, false)]);
        let read = |number: i64| {
            let path = format!("{path}/versions/{number}/content");
            let house = &house;
            async move { house.get(&path).await }
        };
        assert_eq!(house.get(&format!("{path}/content")).await.bytes, b"second");
        assert_eq!(read(1).await.bytes, b"one");
        assert_eq!(read(2).await.bytes, b"second");
        assert_eq!(read(3).await.short(), (404, "version_not_found"));

        // Nothing is copied or used more: the former content is the current one again.
        let restored = house
            .post(&format!("{path}/versions/1/restore"), json!({}))
            .await;
        assert_eq!(
            (restored.status, restored.text("sha256")),
            (200, &*sha256(b"one")),
            "{restored:?}"
        );
        assert_eq!(versions(&house, &path).await, [(3, 3, true), (2, 6, false)]);
        assert_eq!(house.usage().await, (9, 0, 1));
        house.assert_clean(2).await;

        let former = format!("{path}/versions/2");
        let bare = house.send(house.request(0, Method::DELETE, &former));
        assert_eq!(bare.await.short(), (428, "precondition_required"));
        let listed = house.get(&format!("{path}/versions")).await;
        let tag = |item: usize| listed.body["items"][item]["etag"].as_str().unwrap();
        // As it was seen while the file had it.
        let stale = house.delete(&former, tag(0)).await;
        assert_eq!(stale.short(), (412, "precondition_failed"));
        let deleted = house.delete(&former, tag(1)).await;
        assert_eq!(deleted.status, 204, "{deleted:?}");
        let current = house.delete(&format!("{path}/versions/3"), "*").await;
        assert_eq!(current.short(), (404, "version_not_found"));
        house.until_usage((3, 0, 1)).await;

        let events = eventually("the events", || async {
            let events = house.get("/events?type=file.updated.v1").await;
            let events = events.body["items"].as_array()?.clone();
            (events.len() == 2).then_some(events)
        })
        .await;
        assert!(events.iter().all(|it| it["data"]["content"] == true));
        for action in [
            "file_replace",
            "file_version_restore",
            "file_version_delete",
        ] {
            eventually(action, || async {
                let acts = house.get(&format!("/audit/events?action={action}")).await;
                (acts.body["items"].as_array()?.len() == 1).then_some(())
            })
            .await;
        }
    })
    .await;
}

#[tokio::test]
async fn what_may_not_replace_a_content_changes_nothing() {
    House::on_both(&[], async |house| {
        let made = house.file("name=a.txt", "one").await;
        let path = format!("/files/{}", made.text("id"));
        let content = format!("{path}/content");
        let bare = house.request(0, Method::PUT, &content).body("two");
        assert_eq!(house.send(bare).await.status, 428);
        let stale = replace(&house, &path, "\"7\"", "two").await;
        assert_eq!(stale.short(), (412, "precondition_failed"));
        let lying = house
            .request(0, Method::PUT, &content)
            .header("if-match", "\"1\"")
            .header("content-type", "image/png")
            .body("two");
        assert_eq!(house.send(lying).await.short(), (422, "type_mismatch"));
        let other = house.other_tenant().await;
        let theirs = house
            .request(0, Method::PUT, &content)
            .header("if-match", "*")
            .bearer_auth(&other)
            .body("two");
        assert_eq!(theirs.send().await.unwrap().status(), 404);
        let theirs = house.request(0, Method::GET, &format!("{path}/versions"));
        let theirs = theirs.bearer_auth(&other).send().await.unwrap();
        assert_eq!(theirs.status(), 404);
        assert_eq!(house.delete(&path, "*").await.status, 204);
        let gone = replace(&house, &path, "*", "two").await;
        assert_eq!(gone.short(), (409, "file_state"), "{gone:?}");
        assert_eq!(house.usage().await, (3, 0, 1));
        house.assert_clean(1).await;
    })
    .await;
}

#[tokio::test]
async fn the_oldest_versions_go_and_all_go_with_their_file() {
    let settings = [
        ("DOTMAC_FILES_VERSIONS", "2"),
        ("DOTMAC_FILES_TRASH_RETENTION", "1s"),
        ("DOTMAC_FILES_SWEEP_INTERVAL", "200ms"),
    ];
    House::on_both(&settings, async |house| {
        let made = house.file("name=a.txt", "1").await;
        let path = format!("/files/{}", made.text("id"));
        for bytes in ["22", "333", "4444"] {
            assert_eq!(replace(&house, &path, "*", bytes).await.status, 200);
        }
        assert_eq!(
            versions(&house, &path).await,
            [(4, 4, true), (3, 3, false), (2, 2, false)]
        );
        house.until_usage((9, 0, 1)).await;
        // A copy has the content, and none of the former ones.
        let copy = house.post(&format!("{path}/copy"), json!({})).await;
        assert_eq!(copy.status, 201, "{copy:?}");
        let copied = format!("/files/{}", copy.text("id"));
        assert_eq!(versions(&house, &copied).await, [(1, 4, true)]);
        assert_eq!(house.delete(&path, "*").await.status, 204);
        house.until_usage((4, 0, 1)).await;
        eventually("the bytes to be gone", || async {
            (house.stored().len() == 1).then_some(())
        })
        .await;
        house.assert_clean(1).await;
    })
    .await;
}
