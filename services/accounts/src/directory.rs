//! What other services may know of the users of a tenant: the contract `dotmac_platform::directory`.

use dotmac_platform::{
    db::{DbError, TenantTx},
    directory::{Contact, Directory},
    mail::EmailAddress,
};
use futures_util::future::BoxFuture;
use uuid::Uuid;

use crate::store::users::{self, UserId, UserRow};

/// The users of this module.
pub(crate) struct Users;

impl Directory for Users {
    fn contacts<'c>(
        &'c self,
        tx: &'c mut TenantTx,
        ids: Vec<Uuid>,
    ) -> BoxFuture<'c, Result<Vec<Contact>, DbError>> {
        Box::pin(async move {
            let ids = ids.into_iter().map(UserId::from_uuid).collect();
            let found = users::active_members(tx, ids).await?;
            Ok(found.into_iter().map(contact).collect())
        })
    }
}

fn contact(user: UserRow) -> Contact {
    Contact {
        user: user.id.uuid(),
        email: user.email.as_deref().and_then(EmailAddress::parse),
        is_email_verified: user.email_verified_at.is_some(),
        name: user.full_name,
        locale: user.locale,
    }
}
