//! The pool that the actor publishes, with the runtime that all database work runs on.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use deadpool::{
    Runtime as DeadpoolRuntime,
    managed::{HookError, Metrics, PoolError as DeadpoolError, TimeoutType},
};
use diesel::ConnectionError;
use diesel_async::{
    AsyncConnection, AsyncPgConnection,
    pooled_connection::{
        AsyncDieselConnectionManager, ManagerConfig, PoolError, PoolableConnection,
        RecyclingMethod,
        deadpool::{Hook, Pool as DeadpoolPool},
    },
};
use futures_util::FutureExt;

use super::{
    Config, Connection, DbError, OpenError, Target, connect, connection::AsyncSqliteConnection,
};

/// Threads for queries' own work; the waiting is the database's.
const WORKER_THREADS: usize = 2;

/// Connections to one database, and the runtime on which they are opened and used.
///
/// Lives on while any work holds it, also past a restart of the actor that published it.
pub struct Pool {
    connections: Connections,
    runtime: DbRuntime,
    pub(super) system: &'static str,
    pool_timeout: Duration,
    /// The longest that one piece of work may keep a connection.
    pub(super) work_limit: Duration,
    pub(super) slow: Duration,
}

enum Connections {
    Postgres(DeadpoolPool<AsyncPgConnection>),
    Sqlite(DeadpoolPool<AsyncSqliteConnection>),
}

/// Connections by what they are doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolStatus {
    /// Open and free.
    pub idle: usize,
    /// On loan.
    pub used: usize,
    /// Work that waits for one.
    pub waiting: usize,
    /// The most there may be.
    pub max: usize,
}

impl Pool {
    /// A pool for `config`; opens nothing yet.
    ///
    /// # Errors
    ///
    /// [`OpenError::Setup`] if the pool's settings contradict each other.
    pub(super) fn new(config: &Config, runtime: DbRuntime) -> Result<Self, OpenError> {
        let connections = match &config.target {
            Target::Sqlite(path) => {
                let path = path.clone();
                let open = move || {
                    let path = path.clone();
                    async move {
                        let opened =
                            tokio::task::spawn_blocking(move || connect::sqlite(&path)).await;
                        let connection =
                            opened.map_err(|error| OpenError::Setup(error.to_string()))??;
                        Ok(AsyncSqliteConnection::new(connection))
                    }
                };
                Connections::Sqlite(build(config, open, |_| true)?)
            }
            Target::Postgres(server) => {
                let (target, config_for_open, handle) =
                    (server.clone(), config.clone(), runtime.handle().clone());
                let open = move || {
                    let (server, config) = (target.clone(), config_for_open.clone());
                    // The driver of a connection runs where it was opened: always here, never on a caller's thread.
                    let opened =
                        handle.spawn(async move { connect::postgres(&server, &config).await });
                    async move {
                        opened
                            .await
                            .map_err(|error| OpenError::Setup(error.to_string()))?
                    }
                };
                let credentials = server.credentials.clone();
                Connections::Postgres(build(config, open, move |c| credentials.admit(c))?)
            }
        };
        Ok(Self {
            connections,
            runtime,
            system: config.target.system(),
            pool_timeout: config.pool_timeout,
            work_limit: config.statement_timeout * 2,
            slow: config.slow_query,
        })
    }

    /// A connection, new or used, within the pool's time-out.
    pub(super) async fn connection(&self) -> Result<Connection, DbError> {
        match &self.connections {
            Connections::Postgres(pool) => pool.get().await.map(Connection::Postgres),
            Connections::Sqlite(pool) => pool.get().await.map(Connection::Sqlite),
        }
        .map_err(|error| self.refusal(error))
    }

    fn refusal(&self, error: DeadpoolError<PoolError>) -> DbError {
        match error {
            DeadpoolError::Timeout(TimeoutType::Wait) => DbError::PoolExhausted {
                waited: self.pool_timeout,
            },
            DeadpoolError::Backend(PoolError::QueryError(error)) => DbError::Query(error),
            DeadpoolError::Backend(PoolError::ConnectionError(error)) => {
                DbError::Connect(open_error(error))
            }
            DeadpoolError::Closed => DbError::Unavailable {
                retry_after: Duration::ZERO,
            },
            other => DbError::Connect(OpenError::Setup(other.to_string())),
        }
    }

    pub(super) fn runtime(&self) -> &DbRuntime {
        &self.runtime
    }

    /// What the connections are doing now. Asks nobody.
    #[must_use]
    pub fn status(&self) -> PoolStatus {
        let status = match &self.connections {
            Connections::Postgres(pool) => pool.status(),
            Connections::Sqlite(pool) => pool.status(),
        };
        PoolStatus {
            idle: status.available,
            used: status.size.saturating_sub(status.available),
            waiting: status.waiting,
            max: status.max_size,
        }
    }

