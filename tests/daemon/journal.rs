//! The runtime journal: what is written to it, what it never holds up, and `dotmac journal`.

use crate::support::{Daemon, Postgres, eventually};

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
    let once =
        "SELECT count(*) = count(DISTINCT (instance, component, event, at)) FROM runtime_journal";
    assert_eq!(postgres.query(once).await, "t");
}

#[tokio::test]
async fn the_journal_keeps_its_last_ten_thousand_rows() {
    let postgres = Postgres::start().await;
    let rows = "SELECT count(*) FROM runtime_journal WHERE id <= 1000";
    let daemon = Daemon::builder()
        .env("DOTMAC_DATABASE_URL", postgres.url())
        .spawn()
        .await;
    daemon.until("/ready", 200).await;
    eventually("the journal to have the start", || async {
        (postgres.query(rows).await != "0").then_some(())
    })
    .await;
    postgres
        .query("SELECT setval(pg_get_serial_sequence('runtime_journal', 'id'), 20000)")
        .await;
    assert_eq!(daemon.stop().await.code, 0);
    assert_eq!(postgres.query(rows).await, "0");
    let left = "SELECT string_agg(event, ',') FROM runtime_journal WHERE id > 20000";
    assert!(postgres.query(left).await.contains("stopping"));
}

#[tokio::test]
async fn a_journal_that_cannot_be_written_holds_up_nothing_that_it_describes() {
    let postgres = Postgres::start().await;
    let daemon = Daemon::builder()
        .env("DOTMAC_DATABASE_URL", postgres.url())
        .env("DOTMAC_DATABASE_LOCK_TIMEOUT", "100ms")
        .env("DOTMAC_ADMIN_SOCKET", "admin.sock")
        .spawn()
        .await;
    daemon.until("/ready", 200).await;
    let (holder, connection) = tokio_postgres::connect(&postgres.url(), tokio_postgres::NoTls)
        .await
        .unwrap();
    let driver = tokio::spawn(connection);
    holder
        .batch_execute("BEGIN; LOCK TABLE runtime_journal")
        .await
        .unwrap();
    let restart = async || {
        let asked = Daemon::builder()
            .env("DOTMAC_ADMIN_SOCKET", "admin.sock")
            .run_in(daemon.directory(), &["restart", "telemetry"])
            .await;
        assert_eq!(asked.code, 0, "{}", asked.text());
    };
    restart().await;
    // The journal fails, and everything else goes on.
    eventually("the journal to be refused", || async {
        let series = r#"dotmac_database_errors_total{sqlstate_class="55"}"#;
        daemon.metric(series).await.filter(|count| *count >= 2.0)
    })
    .await;
    daemon.logged("failed to write the runtime journal").await;
    restart().await;
    let body = eventually("the second restart", || async {
        let (_, body) = daemon.json("/ready").await;
        let telemetry = &body["components"]["telemetry"];
        (telemetry["generation"] == 3 && telemetry["state"] == "ready").then_some(body)
    })
    .await;
    assert_eq!(body["status"], "ready", "{body}");
    holder.batch_execute("ROLLBACK").await.unwrap();
    // Events of that time are written then.
    let written =
        "SELECT count(*) FROM runtime_journal WHERE component = 'telemetry' AND event = 'ready'";
    eventually("all of it to be written", || async {
        (postgres.query(written).await == "3").then_some(())
    })
    .await;
    drop(holder);
    driver.await.unwrap().unwrap();
    assert_eq!(daemon.stop().await.code, 0);
}

#[tokio::test]
async fn the_journal_of_postgresql_is_read_too() {
    let postgres = Postgres::start().await;
    let daemon = Daemon::builder()
        .env("DOTMAC_DATABASE_URL", postgres.url())
        .spawn()
        .await;
    daemon.until("/ready", 200).await;
    eventually("the journal", || async {
        let said = Daemon::builder()
            .env("DOTMAC_DATABASE_URL", postgres.url())
            .run(&["journal", "--component", "db"])
            .await;
        assert_eq!(said.code, 0, "{}", said.text());
        said.text().contains(" ready ").then_some(())
    })
    .await;
}
