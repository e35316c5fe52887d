//! A transaction under way: its connection, and what commits or follows along with it.
//!
//! Store functions take `&mut Tx` and call each other, so what one piece of work writes in several tables is
//! committed together or not at all. What belongs to every transaction of a program (events, jobs, an audit
//! trail) extends it from outside by three means: [`Tx::slot`] collects, [`Tx::before_commit`] writes what was
//! collected on the same transaction, [`Tx::after_commit`] wakes those who wait for it. What is only inserted goes with the commit
//! itself ([`insert_with_commit!`](crate::insert_with_commit)), and costs no round trip.

use std::{
    any::Any,
    ops::{Deref, DerefMut},
};

use diesel::{QueryResult, SqliteConnection};
use futures_util::future::BoxFuture;

use super::{
    closing::{Closing, RowWithCommit},
    scope::{Actor, Scope, TenantId},
};
use crate::{Connection, DbError};

/// Work on a connection or in a transaction: an `async |tx| …` closure whose future may move between threads.
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

/// The argument of [`on!`](crate::on): a [`Connection`], a [`Tx`], a [`TenantTx`](crate::TenantTx).
pub trait Querying: Send {
    /// The connection itself.
    fn connection(&mut self) -> &mut Connection;
}

impl Querying for Connection {
    fn connection(&mut self) -> &mut Connection {
        self
    }
}

impl Querying for Tx {
    fn connection(&mut self) -> &mut Connection {
        &mut self.connection
    }
}

/// A transaction that is open. Derefs to its [`Connection`], so that functions on one accept this too.
///
/// ```no_run
/// # use diesel_async::RunQueryDsl;
/// # use dotmac_db::{Db, DbError, Tx, on};
/// # diesel::table! { note (id) { id -> BigInt, text -> Text, } }
/// # use diesel::prelude::*;
/// #[derive(Debug, thiserror::Error)]
/// enum NotesError {
///     #[error("a note must not be empty")]
///     Empty,
///     #[error(transparent)]
///     Database(#[from] DbError),
/// }
///
/// /// A store function: the queries on a table, and nothing else.
/// async fn insert(tx: &mut Tx, id: i64, text: String) -> Result<(), DbError> {
///     let row = (note::id.eq(id), note::text.eq(text));
///     on!(tx, |c| diesel::insert_into(note::table).values(row).execute(c).await).map(drop)
/// }
///
/// /// A rule: what may happen. Its error rolls back and comes out as it is.
/// async fn add(db: &Db, id: i64, text: String) -> Result<(), NotesError> {
///     db.transaction("add note", async move |tx| {
///         if text.is_empty() {
///             return Err(NotesError::Empty);
///         }
///         insert(tx, id, text).await?;
///         tx.after_commit(|| tracing::debug!("a note was added"));
///         Ok(())
///     })
///     .await
/// }
/// ```
pub struct Tx {
    connection: Connection,
    scope: Scope,
    /// The scope that it began with.
    pub(super) begun: Scope,
    module: Option<&'static str>,
    before: Vec<(&'static str, Box<dyn Hook>)>,
    closing: Closing,
    after: Vec<AfterCommit>,
    slots: Vec<Box<dyn Any + Send>>,
}

/// The follow-ups of a commit.
pub(crate) type AfterCommit = Box<dyn FnOnce() + Send>;

impl Tx {
    pub(crate) fn new(connection: Connection, scope: Scope, module: Option<&'static str>) -> Self {
        Self {
            connection,
            scope,
            begun: scope,
            module,
            before: Vec::new(),
            closing: Closing::default(),
            after: Vec::new(),
            slots: Vec::new(),
        }
    }

    /// Whose rows it is about; `None` for system work.
    #[must_use]
    pub fn tenant(&self) -> Option<TenantId> {
        self.scope.tenant()
    }

    /// Who causes what it does; `None` for work without a scope.
    #[must_use]
    pub fn actor(&self) -> Option<Actor> {
        self.scope.actor()
    }

    /// From now on a transaction of the system acts for `actor`, who has proved within it who it is, as at a sign-in: its events
    /// and audit entries say so. For modules that authenticate callers. A tenant's transaction keeps the actor of its scope.
    pub fn authenticated(&mut self, actor: Actor) {
        self.scope = self.scope.asked_by(actor);
        self.begun = self.begun.asked_by(actor);
    }

    /// Goes on in another scope.
    pub(super) async fn enter(&mut self, scope: Scope) -> Result<(), DbError> {
        if self.scope.tenant() != scope.tenant()
            && let (Connection::Postgres(c), Some(setting)) =
                (&mut self.connection, scope.setting())
        {
            let setting = diesel::sql_query(setting);
            let set = diesel_async::RunQueryDsl::execute(setting, &mut **c).await;
            self.connection.classified(set)?;
        }
        self.scope = scope;
        Ok(())
    }

