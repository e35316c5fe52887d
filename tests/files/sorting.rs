//! Folders, searches, changes, the trash, and many at once: each in its own tenant, by permission, with its event and its entry.

use dotmac_testkit::eventually;
use reqwest::Method;
use serde_json::{Value, json};

use crate::house::{Answer, House};

fn names(list: &Answer) -> Vec<&str> {
    assert_eq!(list.status, 200, "{list:?}");
    let items = list.body["items"].as_array().unwrap().iter();
    items.map(|it| it["name"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn files_are_found_by_folder_type_name_owner_and_state() {
    House::on_every(&[], async |house| {
        let png = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\0\x01";
        house
            .file("name=Report%20100%25.txt&folder=/a", "text")
            .await;
        house.file("name=report_2.txt&folder=/a/b", "text").await;
        let image = house.file("name=%C3%84pfel.png", &png[..]).await;
        house.file("name=gone.txt", "text").await;
        let gone = house.get("/files?q=gone").await.body["items"][0]["id"].clone();
        let gone = format!("/files/{}", gone.as_str().unwrap());
        assert_eq!(house.delete(&gone, "\"1\"").await.status, 204);
        let owner = image.text("owner");
        for (query, expected) in [
            ("", vec!["Äpfel.png", "report_2.txt", "Report 100%.txt"]),
            (
                "?sort=created_at",
                vec!["Report 100%.txt", "report_2.txt", "Äpfel.png"],
            ),
            ("?folder=/a", vec!["Report 100%.txt"]),
            ("?folder=a/b/", vec!["report_2.txt"]),
            ("?folder=/", vec!["Äpfel.png"]),
            ("?type=image/png", vec!["Äpfel.png"]),
            ("?type=image/*", vec!["Äpfel.png"]),
            ("?type=text/*&folder=/a", vec!["Report 100%.txt"]),
            ("?q=REPORT", vec!["report_2.txt", "Report 100%.txt"]),
            ("?q=%C3%A4pf", vec!["Äpfel.png"]),
            ("?q=100%25", vec!["Report 100%.txt"]),
            ("?q=t_2", vec!["report_2.txt"]),
            ("?q=t%25t", vec![]),
            ("?state=deleted", vec!["gone.txt"]),
            ("?state=quarantined", vec![]),
            (&format!("?owner={owner}&q=png"), vec!["Äpfel.png"]),
            ("?owner=01900000-0000-7000-8000-0000000000ff", vec![]),
        ] {
            assert_eq!(
                names(&house.get(&format!("/files{query}")).await),
                expected,
                "{query}"
            );
        }
        for (query, field) in [
            ("type=image", "type"),
            ("type=im%25/x", "type"),
            ("state=gone", "state"),
            ("folder=..", "folder"),
            ("sort=name", "sort"),
            ("owner=me", "owner"),
            ("nam=a", "nam"),
        ] {
            let refused = house.get(&format!("/files?{query}")).await;
            assert_eq!(
                refused.short(),
                (400, "invalid_query"),
                "{query}: {refused:?}"
            );
            assert_eq!(refused.field(), field);
        }
        let (mut found, mut cursor) = (Vec::new(), String::new());
        loop {
            let page = house.get(&format!("/files?limit=1{cursor}")).await;
            found.extend(names(&page).into_iter().map(str::to_owned));
            match page.body["next_cursor"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => break,
            }
        }
        assert_eq!(found, ["Äpfel.png", "report_2.txt", "Report 100%.txt"]);
        let other = house.get(&format!("/files?q=a{cursor}")).await;
        assert_eq!(other.short(), (400, "invalid_cursor"));
    })
    .await;
}

#[tokio::test]
async fn a_change_needs_the_version_that_was_seen_and_keeps_what_it_does_not_name() {
    House::on_every(&[], async |house| {
        let made = house.file("name=a.txt&folder=/x", "hello").await;
        let path = format!("/files/{}", made.text("id"));
        let blind = house
            .request(0, Method::PATCH, &path)
            .json(&json!({ "name": "b" }));
        assert_eq!(
            house.send(blind).await.short(),
            (428, "precondition_required")
        );
        let stale = house.patch(&path, "\"7\"", json!({ "name": "b" })).await;
        assert_eq!(stale.short(), (412, "precondition_failed"));
        let metadata = json!({ "metadata": { "a": "1", "b": "2" } });
        let changed = house.patch(&path, "\"1\"", metadata).await;
        assert_eq!(
            (changed.status, changed.header("etag")),
            (200, "\"2\""),
            "{changed:?}"
        );
        let change = json!({ "name": "b.txt", "metadata": { "a": null, "c": "3" } });
        let changed = house.patch(&path, "\"2\"", change).await;
        assert_eq!(
            (changed.text("name"), changed.text("folder")),
            ("b.txt", "/x")
        );
        assert_eq!(changed.body["metadata"], json!({ "b": "2", "c": "3" }));
        let cleared = house
            .patch(&path, "*", json!({ "metadata": null, "folder": "" }))
            .await;
        assert_eq!(
            (&cleared.body["metadata"], cleared.text("folder")),
            (&json!({}), "/")
        );

        let many: serde_json::Map<String, Value> =
            (0..65).map(|key| (key.to_string(), json!("a"))).collect();
        for (body, expected, field) in [
            (json!({ "metadata": many }), (422, "validation"), "metadata"),
            (
                json!({ "metadata": { "": "a" } }),
                (422, "validation"),
                "metadata",
            ),
            (
                json!({ "metadata": { "a": "b".repeat(1025) } }),
                (422, "validation"),
                "metadata",
            ),
            (json!({ "name": "a/b" }), (422, "validation"), "name"),
            (json!({ "name": null }), (422, "validation"), "name"),
            (json!({ "size": 3 }), (400, "unknown_fields"), "size"),
            (
                json!({ "metadata": { "a": 1 } }),
                (400, "invalid_body"),
                "metadata.a",
            ),
        ] {
            let refused = house.patch(&path, "*", body).await;
            assert_eq!(refused.short(), expected, "{refused:?}");
            assert_eq!(refused.field(), field, "{refused:?}");
        }
    })
    .await;
}

#[tokio::test]
async fn a_copy_shares_bytes_and_the_trash_gives_back_what_it_has() {
    let settings = [
        ("DOTMAC_FILES_SWEEP_INTERVAL", "200ms"),
        ("DOTMAC_FILES_TRASH_RETENTION", "2s"),
    ];
    House::on_every(&settings, async |house| {
        let made = house.file("name=a.txt", "hello").await;
        let path = format!("/files/{}", made.text("id"));
        let moved = house
            .post(
                &format!("{path}/move"),
                json!({ "folder": "b", "name": "c.txt" }),
            )
            .await;
        assert_eq!(
            (moved.text("folder"), moved.text("name")),
            ("/b", "c.txt"),
            "{moved:?}"
        );
        let copy = json!({ "folder": "/copies" });
        let request = |body: &Value| {
            let request = house.request(0, Method::POST, &format!("{path}/copy"));
            house.send(request.header("idempotency-key", "once").json(body))
        };
        let copied = request(&copy).await;
        assert_eq!(copied.status, 201, "{copied:?}");
        assert_eq!(
            (copied.text("name"), copied.text("sha256")),
            ("c.txt", made.text("sha256"))
        );
        let again = request(&copy).await;
        assert_eq!(again.header("idempotent-replayed"), "true");
        assert_eq!(again.text("id"), copied.text("id"));
        house.assert_clean(1).await;
        assert_eq!(house.usage().await, (10, 0, 2));

        let deleted = house.delete(&path, "*").await;
        assert_eq!(deleted.status, 204, "{deleted:?}");
        assert_eq!(house.get(&path).await.text("state"), "deleted");
        assert_eq!(
            house.get(&format!("{path}/content")).await.short(),
            (404, "file_not_found")
        );
        for refused in [
            house.delete(&path, "*").await,
            house.patch(&path, "*", json!({ "name": "d" })).await,
            house
                .post(&format!("{path}/move"), json!({ "name": "d" }))
                .await,
        ] {
            assert_eq!(refused.short(), (409, "file_state"), "{refused:?}");
        }
        let restored = house.post(&format!("{path}/restore"), json!({})).await;
        assert_eq!(
            (restored.status, restored.text("state")),
            (200, "ready"),
            "{restored:?}"
        );
        let restored = house.post(&format!("{path}/restore"), json!({})).await;
        assert_eq!(restored.short(), (409, "file_state"));
        assert_eq!(house.get(&format!("{path}/content")).await.bytes, b"hello");

        // The bytes stay until the last file that has them is gone.
        assert_eq!(house.delete(&path, "*").await.status, 204);
        house.until_usage((5, 0, 1)).await;
        assert_eq!(house.get(&path).await.short(), (404, "file_not_found"));
        let copy = format!("/files/{}", copied.text("id"));
        assert_eq!(house.get(&format!("{copy}/content")).await.bytes, b"hello");
        assert_eq!(house.delete(&copy, "*").await.status, 204);
        house.until_usage((0, 0, 0)).await;
        eventually("the bytes to be gone", || async {
            house.stored().is_empty().then_some(())
        })
        .await;
        house.assert_clean(0).await;
    })
    .await;
}

#[tokio::test]
async fn a_batch_says_of_each_item_what_came_of_it() {
    House::on_every(&[], async |house| {
        let (one, two) = (
            house.file("name=1", "1").await,
            house.file("name=2", "2").await,
        );
        let nowhere = "01900000-0000-7000-8000-0000000000ff";
        let items = json!({ "items": [
            { "op": "move", "id": one.text("id"), "folder": "/m" },
            { "op": "copy", "id": one.text("id"), "name": "copy" },
            { "op": "delete", "id": two.text("id") },
            { "op": "delete", "id": nowhere },
            { "op": "restore", "id": one.text("id") },
            { "op": "move", "id": one.text("id"), "folder": ".." },
            { "op": "restore", "id": two.text("id") },
        ] });
        let done = house.post("/files/batch", items).await;
        assert_eq!(done.status, 200, "{done:?}");
        let items = done.body["items"].as_array().unwrap();
        let short: Vec<_> = items
            .iter()
            .map(|it| {
                (
                    it["status"].as_u64().unwrap(),
                    it["error"]["code"].as_str().unwrap_or(""),
                )
            })
            .collect();
        assert_eq!(
            short,
            [
                (200, ""),
                (201, ""),
                (200, ""),
                (404, "file_not_found"),
                (409, "file_state"),
                (422, "validation"),
                (200, ""),
            ],
            "{done:?}"
        );
        assert_eq!(items[5]["error"]["errors"][0]["field"], "folder");
        assert_eq!(items[1]["file"]["name"], "copy");
        assert_eq!(
            names(&house.get("/files?sort=created_at").await),
            ["1", "2", "copy"]
        );
        for items in [
            json!([]),
            json!(vec![json!({ "op": "delete", "id": nowhere }); 101]),
        ] {
            let refused = house.post("/files/batch", json!({ "items": items })).await;
            assert_eq!(
                (refused.status, refused.field()),
                (422, "items"),
                "{refused:?}"
            );
        }
    })
    .await;
}

#[tokio::test]
async fn permissions_and_tenants_are_kept_apart() {
    House::on_every(&[], async |house| {
        let made = house.file("name=a", "a").await;
        let path = format!("/files/{}", made.text("id"));
        let reader = house
            .user("reader@example.com", &["files.files.read"])
            .await;
        let writer = house
            .user(
                "writer@example.com",
                &["files.files.read", "files.files.write"],
            )
            .await;
        let other = house.other_tenant().await;
        let send = async |token: &str, method: Method, path: &str, body: Option<Value>| {
            let request = house
                .request(0, method, path)
                .header("if-match", "*")
                .bearer_auth(token);
            let request = match &body {
                Some(body) => request.json(body),
                None => request,
            };
            Answer::of(request.send().await.unwrap()).await
        };
        for (method, path, body) in [
            (Method::GET, path.clone(), None),
            (Method::GET, format!("{path}/content"), None),
            (Method::PATCH, path.clone(), Some(json!({ "name": "b" }))),
            (Method::DELETE, path.clone(), None),
            (
                Method::POST,
                format!("{path}/move"),
                Some(json!({ "name": "b" })),
            ),
            (Method::POST, format!("{path}/copy"), Some(json!({}))),
            (Method::POST, format!("{path}/restore"), None),
        ] {
            let theirs = send(&other, method.clone(), &path, body.clone()).await;
            assert_eq!(theirs.short(), (404, "file_not_found"), "{method} {path}");
            let read = send(&reader, method.clone(), &path, body).await;
            let expected = if method == Method::GET { 200 } else { 403 };
            assert_eq!(read.status, expected, "{method} {path}: {read:?}");
        }
        let put = send(&reader, Method::PUT, "/files/content?name=a", None).await;
        assert_eq!(put.short(), (403, "forbidden"));
        let deleted = send(&writer, Method::DELETE, &path, None).await;
        assert_eq!(deleted.short(), (403, "forbidden"));
        let batch = json!({ "items": [{ "op": "delete", "id": made.text("id") }] });
        let batch = send(&writer, Method::POST, "/files/batch", Some(batch)).await;
        assert_eq!(
            batch.body["items"][0]["error"]["code"], "forbidden",
            "{batch:?}"
        );
        let listed = send(&other, Method::GET, "/files", None).await;
        assert_eq!(listed.body["items"], json!([]));
        let usage = send(&other, Method::GET, "/files/usage", None).await;
        assert_eq!(usage.body["tenant"]["used"], 0);
        assert_eq!(house.get(&path).await.body, made.body);
    })
    .await;
}

#[tokio::test]
async fn each_act_has_its_event_and_its_entry() {
    House::on_every(&[("DOTMAC_FILES_SWEEP_INTERVAL", "200ms")], async |house| {
        let made = house.file("name=secret-name.txt", "hello").await;
        let (id, path) = (made.text("id"), format!("/files/{}", made.text("id")));
        assert_eq!(house.patch(&path, "*", json!({ "folder": "/a" })).await.status, 200);
        assert_eq!(house.delete(&path, "*").await.status, 204);
        assert_eq!(house.post(&format!("{path}/restore"), json!({})).await.status, 200);
        let events = eventually("all events", || async {
            let events = house.get(&format!("/events?subject=files/{id}")).await;
            (events.body["items"].as_array()?.len() == 4).then_some(events)
        })
        .await;
        let of = |number: usize| {
            let event = &events.body["items"][number];
            (event["type"].as_str().unwrap(), event["data"].clone())
        };
        let created = json!({ "file": id, "size": 5, "sha256": made.text("sha256"), "type": "text/plain", "version": 1 });
        assert_eq!(of(0), ("file.created.v1", created));
        assert_eq!(of(1), ("file.updated.v1", json!({ "file": id, "version": 2, "restored": false, "content": false })));
        assert_eq!(of(2), ("file.deleted.v1", json!({ "file": id, "version": 3, "permanent": false })));
        assert_eq!(of(3), ("file.updated.v1", json!({ "file": id, "version": 4, "restored": true, "content": false })));
        assert!(!events.body.to_string().contains("secret-name"));
        for action in ["file_upload", "file_change", "file_delete", "file_restore"] {
            eventually(&format!("the entry of {action}"), || async {
                let entries = house.get(&format!("/audit/events?action={action}")).await;
                let items = entries.body["items"].as_array()?;
                (items.len() == 1 && items[0].to_string().contains(id)).then_some(())
            })
            .await;
        }
    })
    .await;
}
