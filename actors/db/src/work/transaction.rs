//! How a transaction is run: at which isolation, and how often again after a conflict.

use std::time::Duration;

/// The isolation of a transaction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Isolation {
    /// Each statement sees what was committed before it. PostgreSQL's default.
    #[default]
    ReadCommitted,
    /// All statements see the same; a write to what has changed since is a conflict.
    RepeatableRead,
    /// As if transactions ran one after the other; where they could not have, that is a conflict.
    Serializable,
}

impl Isolation {
    pub(crate) const fn begin(self) -> &'static str {
        match self {
            Self::ReadCommitted => "BEGIN",
            Self::RepeatableRead => "BEGIN ISOLATION LEVEL REPEATABLE READ",
            Self::Serializable => "BEGIN ISOLATION LEVEL SERIALIZABLE",
        }
    }
}

/// How a transaction is run again when the database ends it for the sake of another: a serialisation failure
/// or a deadlock, and on SQLite a lock that was not given in time.
///
/// Before each further try it waits, so that those who met do not meet again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retry {
    pub(crate) isolation: Isolation,
    pub(crate) tries: u32,
}

impl Retry {
    /// Five tries at PostgreSQL's default isolation: for deadlocks.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            isolation: Isolation::ReadCommitted,
            tries: 5,
        }
    }

    /// Five tries at [`Isolation::Serializable`].
    #[must_use]
    pub const fn serializable() -> Self {
        Self::new().isolation(Isolation::Serializable)
    }

    /// The same at another isolation.
    #[must_use]
    pub const fn isolation(self, isolation: Isolation) -> Self {
        Self { isolation, ..self }
    }

    /// The same with `tries` in all, from 1 to 20.
    #[must_use]
    pub const fn tries(self, tries: u32) -> Self {
        let tries = if tries == 0 {
            1
        } else if tries > 20 {
            20
        } else {
            tries
        };
        Self { tries, ..self }
    }

    /// The wait after try number `done`, counted from 1: drawn from 0 up to 10 ms, doubled by each try,
    /// 500 ms at the most ("full jitter").
    pub(crate) fn pause(done: u32, rng: &mut fastrand::Rng) -> Duration {
        let longest = Duration::from_millis(10) * 2_u32.pow(done.saturating_sub(1).min(6));
        longest.min(Duration::from_millis(500)).mul_f64(rng.f64())
    }
}

impl Default for Retry {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tries_are_bounded() {
        assert_eq!(Retry::new().tries(0).tries, 1);
        assert_eq!(Retry::new().tries(1000).tries, 20);
    }

    /// Those who met do not meet again: their waits are spread from 0 to the longest.
    #[test]
    fn waits_are_bounded_and_spread() {
        for (done, longest) in [(1, 10), (2, 20), (4, 80), (7, 500), (50, 500)] {
            let longest = Duration::from_millis(longest);
            let mut rng = fastrand::Rng::with_seed(u64::from(done));
            let waits: Vec<_> = (0..100).map(|_| Retry::pause(done, &mut rng)).collect();
            assert!(waits.iter().all(|wait| *wait <= longest), "{waits:?}");
            for quarter in 0..4 {
                let span = longest * quarter / 4..longest * (quarter + 1) / 4;
                let within = waits.iter().filter(|wait| span.contains(wait)).count();
                assert!(within > 10, "{within} of 100 in {span:?}");
            }
        }
    }
}
