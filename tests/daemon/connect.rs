//! `dotmac check --connect`: what it tries, and what it says to do.

use reqwest::Method;
use serde_json::{Value, json};

use crate::{
    notes::notes,
    support::{
        Daemon, OpenBao, Postgres,
        daemon::{Builder, Stopped},
        eventually, free_port,
        openbao::ROOT_TOKEN,
        postgres::PASSWORD,
    },
};

/// A daemon set up by `deploy/openbao/set-up`.
fn equipped(bao: &OpenBao, postgres: &Postgres) -> Builder {
    let mut builder = Daemon::builder();
    for (key, value) in bao.set_up(postgres, &[]) {
        builder = builder.env(&key, value);
    }
    builder
}

#[tokio::test]
async fn with_everything_there_each_thing_is_named_and_nothing_is_left_behind() {
    let (bao, postgres) = tokio::join!(OpenBao::start(), Postgres::start());
    let checked = equipped(&bao, &postgres).run(&["check", "--connect"]).await;
    let text = checked.text();
    assert_eq!(checked.code, 0, "{text}");
    for said in [
        "initialised, unsealed, active",
        "we are `approle`, with the policies default, dotmac",
        "issues database credentials (mount `database`)",
        "leases can be revoked",
        "takes writes",
        "none is set: nothing is exported",
    ] {
        assert!(text.contains(said), "{said:?} is not in {text}");
    }
    let users = postgres
        .query("SELECT count(*) FROM pg_roles WHERE rolname LIKE 'v-%'")
        .await;
    assert_eq!(users, "0", "the user of the try is given back");
}

#[tokio::test]
async fn what_row_level_security_is_to_the_role_is_said() {
    let postgres = Postgres::start().await;
    let builder = || Daemon::builder().env("DOTMAC_DATABASE_URL", postgres.url());
    let said = async |words: &str| {
        let checked = builder().run(&["check", "--connect"]).await;
        let text = checked.text();
        assert_eq!(checked.code, 0, "{text}");
        let row = text
            .lines()
            .find(|line| line.contains("row-level security"));
        assert!(row.is_some_and(|row| row.contains(words)), "{text}");
    };
    said("holds for `dotmac`").await;
    assert_eq!(builder().run(&["migrate", "up"]).await.code, 0);
    said("owns the tables and could switch it off").await;
    for attribute in ["BYPASSRLS", "NOBYPASSRLS SUPERUSER"] {
        let sql = format!("ALTER ROLE dotmac {attribute}");
        postgres.query(&sql).await;
        said("does not hold for `dotmac`, which has SUPERUSER or BYPASSRLS").await;
    }
}

#[tokio::test]
async fn the_daemon_works_in_a_role_that_owns_nothing() {
    let postgres = Postgres::start().await;
    postgres
        .query("CREATE ROLE dotmac_owner LOGIN PASSWORD 'owner'; ALTER DATABASE dotmac OWNER TO dotmac_owner")
        .await;
    let documented = include_str!("../../docs/database.md").lines();
    let grants: Vec<&str> = documented
        .filter(|line| line.starts_with("ALTER DEFAULT PRIVILEGES"))
        .collect();
    assert_eq!(grants.len(), 3);
    postgres.query(&grants.concat()).await;
    let owner = format!(
        "postgres://dotmac_owner:owner@127.0.0.1:{}/dotmac",
        postgres.port
    );
    let migrated = Daemon::builder()
        .env("DOTMAC_DATABASE_URL", owner)
        .run(&["migrate", "up"]);
    assert_eq!(migrated.await.code, 0);
    let name = "'event_' || to_char((now() AT TIME ZONE 'UTC') + interval '1 day', 'YYYYMMDD')";
    postgres
        .query(&format!(
            "DO $$ BEGIN EXECUTE 'DROP TABLE ' || {name}; END $$"
        ))
        .await;

    let builder = || {
        Daemon::builder()
            .env("DOTMAC_DATABASE_URL", postgres.url())
            .env("DOTMAC_DATABASE_MIGRATE", "check")
    };
    let checked = builder().run(&["check", "--connect"]).await;
    assert!(
        checked.text().contains("holds for `dotmac`\n"),
        "{}",
        checked.text()
    );
    let daemon = builder().spawn().await;
    let partition = format!("SELECT to_regclass({name}) IS NOT NULL");
    eventually("tomorrow's partition of the event log", || async {
        (postgres.query(&partition).await == "t").then_some(())
    })
    .await;
    let may = "SELECT has_function_privilege('public', 'event_partition_drop(date)', 'EXECUTE')";
    assert_eq!(postgres.query(may).await, "f", "no other role may call it");
    let made = builder()
        .run(&["user", "create-admin", "--email", "admin@example.com"])
        .await;
    assert_eq!(made.code, 0, "{}", made.text());
    eventually("all components to be ready", || async {
        let (_, body) = daemon.json("/ready").await;
        let components = body["components"].as_object()?.clone();
        components
            .values()
            .all(|it| it["state"] == "ready")
            .then_some(())
    })
    .await;
    let entries = "SELECT count(*) > 0 FROM audit_entry JOIN event ON event.tenant_id = audit_entry.tenant_id";
    assert_eq!(postgres.query(entries).await, "t");
    assert_eq!(daemon.stop().await.code, 0);
}

