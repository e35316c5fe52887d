//! Schedules: jobs that are enqueued at certain times.
//!
//! A schedule has no leader. Every instance looks each second which are due; the one whose transaction locks a schedule enqueues
//! its job, writes down the occurrence, and sets the next time, all at once. The key of an occurrence is its schedule and its
//! time, so one time is one job, even if clocks change or instances are killed.

mod missed;
mod schedule;
mod store;
mod tables;
mod tick;
mod timing;

pub use missed::{MAX_RUN_ALL, Missed};
pub use schedule::{
    Draft, MAX_SCHEDULE_NAME, MAX_SCHEDULES, Occurrence, OccurrenceState, Schedule, ScheduleError,
    ScheduleId,
};
pub(super) use store::forget_occurrences;
pub use store::{
    create_schedule, delete_schedule, find_any_schedule, find_schedule, list_all_schedules,
    list_occurrences, list_schedules, replace_schedule, trigger_schedule,
};
pub(super) use tick::tick;
pub use timing::{Timing, TimingError};
