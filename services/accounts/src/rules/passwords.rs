//! Passwords: set by a link, changed by their owner.

use dotmac_platform::db::{Connection, Tx, types::Moment};
use secrecy::{ExposeSecret, SecretString};

use super::{
    api_keys, one_time, sessions,
    standing::Standing,
    throttle::{self, Limit},
    users,
};
use crate::{
    AccountsError, Act,
    events::{self, PasswordChanged},
    names,
    password::{self, Asker, Context, Verdict},
    service::Service,
    store::{
        devices,
        one_time::OneTimeRow,
        sessions::SessionId,
        users::{self as store, Hold, PasswordRow, UserId, UserRow},
    },
};

/// By what failures to give the present password are counted, together with the user.
pub(super) const SCOPE: &str = "password";

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
) -> Result<(crate::secret_text::MintedPair, Moment), AccountsError> {
    if !user.is_active() {
        return Err(AccountsError::NotFound);
    }
    // Of two links that are made at once the later one is the only one.
    store::hold(tx, user.id, Hold::Alone).await?;
    let bound_to = epoch(store::password(tx, user.id).await?.as_ref());
    let issued = one_time::issue(
        tx,
        user.id,
        one_time::PASSWORD,
        bound_to,
        (one_time::PASSWORD_FOR, made_by),
    )
    .await?;
    Act::success("user_reset_link_created", "user", user.id.uuid()).record(tx);
    Ok(issued)
}

/// Words that an attacker tries first for this user.
fn context(service: &Service, user: &UserRow) -> Context {
    let email = user.email_normal.as_deref().unwrap_or_default();
    let (local, domain) = email.split_once('@').unwrap_or_default();
    let words = [
        local,
        domain.split('.').next().unwrap_or_default(),
        user.username.as_deref().unwrap_or_default(),
        user.full_name.as_deref().unwrap_or_default(),
        service.settings.audience.as_str(),
        service.settings.public_url.host_str().unwrap_or_default(),
    ];
    Context(
        words
            .iter()
            .filter(|word| !word.is_empty())
            .map(|word| (*word).to_owned())
            .collect(),
    )
}

/// The hash of a new password, if it is accepted for the user.
///
/// # Errors
///
/// [`AccountsError::Invalid`] says why it is not accepted; [`AccountsError::Busy`].
pub(crate) async fn hash_new(
    service: &Service,
    asker: Asker,
    user: &UserRow,
    field: &'static str,
    password: SecretString,
) -> Result<String, AccountsError> {
    let context = context(service, user);
    let checked = password.clone();
    let check = move || password::check(checked.expose_secret(), &context);
    let accepted = service.hasher.check(asker, check).await?;
    accepted.map_err(|fault| AccountsError::password(field, fault))?;
    let normal = SecretString::from(names::password(password.expose_secret()).as_str());
    service.hasher.hash(asker, normal).await
}

