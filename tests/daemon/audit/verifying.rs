//! Whether the chain is right: tampering is found, parts and exports are verified, and what is not signed says so.

use reqwest::Method;
use serde_json::{Value, json};

use super::{AUDIT, TENANT, signed_notes};
use crate::{
    events::{Client, problem},
    notes::{TOKEN, notes},
    support::{Daemon, Postgres, eventually},
};

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

/// What the log has of them is compared with a database that may have been changed.
#[tokio::test]
async fn checkpoints_are_in_the_log_whatever_its_level() {
    let daemon = notes()
        // But for its address.
        .env(
            "DOTMAC_TELEMETRY_LOG_LEVEL",
            "warn,dotmac_platform::run=info",
        )
        .spawn()
        .await;
    daemon.until("/ready", 200).await;
    let client = Client {
        daemon: &daemon,
        token: TOKEN,
    };
    client.add_note().await;
    let line = daemon.logged("audit checkpoint: the chain of tenant").await;
    assert_eq!(line["target"], "dotmac::evidence", "{line}");
    let checkpoint: Value = serde_json::from_str(line["checkpoint"].as_str().unwrap()).unwrap();
    assert_eq!(checkpoint["checkpoint"]["number"], line["number"], "{line}");
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
