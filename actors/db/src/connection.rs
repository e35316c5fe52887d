//! A pooled connection of either back end.

use std::{
    borrow::Cow,
    cell::{Cell, RefCell},
    error::Error,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

use diesel::{
    QueryResult, SqliteConnection,
    connection::{SimpleConnection as _, TransactionDepthChange, TransactionManager as _},
    result::Error as QueryError,
};
use diesel_async::{
    AnsiTransactionManager, AsyncPgConnection, SimpleAsyncConnection as _, TransactionManager,
    sync_connection_wrapper::{SpawnBlocking, SyncConnectionWrapper},
};
use futures_util::{FutureExt, future::BoxFuture};
use tokio::{runtime::Handle, task::JoinHandle};
use tracing::Span;

use super::{DbError, Loan, monitor::ConnectionState, work::Closing};

/// Something that is done once, on another thread.
pub(crate) type Task = Box<dyn FnOnce() + Send>;

/// An asynchronous SQLite connection: its work is done on blocking threads of the database's runtime.
pub(super) type AsyncSqliteConnection = SyncConnectionWrapper<SqliteConnection, Blocking>;

/// A connection on loan from the pool.
///
/// Use it through [`on!`](crate::on); the variants are public for code that must differ by back end.
pub enum Connection {
    /// To PostgreSQL.
    Postgres(Loan<AsyncPgConnection>),
    /// To SQLite.
    Sqlite(Loan<AsyncSqliteConnection>),
}

impl Connection {
    /// Begins a transaction by the statement `begin`.
    pub(super) async fn begin(&mut self, begin: Cow<'static, str>) -> QueryResult<()> {
        match self {
            Self::Postgres(c) => {
                AnsiTransactionManager::begin_transaction_sql(&mut **c, &begin).await
            }
            Self::Sqlite(c) => {
                c.spawn_blocking(move |c| {
                    diesel::connection::AnsiTransactionManager::begin_transaction_sql(c, &begin)
                })
                .await
            }
        }
    }

    /// Commits, with what goes along. After an error of the latter the transaction is still open.
    pub(super) async fn commit(&mut self, closing: Closing) -> QueryResult<()> {
        match self {
            Self::Postgres(c) => match closing.message() {
                None => AnsiTransactionManager::commit_transaction(&mut **c).await,
                Some(message) => {
                    c.batch_execute(&message).await?;
                    // diesel does not see what the message did.
                    let c: &mut AsyncPgConnection = c;
                    AnsiTransactionManager::transaction_manager_status_mut(c)
                        .transaction_state()?
                        .change_transaction_depth(TransactionDepthChange::DecreaseDepth)
                }
            },
            Self::Sqlite(c) => {
                c.spawn_blocking(move |c| {
                    closing.take_steps(c)?;
                    diesel::connection::AnsiTransactionManager::commit_transaction(c)
                })
                .await
            }
        }
    }

    pub(super) async fn rollback(&mut self) -> QueryResult<()> {
        match self {
            Self::Postgres(c) => AnsiTransactionManager::rollback_transaction(&mut **c).await,
            Self::Sqlite(c) => {
                c.spawn_blocking(diesel::connection::AnsiTransactionManager::rollback_transaction)
                    .await
            }
        }
    }

    /// Rolls its transaction back from another thread, while the work that has the connection makes no call on it, and
    /// sets `is_undone` then. Nothing is done on the connection afterwards. `None` for PostgreSQL, where others need not wait.
    pub(super) fn rollback_from_outside(&mut self, is_undone: Arc<AtomicBool>) -> Option<Task> {
        let Self::Sqlite(c) = self else { return None };
        let connection_state = Arc::clone(c.connection_state());
        let rollback = move |c: &mut SqliteConnection| {
            let mut is_open = false;
            // Savepoints first.
            while diesel::connection::AnsiTransactionManager::rollback_transaction(c).is_ok() {
                is_open = true;
            }
            if is_open {
                // A call that waits for this one would be committed by itself.
                c.batch_execute("PRAGMA query_only = ON").ok();
                connection_state.cut();
                is_undone.store(true, Relaxed);
            }
            Ok(())
        };
        // Only so is there a way to the connection for two threads.
        KEEPING.set(true);
        drop(c.spawn_blocking(rollback));
        KEEPING.set(false);
        KEPT.take()
    }

    /// `result` with its error classified, as [`on!`](crate::on) does. For code that differs by back end.
    ///
    /// # Errors
    ///
    /// That of `result`.
    pub fn classified<T>(&self, result: QueryResult<T>) -> Result<T, DbError> {
        result.map_err(|error| self.classify(error))
    }

    #[cold]
    pub(super) fn classify(&self, error: QueryError) -> DbError {
        let is_sqlite = matches!(self, Self::Sqlite(_));
        DbError::classify(error, self.connection_state(), is_sqlite)
    }

    pub(super) fn connection_state(&self) -> &Arc<ConnectionState> {
        match self {
            Self::Postgres(c) => c.connection_state(),
            Self::Sqlite(c) => c.connection_state(),
        }
    }

    /// Whether its next borrower would find it as it should be.
    pub(super) fn is_fit(&mut self) -> bool {
        match self {
            Self::Postgres(c) => c.is_fit(),
            Self::Sqlite(c) => c.is_fit(),
        }
    }

    /// Closes it instead of giving it back: the database rolls back its open transaction.
    pub(super) fn discard(self) {
        match self {
            Self::Postgres(c) => c.discard(),
            Self::Sqlite(c) => c.discard(),
        }
    }
}

thread_local! {
    /// Whether the next call is kept in place of being run; see [`Connection::rollback_from_outside`].
    static KEEPING: Cell<bool> = const { Cell::new(false) };
    static KEPT: RefCell<Option<Task>> = const { RefCell::new(None) };
}

/// Where SQLite's calls run: on blocking threads of the database's runtime, inside the caller's span. An abandoned call
/// ends there; no caller waits for it, and its connection is not lent again.
pub struct Blocking {
    runtime: Handle,
    connection_state: Option<Arc<ConnectionState>>,
}

impl Blocking {
    pub(super) fn on(runtime: Handle, connection_state: &Arc<ConnectionState>) -> Self {
        Self {
            runtime,
            connection_state: Some(Arc::clone(connection_state)),
        }
    }

    /// Runs `task` on a thread. Knows no types, so that what the runtime has for a task is compiled once, not for each query.
    fn spawn(&self, task: Task) -> JoinHandle<()> {
        let (span, connection_state) = (Span::current(), self.connection_state.clone());
        let call = connection_state.as_ref().map(ConnectionState::call);
        self.runtime.spawn_blocking(move || {
            let _call = call;
            // Its transaction was rolled back: what it does now would not be a part of it.
            if !connection_state.is_some_and(|it| it.is_cut()) {
                span.in_scope(task);
            }
        })
    }
}

/// A thread that panicked with the lock has put nothing in.
fn lock<R>(result: &Mutex<Option<R>>) -> MutexGuard<'_, Option<R>> {
    result.lock().unwrap_or_else(PoisonError::into_inner)
}

impl SpawnBlocking for Blocking {
    fn spawn_blocking<'a, R>(
        &mut self,
        task: impl FnOnce() -> R + Send + 'static,
    ) -> BoxFuture<'a, Result<R, Box<dyn Error + Send + Sync + 'static>>>
    where
        R: Send + 'static,
    {
        let result = Arc::new(Mutex::new(None));
        let filled = Arc::clone(&result);
        let task: Task = Box::new(move || *lock(&filled) = Some(task()));
        if KEEPING.get() {
            KEPT.set(Some(task));
            return async { Err("it is kept".into()) }.boxed();
        }
        let running = self.spawn(task);
        async move {
            running.await?;
            lock(&result).take().ok_or_else(|| "no result".into())
        }
        .boxed()
    }

    fn get_runtime() -> Self {
        Self {
            runtime: Handle::current(),
            connection_state: None,
        }
    }
}
