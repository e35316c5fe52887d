//! A process is killed before each of its statements, one after the other: in the transaction that writes, and in all that
//! follows from it.

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering::SeqCst},
    },
    time::Duration,
};

use dotmac_db::TenantTx;
use dotmac_durable::audit::Acts as _;
use tracing::span::{Attributes, Id};
use tracing_subscriber::{Layer, Registry, layer::Context, prelude::*};

use crate::{
    checker::check,
    instance::{Rig, scope},
    support::{PATIENCE, Postgres, eventually},
    victim::{self, acknowledged, start_as, target},
    work::{TABLES, workers, write},
};

/// The last statement before which a process is killed: well after its job is completed and its entry linked.
const LAST: i64 = 90;
/// Between two of them, unless `DOTMAC_FAULT_STATEMENTS` says otherwise.
const STEP: usize = 11;

/// Ends the process before the statement with that number, counted from 1. Not before it is set.
#[derive(Clone, Default)]
struct Countdown(Arc<AtomicI64>);

impl Layer<Registry> for Countdown {
    fn on_new_span(&self, span: &Attributes<'_>, _: &Id, _: Context<'_, Registry>) {
        // Made by the database before a statement is sent.
        if span.metadata().name() == "statement" && self.0.fetch_sub(1, SeqCst) == 1 {
            // Nothing is tidied up, as by SIGKILL.
            std::process::abort();
        }
    }
}

/// Not its own test: the process that is killed before the statement of that number.
#[actix::test]
async fn victim() {
    let Some((number, target)) = victim::role() else {
        return;
    };
    let countdown = Countdown::default();
    let registry = tracing_subscriber::registry().with(countdown.clone());
    registry.init();
    let rig = Rig::start_with(TABLES, &target, workers).await;
    countdown.0.store(number, SeqCst);
    let act = async move |tx: &mut TenantTx| write(tx, number).await;
    match rig.db.tenant(&scope()).act("write", act).await {
        Ok(()) => println!("acknowledged {number}"),
        Err(error) => println!("not written: {error}"),
    }
    // Until the statement comes: workers look for work all the time.
    tokio::time::sleep(PATIENCE).await;
}

async fn kill_before_each(database: &str) {
    #[expect(clippy::disallowed_methods, reason = "a test has no settings")]
    let step = std::env::var("DOTMAC_FAULT_STATEMENTS").map_or(STEP, |it| it.parse().unwrap());
    let (first, mut kept, mut killed) = (fastrand::i64(1..=step as i64), BTreeSet::new(), 0);
    for number in (first..=LAST).step_by(step) {
        let mut process = start_as("statements::victim", database, number);
        let begun = std::time::Instant::now();
        let code = loop {
            if let Some(code) = process.try_exit() {
                break code;
            }
            assert!(begun.elapsed() < PATIENCE, "{:#?}", process.lines());
            tokio::time::sleep(Duration::from_millis(10)).await;
        };
        eventually("its output", || async { process.is_read().then_some(()) }).await;
        // 128 and SIGABRT.
        assert_eq!(code, 134, "{:#?}", process.lines());
        kept.extend(acknowledged(&process));
        killed += 1;
    }
    let rig = Rig::start_with(TABLES, &target(database), workers).await;
    let found = check(&rig, &kept).await;
    println!(
        "{killed} processes killed before one of their first {LAST} statements, {} rows acknowledged, {} there with all that belongs to them",
        kept.len(),
        found.rows.len()
    );
    rig.supervisor.halt().await;
}

#[actix::test]
async fn rows_and_what_belongs_to_them_agree_when_killed_before_any_statement_on_postgresql() {
    let server = Postgres::start().await;
    kill_before_each(&server.port.to_string()).await;
}

#[actix::test]
async fn rows_and_what_belongs_to_them_agree_when_killed_before_any_statement_on_sqlite() {
    let directory = tempfile::tempdir().unwrap();
    kill_before_each(directory.path().to_str().unwrap()).await;
}
