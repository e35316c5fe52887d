//! Notifications of a PostgreSQL server, on a connection outside of the pool.
//!
//! They are hints: what is sent while no connection listens is gone, and a proxy that shares connections between clients passes
//! none on. Their consumers also poll from time to time.

use std::time::Duration;

use diesel_async::{AsyncPgConnection, RunQueryDsl};
use tokio::{sync::mpsc, task::AbortHandle};

use super::{Db, DbError, account::AccountGuard, connect, monitor::ConnectionState};

/// Notifications that wait to be taken; more are dropped.
const WAITING: usize = 256;

/// How often is looked whether the account is still the one to log in as.
const ACCOUNT_CHECK: Duration = Duration::from_secs(5);

/// A listener on a channel, until it is dropped. Created by [`Db::listen`].
pub struct Listener {
    notified: mpsc::Receiver<String>,
    driver: AbortHandle,
    guard: AccountGuard,
    /// Closed together with this.
    _connection: AsyncPgConnection,
}

impl Listener {
    /// The payload of the next notification. `None` once the connection has ended, or its account is no longer current:
    /// then listen again, and poll for missed notifications.
    pub async fn next(&mut self) -> Option<String> {
        loop {
            match tokio::time::timeout(ACCOUNT_CHECK, self.notified.recv()).await {
                Ok(payload) => return payload,
                Err(_) if self.guard.is_valid() && !self.driver.is_finished() => {}
                Err(_) => return None,
            }
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

impl Db {
    /// Listens on `channel`, a constant of lower case letters and `_`; `None` on SQLite, which notifies of nothing. The
    /// connection is one more than the pool has.
    ///
    /// # Errors
    ///
    /// [`DbError::Unavailable`] and [`DbError::Connect`]; another try may succeed.
    pub async fn listen(&self, channel: &'static str) -> Result<Option<Listener>, DbError> {
        let unavailable = || DbError::Unavailable {
            retry_after: Duration::ZERO,
        };
        let pool = self.pool().ok_or_else(unavailable)?;
        let Some(given) = pool.server() else {
            return Ok(None);
        };
        // Its driver runs where it is opened.
        let listening = pool.runtime().handle().spawn(async move {
            let (server, config) = &*given;
            let (sender, notified) = mpsc::channel(WAITING);
            let connection_state = ConnectionState::listening(sender);
            let opened = connect::postgres(server, config, &connection_state).await;
            let mut opened = opened.map_err(DbError::Connect)?;
            let listen = diesel::sql_query(format!("LISTEN {channel}"));
            listen.execute(&mut opened.connection).await?;
            Ok::<_, DbError>(Listener {
                notified,
                driver: opened.driver,
                guard: opened.guard,
                _connection: opened.connection,
            })
        });
        listening.await.map_err(|_| unavailable())?.map(Some)
    }
}
