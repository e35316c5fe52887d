//! Transactions on the rows of tenants: of one, or of several, one after the other.

use std::ops::{Deref, DerefMut};

use super::{
    scope::{Scope, TenantId, TenantScope},
    tx::{AfterCommit, Querying, Tx},
};
use crate::{Connection, DbError};

/// A transaction on the rows of one tenant. Derefs to [`Tx`].
///
/// A store function that takes it cannot be called without a scope:
///
/// ```compile_fail,E0308
/// # use dotmac_db::{DbError, TenantTx, Tx};
/// async fn archive(tx: &mut TenantTx) -> Result<(), DbError> {
///     Ok(())
/// }
/// async fn anywhere(tx: &mut Tx) -> Result<(), DbError> {
///     archive(tx).await
/// }
/// ```
pub struct TenantTx(Tx);

impl TenantTx {
    /// The transaction of all work; only a tenant's work has its tenant.
    pub(crate) fn new(tx: Tx) -> Self {
        Self(tx)
    }

    /// Whose rows; for the filter of every query.
    #[must_use]
    pub fn tenant(&self) -> TenantId {
        // Work that is handed this type has a tenant. An unknown id would show it nothing.
        self.0.tenant().unwrap_or_default()
    }

    pub(crate) fn tx(&mut self) -> &mut Tx {
        &mut self.0
    }

    pub(crate) fn into_parts(self) -> (Connection, Vec<AfterCommit>) {
        self.0.into_parts()
    }
}

impl Deref for TenantTx {
    type Target = Tx;

    fn deref(&self) -> &Tx {
        &self.0
    }
}

impl DerefMut for TenantTx {
    fn deref_mut(&mut self) -> &mut Tx {
        &mut self.0
    }
}

impl Querying for TenantTx {
    fn connection(&mut self) -> &mut Connection {
        self.0.connection()
    }
}

/// One transaction of the system that works on the rows of several tenants, one after the other: what a worker
/// does for many of them is committed together. Made by [`Db::transaction_across`](crate::Db::transaction_across).
pub struct AcrossTx<'c> {
    lent: &'c mut TenantTx,
}

impl<'c> AcrossTx<'c> {
    pub(crate) fn new(lent: &'c mut TenantTx) -> Self {
        Self { lent }
    }

    /// The same transaction on the rows of one tenant, from now until another scope is entered.
    ///
    /// # Errors
    ///
    /// [`DbError`]: the setting for row-level security failed.
    pub async fn tenant(&mut self, scope: &TenantScope) -> Result<&mut TenantTx, DbError> {
        let scope = Scope::Tenant(scope.tenant(), scope.actor());
        self.lent.0.enter(scope).await?;
        Ok(self.lent)
    }

    /// What an extension [has collected](Tx::slot) on the transaction, whatever its scope is now; no query.
    pub fn slot<T: Default + Send + 'static>(&mut self) -> &mut T {
        self.lent.0.slot()
    }

    /// The same transaction on the rows of all tenants, as it began.
    ///
    /// # Errors
    ///
    /// As [`tenant`](Self::tenant).
    pub async fn system(&mut self) -> Result<&mut Tx, DbError> {
        let tx = &mut self.lent.0;
        tx.enter(tx.begun).await?;
        Ok(tx)
    }
}
