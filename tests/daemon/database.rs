//! Databases that are late, go away, hang, come back, or are none.

use std::{fs, path::Path};

use crate::support::{
    Daemon, Postgres,
    daemon::{JOURNALED, Stopped},
    eventually, files,
    sqlite::damage,
    tls::certificates,
};

#[tokio::test]
async fn the_daemon_becomes_ready_by_itself_when_postgresql_comes_up() {
    let mut postgres = Postgres::start().await;
    postgres.kill().await;
    let daemon = Daemon::builder()
        .env("DOTMAC_DATABASE_URL", postgres.url())
        .spawn()
        .await;
    daemon
        .until_component("db", "starting", Some("unreachable"))
        .await;
    postgres.restart().await;
    let body = daemon.until("/ready", 200).await;
    assert_eq!(body["components"]["db"]["source"], "postgresql");
    assert_eq!(
        body["components"]["db"]["restarts"], 0,
        "an absent database is no fault of the actor: {body}"
    );
}

#[tokio::test]
async fn a_killed_postgresql_makes_it_not_ready_and_its_return_ready_again() {
    let mut postgres = Postgres::start().await;
    let daemon = Daemon::builder()
        .env("DOTMAC_DATABASE_URL", postgres.url())
        .spawn()
        .await;
    daemon.until("/ready", 200).await;
    postgres.kill().await;
    daemon
        .until_component("db", "unavailable", Some("unreachable"))
        .await;
    assert_eq!(daemon.get("/health").await.status(), 200);
    postgres.restart().await;
    daemon.until("/ready", 200).await;
    daemon.logged("database available again").await;
}

#[tokio::test]
async fn a_frozen_postgresql_is_noticed_and_forgiven() {
    let postgres = Postgres::start().await;
    let daemon = Daemon::builder()
        .env("DOTMAC_DATABASE_URL", postgres.url())
        .spawn()
        .await;
    daemon.until("/ready", 200).await;
    postgres.freeze();
    daemon.until("/ready", 503).await;
    postgres.thaw();
    daemon.until("/ready", 200).await;
}

#[tokio::test]
async fn a_read_only_postgresql_is_not_ready() {
    let postgres = Postgres::start().await;
    let daemon = Daemon::builder()
        .env("DOTMAC_DATABASE_URL", postgres.url())
        .spawn()
        .await;
    daemon.until("/ready", 200).await;
    postgres
        .query("ALTER SYSTEM SET default_transaction_read_only = on")
        .await;
    postgres.query("SELECT pg_reload_conf()").await;
    daemon
        .until_component("db", "unavailable", Some("read_only"))
        .await;
    postgres
        .query("ALTER SYSTEM RESET default_transaction_read_only")
        .await;
    postgres.query("SELECT pg_reload_conf()").await;
    daemon.until("/ready", 200).await;
}

#[tokio::test]
async fn a_wrong_password_is_named_as_such_and_never_logged() {
    let postgres = Postgres::start().await;
    let url = postgres.url().replace("correct%20horse", "battery-staple");
    let daemon = Daemon::builder()
        .env("DOTMAC_DATABASE_URL", url)
        .spawn()
        .await;
    daemon
        .until_component("db", "starting", Some("authentication_failed"))
        .await;
    assert!(!daemon.lines().join("\n").contains("battery-staple"));
}

