//! The consumers of secrets, and their notifications. Outlives the lives of the actor.
//!
//! A consumer subscribes to keys and is notified only of changes of *its* keys. If it cannot take a value live it
//! reports that, and the log names the key that waits for its restart. In the other direction a consumer reports a
//! refused secret, and the actor reads it again.

mod store;
mod watch;

pub use store::SecretStore;
pub use watch::SecretWatch;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

use tokio::sync::Notify;

use super::{
    Wanted,
    instruments::Instruments,
    vault::{Outbox, Unwrapped},
};

/// The way of secrets from the actor to those who use them. Clones are the same.
#[derive(Clone, Default)]
pub struct SecretFeed(Arc<Inner>);

#[derive(Default)]
struct Inner {
    state: Mutex<State>,
    refused: Notify,
    outbox: Arc<Outbox>,
    unwrapped: Unwrapped,
    instruments: Instruments,
    ending: AtomicBool,
}

#[derive(Default)]
struct State {
    wanted: Option<Arc<Vec<Wanted>>>,
    subscriptions: Vec<Subscription>,
    /// The last published secrets.
    published: Option<Arc<SecretStore>>,
    refused: BTreeSet<String>,
}

/// One consumer of secrets.
pub struct Subscription {
    /// Who it is, for the log.
    pub name: &'static str,
    /// The settings that it uses.
    pub keys: Vec<String>,
    /// How it takes another value.
    pub takes: Takes,
}

/// How a consumer takes another value of a secret that it uses.
pub enum Takes {
    /// At once: it is called with the new store, on the actor's thread, and must not block.
    Live(Arc<dyn Fn(&SecretStore) + Send + Sync>),
    /// When it is started again.
    AtRestart,
}

/// A secret that has changed, and who waits for a restart to take it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The setting.
    pub key: String,
    /// Its version, if it is in KV v2.
    pub version: Option<u64>,
    /// Consumers that have it already.
    pub taken_by: Vec<&'static str>,
    /// Consumers that still use the former value.
    pub waiting: Vec<&'static str>,
}

impl SecretFeed {
    /// A feed without consumers.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a consumer, and notifies it of the present secrets, if any.
    pub fn subscribe(&self, subscription: Subscription) {
        let notification = {
            let mut state = self.state();
            let published = state.published.clone();
            let notify = subscription.notifier();
            state.subscriptions.push(subscription);
            published.zip(notify)
        };
        if let Some((store, notify)) = notification {
            notify(&store);
        }
    }

    /// Gives consumers what was loaded without an actor, for a command that starts none.
    pub fn provide(&self, store: &Arc<SecretStore>) {
        self.publish(store);
    }

    /// Reports that the secret of `key` was refused, so that it is read again. May be said at will.
    pub fn refuse(&self, key: &str) {
        self.state().refused.insert(key.to_owned());
        self.0.refused.notify_one();
    }

    /// Says that the process is about to stop: the next stop of the actor is its last, and what it has
    /// leased is given back then. At a restart of the actor it stays in use.
    pub fn end(&self) {
        self.0.ending.store(true, Relaxed);
    }

    pub(super) fn is_ending(&self) -> bool {
        self.0.ending.load(Relaxed)
    }

    pub(super) fn unwrapped(&self) -> Unwrapped {
        self.0.unwrapped.clone()
    }

    pub(super) fn outbox(&self) -> Arc<Outbox> {
        Arc::clone(&self.0.outbox)
    }

    pub(super) fn instruments(&self) -> &Instruments {
        &self.0.instruments
    }

    /// Publishes `store` and notifies the subscribers that it concerns. Returns what differs from before;
    /// nothing does the first time.
    pub(super) fn publish(&self, store: &Arc<SecretStore>) -> Vec<Change> {
        let (changes, notifiers) = self.state().turn_to(store);
        // Without the lock: a consumer may subscribe or refuse from within.
        notifiers.iter().for_each(|notify| notify(store));
        changes
    }

    /// Changes only if a secret does that some consumer takes at its restart.
    pub(super) fn version(&self, store: &SecretStore) -> u64 {
        let state = self.state();
        let at_restart = state
            .subscriptions
            .iter()
            .filter(|it| matches!(it.takes, Takes::AtRestart));
        let keys: BTreeSet<&str> = at_restart
            .flat_map(|it| it.keys.iter().map(String::as_str))
            .collect();
        if keys.is_empty() {
            0
        } else {
            store.fingerprint_of(&keys)
        }
    }

    /// The wanted secrets of [`want`](Self::want), if it was ever called.
    pub(super) fn wanted(&self) -> Option<Arc<Vec<Wanted>>> {
        self.state().wanted.clone()
    }

    /// Replaces what is wanted, for this life of the actor and the next.
    pub(super) fn want(&self, wanted: Arc<Vec<Wanted>>) {
        self.state().wanted = Some(wanted);
    }

