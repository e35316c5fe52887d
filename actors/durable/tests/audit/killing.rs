//! Processes that act and seal are killed again and again, at any statement: each row has its entry, and each entry its link.

use std::{collections::BTreeSet, path::Path, process::Command, time::Duration};

use dotmac_db::{ModuleDb, Target, TenantTx};
use dotmac_durable::audit::{Acts as _, sealer};
use dotmac_supervision::WorkerSpec;

use crate::{
    rig::{Rig, change, master, postgres, scope, sqlite},
    support::{PATIENCE, Postgres, eventually, process::Process},
};

/// Makes the test program a process that is killed: the first number, and the database.
const VICTIM: &str = "DOTMAC_TEST_VICTIM";
/// Processes that are killed on each back end.
const ROUNDS: i64 = 4;

fn workers(db: &ModuleDb) -> Vec<WorkerSpec> {
    vec![sealer("sealer", db, Some(master()))]
}

fn target(text: &str) -> Target {
    match text.parse() {
        Ok(port) => postgres(port),
        Err(_) => sqlite(Path::new(text)),
    }
}

/// Not its own test: the process that is killed.
#[actix::test]
async fn victim() {
    #[expect(clippy::disallowed_methods, reason = "a test has no settings")]
    let Ok(variable) = std::env::var(VICTIM) else {
        return;
    };
    let (first, database) = variable.split_once(' ').unwrap();
    let rig = Rig::start(&target(database), workers).await;
    for number in first.parse::<i64>().unwrap().. {
        let act = async move |tx: &mut TenantTx| change(tx, number).await;
        // A busy machine may refuse one: it is not acknowledged, and the next one is written.
        match rig.db.tenant(&scope()).act("change", act).await {
            Ok(_) => println!("acknowledged {number}"),
            Err(error) => println!("not written: {error}"),
        }
    }
}

fn start(database: &str, first: i64) -> Process {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["--exact", "killing::victim", "--nocapture"])
        .env(VICTIM, format!("{first} {database}"));
    Process::spawn(&mut command)
}

fn acknowledged(process: &Process) -> Vec<i64> {
    let number = |line: String| line.rsplit_once("acknowledged ")?.1.trim().parse().ok();
    process.lines().into_iter().filter_map(number).collect()
}

/// Two processes at a time; one of them is killed, and another takes its place.
async fn killed(database: &str) {
    let mut kept = BTreeSet::new();
    let mut other = Some(start(database, 0));
    for round in 1..=ROUNDS {
        let next = (round < ROUNDS).then(|| start(database, round * 1_000_000));
        if let Some(next) = &next {
            eventually("an act", || async {
                (!acknowledged(next).is_empty()).then_some(())
            })
            .await;
        }
        // Some time under load, another one in each round.
        tokio::time::sleep(Duration::from_micros(fastrand::u64(..700_000))).await;
        if let Some(mut dead) = other {
            dead.kill();
            eventually("its output", || async { dead.is_read().then_some(()) }).await;
            kept.extend(acknowledged(&dead));
        }
        other = next;
    }
    let rig = Rig::start(&target(database), workers).await;
    let rows = rig.number("SELECT count(*) AS number FROM changed").await;
    let found = tokio::time::timeout(PATIENCE, crate::rig::until_sealed(&rig, rows)).await;
    let found = found.unwrap();
    assert!(
        kept.len() as i64 >= ROUNDS && rows >= kept.len() as i64,
        "{rows} {}",
        kept.len()
    );
    let unrecorded = "SELECT count(*) AS number FROM changed WHERE NOT EXISTS \
                      (SELECT 1 FROM audit_entry WHERE resource_id = CAST(changed.number AS TEXT))";
    assert_eq!(rig.number(unrecorded).await, 0);
    println!(
        "{ROUNDS} processes killed, {rows} rows with an entry and a link each, signed up to {:?}",
        found.signed
    );
    rig.supervisor.halt().await;
}

#[actix::test]
async fn no_entry_is_lost_and_no_chain_breaks_when_processes_are_killed_on_postgresql() {
    let server = Postgres::start().await;
    killed(&server.port.to_string()).await;
}

#[actix::test]
async fn no_entry_is_lost_and_no_chain_breaks_when_processes_are_killed_on_sqlite() {
    let directory = tempfile::tempdir().unwrap();
    killed(directory.path().to_str().unwrap()).await;
}
