//! The way to the rows of one tenant.

use super::{
    piece::Start,
    run::{Plan, Route},
    scope::{Scope, TenantId, TenantScope},
    tenant_tx::TenantTx,
    tx::Work,
};
use crate::{DbError, Isolation, Retry, pool::Access};

/// The way to the rows of one tenant.
#[derive(Clone)]
pub struct TenantDb {
    route: Route,
    tenant: TenantId,
}

impl TenantDb {
    pub(super) fn new(route: &Route, scope: &TenantScope) -> Self {
        let tenant = scope.tenant();
        Self {
            route: Route {
                scope: Scope::Tenant(tenant, scope.actor()),
                ..route.clone()
            },
            tenant,
        }
    }

    /// Whose rows.
    #[must_use]
    pub const fn tenant(&self) -> TenantId {
        self.tenant
    }

    /// As [`Db::read`](crate::Db::read), on the tenant's rows. On PostgreSQL in a transaction that only reads.
    ///
    /// # Errors
    ///
    /// As [`Db::transaction`](crate::Db::transaction).
    pub fn read<T, E, W>(
        &self,
        operation: &'static str,
        work: W,
    ) -> impl Future<Output = Result<T, E>> + Send + use<T, E, W>
    where
        for<'c> W: AsyncFnOnce(&'c mut TenantTx) -> Result<T, E>
            + Work<&'c mut TenantTx, Result<T, E>, Future: Send>
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

    /// As [`Db::transaction`](crate::Db::transaction), on the tenant's rows.
    ///
    /// # Errors
    ///
    /// As there.
    pub fn transaction<T, E, W>(
        &self,
        operation: &'static str,
        work: W,
    ) -> impl Future<Output = Result<T, E>> + Send + use<T, E, W>
    where
        for<'c> W: AsyncFnOnce(&'c mut TenantTx) -> Result<T, E>
            + Work<&'c mut TenantTx, Result<T, E>, Future: Send>
            + Send
            + 'static,
        T: Send + 'static,
        E: From<DbError> + Send + 'static,
    {
        let start = Start::once(move |lent| Box::pin(work(lent)));
        self.route
            .clone()
            .execute(operation, Plan::transaction(Isolation::default()), start)
    }

    /// As [`Db::retrying_transaction`](crate::Db::retrying_transaction), on the tenant's rows.
    ///
    /// # Errors
    ///
    /// As there.
    pub fn retrying_transaction<T, E, W>(
        &self,
        operation: &'static str,
        retry: Retry,
        work: W,
    ) -> impl Future<Output = Result<T, E>> + Send + use<T, E, W>
    where
        for<'c> W: AsyncFnOnce(&'c mut TenantTx) -> Result<T, E>
            + Work<&'c mut TenantTx, Result<T, E>, Future: Send>
            + Clone
            + Send
            + 'static,
        T: Send + 'static,
        E: From<DbError> + Send + 'static,
    {
        let start = Start::again(move |lent| Box::pin(work.clone()(lent)));
        self.route
            .clone()
            .execute(operation, Plan::retrying(retry), start)
    }
}
