//! Jobs, and instances that run them.

use std::time::Duration;

use diesel::prelude::*;
use diesel_async::RunQueryDsl;
use dotmac_db::{Connection, DbError, ModuleDb, Target, TenantId, TenantScope, TenantTx, Tx, on};
use dotmac_durable::jobs::{
    Backoff, Enqueue, EnqueueOptions, Enqueued, Job, JobHandler, JobId, JobState, Rules, Runner,
    StoredJob, find,
};
use serde::{Deserialize, Serialize};

pub use crate::instance::{Rig, on_both, patiently, postgres, scope};
use crate::support;

/// The component that runs jobs.
pub const NAME: &str = "jobs";

/// A job that is tried again soon, and hangs soon.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Work {
    pub number: i64,
}

impl Job for Work {
    const KIND: &'static str = "test.work";
    type Output = i64;
    const RULES: Rules = Rules {
        backoff: Backoff::fixed(Duration::from_millis(20)),
        hang_after: Duration::from_secs(3),
        slots: 4,
        ..Rules::DEFAULT
    };
}

diesel::table! {
    done (number) {
        number -> BigInt,
        by -> Text,
    }
}

impl Rig {
    /// Starts an instance that runs jobs; needs an actix system. With a table of what was done.
    pub async fn start(
        target: &Target,
        handlers: impl FnOnce(&ModuleDb) -> Vec<JobHandler>,
    ) -> Self {
        Self::draining(target, Duration::from_secs(10), handlers).await
    }

    /// The same, with the time that running jobs have to end.
    pub async fn draining(
        target: &Target,
        drain: Duration,
        handlers: impl FnOnce(&ModuleDb) -> Vec<JobHandler>,
    ) -> Self {
        Self::with(target, |runner| runner.drain(drain), handlers).await
    }

    /// The same, with a runner as `set` makes it.
    pub async fn with(
        target: &Target,
        set: impl FnOnce(Runner) -> Runner,
        handlers: impl FnOnce(&ModuleDb) -> Vec<JobHandler>,
    ) -> Self {
        let table = "CREATE TABLE IF NOT EXISTS done (number BIGINT NOT NULL, by TEXT NOT NULL)";
        Self::start_with(table, target, |db| {
            let handlers = handlers(db);
            if handlers.is_empty() {
                return Vec::new();
            }
            let runner = set(Runner::new(handlers).unwrap());
            vec![runner.worker(NAME, db)]
        })
        .await
    }

    pub async fn enqueue<J: Job + Clone>(&self, job: J) -> JobId {
        self.enqueue_with(job, EnqueueOptions::new()).await.id()
    }

    pub async fn enqueue_with<J: Job + Clone>(&self, job: J, options: EnqueueOptions) -> Enqueued {
        self.enqueue_for(&scope(), job, options).await
    }

    pub async fn enqueue_for<J: Job + Clone>(
        &self,
        scope: &TenantScope,
        job: J,
        options: EnqueueOptions,
    ) -> Enqueued {
        patiently(async || {
            let (job, options) = (job.clone(), options.clone());
            let enqueue = async move |tx: &mut TenantTx| {
                Ok::<_, DbError>(tx.enqueue_with(&job, options).await?)
            };
            self.db.tenant(scope).transaction("enqueue", enqueue).await
        })
        .await
    }

    pub async fn find(&self, id: JobId) -> Option<StoredJob> {
        patiently(async || {
            let read = async move |tx: &mut TenantTx| find(tx, id).await;
            self.db.tenant(&scope()).read("find job", read).await
        })
        .await
    }

    pub async fn until_state(&self, id: JobId, state: JobState) -> StoredJob {
        let mut last = None;
        let waited = tokio::time::timeout(support::PATIENCE, async {
            loop {
                last = self.find(id).await;
                if let Some(job) = last.as_ref().filter(|job| job.state == state) {
                    return job.clone();
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        })
        .await;
        let board = self.supervisor.board();
        assert!(waited.is_ok(), "not {state}: {last:?}; {board:?}");
        waited.unwrap()
    }

    /// The numbers of what was done, doubled ones included, sorted.
    pub async fn numbers(&self) -> Vec<i64> {
        patiently(async || {
            let read = async move |c: &mut Connection| {
                let query = done::table.order(done::number).select(done::number);
                on!(c, |c| query.load(c).await)
            };
            self.system().read("read what was done", read).await
        })
        .await
    }

    pub async fn until_done(&self, expected: &[i64]) {
        support::eventually(&format!("{expected:?} to be done"), || async {
            let numbers = self.numbers().await;
            assert!(numbers.len() <= expected.len(), "too many: {numbers:?}");
            (numbers == expected).then_some(())
        })
        .await;
    }
}

/// What a job does: a row.
pub async fn note_done(tx: &mut Tx, number: i64, by: &str) -> Result<(), DbError> {
    let row = (done::number.eq(number), done::by.eq(by.to_owned()));
    on!(tx, |c| diesel::insert_into(done::table)
        .values(row)
        .execute(c)
        .await)
    .map(drop)
}

/// Does [`Work`] in the transaction that completes it.
pub fn noting(db: &ModuleDb) -> JobHandler {
    JobHandler::in_transaction(
        db,
        async |tx: &mut TenantTx, run: std::sync::Arc<dotmac_durable::jobs::Run<Work>>| {
            note_done(tx, run.number, "transaction").await?;
            Ok::<_, DbError>(run.number)
        },
    )
}

pub fn tenant(number: u128) -> TenantScope {
    TenantScope::system(TenantId::from_uuid(uuid::Uuid::from_u128(number)), "test")
}
