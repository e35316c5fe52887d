//! Bodies of requests and answers about schedules.

use std::time::Duration;

use dotmac_platform::{
    db::types::{Id, Moment},
    jobs::{MAX_SCHEDULE_NAME, Occurrence, Schedule, ScheduleId, redact},
    prelude::Change,
    routing::not_null,
};
use garde::Validate;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;
use uuid::Uuid;

/// A schedule to be.
#[derive(Deserialize, Validate, ToSchema)]
pub(crate) struct NewSchedule {
    /// Of the tenant's schedules no other has it.
    #[garde(length(chars, min = 1, max = MAX_SCHEDULE_NAME))]
    #[schema(example = "nightly echo")]
    pub(crate) name: String,
    /// The kind of its jobs, one of those that callers may enqueue: `system.echo`.
    #[garde(skip)]
    #[schema(example = "system.echo")]
    pub(crate) kind: String,
    /// The arguments of its kind, at most 65536 bytes of JSON.
    #[serde(default)]
    #[garde(skip)]
    #[schema(example = json!({"text": "hello"}))]
    pub(crate) args: Value,
    /// When it is due: a line of cron with the five fields minute, hour, day, month and weekday. Either this or `every`.
    #[garde(skip)]
    #[schema(example = "30 2 * * *")]
    pub(crate) cron: Option<String>,
    /// The time between two occurrences, from 1 s to 366 days: seconds, or a text with units. Either this or `cron`.
    #[garde(skip)]
    pub(crate) every: Option<Span>,
    /// The zone that `cron` is meant in, of the IANA database; `UTC` unless it is given.
    #[garde(skip)]
    #[schema(example = "Europe/Berlin")]
    pub(crate) zone: Option<String>,
    /// The handling of missed occurrences: `skip` by default, `run_once`, `run_all`.
    #[garde(skip)]
    pub(crate) missed: Option<String>,
    /// How late an occurrence may be enqueued where missed ones are skipped; an hour unless it is given.
    #[garde(skip)]
    pub(crate) grace: Option<Span>,
}

/// The changes of a schedule; other fields stay.
#[derive(Deserialize, Validate, ToSchema)]
pub(crate) struct SchedulePatch {
    /// The new name.
    #[serde(default)]
    #[garde(custom(not_null), inner(length(chars, min = 1, max = MAX_SCHEDULE_NAME)))]
    pub(crate) name: Change<String>,
    /// The new arguments.
    #[serde(default)]
    #[garde(skip)]
    pub(crate) args: Change<Value>,
    /// The new line of cron, in place of the old one or of the interval.
    #[serde(default)]
    #[garde(skip)]
    pub(crate) cron: Change<String>,
    /// The new interval, in place of the old one or of the line of cron.
    #[serde(default)]
    #[garde(skip)]
    pub(crate) every: Change<Span>,
    /// The new zone; `null` for `UTC`.
    #[serde(default)]
    #[garde(skip)]
    pub(crate) zone: Change<String>,
    /// The new policy; `null` for `skip`.
    #[serde(default)]
    #[garde(skip)]
    pub(crate) missed: Change<String>,
    /// The new grace; `null` for an hour.
    #[serde(default)]
    #[garde(skip)]
    pub(crate) grace: Change<Span>,
    /// Whether it is held. What is due meanwhile is not missed: it is left out.
    #[serde(default)]
    #[garde(custom(not_null))]
    pub(crate) paused: Change<bool>,
}

/// A time: whole seconds, or a text with units as `90s`, `15m`, `1h 30m`, `7d`.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(untagged)]
pub(crate) enum Span {
    /// Seconds.
    Seconds(u64),
    /// With units.
    Text(String),
}

impl Span {
    /// The time; `None` if it is none, or not of whole seconds.
    pub(crate) fn duration(&self) -> Option<Duration> {
        let time = match self {
            Self::Seconds(seconds) => Duration::from_secs(*seconds),
            Self::Text(text) => humantime::parse_duration(text).ok()?,
        };
        (time.subsec_nanos() == 0).then_some(time)
    }
}

fn shown(time: Duration) -> String {
    humantime::format_duration(time).to_string()
}

/// A schedule.
#[derive(Clone, Serialize, ToSchema)]
#[schema(as = Schedule)]
pub(crate) struct ScheduleBody {
    /// Its id.
    pub(crate) id: Uuid,
    /// Its name.
    #[schema(example = "nightly echo")]
    name: String,
    /// The kind of its jobs.
    #[schema(example = "system.echo")]
    kind: String,
    /// Their arguments; `[redacted]` stands for those that the kind does not show.
    args: Value,
    /// Its line of cron, if it has one.
    #[schema(example = "30 2 * * *")]
    cron: Option<String>,
    /// Its interval, if it has one.
    every: Option<String>,
    /// The zone that `cron` is meant in.
    #[schema(example = "Europe/Berlin")]
    zone: String,
    /// The handling of missed occurrences: `skip`, `run_once` or `run_all`.
    missed: String,
    /// How late an occurrence may be enqueued where missed ones are skipped.
    grace: String,
    /// Whether it is held.
    paused: bool,
    /// When it is due next; `null` while it is held.
    next_at: Option<Moment>,
    /// When it was made.
    created_at: Moment,
    /// When it was changed last.
    updated_at: Moment,
}

impl ScheduleBody {
    /// With the arguments that are `visible`.
    pub(crate) fn new(schedule: Schedule, visible: &[&str]) -> Self {
        let draft = schedule.draft;
        Self {
            id: schedule.id.uuid(),
            name: draft.name,
            kind: draft.kind,
            args: redact(visible, draft.args),
            cron: draft.timing.line().map(str::to_owned),
            every: draft.timing.interval().map(shown),
            zone: draft.timing.zone().to_owned(),
            missed: draft.missed.as_str().to_owned(),
            grace: shown(draft.grace),
            paused: draft.is_paused,
            next_at: schedule.next_at,
            created_at: schedule.created_at,
            updated_at: schedule.updated_at,
        }
    }

    pub(crate) fn id(&self) -> ScheduleId {
        Id::from_uuid(self.id)
    }
}

/// A time at which a schedule was due, and what became of it.
#[derive(Clone, Serialize, ToSchema)]
#[schema(as = Occurrence)]
pub(crate) struct OccurrenceBody {
    /// When it was due.
    pub(crate) due_at: Moment,
    /// `enqueued`; `missed`, for no instance was there in time; `refused` by the queue; `triggered` by a caller.
    #[schema(example = "enqueued")]
    state: String,
    /// Its job, if there is one.
    pub(crate) job_id: Option<Uuid>,
    /// Why the queue refused its job.
    error: Option<String>,
}

impl From<Occurrence> for OccurrenceBody {
    fn from(it: Occurrence) -> Self {
        Self {
            due_at: it.due_at,
            state: it.state.to_string(),
            job_id: it.job_id.map(|id| id.uuid()),
            error: it.error,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_seconds_or_a_text_with_units() {
        for (given, seconds) in [
            (Span::Seconds(90), Some(90)),
            (Span::Text("90s".into()), Some(90)),
            (Span::Text("1h 30m".into()), Some(5400)),
            (Span::Text("7d".into()), Some(604_800)),
            (Span::Text("90".into()), None),
            (Span::Text("1500ms".into()), None),
            (Span::Text("soon".into()), None),
        ] {
            let expected = seconds.map(Duration::from_secs);
            assert_eq!(given.duration(), expected, "{given:?}");
        }
    }
}
