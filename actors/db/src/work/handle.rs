//! How all code reaches the database: handles that are good for as long as the process lives.

use std::sync::Arc;

use super::{
    piece::Start,
    run::{Plan, Route},
    scope::{Scope, TenantScope, note_system_scope},
    tenant::TenantDb,
    tenant_tx::AcrossTx,
    tx::{Tx, Work},
};
use crate::{
    Connection, DbError, Isolation, ModuleLoad, Pool, PoolSize, Retry, Share,
    pool::{Access, Bulkhead, observe, observe_module},
};
use dotmac_supervision::Published;

/// The way to the database. Clones are the same; each takes whichever pool is current.
#[derive(Clone)]
pub struct Db {
    route: Route,
}

impl Db {
    /// A handle that takes its pool from `pool`, the slot that the [`DbActor`](crate::DbActor) publishes to.
    #[must_use]
    pub fn new(pool: Published<Pool>) -> Self {
        observe(&pool);
        Self {
            route: Route {
                pool,
                module: None,
                scope: Scope::Open,
            },
        }
    }

    /// Runs `work` that only reads, to its end, even if the caller is dropped. SQLite has many connections for it, in
    /// addition to the one that writes, and refuses a write on them.
    ///
    /// # Errors
    ///
    /// As [`run`](Self::run).
    pub fn read<T, E, W>(
        &self,
        operation: &'static str,
        work: W,
    ) -> impl Future<Output = Result<T, E>> + Send + use<T, E, W>
    where
        for<'c> W: AsyncFnOnce(&'c mut Connection) -> Result<T, E>
            + Work<&'c mut Connection, Result<T, E>, Future: Send>
            + Send
            + 'static,
        T: Send + 'static,
        E: From<DbError> + Send + 'static,
    {
        let start = Start::once(move |lent| Box::pin(work(lent)));
        self.route
            .clone()
            .execute(operation, Plan::direct(Access::Read), start)
    }

    /// Runs `work` with a connection, to its end, even if the caller is dropped.
    ///
    /// `operation` names the work in spans, metrics and logs: a short constant, never input. Work that
    /// takes twice the statement time-out loses its connection.
    ///
    /// # Errors
    ///
    /// The result of `work`, unchanged; or a [`DbError`], which shows whether anything was tried, and whether
    /// trying again may help.
    pub fn run<T, E, W>(
        &self,
        operation: &'static str,
        work: W,
    ) -> impl Future<Output = Result<T, E>> + Send + use<T, E, W>
    where
        for<'c> W: AsyncFnOnce(&'c mut Connection) -> Result<T, E>
            + Work<&'c mut Connection, Result<T, E>, Future: Send>
            + Send
            + 'static,
        T: Send + 'static,
        E: From<DbError> + Send + 'static,
    {
        let start = Start::once(move |lent| Box::pin(work(lent)));
        self.route
            .clone()
            .execute(operation, Plan::direct(Access::Write), start)
    }

    /// Runs `work` in one transaction: committed if it returns `Ok`, rolled back if it returns `Err`,
    /// panics or overruns, and never left open.
    ///
    /// # Errors
    ///
    /// As [`run`](Self::run).
    pub fn transaction<T, E, W>(
        &self,
        operation: &'static str,
        work: W,
    ) -> impl Future<Output = Result<T, E>> + Send + use<T, E, W>
    where
        for<'c> W: AsyncFnOnce(&'c mut Tx) -> Result<T, E>
            + Work<&'c mut Tx, Result<T, E>, Future: Send>
            + Send
            + 'static,
        T: Send + 'static,
        E: From<DbError> + Send + 'static,
    {
        let start = Start::once(move |lent| Box::pin(work(lent.tx())));
        self.route
            .clone()
            .execute(operation, Plan::transaction(Isolation::default()), start)
    }

    /// Runs `work` in one transaction as [`transaction`](Self::transaction) does, at the isolation that
    /// `retry` names, and again after a conflict as often as it says. The connection is given back
    /// before each wait. `work` may run several times, so it must not do what cannot be rolled back.
    ///
    /// Whether there was a conflict is heard on the connection, so `work` may return it as any error.
    ///
    /// # Errors
    ///
    /// After the last try what `work` made of [`DbError::Conflict`]; otherwise as [`run`](Self::run).
    pub fn retrying_transaction<T, E, W>(
        &self,
        operation: &'static str,
        retry: Retry,
        work: W,
    ) -> impl Future<Output = Result<T, E>> + Send + use<T, E, W>
    where
        for<'c> W: AsyncFnOnce(&'c mut Tx) -> Result<T, E>
            + Work<&'c mut Tx, Result<T, E>, Future: Send>
            + Clone
            + Send
            + 'static,
        T: Send + 'static,
        E: From<DbError> + Send + 'static,
    {
        let start = Start::again(move |lent| Box::pin(work.clone()(lent.tx())));
        self.route
            .clone()
            .execute(operation, Plan::retrying(retry), start)
    }

    /// As [`transaction`](Self::transaction), of the system and on the rows of several tenants, one after the other.
    /// Without the system's scope ([`ModuleDb::system`]) each tenant's rows are seen, and the system's are not.
    ///
    /// # Errors
    ///
    /// As there.
    pub fn transaction_across<T, E, W>(
        &self,
        operation: &'static str,
        work: W,
    ) -> impl Future<Output = Result<T, E>> + Send + use<T, E, W>
    where
        for<'c> W: AsyncFnOnce(AcrossTx<'c>) -> Result<T, E>
            + Work<AcrossTx<'c>, Result<T, E>, Future: Send>
            + Send
            + 'static,
        T: Send + 'static,
        E: From<DbError> + Send + 'static,
    {
        let start = Start::once(move |lent| Box::pin(work(AcrossTx::new(lent))));
        self.route
            .clone()
            .execute(operation, Plan::transaction(Isolation::default()), start)
    }

    /// The way to the rows of one tenant.
    #[must_use]
    pub fn tenant(&self, scope: &TenantScope) -> TenantDb {
        TenantDb::new(&self.route, scope)
    }

    /// The same way for what a caller asks for and the system does, as to end the caller's sessions in all tenants: the actor
    /// of its events and audit entries is the caller. Without the system's scope ([`ModuleDb::system`]) it changes nothing.
    #[must_use]
    pub fn asked_by(&self, caller: &TenantScope) -> Self {
        Self {
            route: Route {
                scope: self.route.scope.asked_by(caller.actor()),
                ..self.route.clone()
            },
        }
    }

    /// The way to the database for one module of the program, whose work holds at most `share` of the
    /// connections at a time. What it asks for beyond that waits among its own, up to the pool's time-out, and
    /// is then refused ([`DbError::PoolExhausted`]); so it starves no other module. `name` is in errors, metrics
    /// and `dotmac why`.
    ///
    /// To be called once for each module: each call creates separate places.
    #[must_use]
    pub fn for_module(&self, name: &'static str, share: Share) -> ModuleDb {
        let bulkhead = Arc::new(Bulkhead::new(name, share));
        observe_module(&bulkhead);
        ModuleDb {
            route: Route {
                module: Some(bulkhead),
                ..self.route.clone()
            },
        }
    }

    /// The state of the pool; `None` while the database is not available.
    #[must_use]
    pub fn pool(&self) -> Option<Arc<Pool>> {
        self.route.pool.get()
    }

    /// Lets there be that many connections at the most, from now on. The actor gets `size` too, so that its next life
    /// uses it.
    pub fn resize(&self, size: &PoolSize, connections: usize) {
        size.set(connections);
        if let Some(pool) = self.pool() {
            pool.resize(connections);
        }
    }
}

