//! Jobs that are claimed before there is a slot for them, so that slots do not wait for the database.
//!
//! How many depends on the jobs: as many as the slots of their kind do within [`WINDOW`], by what the last ones took; none
//! of a kind whose jobs take longer, or that is bounded over all instances. One that gets no slot within [`LONGEST`] is given
//! back, and so are all when the worker stops.

use std::{
    collections::{HashMap, VecDeque},
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use super::super::{JobId, KindSpec, claim::Claimed};

/// What the slots of a kind are expected to do within this time is claimed ahead.
const WINDOW: Duration = Duration::from_millis(50);
/// The most jobs of a kind and queue that are claimed ahead.
const MOST: u64 = 256;
/// The longest that a job waits here.
const LONGEST: Duration = Duration::from_secs(1);

/// The jobs that are claimed ahead on an instance.
pub(super) struct Ahead {
    waiting: Mutex<Waiting>,
    /// What jobs of each kind take, in nanoseconds; 0 while none has ended.
    means: HashMap<&'static str, AtomicU64>,
}

/// The jobs, by kind and queue.
#[derive(Default)]
pub(super) struct Waiting {
    is_closed: bool,
    lanes: Vec<Lane>,
}

struct Lane {
    spec: KindSpec,
    queue: String,
    jobs: VecDeque<(Claimed, Instant)>,
}

impl Ahead {
    pub(super) fn new(kinds: impl IntoIterator<Item = &'static str>) -> Self {
        Self {
            waiting: Mutex::default(),
            means: kinds
                .into_iter()
                .map(|kind| (kind, AtomicU64::new(0)))
                .collect(),
        }
    }

    /// Notes what a job took.
    pub(super) fn note(&self, kind: &str, took: Duration) {
        let Some(mean) = self.means.get(kind) else {
            return;
        };
        let took = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX).max(8);
        // Two at a time may leave one of them out, which does no harm.
        let next = match mean.load(Relaxed) {
            0 => took,
            mean => mean - mean / 8 + took / 8,
        };
        mean.store(next, Relaxed);
    }

    /// Notes that a job got no slot in time: none of the kind is claimed ahead until some have ended quickly again.
    pub(super) fn note_late(&self, kind: &str) {
        if let Some(mean) = self.means.get(kind) {
            let long = u64::try_from((WINDOW * 2).as_nanos()).unwrap_or(u64::MAX);
            mean.fetch_max(long, Relaxed);
        }
    }

    /// How many jobs of the kind are claimed ahead in each queue.
    pub(super) fn depth(&self, spec: &KindSpec) -> u32 {
        let mean = self.means.get(spec.kind).map_or(0, |it| it.load(Relaxed));
        if mean == 0 || spec.rules.total.is_some() || spec.rules.rate.is_some() {
            return 0;
        }
        let window = u64::try_from(WINDOW.as_nanos()).unwrap_or(u64::MAX);
        let each = window / mean;
        let depth = each.saturating_mul(u64::from(spec.rules.slots)).min(MOST);
        u32::try_from(depth).unwrap_or(0)
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Waiting {
    /// Adds a job after those of its kind and queue; none once all have been taken out, since its lease ends with theirs.
    pub(super) fn add(&mut self, spec: KindSpec, job: Claimed) {
        if self.is_closed {
            return;
        }
        let since = Instant::now();
        match self.find(spec.kind, &job.queue) {
            Some(lane) => lane.jobs.push_back((job, since)),
            None => self.lanes.push(Lane {
                spec,
                queue: job.queue.clone(),
                jobs: [(job, since)].into(),
            }),
        }
    }

    fn find(&mut self, kind: &str, queue: &str) -> Option<&mut Lane> {
        let is_it = |lane: &&mut Lane| lane.spec.kind == kind && lane.queue == queue;
        self.lanes.iter_mut().find(is_it)
    }

    /// The next job of the kind and queue to begin. None that waits too long: after a freeze its lease may be over.
    pub(super) fn next(&mut self, kind: &str, queue: &str) -> Option<Claimed> {
        let jobs = &mut self.find(kind, queue)?.jobs;
        let is_fresh = jobs.front().is_some_and(|(_, at)| at.elapsed() < LONGEST);
        is_fresh
            .then(|| jobs.pop_front())
            .flatten()
            .map(|(job, _)| job)
    }

    /// How many there are, by kind and queue.
    pub(super) fn counts(&mut self) -> Vec<(KindSpec, String, usize)> {
        self.lanes.retain(|lane| !lane.jobs.is_empty());
        let counts = self.lanes.iter();
        let counts = counts.map(|lane| (lane.spec, lane.queue.clone(), lane.jobs.len()));
        counts.collect()
    }

    pub(super) fn count(&mut self, kind: &str, queue: &str) -> usize {
        self.find(kind, queue).map_or(0, |lane| lane.jobs.len())
    }

    pub(super) fn len(&self) -> usize {
        self.lanes.iter().map(|lane| lane.jobs.len()).sum()
    }

    /// Whether one of them is suspect of having ended a process.
    pub(super) fn have_suspect(&self) -> bool {
        let mut jobs = self.lanes.iter().flat_map(|lane| &lane.jobs);
        jobs.any(|(job, _)| job.crashes > 0)
    }

    pub(super) fn ids(&self) -> Vec<JobId> {
        let jobs = self.lanes.iter().flat_map(|lane| &lane.jobs);
        jobs.map(|(job, _)| job.lease.id).collect()
    }

    /// Takes out one that waits too long.
    pub(super) fn take_late(&mut self) -> Option<Claimed> {
        self.take(|_, since| since.elapsed() >= LONGEST)
    }

    /// Takes out the job, if it is under that lease.
    pub(super) fn take_one(&mut self, id: JobId, lease: i64) -> Option<Claimed> {
        self.take(|job, _| job.lease.id == id && job.lease.number == lease)
    }

    fn take(&mut self, is_it: impl Fn(&Claimed, &Instant) -> bool) -> Option<Claimed> {
        self.lanes.iter_mut().find_map(|lane| {
            let at = lane.jobs.iter().position(|(job, at)| is_it(job, at))?;
            lane.jobs.remove(at).map(|(job, _)| job)
        })
    }

    /// Takes out all, permanently.
    pub(super) fn close(&mut self) -> Vec<Claimed> {
        self.is_closed = true;
        let lanes = std::mem::take(&mut self.lanes).into_iter();
        lanes
            .flat_map(|lane| lane.jobs)
            .map(|(job, _)| job)
            .collect()
    }

    pub(super) fn is_closed(&self) -> bool {
        self.is_closed
    }
}

#[cfg(test)]
mod tests {
    use serde::{Deserialize, Serialize};

    use super::*;
    use crate::jobs::{Job, Rules};

    #[derive(Serialize, Deserialize)]
    struct Free;

    impl Job for Free {
        const KIND: &'static str = "test.free";
        type Output = ();
    }

    #[derive(Serialize, Deserialize)]
    struct Bounded;

    impl Job for Bounded {
        const KIND: &'static str = "test.bounded";
        type Output = ();
        const RULES: Rules = Rules {
            total: Some(8),
            ..Rules::DEFAULT
        };
    }

    #[test]
    fn as_many_jobs_are_claimed_ahead_as_are_done_in_a_moment() {
        let (free, bounded) = (KindSpec::of::<Free>(), KindSpec::of::<Bounded>());
        let ahead = Ahead::new([free.kind, bounded.kind]);
        assert_eq!(ahead.depth(&free), 0, "nothing is known of them");
        ahead.note(free.kind, Duration::from_millis(10));
        ahead.note(bounded.kind, Duration::from_millis(10));
        assert_eq!(ahead.depth(&free), 5 * 8);
        assert_eq!(ahead.depth(&bounded), 0);
        for _ in 0..100 {
            ahead.note(free.kind, Duration::from_micros(20));
        }
        assert_eq!(u64::from(ahead.depth(&free)), MOST);
        for _ in 0..100 {
            ahead.note(free.kind, Duration::from_secs(1));
        }
        assert_eq!(ahead.depth(&free), 0, "each would wait too long");
        for _ in 0..100 {
            ahead.note(free.kind, Duration::from_micros(20));
        }
        ahead.note_late(free.kind);
        assert_eq!(ahead.depth(&free), 0, "some got no slot");
    }
}