/// Sets the password that a link allows to set: uses the link up, ends all sessions and revokes all personal keys. It does not
/// sign in.
///
/// # Errors
///
/// [`AccountsError::LinkGone`]; what [`hash_new`] says.
pub(crate) async fn reset(
    service: &Service,
    asker: Asker,
    token: SecretString,
    password: SecretString,
) -> Result<(), AccountsError> {
    if !one_time::is_well_formed(token.expose_secret()) {
        return Err(AccountsError::LinkGone);
    }
    let looked = service.open_db.read("look at reset link", async move |c| {
        let row = one_time::look(c, one_time::PASSWORD, token.expose_secret()).await?;
        still_bound(c, row).await
    });
    let (row, user) = looked.await?;
    let phc = hash_new(service, asker, &user, "password", password).await?;
    let (changes, keys) = (service.changes.clone(), service.keys.get().await?);
    let set = service
        .open_db
        .transaction("reset password", async move |tx| {
            store::hold(tx, row.user_id, Hold::Alone).await?;
            let (row, user) = still_bound(tx, row).await?;
            one_time::use_up(tx, &row).await?;
            set(tx, user.id, phc, row.made_by).await?;
            // The owner has come: what others have failed counts no longer, and no device counts that they may have made.
            users::forget_failures(tx, &keys, &user).await?;
            devices::delete_of(tx, user.id, None).await?;
            api_keys::revoke_personal(tx, &changes, user.id).await?;
            sessions::end_all(tx, &changes, user.id, None, "password_reset").await?;
            Ok::<_, AccountsError>(())
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
    let password = store::password(c, user.id).await?;
    if epoch(password.as_ref()) != row.bound_to || !is_still_allowed(c, &row, &user).await? {
        return Err(AccountsError::LinkGone);
    }
    Ok((row, user))
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
    let maker = Standing::of_user(c, tenant, maker).await?;
    Ok(maker.may_write_users() && maker.covers_user(c, user.id).await?)
}

async fn set(
    tx: &mut Tx,
    user: UserId,
    phc: String,
    set_by: Option<UserId>,
) -> Result<(), AccountsError> {
    let row = PasswordRow {
        user_id: user,
        phc,
        changed_at: Moment::now(),
        set_by,
    };
    store::set_password(tx, row).await?;
    Act::success("authn_password_change", "user", user.uuid()).record(tx);
    events::emit_of_user(tx, user, &PasswordChanged { user }).await
}

/// Sets the first password of a user that an administrator makes.
pub(crate) async fn set_first(
    tx: &mut Tx,
    user: UserId,
    phc: String,
    set_by: UserId,
) -> Result<(), AccountsError> {
    set(tx, user, phc, Some(set_by)).await
}

/// Whether `given` is the password of `stored`, whatever lies there.
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
        // A row that is no hash of ours: nobody gets in by it.
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

/// Checks the present password of a signed-in user, which `field` of the request has.
///
/// # Errors
///
/// [`AccountsError::Invalid`] if that is not it; [`AccountsError::Throttled`], [`AccountsError::Busy`].
pub(super) async fn prove(
    service: &Service,
    user: UserId,
    field: &'static str,
    given: SecretString,
) -> Result<Proved, AccountsError> {
    let keys = service.keys.get().await?;
    let key = keys.throttle_key(SCOPE, &user.to_string())?;
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
    let counted = service
        .open_db
        .transaction("count failure", async move |tx| {
            let held = throttle::check(tx, key.clone()).await;
            throttle::count(tx, key, Limit::PRESENT_PASSWORD).await?;
            Act::failure("authn_password_check", "user", user.uuid()).record(tx);
            Ok::<_, AccountsError>(held)
        });
    counted.await??;
    Err(AccountsError::field(
        field,
        "password_wrong",
        "is not the present password",
    ))
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
    user: UserId,
    session: SessionId,
    (current, new): (SecretString, SecretString),
    ends: Ends,
) -> Result<(), AccountsError> {
    let _place = service.hasher.place_of(user.uuid())?;
    let proved = prove(service, user, "current", current).await?;
    let phc = hash_new(service, Asker::signed_in(), &proved.row, "new", new).await?;
    let changes = service.changes.clone();
    let changed = service
        .open_db
        .transaction("change password", async move |tx| {
            store::hold(tx, user, Hold::Alone).await?;
            proved.accept(tx).await?;
            // Another request may have changed it since the present one was checked.
            let present = store::password(tx, user).await?;
            if epoch(present.as_ref()) != proved.epoch {
                return Err(AccountsError::Changed);
            }
            set(tx, user, phc, present.and_then(|row| row.set_by)).await?;
            if ends.keys {
                api_keys::revoke_personal(tx, &changes, user).await?;
            }
            if ends.others {
                devices::delete_of(tx, user, ends.device).await?;
                sessions::end_all(tx, &changes, user, Some(session), "password_changed").await?;
            }
            Ok(())
        });
    changed.await
}
