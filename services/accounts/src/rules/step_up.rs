//! Authenticating again within a session, for acts that require a recent authentication.

use dotmac_platform::{
    access::Principal,
    audit::{Audited, SystemActs as _},
    db::{
        Tx,
        types::{Id, Moment},
    },
};
use secrecy::SecretString;
use serde_json::Value;

use super::{
    factors,
    mfa::{self, Method, TWO_FACTORS},
    passkeys, passwords,
    sessions::{self, Issued, Successor},
    throttle,
};
use crate::{
    AccountsError,
    audit::{Act, STEP_UP, act_as},
    password::Asker,
    service::{self, Service},
    store::{
        sessions::{SessionId, SessionRow},
        users::{self, UserId, UserRow},
    },
};

/// Begins a session in the place of the caller's, authenticated now by the password. The secrets of the former session, which may
/// be stolen, end with it. It lasts as long as that would have, and its acr is that of the password alone.
///
/// # Errors
///
/// 403 `step_up_required` for a user with a second factor, who shows that. [`AccountsError::Invalid`] with `password` if that is
/// wrong; [`AccountsError::SessionEnded`].
pub(crate) async fn by_password(
    service: &Service,
    who: &Principal,
    password: SecretString,
) -> Result<(Issued, UserRow), AccountsError> {
    let (user, session) = caller(who)?;
    let needed = mfa::needed(service, user).await?;
    if needed > 1 {
        return Err(service::step_up_required(needed));
    }
    let _place = service.hasher.place_of(who.id)?;
    let proved = passwords::prove(service, who, "password", password).await?;
    let worked = service.clone();
    let keys = service.keys.get().await?;
    let stepped_up = service.open_db.act("step up", async move |tx| {
        let session = sessions::live(tx, session).await?;
        proved.accept(tx).await?;
        let password = users::password(tx, session.user_id).await?;
        if passwords::epoch(password.as_ref()) != proved.epoch {
            return Err(AccountsError::SessionEnded);
        }
        replace(tx, &worked, &keys, session, (1, "pwd".to_owned())).await
    });
    stepped_up.await
}

/// The same by a code of a second factor; the acr is that of two factors.
///
/// # Errors
///
/// [`AccountsError::Invalid`] with `code` if that is wrong or was used before; [`AccountsError::Throttled`],
/// [`AccountsError::Busy`], [`AccountsError::SessionEnded`].
pub(crate) async fn by_code(
    service: &Service,
    who: &Principal,
    method: Method,
    code: &SecretString,
) -> Result<(Issued, UserRow), AccountsError> {
    let (user, session) = caller(who)?;
    if mfa::needed(service, user).await? < 2 {
        // No code is right, and none is counted: they would count against the app that the user adds later.
        return Err(factors::wrong_code());
    }
    let _place = service.hasher.place_of(who.id)?;
    let keys = service.keys.get().await?;
    let key = keys.throttle_key(mfa::STEP_UP, &user.to_string())?;
    let checked = key.clone();
    let read = service.open_db.read("read failures", async move |c| {
        throttle::check(c, checked).await
    });
    read.await?;
    let proof = mfa::prove(service, Asker::signed_in(), user, method, code).await?;
    let Some(proof) = proof else {
        mfa::count_failure(service, user, Some(key), Some(session)).await?;
        return Err(factors::wrong_code());
    };
    let worked = service.clone();
    let stepped_up = service.open_db.act("step up", async move |tx| {
        let session = sessions::live(tx, session).await?;
        throttle::check(tx, key.clone()).await?;
        throttle::forget(tx, key).await?;
        let spent = factors::spend(tx, &proof).await;
        spent.map_err(|error| match error {
            AccountsError::InvalidCredentials => factors::wrong_code(),
            error => error,
        })?;
        let authentication = (TWO_FACTORS, format!("pwd {}", proof.amr()));
        replace(tx, &worked, &keys, session, authentication).await
    });
    stepped_up.await
}

/// The same by a passkey.
///
/// # Errors
///
/// [`AccountsError::Invalid`] with `credential` if that does not count; [`AccountsError::LinkGone`] if none was asked for;
/// [`AccountsError::SessionEnded`].
pub(crate) async fn by_passkey(
    service: &Service,
    who: &Principal,
    flow: &str,
    credential: &Value,
) -> Result<(Issued, UserRow), AccountsError> {
    let (user, session) = caller(who)?;
    let keys = service.keys.get().await?;
    let Some(used) = passkeys::prove_step_up(service, who, flow, credential).await? else {
        mfa::count_failure(service, user, None, None).await?;
        return Err(passkeys::wrong_credential());
    };
    let worked = service.clone();
    let stepped_up = service.open_db.act("step up", async move |tx| {
        let session = sessions::live(tx, session).await?;
        used.spend(tx).await.map_err(|error| match error {
            AccountsError::InvalidCredentials => passkeys::wrong_credential(),
            error => error,
        })?;
        let authentication = (TWO_FACTORS, passkeys::AMR.to_owned());
        replace(tx, &worked, &keys, session, authentication).await
    });
    stepped_up.await
}

/// The caller, a person, and the session that it calls with.
fn caller(who: &Principal) -> Result<(UserId, SessionId), AccountsError> {
    service::person(who)?;
    let session = who.session.ok_or(AccountsError::SessionEnded)?;
    Ok((Id::from_uuid(who.id), Id::from_uuid(session)))
}

/// A session in the place of `session`, authenticated now with that acr and amr.
async fn replace(
    tx: &mut Tx,
    service: &Service,
    keys: &crate::keys::Keys,
    session: SessionRow,
    (acr, amr): (i32, String),
) -> Result<Audited<(Issued, UserRow)>, AccountsError> {
    let user = users::find(tx, session.user_id)
        .await?
        .ok_or(AccountsError::SessionEnded)?;
    act_as(tx, user.id);
    let act = Act::on_user(STEP_UP, user.id).detail("amr", amr.clone());
    let successor = Successor {
        tenant: session.tenant_id,
        authentication: (acr, amr, Moment::now()),
        reason: "stepped_up",
    };
    let (settings, changes) = (&service.settings, &service.changes);
    let issued = sessions::replace(tx, keys, settings, changes, session, successor).await?;
    let act = act.detail("session", issued.session.id.to_string());
    let recorded = act.record_in(tx, issued.session.tenant_id)?;
    Ok(recorded.of((issued, user)))
}
