//! Held tokens and leases of Vault. Each is revoked with its last holder.
//!
//! A [`Session`] lives while it is the present one or a [`Lease`] was made under it, since a lease
//! dies with the token that made it. Dropping the last holder puts what is to be revoked into the
//! [`Outbox`], which outlives the lives of the actor, so that a panic loses nothing either.

use std::{
    mem,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

use secrecy::SecretString;
use tokio::{sync::Notify, time::Instant};
use tracing::warn;

use crate::lease::{Due, LeaseClock};

/// Who a server takes us for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    /// The name that it shows for us; empty if we may not look.
    pub name: String,
    /// The policies of the token.
    pub policies: Vec<String>,
}

/// One token, from its login to its end.
pub(crate) struct Session {
    pub(crate) serial: u64,
    pub(crate) token: SecretString,
    pub(crate) identity: Identity,
    /// Whether a login of this process created it; otherwise its issuer revokes it.
    ours: bool,
    /// `None` for a token without an end, or one that may not be looked up.
    clock: Mutex<Option<LeaseClock>>,
    dead: AtomicBool,
    outbox: Arc<Outbox>,
}

impl Session {
    pub(crate) fn new(
        serial: u64,
        (token, identity): (SecretString, Identity),
        ours: bool,
        clock: Option<LeaseClock>,
        outbox: &Arc<Outbox>,
    ) -> Self {
        Self {
            serial,
            token,
            identity,
            ours,
            clock: Mutex::new(clock),
            dead: AtomicBool::new(false),
            outbox: Arc::clone(outbox),
        }
    }

    pub(crate) fn clock(&self) -> Option<LeaseClock> {
        *self.clock.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn set_clock(&self, clock: Option<LeaseClock>) {
        *self.clock.lock().unwrap_or_else(PoisonError::into_inner) = clock;
    }

    /// The server is to end it.
    pub(crate) fn bury(&self) {
        self.dead.store(true, Relaxed);
    }

    /// The server rejects it, although this process has not revoked it.
    pub(crate) fn lose(&self) {
        if !self.dead.swap(true, Relaxed) {
            warn!("Vault rejects the token: it was revoked, or has expired; logging in again");
        }
    }

    /// Whether it is ours to revoke and has not been yet.
    pub(crate) fn is_revocable(&self) -> bool {
        self.ours && !self.dead.load(Relaxed)
    }

    /// Whether requests may be sent with it.
    pub(crate) fn is_usable(&self, now: Instant) -> bool {
        let ended = self
            .clock()
            .is_some_and(|clock| clock.due(now) == Due::Ended);
        !ended && !self.dead.load(Relaxed)
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        if self.is_revocable() {
            let token = mem::take(&mut self.token);
            self.outbox.put(Revocation::Token(token));
        }
    }
}

/// Ends with its last holder.
pub(crate) struct Lease {
    /// `None` where there is nothing to give back: a static role's password.
    pub(crate) id: Option<String>,
    pub(crate) session: Arc<Session>,
    ended: AtomicBool,
    outbox: Arc<Outbox>,
}

impl Lease {
    pub(crate) fn new(
        id: Option<String>,
        session: &Arc<Session>,
        outbox: &Arc<Outbox>,
    ) -> Arc<Self> {
        let lease = Arc::new(Self {
            id,
            session: Arc::clone(session),
            ended: AtomicBool::new(false),
            outbox: Arc::clone(outbox),
        });
        let mut state = outbox.state();
        state.live.retain(|lease| lease.strong_count() > 0);
        state.live.push(Arc::downgrade(&lease));
        drop(state);
        lease
    }

    /// It was given back, or the server has ended it.
    pub(crate) fn bury(&self) {
        self.ended.store(true, Relaxed);
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Some(id) = self.id.take().filter(|_| !self.ended.load(Relaxed)) {
            let session = Arc::clone(&self.session);
            self.outbox.put(Revocation::Lease { id, session });
        }
    }
}

/// Items to revoke.
pub(crate) enum Revocation {
    Lease {
        id: String,
        /// Kept until then: its end would end the lease unnoticed.
        session: Arc<Session>,
    },
    Token(SecretString),
}

/// Items that wait for revocation, and items that are still held.
#[derive(Default)]
pub(crate) struct Outbox {
    state: Mutex<State>,
    filled: Notify,
}

#[derive(Default)]
struct State {
    waiting: Vec<Revocation>,
    live: Vec<Weak<Lease>>,
}

impl Outbox {
    pub(crate) fn put(&self, revocation: Revocation) {
        self.state().waiting.push(revocation);
        self.filled.notify_one();
    }

    /// Wakes the task that waits for entries.
    pub(crate) fn ring(&self) {
        self.filled.notify_one();
    }

    pub(crate) fn take(&self) -> Vec<Revocation> {
        mem::take(&mut self.state().waiting)
    }

    /// Waits until something is put in.
    pub(crate) async fn filled(&self) {
        self.filled.notified().await;
    }

    /// Leases with a holder.
    pub(crate) fn live(&self) -> Vec<Arc<Lease>> {
        self.state().live.iter().filter_map(Weak::upgrade).collect()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