    /// The module whose work it is; `None` for work of the platform's own.
    #[must_use]
    pub fn module(&self) -> Option<&'static str> {
        self.module
    }

    /// Runs `follow` once the commit is acknowledged and the connection is back in the pool. It is dropped if
    /// the transaction is rolled back, or if the outcome of the commit is not known ([`DbError::OutcomeUnknown`]): a
    /// consumer that it wakes must also find its work without it.
    ///
    /// It runs on the database's runtime and must not block.
    ///
    /// A connection has no commit to wait for, and the way to the database even less:
    ///
    /// ```compile_fail,E0599
    /// # use dotmac_db::Connection;
    /// fn without_a_transaction(connection: &mut Connection) {
    ///     connection.after_commit(|| ());
    /// }
    /// ```
    ///
    /// ```compile_fail,E0599
    /// # use dotmac_db::TenantDb;
    /// fn without_a_transaction(db: &TenantDb) {
    ///     db.after_commit(|| ());
    /// }
    /// ```
    pub fn after_commit(&mut self, follow: impl FnOnce() + Send + 'static) {
        self.after.push(Box::new(follow));
    }

    /// Runs `hook` on this transaction just before its commit; an error of it rolls back. Of several hooks with
    /// the same `key` that wait, the first is kept. One that is added after the hook of that key has run, by
    /// another hook, runs again: what is collected late is not lost.
    pub fn before_commit<H>(&mut self, key: &'static str, hook: H)
    where
        for<'c> H: AsyncFnOnce(&'c mut Tx) -> Result<(), DbError>
            + Work<&'c mut Tx, Result<(), DbError>, Future: Send>
            + Send
            + 'static,
    {
        if self.before.iter().all(|(waiting, _)| *waiting != key) {
            self.before.push((key, Box::new(hook)));
        }
    }

    /// Has PostgreSQL call `function` with the columns of `row`, in one message with the commit. For
    /// [`insert_with_commit!`](crate::insert_with_commit), which does the same on SQLite.
    #[doc(hidden)]
    pub fn call_with_commit(&mut self, function: &'static str, row: &impl RowWithCommit) {
        self.closing.call(function, row);
    }

    /// Has SQLite's thread run `step` just before it commits. As [`call_with_commit`](Self::call_with_commit).
    #[doc(hidden)]
    pub fn run_with_commit(
        &mut self,
        step: impl FnOnce(&mut SqliteConnection) -> QueryResult<()> + Send + 'static,
    ) {
        self.closing.run(step);
    }

    /// What goes with the commit.
    pub(crate) fn take_closing(&mut self) -> Closing {
        std::mem::take(&mut self.closing)
    }

    /// The place of this transaction for a `T`, empty at first: where an extension collects what it writes
    /// [before the commit](Self::before_commit).
    pub fn slot<T: Default + Send + 'static>(&mut self) -> &mut T {
        if !self.slots.iter().any(|slot| slot.is::<T>()) {
            self.slots.push(Box::new(T::default()));
        }
        let mut slots = self.slots.iter_mut();
        let Some(slot) = slots.find_map(|slot| slot.downcast_mut()) else {
            unreachable!("it was put there just now")
        };
        slot
    }

    /// Runs what is to happen before the commit, in the order in which it was added; in the scope that the transaction began
    /// with, since what was collected may be of several tenants.
    pub(crate) async fn prepare_commit(&mut self) -> Result<(), DbError> {
        if !self.before.is_empty() && self.begun != Scope::Open {
            self.enter(self.begun).await?;
        }
        while !self.before.is_empty() {
            let (_, hook) = self.before.remove(0);
            hook.run(self).await?;
        }
        Ok(())
    }

    /// The connection, and what follows the commit, which has taken place.
    pub(crate) fn into_parts(self) -> (Connection, Vec<AfterCommit>) {
        (self.connection, self.after)
    }
}

impl Deref for Tx {
    type Target = Connection;

    fn deref(&self) -> &Connection {
        &self.connection
    }
}

impl DerefMut for Tx {
    fn deref_mut(&mut self) -> &mut Connection {
        &mut self.connection
    }
}

/// A hook before the commit, without its type.
trait Hook: Send {
    fn run<'c>(self: Box<Self>, tx: &'c mut Tx) -> BoxFuture<'c, Result<(), DbError>>;
}

impl<H> Hook for H
where
    for<'c> H: AsyncFnOnce(&'c mut Tx) -> Result<(), DbError>
        + Work<&'c mut Tx, Result<(), DbError>, Future: Send>
        + Send
        + 'static,
{
    fn run<'c>(self: Box<Self>, tx: &'c mut Tx) -> BoxFuture<'c, Result<(), DbError>> {
        Box::pin(self(tx))
    }
}
