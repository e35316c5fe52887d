//! What becomes of the times at which a schedule was due and no instance was there.

use std::time::Duration;

use dotmac_db::{types::Moment, words};

use super::Timing;
use crate::clock::between;

/// The most occurrences that are enqueued after a time in which no instance was there.
pub const MAX_RUN_ALL: usize = 24;
/// Occurrences that are decided about at a time.
const AT_ONCE: usize = 1000;

words! {
    /// What becomes of occurrences at which no instance was there, or the database was away: its name as in the database and
    /// over HTTP.
    #[derive(Default)]
    pub enum Missed {
        /// The newest is enqueued if it is not later than the grace of its schedule; the others are missed.
        #[default]
        Skip = "skip",
        /// The newest is enqueued, however late; the others are missed.
        RunOnce = "run_once",
        /// The newest 24 are enqueued; older ones are missed.
        RunAll = "run_all",
    }
}

/// What is done about a schedule that is due.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Plan {
    /// Occurrences that are enqueued, in order.
    pub(super) run: Vec<Moment>,
    pub(super) missed: Vec<Moment>,
    /// When it is due next; that may be in the past, if there is more to decide.
    pub(super) next: Option<Moment>,
}

/// What is done about a schedule that is due since `due`.
pub(super) fn plan(
    timing: &Timing,
    anchor: Moment,
    due: Moment,
    now: Moment,
    (missed, grace): (Missed, Duration),
) -> Plan {
    let (mut occurrences, mut newest) = (vec![due], due);
    let next = loop {
        match timing.next(anchor, newest) {
            Some(next) if next <= now && occurrences.len() < AT_ONCE => {
                occurrences.push(next);
                newest = next;
            }
            next => break next,
        }
    };
    if next.is_some_and(|next| next <= now) {
        // Those that may have to be enqueued are decided about with the newer ones.
        let rest = occurrences.split_off(AT_ONCE - MAX_RUN_ALL);
        return Plan {
            run: Vec::new(),
            missed: occurrences,
            next: rest.first().copied(),
        };
    }
    let runs = match missed {
        Missed::Skip => usize::from(between(newest, now) <= grace),
        Missed::RunOnce => 1,
        Missed::RunAll => MAX_RUN_ALL,
    };
    let run = occurrences.split_off(occurrences.len().saturating_sub(runs));
    Plan {
        run,
        missed: occurrences,
        next,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn first() -> Moment {
        let time = chrono::DateTime::from_timestamp(1_767_225_600, 0);
        time.unwrap_or_default().into()
    }

    fn every_minute() -> Timing {
        Timing::every(Duration::from_secs(60)).unwrap_or_else(|_| unreachable!())
    }

    fn decided(count: u64, late: u64, missed: Missed) -> Plan {
        let (timing, due) = (every_minute(), first());
        let now = due + Duration::from_secs((count - 1) * 60 + late);
        plan(&timing, due, due, now, (missed, Duration::from_secs(10)))
    }

    #[test]
    fn what_is_due_is_enqueued_or_missed_as_the_policy_says() {
        use Missed::{RunAll, RunOnce, Skip};
        for (count, late, missed, runs) in [
            (1, 1, Skip, 1),
            (1, 11, Skip, 0),
            (5, 1, Skip, 1),
            (5, 11, Skip, 0),
            (1, 11, RunOnce, 1),
            (5, 11, RunOnce, 1),
            (5, 11, RunAll, 5),
            (30, 11, RunAll, 24),
        ] {
            let plan = decided(count, late, missed);
            let all: Vec<_> = plan.missed.iter().chain(&plan.run).copied().collect();
            assert_eq!(plan.run.len(), runs, "{count}, {late}, {missed:?}");
            assert!(all.len() as u64 == count && all.is_sorted(), "{all:?}");
            let next = all
                .first()
                .map(|first| *first + Duration::from_secs(count * 60));
            assert_eq!(plan.next, next);
        }
    }

    /// Many are decided about in parts; what comes of all parts is as if they were one.
    #[test]
    fn no_occurrence_of_a_long_absence_is_forgotten() {
        let (timing, first) = (every_minute(), first());
        let now = first + Duration::from_secs(2500 * 60 + 1);
        let policy = (Missed::RunAll, Duration::ZERO);
        let (mut due, mut missed, mut run) = (first, Vec::new(), Vec::new());
        while due <= now {
            let plan = plan(&timing, first, due, now, policy);
            missed.extend(plan.missed);
            run.extend(plan.run);
            due = plan.next.unwrap_or(Moment::LAST);
        }
        let all: Vec<_> = missed.iter().chain(&run).copied().collect();
        let expected = (0..=2500).map(|it| first + Duration::from_secs(it * 60));
        assert_eq!(all, expected.collect::<Vec<_>>());
        assert_eq!(run.len(), MAX_RUN_ALL);
    }
}
