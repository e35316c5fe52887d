//! The audit log through the daemon: `examples/notes` records acts, `examples/tenants` has several tenants.

mod verifying;

use std::collections::BTreeSet;

use reqwest::Method;
use serde_json::{Value, json};

use crate::{
    events::{Client, ONE, OTHER, instances, problem, served, tenants},
    notes::{NOTES, TOKEN, notes},
    page,
    support::{Postgres, daemon::Builder, eventually},
};

const AUDIT: &str = "/api/v1/audit";
const EVENTS: &str = "/api/v1/audit/events";
/// The tenant of the notes.
const TENANT: &str = "00000000-0000-0000-0000-000000000001";
const MASTER_KEY: &str = "AQIDBAUGBwgJCgsMDQ4PEBESExQVFhcYGRobHB0eHyA=";

/// The exact fields of an entry.
const FIELDS: [&str; 13] = [
    "id", "number", "hash", "at", "actor", "action", "resource", "outcome", "reason", "details",
    "subject", "personal", "trace_id",
];

fn signed_notes(url: &str) -> Builder {
    notes()
        .env("DOTMAC_DATABASE_URL", url)
        .env("DOTMAC_APP_MASTER_KEY", MASTER_KEY)
        .env("DOTMAC_AUDIT_VERIFY_INTERVAL", "200ms")
        .env("DOTMAC_AUDIT_STATUS_INTERVAL", "100ms")
}

impl Client<'_> {
    /// The newest entries, once there are so many that fit.
    async fn entries(&self, query: &str, count: usize) -> Vec<Value> {
        eventually(&format!("{count} entries of {query}"), || async {
            let (status, page) = self.get(&format!("{EVENTS}?limit=200&{query}")).await;
            assert_eq!(status, 200, "{page}");
            let items = page["items"].as_array().unwrap().clone();
            (items.len() == count).then_some(items)
        })
        .await
    }

    async fn add_note(&self) -> String {
        let (status, note) = self.post(NOTES, json!({"text": "Buy milk"})).await;
        assert_eq!(status, 201, "{note}");
        note["id"].as_str().unwrap().to_owned()
    }
}

fn texts<'v>(entries: &'v [Value], field: &str) -> Vec<&'v str> {
    let texts = entries.iter().map(|it| it[field].as_str().unwrap());
    texts.collect()
}

#[tokio::test]
async fn an_act_has_its_entry_and_one_that_is_refused_has_none_on_both_back_ends() {
    let postgres = Postgres::start().await;
    for url in ["sqlite:dotmac.db".to_owned(), postgres.url()] {
        let daemons = instances(|| signed_notes(&url), &url).await;
        let client = |daemon| Client {
            daemon,
            token: TOKEN,
        };
        let (first, last) = (client(&daemons[0]), client(daemons.last().unwrap()));
        let id = first.add_note().await;
        let path = format!("{NOTES}/{id}");
        let change = |seen: &'static str| {
            let (last, path) = (last, path.as_str());
            served(move || {
                let request = last.request(Method::PATCH, path);
                let request = request.header("if-match", seen);
                request.json(&json!({"text": "Buy bread"}))
            })
        };
        assert_eq!(change("\"7\"").await.0, 412);
        assert_eq!(change("\"1\"").await.0, 200);
        let delete = || {
            first
                .request(Method::DELETE, &path)
                .header("if-match", "\"2\"")
        };
        assert_eq!(served(delete).await.0, 204);

        let query = format!("resource=notes.note/{id}");
        let entries = last.entries(&query, 3).await;
        let acts = ["note_delete", "note_change", "note_add"];
        assert_eq!(texts(&entries, "action"), acts);
        for entry in &entries {
            let fields: BTreeSet<_> = entry.as_object().unwrap().keys().cloned().collect();
            assert_eq!(fields, FIELDS.map(str::to_owned).into(), "{entry}");
            assert_eq!(entry["resource"], json!({"type": "notes.note", "id": id}));
            let actor = "user:00000000-0000-0000-0000-000000000002";
            assert_eq!(
                (&entry["actor"], &entry["outcome"]),
                (&json!(actor), &json!("success"))
            );
        }
        let one = format!("{EVENTS}/{}", entries[0]["id"].as_str().unwrap());
        assert_eq!(first.get(&one).await, (200, entries[0].clone()));

        // Filters, each by one that fits and one that does not.
        let at = entries[1]["at"].as_str().unwrap();
        for (query, count) in [
            ("action=note_change".to_owned(), 1),
            ("action=note_read".to_owned(), 0),
            ("resource=notes.note".to_owned(), 3),
            ("resource=notes.note/7".to_owned(), 0),
            ("actor=user:7".to_owned(), 0),
            ("resource=notes.note&outcome=success".to_owned(), 3),
            ("outcome=denied".to_owned(), 0),
            (format!("resource=notes.note&from={at}&to={at}"), 1),
            ("to=2020-01-01T00:00:00Z".to_owned(), 0),
        ] {
            first.entries(&query, count).await;
        }
        // Reading is recorded, with what was looked for.
        eventually("the record of reading", || async {
            let (_, page) = first
                .get(&format!("{EVENTS}?action=sensitive_read&limit=200"))
                .await;
            let items = page["items"].as_array().unwrap().clone();
            let of_filter = json!({"action": "note_change"});
            items
                .iter()
                .any(|it| it["details"] == of_filter)
                .then_some(())
        })
        .await;

        // Pages, and a cursor that is good for its filter alone.
        let (_, page) = first
            .get(&format!("{EVENTS}?resource=notes.note&limit=2"))
            .await;
        let cursor = page["next_cursor"].as_str().unwrap();
        // Without DOTMAC_APP_SECRET_KEY a cursor is good for its instance.
        let (_, rest) = first
            .get(&format!(
                "{EVENTS}?resource=notes.note&limit=2&cursor={cursor}"
            ))
            .await;
        assert_eq!(rest, json!({"items": [entries[2]], "next_cursor": null}));
        let refused = first
            .get(&format!("{EVENTS}?limit=2&cursor={cursor}"))
            .await;
        assert_eq!(problem(&refused), (400, "invalid_cursor", "cursor"));
        for daemon in daemons {
            assert_eq!(daemon.stop().await.code, 0);
        }
    }
}

