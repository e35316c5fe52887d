//! What may differ from the rules of a kind for one job.

use std::{borrow::Cow, time::Duration};

use dotmac_db::types::Moment;

use super::{EnqueueError, MAX_ATTEMPTS, is_queue_name};

/// The longest unique key, in bytes.
const MAX_KEY: usize = 255;
/// Priorities are from minus that to that.
pub const MAX_PRIORITY: i32 = 100;

/// What may differ from the rules of a kind.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct EnqueueOptions {
    pub(super) queue: Option<Cow<'static, str>>,
    pub(super) priority: i32,
    pub(super) run_at: Option<Moment>,
    pub(super) max_attempts: Option<u32>,
    pub(super) unique: Option<Unique>,
}

/// A key of which there is one job at a time.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Unique {
    pub(super) key: String,
    pub(super) period: Duration,
}

impl EnqueueOptions {
    /// None.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// In another queue than that of its kind. A queue has slots of its own for each kind.
    #[must_use]
    pub fn queue(self, queue: impl Into<Cow<'static, str>>) -> Self {
        let queue = Some(queue.into());
        Self { queue, ..self }
    }

    /// Before or after other jobs of its tenant and kind: lower numbers first, from -100 to 100; 0 unless said otherwise.
    #[must_use]
    pub fn priority(self, priority: i32) -> Self {
        Self { priority, ..self }
    }

    /// Not before that time.
    #[must_use]
    pub fn run_at(self, run_at: Moment) -> Self {
        let run_at = Some(run_at);
        Self { run_at, ..self }
    }

    /// Attempts in all, from 1 to 100.
    #[must_use]
    pub fn max_attempts(self, max_attempts: u32) -> Self {
        let max_attempts = Some(max_attempts);
        Self {
            max_attempts,
            ..self
        }
    }

    /// Only if its tenant has no job of this kind with that key that is not finished. 1 to 255 bytes.
    #[must_use]
    pub fn unique(self, key: impl Into<String>) -> Self {
        self.unique_for(key, Duration::ZERO)
    }

    /// The same, and for `period` after a job was enqueued no other with that key is, finished or not.
    #[must_use]
    pub fn unique_for(self, key: impl Into<String>, period: Duration) -> Self {
        let key = key.into();
        let unique = Some(Unique { key, period });
        Self { unique, ..self }
    }
}

pub(super) fn check(kind: &'static str, options: &EnqueueOptions) -> Result<(), EnqueueError> {
    let wrong = |field, problem: &str| {
        let problem = problem.to_owned();
        Err(EnqueueError::Option {
            kind,
            field,
            problem,
        })
    };
    let queue = options.queue.as_deref();
    if queue.is_some_and(|queue| !is_queue_name(queue)) {
        return wrong(
            "queue",
            "is not a valid name: use lower-case letters, digits, `_` and dots",
        );
    }
    if !(-MAX_PRIORITY..=MAX_PRIORITY).contains(&options.priority) {
        return wrong("priority", "is not from -100 to 100");
    }
    if options
        .max_attempts
        .is_some_and(|most| !(1..=MAX_ATTEMPTS).contains(&most))
    {
        return wrong("max_attempts", "is not from 1 to 100");
    }
    if options.run_at.is_some_and(|at| at > Moment::LAST) {
        return wrong("run_at", "is after the year 9999");
    }
    let is_sound = |it: &Unique| {
        (1..=MAX_KEY).contains(&it.key.len()) && !it.key.chars().any(char::is_control)
    };
    if options
        .unique
        .as_ref()
        .is_some_and(|unique| !is_sound(unique))
    {
        return wrong(
            "unique",
            "does not have 1 to 255 bytes without control characters",
        );
    }
    Ok(())
}
