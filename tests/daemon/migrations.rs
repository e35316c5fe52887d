//! The schema at the start: one process at a time brings it up to date, and what does not suit it refuses to start.

use crate::support::{Daemon, Postgres, daemon::Stopped, files};

#[tokio::test]
async fn three_daemons_at_once_migrate_once() {
    let postgres = Postgres::start().await;
    let start = || async {
        Daemon::builder()
            .env("DOTMAC_DATABASE_URL", postgres.url())
            .spawn()
            .await
    };
    let (one, two, three) = tokio::join!(start(), start(), start());
    for daemon in [&one, &two, &three] {
        daemon.until("/ready", 200).await;
    }
    let applied = postgres
        .query("SELECT count(*) FROM __diesel_schema_migrations")
        .await;
    let places = [
        "migrations/postgres",
        "actors/durable/migrations/postgres",
        "services/accounts/migrations/postgres",
        "services/webhooks/migrations/postgres",
        "services/notifications/migrations/postgres",
        "services/files/migrations/postgres",
    ];
    let migrations = files(&places, "sql");
    let ups = migrations.iter().filter(|file| file.ends_with("up.sql"));
    assert_eq!(applied, ups.count().to_string());
}

/// `DOTMAC_FAULT_BOOTS` says how often; `make faults` does it 200 times.
#[tokio::test]
async fn of_three_replicas_at_their_first_boot_one_migrates_and_none_fails() {
    let boots = std::env::var("DOTMAC_FAULT_BOOTS").map_or(5, |boots| boots.parse().unwrap());
    let postgres = Postgres::start().await;
    for boot in 0..boots {
        postgres
            .query(&format!("CREATE DATABASE boot{boot} OWNER dotmac"))
            .await;
        let url = postgres.url();
        let (server, _) = url.rsplit_once('/').unwrap();
        let url = format!("{server}/boot{boot}");
        let start = || async {
            let builder = Daemon::builder().env("DOTMAC_DATABASE_URL", &url);
            builder.env("DOTMAC_WORKERS", 1).spawn().await
        };
        let (one, two, three) = tokio::join!(start(), start(), start());
        let mut migrated = 0;
        for daemon in [one, two, three] {
            daemon.until("/ready", 200).await;
            let log = daemon.lines().join("\n");
            migrated += usize::from(log.contains("\"migrations\":\"2026"));
            assert!(!log.contains("\"ERROR\""), "{log}");
        }
        assert_eq!(migrated, 1, "boot {boot}");
        postgres
            .query(&format!("DROP DATABASE boot{boot} WITH (FORCE)"))
            .await;
    }
    println!("{boots} first boots of three replicas");
}

#[tokio::test]
async fn a_replica_that_waits_for_another_says_migrating_and_stays_live() {
    let postgres = Postgres::start().await;
    let lock = tokio_postgres::connect(&postgres.url(), tokio_postgres::NoTls).await;
    let (holder, connection) = lock.unwrap();
    let driver = tokio::spawn(connection);
    holder
        .simple_query("SELECT pg_advisory_lock(110429857472867)")
        .await
        .unwrap();
    let daemon = Daemon::builder()
        .env("DOTMAC_DATABASE_URL", postgres.url())
        .spawn()
        .await;
    daemon
        .until_component("db", "starting", Some("migrating"))
        .await;
    assert_eq!(daemon.get("/health").await.status(), 200);
    drop(holder);
    driver.await.unwrap().unwrap();
    daemon.until("/ready", 200).await;
}

/// Asserts that a daemon ended with 69, and that its last ERROR line says why, in `words`.
fn assert_refused(stopped: &Stopped, words: &[&str]) {
    assert_eq!(stopped.code, 69, "{}", stopped.text());
    let line = stopped.last_error();
    assert_eq!(line["target"], "dotmac::exit", "{line}");
    let message = line["message"].as_str().unwrap();
    assert!(words.iter().all(|word| message.contains(word)), "{message}");
}

const NEWER: &str = "INSERT INTO __diesel_schema_migrations (version) VALUES ('20990101000000')";
const COMPATIBLE: &str = "INSERT INTO schema_compatible (version) VALUES ('20990101000000')";

#[tokio::test]
async fn a_newer_schema_is_a_reason_not_to_start_unless_it_is_marked_as_compatible() {
    let postgres = Postgres::start().await;
    let builder = || Daemon::builder().env("DOTMAC_DATABASE_URL", postgres.url());
    let check = || builder().env("DOTMAC_DATABASE_MIGRATE", "check");
    assert_eq!(builder().run(&["migrate"]).await.code, 0);
    postgres.query(NEWER).await;
    let status = builder().run(&["migrate", "status"]).await;
    assert_eq!(status.code, 1, "{}", status.text());
    for builder in [builder(), check()] {
        let words = ["schema_newer", "20990101000000", "run the newer program"];
        assert_refused(&builder.run(&[]).await, &words);
    }
    postgres.query(COMPATIBLE).await;
    for builder in [builder(), check()] {
        let daemon = builder.spawn().await;
        daemon.until("/ready", 200).await;
        daemon.logged("they are marked as compatible").await;
    }
}

