//! The contract by which services find the people of a tenant: their addresses, names and languages.
//!
//! The module that keeps users fulfils it by sharing a [`SharedDirectory`]; others ask for it with
//! [`Mount::later`](crate::module::Mount::later).

use std::{fmt, sync::Arc};

use dotmac_db::{DbError, TenantTx};
use futures_util::future::BoxFuture;
use uuid::Uuid;

use crate::mail::EmailAddress;

/// A member of a tenant, as far as others need to know. `Debug` shows the id alone.
#[derive(Clone)]
pub struct Contact {
    /// The user.
    pub user: Uuid,
    /// The address of the account.
    pub email: Option<EmailAddress>,
    /// Whether the user has proved to receive mail there.
    pub is_email_verified: bool,
    /// The name.
    pub name: Option<String>,
    /// The language, as a BCP 47 tag.
    pub locale: Option<String>,
}

impl fmt::Debug for Contact {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Contact")
            .field("user", &self.user)
            .finish_non_exhaustive()
    }
}

/// Knows the users of tenants.
pub trait Directory: Send + Sync + 'static {
    /// Those of `users` that are active members of the transaction's tenant, in no particular order.
    ///
    /// # Errors
    ///
    /// [`DbError`].
    fn contacts<'c>(
        &'c self,
        tx: &'c mut TenantTx,
        users: Vec<Uuid>,
    ) -> BoxFuture<'c, Result<Vec<Contact>, DbError>>;
}

/// A [`Directory`] as modules share it: `on.share::<SharedDirectory>(Arc::new(…))`.
pub type SharedDirectory = Arc<dyn Directory>;
