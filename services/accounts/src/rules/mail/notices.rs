//! Mails to the owner of an account about what happened to it. Nobody asks for them, so no limit holds them back.

use std::time::Duration;

use dotmac_platform::db::Tx;

use super::{
    letters::{LOCKED, PASSWORD_CHANGED, REFRESH_REUSED},
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
    store::users::{self, UserId, UserRow},
};

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