#[tokio::test]
async fn a_tenant_sees_its_own_chain_and_no_other() {
    let daemon = tenants("sqlite:dotmac.db").spawn().await;
    daemon.until("/ready", 200).await;
    let client = |token| Client {
        daemon: &daemon,
        token,
    };
    let (one, other) = (client(ONE), client(OTHER));
    // Its act: a read.
    let entries = eventually("the entry of a tenant", || async {
        let (_, page) = one.get(EVENTS).await;
        let items = page["items"].as_array().unwrap().clone();
        (!items.is_empty()).then_some(items)
    })
    .await;
    let path = format!("{EVENTS}/{}", entries[0]["id"].as_str().unwrap());
    assert_eq!(
        problem(&other.get(&path).await),
        (404, "audit_event_not_found", "")
    );
    let unknown = format!("{EVENTS}/01a20636-b121-751a-810f-0b072ab9afed");
    assert_eq!(
        problem(&one.get(&unknown).await),
        (404, "audit_event_not_found", "")
    );
    let verified = other.get(&format!("{AUDIT}/verify")).await;
    let nothing = (&verified.1["valid"], &verified.1["last"]);
    assert_eq!(nothing, (&json!(true), &json!(0)), "{verified:?}");
    let none = other.get(&format!("{AUDIT}/checkpoints")).await;
    assert_eq!(none, (200, json!({"items": [], "next_cursor": null})));

    for (query, field) in [
        ("actor=", "actor"),
        ("action=Note", "action"),
        ("resource=notes.note/", "resource"),
        ("from=yesterday", "from"),
        ("to=2026", "to"),
        ("from=2026-01-02T00:00:00Z&to=2026-01-01T00:00:00Z", "to"),
        ("outcome=good", "outcome"),
        ("sort=at", "sort"),
        ("colour=1", "colour"),
    ] {
        let refused = one.get(&format!("{EVENTS}?{query}")).await;
        assert_eq!(problem(&refused), (400, "invalid_query", field), "{query}");
    }
    let refused = one.get(&format!("{AUDIT}/verify?from=now")).await;
    assert_eq!(problem(&refused), (400, "invalid_query", "from"));
    for (body, expected) in [
        (json!({"from": "now"}), (422, "validation", "from")),
        (json!({"until": "now"}), (400, "unknown_fields", "until")),
    ] {
        let refused = one.post(&format!("{AUDIT}/exports"), body).await;
        assert_eq!(problem(&refused), expected, "{refused:?}");
    }
    for (method, path) in [
        (Method::GET, EVENTS.to_owned()),
        (Method::GET, path),
        (Method::GET, format!("{AUDIT}/checkpoints")),
        (Method::GET, format!("{AUDIT}/verify")),
        (Method::POST, format!("{AUDIT}/exports")),
    ] {
        let url = format!("{}{path}", daemon.base);
        let refused = daemon.client.request(method, url).send().await.unwrap();
        assert_eq!(refused.status(), 401, "{path}");
    }
    assert_eq!(daemon.stop().await.code, 0);
}

