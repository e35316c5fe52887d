//! Taking second factors away, and what follows from it.

use dotmac_platform::{
    access::Principal,
    audit::{Audited, Recorded},
    db::{
        Tx,
        types::{Id, Moment},
    },
    jobs::Enqueue as _,
    routing::IfMatch,
};

use super::Factor;
use crate::{
    AccountsError,
    audit::{Act, FACTOR_REMOVED, PASSWORD_CHANGE},
    changes::Changes,
    events::{self, FactorRemoved, PasswordChanged},
    rules::{mail::notices::RemovedFactors, sessions},
    service,
    store::{
        factors as store, passkeys,
        sessions::{self as session_store, SessionId},
        users::{self, Hold, UserId},
    },
};

/// Takes a factor of the caller away, if it is in a version that the client has seen. A factor that there is must have been shown
/// just now.
///
/// # Errors
///
/// 403 `step_up_required`; [`AccountsError::NotFound`] if there is none; 412; [`AccountsError::LastFactor`] for the only passkey of a user
/// without a password, who would have no way in but a mail, and for the last factor of one whose password is too short to be alone.
pub(crate) async fn remove_own(
    tx: &mut Tx,
    changes: &Changes,
    who: &Principal,
    factor: Factor,
    seen: &IfMatch,
) -> Result<Audited<()>, AccountsError> {
    let user = Id::from_uuid(who.id);
    // No factor is activated between the check and the end.
    users::hold(tx, user, Hold::Alone).await?;
    let held = store::held(tx, user).await?;
    service::authenticated_now(who, held.needed())?;
    seen.check(version(tx, user, factor).await?)?;
    let removed = match factor {
        Factor::Totp => store::delete_totp(tx, user).await?,
        Factor::Passkey(id) => passkeys::delete(tx, user, id).await?,
    };
    if removed == 0 {
        return Err(AccountsError::NotFound);
    }
    let is_last_passkey = matches!(factor, Factor::Passkey(_)) && held.passkeys == 1;
    let is_last = !store::held(tx, user).await?.any();
    match users::password(tx, user).await? {
        None if is_last_passkey => {
            let why = "the last passkey of a user without a password must stay";
            return Err(AccountsError::LastFactor(why));
        }
        Some(password) if password.is_short && is_last && held.any() => {
            let why = "the password is too short to be the only factor: set one of at least 15 characters first";
            return Err(AccountsError::LastFactor(why));
        }
        _ => {}
    }
    let session = who.session.map(Id::from_uuid);
    removed_from(tx, changes, user, session, &[factor.name()]).await
}

/// The version of a factor of the user.
///
/// # Errors
///
/// [`AccountsError::NotFound`].
async fn version(tx: &mut Tx, user: UserId, factor: Factor) -> Result<i64, AccountsError> {
    let version = match factor {
        Factor::Totp => store::totp_of(tx, user).await?.map(|app| app.version()),
        Factor::Passkey(id) => {
            let passkey = passkeys::find_own(tx, user, id).await?;
            passkey.map(|passkey| passkey.version())
        }
    };
    version.ok_or(AccountsError::NotFound)
}

/// Takes all second factors away: a password alone lets the user in then. One that is too short for that goes as well; whether
/// it did.
///
/// # Errors
///
/// [`AccountsError::NotFound`] if there is none.
pub(crate) async fn remove_all(
    tx: &mut Tx,
    changes: &Changes,
    user: UserId,
) -> Result<Audited<bool>, AccountsError> {
    users::hold(tx, user, Hold::Alone).await?;
    let kinds = kinds(
        store::delete_totp(tx, user).await?,
        passkeys::delete_all(tx, user).await?,
    );
    if kinds.is_empty() {
        return Err(AccountsError::NotFound);
    }
    let password = users::password(tx, user).await?;
    let is_short = password.is_some_and(|password| password.is_short);
    if is_short {
        users::delete_password(tx, user).await?;
        events::emit_of_user(tx, user, &PasswordChanged { user }).await?;
        let act = Act::on_user(PASSWORD_CHANGE, user).detail("password", "removed");
        act.record_of(tx, user).await?.of(());
    }
    let removed = removed_from(tx, changes, user, None, &kinds).await?;
    Ok(removed.map(|()| is_short))
}

/// Takes the factors away that the user got since `time`, and all recovery codes, which may be later ones too. A factor
/// of before still counts. The sessions are the caller's concern.
pub(crate) async fn remove_since(
    tx: &mut Tx,
    user: UserId,
    time: Moment,
) -> Result<(), AccountsError> {
    let kinds = kinds(
        store::delete_totp_since(tx, user, time).await?,
        passkeys::delete_since(tx, user, time).await?,
    );
    store::replace_codes(tx, user, Vec::new()).await?;
    if !kinds.is_empty() {
        record_removed(tx, user, &kinds).await?.of(());
    }
    Ok(())
}

/// The kinds of which something was removed.
fn kinds(apps: usize, passkeys: usize) -> Vec<&'static str> {
    let removed = [(apps, "totp"), (passkeys, "passkey")].into_iter();
    removed
        .filter(|(count, _)| *count > 0)
        .map(|(_, kind)| kind)
        .collect()
}

/// What follows from the end of factors: all sessions end but `session`. If there is no second factor any more, that one is worth
/// no more than a password from now on, and the recovery codes end.
async fn removed_from(
    tx: &mut Tx,
    changes: &Changes,
    user: UserId,
    session: Option<SessionId>,
    kinds: &[&'static str],
) -> Result<Audited<()>, AccountsError> {
    if !store::held(tx, user).await?.any() {
        store::replace_codes(tx, user, Vec::new()).await?;
        if let Some(session) = session {
            session_store::weaken(tx, session).await?;
        }
    }
    sessions::end_all(tx, changes, user, session, "factor_removed").await?;
    Ok(record_removed(tx, user, kinds).await?.of(()))
}

/// Records that factors were removed, and has the user written to.
async fn record_removed(
    tx: &mut Tx,
    user: UserId,
    kinds: &[&'static str],
) -> Result<Recorded, AccountsError> {
    for factor in kinds {
        events::emit_of_user(tx, user, &FactorRemoved { user, factor }).await?;
    }
    tx.enqueue(&RemovedFactors::now(user, kinds)).await?;
    let act = Act::on_user(FACTOR_REMOVED, user).detail("factor", kinds.join(" "));
    act.record_of(tx, user).await
}
