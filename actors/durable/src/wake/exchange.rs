//! Wake-ups between instances: notifications of PostgreSQL. SQLite has none, and one process.
//!
//! They are sent after commits, on a transaction of their own, since one that notifies takes a lock which all such commits in the
//! cluster share; and never more often than every 20 ms, regardless of the number of commits.

use std::{
    collections::BTreeSet,
    convert::Infallible,
    future::pending,
    sync::{Arc, LazyLock, Mutex, PoisonError, Weak},
    time::Duration,
};

use diesel::{sql_query, sql_types::Text};
use diesel_async::RunQueryDsl;
use dotmac_db::{Connection, Db, DbError, Listener, on};
use tokio::{sync::Notify, time::sleep};
use tracing::debug;
use uuid::Uuid;

use super::wake_here;

/// The channel that instances listen on.
const CHANNEL: &str = "dotmac_wake";
/// The least time between two notifications.
const APART: Duration = Duration::from_millis(20);
/// How soon it is tried again to listen.
const AGAIN: Duration = Duration::from_secs(1);
/// Kinds that wait to be sent; more are left to be found without.
const MAX_KINDS: usize = 1024;
/// The longest list of kinds in one notification, in bytes; PostgreSQL takes 8000.
const MAX_PAYLOAD: usize = 7000;

/// This process among those that listen.
static INSTANCE: LazyLock<String> = LazyLock::new(|| Uuid::now_v7().simple().to_string());

/// Kinds of which other instances are to be notified.
#[derive(Default)]
struct Outgoing {
    kinds: Mutex<BTreeSet<String>>,
    changed: Notify,
}

impl Outgoing {
    fn add<K: AsRef<str>>(&self, added: &[K]) {
        let mut kinds = self.kinds.lock().unwrap_or_else(PoisonError::into_inner);
        for kind in added.iter().map(AsRef::as_ref) {
            if !kinds.contains(kind) && kinds.len() < MAX_KINDS {
                kinds.insert(kind.to_owned());
            }
        }
        drop(kinds);
        self.changed.notify_one();
    }

    fn take(&self) -> BTreeSet<String> {
        std::mem::take(&mut *self.kinds.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// What is open to other instances: one for each database of this process.
static OPEN: Mutex<Vec<Weak<Outgoing>>> = Mutex::new(Vec::new());

fn open(outgoing: &Arc<Outgoing>) {
    let mut open = OPEN.lock().unwrap_or_else(PoisonError::into_inner);
    open.retain(|other| other.strong_count() > 0);
    open.push(Arc::downgrade(outgoing));
}

/// Has other instances woken for `kinds`, soon.
pub(super) fn pass_on<K: AsRef<str>>(kinds: &[K]) {
    if kinds.is_empty() {
        return;
    }
    let open = OPEN.lock().unwrap_or_else(PoisonError::into_inner);
    for outgoing in open.iter().filter_map(Weak::upgrade) {
        outgoing.add(kinds);
    }
}

/// Wakes other instances for what is committed here, and is woken by them. What fails is tried again; until then all look
/// by themselves.
pub(crate) async fn exchange(db: &Db) -> Infallible {
    loop {
        match db.listen(CHANNEL).await {
            Ok(None) => pending().await,
            Ok(Some(listener)) => {
                // What was committed while nothing listened.
                wake_here(|_| true);
                let outgoing = Arc::<Outgoing>::default();
                open(&outgoing);
                tokio::select! {
                    () = receive(listener) => {}
                    never = send(db, &outgoing) => match never {},
                }
            }
            Err(error) => {
                debug!(
                    error = &error as &dyn std::error::Error,
                    "cannot listen for other instances"
                );
            }
        }
        sleep(AGAIN).await;
    }
}

async fn receive(mut listener: Listener) {
    while let Some(payload) = listener.next().await {
        let mut words = payload.split(' ');
        if words.next() != Some(&**INSTANCE) {
            let kinds: Vec<_> = words.collect();
            wake_here(|kind| kinds.contains(&kind));
        }
    }
}

async fn send(db: &Db, outgoing: &Outgoing) -> Infallible {
    loop {
        outgoing.changed.notified().await;
        for payload in payloads(&outgoing.take()) {
            let notify = async move |c: &mut Connection| {
                let query = sql_query("SELECT pg_notify($1, $2)");
                let query = query.bind::<Text, _>(CHANNEL).bind::<Text, _>(payload);
                on!(c, |c| query.execute(c).await).map(drop)
            };
            if let Err(error) = db.run::<_, DbError, _>("wake instances", notify).await {
                debug!(
                    error = &error as &dyn std::error::Error,
                    "other instances were not woken"
                );
            }
        }
        sleep(APART).await;
    }
}

/// What is sent: this instance, and kinds; more than one if there are many.
fn payloads(kinds: &BTreeSet<String>) -> Vec<String> {
    let mut payloads: Vec<String> = Vec::new();
    for kind in kinds {
        match payloads.last_mut() {
            Some(last) if last.len() + kind.len() < MAX_PAYLOAD => {
                last.push(' ');
                last.push_str(kind);
            }
            _ => payloads.push(format!("{} {kind}", *INSTANCE)),
        }
    }
    payloads
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_sent_together_as_far_as_they_fit() {
        assert!(payloads(&BTreeSet::new()).is_empty());
        let few = ["a.b".to_owned(), "a.c".to_owned()];
        assert_eq!(payloads(&few.into()), [format!("{} a.b a.c", *INSTANCE)]);
        let kinds: BTreeSet<_> = (0..500).map(|number| format!("a.{number:060}")).collect();
        let payloads = payloads(&kinds);
        assert!(payloads.len() > 1 && payloads.iter().all(|it| it.len() <= 7500));
        let sent = payloads.iter().flat_map(|it| it.split(' ').skip(1));
        assert_eq!(sent.map(str::to_owned).collect::<BTreeSet<_>>(), kinds);
    }

    #[test]
    fn notifications_are_bounded() {
        let outgoing = Outgoing::default();
        let kinds: Vec<_> = (0..2000).map(|number| format!("a.b{number}")).collect();
        outgoing.add(&kinds);
        outgoing.add(&["a.b1"]);
        assert_eq!(outgoing.take().len(), MAX_KINDS);
        assert!(outgoing.take().is_empty());
    }
}