/// Those who may do other things may neither read the log nor have it verified.
#[tokio::test]
async fn a_caller_without_the_permission_is_refused() {
    let daemon = notes()
        .env("DOTMAC_NOTES_READER_TOKEN", "reader-token-of-the-test")
        .spawn()
        .await;
    daemon.until("/ready", 200).await;
    let reader = Client {
        daemon: &daemon,
        token: "reader-token-of-the-test",
    };
    assert_eq!(reader.get(NOTES).await.0, 200);
    for path in [
        EVENTS.to_owned(),
        format!("{EVENTS}/01a20636-b121-751a-810f-0b072ab9afed"),
        format!("{AUDIT}/checkpoints"),
        format!("{AUDIT}/verify"),
    ] {
        let refused = reader.get(&path).await;
        let missing = (403, "forbidden", "permission");
        assert_eq!(problem(&refused), missing, "{path}");
    }
    let refused = reader.post(&format!("{AUDIT}/exports"), json!({})).await;
    assert_eq!(problem(&refused).1, "forbidden");
    assert_eq!(daemon.stop().await.code, 0);
}

/// Each note that was acknowledged has its entry, once, and the chain is right, whatever is killed.
#[tokio::test]
async fn acknowledged_acts_have_one_entry_when_instances_are_killed_on_both_back_ends() {
    let postgres = Postgres::start().await;
    for url in ["sqlite:dotmac.db".to_owned(), postgres.url()] {
        let mut directory = tempfile::tempdir().unwrap();
        let mut acknowledged = BTreeSet::new();
        for _ in 0..3 {
            let daemon = signed_notes(&url).spawn_in(directory).await;
            daemon.until("/ready", 200).await;
            let writing = crate::events::faults::write(&daemon).await;
            eventually("entries to be linked", || async {
                let linked = daemon.metric("dotmac_audit_sealed_total").await?;
                (linked >= 30.0).then_some(())
            })
            .await;
            directory = daemon.kill();
            acknowledged.extend(writing.await.unwrap());
        }
        let daemon = signed_notes(&url).spawn_in(directory).await;
        daemon.until("/ready", 200).await;
        let notes = signed_notes(&url).run_in(daemon.directory(), &["notes", "count"]);
        let stored: usize = notes.await.text().trim().parse().unwrap();
        let list = ["audit", "list", "--tenant", TENANT, "--action", "note_add"];
        let ids: Vec<String> = eventually("each note to have its entry", || async {
            let listed = signed_notes(&url).run_in(daemon.directory(), &list).await;
            let ids = listed.text();
            let ids = ids.lines().filter_map(|line| {
                let entry: Value = serde_json::from_str(line).ok()?;
                Some(entry["resource"]["id"].as_str()?.to_owned())
            });
            let ids: Vec<String> = ids.collect();
            (ids.len() >= stored).then_some(ids)
        })
        .await;
        let once: BTreeSet<_> = ids.iter().cloned().collect();
        assert_eq!((ids.len(), once.len()), (stored, stored));
        let lost: Vec<_> = acknowledged.difference(&once).collect();
        assert!(lost.is_empty(), "{lost:?} have no entry");
        let verified = signed_notes(&url).run_in(daemon.directory(), &["audit", "verify"]);
        let verified = verified.await;
        assert_eq!(verified.code, 0, "{}", verified.text());
        assert_eq!(daemon.stop().await.code, 0);
    }
}

#[tokio::test]
async fn the_tour_of_the_page_is_as_it_says() {
    let page = "docs/services/audit.md";
    let program = |_: &str| notes().env("DOTMAC_APP_MASTER_KEY", MASTER_KEY);
    let compared = page::tour(page, "A tour in ten minutes", program).await;
    assert!(compared >= 10, "{compared}");
}
