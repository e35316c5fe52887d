//! The pool that the actor publishes, with the runtime that all database work runs on.
//!
//! SQLite takes one writer at a time, so its pool is two: one connection that writes, lent in the order of
//! asking, and others that only read. PostgreSQL's is one.

mod access;
mod bulkhead;
mod gauges;
mod loan;
mod openers;
mod replacing;
mod under_way;
mod upkeep;

pub(crate) use access::Access;
pub(crate) use bulkhead::{Bulkhead, Place};
pub use bulkhead::{ModuleLoad, Share};
pub use gauges::module_loads;
pub(crate) use gauges::{observe, observe_module};
pub use loan::Loan;
pub(crate) use under_way::{Left, Ticket, UnderWay};

use std::{
    pin::pin,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use deadpool::{
    Runtime as DeadpoolRuntime,
    managed::{Object, Pool as DeadpoolPool, PoolError, QueueMode, TimeoutType, Timeouts},
};
use diesel_async::{AsyncPgConnection, pooled_connection::PoolableConnection};
use futures_util::future::{Either, select};
use tokio::time::timeout_at;

use super::{
    Config, Connection, DbError, OpenError, PoolSize, Postgres, SqliteFile, Target,
    connection::AsyncSqliteConnection,
    file,
    instruments::{Instruments, Statements},
    monitor::Alarms,
    runtime::DbRuntime,
    statement::Observing,
};
use loan::{Opener, place};
use openers::{postgres_opener, sqlite_opener};

/// What a try of a piece of work takes beyond its own limits, on a machine that is busy.
const MARGIN: Duration = Duration::from_secs(1);

/// Between two looks whether all connections are closed.
const CLOSED_CHECK: Duration = Duration::from_millis(2);

/// Connections to one database, and the runtime on which they are opened and used.
///
/// Lives on while any work holds it, also past a restart of the actor that published it.
pub struct Pool {
    connections: Connections,
    /// Of SQLite.
    file: Option<SqliteFile>,
    /// Of PostgreSQL, with what a connection outside of the pool is opened with.
    server: Option<Arc<(Postgres, Config)>>,
    runtime: DbRuntime,
    alarms: Alarms,
    pub(super) instruments: Instruments,
    pub(super) system: &'static str,
    size: PoolSize,
    min_idle: usize,
    /// The longest that work waits for a connection or a place for one.
    pub(super) pool_timeout: Duration,
    /// The longest that one piece of work outside of transactions may keep a connection.
    work_limit: Duration,
    /// The same for work in a transaction.
    transaction_limit: Duration,
    /// The longest that one try takes in all, unless other work blocks the threads.
    pub(super) try_limit: Duration,
    under_way: UnderWay,
    /// Connections to SQLite that write in place of those that blocked work has: see `replacing`.
    replacements: Mutex<usize>,
    pub(super) slow: Duration,
}

enum Connections {
    Postgres(DeadpoolPool<Opener<AsyncPgConnection>>),
    Sqlite {
        writer: DeadpoolPool<Opener<AsyncSqliteConnection>>,
        readers: DeadpoolPool<Opener<AsyncSqliteConnection>>,
    },
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
    pub(super) fn new(
        config: &Config,
        runtime: DbRuntime,
        alarms: &Alarms,
    ) -> Result<Self, OpenError> {
        let observing = Observing {
            system: config.target.system(),
            slow: config.slow_query,
            statements: Statements::new(),
        };
        let size = config.pool_size.get();
        let connections = match &config.target {
            Target::Sqlite(_) => {
                let opener = |access| sqlite_opener(config, access, &observing, alarms);
                Connections::Sqlite {
                    writer: build(config, 1, opener(Access::Write))?,
                    readers: build(config, readers(size), opener(Access::Read))?,
                }
            }
            Target::Postgres(server) => {
                let opener = postgres_opener(server, config, runtime.handle(), &observing, alarms);
                Connections::Postgres(build(config, size, opener)?)
            }
        };
        let (file, server) = match &config.target {
            Target::Sqlite(file) => (Some(file.clone()), None),
            Target::Postgres(server) => (None, Some((server.clone(), config.clone()))),
        };
        Ok(Self {
            connections,
            file,
            server: server.map(Arc::new),
            runtime,
            alarms: alarms.clone(),
            instruments: Instruments::new(config.target.system()),
            system: config.target.system(),
            size: config.pool_size.clone(),
            min_idle: config.min_idle,
            pool_timeout: config.pool_timeout,
            work_limit: config.work_limit(),
            transaction_limit: config.transaction_limit(),
            try_limit: config.pool_timeout + config.connect_timeout + config.work_limit() + MARGIN,
            under_way: UnderWay::default(),
            replacements: Mutex::new(0),
            slow: config.slow_query,
        })
    }

    /// A connection, used or new, if the pool has one or a place for one by `deadline`.
    pub(super) async fn connection(
        &self,
        access: Access,
        deadline: Instant,
    ) -> Result<Connection, DbError> {
        if self.file.as_ref().is_some_and(SqliteFile::is_lost) {
            return Err(DbError::Unavailable {
                retry_after: Duration::ZERO,
            });
        }
        let lent = match &self.connections {
            Connections::Postgres(pool) => {
                let lent = lent(pool, deadline, &self.alarms).await;
                lent.map(|object| Connection::Postgres(Loan::new(object)))
            }
            Connections::Sqlite { writer, readers } => {
                let pool = if access == Access::Write {
                    writer
                } else {
                    readers
                };
                let lent = lent(pool, deadline, &self.alarms).await;
                lent.map(|object| Connection::Sqlite(Loan::new(object)))
            }
        };
        let connection = lent.map_err(|error| self.refusal(error))?;
        connection.connection_state().forget();
        Ok(connection)
    }

    fn refusal(&self, error: PoolError<OpenError>) -> DbError {
        let problem = match error {
            PoolError::Timeout(TimeoutType::Wait) => {
                self.alarms.exhausted();
                self.instruments.timed_out();
                return DbError::PoolExhausted {
                    waited: self.pool_timeout,
                    module: None,
                };
            }
            PoolError::Closed => {
                return DbError::Unavailable {
                    retry_after: Duration::ZERO,
                };
            }
            PoolError::Backend(problem) => problem,
            other => OpenError::Setup(other.to_string()),
        };
        self.alarms.refused(problem.reason());
        DbError::Connect(problem)
    }

    /// The longest that one piece of work may keep a connection.
    pub(super) fn limit(&self, in_transaction: bool) -> Duration {
        if in_transaction {
            self.transaction_limit
        } else {
            self.work_limit
        }
    }

    pub(super) fn runtime(&self) -> &DbRuntime {
        &self.runtime
    }

    /// The server, with what a connection outside of the pool is opened with.
    pub(super) fn server(&self) -> Option<Arc<(Postgres, Config)>> {
        self.server.clone()
    }

    pub(super) fn alarms(&self) -> &Alarms {
        &self.alarms
    }

    /// Whether all that writes has to go through one connection.
    pub(super) fn has_one_writer(&self) -> bool {
        matches!(self.connections, Connections::Sqlite { .. })
    }

    /// A place of `module` for its work, if one is free by `deadline`.
    pub(super) async fn place<'m>(
        &self,
        module: &'m Bulkhead,
        access: Access,
        deadline: Instant,
    ) -> Result<Place<'m>, DbError> {
        let is_for_writer = self.has_one_writer() && access == Access::Write;
        let shared = (!is_for_writer).then(|| self.shared_connections());
        let place = module.place(shared, deadline).await;
        place.inspect_err(|_| self.instruments.timed_out())
    }

    /// Connections at the most, that only writer left out.
    fn shared_connections(&self) -> usize {
        if self.has_one_writer() {
            readers(self.size.get())
        } else {
            self.size.get()
        }
    }

    /// Whether SQLite can have written what is in its file. Checks only if nothing is being written: a write is
    /// checked at its end.
    ///
    /// # Errors
    ///
    /// [`OpenError::FileChanged`].
    pub(super) async fn verify_file(&self) -> Result<(), OpenError> {
        let Connections::Sqlite { writer, .. } = &self.connections else {
            return Ok(());
        };
        if writer.status().available == 0 {
            return Ok(());
        }
        let at_once = Timeouts {
            wait: Some(Duration::ZERO),
            ..writer.timeouts()
        };
        let Ok(lent) = writer.timeout_get(&at_once).await else {
            return Ok(());
        };
        file::verify(&Connection::Sqlite(Loan::new(lent))).await
    }

    /// The present state of the connections. Reads the present state only.
    #[must_use]
    pub fn status(&self) -> PoolStatus {
        let of = |status: deadpool::Status| PoolStatus {
            idle: status.available,
            used: status.size.saturating_sub(status.available),
            waiting: status.waiting,
            max: status.max_size,
        };
        match &self.connections {
            Connections::Postgres(pool) => of(pool.status()),
            Connections::Sqlite { writer, readers } => {
                let (writer, readers) = (of(writer.status()), of(readers.status()));
                PoolStatus {
                    idle: writer.idle + readers.idle,
                    used: writer.used + readers.used,
                    waiting: writer.waiting + readers.waiting,
                    max: writer.max + readers.max,
                }
            }
        }
    }

    /// Whether work waits because every usable connection is on loan.
    pub(super) fn is_used_up(&self) -> bool {
        let used_up =
            |status: deadpool::Status| status.waiting > 0 && status.size >= status.max_size;
        match &self.connections {
            Connections::Postgres(pool) => used_up(pool.status()),
            Connections::Sqlite { writer, readers } => {
                used_up(writer.status()) || used_up(readers.status())
            }
        }
    }

    /// From now on that many connections at the most; those on loan beyond it close as they come back.
    pub(super) fn resize(&self, size: usize) {
        self.size.set(size);
        match &self.connections {
            Connections::Postgres(pool) => pool.resize(size.max(1)),
            Connections::Sqlite { readers: pool, .. } => pool.resize(readers(size)),
        }
    }

    /// Lends nothing any more; connections close as they come back.
    pub(super) fn close(&self) {
        match &self.connections {
            Connections::Postgres(pool) => pool.close(),
            Connections::Sqlite { writer, readers } => {
                writer.close();
                readers.close();
            }
        }
    }
}

