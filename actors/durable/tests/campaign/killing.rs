//! The campaign: processes are killed at any statement, and on PostgreSQL so is the server, and its connections.

use std::time::Duration;

use dotmac_db::TenantTx;
use dotmac_durable::audit::Acts as _;

use crate::{
    checker::check,
    instance::{Rig, scope},
    support::Postgres,
    victim::{self, kill_again_and_again, target},
    work::{TABLES, workers, write},
};

/// Processes that are killed on each back end, unless `DOTMAC_FAULT_ROUNDS` says otherwise.
const ROUNDS: i64 = 4;

/// Not a test of its own: the process that is killed.
#[actix::test]
async fn victim() {
    let Some((first, target)) = victim::told() else {
        return;
    };
    let rig = Rig::start_with(TABLES, &target, workers).await;
    for number in first.. {
        let act = async move |tx: &mut TenantTx| write(tx, number).await;
        match rig.db.tenant(&scope()).act("write", act).await {
            Ok(()) => println!("acknowledged {number}"),
            // It is not acknowledged, and the next one is written.
            Err(error) => println!("not written: {error}"),
        }
        // Not so fast that ten thousand jobs wait.
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn campaign(database: &str, disturb: impl AsyncFnMut(i64)) {
    let (rounds, kept) = kill_again_and_again(database, ROUNDS, disturb).await;
    let rig = Rig::start_with(TABLES, &target(database), workers).await;
    let found = check(&rig, &kept).await;
    println!(
        "{rounds} processes killed, {} rows with their event, two jobs with results and audit entry, {} plain jobs done again",
        found.rows.len(),
        found.of_plain.len() - found.rows.len()
    );
    rig.supervisor.halt().await;
}

/// Besides processes, connections and the server itself are killed, and a reader keeps its snapshot all the time.
#[actix::test]
async fn rows_events_jobs_and_audit_entries_agree_when_processes_are_killed_on_postgresql() {
    let mut server = Postgres::start().await;
    let (port, url) = (server.port.to_string(), server.url());
    let mut pinned = None;
    campaign(&port, async |round| match round % 4 {
        1 => {
            let (reader, connection) = tokio_postgres::connect(&url, tokio_postgres::NoTls)
                .await
                .unwrap();
            actix::spawn(connection);
            let pin = "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM pg_class";
            reader.batch_execute(pin).await.unwrap();
            pinned = Some(reader);
        }
        2 => {
            server
                .query("SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE usename = 'dotmac' AND pid <> pg_backend_pid()")
                .await;
        }
        3 => {
            server.kill().await;
            server.restart().await;
            pinned = None;
        }
        _ => {}
    })
    .await;
}

#[actix::test]
async fn rows_events_jobs_and_audit_entries_agree_when_processes_are_killed_on_sqlite() {
    let directory = tempfile::tempdir().unwrap();
    campaign(directory.path().to_str().unwrap(), async |_| {}).await;
}
