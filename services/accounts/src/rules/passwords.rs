//! Passwords: set by a link, changed by their owner.

use dotmac_platform::{
    access::Principal,
    audit::{Audited, SystemActs as _},
    db::{
        Connection, Tx,
        types::{Id, Moment},
    },
};
use secrecy::{ExposeSecret, SecretString};

use super::{
    addresses, api_keys,
    mail::{self, notices},
    new_passwords::{NewPassword, hash_new},
    one_time::{self, Given, NewLink},
    sessions,
    standing::Standing,
    throttle::{self, Limit},
    users,
};
use crate::{
    AccountsError,
    audit::{Act, PASSWORD_CHANGE, PASSWORD_CHECK, RESET_LINK_CREATED, act_as},
    events::{self, PasswordChanged},
    names,
    password::{Asker, PasswordFault, Strength, Verdict},
    secret_text::MintedPair,
    service::Service,
    store::{
        devices, factors,
        one_time::OneTimeRow,
        sessions::SessionId,
        users::{self as store, Hold, PasswordRow, UserId, UserRow},
    },
};

/// By what failures to give the present password are counted, together with the user and the time of the authentication: those of
/// a session and of what takes its place, apart from the other sessions, so that a stolen one does not keep the user out.
const SCOPE: &str = "password";

/// What a link for a password is bound to: the password as it is, so that a change ends the link.
pub(crate) fn epoch(password: Option<&PasswordRow>) -> String {
    password.map_or_else(|| "none".to_owned(), |row| row.changed_at.to_string())
}

/// A link by which the user can set a password, made by that administrator, or by an operator. Its text is returned and kept
/// nowhere.
///
/// # Errors
///
/// [`AccountsError::NotFound`] for a user that is disabled or deleted.
pub(crate) async fn reset_link(
    tx: &mut Tx,
    user: &UserRow,
    made_by: Option<UserId>,
) -> Result<Audited<(MintedPair, Moment)>, AccountsError> {
    if !user.is_active() {
        return Err(AccountsError::NotFound);
    }
    // Of two links that are made at once the later one is the only one.
    store::hold(tx, user.id, Hold::Alone).await?;
    let link = NewLink {
        user: user.id,
        purpose: one_time::PASSWORD,
        bound_to: epoch(store::password(tx, user.id).await?.as_ref()),
        good_for: one_time::PASSWORD_FOR,
        made_by,
        address: None,
    };
    let issued = one_time::issue(tx, link).await?;
    let act = Act::on_user(RESET_LINK_CREATED, user.id);
    Ok(act.record_of(tx, user.id).await?.of(issued))
}

/// Sets the password that a link allows to set: uses the link up, ends all sessions and revokes all personal keys. It does not
/// sign in. One that was mailed proves the address as well.
///
/// # Errors
///
/// [`AccountsError::LinkGone`]; what [`one_time::prove`] and [`hash_new`] say.
pub(crate) async fn reset(
    service: &Service,
    asker: Asker,
    given: Given,
    password: SecretString,
) -> Result<(), AccountsError> {
    let row = one_time::prove(service, &[one_time::PASSWORD], &given).await?;
    let read = service
        .open_db
        .read("read whom link is for", async move |c| {
            still_bound(c, row).await
        });
    let (row, user) = read.await?;
    let new = hash_new(service, asker, &user, "password", password).await?;
    let (keys, worked) = (service.keys.get().await?, service.clone());
    let set = service.open_db.act("reset password", async move |tx| {
        store::hold(tx, row.user_id, Hold::Alone).await?;
        let (row, user) = still_bound(tx, row).await?;
        one_time::use_up(tx, &row).await?;
        act_as(tx, user.id);
        if row.browser.is_some() {
            addresses::set_verified(tx, &user).await?;
        }
        let set = set(tx, user.id, new, row.made_by).await?;
        notices::password_changed(tx, &worked, user.id).await?;
        // The owner has proved the account: failures of others are forgotten, and so are devices that they may have registered.
        users::forget_failures(tx, &keys, &user).await?;
        devices::delete_of(tx, user.id, None).await?;
        let changes = &worked.changes;
        api_keys::revoke_personal(tx, changes, user.id).await?;
        sessions::end_all(tx, changes, user.id, None, "password_reset").await?;
        Ok::<_, AccountsError>(set)
    });
    set.await
}

