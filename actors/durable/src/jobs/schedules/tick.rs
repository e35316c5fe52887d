//! Looks which schedules are due, and enqueues their jobs.

use std::{collections::HashMap, time::Duration};

use diesel::prelude::*;
use diesel_async::RunQueryDsl;
use dotmac_db::{
    Connection, DbError, ModuleDb, OptionalExtension, Querying, TenantId, TenantScope, TenantTx,
    insert_all, on, types::Moment,
};
use tracing::{Instrument, info_span, warn};

use super::{
    Occurrence, OccurrenceState, Schedule, ScheduleId,
    missed::{Plan, plan},
    schedule::Row,
    store::readable,
    tables::{job_occurrence, job_schedule},
};
use crate::{
    clock::{between, now},
    jobs::{Enqueue as _, EnqueueError, EnqueueOptions, KindSpec, measure},
};

/// How often it looks, unless one is due sooner.
const INTERVAL: Duration = Duration::from_secs(1);
/// How soon it looks again while schedules are due.
const SOON: Duration = Duration::from_millis(20);
/// Schedules that are checked together.
const AT_ONCE: i64 = 100;

/// The kinds that this program does.
pub(in crate::jobs) type Kinds = HashMap<&'static str, KindSpec>;

/// Enqueues jobs of schedules that are due, of `kinds`; gives how long it is until it is to look again.
pub(in crate::jobs) async fn tick(db: &ModuleDb, kinds: &Kinds) -> Result<Duration, DbError> {
    let names: Vec<_> = kinds.keys().copied().collect();
    let look = async move |c: &mut Connection| {
        let now = now(c).await?;
        let soon = job_schedule::table
            .filter(job_schedule::next_at.le(now + INTERVAL))
            .filter(job_schedule::kind.eq_any(names))
            .order(job_schedule::next_at)
            .limit(AT_ONCE)
            .select((
                job_schedule::id,
                job_schedule::tenant_id,
                job_schedule::next_at.assume_not_null(),
            ));
        let soon: Vec<(ScheduleId, TenantId, Moment)> = on!(c, |c| soon.load(c).await)?;
        Ok::<_, DbError>((now, soon))
    };
    let system = db.system("enqueue jobs of due schedules");
    let (now, soon) = system.read("look for schedules that are due", look).await?;
    let mut wait = INTERVAL;
    for (id, tenant, next_at) in soon {
        if next_at > now {
            wait = between(now, next_at) + Duration::from_millis(2);
            break;
        }
        let span =
            info_span!(parent: None, "schedule", otel.name = "schedule is due", schedule.id = %id);
        fire(db, tenant, id, kinds).instrument(span).await?;
        // There may be more than were checked; or another instance is about to do it.
        wait = SOON;
    }
    Ok(wait)
}

/// Why occurrences were not enqueued.
enum Unfired {
    /// The queue does not take the jobs.
    Refused(String),
    Database(DbError),
}

impl From<DbError> for Unfired {
    fn from(error: DbError) -> Self {
        Self::Database(error)
    }
}

/// Enqueues what is due of one schedule, unless another instance does.
async fn fire(
    db: &ModuleDb,
    tenant: TenantId,
    id: ScheduleId,
    kinds: &Kinds,
) -> Result<(), DbError> {
    let scope = TenantScope::system(tenant, "schedule");
    let db = db.tenant(&scope);
    let given = kinds.clone();
    let enqueue = async move |tx: &mut TenantTx| due(tx, id, &given, None).await;
    let problem = match db.transaction("enqueue what is due", enqueue).await {
        Ok(()) => return Ok(()),
        Err(Unfired::Database(error)) => return Err(error),
        Err(Unfired::Refused(problem)) => problem,
    };
    warn!(schedule.id = %id, error = problem, "the queue refused the job of a schedule");
    let given = kinds.clone();
    let note = async move |tx: &mut TenantTx| due(tx, id, &given, Some(problem)).await;
    match db.transaction("note what is refused", note).await {
        Err(Unfired::Database(error)) => Err(error),
        // Nothing is enqueued then, so nothing is refused.
        Ok(()) | Err(Unfired::Refused(_)) => Ok(()),
    }
}

