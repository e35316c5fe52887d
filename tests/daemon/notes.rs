//! `examples/notes`: a service with its own table, as a client, an operator and a power cut see it.

use std::{
    collections::BTreeSet,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use serde_json::{Value, json};

use crate::support::{
    Daemon, Postgres, built, collector::Collector, daemon::Builder, eventually, sqlite,
};

pub const NOTES: &str = "/api/v1/notes";
pub const TOKEN: &str = "correct-horse";

/// The example `notes`, whose callers bring [`TOKEN`].
pub fn notes() -> Builder {
    Daemon::program(built("notes")).env("DOTMAC_NOTES_TOKEN", TOKEN)
}

/// Status and JSON of what a caller with the token gets.
async fn ask(daemon: &Daemon, path: &str) -> (u16, Value) {
    let request = daemon.client.get(format!("{}{path}", daemon.base));
    let answer = request.bearer_auth(TOKEN).send().await.unwrap();
    (
        answer.status().as_u16(),
        answer.json().await.unwrap_or_default(),
    )
}

async fn add(daemon: &Daemon, text: &str) -> Option<Value> {
    let added = daemon
        .client
        .post(format!("{}{NOTES}", daemon.base))
        .bearer_auth(TOKEN)
        .json(&json!({"text": text, "tags": ["a", "b"]}))
        .send()
        .await
        .ok()?;
    if added.status() != 201 {
        return None;
    }
    added.json().await.ok()
}

#[tokio::test]
async fn ids_moments_and_json_come_back_the_same_from_both_back_ends() {
    let postgres = Postgres::start().await;
    for url in ["sqlite:dotmac.db".to_owned(), postgres.url()] {
        let daemon = notes().env("DOTMAC_DATABASE_URL", url).spawn().await;
        daemon.until("/ready", 200).await;
        let first = add(&daemon, "first").await.unwrap();
        let second = add(&daemon, "it's; the second").await.unwrap();
        assert!(first["id"].as_str() < second["id"].as_str(), "ids sort");
        let path = format!("{NOTES}/{}", first["id"].as_str().unwrap());
        assert_eq!(ask(&daemon, &path).await, (200, first.clone()));
        let all = json!({ "items": [second, first], "next_cursor": null });
        assert_eq!(ask(&daemon, NOTES).await.1, all);
        let page = ask(&daemon, &format!("{NOTES}?sort=created_at&limit=1"))
            .await
            .1;
        assert_eq!(page["items"], json!([first]));
        let cursor = page["next_cursor"].as_str().unwrap();
        let next = format!("{NOTES}?limit=1&cursor={cursor}&sort=");
        let last = ask(&daemon, &format!("{next}created_at")).await.1;
        assert_eq!(last, json!({ "items": [second], "next_cursor": null }));
        let refused = ask(&daemon, &format!("{next}-created_at")).await;
        assert_eq!(
            (refused.0, &refused.1["code"]),
            (400, &json!("invalid_cursor"))
        );
        let nobody = format!("{NOTES}/01a20636-b121-751a-810f-0b072ab9afed");
        assert_eq!(ask(&daemon, &nobody).await.0, 404);
        assert_eq!(ask(&daemon, &format!("{NOTES}/nonsense")).await.0, 400);
        let statements = eventually("statements to be measured", || async {
            let text = daemon.get("/metrics").await.text().await.ok()?;
            text.contains(r#"db_collection_name="note",db_operation_name="INSERT""#)
                .then_some(text)
        })
        .await;
        assert!(!statements.contains("it's"), "no value in a metric");
    }
}

/// The daemon ignores migrations of another program's modules, and of a disabled module.
#[tokio::test]
async fn the_daemon_takes_a_database_that_notes_migrated() {
    let postgres = Postgres::start().await;
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("test.db");
    for url in [format!("sqlite:{}", file.display()), postgres.url()] {
        let on = |builder: Builder| builder.env("DOTMAC_DATABASE_URL", &url);
        let migrated = on(notes()).run(&["migrate", "up"]).await;
        assert_eq!(migrated.code, 0, "{}", migrated.text());
        let up = on(Daemon::builder()).run(&["migrate", "up"]).await;
        assert_eq!(up.code, 0, "{}", up.text());
        let status = on(Daemon::builder()).run(&["migrate", "status"]).await;
        assert_eq!(status.code, 0, "{}", status.text());
        let absent = "notes: 2 applied, not part of this program";
        assert!(status.text().contains(absent), "{}", status.text());
        for builder in [
            Daemon::builder(),
            notes().env("DOTMAC_NOTES_ENABLED", "false"),
        ] {
            let daemon = on(builder).spawn().await;
            daemon.until("/ready", 200).await;
            assert_eq!(daemon.stop().await.code, 0);
        }
        let status = on(notes()).run(&["migrate", "status"]).await;
        assert_eq!(status.code, 0, "{}", status.text());
        assert!(status.text().contains("notes: 2 applied, 0 pending"));
        let named = "  applied 2026-11-28-230000_notes";
        assert!(status.text().contains(named), "{}", status.text());
    }
}

#[tokio::test]
async fn a_slow_statement_is_logged_with_its_request_and_without_values() {
    let daemon = notes()
        .env("DOTMAC_DATABASE_SLOW_QUERY", "1ms")
        .spawn()
        .await;
    daemon.until("/ready", 200).await;
    // Each insert counts to 300,000, which takes at least 10 ms.
    let counting = "CREATE VIEW counted AS WITH RECURSIVE n (i) AS \
                    (VALUES (1) UNION ALL SELECT i + 1 FROM n WHERE i < 300000) SELECT max(i) AS i FROM n; \
                    CREATE TRIGGER counting AFTER INSERT ON note BEGIN SELECT i FROM counted; END";
    sqlite::execute(&daemon.directory().join("dotmac.db"), counting);
    add(&daemon, "hunter2").await.unwrap();
    let line = eventually("a slow statement", || async {
        daemon.log().into_iter().find(|line| {
            let is_insert = line["statement"]
                .as_str()
                .is_some_and(|it| it.contains("INSERT INTO"));
            line["message"] == "slow statement" && line["table"] == "note" && is_insert
        })
    })
    .await;
    assert!(line["duration_ms"].as_u64().is_some(), "{line}");
    assert!(line["request_id"].is_string(), "{line}");
    assert!(!daemon.lines().join("\n").contains("hunter2"));
}

fn kept(directory: &Path) -> BTreeSet<String> {
    use diesel::{Connection as _, QueryableByName, RunQueryDsl as _, sql_query, sql_types::Text};
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = Text)]
        value: String,
    }
    let file = directory.join("dotmac.db");
    let mut connection = diesel::SqliteConnection::establish(file.to_str().unwrap()).unwrap();
    let mut texts = |query: &str| -> BTreeSet<String> {
        let rows: Vec<Row> = sql_query(query).load(&mut connection).unwrap();
        rows.into_iter().map(|row| row.value).collect()
    };
    let check = texts("SELECT integrity_check AS value FROM pragma_integrity_check");
    assert_eq!(check, BTreeSet::from(["ok".to_owned()]));
    texts("SELECT text AS value FROM note")
}

