//! Work with its types, for code that is compiled once for all work.

use std::any::Any;

use futures_util::future::BoxFuture;

use super::tenant_tx::TenantTx;
use crate::DbError;

/// Work, and what it returned. Only its creator knows its types.
pub(crate) trait Piece: Any + Send {
    /// Does the work; says whether it succeeded.
    fn attempt<'c>(&'c mut self, lent: &'c mut TenantTx) -> BoxFuture<'c, bool>;

    /// Makes `error` what it returned.
    fn refuse(&mut self, error: DbError);
}

/// Begins work on what is lent to it.
pub(crate) enum Start<T, E> {
    /// Once at the most.
    Once(Option<Box<Begin<T, E>>>),
    /// As often as need be.
    Again(Box<BeginAgain<T, E>>),
}

type Begin<T, E> = dyn for<'c> FnOnce(&'c mut TenantTx) -> BoxFuture<'c, Result<T, E>> + Send;
type BeginAgain<T, E> = dyn for<'c> Fn(&'c mut TenantTx) -> BoxFuture<'c, Result<T, E>> + Send;

impl<T, E> Start<T, E> {
    pub(crate) fn once(
        begin: impl for<'c> FnOnce(&'c mut TenantTx) -> BoxFuture<'c, Result<T, E>> + Send + 'static,
    ) -> Self {
        Self::Once(Some(Box::new(begin)))
    }

    pub(crate) fn again(
        begin: impl for<'c> Fn(&'c mut TenantTx) -> BoxFuture<'c, Result<T, E>> + Send + 'static,
    ) -> Self {
        Self::Again(Box::new(begin))
    }
}

/// The only [`Piece`].
pub(crate) struct Kept<T, E> {
    start: Start<T, E>,
    result: Option<Result<T, E>>,
}

impl<T, E> Kept<T, E> {
    pub(crate) fn new(start: Start<T, E>) -> Self {
        Self {
            start,
            result: None,
        }
    }

    /// Its result, if it was done.
    pub(crate) fn into_result(self) -> Option<Result<T, E>> {
        self.result
    }
}

impl<T, E> Piece for Kept<T, E>
where
    T: Send + 'static,
    E: From<DbError> + Send + 'static,
{
    fn attempt<'c>(&'c mut self, lent: &'c mut TenantTx) -> BoxFuture<'c, bool> {
        let work = match &mut self.start {
            Start::Once(begin) => begin.take().map(|begin| begin(lent)),
            Start::Again(begin) => Some(begin(lent)),
        };
        let result = &mut self.result;
        Box::pin(async move {
            if let Some(work) = work {
                *result = Some(work.await);
            }
            matches!(result, Some(Ok(_)))
        })
    }

    fn refuse(&mut self, error: DbError) {
        self.result = Some(Err(E::from(error)));
    }
}
