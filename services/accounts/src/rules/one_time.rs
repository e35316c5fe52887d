//! Links that are good once. Their text is handed out once and never stored.

use std::time::Duration;

use aws_lc_rs::constant_time;
use dotmac_platform::db::{
    Connection, Tx,
    types::{Id, Moment},
};

use crate::{
    AccountsError,
    secret_text::{self, MintedPair, Prefix},
    store::{
        one_time::{self as store, OneTimeRow},
        users::UserId,
    },
};

/// Sets a password: the first one, or a new one.
pub(crate) const PASSWORD: &str = "password_reset";

/// How long a link for a password is good.
pub(crate) const PASSWORD_FOR: Duration = Duration::from_secs(30 * 60);

/// A new link in place of the former ones for the same purpose, for a user whose row is held. `bound_to` is the state that it
/// changes: once that is another, the link is over.
pub(crate) async fn issue(
    tx: &mut Tx,
    user: UserId,
    purpose: &'static str,
    bound_to: String,
    (good_for, made_by): (Duration, Option<UserId>),
) -> Result<(MintedPair, Moment), AccountsError> {
    let minted = secret_text::mint_pair(Prefix::OneTime)?;
    let now = Moment::now();
    store::delete_of(tx, user, purpose).await?;
    let row = OneTimeRow {
        id: Id::new(),
        public_id: minted.public_id.clone(),
        user_id: user,
        purpose: purpose.to_owned(),
        hash: minted.hash.clone(),
        bound_to,
        created_at: now,
        expires_at: now + good_for,
        used_at: None,
        made_by,
    };
    store::insert(tx, &row).await?;
    Ok((minted, row.expires_at))
}

/// Whether the text may be a link's. What is none costs no query.
pub(crate) fn is_well_formed(text: &str) -> bool {
    secret_text::read_pair(Prefix::OneTime, text).is_some()
}

/// The row of a link that is still good.
///
/// # Errors
///
/// [`AccountsError::LinkGone`], whatever is wrong with it.
pub(crate) async fn look(
    c: &mut Connection,
    purpose: &'static str,
    text: &str,
) -> Result<OneTimeRow, AccountsError> {
    let given = secret_text::read_pair(Prefix::OneTime, text).ok_or(AccountsError::LinkGone)?;
    let row = store::find(c, given.public_id)
        .await?
        .ok_or(AccountsError::LinkGone)?;
    let is_right = constant_time::verify_slices_are_equal(&row.hash, &given.hash).is_ok();
    let is_good = row.purpose == purpose && row.used_at.is_none() && row.expires_at > Moment::now();
    if is_right && is_good {
        Ok(row)
    } else {
        Err(AccountsError::LinkGone)
    }
}

/// Uses the link up.
///
/// # Errors
///
/// [`AccountsError::LinkGone`] if another request did before.
pub(crate) async fn use_up(tx: &mut Tx, row: &OneTimeRow) -> Result<(), AccountsError> {
    match store::use_up(tx, row.id).await? {
        0 => Err(AccountsError::LinkGone),
        _ => Ok(()),
    }
}
