//! Addresses of accounts: proved by a link, changed once the new one is proved, put back by a link that the former one gets.

use std::time::Duration;

use dotmac_platform::{
    audit::{Audited, SystemActs as _},
    db::{Tx, types::Moment},
};
use secrecy::ExposeSecret as _;

use super::{
    api_keys, factors,
    mail::{self, Purpose},
    one_time::{self, Given},
    passwords, registration, sessions,
};
use crate::{
    AccountsError,
    audit::{Act, EMAIL_CHANGE_UNDONE, EMAIL_CHANGED, EMAIL_VERIFIED, act_as},
    events::{self, UserUpdated},
    names,
    secret_text::{self, Prefix},
    service::Service,
    store::{
        devices,
        one_time::{self as links, OneTimeRow},
        users::{self as store, Hold, UserRow},
    },
};

/// How long before it asks for another address a client may have added a second factor, to keep the account.
const BEFORE: Duration = Duration::from_secs(24 * 3600);

/// What proves an address.
const PROOFS: &[&str] = &[one_time::VERIFY, one_time::CHANGE];

/// Proves an address by the link that was mailed to it: that of an account, one that is to take its place, or one that was
/// registered.
///
/// # Errors
///
/// As [`one_time::prove`]; [`AccountsError::Conflict`] if another account has got the address meanwhile.
pub(crate) async fn verify(service: &Service, given: Given) -> Result<(), AccountsError> {
    if !is_of_account(service, &given).await? {
        return registration::confirm(service, &given).await;
    }
    let row = one_time::prove(service, PROOFS, &given).await?;
    let worked = service.clone();
    let verified = service.open_db.act("verify address", async move |tx| {
        let user = used_up(tx, &row).await?;
        if !passwords::is_bound(tx, &row, &user).await? {
            return Err(AccountsError::LinkGone);
        }
        match row.address {
            None => set_verified(tx, &user).await,
            Some(address) => change(tx, &worked, &user, address, row.created_at).await,
        }
    });
    verified.await
}

/// Whether there is a link of that text for an account.
async fn is_of_account(service: &Service, given: &Given) -> Result<bool, AccountsError> {
    let pair = secret_text::read_pair(Prefix::OneTime, given.token.expose_secret());
    let public_id = pair.ok_or(AccountsError::LinkGone)?.public_id.to_owned();
    let read = service
        .open_db
        .read("find link", async move |c| links::find(c, &public_id).await);
    Ok(read.await?.is_some())
}

/// The user of a link, whose row is held; the link is used up.
async fn used_up(tx: &mut Tx, row: &OneTimeRow) -> Result<UserRow, AccountsError> {
    store::hold(tx, row.user_id, Hold::Alone).await?;
    let user = store::find(tx, row.user_id).await?;
    let user = user
        .filter(UserRow::is_active)
        .ok_or(AccountsError::LinkGone)?;
    one_time::use_up(tx, row).await?;
    act_as(tx, user.id);
    Ok(user)
}

/// The user has proved to receive mail at the address of the account.
pub(super) async fn set_verified(
    tx: &mut Tx,
    user: &UserRow,
) -> Result<Audited<()>, AccountsError> {
    store::set_verified(tx, user.id).await?;
    events::emit_of_user(tx, user.id, &UserUpdated { user: user.id }).await?;
    let act = Act::on_user(EMAIL_VERIFIED, user.id);
    Ok(act.record_of(tx, user.id).await?.of(()))
}

/// Makes the address that of the account, as was asked for at `asked_at`. The former one gets a notice, with a link that puts it
/// back.
async fn change(
    tx: &mut Tx,
    service: &Service,
    former: &UserRow,
    address: String,
    asked_at: Moment,
) -> Result<Audited<()>, AccountsError> {
    let user = set_address(tx, former, address).await?;
    mail::notify_former_address(tx, service, former, &user, asked_at).await?;
    let act = Act::on_user(EMAIL_CHANGED, user.id);
    Ok(act.record_of(tx, user.id).await?.of(()))
}

async fn set_address(
    tx: &mut Tx,
    former: &UserRow,
    address: String,
) -> Result<UserRow, AccountsError> {
    let normal = names::email(&address).ok_or(AccountsError::LinkGone)?;
    store::set_address(tx, former.id, address, normal).await?;
    events::emit_of_user(tx, former.id, &UserUpdated { user: former.id }).await?;
    let user = store::find(tx, former.id).await?;
    user.ok_or(AccountsError::LinkGone)
}

/// Restores the former address, ends all sessions, revokes all personal keys, and removes what the client that changed the address
/// may know or have added: the password, recovery codes, and the second factors since [`BEFORE`] it was asked for. A link to set a
/// password is mailed to the address. The link of an earlier address stays valid.
///
/// # Errors
///
/// [`AccountsError::LinkGone`]; [`AccountsError::Conflict`] if another account has the address by now.
pub(crate) async fn undo(service: &Service, given: Given) -> Result<(), AccountsError> {
    let browser = given.browser.clone().unwrap_or_default();
    let row = one_time::prove(service, &[one_time::UNDO], &given).await?;
    let worked = service.clone();
    let undone = service
        .open_db
        .act("undo change of address", async move |tx| {
            let user = used_up(tx, &row).await?;
            let address = row.address.clone().ok_or(AccountsError::LinkGone)?;
            if names::email(&address) == user.email_normal {
                return Err(AccountsError::LinkGone);
            }
            // The addresses that the account got later have such links as well.
            links::delete_since(tx, &row).await?;
            let user = set_address(tx, &user, address).await?;
            store::delete_password(tx, user.id).await?;
            devices::delete_of(tx, user.id, None).await?;
            factors::remove_since(tx, user.id, row.created_at - BEFORE).await?;
            let changes = &worked.changes;
            api_keys::revoke_personal(tx, changes, user.id).await?;
            sessions::end_all(tx, changes, user.id, None, "email_change_undone").await?;
            let act = Act::on_user(EMAIL_CHANGE_UNDONE, user.id);
            let recorded = act.record_of(tx, user.id).await?;
            Ok(recorded.of(user.email_normal.unwrap_or_default()))
        });
    let email = undone.await?;
    mail::ask(service, Purpose::Reset, email, browser).await
}
