//! Which connections are kept open while they are idle.

use std::time::Duration;

use deadpool::managed::{Pool as DeadpoolPool, PoolError, Timeouts};
use diesel_async::pooled_connection::PoolableConnection;

use super::{Connections, Opener, Pool};

/// A connection that is not used for so long is closed, except the configured number. One to a file is opened within a
/// millisecond; one to a server takes a login.
const FILE_IDLE_LIMIT: Duration = Duration::from_secs(3);
const SERVER_IDLE_LIMIT: Duration = Duration::from_secs(60);

impl Pool {
    /// Closes idle connections that are not fit to be lent: past their lifetime, cut, of a former account.
    pub(crate) fn drop_unfit(&self) {
        match &self.connections {
            Connections::Postgres(pool) => drop(pool.retain(|session, _| session.seems_fit())),
            Connections::Sqlite { writer, readers } => {
                drop(writer.retain(|session, _| session.seems_fit()));
                drop(readers.retain(|session, _| session.seems_fit()));
            }
        }
    }

    /// Closes idle connections that are not fit to be lent or not needed, and opens as many as are to be kept open.
    pub(crate) async fn maintain(&self) {
        self.drop_unfit();
        match &self.connections {
            Connections::Postgres(pool) => {
                let kept = self.min_idle.min(self.size.get());
                drop_unused(pool, kept, SERVER_IDLE_LIMIT);
                self.warm(pool, kept).await;
            }
            Connections::Sqlite { readers, .. } => {
                // The writer is one of those to be kept open, and the first look opened it.
                let kept = self.min_idle.saturating_sub(1);
                let kept = kept.min(readers.status().max_size);
                drop_unused(readers, kept, FILE_IDLE_LIMIT);
                self.warm(readers, kept).await;
            }
        }
    }

    /// Borrows until `wanted` are open, and gives all back: the pool has no other way to open one more.
    async fn warm<C: PoolableConnection + Send + 'static>(
        &self,
        pool: &DeadpoolPool<Opener<C>>,
        wanted: usize,
    ) {
        let mut held = Vec::new();
        let timeouts = Timeouts {
            wait: Some(self.pool_timeout),
            ..pool.timeouts()
        };
        while pool.status().size < wanted && pool.status().waiting == 0 {
            match pool.timeout_get(&timeouts).await {
                Ok(object) => held.push(object),
                Err(PoolError::Backend(problem)) => {
                    return self.alarms.refused(problem.reason());
                }
                Err(_) => return,
            }
        }
    }

    /// Closes the idle connections; those on loan close when they come back.
    pub(crate) fn drop_idle(&self) {
        self.alarms.evict(Duration::ZERO);
        match &self.connections {
            Connections::Postgres(pool) => drop(pool.retain(|_, _| false)),
            Connections::Sqlite { writer, readers } => {
                drop(writer.retain(|_, _| false));
                drop(readers.retain(|_, _| false));
            }
        }
    }
}

/// Closes idle connections that were not used for `limit`, while more than `kept` are open.
fn drop_unused<C: PoolableConnection + Send + 'static>(
    pool: &DeadpoolPool<Opener<C>>,
    kept: usize,
    limit: Duration,
) {
    let mut spare = pool.status().size.saturating_sub(kept);
    let closed = pool.retain(|_, metrics| {
        let is_unused = spare > 0 && metrics.last_used() > limit;
        spare -= usize::from(is_unused);
        !is_unused
    });
    drop(closed);
}