impl Pool {
    /// Waits until no connection to the file is open, and its log is written into it. Those to a server are not waited for.
    pub(super) async fn closed(&self) {
        let Some(file) = self.file.clone() else {
            return;
        };
        while !file.is_closed() {
            tokio::time::sleep(CLOSED_CHECK).await;
        }
        let written = tokio::task::spawn_blocking(move || file.write_log_back());
        written.await.unwrap_or_default();
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

/// A connection of the pool by `deadline`. A connection that is being opened by then has its own limit. Nothing
/// is waited for once the server is known not to answer.
async fn lent<C: PoolableConnection + Send + 'static>(
    pool: &DeadpoolPool<Opener<C>>,
    deadline: Instant,
    alarms: &Alarms,
) -> Result<Object<Opener<C>>, PoolError<OpenError>> {
    let mut asking = pin!(pool.get());
    let given = {
        let waiting = pin!(unless_unreachable(alarms, place(asking.as_mut())));
        timeout_at(deadline.into(), waiting).await
    };
    match given {
        Ok(Some(Some(lent))) => lent,
        Ok(Some(None)) => {
            let opened = unless_unreachable(alarms, asking).await;
            opened.unwrap_or(Err(PoolError::Closed))
        }
        Ok(None) => Err(PoolError::Closed),
        Err(_) => Err(PoolError::Timeout(TimeoutType::Wait)),
    }
}

/// The result of `waiting`, or `None` once the server is known not to answer. A future that is ready at once has no
/// delay and no extra cost.
async fn unless_unreachable<T>(alarms: &Alarms, waiting: impl Future<Output = T>) -> Option<T> {
    match select(pin!(waiting), pin!(alarms.unreachable())).await {
        Either::Left((ready, _)) => Some(ready),
        Either::Right(_) => None,
    }
}

/// Of that many connections to SQLite, those that read.
fn readers(size: usize) -> usize {
    size.saturating_sub(1).max(1)
}

fn build<C: PoolableConnection + Send + 'static>(
    config: &Config,
    size: usize,
    opener: Opener<C>,
) -> Result<DeadpoolPool<Opener<C>>, OpenError> {
    DeadpoolPool::builder(opener)
        .max_size(size)
        .create_timeout(Some(config.connect_timeout))
        // The one used last: those that the traffic does not need stay idle, and are closed.
        .queue_mode(QueueMode::Lifo)
        .runtime(DeadpoolRuntime::Tokio1)
        .build()
        .map_err(|error| OpenError::Setup(error.to_string()))
}
