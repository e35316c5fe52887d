//! What an instance knows of the queues from when it last looked through all of them.
//!
//! While some transaction keeps its snapshot, PostgreSQL cannot remove the entries of claimed jobs from the index, and to
//! look for the first job of a tenant leads past all of them. So an instance whose look took long claims on where its last
//! claims ended. In parallel with its claims it scans again, on its own connection, after ten times that duration, or
//! three times if there is nothing to claim.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use super::{JobId, Row};
use crate::clock::Stamp;
use dotmac_db::{TenantId, types::Moment};
use serde::Serialize;

/// A look that takes no longer is part of each claim.
const QUICK: Duration = Duration::from_millis(4);
/// The time between two looks that took long, by what the last one took.
const APART: u32 = 10;
/// The same while there is nothing to claim.
const APART_IDLE: u32 = 3;

/// A kind and a queue.
pub(super) type Which = (&'static str, String);

/// What is known of the queues.
#[derive(Clone, Debug, Default)]
pub(in crate::jobs) struct Known {
    /// With which tenant the next look begins; it begins with the first where there is none.
    pub(super) turns: HashMap<Which, TenantId>,
    /// From where the jobs of tenants are claimed.
    pub(super) places: HashMap<Which, Vec<Place>>,
    /// When the last look was over, and how long it took.
    pub(super) looked: Option<(Instant, Duration)>,
    /// The last claim found nothing.
    pub(super) is_idle: bool,
}

impl Known {
    /// Whether the last scan took so long that the next one runs in parallel with the claims.
    pub(in crate::jobs) fn is_slow(&self) -> bool {
        self.looked.is_some_and(|(_, took)| took > QUICK)
    }

    /// How long the next look is put off; `None` if it is not.
    pub(in crate::jobs) fn put_off(&self) -> Option<Duration> {
        let (at, took) = self.looked.filter(|_| self.is_slow())?;
        let apart = if self.is_idle { APART_IDLE } else { APART };
        let left = (took * apart).checked_sub(at.elapsed())?;
        (!left.is_zero()).then_some(left)
    }
}

/// From where the jobs of a tenant are claimed, in the order of the index: the first that may be ready.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct Place {
    pub(super) tenant_id: TenantId,
    pub(super) priority: i32,
    #[serde(serialize_with = "stamp")]
    pub(super) run_at: Moment,
    pub(super) id: JobId,
}

fn stamp<S: serde::Serializer>(at: &Moment, serializer: S) -> Result<S::Ok, S::Error> {
    Stamp(*at).serialize(serializer)
}

impl Place {
    /// The last of `claimed`, if any of them is the tenant's.
    pub(super) fn after(self, claimed: &[Row]) -> Self {
        let mine = claimed
            .iter()
            .filter(|row| row.tenant_id == self.tenant_id)
            .map(Row::place);
        let last = mine.max_by_key(|place| (place.priority, place.run_at, place.id));
        last.unwrap_or(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_look_is_put_off_by_ten_times_what_the_last_one_took() {
        let took = |took| Known {
            looked: Some((Instant::now(), took)),
            ..Known::default()
        };
        assert_eq!(Known::default().put_off(), None);
        assert_eq!(took(QUICK).put_off(), None);
        let idle = Known {
            is_idle: true,
            ..took(Duration::from_secs(2))
        };
        assert!(idle.put_off() < Some(Duration::from_secs(7)));
        let left = took(Duration::from_secs(2)).put_off();
        assert!(
            left.is_some_and(|it| it > Duration::from_secs(19)),
            "{left:?}"
        );
        let over = Known {
            looked: Instant::now()
                .checked_sub(Duration::from_secs(60))
                .map(|at| (at, Duration::from_secs(2))),
            ..Known::default()
        };
        assert_eq!(over.put_off(), None);
    }
}
