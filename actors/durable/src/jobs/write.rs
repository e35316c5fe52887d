//! Writing jobs: a few in one go with the commit of their transaction, many by statements of their own.

use std::{borrow::Cow, collections::BTreeSet};

use diesel::prelude::*;
use diesel_async::RunQueryDsl;
use dotmac_db::{
    Arguments, Connection, DbError, Querying as _, RowWithCommit, TenantId, Tx, insert_all, on,
    types::Moment,
};

use super::{
    JobId, JobState,
    tables::{job, job_payload, job_queue},
};
use crate::json_text::JsonText;

/// So many are written in one go with the commit. More are cheaper by statements of their own.
pub(super) const FEW: usize = 20;
/// What writes jobs with the commit on PostgreSQL.
const FUNCTION: &str = "job_add";
/// What writes their queues.
const QUEUE_FUNCTION: &str = "job_queue_add";

#[derive(Clone, Insertable)]
#[diesel(table_name = job)]
pub(super) struct NewJob {
    pub(super) id: JobId,
    pub(super) tenant_id: TenantId,
    pub(super) kind: &'static str,
    pub(super) queue: Cow<'static, str>,
    pub(super) state: JobState,
    pub(super) priority: i32,
    pub(super) run_at: Moment,
    pub(super) max_attempts: i32,
    pub(super) created_at: Moment,
}

#[derive(Clone, Insertable)]
#[diesel(table_name = job_payload, treat_none_as_default_value = false)]
pub(super) struct NewPayload {
    pub(super) job_id: JobId,
    pub(super) tenant_id: TenantId,
    pub(super) args: JsonText,
    pub(super) actor: Option<String>,
    pub(super) traceparent: Option<String>,
}

/// Both rows of a job, for PostgreSQL's function.
struct Whole<'a>(&'a NewJob, &'a NewPayload);

impl RowWithCommit for Whole<'_> {
    fn arguments(&self, to: &mut Arguments<'_>) {
        let Self(job, payload) = self;
        to.add(job.id)
            .add(job.tenant_id)
            .add(job.kind)
            .add(&job.queue)
            .add(job.state)
            .add(job.priority)
            .add(job.run_at)
            .add(job.max_attempts)
            .add(job.created_at)
            .add(&payload.args)
            .add_if(payload.actor.as_ref())
            .add_if(payload.traceparent.as_ref());
    }
}

/// The row of a queue.
struct NewQueue(Cow<'static, str>);

impl RowWithCommit for NewQueue {
    fn arguments(&self, to: &mut Arguments<'_>) {
        to.add(&self.0);
    }
}

/// What is written at once.
pub(super) struct Batch {
    pub(super) queues: BTreeSet<Cow<'static, str>>,
    pub(super) jobs: Vec<NewJob>,
    pub(super) payloads: Vec<NewPayload>,
}

/// By statements of their own.
pub(super) async fn insert(tx: &mut Tx, batch: Batch) -> Result<(), DbError> {
    for queue in batch.queues {
        add_queue(tx, queue).await?;
    }
    insert_all!(tx, job::table, batch.jobs)?;
    insert_all!(tx, job_payload::table, batch.payloads).map(drop)
}

/// In one go with the commit.
pub(super) fn insert_with_commit(tx: &mut Tx, batch: Batch) {
    let Batch {
        queues,
        jobs,
        payloads,
    } = batch;
    if let Connection::Postgres(_) = tx.connection() {
        for queue in queues {
            tx.call_with_commit(QUEUE_FUNCTION, &NewQueue(queue));
        }
        for (job, payload) in jobs.iter().zip(&payloads) {
            tx.call_with_commit(FUNCTION, &Whole(job, payload));
        }
        return;
    }
    tx.run_with_commit(move |c| {
        for queue in queues {
            let row = job_queue::name.eq(queue.into_owned());
            let insert = diesel::insert_into(job_queue::table).values(row);
            let insert = insert.on_conflict(job_queue::name).do_nothing();
            diesel::RunQueryDsl::execute(insert, c)?;
        }
        for job in jobs {
            let insert = diesel::insert_into(job::table).values(job);
            diesel::RunQueryDsl::execute(insert, c)?;
        }
        for payload in payloads {
            let insert = diesel::insert_into(job_payload::table).values(payload);
            diesel::RunQueryDsl::execute(insert, c)?;
        }
        Ok(())
    });
}

/// Writes down that there is such a queue.
async fn add_queue(tx: &mut Tx, queue: Cow<'static, str>) -> Result<(), DbError> {
    let row = job_queue::name.eq(queue.clone().into_owned());
    let insert = diesel::insert_into(job_queue::table).values(row);
    let insert = insert.on_conflict(job_queue::name).do_nothing();
    on!(tx, |c| insert.execute(c).await).map(drop)
}
