//! Which lines are logged: what the settings say, and for a while what an operator wants instead.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use tracing::{info, level_filters::LevelFilter, warn};

use super::filter::{Exchange, LogFilter};
use crate::error::TelemetryError;

/// Most changes that can be in force at once.
const CHANGES: usize = 64;

/// A wish of an operator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LevelChange {
    /// A level, or directives as [`Telemetry::set_log_filter`](crate::Telemetry::set_log_filter) takes
    /// them. With a target it must be a level.
    pub level: String,
    /// The target and those below it, such as `dotmac_db`; `None` for all.
    pub target: Option<String>,
    /// After which time it is taken back; `None` keeps it until the next change.
    pub lasting: Option<Duration>,
}

/// The filter of the log and why it is as it is.
pub(crate) struct Levels {
    exchange: Exchange,
    state: Mutex<State>,
}

struct State {
    /// The configured level.
    base: String,
    /// The newest last; one for each target.
    changes: Vec<Change>,
}

struct Change {
    wish: LevelChange,
    until: Option<Instant>,
}

impl Levels {
    pub(crate) fn new(base: &str, exchange: Exchange) -> Self {
        Self {
            exchange,
            state: Mutex::new(State {
                base: base.to_owned(),
                changes: Vec::new(),
            }),
        }
    }

    /// Directives of what is in force.
    pub(crate) fn effective(&self) -> String {
        self.state().directives()
    }

    /// Exchanges what the settings say; an operator's wishes stay.
    pub(crate) fn set_base(&self, base: &str) -> Result<(), TelemetryError> {
        let mut state = self.state();
        let former = std::mem::replace(&mut state.base, base.to_owned());
        self.apply(&state.directives())
            .inspect_err(|_| state.base = former)
    }

    /// Fulfils a wish; a former one for the same target is forgotten.
    pub(crate) fn change(&self, wish: LevelChange) -> Result<(), TelemetryError> {
        check(&wish)?;
        let mut state = self.state();
        state.forget_ended(Instant::now());
        let known = state
            .changes
            .iter()
            .any(|change| change.wish.target == wish.target);
        if !known && state.changes.len() >= CHANGES {
            return Err(TelemetryError::TooManyLevels(CHANGES));
        }
        let until = wish.lasting.map(|lasting| Instant::now() + lasting);
        let same = |change: &Change| change.wish.target == wish.target;
        let former: Vec<Change> = state
            .changes
            .extract_if(.., |change| same(change))
            .collect();
        state.changes.push(Change { wish, until });
        if let Err(error) = self.apply(&state.directives()) {
            state.changes.pop();
            state.changes.extend(former);
            return Err(error);
        }
        Ok(())
    }

    /// Restores expired levels, and logs it.
    pub(crate) fn expire(&self) {
        let mut state = self.state();
        if !state.forget_ended(Instant::now()) {
            return;
        }
        let directives = state.directives();
        let applied = self.apply(&directives);
        drop(state);
        match applied {
            Ok(()) => info!(level = directives, "the log level is `{directives}` again"),
            Err(error) => warn!(
                error = &error as &dyn std::error::Error,
                "the log level cannot be restored"
            ),
        }
    }

    fn apply(&self, directives: &str) -> Result<(), TelemetryError> {
        (self.exchange)(LogFilter::parse(directives)?)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn directives(&self) -> String {
        let general = self
            .changes
            .iter()
            .rfind(|change| change.wish.target.is_none());
        let general = general.map_or(&self.base, |change| &change.wish.level);
        let mut directives = general.clone();
        for Change { wish, .. } in &self.changes {
            if let Some(target) = &wish.target {
                directives.push_str(&format!(",{target}={}", wish.level));
            }
        }
        directives
    }

    fn forget_ended(&mut self, now: Instant) -> bool {
        let before = self.changes.len();
        self.changes
            .retain(|change| change.until.is_none_or(|until| until > now));
        self.changes.len() < before
    }
}

fn check(wish: &LevelChange) -> Result<(), TelemetryError> {
    let Some(target) = &wish.target else {
        return LogFilter::parse(&wish.level).map(drop);
    };
    if wish.level.parse::<LevelFilter>().is_err() {
        return Err(TelemetryError::LogLevel(wish.level.clone()));
    }
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | ':' | '-' | '.');
    if target.is_empty() || !target.chars().all(fits) {
        return Err(TelemetryError::LogTarget(target.clone()));
    }
    Ok(())
}
