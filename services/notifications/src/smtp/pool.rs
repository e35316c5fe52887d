//! Connections that are open, and how many there may be.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::session::Session;

/// Clones are the same.
#[derive(Clone)]
pub(super) struct SessionPool {
    places: Arc<Semaphore>,
    idle: Arc<Mutex<Vec<Session>>>,
}

/// The right to have one connection.
pub(super) struct SessionPlace(
    #[expect(dead_code, reason = "it is given back when it is dropped")] OwnedSemaphorePermit,
);

impl SessionPool {
    pub(super) fn new(most: usize) -> Self {
        Self {
            places: Arc::new(Semaphore::new(most)),
            idle: Arc::default(),
        }
    }

    /// Waits for a place.
    pub(super) async fn place(&self) -> Option<SessionPlace> {
        let place = Arc::clone(&self.places).acquire_owned().await;
        place.ok().map(SessionPlace)
    }

    /// A connection that another mail can be given to.
    pub(super) fn take(&self) -> Option<Session> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.retain(Session::is_good);
        idle.pop()
    }

    /// Keeps it for another mail, if one can be given to it.
    pub(super) fn give_back(&self, session: Session) {
        if session.is_good() {
            let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
            idle.push(session);
        }
    }

    /// Forgets those that are open: they were opened with other credentials.
    pub(super) fn clear(&self) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.clear();
    }
}
