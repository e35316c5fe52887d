//! One connection of the pool with what is known about it, and how it is lent.

use std::{
    cell::Cell,
    future::{Future, poll_fn},
    ops::{Deref, DerefMut},
    pin::Pin,
    sync::Arc,
    task::Poll,
    time::{Duration, Instant},
};

use deadpool::managed::{Manager, Metrics, Object, RecycleError, RecycleResult};
use diesel_async::pooled_connection::PoolableConnection;
use futures_util::future::BoxFuture;
use tokio::task::AbortHandle;

use crate::{OpenError, account::AccountGuard, monitor::ConnectionState};

/// A connection retires after this share of its lifetime at the earliest, drawn at random, so that those
/// opened together do not end together.
const EARLIEST_RETIREMENT: f64 = 0.85;

/// An open connection.
pub(crate) struct Session<C> {
    connection: C,
    connection_state: Arc<ConnectionState>,
    retires: Instant,
    /// Its driver and its account; none for a file.
    wire: Option<(AbortHandle, AccountGuard)>,
}

impl<C: PoolableConnection> Session<C> {
    pub(crate) fn new(
        connection: C,
        connection_state: Arc<ConnectionState>,
        lifetime: Duration,
        wire: Option<(AbortHandle, AccountGuard)>,
    ) -> Self {
        Self {
            connection,
            connection_state,
            retires: Instant::now() + drawn_lifetime(lifetime, &mut fastrand::Rng::new()),
            wire,
        }
    }

    /// Whether it may be lent again, as far as known without using it.
    pub(crate) fn seems_fit(&self) -> bool {
        self.is_sound() && Instant::now() < self.retires
    }

    /// Whether nothing has happened to it or its account.
    fn is_sound(&self) -> bool {
        let admitted = self.wire.as_ref().is_none_or(|(_, guard)| guard.is_valid());
        admitted && self.connection_state.is_fit()
    }
}

/// How long one connection lives: `lifetime`, or up to 15 % less, drawn uniformly.
fn drawn_lifetime(lifetime: Duration, rng: &mut fastrand::Rng) -> Duration {
    lifetime.mul_f64(EARLIEST_RETIREMENT + rng.f64() * (1.0 - EARLIEST_RETIREMENT))
}

thread_local! {
    /// Set at the begin of an opening, for the caller that polled the pool; see [`place`].
    static OPENING: Cell<bool> = const { Cell::new(false) };
}

/// Waits until the pool has something for us: a connection, or a place for one, which is then being opened
/// and has its own time limit.
pub(crate) async fn place<T>(mut asking: Pin<&mut impl Future<Output = T>>) -> Option<T> {
    poll_fn(|context| {
        OPENING.set(false);
        match asking.as_mut().poll(context) {
            Poll::Ready(given) => Poll::Ready(Some(given)),
            Poll::Pending if OPENING.get() => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        }
    })
    .await
}

type Open<C> = dyn Fn() -> BoxFuture<'static, Result<Session<C>, OpenError>> + Send + Sync;

/// Opens sessions for the pool, and judges those that come back.
pub(crate) struct Opener<C>(Box<Open<C>>);

impl<C> Opener<C> {
    pub(crate) fn new<F>(open: impl Fn() -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Result<Session<C>, OpenError>> + Send + 'static,
    {
        Self(Box::new(move || Box::pin(open())))
    }
}

impl<C: PoolableConnection + Send + 'static> Manager for Opener<C> {
    /// Boxed: large, and moved with every loan.
    type Type = Box<Session<C>>;
    type Error = OpenError;

    async fn create(&self) -> Result<Box<Session<C>>, OpenError> {
        OPENING.set(true);
        (self.0)().await.map(Box::new)
    }

    async fn recycle(
        &self,
        session: &mut Box<Session<C>>,
        _: &Metrics,
    ) -> RecycleResult<OpenError> {
        if session.seems_fit() && !session.connection.is_broken() {
            Ok(())
        } else {
            Err(RecycleError::message("not fit to be lent again"))
        }
    }
}

/// A session on loan; it goes back when this is dropped. Derefs to diesel's connection.
pub struct Loan<C: PoolableConnection + Send + 'static>(Object<Opener<C>>);

impl<C: PoolableConnection + Send + 'static> Loan<C> {
    pub(crate) fn new(object: Object<Opener<C>>) -> Self {
        Self(object)
    }

    pub(crate) fn connection_state(&self) -> &Arc<ConnectionState> {
        &self.0.connection_state
    }

    /// Whether its next borrower would find it as it should be, unless it retires before.
    pub(crate) fn is_fit(&mut self) -> bool {
        self.0.is_sound() && !self.0.connection.is_broken()
    }

    /// Closes it instead of giving it back: the database rolls back its open transaction.
    pub(crate) fn discard(self) {
        let session = Object::take(self.0);
        if let Some((driver, _)) = session.wire {
            // Not asked to end: it may be waiting for an answer.
            driver.abort();
        }
    }
}

impl<C: PoolableConnection + Send + 'static> Deref for Loan<C> {
    type Target = C;

    fn deref(&self) -> &C {
        &self.0.connection
    }
}

impl<C: PoolableConnection + Send + 'static> DerefMut for Loan<C> {
    fn deref_mut(&mut self) -> &mut C {
        &mut self.0.connection
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 64 connections that are opened together, with each of a few seeds.
    #[test]
    fn connections_made_together_end_spread_over_the_last_share_of_their_lifetime() {
        let lifetime = Duration::from_secs(1000);
        for seed in 0..10 {
            let mut rng = fastrand::Rng::with_seed(seed);
            let mut ends: Vec<_> = (0..64)
                .map(|_| drawn_lifetime(lifetime, &mut rng))
                .collect();
            ends.sort();
            let within = Duration::from_secs(850)..=lifetime;
            assert!(ends.iter().all(|end| within.contains(end)), "{ends:?}");
            // In each tenth of the span some, and in none a third of them.
            for tenth in 0..10 {
                let from = Duration::from_secs(850 + 15 * tenth);
                let span = from..from + Duration::from_secs(15);
                let ended = ends.iter().filter(|end| span.contains(end)).count();
                assert!(
                    (1..64 / 3).contains(&ended),
                    "seed {seed}, {from:?}: {ended}"
                );
            }
        }
    }
}