#[tokio::test]
async fn a_schema_that_becomes_newer_under_a_running_daemon_does_not_end_it() {
    let postgres = Postgres::start().await;
    let daemon = Daemon::builder()
        .env("DOTMAC_DATABASE_URL", postgres.url())
        .env("DOTMAC_ADMIN_SOCKET", "admin.sock")
        .env("DOTMAC_SUPERVISION_BACKOFF_MAX", "500ms")
        .spawn()
        .await;
    daemon.until("/ready", 200).await;
    postgres.query(NEWER).await;
    let asked = Daemon::builder()
        .env("DOTMAC_ADMIN_SOCKET", "admin.sock")
        .run_in(daemon.directory(), &["restart", "db"])
        .await;
    assert_eq!(asked.code, 0, "{}", asked.text());
    daemon
        .until_component("db", "restarting", Some("schema_newer"))
        .await;
    assert_eq!(daemon.get("/health").await.status(), 200);
    postgres.query(COMPATIBLE).await;
    daemon.until("/ready", 200).await;
}

#[tokio::test]
async fn a_dry_run_says_what_would_be_done_and_does_nothing() {
    let postgres = Postgres::start().await;
    let run = async |arguments: &[&str]| {
        let builder = Daemon::builder().env("DOTMAC_DATABASE_URL", postgres.url());
        let ended = builder.run(arguments).await;
        assert_eq!(ended.code, 0, "{}", ended.text());
        ended.text()
    };
    let dry = run(&["migrate", "up", "--dry-run"]).await;
    assert!(
        dry.contains("would run 2026-11-22-000001_runtime_journal"),
        "{dry}"
    );
    let tables = "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'";
    assert_eq!(postgres.query(tables).await, "0");
    run(&["migrate", "up"]).await;
    let before = postgres.query(tables).await;
    let down = ["migrate", "down", "--owner", "platform", "--steps", "1"];
    let dry = run(&[&down[..], &["--dry-run"]].concat()).await;
    assert_eq!(dry, "would take back 20261128000002");
    assert_eq!(postgres.query(tables).await, before);
}

#[tokio::test]
async fn with_migrate_check_a_daemon_does_not_start_before_the_migrations() {
    let postgres = Postgres::start().await;
    let builder = || Daemon::builder().env("DOTMAC_DATABASE_URL", postgres.url());
    let check = || builder().env("DOTMAC_DATABASE_MIGRATE", "check");
    let words = [
        "migration_pending",
        "2026-11-22-000001_runtime_journal, 2026-11-24-000001_schema_compatible, \
         2026-11-28-000001_lease, 2026-11-28-000002_idempotency_key",
        "run `migrate up` with this program",
    ];
    assert_refused(&check().run(&[]).await, &words);
    let tables = "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'";
    assert_eq!(postgres.query(tables).await, "0");
    let migrated = builder().run(&["migrate", "up"]).await;
    assert_eq!(migrated.code, 0, "{}", migrated.text());
    check().spawn().await.until("/ready", 200).await;
}

#[tokio::test]
async fn with_migrate_check_a_database_that_gives_no_answer_is_waited_for_before_it_is_judged() {
    let mut postgres = Postgres::start().await;
    postgres.kill().await;
    let daemon = Daemon::builder()
        .env("DOTMAC_DATABASE_URL", postgres.url())
        .env("DOTMAC_DATABASE_MIGRATE", "check")
        .spawn()
        .await;
    daemon
        .until_component("db", "starting", Some("unreachable"))
        .await;
    assert_eq!(daemon.get("/health").await.status(), 200);
    postgres.restart().await;
    assert_refused(&daemon.ended().await, &["migration_pending"]);
}

#[tokio::test]
async fn an_index_that_a_migration_left_unfinished_is_built_again() {
    const VALID: &str = "SELECT indisvalid FROM pg_index WHERE indexrelid = 'notification_delivery_by_id'::regclass";
    let postgres = Postgres::start().await;
    let up = async || {
        let builder = Daemon::builder().env("DOTMAC_DATABASE_URL", postgres.url());
        let done = builder.run(&["migrate", "up"]).await;
        assert_eq!(done.code, 0, "{}", done.text());
        done.text()
    };
    up().await;
    for change in [
        "DELETE FROM __diesel_schema_migrations WHERE version = 'notifications/20261129233200'",
        "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'notification_delivery_by_id'::regclass",
    ] {
        postgres.query(change).await;
    }
    assert_eq!(postgres.query(VALID).await, "f");
    let text = up().await;
    assert!(
        text.contains("ran notifications/2026-11-29-233200_delivery_by_id"),
        "{text}"
    );
    assert_eq!(postgres.query(VALID).await, "t");
}
