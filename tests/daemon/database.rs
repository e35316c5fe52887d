//! Databases that are late, go away, hang, come back, or are none.

use std::fs;

use crate::support::{Daemon, Postgres, eventually};

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
        .until_component("db", "restarting", Some("unreachable"))
        .await;
    assert_eq!(daemon.get("/health").await.status(), 200);
    postgres.restart().await;
    daemon.until("/ready", 200).await;
    daemon.logged("the database does its work again").await;
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
        .until_component("db", "restarting", Some("read_only"))
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
    assert_eq!(applied, "2");
}

#[tokio::test]
async fn with_migrate_check_a_daemon_waits_until_somebody_has_migrated() {
    let postgres = Postgres::start().await;
    let builder = || Daemon::builder().env("DOTMAC_DATABASE_URL", postgres.url());
    let daemon = builder()
        .env("DOTMAC_DATABASE_MIGRATE", "check")
        .spawn()
        .await;
    daemon
        .until_component("db", "starting", Some("migration_pending"))
        .await;
    let migrated = builder().run(&["migrate", "up"]).await;
    assert_eq!(migrated.code, 0, "{}", migrated.text());
    daemon.until("/ready", 200).await;
}

#[tokio::test]
async fn the_journal_tells_what_happened() {
    let postgres = Postgres::start().await;
    let daemon = Daemon::builder()
        .env("DOTMAC_DATABASE_URL", postgres.url())
        .spawn()
        .await;
    daemon.until("/ready", 200).await;
    let entries =
        "SELECT string_agg(component || ' ' || event, ',' ORDER BY id) FROM runtime_journal";
    let journal = eventually("the journal to have the start", || async {
        let journal = postgres.query(entries).await;
        (journal.contains("telemetry ready") && journal.contains("db ready")).then_some(journal)
    })
    .await;
    assert!(journal.starts_with("runtime started"), "{journal}");
    assert!(journal.contains("secrets ready"), "{journal}");
    assert_eq!(daemon.stop().await.code, 0);
    assert!(postgres.query(entries).await.contains("runtime stopping"));
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
