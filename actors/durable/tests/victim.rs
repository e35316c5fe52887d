//! Processes that are killed: the test program itself in that role, and the rows that they acknowledged before their
//! end.

use std::{
    collections::BTreeSet,
    path::Path,
    process::Command,
    time::{Duration, Instant, SystemTime},
};

use dotmac_db::Target;

use crate::{
    instance::{postgres, sqlite},
    support::{PATIENCE, eventually, process::Process},
};

/// Makes the test program a process that is killed: a number and the database.
const VICTIM: &str = "DOTMAC_TEST_VICTIM";

/// The number and the database, if this process is one that is killed.
pub fn role() -> Option<(i64, Target)> {
    #[expect(clippy::disallowed_methods, reason = "a test has no settings")]
    let variable = std::env::var(VICTIM).ok()?;
    let (first, database) = variable.split_once(' ')?;
    Some((first.parse().ok()?, target(database)))
}

/// The database that a text names: the port of a PostgreSQL, or a file.
pub fn target(text: &str) -> Target {
    match text.parse() {
        Ok(port) => postgres(port),
        Err(_) => sqlite(Path::new(text)),
    }
}

/// Starts a process that carries out the test `killing::victim`.
pub fn start(database: &str, first: i64) -> Process {
    start_as("killing::victim", database, first)
}

/// Starts a process that runs a test, which learns its role from [`role`].
pub fn start_as(test: &str, database: &str, first: i64) -> Process {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["--exact", test, "--nocapture"])
        .env(VICTIM, format!("{first} {database}"));
    Process::spawn(&mut command)
}

/// The numbers that a process has said to be written.
pub fn acknowledged(process: &Process) -> impl Iterator<Item = i64> {
    process.lines().into_iter().filter_map(|line| {
        let number = line.rsplit_once("acknowledged ")?.1;
        number.trim().parse().ok()
    })
}

async fn until_it_writes(process: &Process) {
    let begun = Instant::now();
    while acknowledged(process).next().is_none() {
        let lines = process.lines();
        assert!(
            begun.elapsed() < PATIENCE,
            "nothing was written: {lines:#?}"
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Two processes write at a time; one of them is killed, and another takes its place, `DOTMAC_FAULT_ROUNDS` times or
/// `rounds`; `disturb` is called in each round, and `ended` for each process, with the time just before it was killed. How
/// often, and the numbers that they acknowledged.
pub async fn kill_again_and_again(
    database: &str,
    rounds: i64,
    mut disturb: impl AsyncFnMut(i64),
    mut ended: impl FnMut(SystemTime, &Process),
) -> (i64, BTreeSet<i64>) {
    #[expect(clippy::disallowed_methods, reason = "a test has no settings")]
    let rounds = std::env::var("DOTMAC_FAULT_ROUNDS").map_or(rounds, |it| it.parse().unwrap());
    let mut kept = BTreeSet::new();
    let mut end = async |mut process: Process| {
        let alive = SystemTime::now();
        process.kill();
        eventually("its output", || async { process.is_read().then_some(()) }).await;
        kept.extend(acknowledged(&process));
        ended(alive, &process);
    };
    let mut other = start(database, 1);
    for round in 1..=rounds {
        let next = start(database, round * 1_000_000);
        until_it_writes(&next).await;
        disturb(round).await;
        // Some time under load, another one in each round.
        tokio::time::sleep(Duration::from_micros(fastrand::u64(..300_000))).await;
        end(std::mem::replace(&mut other, next)).await;
    }
    end(other).await;
    assert!(kept.len() as i64 >= rounds);
    (rounds, kept)
}
