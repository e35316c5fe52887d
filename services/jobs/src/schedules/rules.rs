//! The rules of schedules. Each rule is a function over a transaction.

use std::time::Duration;

use dotmac_platform::{
    audit::{Audit as _, Audited},
    db::TenantTx,
    jobs::{
        Draft, JobCatalogue, KindSpec, MAX_ARGS, Missed, Schedule, ScheduleId, Timing, TimingError,
        create_schedule, delete_schedule, find_schedule, replace_schedule, trigger_schedule,
    },
    routing::{Change, IfMatch, InvalidRequest, PreconditionFailed},
};
use serde_json::Value;

use super::bodies::{NewSchedule, OccurrenceBody, SchedulePatch, Span};
use crate::{JobsError, acts, rules::no_such_kind};

/// How late an occurrence may be enqueued, unless it is said.
const GRACE: Duration = Duration::from_secs(60 * 60);
/// The longest that may be said.
const LONGEST_GRACE: Duration = Duration::from_secs(366 * 24 * 60 * 60);
const UTC: &str = "UTC";

/// Fields that are not acceptable, with what would be right.
type Wrong = Vec<(&'static str, String)>;

/// Makes a schedule.
///
/// # Errors
///
/// [`JobsError::Invalid`] names each field that is not acceptable; [`JobsError::ScheduleExists`],
/// [`JobsError::TooManySchedules`].
pub(crate) async fn create(
    tx: &mut TenantTx,
    catalogue: &JobCatalogue,
    new: NewSchedule,
) -> Result<Audited<Schedule>, JobsError> {
    let mut wrong = Wrong::new();
    match public(catalogue, &new.kind) {
        Some(spec) => check_args(&spec, &new.args, &mut wrong),
        None => wrong.push(("kind", no_such_kind(catalogue))),
    }
    let zone = new.zone.as_deref();
    let timing = timing(new.cron.as_deref(), new.every.as_ref(), zone, &mut wrong);
    let missed = missed(new.missed.as_deref(), &mut wrong);
    let grace = grace(new.grace.as_ref(), &mut wrong);
    let Some(timing) = timing.filter(|_| wrong.is_empty()) else {
        return Err(InvalidRequest::fields(wrong).into());
    };
    let draft = Draft {
        name: new.name,
        kind: new.kind,
        args: new.args,
        timing,
        missed,
        grace,
        is_paused: false,
    };
    let made = create_schedule(tx, draft).await?;
    let entry = acts::upon_schedule(acts::ADD_SCHEDULE, made.id);
    Ok(tx.audit(entry)?.of(made))
}

/// The schedule of that id.
///
/// # Errors
///
/// [`JobsError::NoSchedule`], also for one of another tenant.
pub(crate) async fn find(tx: &mut TenantTx, id: ScheduleId) -> Result<Schedule, JobsError> {
    find_schedule(tx, id).await?.ok_or(JobsError::NoSchedule)
}

/// Changes the schedule of that id, if it is in a version that the client has seen.
///
/// # Errors
///
/// As [`create`] and [`find`]; [`JobsError::Changed`].
pub(crate) async fn change(
    tx: &mut TenantTx,
    catalogue: &JobCatalogue,
    id: ScheduleId,
    seen: &IfMatch,
    patch: SchedulePatch,
) -> Result<Audited<Schedule>, JobsError> {
    let former = find(tx, id).await?;
    seen.check(former.version)?;
    let mut wrong = Wrong::new();
    let mut draft = former.draft.clone();
    if let Change::Set(name) = patch.name {
        draft.name = name;
    }
    if patch.args.is_given() {
        draft.args = patch.args.apply_to(Value::Null).unwrap_or_default();
        match catalogue.find(&draft.kind) {
            Some(spec) => check_args(&spec, &draft.args, &mut wrong),
            None => wrong.push(("args", no_such_kind(catalogue))),
        }
    }
    if patch.cron.is_given() || patch.every.is_given() || patch.zone.is_given() {
        // A new line takes the place of the interval, and the other way round.
        let line = draft.timing.line().map(str::to_owned);
        let line = line.filter(|_| patch.every.set().is_none());
        let every = draft
            .timing
            .interval()
            .map(|it| Span::Seconds(it.as_secs()));
        let every = every.filter(|_| patch.cron.set().is_none());
        let zone = draft.timing.line().map(|_| draft.timing.zone().to_owned());
        let (line, every) = (patch.cron.apply_to(line), patch.every.apply_to(every));
        // An interval has no zone; that of the line goes with it.
        let zone = zone.filter(|_| line.is_some());
        let zone = patch.zone.apply_to(zone);
        let changed = timing(line.as_deref(), every.as_ref(), zone.as_deref(), &mut wrong);
        draft.timing = changed.unwrap_or(draft.timing);
    }
    if patch.missed.is_given() {
        draft.missed = missed(patch.missed.set().map(String::as_str), &mut wrong);
    }
    if patch.grace.is_given() {
        draft.grace = grace(patch.grace.set(), &mut wrong);
    }
    if let Change::Set(is_paused) = patch.paused {
        draft.is_paused = is_paused;
    }
    if !wrong.is_empty() {
        return Err(InvalidRequest::fields(wrong).into());
    }
    let entry = acts::upon_schedule(acts::CHANGE_SCHEDULE, id);
    let is_held = draft.is_paused;
    let entry = match is_held == former.draft.is_paused {
        true => entry,
        false => entry.detail("paused", is_held.to_string()),
    };
    let changed = replace_schedule(tx, &former, draft).await?;
    Ok(tx.audit(entry)?.of(changed.ok_or(PreconditionFailed)?))
}

/// Pauses or resumes the schedule of that id, in any version.
///
/// # Errors
///
/// [`JobsError::NoSchedule`], [`JobsError::Changed`].
pub(crate) async fn set_paused(
    tx: &mut TenantTx,
    id: ScheduleId,
    is_paused: bool,
) -> Result<Audited<Schedule>, JobsError> {
    let former = find(tx, id).await?;
    let draft = Draft {
        is_paused,
        ..former.draft.clone()
    };
    let entry = acts::upon_schedule(acts::CHANGE_SCHEDULE, id);
    let entry = entry.detail("paused", is_paused.to_string());
    let changed = replace_schedule(tx, &former, draft).await?;
    Ok(tx.audit(entry)?.of(changed.ok_or(PreconditionFailed)?))
}

/// Takes the schedule of that id away, if it is in a version that the client has seen.
///
/// # Errors
///
/// [`JobsError::NoSchedule`], [`JobsError::Changed`].
pub(crate) async fn delete(
    tx: &mut TenantTx,
    id: ScheduleId,
    seen: &IfMatch,
) -> Result<Audited<()>, JobsError> {
    let schedule = find(tx, id).await?;
    seen.check(schedule.version)?;
    match delete_schedule(tx, id, schedule.version).await? {
        true => {
            let entry = acts::upon_schedule(acts::DELETE_SCHEDULE, id);
            Ok(tx.audit(entry)?.of(()))
        }
        false => Err(PreconditionFailed.into()),
    }
}

/// Enqueues a job of the schedule now.
///
/// # Errors
///
/// [`JobsError::NoSchedule`]; [`JobsError::Enqueue`] if there is no room; [`JobsError::NoKind`] if the program does not do
/// such jobs.
pub(crate) async fn trigger(
    tx: &mut TenantTx,
    catalogue: &JobCatalogue,
    id: ScheduleId,
) -> Result<Audited<OccurrenceBody>, JobsError> {
    let schedule = find(tx, id).await?;
    let spec = catalogue.find(&schedule.draft.kind);
    let spec = spec.ok_or(JobsError::NoKind)?;
    let triggered = trigger_schedule(tx, &schedule, &spec).await?;
    let entry = acts::upon_schedule(acts::TRIGGER_SCHEDULE, id);
    Ok(tx.audit(entry)?.of(triggered.into()))
}

/// The kind of that name, if callers may enqueue it.
fn public(catalogue: &JobCatalogue, kind: &str) -> Option<KindSpec> {
    let spec = catalogue.find(kind);
    spec.filter(|spec| spec.rules.is_public)
}

fn check_args(spec: &KindSpec, args: &Value, wrong: &mut Wrong) {
    if let Err(problem) = spec.check(args) {
        wrong.push(("args", problem.to_string()));
    }
    let bytes = args.to_string().len();
    if bytes > MAX_ARGS {
        wrong.push((
            "args",
            format!("have {bytes} bytes of JSON; {MAX_ARGS} are allowed"),
        ));
    }
}

fn timing(
    line: Option<&str>,
    every: Option<&Span>,
    zone: Option<&str>,
    wrong: &mut Wrong,
) -> Option<Timing> {
    let timing = match (line, every) {
        (Some(line), None) => Timing::cron(line, zone.unwrap_or(UTC)),
        (None, Some(every)) => {
            if zone.is_some() {
                wrong.push(("zone", "is for `cron`; an interval has none".to_owned()));
            }
            let every = every.duration().ok_or(TimingError::Every);
            every.and_then(Timing::every)
        }
        (Some(_), Some(_)) => {
            wrong.push((
                "every",
                "is given together with `cron`; one of them is enough".to_owned(),
            ));
            return None;
        }
        (None, None) => {
            wrong.push(("cron", "is needed, or `every`".to_owned()));
            return None;
        }
    };
    timing
        .map_err(|error| {
            let field = match error {
                TimingError::Cron(_) => "cron",
                TimingError::Zone => "zone",
                TimingError::Every => "every",
            };
            wrong.push((field, error.to_string()));
        })
        .ok()
}

fn missed(text: Option<&str>, wrong: &mut Wrong) -> Missed {
    let missed = text.map_or(Ok(Missed::default()), str::parse);
    missed.unwrap_or_else(|error| {
        wrong.push(("missed", error.to_string()));
        Missed::default()
    })
}

fn grace(span: Option<&Span>, wrong: &mut Wrong) -> Duration {
    let grace = span.map_or(Some(GRACE), Span::duration);
    grace
        .filter(|grace| *grace <= LONGEST_GRACE)
        .unwrap_or_else(|| {
            wrong.push(("grace", "is up to 366 days, in whole seconds".to_owned()));
            GRACE
        })
}