    /// Closes the idle connections; those on loan go on.
    pub(super) fn drop_idle(&self) {
        match &self.connections {
            Connections::Postgres(pool) => drop(pool.retain(|_, _| false)),
            Connections::Sqlite(pool) => drop(pool.retain(|_, _| false)),
        }
    }

    /// Closes the idle connections that were opened before `moment`.
    pub(super) fn drop_idle_before(&self, moment: Instant) {
        let keep = |metrics: Metrics| metrics.created >= moment;
        match &self.connections {
            Connections::Postgres(pool) => drop(pool.retain(|_, metrics| keep(metrics))),
            Connections::Sqlite(pool) => drop(pool.retain(|_, metrics| keep(metrics))),
        }
    }

    /// Lends nothing any more; connections close as they come back.
    pub(super) fn close(&self) {
        match &self.connections {
            Connections::Postgres(pool) => pool.close(),
            Connections::Sqlite(pool) => pool.close(),
        }
    }
}

impl std::fmt::Debug for Pool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pool")
            .field("system", &self.system)
            .field("status", &self.status())
            .finish_non_exhaustive()
    }
}

/// A pool whose connections come from `open` and are lent again while they are `admitted`.
fn build<C, O, F>(
    config: &Config,
    open: O,
    admitted: impl Fn(&mut C) -> bool + Send + Sync + 'static,
) -> Result<DeadpoolPool<C>, OpenError>
where
    C: PoolableConnection + AsyncConnection + Send + 'static,
    AsyncDieselConnectionManager<C>: deadpool::managed::Manager<Type = C, Error = PoolError>,
    O: Fn() -> F + Send + Sync + 'static,
    F: Future<Output = Result<C, OpenError>> + Send + 'static,
{
    let mut manager = ManagerConfig::<C>::default();
    // Fast looks at the socket and for an open transaction; the monitor looks at the server.
    manager.recycling_method = RecyclingMethod::Fast;
    manager.custom_setup = Box::new(move |_| {
        let opening = open();
        async move {
            opening
                .await
                .map_err(|error| ConnectionError::CouldntSetupConfiguration(boxed(error)))
        }
        .boxed()
    });
    let max_lifetime = config.max_lifetime;
    let retire = Hook::sync_fn(move |connection: &mut C, metrics: &Metrics| {
        if metrics.age() > max_lifetime {
            Err(HookError::message("past its lifetime"))
        } else if !admitted(connection) {
            Err(HookError::message("of a former account"))
        } else {
            Ok(())
        }
    });
    DeadpoolPool::builder(AsyncDieselConnectionManager::new_with_config("", manager))
        .max_size(config.pool_size)
        .wait_timeout(Some(config.pool_timeout))
        .create_timeout(Some(config.connect_timeout))
        .recycle_timeout(Some(config.connect_timeout))
        .runtime(DeadpoolRuntime::Tokio1)
        .pre_recycle(retire)
        .build()
        .map_err(|error| OpenError::Setup(error.to_string()))
}

/// Diesel's connection errors carry text or a query error: ours travels as the latter and is taken out by [`open_error`].
fn boxed(error: OpenError) -> diesel::result::Error {
    diesel::result::Error::QueryBuilderError(Box::new(error))
}

fn open_error(error: ConnectionError) -> OpenError {
    match error {
        ConnectionError::CouldntSetupConfiguration(diesel::result::Error::QueryBuilderError(
            inner,
        )) => inner
            .downcast::<OpenError>()
            .map_or_else(|other| OpenError::Setup(other.to_string()), |error| *error),
        other => OpenError::Setup(other.to_string()),
    }
}

/// The runtime of all database work: multi-threaded, because both back ends need that (SQLite's wrapper
/// blocks in place when work is dropped), and apart from HTTP, so that neither can hold up the other.
#[derive(Clone)]
pub(super) struct DbRuntime(Arc<Inner>);

struct Inner(Option<tokio::runtime::Runtime>, tokio::runtime::Handle);

impl DbRuntime {
    /// # Errors
    ///
    /// [`OpenError::Setup`] if the operating system has no thread left.
    pub(super) fn start(pool_size: usize) -> Result<Self, OpenError> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(WORKER_THREADS)
            // SQLite's work blocks: one thread for each connection, and some for opening and watching.
            .max_blocking_threads(pool_size + 4)
            .thread_name("dotmac-db")
            .enable_all()
            .build()
            .map_err(|error| OpenError::Setup(error.to_string()))?;
        let handle = runtime.handle().clone();
        Ok(Self(Arc::new(Inner(Some(runtime), handle))))
    }

    pub(super) fn handle(&self) -> &tokio::runtime::Handle {
        &self.0.1
    }
}

impl Drop for Inner {
    /// The last holder may be a task of any runtime, where waiting for threads would panic.
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}
