//! The audit log through the daemon: `examples/notes` records acts, `examples/tenants` has several tenants.

use std::collections::BTreeSet;

use reqwest::Method;
use serde_json::{Value, json};

use crate::{
    events::{Client, ONE, OTHER, instances, problem, served, tenants},
    notes::{NOTES, TOKEN, notes},
    page,
    support::{Daemon, Postgres, daemon::Builder, eventually},
};

const AUDIT: &str = "/api/v1/audit";
const EVENTS: &str = "/api/v1/audit/events";
/// The tenant of the notes.
const TENANT: &str = "00000000-0000-0000-0000-000000000001";
const MASTER_KEY: &str = "AQIDBAUGBwgJCgsMDQ4PEBESExQVFhcYGRobHB0eHyA=";

/// What an entry has, and nothing else.
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
    // What it has done: it has read.
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

/// What was done to the database behind the program's back is found by the command, over HTTP and by the verifier.
#[tokio::test]
async fn tampering_is_found_on_both_back_ends() {
    let postgres = Postgres::start().await;
    for url in ["sqlite:dotmac.db".to_owned(), postgres.url()] {
        let daemon = signed_notes(&url).spawn().await;
        daemon.until("/ready", 200).await;
        let client = Client {
            daemon: &daemon,
            token: TOKEN,
        };
        for _ in 0..3 {
            client.add_note().await;
        }
        let entries = client.entries("resource=notes.note", 3).await;
        let command = async |arguments: &[&str]| {
            let program = signed_notes(&url);
            program.run_in(daemon.directory(), arguments).await
        };
        let right = command(&["audit", "verify"]).await;
        assert_eq!(right.code, 0, "{}", right.text());
        let said = format!("tenant {TENANT}: entries 1 to ");
        assert!(
            right.text().contains(&said) && right.text().contains("signed up to "),
            "{}",
            right.text()
        );

        let number = entries[1]["number"].as_i64().unwrap();
        let id = entries[1]["id"].as_str().unwrap();
        tamper(&daemon, &postgres, &url, id).await;
        let broken = format!("broken at number {number}: ");
        let found = command(&["audit", "verify", "--tenant", TENANT]).await;
        assert_eq!(found.code, 1, "{}", found.text());
        assert!(
            found.text().contains(&broken) && found.text().contains(id),
            "{}",
            found.text()
        );
        let (_, verified) = client.get(&format!("{AUDIT}/verify")).await;
        assert_eq!(verified["valid"], false);
        assert_eq!(
            (&verified["broken"]["number"], &verified["broken"]["fault"]),
            (&json!(number), &json!("changed")),
            "{verified}"
        );
        let exported = command(&["audit", "export", "--tenant", TENANT, "log.ndjson"]).await;
        assert_eq!(exported.code, 0, "{}", exported.text());
        let found = command(&["audit", "verify", "log.ndjson"]).await;
        assert_eq!(found.code, 1, "{}", found.text());
        assert!(
            found.text().contains(&format!("number {number}: ")),
            "{}",
            found.text()
        );
        eventually("the verifier to be degraded", || async {
            let (_, ready) = daemon.json("/ready").await;
            ready
                .to_string()
                .contains("audit_chain_broken")
                .then_some(())
        })
        .await;
        daemon.logged("the audit chain of tenant").await;
        eventually("the gauge", || async {
            (daemon.metric("dotmac_audit_broken").await == Some(1.0)).then_some(())
        })
        .await;
    }
}

/// A chain is verified in parts: each answer says where the next one goes on, and that is good for its range alone.
#[tokio::test]
async fn a_chain_is_verified_in_parts() {
    let daemon = signed_notes("sqlite:dotmac.db").spawn().await;
    daemon.until("/ready", 200).await;
    let client = Client {
        daemon: &daemon,
        token: TOKEN,
    };
    for _ in 0..3 {
        client.add_note().await;
    }
    client.entries("resource=notes.note", 3).await;
    let verify = async |query: &str| client.get(&format!("{AUDIT}/verify?{query}")).await;
    let (status, part) = verify("limit=2").await;
    assert_eq!((status, &part["valid"]), (200, &json!(true)), "{part}");
    assert_eq!(
        (&part["first"], &part["complete"]),
        (&json!(1), &json!(false))
    );
    let cursor = part["next_cursor"].as_str().unwrap();
    let (status, rest) = verify(&format!("cursor={cursor}")).await;
    assert_eq!((status, &rest["valid"]), (200, &json!(true)), "{rest}");
    assert_eq!(
        (&rest["complete"], &rest["next_cursor"]),
        (&json!(true), &Value::Null)
    );
    assert_eq!(rest["first"], json!(part["last"].as_i64().unwrap() + 1));
    let of_range = format!("from=2020-01-01T00:00:00Z&cursor={cursor}");
    for (query, expected) in [
        (of_range.as_str(), (400, "invalid_cursor", "cursor")),
        ("cursor=AAAA", (400, "invalid_cursor", "cursor")),
        ("limit=0", (400, "invalid_query", "limit")),
        ("limit=100001", (400, "invalid_query", "limit")),
        ("size=2", (400, "invalid_query", "size")),
    ] {
        assert_eq!(problem(&verify(query).await), expected, "{query}");
    }
    assert_eq!(daemon.stop().await.code, 0);
}