#[tokio::test]
async fn without_authorities_of_its_own_the_server_must_be_vouched_for_by_the_systems() {
    let directory = tempfile::tempdir().unwrap();
    certificates(directory.path());
    let file = |name: &str| directory.path().join(name);
    let postgres = Postgres::start().await;
    postgres
        .use_tls(&file("server.crt"), &file("server.key"))
        .await;
    let url = postgres.url().replace("127.0.0.1", "localhost") + "?sslmode=verify-full";
    let builder = |authorities: &str| {
        let builder = Daemon::builder().env("DOTMAC_DATABASE_URL", &url);
        // The path of the system's authorities, as for all programs.
        builder.env("SSL_CERT_FILE", file(authorities).display())
    };
    let trusting = builder("ca.crt").spawn().await;
    trusting.until("/ready", 200).await;
    let doubting = builder("other.crt").spawn().await;
    doubting
        .until_component("db", "starting", Some("tls_failed"))
        .await;
}

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
async fn the_size_of_the_pool_is_taken_up_on_reload() {
    let directory = tempfile::tempdir().unwrap();
    let postgres = Postgres::start().await;
    let file = directory.path().join("size");
    fs::write(&file, "3").unwrap();
    let daemon = Daemon::builder()
        .env("DOTMAC_DATABASE_URL", postgres.url())
        .env("DOTMAC_DATABASE_POOL_SIZE_FILE", file.display())
        .spawn()
        .await;
    daemon.until("/ready", 200).await;
    assert_eq!(daemon.metric("db_client_connection_max").await, Some(3.0));
    fs::write(&file, "7").unwrap();
    daemon.signal("HUP");
    eventually("the new size", || async {
        let size = daemon.metric("db_client_connection_max").await;
        (size == Some(7.0)).then_some(())
    })
    .await;
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
async fn a_killed_daemon_loses_no_committed_row_and_starts_again() {
    let mut rows = 0;
    let mut directory = tempfile::tempdir().unwrap();
    for _ in 0..5 {
        let daemon = Daemon::builder().spawn_in(directory).await;
        daemon.until("/ready", 200).await;
        let file = daemon.directory().join("dotmac.db");
        let written = eventually("the journal to grow", || async {
            let count = journal_rows(&file);
            (count > rows).then_some(count)
        })
        .await;
        directory = daemon.kill();
        let kept = journal_rows(&directory.path().join("dotmac.db"));
        assert!(kept >= written, "{kept} rows are left of {written}");
        rows = kept;
    }
}

fn journal_rows(file: &std::path::Path) -> i64 {
    use diesel::{
        Connection as _, QueryableByName, RunQueryDsl as _, sql_query, sql_types::BigInt,
    };
    #[derive(QueryableByName)]
    struct Count {
        #[diesel(sql_type = BigInt)]
        count: i64,
    }
    let mut connection = diesel::SqliteConnection::establish(file.to_str().unwrap()).unwrap();
    let counted = sql_query("SELECT count(*) AS count FROM runtime_journal")
        .get_result::<Count>(&mut connection);
    counted.map_or(0, |row| row.count)
}

#[tokio::test]
async fn a_file_that_is_no_database_is_refused_in_one_sentence() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(
        directory.path().join("dotmac.db"),
        "this is a letter to my grandmother, and no database at all\n".repeat(50),
    )
    .unwrap();
    let stopped = Daemon::builder().run_in(directory.path(), &[]).await;
    assert_eq!(stopped.code, 69, "{}", stopped.text());
    assert!(
        stopped
            .text()
            .contains("cannot use `dotmac.db` as a SQLite database: file is not a database"),
        "{}",
        stopped.text()
    );
}

#[tokio::test]
async fn a_directory_that_is_not_there_is_refused_in_one_sentence() {
    let stopped = Daemon::builder()
        .env("DOTMAC_DATABASE_URL", "sqlite:nowhere/dotmac.db")
        .run(&[])
        .await;
    assert_eq!(stopped.code, 69, "{}", stopped.text());
    assert!(
        stopped.text().contains("check that its directory exists"),
        "{}",
        stopped.text()
    );
}

#[tokio::test]
async fn a_damaged_file_is_reported_by_the_probe_by_check_and_by_backup() {
    let daemon = Daemon::spawn().await;
    daemon.until("/ready", 200).await;
    eventually("the journal to be written", || async {
        daemon.metric(JOURNALED).await.filter(|it| *it > 0.0)
    })
    .await;
    let run = async |directory: &Path, arguments: &[&str]| {
        let ended = Daemon::builder().run_in(directory, arguments).await;
        (ended.code, ended.text())
    };
    let (code, text) = run(daemon.directory(), &["check", "--connect"]).await;
    assert_eq!(code, 0, "{text}");
    assert!(text.contains("checked completely, no damage"), "{text}");

    let directory = daemon.kill();
    damage(&directory.path().join("dotmac.db"), "runtime_journal");
    let daemon = Daemon::builder().spawn_in(directory).await;
    daemon
        .until_component("db", "degraded", Some("data_corrupted"))
        .await;
    assert_eq!(daemon.get("/ready").await.status(), 200);
    let damaged = r#"dotmac_database_errors_total{sqlstate_class="XX"}"#;
    assert!(
        daemon
            .metric(damaged)
            .await
            .is_some_and(|count| count > 0.0)
    );
    let (code, text) = run(daemon.directory(), &["check", "--connect"]).await;
    assert_eq!(code, 69, "{text}");
    assert!(text.contains("FAILED  database file"), "{text}");
    assert!(text.contains("restore a backup"), "{text}");
    let (code, text) = run(daemon.directory(), &["backup", "copy.db"]).await;
    assert_eq!(code, 69, "{text}");
    assert!(!daemon.directory().join("copy.db").exists(), "{text}");
    let stopped = daemon.stop().await;
    assert_eq!(stopped.code, 0, "{}", stopped.text());
    assert!(!stopped.text().contains("panicked"), "{}", stopped.text());
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