/// `DOTMAC_FAULT_ROUNDS` says how often; `make faults` does it 100 times.
#[tokio::test]
async fn no_acknowledged_write_is_lost_when_the_process_is_killed_under_load() {
    let rounds = std::env::var("DOTMAC_FAULT_ROUNDS").map_or(5, |rounds| rounds.parse().unwrap());
    let mut directory = tempfile::tempdir().unwrap();
    let mut acknowledged = BTreeSet::new();
    for round in 0..rounds {
        let daemon = notes().spawn_in(directory).await;
        daemon.until("/ready", 200).await;
        let (client, base) = (daemon.client.clone(), daemon.base.clone());
        let written = Arc::new(AtomicBool::new(false));
        let writers: Vec<_> = (0..4)
            .map(|writer| {
                let (client, url) = (client.clone(), format!("{base}{NOTES}"));
                let written = Arc::clone(&written);
                tokio::spawn(async move {
                    let mut acknowledged = Vec::new();
                    for n in 0.. {
                        let text = format!("{round} {writer} {n}");
                        let note = json!({ "text": text });
                        match client
                            .post(&url)
                            .bearer_auth(TOKEN)
                            .json(&note)
                            .send()
                            .await
                        {
                            Ok(added) if added.status() == 201 => acknowledged.push(text),
                            _ => break,
                        }
                        written.store(true, Ordering::Relaxed);
                    }
                    acknowledged
                })
            })
            .collect();
        eventually("a write", || async {
            written.load(Ordering::Relaxed).then_some(())
        })
        .await;
        // Some time under load, another one in each round.
        tokio::time::sleep(std::time::Duration::from_millis(50 + round % 10 * 20)).await;
        directory = daemon.kill();
        for writer in writers {
            acknowledged.extend(writer.await.unwrap());
        }
        let kept = kept(directory.path());
        let lost: Vec<_> = acknowledged.difference(&kept).collect();
        assert!(lost.is_empty(), "round {round}: {lost:?} are lost");
    }
    println!("{rounds} times killed, {} writes", acknowledged.len());
    assert!(acknowledged.len() as u64 >= rounds);
}

