//! The campaign: processes are killed at any moment, their pools are exhausted, readers keep their snapshots, and on PostgreSQL
//! the server is killed, with its connections, or replaced by its standby.

use std::time::Duration;

use diesel::{Connection as _, SqliteConnection, connection::SimpleConnection as _};
use dotmac_db::{Config, Connection, DbError, Target, TenantTx};
use dotmac_durable::audit::Acts as _;

use crate::{
    checker::check,
    instance::{Rig, config, scope},
    overlapping::{attempts_of, overlap},
    support::{Postgres, process::Process, proxy::Proxy},
    victim::{self, kill_again_and_again, target},
    work::{TABLES, workers, write},
};

/// Processes that are killed on each back end, unless `DOTMAC_FAULT_ROUNDS` says otherwise.
const ROUNDS: i64 = 4;
/// In so many numbers of a process its pool is exhausted.
const EXHAUSTED_EVERY: i64 = 50;

/// Settings with which work is soon refused where connections are used up.
pub fn hurried(target: &Target) -> Config {
    Config {
        pool_timeout: Duration::from_millis(500),
        ..config(target.clone())
    }
}

/// Takes all connections that read, or all there are, for longer than work waits for one.
fn exhaust(rig: &Rig) {
    for _ in 0..10 {
        let hog = async |_: &mut Connection| {
            tokio::time::sleep(Duration::from_millis(1500)).await;
            Ok::<_, DbError>(())
        };
        // The process may end before.
        drop(actix::spawn(rig.root.read("hog", hog)));
    }
}

/// Not its own test: the process that is killed.
#[actix::test]
async fn victim() {
    let Some((first, target)) = victim::role() else {
        return;
    };
    let rig = Rig::start_configured(TABLES, hurried(&target), workers).await;
    for number in first.. {
        if number % EXHAUSTED_EVERY == 10 {
            exhaust(&rig);
        }
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
    let mut attempts = Vec::new();
    let ended = |alive, process: &Process| attempts.extend(attempts_of(&process.lines(), alive));
    let (rounds, kept) = kill_again_and_again(database, ROUNDS, disturb, ended).await;
    let rig = Rig::start_with(TABLES, &target(database), workers).await;
    let found = check(&rig, &kept).await;
    let (overlapping, count) = (overlap(&mut attempts), attempts.len());
    assert_eq!(overlapping, None, "a job ran twice at once");
    println!(
        "{rounds} processes killed, {} rows with their event, two jobs with results and audit entry, {} plain jobs done again, \
         {count} attempts of which none ran beside another of its job",
        found.rows.len(),
        found.of_plain.len() - found.rows.len()
    );
    rig.supervisor.halt().await;
}

/// Besides processes and their pools, connections and the server itself are killed, and a reader keeps its snapshot all the time.
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

/// The server is killed as well, and another one takes over that has followed it.
#[actix::test]
async fn rows_events_jobs_and_audit_entries_agree_when_processes_are_killed_and_a_standby_takes_over()
 {
    let mut server = Postgres::start().await;
    let standby = server.standby().await;
    let proxy = Proxy::before(server.port).await;
    campaign(&proxy.port.to_string(), async |round| {
        if round == 2 {
            server.kill().await;
            proxy.cut();
            proxy.lead_to(standby.port);
            standby.promote().await;
            proxy.mend();
        }
    })
    .await;
}

#[actix::test]
async fn rows_events_jobs_and_audit_entries_agree_when_processes_are_killed_on_sqlite() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("test.db");
    // A reader of another process, whose snapshot keeps the log of the file from being written back.
    let mut pinned = None;
    campaign(directory.path().to_str().unwrap(), async |round| {
        pinned = (round % 2 == 1).then(|| {
            let mut reader = SqliteConnection::establish(file.to_str().unwrap()).unwrap();
            let pin = "BEGIN; SELECT count(*) FROM event";
            reader.batch_execute(pin).unwrap();
            reader
        });
    })
    .await;
    drop(pinned);
}
