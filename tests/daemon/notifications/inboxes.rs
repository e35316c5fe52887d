//! The inbox of each user, and what users want to get.

use reqwest::Method;

use super::*;

const INBOX: &str = "/api/v1/inbox";
const PREFERENCES: &str = "/api/v1/preferences";

fn note(title: &str, category: &str) -> Value {
    json!({
        "to": [{ "user": ONE }],
        "content": { "title": title, "body": "Come and see.", "data": { "place": 7 } },
        "category": category,
    })
}

#[tokio::test]
async fn each_user_has_an_inbox_on_both_back_ends() {
    let postgres = Postgres::start().await;
    for url in ["sqlite:dotmac.db".to_owned(), postgres.url()] {
        let daemon = tenants(&url).spawn().await;
        daemon.until("/ready", 200).await;
        let one = client(&daemon, ONE);
        for title in ["first", "second", "third"] {
            let sent = one.send(note(title, "news")).await;
            assert_eq!(sent["deliveries"][0]["state"], "delivered", "{sent}");
        }
        let unread = async || one.get(&format!("{INBOX}/unread-count")).await.1["unread"].clone();
        assert_eq!(unread().await, 3);
        let page = one.get(&format!("{INBOX}?limit=2")).await.1;
        assert_eq!(
            (&page["items"][0]["title"], &page["items"][1]["title"]),
            (&json!("third"), &json!("second"))
        );
        assert_eq!(page["items"][0]["data"], json!({ "place": 7 }));
        let next = page["next_cursor"].as_str().unwrap();
        let last = one.get(&format!("{INBOX}?limit=2&cursor={next}")).await.1;
        assert_eq!(
            (&last["items"][0]["title"], &last["next_cursor"]),
            (&json!("first"), &Value::Null)
        );

        let id = page["items"][0]["id"].as_str().unwrap();
        let other = client(&daemon, OTHER);
        assert_eq!(other.get(INBOX).await.1["items"], json!([]));
        for act in ["read", "archive"] {
            assert_eq!(
                other
                    .post(&format!("{INBOX}/{id}/{act}"), json!({}))
                    .await
                    .0,
                404
            );
        }
        let read = one.post(&format!("{INBOX}/{id}/read"), json!({})).await.1;
        assert!(
            read["read_at"].is_string() && read["archived_at"].is_null(),
            "{read}"
        );
        let again = one.post(&format!("{INBOX}/{id}/read"), json!({})).await.1;
        assert_eq!(again["read_at"], read["read_at"], "the first time counts");
        assert_eq!(unread().await, 2);
        let archived = one
            .post(&format!("{INBOX}/{id}/archive"), json!({}))
            .await
            .1;
        assert!(archived["archived_at"].is_string());
        let left = one.get(&format!("{INBOX}?unread=true")).await.1;
        assert_eq!(left["items"].as_array().unwrap().len(), 2);
        let all = one.post(&format!("{INBOX}/read-all"), json!({})).await.1;
        assert_eq!((&all["read"], unread().await), (&json!(2), json!(0)));
    }
}

#[tokio::test]
async fn preferences_are_judged_and_what_is_transactional_is_not_switched_off() {
    let postgres = Postgres::start().await;
    for url in ["sqlite:dotmac.db".to_owned(), postgres.url()] {
        let daemon = tenants(&url).spawn().await;
        daemon.until("/ready", 200).await;
        let one = client(&daemon, ONE);
        let put = async |items: Value| {
            let request = one
                .request(Method::PUT, PREFERENCES)
                .json(&json!({ "items": items }));
            crate::events::answer(request).await
        };
        assert_eq!(one.get(PREFERENCES).await.1, json!({ "items": [] }));
        let all = json!([
            { "category": "*", "channel": "in_app", "enabled": false },
            { "category": "news", "channel": "in_app", "enabled": true },
        ]);
        let set = put(all.clone()).await;
        assert_eq!((set.0, &set.1["items"]), (200, &all));
        assert_eq!(
            client(&daemon, OTHER).get(PREFERENCES).await.1,
            json!({ "items": [] })
        );
        for (category, state) in [
            ("news", "delivered"),
            ("other", "suppressed"),
            ("transactional", "delivered"),
        ] {
            let sent = one.send(note("a", category)).await;
            assert_eq!(sent["deliveries"][0]["state"], state, "{category}");
        }
        assert_eq!(one.get(INBOX).await.1["items"].as_array().unwrap().len(), 2);
        for (wrong, field) in [
            (
                json!([{ "category": "transactional", "channel": "*", "enabled": false }]),
                "items[0].category",
            ),
            (
                json!([{ "category": "news", "channel": "pigeon", "enabled": false }]),
                "items[0].channel",
            ),
            (
                json!([{ "category": "N", "channel": "*", "enabled": false }]),
                "items[0].category",
            ),
        ] {
            assert_eq!(problem(&put(wrong).await), (422, "validation", field));
        }
        assert_eq!(put(json!([])).await.1, json!({ "items": [] }));
    }
}
