//! Counts requests against rate limits, in memory of a fixed size.
//!
//! GCRA ("generic cell rate algorithm", ITU-T I.371): of each caller of a route one moment is remembered, at which its
//! whole quota would be there again. So a quota can be used at once, or as much of it as may come at once, and comes back evenly.
//!
//! There is room for 65,536 callers, in sets of eight. When a set is full, its caller that is closest to its whole quota is
//! forgotten, which gives it the rest of its quota at once: under an attack from very many networks limits are kept less
//! strictly, and memory does not grow. Each instance counts for itself.

use std::{
    hash::{BuildHasher, RandomState},
    sync::{Arc, Mutex, OnceLock, PoisonError},
    time::{Duration, Instant},
};

/// Sets, a power of two.
const SETS: usize = 8192;

/// Callers in a set.
const PLACES: usize = 8;

/// The callers of all routes with limits. Clones count together.
#[derive(Clone)]
pub(crate) struct Limiter(Arc<Table>);

struct Table {
    /// With a new key in each process, so that no client can choose its set.
    hasher: RandomState,
    began: Instant,
    /// Made for the first caller: a megabyte, which a program without limits does not need.
    sets: OnceLock<Box<[Mutex<[Place; PLACES]>]>>,
}

/// One caller.
#[derive(Clone, Copy, Default)]
struct Place {
    /// A hash of the route and the caller; 0 in a place that was never used.
    caller: u64,
    /// When the whole quota is there again, in nanoseconds since the beginning.
    whole_at: u64,
}

/// So many requests in so much time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Quota {
    /// At least 1.
    pub(super) requests: u32,
    /// Whole seconds, at least 1.
    pub(super) window: Duration,
    /// How many may come at once; `requests` unless it is said, and never fewer.
    pub(super) burst: u32,
}

/// What a limit says of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Verdict {
    /// Requests that are left now.
    pub(super) left: u32,
    /// When the whole quota is there again.
    pub(super) whole_in: Duration,
    /// When another request is let through, if this one is not.
    pub(super) refused_for: Option<Duration>,
    /// Whether a caller with a used quota was forgotten for this one.
    pub(super) forgot: bool,
}

impl Limiter {
    pub(crate) fn new() -> Self {
        Self(Arc::new(Table {
            hasher: RandomState::new(),
            began: Instant::now(),
            sets: OnceLock::new(),
        }))
    }

    /// Counts a request of `caller` against `quota`, unless it is refused.
    pub(super) fn count(&self, caller: impl std::hash::Hash, quota: Quota) -> Verdict {
        self.count_at(self.0.began.elapsed(), caller, quota)
    }

    fn count_at(&self, now: Duration, caller: impl std::hash::Hash, quota: Quota) -> Verdict {
        let caller = self.0.hasher.hash_one(caller).max(1);
        let set = usize::try_from(caller).unwrap_or_default() % SETS;
        let sets = self
            .0
            .sets
            .get_or_init(|| (0..SETS).map(|_| Mutex::default()).collect());
        let mut set = sets[set].lock().unwrap_or_else(PoisonError::into_inner);
        let (now, window) = (nanos(now), nanos(quota.window));
        let known = set.iter().position(|place| place.caller == caller);
        let oldest = || (0..PLACES).min_by_key(|at| set[*at].whole_at);
        let at = known.or_else(oldest).unwrap_or_default();
        let forgot = known.is_none() && set[at].whole_at > now;
        let whole_at = known.map_or(now, |at| set[at].whole_at.max(now));

        let each = window / u64::from(quota.requests);
        let most = each * u64::from(quota.burst);
        let next = whole_at + each;
        let is_allowed = next - now <= most;
        let whole_at = if is_allowed { next } else { whole_at };
        set[at] = Place { caller, whole_at };
        let used = whole_at - now;
        Verdict {
            left: u32::try_from(most.saturating_sub(used) / each).unwrap_or(u32::MAX),
            whole_in: Duration::from_nanos(used),
            refused_for: (!is_allowed).then(|| Duration::from_nanos(next - most - now)),
            forgot,
        }
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUOTA: Quota = Quota {
        requests: 4,
        window: Duration::from_secs(60),
        burst: 4,
    };

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn a_quota_can_be_used_at_once_and_comes_back_evenly() {
        let limiter = Limiter::new();
        for left in [3, 2, 1, 0] {
            let verdict = limiter.count_at(at(100), "one", QUOTA);
            assert_eq!((verdict.left, verdict.refused_for), (left, None));
        }
        let refused = limiter.count_at(at(105), "one", QUOTA);
        assert_eq!((refused.left, refused.refused_for), (0, Some(at(10))));
        assert_eq!(refused.whole_in, at(55));
        assert_eq!(limiter.count_at(at(115), "one", QUOTA).refused_for, None);
        assert!(
            limiter
                .count_at(at(116), "one", QUOTA)
                .refused_for
                .is_some()
        );
        assert_eq!(limiter.count_at(at(116), "other", QUOTA).left, 3);
        assert_eq!(limiter.count_at(at(500), "one", QUOTA).left, 3);
    }

    #[test]
    fn more_than_the_quota_may_come_at_once_and_comes_back_as_evenly() {
        let limiter = Limiter::new();
        let quota = Quota { burst: 8, ..QUOTA };
        for left in (0..8).rev() {
            let verdict = limiter.count_at(at(100), "one", quota);
            assert_eq!((verdict.left, verdict.refused_for), (left, None));
        }
        let refused = limiter.count_at(at(100), "one", quota);
        assert_eq!(
            (refused.refused_for, refused.whole_in),
            (Some(at(15)), at(120))
        );
        assert_eq!(limiter.count_at(at(115), "one", quota).refused_for, None);
    }

    #[test]
    fn when_all_places_are_taken_the_caller_closest_to_its_whole_quota_is_forgotten() {
        let limiter = Limiter::new();
        assert!(
            limiter.0.sets.get().is_none(),
            "no memory before the first caller"
        );
        let callers = u32::try_from(SETS * PLACES).unwrap_or(u32::MAX) * 2;
        let counted = (0..callers).map(|caller| limiter.count_at(at(100), caller, QUOTA));
        let (forgot, allowed) = counted.fold((0, 0), |(forgot, allowed), it| {
            (
                forgot + u32::from(it.forgot),
                allowed + u32::from(it.refused_for.is_none()),
            )
        });
        let memory = limiter.0.sets.get().map(|sets| size_of_val(&**sets));
        assert!(
            memory.is_some_and(|bytes| bytes <= 2 * 1024 * 1024),
            "{memory:?} bytes"
        );
        assert_eq!(allowed, callers, "no caller is refused because of others");
        assert!(forgot >= callers / 2, "{forgot} of {callers}");
    }

    #[test]
    fn a_caller_whose_quota_is_whole_is_forgotten_without_a_loss() {
        let limiter = Limiter::new();
        let callers = u32::try_from(SETS * PLACES).unwrap_or(u32::MAX) * 2;
        for caller in 0..callers {
            limiter.count_at(at(1), caller, QUOTA);
        }
        let later = (0..1000).map(|n| limiter.count_at(at(100), ("later", n), QUOTA));
        let lost = later.filter(|it| it.forgot).count();
        assert_eq!(lost, 0);
    }
}
