//! Counts requests against rate limits, in memory of a fixed size.
//!
//! GCRA ("generic cell rate algorithm", ITU-T I.371): of each caller of a route one moment is remembered, at which its
//! whole quota would be there again. So a quota can be used at once, or as much of it as may come at once, and comes back evenly.
//!
//! The moments are in a count-min sketch (Cormode and Muthukrishnan, 2005) of two rows for each window. A caller has a cell in
//! both rows and is judged by the lower one. Nothing is evicted, so no number of other callers gives a caller its quota back.
//! Callers that share both cells share a quota: with n callers in a window some (n / 65,536)² of them. Each instance counts
//! for itself.

use std::{
    hash::{BuildHasher, RandomState},
    sync::{Arc, Mutex, PoisonError, RwLock},
    time::{Duration, Instant},
};

/// Parts of a sketch, each with its lock.
const STRIPES: usize = 64;

/// Cells in a row of a stripe: 65,536 in a row of a sketch.
const CELLS: usize = 1024;

/// The callers of all routes with limits. Clones count together.
#[derive(Clone)]
pub(crate) struct Limiter(Arc<Sketches>);

struct Sketches {
    /// With a new key in each process, so that no client can choose its cells.
    hasher: RandomState,
    began: Instant,
    /// By window: what comes back within a minute is never added to what takes an hour.
    by_window: RwLock<Vec<(Duration, Arc<Sketch>)>>,
}

/// When whole quotas are there again, in nanoseconds since the beginning. Up to 1 MiB.
struct Sketch([Mutex<Stripe>; STRIPES]);

/// Two rows; empty until the first caller.
#[derive(Default)]
struct Stripe([Box<[u64]>; 2]);

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
}

impl Limiter {
    pub(crate) fn new() -> Self {
        Self(Arc::new(Sketches {
            hasher: RandomState::new(),
            began: Instant::now(),
            by_window: RwLock::default(),
        }))
    }

    /// Counts a request of `caller` against `quota`, unless it is refused.
    pub(super) fn count(&self, caller: impl std::hash::Hash, quota: Quota) -> Verdict {
        self.count_at(self.0.began.elapsed(), caller, quota)
    }

    fn count_at(&self, now: Duration, caller: impl std::hash::Hash, quota: Quota) -> Verdict {
        let caller = self.0.hasher.hash_one(caller);
        let sketch = self.sketch(quota.window);
        let stripe = &sketch.0[place(caller, 0, STRIPES)];
        let mut stripe = stripe.lock().unwrap_or_else(PoisonError::into_inner);
        let mut cells = stripe.cells(caller);
        let (now, window) = (nanos(now), nanos(quota.window));

        let each = window / u64::from(quota.requests);
        let most = each * u64::from(quota.burst);
        let lower = cells.iter().map(|cell| **cell).min().unwrap_or_default();
        // A caller that shares the cells may have a larger quota.
        let whole_at = lower.clamp(now, now + most);
        let next = whole_at + each;
        let is_allowed = next - now <= most;
        let whole_at = if is_allowed { next } else { whole_at };
        if is_allowed {
            for cell in &mut cells {
                **cell = next.max(**cell);
            }
        }
        let used = whole_at - now;
        Verdict {
            left: u32::try_from(most.saturating_sub(used) / each).unwrap_or(u32::MAX),
            whole_in: Duration::from_nanos(used),
            refused_for: (!is_allowed).then(|| Duration::from_nanos(next - most - now)),
        }
    }

    fn sketch(&self, window: Duration) -> Arc<Sketch> {
        let of = |sketches: &[(Duration, Arc<Sketch>)]| {
            let found = sketches.iter().find(|(its, _)| *its == window);
            found.map(|(_, sketch)| Arc::clone(sketch))
        };
        let sketches = &self.0.by_window;
        if let Some(found) = of(&sketches.read().unwrap_or_else(PoisonError::into_inner)) {
            return found;
        }
        let mut sketches = sketches.write().unwrap_or_else(PoisonError::into_inner);
        of(&sketches).unwrap_or_else(|| {
            let new = Arc::new(Sketch(std::array::from_fn(|_| Mutex::default())));
            sketches.push((window, Arc::clone(&new)));
            new
        })
    }
}

impl Stripe {
    /// The cells of a caller, one of each row.
    fn cells(&mut self, caller: u64) -> [&mut u64; 2] {
        let [first, second] = &mut self.0;
        if first.is_empty() {
            *first = vec![0; CELLS].into();
            *second = vec![0; CELLS].into();
        }
        [
            &mut first[place(caller, 1, CELLS)],
            &mut second[place(caller, 2, CELLS)],
        ]
    }
}

/// A place below `places` from the sixteen bits of `hash` at `part`.
fn place(hash: u64, part: u32, places: usize) -> usize {
    usize::try_from((hash >> (16 * part)) & 0xffff).unwrap_or_default() % places
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
    fn no_number_of_callers_gives_another_its_quota_back() {
        let limiter = Limiter::new();
        while limiter
            .count_at(at(100), "one", QUOTA)
            .refused_for
            .is_none()
        {}
        for other in 0..4 * u32::try_from(STRIPES * CELLS).unwrap_or_default() {
            limiter.count_at(at(100), other, QUOTA);
        }
        let refused = limiter.count_at(at(100), "one", QUOTA);
        assert_eq!((refused.left, refused.refused_for), (0, Some(at(15))));
        let sketch = limiter.sketch(QUOTA.window);
        let bytes = |stripe: &Mutex<Stripe>| {
            let Stripe(rows) = &*stripe.lock().unwrap_or_else(PoisonError::into_inner);
            rows.iter().map(|row| size_of_val(&**row)).sum::<usize>()
        };
        assert_eq!(sketch.0.iter().map(bytes).sum::<usize>(), 1024 * 1024);
    }

    #[test]
    fn a_thousand_callers_have_a_quota_each() {
        let limiter = Limiter::new();
        let mut refused = 0;
        for _ in 0..QUOTA.requests {
            for caller in 0..1000 {
                let verdict = limiter.count_at(at(100), caller, QUOTA);
                refused += u32::from(verdict.refused_for.is_some());
            }
        }
        // 1 of 4,000 on average.
        assert!(refused <= 20, "{refused} of 4,000");
    }

    #[test]
    fn what_takes_an_hour_to_come_back_is_not_added_to_what_takes_a_minute() {
        let limiter = Limiter::new();
        let hourly = Quota {
            window: Duration::from_secs(3600),
            ..QUOTA
        };
        while limiter
            .count_at(at(100), "one", hourly)
            .refused_for
            .is_none()
        {}
        assert_eq!(limiter.count_at(at(100), "one", QUOTA).left, 3);
    }
}