/// The way to the database for one module, within its share. Made by [`Db::for_module`].
///
/// Work is done for a tenant, or for the system and with a reason. There is no third way:
///
/// ```compile_fail,E0599
/// # use dotmac_db::{DbError, ModuleDb};
/// # async fn example(db: &ModuleDb) -> Result<(), DbError> {
/// db.transaction("forget whose", async |tx| Ok(())).await
/// # }
/// ```
///
/// ```no_run
/// # use dotmac_db::{DbError, ModuleDb, TenantScope};
/// # async fn example(db: &ModuleDb, scope: &TenantScope) -> Result<(), DbError> {
/// db.tenant(scope).transaction("archive notes", async |tx| Ok::<_, DbError>(())).await?;
/// db.system("notes of all tenants expire").transaction("expire notes", async |tx| Ok(())).await
/// # }
/// ```
#[derive(Clone)]
pub struct ModuleDb {
    route: Route,
}

impl ModuleDb {
    /// The way to the rows of one tenant.
    #[must_use]
    pub fn tenant(&self, scope: &TenantScope) -> TenantDb {
        TenantDb::new(&self.route, scope)
    }

    /// The way to the rows of all tenants, and to tables that have none. `why` is a short constant; it is logged
    /// and counted. On PostgreSQL every piece of work is a transaction then.
    #[must_use]
    pub fn system(&self, why: &'static str) -> Db {
        note_system_scope(why);
        Db {
            route: Route {
                scope: Scope::System(why, None),
                ..self.route.clone()
            },
        }
    }

    /// The present use of the database by this module.
    #[must_use]
    pub fn load(&self) -> Option<ModuleLoad> {
        self.route.module.as_ref().map(|module| module.load())
    }
}
