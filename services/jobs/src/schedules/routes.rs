//! Takes requests about schedules apart, calls rules, puts answers together.

use std::time::Duration;

use dotmac_platform::{
    audit::Acts as _,
    jobs::{JobCatalogue, Schedule, ScheduleId, list_occurrences, list_schedules},
    prelude::*,
};

use super::{
    bodies::{NewSchedule, OccurrenceBody, ScheduleBody, SchedulePatch},
    rules,
};
use crate::{JobsError, ReadSchedules, Service, WriteSchedules};

const MINUTE: Duration = Duration::from_secs(60);

pub(crate) fn declare(routes: &mut Routes) {
    routes
        .get("", list)
        .id("jobs_list_schedules")
        .summary("The tenant's schedules, the newest first");
    routes
        .post("", create).id("jobs_create_schedule")
        .summary("Create a schedule, by a cron expression or an interval")
        .description(
            "Of occurrences that were missed, `skip` enqueues the newest if it is not later than `grace`, \
             `run_once` the newest, `run_all` the newest 24; each of the others has a row in `occurrences`.",
        )
        .rate_limit(RateLimit::per_principal(600, MINUTE));
    routes
        .get("/{id}", find)
        .id("jobs_find_schedule")
        .summary("One schedule");
    routes
        .patch("/{id}", change)
        .id("jobs_change_schedule")
        .summary("Change, pause or resume a schedule");
    routes
        .delete("/{id}", delete)
        .id("jobs_delete_schedule")
        .summary("Delete a schedule with its occurrences; its jobs stay");
    routes
        .get("/{id}/occurrences", occurrences)
        .id("jobs_list_occurrences")
        .summary("Due times of the schedule in the last 30 days, with their results");
    routes
        .post("/{id}/trigger", trigger)
        .id("jobs_trigger_schedule")
        .summary("Enqueue a job of the schedule now, even if it is paused")
        .rate_limit(RateLimit::per_principal(600, MINUTE));
}

async fn list(
    who: Can<ReadSchedules>,
    on: Use<Service>,
    paging: Paging,
) -> Result<Page<ScheduleBody>, JobsError> {
    let bound = CursorScope::of(who.tenant, "schedules");
    let (window, db) = (paging.window(&bound)?, on.db.tenant(&who.scope()));
    let found = db.read("list schedules", async move |tx| {
        rows!(window, |after, limit| list_schedules(tx, after, limit))
    });
    let found = found.await?.map(|it| body(it, &on.catalogue));
    Ok(paging.page(&bound, found, ScheduleBody::id))
}

async fn create(
    who: Can<WriteSchedules>,
    on: Use<Service>,
    new: Valid<NewSchedule>,
    once: Idempotency,
) -> Result<Created<Versioned<ScheduleBody>>, JobsError> {
    let (new, catalogue) = (new.into_inner(), on.catalogue.clone());
    let db = on.db.tenant(&who.scope());
    let created = db.act("create schedule", async move |tx| {
        let created = rules::create(tx, &catalogue, new).await?;
        let location = format!("/api/v1/schedules/{}", created.id);
        Ok(created.map(|schedule| {
            let body = versioned(schedule, &catalogue);
            once.keep(tx, Created { location, body })
        }))
    });
    created.await
}

async fn find(
    who: Can<ReadSchedules>,
    on: Use<Service>,
    id: Path<ScheduleId>,
) -> Result<Versioned<ScheduleBody>, JobsError> {
    let db = on.db.tenant(&who.scope());
    let found = db.read("find schedule", async move |tx| rules::find(tx, *id).await);
    Ok(versioned(found.await?, &on.catalogue))
}

async fn change(
    who: Can<WriteSchedules>,
    on: Use<Service>,
    id: Path<ScheduleId>,
    seen: IfMatch,
    patch: Valid<SchedulePatch>,
) -> Result<Versioned<ScheduleBody>, JobsError> {
    let (patch, catalogue) = (patch.into_inner(), on.catalogue.clone());
    let db = on.db.tenant(&who.scope());
    let changed = db.act("change schedule", async move |tx| {
        rules::change(tx, &catalogue, *id, &seen, patch).await
    });
    Ok(versioned(changed.await?, &on.catalogue))
}

async fn delete(
    who: Can<WriteSchedules>,
    on: Use<Service>,
    id: Path<ScheduleId>,
    seen: IfMatch,
) -> Result<NoContent, JobsError> {
    let db = on.db.tenant(&who.scope());
    let deleted = db.act("delete schedule", async move |tx| {
        rules::delete(tx, *id, &seen).await
    });
    deleted.await?;
    Ok(NoContent)
}

async fn occurrences(
    who: Can<ReadSchedules>,
    on: Use<Service>,
    id: Path<ScheduleId>,
    paging: Paging,
) -> Result<Page<OccurrenceBody>, JobsError> {
    let schedule = id.to_string();
    let bound = CursorScope {
        tenant: who.tenant,
        list: "occurrences",
        sort: "",
        filter: &schedule,
    };
    let (window, db) = (paging.window(&bound)?, on.db.tenant(&who.scope()));
    let found = db.read("list occurrences", async move |tx| {
        rules::find(tx, *id).await?;
        Ok::<_, JobsError>(rows!(window, |after, limit| list_occurrences(
            tx, *id, after, limit
        ))?)
    });
    let found = found.await?.map(OccurrenceBody::from);
    Ok(paging.page(&bound, found, |it| it.due_at))
}

async fn trigger(
    who: Can<WriteSchedules>,
    on: Use<Service>,
    id: Path<ScheduleId>,
    once: Idempotency,
) -> Result<Accepted<OccurrenceBody>, JobsError> {
    let catalogue = on.catalogue.clone();
    let db = on.db.tenant(&who.scope());
    let triggered = db.act("trigger schedule", async move |tx| {
        let triggered = rules::trigger(tx, &catalogue, *id).await?;
        let job = triggered.job_id.unwrap_or_default();
        let location = format!("/api/v1/jobs/{job}");
        Ok(triggered.map(|body| once.keep(tx, Accepted { location, body })))
    });
    triggered.await
}

fn versioned(schedule: Schedule, catalogue: &JobCatalogue) -> Versioned<ScheduleBody> {
    Versioned {
        version: schedule.version,
        body: body(schedule, catalogue),
    }
}

/// Of a kind that this program does not have, no argument is shown.
fn body(schedule: Schedule, catalogue: &JobCatalogue) -> ScheduleBody {
    let spec = catalogue.find(&schedule.draft.kind);
    ScheduleBody::new(schedule, spec.map_or(&[], |spec| spec.rules.shown))
}