/// Changes an entry as no part of the program does.
async fn tamper(daemon: &Daemon, postgres: &Postgres, url: &str, id: &str) {
    if url.starts_with("sqlite") {
        let file = daemon.directory().join("dotmac.db");
        use diesel::{Connection as _, connection::SimpleConnection as _};
        let sqlite = diesel::SqliteConnection::establish(file.to_str().unwrap());
        let sql = format!(
            "PRAGMA busy_timeout = 10000; DROP TRIGGER audit_entry_append_only; \
             UPDATE audit_entry SET action = 'note_keep' WHERE id = '{id}';"
        );
        sqlite.unwrap().batch_execute(&sql).unwrap();
        return;
    }
    for sql in [
        "ALTER TABLE audit_entry DISABLE TRIGGER append_only".to_owned(),
        format!("UPDATE audit_entry SET action = 'note_keep' WHERE id = '{id}'"),
    ] {
        postgres.query(&sql).await;
    }
}

/// An export is a file: complete, verified by the command and its key, and not by another.
#[tokio::test]
async fn an_export_is_a_file_that_is_verified_without_the_database() {
    let daemon = signed_notes("sqlite:dotmac.db").spawn().await;
    daemon.until("/ready", 200).await;
    let client = Client {
        daemon: &daemon,
        token: TOKEN,
    };
    client.add_note().await;
    client.entries("resource=notes.note", 1).await;
    let request = client.request(Method::POST, &format!("{AUDIT}/exports"));
    let file = request.json(&json!({})).send().await.unwrap();
    assert_eq!(file.status(), 200);
    let header = |name: &str| file.headers()[name].to_str().unwrap().to_owned();
    assert_eq!(header("content-type"), "application/x-ndjson");
    assert_eq!(header("cache-control"), "no-store");
    let name = header("content-disposition");
    assert!(
        name.starts_with(&format!("attachment; filename=\"audit-{TENANT}-")),
        "{name}"
    );
    let text = file.text().await.unwrap();
    assert!(
        text.lines().last().unwrap().starts_with("{\"end\":"),
        "{text}"
    );
    std::fs::write(daemon.directory().join("export.ndjson"), &text).unwrap();
    let cut = text.rsplit_once("{\"end\":").unwrap().0;
    std::fs::write(daemon.directory().join("cut.ndjson"), cut).unwrap();

    std::fs::write(daemon.directory().join("more.ndjson"), text.clone() + &text).unwrap();

    // Without a database: a directory of its own.
    let elsewhere = async |arguments: &[&str]| {
        let program = notes().env("DOTMAC_DATABASE_URL", "sqlite:absent.db");
        program.run_in(daemon.directory(), arguments).await
    };
    let verified = elsewhere(&["audit", "verify", "export.ndjson"]).await;
    assert_eq!(verified.code, 0, "{}", verified.text());
    let public = verified.text();
    let public = public
        .split("public key ")
        .nth(1)
        .and_then(|it| it.lines().next())
        .unwrap()
        .to_owned();
    for (arguments, code) in [
        (
            vec!["audit", "verify", "export.ndjson", "--key", &public],
            0,
        ),
        (vec!["audit", "verify", "export.ndjson", "--key", "00ff"], 1),
        (vec!["audit", "verify", "more.ndjson"], 1),
        (vec!["audit", "verify", "cut.ndjson"], 1),
        (vec!["audit", "verify", "absent.ndjson"], 1),
        (vec!["audit", "verify"], 69),
    ] {
        let ended = elsewhere(&arguments).await;
        assert_eq!(ended.code, code, "{arguments:?} {}", ended.text());
    }
    client.entries("resource=audit.export", 1).await;
    // Both the reading of the file and that of the command are recorded.
    let listed = signed_notes("sqlite:dotmac.db");
    let listed = listed
        .run_in(
            daemon.directory(),
            &[
                "audit",
                "list",
                "--tenant",
                TENANT,
                "--resource",
                "audit.export",
            ],
        )
        .await;
    assert_eq!(listed.code, 0, "{}", listed.text());
    client
        .entries(
            "actor=system:show%20audit%20entries%20to%20an%20operator",
            1,
        )
        .await;
    assert_eq!(daemon.stop().await.code, 0);
}

/// Without a master key the log goes on, and says that nothing is signed.
#[tokio::test]
async fn without_a_master_key_checkpoints_are_not_signed() {
    let daemon = notes().spawn().await;
    daemon.until("/ready", 200).await;
    daemon
        .logged("checkpoints of the audit log are not signed")
        .await;
    let client = Client {
        daemon: &daemon,
        token: TOKEN,
    };
    client.add_note().await;
    let checkpoint = eventually("a checkpoint", || async {
        let (_, page) = client.get(&format!("{AUDIT}/checkpoints")).await;
        page["items"].get(0).cloned()
    })
    .await;
    assert_eq!(
        (
            &checkpoint["number"],
            &checkpoint["key"],
            &checkpoint["signature"]
        ),
        (&json!(1), &Value::Null, &Value::Null)
    );
    let (_, verified) = client.get(&format!("{AUDIT}/verify")).await;
    assert_eq!(
        (
            &verified["valid"],
            &verified["signed"],
            &verified["unchecked"]
        ),
        (&json!(true), &Value::Null, &json!(false))
    );
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