async fn still_bound(
    c: &mut Connection,
    row: OneTimeRow,
) -> Result<(OneTimeRow, UserRow), AccountsError> {
    let user = store::find(c, row.user_id).await?;
    let user = user
        .filter(UserRow::is_active)
        .ok_or(AccountsError::LinkGone)?;
    if !is_bound(c, &row, &user).await? || !is_still_allowed(c, &row, &user).await? {
        return Err(AccountsError::LinkGone);
    }
    Ok((row, user))
}

/// Whether the link is bound to the account as it is: to its password, and if it was mailed to its address.
pub(super) async fn is_bound(
    c: &mut Connection,
    row: &OneTimeRow,
    user: &UserRow,
) -> Result<bool, AccountsError> {
    let epoch = epoch(store::password(c, user.id).await?.as_ref());
    Ok(row.bound_to == epoch || row.bound_to == mail::bound_to(user, &epoch))
}

/// Whether the administrator who made the link could make it now: its user may have got roles meanwhile.
async fn is_still_allowed(
    c: &mut Connection,
    row: &OneTimeRow,
    user: &UserRow,
) -> Result<bool, AccountsError> {
    let Some(maker) = row.made_by else {
        return Ok(true);
    };
    let Some(tenant) = user.managed_by else {
        return Ok(false);
    };
    if !Standing::of_user(c, tenant, maker).await?.may_write_users() {
        return Ok(false);
    }
    let lasting = Standing::lasting(c, tenant, maker, None).await?;
    Ok(lasting.covers_user(c, user.id).await?)
}

/// Sets a password of a user whose row is held.
///
/// # Errors
///
/// [`AccountsError::Invalid`] if it is too short by now: the second factor may have been taken away since it was judged.
async fn set(
    tx: &mut Tx,
    user: UserId,
    new: NewPassword,
    set_by: Option<UserId>,
) -> Result<Audited<()>, AccountsError> {
    let is_short = new.is_short();
    if is_short && !factors::held(tx, user).await?.any() {
        let fault = PasswordFault::TooShort(Strength::Alone);
        return Err(AccountsError::password(new.field, fault));
    }
    let row = PasswordRow {
        user_id: user,
        phc: new.phc,
        changed_at: Moment::now(),
        set_by,
        is_short,
    };
    store::set_password(tx, row).await?;
    events::emit_of_user(tx, user, &PasswordChanged { user }).await?;
    let act = Act::on_user(PASSWORD_CHANGE, user);
    Ok(act.record_of(tx, user).await?.of(()))
}

/// Sets the first password of a user who has made the account.
pub(super) async fn set_own(tx: &mut Tx, user: UserId, phc: String) -> Result<(), AccountsError> {
    // It was judged without a second factor, which comes later.
    let new = NewPassword {
        phc,
        field: "password",
        strength: Strength::Alone,
    };
    set(tx, user, new, None).await?;
    Ok(())
}

/// Sets the first password of a user that an administrator makes.
pub(crate) async fn set_first(
    tx: &mut Tx,
    user: UserId,
    new: NewPassword,
    set_by: UserId,
) -> Result<Audited<()>, AccountsError> {
    set(tx, user, new, Some(set_by)).await
}

/// Whether `given` is the password of `stored`, which may be damaged.
///
/// # Errors
///
/// [`AccountsError::Busy`].
pub(super) async fn verify(
    service: &Service,
    asker: Asker,
    given: SecretString,
    stored: Option<String>,
) -> Result<Verdict, AccountsError> {
    match service.hasher.verify(asker, given, stored).await {
        // No password matches a row that is not a hash of this program.
        Err(AccountsError::HashNotUsable) => {
            tracing::error!("a stored password hash cannot be used");
            Ok(Verdict::Wrong)
        }
        verdict => verdict,
    }
}

/// A user who has just proved to know the password.
pub(super) struct Proved {
    row: UserRow,
    /// The password that was proved; another one may have been set since.
    pub(super) epoch: String,
    /// What failures are counted by.
    key: Vec<u8>,
}

impl Proved {
    /// Forgets earlier failures, unless others have failed too often meanwhile.
    pub(super) async fn accept(&self, tx: &mut Tx) -> Result<(), AccountsError> {
        throttle::check(tx, self.key.clone()).await?;
        throttle::forget(tx, self.key.clone()).await
    }
}

