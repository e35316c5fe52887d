//! How everybody reaches the database: a handle that is good for as long as the process lives.

use std::{
    panic::AssertUnwindSafe,
    pin::pin,
    sync::Arc,
    time::{Duration, Instant},
};

use futures_util::FutureExt;
use tracing::{Instrument, field, info_span, warn};

use super::{
    Connection, DbError, Isolation, Pool, PoolSize, Retry, instruments::observe,
    patience::Patience, pool::Access,
};
use dotmac_supervision::Published;

/// The way to the database. Clones are the same; each takes whichever pool is current.
#[derive(Clone)]
pub struct Db {
    pool: Published<Pool>,
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

/// How work is run.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Mode {
    Read,
    Plain,
    Transaction(Isolation),
}

impl Mode {
    fn access(self) -> Access {
        match self {
            Self::Read => Access::Read,
            Self::Plain | Self::Transaction(_) => Access::Write,
        }
    }
}

impl Db {
    /// A handle that takes its pool from `pool`, the slot that the [`DbActor`](super::DbActor) publishes to.
    #[must_use]
    pub fn new(pool: Published<Pool>) -> Self {
        observe(&pool);
        Self { pool }
    }

    /// Runs `work` that only reads, to its end, whatever becomes of the caller. SQLite has many
    /// connections for it, beside the one that writes, and refuses a write on them.
    ///
    /// # Errors
    ///
    /// As [`run`](Self::run).
    pub async fn read<T, E, W>(&self, operation: &'static str, work: W) -> Result<T, DbError>
    where
        for<'c> W: AsyncFnOnce(&'c mut Connection) -> Result<T, E>
            + Work<&'c mut Connection, Result<T, E>, Future: Send>
            + Send
            + 'static,
        T: Send + 'static,
        E: Into<DbError> + Send + 'static,
    {
        self.execute(operation, async move |job| job.once(Mode::Read, work).await)
            .await
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
        self.execute(operation, async move |job| {
            job.once(Mode::Plain, work).await
        })
        .await
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
        let mode = Mode::Transaction(Isolation::default());
        self.execute(operation, async move |job| job.once(mode, work).await)
            .await
    }

    /// Runs `work` in one transaction as [`transaction`](Self::transaction) does, at the isolation that
    /// `retry` names, and again after a conflict as often as it says. The connection is given back
    /// before each wait. `work` may run several times, so it must not do what cannot be rolled back.
    ///
    /// # Errors
    ///
    /// [`DbError::Conflict`] after the last try; otherwise as [`run`](Self::run).
    pub async fn retrying_transaction<T, E, W>(
        &self,
        operation: &'static str,
        retry: Retry,
        work: W,
    ) -> Result<T, DbError>
    where
        for<'c> W: AsyncFnOnce(&'c mut Connection) -> Result<T, E>
            + Work<&'c mut Connection, Result<T, E>, Future: Send>
            + Clone
            + Send
            + Sync
            + 'static,
        T: Send + 'static,
        E: Into<DbError> + Send + 'static,
    {
        self.execute(operation, async move |job| {
            let mode = Mode::Transaction(retry.isolation);
            for done in 1..retry.tries {
                match job.once(mode, work.clone()).await {
                    Err(DbError::Conflict(_)) => {
                        job.pool.instruments.retried();
                        tokio::time::sleep(Retry::pause(done, &mut fastrand::Rng::new())).await;
                    }
                    ended => return ended,
                }
            }
            job.once(mode, work).await
        })
        .await
    }

    /// What the pool is doing; `None` while the database is not available.
    #[must_use]
    pub fn pool(&self) -> Option<Arc<Pool>> {
        self.pool.get()
    }

    /// Lets there be that many connections at the most, from now on. `size` is the one that the actor was
    /// told, so that its next life knows too.
    pub fn resize(&self, size: &PoolSize, connections: usize) {
        size.set(connections);
        if let Some(pool) = self.pool.get() {
            pool.resize(connections);
        }
    }

    /// Has `run` do a piece of work in a task of its own: dropping the caller's future does not cancel it.
    async fn execute<T, R>(&self, operation: &'static str, run: R) -> Result<T, DbError>
    where
        for<'j> R: AsyncFnOnce(&'j Job) -> Result<T, DbError>
            + Work<&'j Job, Result<T, DbError>, Future: Send>
            + Send
            + 'static,
        T: Send + 'static,
    {
        let pool = self.pool.get().ok_or(DbError::Unavailable {
            retry_after: Duration::ZERO,
        })?;
        let span = info_span!(
            "database",
            otel.name = operation,
            otel.status_code = field::Empty,
            db.system.name = pool.system,
        );
        let runtime = pool.runtime().handle().clone();
        let job = Job { pool, operation };
        let work = async move {
            let result = run(&job).await;
            if result.is_err() {
                tracing::Span::current().record("otel.status_code", "ERROR");
            }
            result
        };
        match runtime.spawn(work.instrument(span)).await {
            Ok(result) => result,
            Err(_) => Err(DbError::Panicked { operation }),
        }
    }
}

/// A piece of work under way.
struct Job {
    pool: Arc<Pool>,
    operation: &'static str,
}

impl Job {
    /// Does the work once, with a connection of its own.
    async fn once<T, E, W>(&self, mode: Mode, work: W) -> Result<T, DbError>
    where
        for<'c> W: AsyncFnOnce(&'c mut Connection) -> Result<T, E>
            + Work<&'c mut Connection, Result<T, E>, Future: Send>
            + Send
            + 'static,
        T: Send + 'static,
        E: Into<DbError> + Send + 'static,
    {
        let Self { pool, operation } = self;
        let asked = Instant::now();
        let mut patience = Patience::take();
        let deadline = asked + pool.pool_timeout;
        let lent = pool.connection(mode.access(), deadline, &mut patience);
        let mut connection = lent.await?;
        let began = Instant::now();
        pool.instruments.waited(began - asked);
        let limit = pool.work_limit;
        let (result, sound) = {
            let attempt = AssertUnwindSafe(attempt(&mut connection, mode, work)).catch_unwind();
            match patience.until((began + limit).into(), pin!(attempt)).await {
                Some(Ok(end)) => end,
                Some(Err(_panic)) => (Err(DbError::Panicked { operation }), false),
                None => (Err(DbError::Overran { operation, limit }), false),
            }
        };
        patience.leave();
        let result = result.map_err(|error| error.told_apart(&connection));
        if !sound || !connection.is_fit() {
            connection.discard();
        }
        pool.alarms().finished();
        let took = began.elapsed();
        pool.instruments.worked(operation, took, result.is_err());
        if took >= pool.slow {
            warn!(
                operation,
                duration_ms = took.as_millis() as u64,
                "slow database work `{operation}`"
            );
        }
        result
    }
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
    match mode {
        Mode::Read | Mode::Plain => (work(connection).await.map_err(Into::into), true),
        // Elsewhere, because it is large and every task would carry the place for it.
        Mode::Transaction(isolation) => {
            Box::pin(attempt_transaction(connection, isolation, work)).await
        }
    }
}

async fn attempt_transaction<T, E, W>(
    connection: &mut Connection,
    isolation: Isolation,
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
    if let Err(error) = connection.begin(isolation).await {
        return (Err(error.into()), false);
    }
    match work(connection).await {
        Ok(value) => match connection.commit().await {
            Ok(()) => (Ok(value), true),
            // The server has rolled back, unless it is gone, which the connection knows.
            Err(error) => (Err(error.into()), true),
        },
        Err(error) => (Err(error.into()), connection.rollback().await.is_ok()),
    }
}
