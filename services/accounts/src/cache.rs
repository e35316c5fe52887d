//! A bounded cache that keeps what was used lately, without a list: two halves, of which the older one is dropped when
//! the younger is full.

use std::{
    collections::HashMap,
    hash::Hash,
    sync::{Mutex, MutexGuard, PoisonError},
};

/// Holds at most `most` entries; at least half of that many which were used last are among them.
pub(crate) struct Cache<K, V> {
    half: usize,
    halves: Mutex<Halves<K, V>>,
}

struct Halves<K, V> {
    young: HashMap<K, V>,
    old: HashMap<K, V>,
    /// Grows with each removal: what was read from the database before one must not be put in after it.
    epoch: u64,
}

/// A moment of the cache, for [`Cache::insert`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Epoch(u64);

impl<K: Eq + Hash + Clone, V: Clone> Cache<K, V> {
    pub(crate) fn new(most: usize) -> Self {
        Self {
            half: (most / 2).max(1),
            halves: Mutex::new(Halves {
                young: HashMap::new(),
                old: HashMap::new(),
                epoch: 0,
            }),
        }
    }

    pub(crate) fn get(&self, key: &K) -> Option<V> {
        let mut halves = self.halves();
        if let Some(value) = halves.young.get(key) {
            return Some(value.clone());
        }
        let value = halves.old.remove(key)?;
        self.put(&mut halves, key.clone(), value.clone());
        Some(value)
    }

    /// To be asked for before what is put in is read.
    pub(crate) fn epoch(&self) -> Epoch {
        Epoch(self.halves().epoch)
    }

    /// Puts in what was read since `read`, unless something was removed meanwhile.
    pub(crate) fn insert(&self, read: Epoch, key: K, value: V) {
        let mut halves = self.halves();
        if halves.epoch == read.0 {
            self.put(&mut halves, key, value);
        }
    }

    /// Removes what `is_gone` says.
    pub(crate) fn remove(&self, is_gone: impl Fn(&K, &V) -> bool) {
        let mut halves = self.halves();
        halves.epoch += 1;
        halves.young.retain(|key, value| !is_gone(key, value));
        halves.old.retain(|key, value| !is_gone(key, value));
    }

    pub(crate) fn clear(&self) {
        let mut halves = self.halves();
        halves.epoch += 1;
        halves.young = HashMap::new();
        halves.old = HashMap::new();
    }

    fn put(&self, halves: &mut Halves<K, V>, key: K, value: V) {
        if halves.young.len() >= self.half {
            halves.old = std::mem::take(&mut halves.young);
        }
        halves.young.insert(key, value);
    }

    fn halves(&self) -> MutexGuard<'_, Halves<K, V>> {
        self.halves.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_used_stays_and_there_is_never_more_than_the_bound() {
        let cache = Cache::new(8);
        for n in 0..100 {
            cache.insert(cache.epoch(), n, n);
            assert!(cache.get(&0).is_some(), "{n}");
        }
        let halves = cache.halves();
        assert!(halves.young.len() + halves.old.len() <= 8);
    }

    #[test]
    fn what_was_read_before_a_removal_is_not_put_in_after_it() {
        let cache = Cache::new(8);
        let read = cache.epoch();
        cache.remove(|key, _| *key == 1);
        cache.insert(read, 1, "stale");
        assert_eq!(cache.get(&1), None);
        cache.insert(cache.epoch(), 1, "fresh");
        assert_eq!(cache.get(&1), Some("fresh"));
        cache.clear();
        assert_eq!(cache.get(&1), None);
    }
}