/// Checks the present password of a signed-in user, which `field` of the request has. The last failure that is allowed ends the
/// session.
///
/// # Errors
///
/// [`AccountsError::Invalid`] if that is not it; [`AccountsError::Throttled`], [`AccountsError::Busy`],
/// [`AccountsError::SessionEnded`].
pub(super) async fn prove(
    service: &Service,
    who: &Principal,
    field: &'static str,
    given: SecretString,
) -> Result<Proved, AccountsError> {
    let (user, session) = caller(who)?;
    let keys = service.keys.get().await?;
    let authenticated_at = Moment::from(who.authenticated_at);
    let key = keys.throttle_key(SCOPE, &format!("{user} {authenticated_at}"))?;
    let checked = key.clone();
    let read = service.open_db.read("read password", async move |c| {
        throttle::check(c, checked).await?;
        Ok::<_, AccountsError>((store::find(c, user).await?, store::password(c, user).await?))
    });
    let (row, stored) = read.await?;
    let row = row.ok_or(AccountsError::SessionEnded)?;
    let epoch = epoch(stored.as_ref());
    let given = SecretString::from(names::password(given.expose_secret()).as_str());
    let stored = stored.map(|stored| stored.phc);
    if verify(service, Asker::signed_in(), given, stored).await? != Verdict::Wrong {
        return Ok(Proved { row, epoch, key });
    }
    let changes = service.changes.clone();
    let counted = service.open_db.act("count failure", async move |tx| {
        act_as(tx, user);
        let held = throttle::check(tx, key.clone()).await;
        let failures = throttle::count(tx, key, Limit::PRESENT_PASSWORD).await?;
        if failures == Some(Limit::PRESENT_PASSWORD.most) {
            sessions::end_by_id(tx, &changes, session, "too_many_failures").await?;
        }
        let act = Act::on_user(PASSWORD_CHECK, user).failed("the password is not right");
        // The count is kept, whatever the answer.
        Ok::<_, AccountsError>(act.record_of(tx, user).await?.of(held))
    });
    counted.await??;
    Err(AccountsError::field(
        field,
        "password_wrong",
        "is not the present password",
    ))
}

/// The user who calls, and the session that it calls with.
fn caller(who: &Principal) -> Result<(UserId, SessionId), AccountsError> {
    let session = who.session.ok_or(AccountsError::SessionEnded)?;
    Ok((Id::from_uuid(who.id), Id::from_uuid(session)))
}

/// What ends with a password that is changed.
pub(crate) struct Ends {
    /// All other sessions and known devices.
    pub(crate) others: bool,
    /// The hash of the cookie of the present device, which stays known.
    pub(crate) device: Option<Vec<u8>>,
    /// All personal API keys.
    pub(crate) keys: bool,
}

/// Changes the password of a user who knows the present one.
///
/// # Errors
///
/// [`AccountsError::Invalid`] with `current` if that is not it; what [`hash_new`] says.
pub(crate) async fn change(
    service: &Service,
    who: &Principal,
    (current, new): (SecretString, SecretString),
    ends: Ends,
) -> Result<(), AccountsError> {
    let (user, session) = caller(who)?;
    let _place = service.hasher.place_of(who.id)?;
    let proved = prove(service, who, "current", current).await?;
    let new = hash_new(service, Asker::signed_in(), &proved.row, "new", new).await?;
    let worked = service.clone();
    let changed = service.open_db.act("change password", async move |tx| {
        act_as(tx, user);
        store::hold(tx, user, Hold::Alone).await?;
        proved.accept(tx).await?;
        // Another request may have changed it since the present one was checked.
        let present = store::password(tx, user).await?;
        if epoch(present.as_ref()) != proved.epoch {
            return Err(AccountsError::Changed);
        }
        let set = set(tx, user, new, present.and_then(|row| row.set_by)).await?;
        notices::password_changed(tx, &worked, user).await?;
        let changes = &worked.changes;
        if ends.keys {
            api_keys::revoke_personal(tx, changes, user).await?;
        }
        if ends.others {
            devices::delete_of(tx, user, ends.device).await?;
            sessions::end_all(tx, changes, user, Some(session), "password_changed").await?;
        }
        Ok(set)
    });
    changed.await
}
