//! Links open a file to anybody, for a time, so many times, until they are revoked.

use reqwest::Method;
use serde_json::json;

use crate::house::{Answer, House};

/// Reads by a link, without credentials.
async fn open(house: &House, path: &str, headers: &[(&str, &str)]) -> Answer {
    let daemon = &house.instances[0];
    let request = daemon.client.get(format!("{}{path}", daemon.base));
    let request = headers.iter().fold(request, |request, (name, value)| {
        request.header(*name, *value)
    });
    Answer::of(request.send().await.unwrap()).await
}

#[tokio::test]
async fn a_link_opens_its_file_as_long_and_as_often_as_it_says() {
    House::on_both(&[], async |house| {
        let made = house.file("name=a.txt", "hello").await;
        let path = format!("/files/{}", made.text("id"));
        let links = format!("{path}/links");
        let link = house.post(&links, json!({ "max_downloads": 2 })).await;
        assert_eq!(link.status, 201, "{link:?}");
        let opens = link.text("path");
        assert_eq!(opens, format!("/f/{}", link.text("token")));

        let read = open(&house, opens, &[]).await;
        assert_eq!(
            (read.status, &*read.bytes),
            (200, &b"hello"[..]),
            "{read:?}"
        );
        assert_eq!(
            read.header("content-disposition"),
            "inline; filename=\"a.txt\""
        );
        // Reading on is no further download, nor is the head.
        let rest = open(&house, opens, &[("range", "bytes=2-")]).await;
        assert_eq!((rest.status, &*rest.bytes), (206, &b"llo"[..]));
        let daemon = &house.instances[0];
        let head = daemon.request(Method::HEAD, opens).await;
        assert_eq!(head.status(), 200);
        assert_eq!(
            open(&house, opens, &[("range", "bytes=0-1")]).await.bytes,
            b"he"
        );
        let used_up = open(&house, opens, &[]).await;
        assert_eq!(used_up.short(), (410, "link_gone"), "{used_up:?}");
        let rest = open(&house, opens, &[("range", "bytes=2-")]).await;
        assert_eq!(rest.status, 206);
        house
            .sql("UPDATE file_link SET downloaded_at = '2026-01-01 00:00:00.000000'")
            .await;
        let late = open(&house, opens, &[("range", "bytes=2-")]).await;
        assert_eq!(late.short(), (410, "link_gone"), "{late:?}");
        let listed = house.get(&links).await;
        assert_eq!(listed.body["items"][0]["downloads"], 2);
        assert!(!listed.body.to_string().contains(link.text("token")));

        let second = house.post(&links, json!({ "max_downloads": 2 })).await;
        let opens = second.text("path").to_owned();
        // A range without a begun download counts as one, and a false condition sends the whole file.
        let end = open(&house, &opens, &[("range", "bytes=4-")]).await;
        assert_eq!((end.status, &*end.bytes), (206, &b"o"[..]));
        let stale = [("range", "bytes=2-"), ("if-range", "\"other\"")];
        assert_eq!(open(&house, &opens, &stale).await.bytes, b"hello");
        assert_eq!(open(&house, &opens, &[]).await.short(), (410, "link_gone"));
        let listed = house.get(&format!("{links}?limit=1")).await;
        assert_eq!(listed.body["items"][0]["downloads"], 2);
        let cursor = listed.text("next_cursor").to_owned();
        let listed = house.get(&format!("{links}?limit=1&cursor={cursor}")).await;
        assert_eq!(listed.body["items"][0]["id"], link.body["id"]);

        let second = house.post(&links, json!({})).await;
        let opens = second.text("path").to_owned();
        let read = open(&house, &opens, &[]).await;
        assert_eq!(
            (read.status, read.header("cache-control")),
            (200, "private, no-cache, no-transform")
        );
        assert_eq!(house.delete(&path, "*").await.status, 204);
        assert_eq!(open(&house, &opens, &[]).await.short(), (410, "link_gone"));
        let restored = house.post(&format!("{path}/restore"), json!({})).await;
        assert_eq!(restored.status, 200);
        assert_eq!(open(&house, &opens, &[]).await.status, 200);
        let revoke = format!("{links}/{}", second.text("id"));
        let bare = house.send(house.request(0, Method::DELETE, &revoke));
        assert_eq!(bare.await.short(), (428, "precondition_required"));
        let stale = house.delete(&revoke, "\"7\"").await;
        assert_eq!(stale.short(), (412, "precondition_failed"));
        // Downloads since then are no reason to let it live.
        let tag = second.text("etag");
        assert_eq!(house.delete(&revoke, tag).await.status, 204);
        let again = house.delete(&revoke, tag).await;
        assert_eq!(again.short(), (412, "precondition_failed"));
        let listed = house.get(&links).await;
        assert_eq!(listed.body["items"][0]["etag"], "\"2\"", "{listed:?}");
        let unknown = format!("{links}/01900000-0000-7000-8000-0000000000aa");
        let unknown = house.delete(&unknown, tag).await;
        assert_eq!(unknown.short(), (404, "link_not_found"));
        assert_eq!(open(&house, &opens, &[]).await.short(), (410, "link_gone"));

        // No route takes it, and it is a secret all the same.
        let slash = format!("{}/", link.text("path"));
        assert_ne!(open(&house, &slash, &[]).await.status, 200);
        let printed = house.instances[0].lines().join("\n");
        assert!(printed.contains("GET /f/{token} 200"), "{printed}");
        for link in [&link, &second] {
            assert!(!printed.contains(link.text("token")), "{printed}");
        }
        let third = house.post(&links, json!({})).await;
        house
            .sql("UPDATE file_link SET expires_at = created_at")
            .await;
        assert_eq!(
            open(&house, third.text("path"), &[]).await.short(),
            (410, "link_gone")
        );
        let nothing = "/f/AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
        assert_eq!(
            open(&house, nothing, &[]).await.short(),
            (404, "link_not_found")
        );

        for (body, field) in [
            (json!({ "max_downloads": 0 }), "max_downloads"),
            (
                json!({ "expires_at": "2026-01-01T00:00:00Z" }),
                "expires_at",
            ),
            (
                json!({ "expires_at": "2036-01-01T00:00:00Z" }),
                "expires_at",
            ),
        ] {
            let refused = house.post(&links, body).await;
            assert_eq!(
                (refused.short(), refused.field()),
                ((422, "validation"), field),
                "{refused:?}"
            );
        }
        let writer = house.user("w@example.com", &["files.files.*"]).await;
        let denied = house.request(0, Method::POST, &links).json(&json!({}));
        let denied = denied.bearer_auth(writer).send().await.unwrap();
        assert_eq!(denied.status(), 403);
        // A link would let one read that may not.
        let sharer = house.user("l@example.com", &["files.links.write"]).await;
        let denied = house.request(0, Method::POST, &links).json(&json!({}));
        let denied = Answer::of(denied.bearer_auth(sharer).send().await.unwrap()).await;
        assert_eq!(denied.short(), (403, "forbidden"), "{denied:?}");
        let sharer = house.user("s@example.com", &["files.links.write", "files.files.read"]);
        let made = house.request(0, Method::POST, &links).json(&json!({}));
        let made = made.bearer_auth(sharer.await).send().await.unwrap();
        assert_eq!(made.status(), 201);
    })
    .await;
}

#[tokio::test]
async fn of_many_readers_at_once_as_many_are_served_as_the_link_allows() {
    House::on_both(&[], async |house| {
        let made = house.file("name=a.txt", "hello").await;
        let links = format!("/files/{}/links", made.text("id"));
        let link = house.post(&links, json!({ "max_downloads": 3 })).await;
        let all = (0..12).map(|_| open(&house, link.text("path"), &[]));
        let answers = futures_util::future::join_all(all).await;
        let served = answers.iter().filter(|it| it.status == 200).count();
        assert_eq!(served, 3, "{answers:?}");
    })
    .await;
}