#[tokio::test]
async fn a_backup_of_a_running_daemon_is_made_by_a_command() {
    let daemon = notes().spawn().await;
    daemon.until("/ready", 200).await;
    add(&daemon, "kept").await.unwrap();
    let copied = Daemon::builder()
        .run_in(daemon.directory(), &["backup", "copy.db"])
        .await;
    assert_eq!(copied.code, 0, "{}", copied.text());
    assert!(copied.text().contains("checked"), "{}", copied.text());
    let again = Daemon::builder()
        .run_in(daemon.directory(), &["backup", "copy.db"])
        .await;
    assert_eq!(again.code, 69, "{}", again.text());

    // Restored as docs/operations.md says, over a database that ended badly.
    add(&daemon, "too late").await.unwrap();
    let directory = daemon.kill();
    let file = |name: &str| directory.path().join(name);
    std::fs::rename(file("copy.db"), file("dotmac.db")).unwrap();
    for left in ["dotmac.db-wal", "dotmac.db-shm"] {
        std::fs::remove_file(file(left)).unwrap();
    }
    let restored = notes().spawn_in(directory).await;
    restored.until("/ready", 200).await;
    let notes = ask(&restored, NOTES).await.1["items"].take();
    assert_eq!(notes.as_array().map(Vec::len), Some(1), "{notes}");
    assert_eq!(notes[0]["text"], "kept");
}

#[tokio::test]
async fn each_statement_is_a_span_in_the_trace_of_its_request_on_both_back_ends() {
    let postgres = Postgres::start().await;
    for (url, system) in [
        ("sqlite:dotmac.db".to_owned(), "sqlite"),
        (postgres.url(), "postgresql"),
    ] {
        let collector = Collector::start().await;
        let daemon = notes()
            .env("DOTMAC_DATABASE_URL", url)
            .env("DOTMAC_TELEMETRY_OTLP_ENDPOINT", collector.endpoint())
            .spawn()
            .await;
        daemon.until("/ready", 200).await;
        let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
        let added = daemon
            .client
            .post(format!("{}{NOTES}", daemon.base))
            .bearer_auth(TOKEN)
            .header("traceparent", format!("00-{trace}-00f067aa0ba902b7-01"))
            .json(&json!({ "text": "hunter2" }))
            .send()
            .await
            .unwrap();
        assert_eq!(added.status(), 201);
        assert_eq!(daemon.stop().await.code, 0);
        let text = eventually("the span of the statement", || async {
            let text = collector.text();
            text.split("Span #")
                .find(|span| span.contains("INSERT note") && span.contains(trace))
                .map(str::to_owned)
        })
        .await;
        for part in [system, "db.collection.name", "db.operation.name"] {
            assert!(text.contains(part), "no {part} in {text}");
        }
        assert!(!collector.text().contains("hunter2"));
    }
}

