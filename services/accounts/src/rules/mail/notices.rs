//! Mails to the owner of an account about what happened to it. No request asks for them, so they have no limit.

use std::time::Duration;

use dotmac_platform::db::Tx;

use super::{
    letters::{FACTOR_LOCKED, KEY_REPORTED, LOCKED, PASSWORD_CHANGED, REFRESH_REUSED},
    link_to, send,
};
use crate::{
    AccountsError,
    rules::{
        one_time::{self, NewLink},
        passwords,
    },
    secret_text::MintedPair,
    service::Service,
    store::{
        api_keys::ApiKeyRow,
        bindings,
        users::{self, UserId, UserRow},
    },
};

/// Owners of a tenant who are written to.
const MOST_OWNERS: i64 = 10;

/// How long the link of a notice signs in.
const SIGN_IN_FOR: Duration = Duration::from_secs(30 * 60);

/// The password was set or changed.
pub(crate) async fn password_changed(
    tx: &mut Tx,
    service: &Service,
    user: UserId,
) -> Result<(), AccountsError> {
    let Some(user) = users::find(tx, user).await? else {
        return Ok(());
    };
    send(tx, service, &user, &PASSWORD_CHANGED, &[], None).await
}

/// A refresh token of the user was used a second time.
pub(crate) async fn refresh_reused(
    tx: &mut Tx,
    service: &Service,
    user: UserId,
) -> Result<(), AccountsError> {
    let Some(user) = users::find(tx, user).await? else {
        return Ok(());
    };
    send(tx, service, &user, &REFRESH_REUSED, &[], None).await
}

/// Codes were locked: the client that gave the wrong ones had passed the first step of the sign-in.
pub(crate) async fn factor_locked(
    tx: &mut Tx,
    service: &Service,
    user: UserId,
) -> Result<(), AccountsError> {
    let user = users::find(tx, user).await?.filter(UserRow::is_active);
    match user {
        Some(user) => send(tx, service, &user, &FACTOR_LOCKED, &[], None).await,
        None => Ok(()),
    }
}

/// An API key was reported and revoked: to its owner; of a service account to the owners of its tenant.
pub(crate) async fn key_reported(
    tx: &mut Tx,
    service: &Service,
    key: &ApiKeyRow,
) -> Result<(), AccountsError> {
    let owners = match key.user_id {
        Some(user) => vec![user],
        None => bindings::active_owners(tx, key.tenant_id, MOST_OWNERS).await?,
    };
    for owner in owners {
        let Some(user) = users::find(tx, owner).await?.filter(UserRow::is_active) else {
            continue;
        };
        // Not its name, which an attacker may have chosen.
        let data = [("key", key.public_id.clone())];
        send(tx, service, &user, &KEY_REPORTED, &data, None).await?;
    }
    Ok(())
}

/// Passwords from unknown devices let the user in no more; a link that does, and that ends the lock. At most once a day, since
/// that is how long failures are counted.
pub(crate) async fn locked(
    tx: &mut Tx,
    service: &Service,
    user: UserId,
) -> Result<(), AccountsError> {
    let user = users::find(tx, user).await?.filter(UserRow::is_active);
    let Some(user) = user else {
        return Ok(());
    };
    let password = users::password(tx, user.id).await?;
    let link = NewLink {
        user: user.id,
        purpose: one_time::SIGN_IN,
        bound_to: super::bound_to(&user, &passwords::epoch(password.as_ref())),
        good_for: SIGN_IN_FOR,
        made_by: None,
        address: None,
    };
    let (MintedPair { text, .. }, expires_at) = one_time::issue(tx, link).await?;
    let url = link_to(service, "sign-in", &text);
    send(
        tx,
        service,
        &user,
        &LOCKED,
        &[("url", url)],
        Some(expires_at),
    )
    .await
}
