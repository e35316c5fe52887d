//! Subscribers: what follows an event, done once for each.
//!
//! A subscriber is a supervised worker with a cursor in the database. Its effect and the move of its cursor are one
//! transaction, so within the database an effect takes place exactly once, even if the process is killed; beyond it, at
//! least once. Of many instances of a program one works for a subscriber at a time: the one whose transaction has
//! locked the cursor.
//!
//! An event at which the handler fails is held and tried again with growing waits, and those of the same lane (tenant
//! and partition key) wait behind it. All others go on. After [`Retries::most`] failures it is parked until an operator
//! rewinds the subscriber.

mod apply;
mod held;
mod run;

use std::{error::Error, sync::Arc, time::Duration};

use dotmac_db::{AcrossTx, Db, ModuleDb, TenantScope, TenantTx, Tx};
use dotmac_supervision::{Reason, Schedule, WorkerSpec};
use futures_util::future::BoxFuture;
use serde::de::DeserializeOwned;

use super::{Event, Received, Start, StoredEvent};

/// Events were taken away by retention before the subscriber handled them. It waits until it is rewound.
pub const EVENTS_EXPIRED: Reason = Reason::new("events_expired");
/// The subscriber has parked events at which it failed too often.
pub const EVENTS_PARKED: Reason = Reason::new("events_parked");
/// The cursor is ahead of the database's transactions, which was restored into another cluster.
pub const POSITION_AHEAD: Reason = Reason::new("position_ahead");
/// So many events are held that the subscriber does not go on.
pub const TOO_MANY_HELD: Reason = Reason::new("too_many_held");

/// Longest that a run goes without progress: a batch and the time that its transaction may take.
const PROGRESS_WITHIN: Duration = Duration::from_secs(180);

/// Any error of a handler.
pub type HandlerError = Box<dyn Error + Send + Sync>;

/// A handler: an `async |tx, event| …` closure or function whose future may move between threads.
///
/// Implemented by such closures and by nothing else; a bound in signatures only.
pub trait Handles<C, A, R>:
    AsyncFnOnce(C, A) -> R + FnOnce(C, A) -> <Self as Handles<C, A, R>>::Future
{
    /// The closure's future.
    type Future: Future<Output = R>;
}

impl<H, C, A, R, F> Handles<C, A, R> for H
where
    H: AsyncFnOnce(C, A) -> R + FnOnce(C, A) -> F,
    F: Future<Output = R>,
{
    type Future = F;
}

type Handle = dyn for<'h, 'c> Fn(&'h mut AcrossTx<'c>, StoredEvent) -> BoxFuture<'h, Result<(), HandlerError>>
    + Send
    + Sync;

/// How often an event is tried at which the handler fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retries {
    /// After that many failures it is parked. 10.
    pub most: u32,
    /// The wait after the first failure, doubled with each further one. 1 s.
    pub first: Duration,
    /// The longest wait. 5 min.
    pub longest: Duration,
}

impl Default for Retries {
    fn default() -> Self {
        Self {
            most: 10,
            first: Duration::from_secs(1),
            longest: Duration::from_secs(300),
        }
    }
}

impl Retries {
    /// The wait after failure number `failures`, counted from 1, lengthened by up to a tenth at random.
    fn wait(&self, failures: u32) -> Duration {
        let doubled = 2_u32.saturating_pow(failures.saturating_sub(1));
        let wait = self.first.saturating_mul(doubled).min(self.longest);
        wait.mul_f64(1.0 + 0.1 * fastrand::f64())
    }
}

/// A subscriber to be.
///
/// ```no_run
/// # use dotmac_db::{DbError, ModuleDb, TenantTx};
/// # use dotmac_durable::events::{Event, Received, Subscriber};
/// # #[derive(serde::Serialize, serde::Deserialize)]
/// # struct NoteAdded { text: String }
/// # impl Event for NoteAdded {
/// #     const TYPE: &'static str = "note.added.v1";
/// #     fn subject(&self) -> String { String::new() }
/// # }
/// async fn index(tx: &mut TenantTx, added: Received<NoteAdded>) -> Result<(), DbError> {
///     // queries on `tx`: they are committed together with the subscriber's cursor
///     tracing::debug!(text = added.text, tenant = %tx.tenant(), "a note was added");
///     Ok(())
/// }
///
/// # fn mount(db: &ModuleDb) {
/// let worker = Subscriber::new("notes.index", index).worker(db);
/// # }
/// ```
pub struct Subscriber {
    name: &'static str,
    kinds: &'static [&'static str],
    start: Start,
    retries: Retries,
    handle: Box<Handle>,
}

