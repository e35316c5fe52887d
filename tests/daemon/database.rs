//! Databases that are late, go away, hang, come back, or are none.

use std::{fs, path::Path};

use crate::support::{
    Daemon, Postgres, daemon::JOURNALED, eventually, sqlite::damage, tls::certificates,
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