/// Adds a note with an idempotency key; the whole answer.
async fn add_once(daemon: &Daemon, key: &str, text: &str) -> reqwest::Response {
    let request = daemon.client.post(format!("{}{NOTES}", daemon.base));
    let request = request.bearer_auth(TOKEN).header("idempotency-key", key);
    let sent = request.json(&json!({ "text": text })).send();
    sent.await.unwrap()
}

/// Status, replayed or not, `Location` and body.
async fn parts(answer: reqwest::Response) -> (u16, bool, Option<String>, Value) {
    let header = |name: &str| {
        let value = answer.headers().get(name)?;
        Some(value.to_str().unwrap().to_owned())
    };
    let (replayed, location) = (header("idempotent-replayed"), header("location"));
    let status = answer.status().as_u16();
    let body = answer.json().await.unwrap_or_default();
    (status, replayed.as_deref() == Some("true"), location, body)
}

#[tokio::test]
async fn a_repeated_request_has_its_effect_once_on_two_instances_and_after_a_crash() {
    let postgres = Postgres::start().await;
    let instance = || notes().env("DOTMAC_DATABASE_URL", postgres.url());
    let (one, two) = (instance().spawn().await, instance().spawn().await);
    one.until("/ready", 200).await;
    two.until("/ready", 200).await;

    // Many at once, on both: one is executed, the others get its answer or 409.
    let many = (0..10).flat_map(|_| [&one, &two].map(|at| add_once(at, "many", "once")));
    let mut created = 0;
    for answer in futures_util::future::join_all(many).await {
        match parts(answer).await {
            (201, false, ..) => created += 1,
            (201, true, ..) => {}
            (409, _, _, problem) => assert_eq!(problem["code"], "idempotency_in_progress"),
            // A loaded machine has no connection in time.
            (503, ..) => {}
            other => panic!("{other:?}"),
        }
    }
    assert!(created <= 1, "{created}");
    let (location, first) = eventually("the answer to be kept", || async {
        match parts(add_once(&two, "many", "once").await).await {
            (201, replayed, location, first) => {
                (replayed || created == 0).then_some((location, first))
            }
            _ => None,
        }
    })
    .await;
    assert_eq!(
        ask(&two, NOTES).await.1["items"].as_array().map(Vec::len),
        Some(1)
    );
    let path = format!("{NOTES}/{}", first["id"].as_str().unwrap());
    assert_eq!(location.as_deref(), Some(path.as_str()));
    let other = parts(add_once(&one, "many", "another text").await).await;
    assert_eq!(
        (other.0, &other.3["code"]),
        (422, &json!("idempotency_mismatch"))
    );

    // Failures are not kept.
    let refused = parts(add_once(&one, "failed", "").await).await;
    assert_eq!((refused.0, &refused.3["code"]), (422, &json!("validation")));
    assert_eq!(parts(add_once(&two, "failed", "better").await).await.0, 201);
    let invalid = parts(add_once(&one, "with space", "text").await).await;
    assert_eq!(invalid.0, 400);
    assert_eq!(invalid.3["errors"][0]["field"], "Idempotency-Key");

    drop((one.kill(), two.kill()));
    let three = instance().spawn().await;
    three.until("/ready", 200).await;
    let (status, replayed, _, again) = parts(add_once(&three, "many", "once").await).await;
    assert_eq!((status, replayed, &again), (201, true, &first));
    assert_eq!(
        ask(&three, NOTES).await.1["items"].as_array().map(Vec::len),
        Some(2)
    );
}