    /// Waits until something is refused; what it was.
    pub(super) async fn refusals(&self) -> BTreeSet<String> {
        loop {
            let refused = std::mem::take(&mut self.state().refused);
            if !refused.is_empty() {
                return refused;
            }
            self.0.refused.notified().await;
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

type Notifier = Arc<dyn Fn(&SecretStore) + Send + Sync>;

impl State {
    fn turn_to(&mut self, store: &Arc<SecretStore>) -> (Vec<Change>, Vec<Notifier>) {
        let former = self.published.replace(Arc::clone(store));
        let Some(former) = former else {
            let all = self.subscriptions.iter().filter_map(Subscription::notifier);
            return (Vec::new(), all.collect());
        };
        let mut changes: BTreeMap<String, Change> = former
            .changed_keys(store)
            .into_iter()
            .map(|key| {
                let change = Change {
                    key: key.clone(),
                    version: store.version(&key),
                    taken_by: Vec::new(),
                    waiting: Vec::new(),
                };
                (key, change)
            })
            .collect();
        let mut notifiers = Vec::new();
        for subscription in &self.subscriptions {
            let mut concerned = false;
            for key in &subscription.keys {
                let Some(change) = changes.get_mut(key) else {
                    continue;
                };
                concerned = true;
                match subscription.takes {
                    Takes::Live(_) => change.taken_by.push(subscription.name),
                    Takes::AtRestart => change.waiting.push(subscription.name),
                }
            }
            notifiers.extend(subscription.notifier().filter(|_| concerned));
        }
        (changes.into_values().collect(), notifiers)
    }
}

impl Subscription {
    fn notifier(&self) -> Option<Notifier> {
        match &self.takes {
            Takes::Live(notify) => Some(Arc::clone(notify)),
            Takes::AtRestart => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;

    fn store(secrets: &[(&str, &str)]) -> Arc<SecretStore> {
        let mut store = SecretStore::default();
        for (key, value) in secrets {
            store.insert_literal(key, (*value).into());
        }
        Arc::new(store)
    }

    fn counting(name: &'static str, keys: &[&str]) -> (Subscription, Arc<AtomicUsize>) {
        let count = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&count);
        let subscription = Subscription {
            name,
            keys: keys.iter().map(ToString::to_string).collect(),
            takes: Takes::Live(Arc::new(move |_| {
                counted.fetch_add(1, Relaxed);
            })),
        };
        (subscription, count)
    }

    #[test]
    fn a_consumer_is_notified_only_of_changes_of_its_own_keys() {
        let feed = SecretFeed::new();
        let (one, calls_of_one) = counting("one", &["A", "B"]);
        let (other, calls_of_other) = counting("other", &["C"]);
        feed.subscribe(one);
        feed.subscribe(other);
        assert!(feed.publish(&store(&[("A", "1"), ("C", "1")])).is_empty());
        assert_eq!(
            (calls_of_one.load(Relaxed), calls_of_other.load(Relaxed)),
            (1, 1)
        );
        let changes = feed.publish(&store(&[("A", "2"), ("C", "1")]));
        assert_eq!(changes.len(), 1);
        assert_eq!(changes[0].taken_by, ["one"]);
        assert_eq!(
            (calls_of_one.load(Relaxed), calls_of_other.load(Relaxed)),
            (2, 1)
        );
        feed.publish(&store(&[("A", "2"), ("C", "1")]));
        assert_eq!(
            (calls_of_one.load(Relaxed), calls_of_other.load(Relaxed)),
            (2, 1)
        );
    }

    #[test]
    fn a_late_subscriber_gets_the_present_secrets() {
        let feed = SecretFeed::new();
        feed.publish(&store(&[("A", "1")]));
        let (late, calls) = counting("late", &["A"]);
        feed.subscribe(late);
        assert_eq!(calls.load(Relaxed), 1);
    }

    #[test]
    fn who_cannot_take_a_value_live_is_named_with_it_and_alone_changes_the_version() {
        let feed = SecretFeed::new();
        let (live, _) = counting("live", &["A"]);
        feed.subscribe(live);
        feed.subscribe(Subscription {
            name: "stubborn",
            keys: vec!["B".to_owned()],
            takes: Takes::AtRestart,
        });
        let before = store(&[("A", "1"), ("B", "1")]);
        feed.publish(&before);
        let live_only = store(&[("A", "2"), ("B", "1")]);
        feed.publish(&live_only);
        assert_eq!(feed.version(&before), feed.version(&live_only));
        let both = store(&[("A", "2"), ("B", "2")]);
        let changes = feed.publish(&both);
        assert_eq!(changes[0].key, "B");
        assert_eq!(changes[0].waiting, ["stubborn"]);
        assert_ne!(feed.version(&live_only), feed.version(&both));
    }
}
