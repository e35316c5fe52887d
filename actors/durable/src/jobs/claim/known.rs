//! What an instance knows of the queues from when it last looked through all of them.
//!
//! While some transaction keeps its snapshot, PostgreSQL cannot remove the entries of claimed jobs from the index, and to
//! look for the first job of a tenant leads past all of them. So an instance whose look took long claims on where its last
//! claims ended, and from where jobs have become ready since. These it finds by the transactions that made them ready: by
//! an index in that order, from the oldest transaction on that was open at the time before. So no claim reads the entries
//! of jobs that were claimed long ago.
//!
//! In parallel with its claims it scans all queues again, on its own connection, after a multiple of that duration: it finds
//! what another instance had locked and has let go.

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
/// The same where jobs that become ready are found without a look.
const APART_FOLLOWING: u32 = 30;
/// Tenants of a kind and queue that are known; what becomes ready of others waits for the next look.
pub(super) const MOST_TENANTS: usize = 1000;

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
    /// Which jobs have become ready that the last look did not find; `None` where that is not followed.
    pub(super) arrivals: Option<Arrivals>,
}

/// What is known of jobs that have become ready.
#[derive(Clone, Copy, Debug)]
pub(super) struct Arrivals {
    /// All that transactions below this one made ready are known.
    pub(super) floor: i64,
    /// When it was asked last, and how long that took.
    pub(super) asked: (Instant, Duration),
}

impl Arrivals {
    /// As of now, with what the answer took.
    pub(super) fn new(floor: i64, took: Duration) -> Self {
        Self {
            floor,
            asked: (Instant::now(), took),
        }
    }

    /// How long the next question is put off; `None` if it is not.
    fn put_off(&self) -> Option<Duration> {
        left(self.asked, APART)
    }

    /// Whether it is time to ask again.
    pub(super) fn is_due(&self) -> bool {
        self.put_off().is_none()
    }
}

impl Known {
    /// Whether the last scan took so long that the next one runs in parallel with the claims.
    pub(in crate::jobs) fn is_slow(&self) -> bool {
        self.looked.is_some_and(|(_, took)| took > QUICK)
    }

    /// How long the next look is put off; `None` if it is not.
    pub(in crate::jobs) fn put_off(&self) -> Option<Duration> {
        let apart = match self.arrivals {
            Some(_) => APART_FOLLOWING,
            None if self.is_idle => APART_IDLE,
            None => APART,
        };
        left(self.looked?, apart)
    }

    /// The same for the question what has become ready.
    pub(in crate::jobs) fn arrivals_put_off(&self) -> Option<Duration> {
        self.arrivals.as_ref().and_then(Arrivals::put_off)
    }

    /// Notes the first job of a tenant that has become ready: the tenant's are claimed from it on, unless an earlier one is
    /// known.
    pub(super) fn arrive(&mut self, which: Which, place: Place) {
        let places = self.places.entry(which).or_default();
        let has_room = places.len() < MOST_TENANTS;
        let known = places.iter_mut().find(|it| it.tenant_id == place.tenant_id);
        match known {
            Some(known) if known.order() > place.order() => *known = place,
            None if has_room => places.push(place),
            _ => {}
        }
    }
}

/// What is left of the pause after a query that was over at a time and took long: `apart` times as long as it took.
fn left((at, took): (Instant, Duration), apart: u32) -> Option<Duration> {
    let left = (took * apart).checked_sub(at.elapsed())?;
    (took > QUICK && !left.is_zero()).then_some(left)
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
    /// Its order among those of the tenant.
    fn order(&self) -> (i32, Moment, JobId) {
        (self.priority, self.run_at, self.id)
    }

    /// The last of `claimed`, if any of them is the tenant's.
    pub(super) fn after(self, claimed: &[Row]) -> Self {
        let mine = claimed
            .iter()
            .filter(|row| row.tenant_id == self.tenant_id)
            .map(Row::place);
        let last = mine.max_by_key(Self::order);
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
        let following = Known {
            arrivals: Some(Arrivals::new(7, Duration::ZERO)),
            ..took(Duration::from_secs(2))
        };
        let left = following.put_off();
        assert!(
            left.is_some_and(|it| it > Duration::from_secs(59)),
            "{left:?}"
        );
    }

    #[test]
    fn a_tenant_is_claimed_from_its_first_job_that_has_become_ready() {
        let mut known = Known::default();
        let which = || ("test.work", "default".to_owned());
        let now = Moment::now();
        let place = |tenant: u128, priority, late| Place {
            tenant_id: TenantId::from_uuid(uuid::Uuid::from_u128(tenant)),
            priority,
            run_at: now + Duration::from_secs(late),
            id: JobId::new(),
        };
        let (first, later, urgent) = (place(1, 0, 0), place(1, 0, 5), place(1, -1, 9));
        let other = place(2, 0, 7);
        for place in [later, other, first, later] {
            known.arrive(which(), place);
        }
        let found = |known: &Known| {
            let places = known.places[&which()].iter();
            places.map(|it| it.id).collect::<Vec<_>>()
        };
        assert_eq!(found(&known), [first.id, other.id]);
        known.arrive(which(), urgent);
        assert_eq!(found(&known), [urgent.id, other.id]);
        for tenant in 3..2000 {
            known.arrive(which(), place(tenant, 0, 0));
        }
        assert_eq!(found(&known).len(), MOST_TENANTS);
    }
}
