//! Which failures of unauthenticated clients are recorded, so that a flood of them does not fill the disk.
//!
//! In each minute the first hundred of one client network are, and of what follows every hundredth, which says that it stands for
//! so many. Of these the first thousand of all networks are, and again every hundredth of what follows. What is remembered has
//! a fixed size.

use std::{
    hash::{BuildHasher as _, Hash, RandomState},
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

/// Networks share so many counters; those that share one are sampled a little earlier.
const COUNTERS: usize = 1024;

/// Failures of one network in a minute that are recorded, each.
const OF_NETWORK: u32 = 100;

/// Failures of all networks in a minute that are recorded, each.
const OF_ALL: u32 = 1000;

/// Of those beyond, one in so many is.
const ONE_IN: u32 = 100;

const MINUTE: Duration = Duration::from_secs(60);

/// What was counted in this minute.
pub(crate) struct Sampler {
    hasher: RandomState,
    counted: Mutex<Counted>,
}

struct Counted {
    since: Instant,
    of_networks: Box<[u32]>,
    of_all: u32,
}

impl Default for Sampler {
    fn default() -> Self {
        let counted = Counted {
            since: Instant::now(),
            of_networks: vec![0; COUNTERS].into(),
            of_all: 0,
        };
        Self {
            hasher: RandomState::new(),
            counted: Mutex::new(counted),
        }
    }
}

impl Sampler {
    /// How many failures the entry of this one stands for; `None` if it has none.
    pub(crate) fn sample(&self, network: impl Hash) -> Option<u32> {
        self.sample_at(network, Instant::now())
    }

    fn sample_at(&self, network: impl Hash, now: Instant) -> Option<u32> {
        let place = self.hasher.hash_one(network) as usize % COUNTERS;
        let mut counted = self.counted.lock().unwrap_or_else(PoisonError::into_inner);
        if now.saturating_duration_since(counted.since) >= MINUTE {
            counted.since = now;
            counted.of_networks.fill(0);
            counted.of_all = 0;
        }
        let of_network = &mut counted.of_networks[place];
        *of_network = of_network.saturating_add(1);
        let first = stands_for(*of_network, OF_NETWORK)?;
        // A flood from one network leaves room for what others do.
        counted.of_all = counted.of_all.saturating_add(1);
        let second = stands_for(counted.of_all, OF_ALL)?;
        Some(first * second)
    }
}

/// What the failure of that number in its minute stands for, if it is recorded.
const fn stands_for(number: u32, each: u32) -> Option<u32> {
    match number.checked_sub(each) {
        None | Some(0) => Some(1),
        Some(beyond) if beyond % ONE_IN == 0 => Some(ONE_IN),
        Some(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn recorded(sampler: &Sampler, network: u32, tries: u32, now: Instant) -> (usize, u32) {
        let stood_for: Vec<u32> = (0..tries)
            .filter_map(|_| sampler.sample_at(network, now))
            .collect();
        (stood_for.len(), stood_for.iter().sum())
    }

    #[test]
    fn a_network_has_a_hundred_entries_a_minute_and_then_one_for_a_hundred() {
        let (sampler, now) = (Sampler::default(), Instant::now());
        assert_eq!(recorded(&sampler, 1, 100, now), (100, 100));
        assert_eq!(recorded(&sampler, 1, 99, now), (0, 0));
        assert_eq!(recorded(&sampler, 1, 1, now), (1, 100));
        assert_eq!(recorded(&sampler, 1, 100_000, now), (900, 99_900));
        assert_eq!(recorded(&sampler, 1, 100, now + MINUTE), (100, 100));
    }

    #[test]
    fn a_flood_from_everywhere_has_a_thousand_entries_a_minute_and_then_one_for_a_hundred() {
        let (sampler, now) = (Sampler::default(), Instant::now());
        let entries: usize = (0..20_000)
            .map(|network| recorded(&sampler, network, 1, now).0)
            .sum();
        assert!((1000..1200).contains(&entries), "{entries}");
    }
}
