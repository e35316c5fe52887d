//! Takes requests apart, calls rules, puts answers together.

use std::time::Duration;

use dotmac_platform::{
    audit::{AcrossActs as _, Acts as _, Audit as _},
    db::AcrossTx,
    jobs::{self, JobId},
    prelude::*,
};

use crate::{
    JobsError, Read, ReadQueues, Service, Write, WriteQueues, acts,
    bodies::{Asked, DetailBody, JobBody, NewJob, QueueBody, StatsBody},
    rules::{self, Act},
};

const MINUTE: Duration = Duration::from_secs(60);

pub(crate) fn declare_jobs(routes: &mut Routes) {
    routes
        .get("", list)
        .summary("The tenant's jobs, the newest first");
    routes
        .post("", enqueue)
        .summary("Enqueue a job of a kind that callers may enqueue")
        .rate_limit(RateLimit::per_principal(6000, MINUTE));
    routes
        .get("/stats", stats)
        .summary("Count the tenant's jobs, by kind, queue and state");
    routes
        .get("/{id}", find)
        .summary("One job, with its arguments and attempts");
    routes
        .post("/{id}/cancel", cancel)
        .summary("Cancel a job")
        .description("A running job sees that it is cancelled; after 10 s it is abandoned.");
    routes
        .post("/{id}/retry", retry)
        .summary("Retry a failed, cancelled or parked job");
    routes
        .post("/{id}/run-now", run_now)
        .summary("Run a scheduled or retrying job now");
}

pub(crate) fn declare_queues(routes: &mut Routes) {
    routes
        .get("", list_queues)
        .summary("All queues, with the jobs of all tenants");
    routes
        .post("/{name}/pause", pause)
        .summary("Pause a queue: none of its jobs is started, on any instance");
    routes
        .post("/{name}/resume", resume)
        .summary("Resume a queue");
}

async fn list(
    who: Can<Read>,
    on: Use<Service>,
    asked: Query<Asked>,
    paging: Paging,
) -> Result<Page<JobBody>, JobsError> {
    let filter = rules::filter(&asked)?;
    let bound_filter = format!("{filter:?}");
    let bound = CursorScope {
        tenant: who.tenant,
        list: "jobs",
        sort: "",
        filter: &bound_filter,
    };
    let (window, db) = (paging.window(&bound)?, on.db.tenant(&who.scope()));
    let found = db.read("list jobs", async move |tx| {
        rows!(window, |after, limit| jobs::list(tx, &filter, after, limit))
    });
    let found = found.await?.map(JobBody::from);
    Ok(paging.page(&bound, found, JobBody::id))
}

async fn find(
    who: Can<Read>,
    on: Use<Service>,
    id: Path<JobId>,
) -> Result<Json<DetailBody>, JobsError> {
    let (db, catalogue) = (on.db.tenant(&who.scope()), on.catalogue.clone());
    let found = db.read("find job", async move |tx| {
        rules::detail(tx, &catalogue, *id).await
    });
    Ok(Json(found.await?))
}

async fn enqueue(
    who: Can<Write>,
    on: Use<Service>,
    new: Valid<NewJob>,
    once: Idempotency,
) -> Result<Accepted<JobBody>, JobsError> {
    let (new, catalogue) = (new.into_inner(), on.catalogue.clone());
    let db = on.db.tenant(&who.scope());
    let enqueued = db.act("enqueue job", async move |tx| {
        let enqueued = rules::enqueue(tx, &catalogue, new).await?;
        let location = format!("/api/v1/jobs/{}", enqueued.id);
        Ok(enqueued.map(|body| once.keep(tx, Accepted { location, body })))
    });
    enqueued.await
}

async fn stats(who: Can<Read>, on: Use<Service>) -> Result<Json<StatsBody>, JobsError> {
    let db = on.db.tenant(&who.scope());
    let stats = db.read("count jobs", async move |tx| {
        Ok::<_, JobsError>(jobs::stats(tx).await?)
    });
    Ok(Json(stats.await?.into()))
}

async fn cancel(
    who: Can<Write>,
    on: Use<Service>,
    id: Path<JobId>,
) -> Result<Json<JobBody>, JobsError> {
    act(&who, &on, *id, Act::Cancel).await
}

async fn retry(
    who: Can<Write>,
    on: Use<Service>,
    id: Path<JobId>,
) -> Result<Json<JobBody>, JobsError> {
    act(&who, &on, *id, Act::Retry).await
}

async fn run_now(
    who: Can<Write>,
    on: Use<Service>,
    id: Path<JobId>,
) -> Result<Json<JobBody>, JobsError> {
    act(&who, &on, *id, Act::RunNow).await
}

async fn act(
    who: &Can<Write>,
    on: &Service,
    id: JobId,
    act: Act,
) -> Result<Json<JobBody>, JobsError> {
    let db = on.db.tenant(&who.scope());
    let acted = db.act("change job", async move |tx| {
        let acted = rules::act(tx, id, act).await?;
        let body = rules::one(tx, id).await?;
        Ok::<_, JobsError>(acted.map(|()| body))
    });
    Ok(Json(acted.await?))
}

async fn list_queues(_: Can<ReadQueues>, on: Use<Service>) -> Result<Page<QueueBody>, JobsError> {
    let db = on.db.system("show queues to an operator");
    let found = db.read("list queues", async |c| rules::queues(c).await);
    Ok(Page::whole(found.await?))
}

async fn pause(
    who: Can<WriteQueues>,
    on: Use<Service>,
    name: Path<String>,
) -> Result<Json<QueueBody>, JobsError> {
    set_paused(&who, &on, name.clone(), true).await
}

async fn resume(
    who: Can<WriteQueues>,
    on: Use<Service>,
    name: Path<String>,
) -> Result<Json<QueueBody>, JobsError> {
    set_paused(&who, &on, name.clone(), false).await
}

/// Recorded as an act of the caller, in the caller's tenant.
async fn set_paused(
    who: &Can<WriteQueues>,
    on: &Service,
    name: String,
    is_paused: bool,
) -> Result<Json<QueueBody>, JobsError> {
    let (db, scope) = (
        on.db.system("pause or resume a queue for an operator"),
        who.scope(),
    );
    let set = db.act_across("pause queue", async move |mut tx: AcrossTx<'_>| {
        let by = tx.tenant(&scope).await?;
        let recorded = by.audit(acts::upon_queue(is_paused, &name))?;
        let tx = tx.system().await?;
        rules::set_paused(tx, &name, is_paused, recorded).await
    });
    Ok(Json(set.await?))
}
