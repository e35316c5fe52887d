//! What the processes do: they write rows with all that belongs to them, and do what follows.

use std::{sync::Arc, time::Duration};

use diesel_async::RunQueryDsl;
use dotmac_db::{
    DbError, ModuleDb, TenantTx, Tx, on,
    sealing::{Keyring, Sealer},
};
use dotmac_durable::{
    audit::{Audit as _, Audited, Entry, sealer, verifier},
    events::{Emit as _, Event, Received, Subscriber},
    jobs::{Backoff, Enqueue as _, Job, JobError, JobHandler, Rules, Run, Runner},
};
use dotmac_supervision::WorkerSpec;
use serde::{Deserialize, Serialize};

use crate::overlapping::Attempt;

/// The rows, and what follows each: `event`, `job`, `plain`.
pub const TABLES: &str =
    "CREATE TABLE IF NOT EXISTS effect (by TEXT NOT NULL, number BIGINT NOT NULL)";

/// That a row was written.
#[derive(Serialize, Deserialize)]
pub struct Written {
    pub number: i64,
}

impl Event for Written {
    const TYPE: &'static str = "test.written.v1";

    fn subject(&self) -> String {
        format!("numbers/{}", self.number)
    }
}

const RULES: Rules = Rules {
    backoff: Backoff::fixed(Duration::from_millis(50)),
    ..Rules::DEFAULT
};

/// Done in the transaction that completes it: exactly once.
#[derive(Serialize, Deserialize)]
pub struct Tally {
    pub number: i64,
}

impl Job for Tally {
    const KIND: &'static str = "test.tally";
    type Output = i64;
    const RULES: Rules = RULES;
}

/// Done by itself, and ended then: at least once.
#[derive(Serialize, Deserialize)]
pub struct Plain {
    pub number: i64,
}

impl Job for Plain {
    const KIND: &'static str = "test.plain";
    type Output = i64;
    const RULES: Rules = RULES;
}

pub fn master() -> Sealer {
    let keyring = Keyring::new("the test's keys");
    keyring
        .set(&"AQIDBAUGBwgJCgsMDQ4PEBESExQVFhcYGRobHB0eHyA=".into())
        .unwrap();
    Sealer::new(keyring)
}

pub async fn note(tx: &mut Tx, by: &str, number: i64) -> Result<(), DbError> {
    let sql = format!("INSERT INTO effect VALUES ('{by}', {number})");
    on!(tx, |c| diesel::sql_query(sql).execute(c).await).map(drop)
}

/// One transaction with everything.
pub async fn write(tx: &mut TenantTx, number: i64) -> Result<Audited<()>, DbError> {
    note(tx, "row", number).await?;
    tx.emit(&Written { number })?;
    tx.enqueue(&Tally { number }).await?;
    tx.enqueue(&Plain { number }).await?;
    let entry = Entry::new("number_add", "test.number", number.to_string());
    Ok(tx.audit(entry)?.of(()))
}

/// All workers of an instance.
pub fn workers(db: &ModuleDb) -> Vec<WorkerSpec> {
    let follow =
        async |tx: &mut TenantTx, event: Received<Written>| note(tx, "event", event.number).await;
    let tally = async |tx: &mut TenantTx, run: Arc<Run<Tally>>| {
        note(tx, "job", run.number).await?;
        Ok::<_, DbError>(run.number)
    };
    let given = db.clone();
    let plain = async move |run: Run<Plain>| {
        let scope = run.scope().ok_or(JobError::fail("tenant", "none"))?;
        let number = run.number;
        let _attempt = Attempt::begin(number);
        // So that some are killed meanwhile.
        tokio::time::sleep(Duration::from_millis(fastrand::u64(..20))).await;
        let work = async move |tx: &mut TenantTx| note(tx, "plain", number).await;
        let done = given.tenant(&scope).transaction("plain", work).await;
        done.map_err(JobError::from)?;
        Ok::<_, JobError>(number)
    };
    let handlers = [
        JobHandler::in_transaction(db, tally),
        JobHandler::new(plain),
    ];
    let runner = Runner::new(handlers).unwrap();
    vec![
        Subscriber::new("follow", follow).worker(db),
        runner.worker("jobs", db),
        sealer("sealer", db, Some(master())),
        verifier("verifier", db, Some(master()), Duration::from_secs(1)),
    ]
}
