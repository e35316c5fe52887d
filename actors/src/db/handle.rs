//! How everybody reaches the database: a handle that is good for as long as the process lives.

use std::{
    panic::AssertUnwindSafe,
    sync::Arc,
    time::{Duration, Instant},
};

use futures_util::FutureExt;
use tracing::{Instrument, field, info_span, warn};

use super::{Connection, DbError, Pool, instruments::Instruments};
use crate::supervision::Published;

/// The way to the database. Clones are the same; each takes whichever pool is current.
#[derive(Clone)]
pub struct Db {
    pool: Published<Pool>,
    instruments: Instruments,
}

/// Work on a connection: an `async |connection| …` closure whose future may move between threads.
///
/// Implemented by such closures and by nothing else; a bound in signatures only.
pub trait Work<C, R>: AsyncFnOnce(C) -> R + FnOnce(C) -> <Self as Work<C, R>>::Future {
    /// The closure's future.
    type Future: Future<Output = R>;
}

impl<W, C, R, F> Work<C, R> for W
where
    W: AsyncFnOnce(C) -> R + FnOnce(C) -> F,
    F: Future<Output = R>,
{
    type Future = F;
}

/// Whether work is one transaction.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Mode {
    Plain,
    Transaction,
}

impl Db {
    /// A handle that takes its pool from `pool`, the slot that the [`DbActor`](super::DbActor) publishes to.
    #[must_use]
    pub fn new(pool: Published<Pool>) -> Self {
        Self {
            instruments: Instruments::new(&pool),
            pool,
        }
    }

    /// Runs `work` with a connection, to its end, whatever becomes of the caller.
    ///
    /// `operation` names the work in spans, metrics and logs: a short constant, never input. Work that
    /// takes twice the statement time-out loses its connection.
    ///
    /// # Errors
    ///
    /// [`DbError`] says whether anything was tried, and whether trying again may help.
    pub async fn run<T, E, W>(&self, operation: &'static str, work: W) -> Result<T, DbError>
    where
        for<'c> W: AsyncFnOnce(&'c mut Connection) -> Result<T, E>
            + Work<&'c mut Connection, Result<T, E>, Future: Send>
            + Send
            + 'static,
        T: Send + 'static,
        E: Into<DbError> + Send + 'static,
    {
        self.execute(operation, Mode::Plain, work).await
    }

    /// Runs `work` in one transaction: committed if it returns `Ok`, rolled back if it returns `Err`,
    /// panics or overruns, and never left open.
    ///
    /// # Errors
    ///
    /// As [`run`](Self::run).
    pub async fn transaction<T, E, W>(&self, operation: &'static str, work: W) -> Result<T, DbError>
    where
        for<'c> W: AsyncFnOnce(&'c mut Connection) -> Result<T, E>
            + Work<&'c mut Connection, Result<T, E>, Future: Send>
            + Send
            + 'static,
        T: Send + 'static,
        E: Into<DbError> + Send + 'static,
    {
        self.execute(operation, Mode::Transaction, work).await
    }

    /// What the pool is doing; `None` while the database is not available.
    #[must_use]
    pub fn pool(&self) -> Option<Arc<Pool>> {
        self.pool.get()
    }

    async fn execute<T, E, W>(
        &self,
        operation: &'static str,
        mode: Mode,
        work: W,
    ) -> Result<T, DbError>
    where
        for<'c> W: AsyncFnOnce(&'c mut Connection) -> Result<T, E>
            + Work<&'c mut Connection, Result<T, E>, Future: Send>
            + Send
            + 'static,
        T: Send + 'static,
        E: Into<DbError> + Send + 'static,
    {
        let pool = self.pool.get().ok_or(DbError::Unavailable {
            retry_after: Duration::ZERO,
        })?;
        let span = info_span!(
            "database",
            otel.name = operation,
            otel.kind = "client",
            otel.status_code = field::Empty,
            db.system.name = pool.system,
            db.operation.name = operation,
        );
        let runtime = pool.runtime().handle().clone();
        let instruments = self.instruments.clone();
        let job = async move {
            let result = work_to_its_end(&pool, &instruments, operation, mode, work).await;
            if result.is_err() {
                tracing::Span::current().record("otel.status_code", "ERROR");
            }
            result
        };
        // A task of its own: dropping the caller's future does not cancel it.
        match runtime.spawn(job.instrument(span)).await {
            Ok(result) => result,
            Err(_) => Err(DbError::Panicked { operation }),
        }
    }
}

async fn work_to_its_end<T, E, W>(
    pool: &Pool,
    instruments: &Instruments,
    operation: &'static str,
    mode: Mode,
    work: W,
) -> Result<T, DbError>
where
    for<'c> W: AsyncFnOnce(&'c mut Connection) -> Result<T, E>
        + Work<&'c mut Connection, Result<T, E>, Future: Send>
        + Send
        + 'static,
    T: Send + 'static,
    E: Into<DbError> + Send + 'static,
{
    let asked = Instant::now();
    let mut connection = pool.connection().await?;
    let began = Instant::now();
    instruments.waited(pool.system, began - asked);
    let limit = pool.work_limit;
    let attempt = AssertUnwindSafe(attempt(&mut connection, mode, work)).catch_unwind();
    let (result, sound) = match tokio::time::timeout(limit, attempt).await {
        Ok(Ok(end)) => end,
        Ok(Err(_panic)) => (Err(DbError::Panicked { operation }), false),
        Err(_) => (Err(DbError::Overran { operation, limit }), false),
    };
    if !sound {
        connection.discard();
    }
    let took = began.elapsed();
    instruments.worked(pool.system, operation, took, result.is_err());
    if took >= pool.slow {
        warn!(
            operation,
            duration_ms = took.as_millis() as u64,
            "slow database work `{operation}`"
        );
    }
    result
}

/// Does the work once; says whether the connection is fit for others afterwards.
async fn attempt<T, E, W>(
    connection: &mut Connection,
    mode: Mode,
    work: W,
) -> (Result<T, DbError>, bool)
where
    for<'c> W: AsyncFnOnce(&'c mut Connection) -> Result<T, E>
        + Work<&'c mut Connection, Result<T, E>, Future: Send>
        + Send
        + 'static,
    T: Send + 'static,
    E: Into<DbError> + Send + 'static,
{
    if mode == Mode::Plain {
        return (work(connection).await.map_err(Into::into), true);
    }
    if let Err(error) = connection.begin().await {
        return (Err(error.into()), false);
    }
    match work(connection).await {
        Ok(value) => match connection.commit().await {
            Ok(()) => (Ok(value), true),
            Err(error) => (Err(error.into()), false),
        },
        Err(error) => (Err(error.into()), connection.rollback().await.is_ok()),
    }
}