/// Whether a daemon could start that has its database's password from `team/db` by `token`.
async fn check_with_secret(bao: &OpenBao, postgres: &Postgres, token: impl ToString) -> Stopped {
    Daemon::builder()
        .env("DOTMAC_VAULT_ADDR", bao.address())
        .env("DOTMAC_VAULT_TOKEN", token)
        .env(
            "DOTMAC_DATABASE_URL",
            format!("postgres://dotmac@127.0.0.1:{}/dotmac", postgres.port),
        )
        .env("DOTMAC_DATABASE_PASSWORD", "vault:team/db#pw")
        .run(&["check", "--connect"])
        .await
}

#[tokio::test]
async fn a_policy_that_lacks_a_line_is_reported_with_the_line() {
    let (bao, postgres) = tokio::join!(OpenBao::start(), Postgres::start());
    let builder = equipped(&bao, &postgres);
    let policy = r#"path "database/creds/dotmac" { capabilities = ["read"] }"#;
    bao.call(
        Method::PUT,
        "sys/policies/acl/dotmac",
        json!({ "policy": policy }),
    )
    .await;
    let checked = builder.run(&["check", "--connect"]).await;
    let text = checked.text();
    assert_eq!(checked.code, 69, "{text}");
    assert!(
        text.contains(r#"path "sys/leases/revoke" { capabilities = ["update"] }"#),
        "{text}"
    );

    bao.write("team/db", "pw", "a password").await;
    let checked = check_with_secret(&bao, &postgres, limited_token(&bao).await).await;
    let text = checked.text();
    assert_eq!(checked.code, 69, "{text}");
    // The engine's version is requested first, and a caller without permission below the mount may not request it.
    assert!(text.contains("FAILED  secret team/db"), "{text}");
    assert!(
        text.contains(r#"path "secret/data/team/db" { capabilities = ["read"] }"#),
        "{text}"
    );
    assert!(!text.contains("a password"), "{text}");
}

#[tokio::test]
async fn a_readable_secret_is_reported_with_its_version() {
    let (bao, postgres) = tokio::join!(OpenBao::start(), Postgres::start());
    for value in ["not the one any more", PASSWORD] {
        bao.write("team/db", "pw", value).await;
    }
    let checked = check_with_secret(&bao, &postgres, ROOT_TOKEN).await;
    let text = checked.text();
    assert_eq!(checked.code, 0, "{text}");
    let said = "readable, for DOTMAC_DATABASE_PASSWORD, version 2";
    assert!(text.contains(said), "{text}");
}

async fn limited_token(bao: &OpenBao) -> String {
    let made = bao
        .call(
            Method::POST,
            "auth/token/create",
            json!({ "policies": ["dotmac"] }),
        )
        .await;
    made["auth"]["client_token"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn sealed_absent_and_wrongly_named_are_distinguished() {
    let (mut bao, postgres) = tokio::join!(OpenBao::start(), Postgres::start());
    let settings = bao.set_up(&postgres, &[]);
    let check = async |variables: &[(&str, &str)]| {
        let mut builder = Daemon::builder();
        for (key, value) in &settings {
            builder = builder.env(key, value);
        }
        for (key, value) in variables {
            builder = builder.env(key, value);
        }
        let checked = builder.run(&["check", "--connect"]).await;
        assert_eq!(checked.code, 69, "{}", checked.text());
        checked.text()
    };
    let text = check(&[("DOTMAC_VAULT_NAMESPACE", "tema")]).await;
    assert!(text.contains("no namespace `tema`"), "{text}");
    let text = check(&[("DOTMAC_VAULT_SECRET_ID", "something-else-entirely")]).await;
    assert!(text.contains("the AppRole was refused"), "{text}");
    let text = check(&[("DOTMAC_DATABASE_VAULT_MOUNT", "databases")]).await;
    assert!(text.contains("databases"), "{text}");
    let port = free_port();
    let endpoint = format!("http://127.0.0.1:{port}");
    let text = check(&[("DOTMAC_TELEMETRY_OTLP_ENDPOINT", &endpoint)]).await;
    assert!(text.contains("DOTMAC_TELEMETRY_OTLP_ENDPOINT"), "{text}");
    bao.call(Method::PUT, "sys/seal", Value::Null).await;
    let text = check(&[]).await;
    assert!(text.contains("sealed; unseal it"), "{text}");
    bao.kill();
    let text = check(&[]).await;
    assert!(text.contains("FAILED  vault reachable"), "{text}");
    assert!(text.contains("refused"), "{text}");
}

#[tokio::test]
async fn mistakes_in_the_settings_come_first() {
    let checked = Daemon::builder()
        .env("DOTMAC_DATABASE_VAULT_ROLE", "dotmac")
        .run(&["check", "--connect"])
        .await;
    assert_eq!(checked.code, 78, "{}", checked.text());
}

/// `notes`, whose migrations are not run at a start.
fn unmigrated(postgres: &Postgres) -> Builder {
    notes()
        .env("DOTMAC_DATABASE_URL", postgres.url())
        .env("DOTMAC_DATABASE_MIGRATE", "check")
}

#[tokio::test]
async fn migrations_that_are_pending_are_named_with_what_becomes_of_them() {
    let postgres = Postgres::start().await;
    let check = async |builder: Builder, code| {
        let checked = builder.run(&["check", "--connect"]).await;
        assert_eq!(checked.code, code, "{}", checked.text());
        checked.text()
    };
    let text = check(unmigrated(&postgres), 69).await;
    for said in [
        "FAILED  database schema",
        "notes/2026-11-28-230000_notes",
        "run `migrate up`",
    ] {
        assert!(text.contains(said), "{said:?} is not in {text}");
    }
    let auto = unmigrated(&postgres).env("DOTMAC_DATABASE_MIGRATE", "auto");
    let text = check(auto, 0).await;
    assert!(text.contains("pending, and run at the start: "), "{text}");
    let up = unmigrated(&postgres).run(&["migrate", "up"]).await;
    assert_eq!(up.code, 0, "{}", up.text());
    let text = check(unmigrated(&postgres), 0).await;
    assert!(text.contains("the schema is up to date"), "{text}");
}

#[tokio::test]
async fn a_secret_that_lists_need_and_vault_lacks_is_named_and_production_does_not_start() {
    let (bao, postgres) = tokio::join!(OpenBao::start(), Postgres::start());
    bao.write(
        "notes/token",
        "value",
        "a-token-that-is-long-and-random-9b1f",
    )
    .await;
    let builder = || {
        let url = format!("postgres://127.0.0.1:{}/dotmac", postgres.port);
        notes()
            .env("DOTMAC_NOTES_TOKEN", "")
            .env("DOTMAC_VAULT_ADDR", bao.address())
            .env("DOTMAC_VAULT_TOKEN", ROOT_TOKEN)
            .env("DOTMAC_DATABASE_URL", url)
            .env("DOTMAC_DATABASE_USERNAME", "dotmac")
            .env("DOTMAC_DATABASE_PASSWORD", PASSWORD)
    };
    let daemon = builder().spawn().await;
    let line = daemon.logged("DOTMAC_APP_SECRET_KEY").await;
    assert_eq!(line["level"], "WARN", "{line}");
    assert!(line.to_string().contains("`app/secret_key`"), "{line}");
    daemon.until("/ready", 200).await;

    let token = "0123456789abcdef01234567";
    let root = json!({ "id": token, "policies": ["root"] });
    bao.call(Method::POST, "auth/token/create", root).await;
    let stopped = builder()
        .env("DOTMAC_ENVIRONMENT", "production")
        .env("DOTMAC_VAULT_TOKEN", token)
        .env("DOTMAC_DATABASE_URL", "sqlite:dotmac.db")
        .env("DOTMAC_DATABASE_USERNAME", "")
        .env("DOTMAC_DATABASE_PASSWORD", "")
        .env("DOTMAC_DATABASE_ALLOW_SQLITE", "true")
        .env("DOTMAC_SUPERVISION_START_TIMEOUT", "1500ms")
        .run(&[])
        .await;
    assert_eq!(stopped.code, 69, "{}", stopped.text());
    let named = "no secret for `DOTMAC_APP_SECRET_KEY`";
    assert!(stopped.text().contains(named), "{}", stopped.text());

    bao.write("app/secret_key", "value", &"k".repeat(40)).await;
    let checked = builder().run(&["check", "--connect"]).await;
    assert_eq!(checked.code, 0, "{}", checked.text());
}