/// The types of a subscriber to one.
struct Only<E>(E);

impl<E: Event> Only<E> {
    const KINDS: &'static [&'static str] = &[E::TYPE];
}

impl Subscriber {
    /// A subscriber to tenants' events of type `E`. `handler` is called for each, on a transaction of the event's tenant
    /// in which several events may be handled. What it emits has `system:` and `name` as its actor.
    ///
    /// `name` is that of its cursor: another name is another subscriber, which begins again.
    pub fn new<E, H, X>(name: &'static str, handler: H) -> Self
    where
        E: Event + DeserializeOwned + Send + 'static,
        for<'c> H: AsyncFnOnce(&'c mut TenantTx, Received<E>) -> Result<(), X>
            + Handles<&'c mut TenantTx, Received<E>, Result<(), X>, Future: Send>
            + Clone
            + Send
            + Sync
            + 'static,
        X: Into<HandlerError> + Send + 'static,
    {
        Self::of(
            name,
            Only::<E>::KINDS,
            Box::new(move |tx, event| {
                let handler = handler.clone();
                Box::pin(async move {
                    let Some(tenant) = event.tenant else {
                        return Ok(()); // the system's
                    };
                    let event = Received::new(event)?;
                    let scope = TenantScope::system(tenant, name);
                    let tx = tx.tenant(&scope).await?;
                    handler(tx, event).await.map_err(Into::into)
                })
            }),
        )
    }

    /// A subscriber to events of any of `kinds`, of every type if there is none, of all tenants and of the system, on
    /// transactions of the system.
    pub fn across_tenants<H, X>(
        name: &'static str,
        kinds: &'static [&'static str],
        handler: H,
    ) -> Self
    where
        for<'c> H: AsyncFnOnce(&'c mut Tx, StoredEvent) -> Result<(), X>
            + Handles<&'c mut Tx, StoredEvent, Result<(), X>, Future: Send>
            + Clone
            + Send
            + Sync
            + 'static,
        X: Into<HandlerError> + Send + 'static,
    {
        Self::of(
            name,
            kinds,
            Box::new(move |tx, event| {
                let handler = handler.clone();
                Box::pin(async move {
                    let tx = tx.system().await?;
                    handler(tx, event).await.map_err(Into::into)
                })
            }),
        )
    }

    fn of(name: &'static str, kinds: &'static [&'static str], handle: Box<Handle>) -> Self {
        Self {
            name,
            kinds,
            start: Start::default(),
            retries: Retries::default(),
            handle,
        }
    }

    /// Where it begins if it has no cursor yet; with the oldest event that is kept unless said otherwise.
    #[must_use]
    pub fn start(self, start: Start) -> Self {
        Self { start, ..self }
    }

    /// How often it tries an event at which it fails.
    #[must_use]
    pub fn retries(self, retries: Retries) -> Self {
        Self { retries, ..self }
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// The types of the events that it handles.
    #[must_use]
    pub fn kinds(&self) -> &'static [&'static str] {
        self.kinds
    }

    /// The worker that does it, to be added to a supervision tree. It is named as the subscriber.
    #[must_use]
    pub fn worker(self, db: &ModuleDb) -> WorkerSpec {
        let name = self.name;
        let running = Arc::new(Running {
            db: db.system("read events for a subscriber"),
            it: self,
        });
        let run = move |context| run::run(Arc::clone(&running), context);
        WorkerSpec::new(name, Schedule::Continuous, run).progress_within(PROGRESS_WITHIN)
    }
}

/// A subscriber, and the way to the database on which it works.
struct Running {
    it: Subscriber,
    db: Db,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_longest() {
        let retries = Retries::default();
        for (failures, least) in [
            (1, 1),
            (2, 2),
            (5, 16),
            (9, 256),
            (10, 300),
            (u32::MAX, 300),
        ] {
            let (wait, least) = (retries.wait(failures), Duration::from_secs(least));
            assert!(
                (least..=least.mul_f64(1.1)).contains(&wait),
                "{failures}: {wait:?}"
            );
        }
    }
}