/// Does what is to be done about a schedule, if it is due and no other transaction has it. With a `problem` the occurrences
/// that would be enqueued are refused.
async fn due(
    tx: &mut TenantTx,
    id: ScheduleId,
    kinds: &Kinds,
    problem: Option<String>,
) -> Result<(), Unfired> {
    let now = now(tx).await?;
    let Some(row) = lock_due(tx, id, now).await? else {
        return Ok(());
    };
    let since = row.next_at.unwrap_or(now);
    let Some(schedule) = readable(row) else {
        return Ok(set_next(tx, id, None).await?);
    };
    let Some(spec) = kinds.get(&*schedule.draft.kind) else {
        return Ok(());
    };
    let draft = &schedule.draft;
    let policy = (draft.missed, draft.grace);
    let Plan { run, missed, next } = plan(&draft.timing, schedule.anchor, since, now, policy);
    let mut occurrences = Vec::new();
    for due_at in missed {
        occurrences.push(Occurrence::new(&schedule, due_at, OccurrenceState::Missed));
    }
    for due_at in run {
        occurrences.push(match &problem {
            None => Occurrence::new(&schedule, due_at, OccurrenceState::Enqueued),
            Some(problem) => Occurrence {
                error: Some(problem.clone()),
                ..Occurrence::new(&schedule, due_at, OccurrenceState::Refused)
            },
        });
    }
    let known = known(tx, &schedule, &occurrences).await?;
    occurrences.retain(|it| !known.contains(&it.due_at));
    for it in &mut occurrences {
        if it.state == OccurrenceState::Enqueued {
            let options = EnqueueOptions::new();
            let enqueued = tx.enqueue_args(spec, &draft.args, options).await;
            it.job_id = Some(enqueued.map_err(unfired)?.id());
        }
    }
    let states: Vec<_> = occurrences.iter().map(|it| it.state).collect();
    if !occurrences.is_empty() {
        insert_all!(tx, job_occurrence::table, occurrences)?;
    }
    set_next(tx, id, next).await?;
    let kind = spec.kind;
    tx.after_commit(move || {
        states
            .into_iter()
            .for_each(|state| measure::occurred(kind, state))
    });
    Ok(())
}

fn unfired(error: EnqueueError) -> Unfired {
    match error {
        EnqueueError::Database(error) => Unfired::Database(error),
        error => Unfired::Refused(error.to_string()),
    }
}

/// The schedule, locked until the end of the transaction; `None` if it is not due or another transaction has it.
async fn lock_due(tx: &mut TenantTx, id: ScheduleId, now: Moment) -> Result<Option<Row>, DbError> {
    let query = job_schedule::table
        .find(id)
        .filter(job_schedule::tenant_id.eq(tx.tenant()))
        .filter(job_schedule::next_at.le(now));
    let found = match tx.connection() {
        Connection::Postgres(c) => {
            let query = query.for_update().skip_locked();
            query.select(Row::as_select()).first(&mut **c).await
        }
        // The transaction has the only write lock there is.
        Connection::Sqlite(c) => query.select(Row::as_select()).first(&mut **c).await,
    };
    tx.classified(found).optional()
}

/// The times of `occurrences` that there is a row for already, as after a clock that was put back.
async fn known(
    tx: &mut TenantTx,
    schedule: &Schedule,
    occurrences: &[Occurrence],
) -> Result<Vec<Moment>, DbError> {
    let (Some(first), Some(last)) = (occurrences.first(), occurrences.last()) else {
        return Ok(Vec::new());
    };
    let query = job_occurrence::table
        .filter(job_occurrence::schedule_id.eq(schedule.id))
        .filter(job_occurrence::due_at.ge(first.due_at))
        .filter(job_occurrence::due_at.le(last.due_at))
        .select(job_occurrence::due_at);
    on!(tx, |c| query.load(c).await)
}

async fn set_next(tx: &mut TenantTx, id: ScheduleId, next: Option<Moment>) -> Result<(), DbError> {
    let update = diesel::update(job_schedule::table.find(id)).set(job_schedule::next_at.eq(next));
    on!(tx, |c| update.execute(c).await).map(drop)
}
