//! Acts on jobs, queues and schedules for the audit log.

use dotmac_platform::audit::{AuditedAct, Entry};

pub(crate) const ENQUEUE: AuditedAct = AuditedAct::new("job_enqueue", "A caller enqueued a job.");
pub(crate) const CANCEL: AuditedAct = AuditedAct::new("job_cancel", "A job was cancelled.");
pub(crate) const RETRY: AuditedAct =
    AuditedAct::new("job_retry", "A finished job was made ready again.");
pub(crate) const RUN_NOW: AuditedAct =
    AuditedAct::new("job_run_now", "A job was made ready before its time.");
pub(crate) const PAUSE: AuditedAct = AuditedAct::new("queue_pause", "A queue was paused.");
pub(crate) const RESUME: AuditedAct = AuditedAct::new("queue_resume", "A queue was resumed.");
pub(crate) const ADD_SCHEDULE: AuditedAct =
    AuditedAct::new("schedule_add", "A schedule was created.");
pub(crate) const CHANGE_SCHEDULE: AuditedAct = AuditedAct::new(
    "schedule_change",
    "A schedule was changed, paused or resumed.",
);
pub(crate) const DELETE_SCHEDULE: AuditedAct =
    AuditedAct::new("schedule_delete", "A schedule was deleted.");
pub(crate) const TRIGGER_SCHEDULE: AuditedAct = AuditedAct::new(
    "schedule_trigger",
    "A job of a schedule was enqueued at once.",
);

pub(crate) const ACTS: &[AuditedAct] = &[
    ENQUEUE,
    CANCEL,
    RETRY,
    RUN_NOW,
    PAUSE,
    RESUME,
    ADD_SCHEDULE,
    CHANGE_SCHEDULE,
    DELETE_SCHEDULE,
    TRIGGER_SCHEDULE,
];

/// The entry of an act upon a job.
pub(crate) fn upon_job(act: AuditedAct, id: impl ToString) -> Entry {
    Entry::new(act.name(), "jobs.job", id.to_string())
}

/// The same upon a queue.
pub(crate) fn upon_queue(is_paused: bool, name: &str) -> Entry {
    let act = if is_paused { PAUSE } else { RESUME };
    Entry::new(act.name(), "jobs.queue", name)
}

/// The same upon a schedule.
pub(crate) fn upon_schedule(act: AuditedAct, id: impl ToString) -> Entry {
    Entry::new(act.name(), "jobs.schedule", id.to_string())
}
