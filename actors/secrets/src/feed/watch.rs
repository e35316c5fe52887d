//! One secret as its own consumer holds it: the present value, and word of each other.

use std::{fmt, future::pending, sync::Arc};

use futures_util::{Stream, stream};
use secrecy::SecretString;
use tokio::sync::watch;

use crate::{SecretFeed, SecretStore, Subscription, Takes};

/// A secret that may change while its holder lives. Clones follow it each on their own.
#[derive(Clone)]
pub struct SecretWatch(watch::Receiver<Option<SecretString>>);

impl SecretWatch {
    /// The value at this moment; `None` if there is none, or none yet.
    #[must_use]
    pub fn get(&self) -> Option<SecretString> {
        self.0.borrow().clone()
    }

    /// The value at this moment and then each other that takes its place, `None` when it is gone. A slow consumer gets
    /// the latest value; a read of the same value causes no notification. It never ends.
    pub fn changes(&self) -> impl Stream<Item = Option<SecretString>> + use<> {
        let mut receiver = self.0.clone();
        if receiver.borrow().is_some() {
            receiver.mark_changed();
        }
        stream::unfold(receiver, |mut receiver| async {
            if receiver.changed().await.is_err() {
                // Its feed is gone, so it cannot change any more.
                pending::<()>().await;
            }
            let value = receiver.borrow_and_update().clone();
            Some((value, receiver))
        })
    }
}

/// Nothing of the value.
impl fmt::Debug for SecretWatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretWatch")
    }
}

impl SecretFeed {
    /// Subscribes the consumer `name` to the secret of `key`.
    #[must_use]
    pub fn watch(&self, name: &'static str, key: &str) -> SecretWatch {
        let (sender, receiver) = watch::channel(None);
        let watched = key.to_owned();
        self.subscribe(Subscription {
            name,
            keys: vec![key.to_owned()],
            takes: Takes::Live(Arc::new(move |store: &SecretStore| {
                let value = store.get(&watched).cloned();
                sender.send_if_modified(|present| {
                    let is_news = present.is_some() || value.is_some();
                    *present = value;
                    is_news
                });
            })),
        });
        SecretWatch(receiver)
    }
}

#[cfg(test)]
mod tests {
    use futures_util::{FutureExt, StreamExt};
    use secrecy::ExposeSecret;

    use super::*;

    fn publish(feed: &SecretFeed, key: &str, value: &str) {
        let mut store = SecretStore::default();
        store.insert_literal(key, value.into());
        feed.provide(&Arc::new(store));
    }

    #[test]
    fn it_begins_with_what_there_is_and_goes_on_with_what_changes() {
        let feed = SecretFeed::new();
        let absent = feed.watch("absent", "B");
        let mut absent = Box::pin(absent.changes());
        let early = feed.watch("early", "A");
        let mut early = Box::pin(early.changes());
        publish(&feed, "A", "1");
        let late = feed.watch("late", "A");
        let mut late = Box::pin(late.changes());
        for changes in [&mut early, &mut late] {
            let mut next = || {
                let next = changes.next().now_or_never()??;
                Some(next?.expose_secret().to_owned())
            };
            assert_eq!((next().as_deref(), next()), (Some("1"), None));
        }
        publish(&feed, "A", "1");
        assert!(early.next().now_or_never().is_none(), "the same again");
        assert!(absent.next().now_or_never().is_none(), "none as before");
        publish(&feed, "A", "2");
        publish(&feed, "A", "3");
        let latest = early.next().now_or_never().flatten().flatten();
        assert_eq!(latest.as_ref().map(ExposeSecret::expose_secret), Some("3"));
        publish(&feed, "B", "1");
        let gone = early.next().now_or_never().flatten();
        assert!(gone.is_some_and(|value| value.is_none()));
    }
}
