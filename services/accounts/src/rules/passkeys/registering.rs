//! Registering a passkey.

use dotmac_platform::{
    access::Principal,
    audit::SystemActs as _,
    db::types::{Id, Moment},
};
use secrecy::SecretString;
use serde_json::Value;

use super::{Ceremony, Purpose, descriptors, keep, new_row, relying_party, take, wrong_credential};
use crate::{
    AccountsError,
    audit::{Act, FACTOR_ADDED, act_as},
    events::{self, FactorAdded},
    relying_party::{NamedUser, USER_HANDLE, read_registration},
    rules::{
        factors::{self, Factor},
        mail::notices,
        mfa, sessions,
    },
    secret_text::random,
    service::{self, Service},
    store::{
        factors as factor_store,
        passkeys::{self as store, PasskeyRow},
        sessions::SessionId,
        users::{self, Hold, UserId, UserRow},
    },
};

/// Passkeys of one user.
const MOST: i64 = 20;

/// What the caller's authenticator is asked for a new passkey. The factor that there is must have been shown just now.
///
/// # Errors
///
/// 403 `step_up_required`; [`AccountsError::TooManyPasskeys`].
pub(crate) async fn begin_registration(
    service: &Service,
    who: &Principal,
) -> Result<Ceremony, AccountsError> {
    let user: UserId = Id::from_uuid(who.id);
    service::authenticated_now(who, mfa::needed(service, user).await?)?;
    let party = relying_party(service)?;
    let read = service.open_db.read("read passkeys", async move |c| {
        Ok::<_, AccountsError>((users::find(c, user).await?, store::of_user(c, user).await?))
    });
    let (row, passkeys) = read.await?;
    let row = row.ok_or(AccountsError::SessionEnded)?;
    if i64::try_from(passkeys.len()).is_ok_and(|count| count >= MOST) {
        return Err(AccountsError::TooManyPasskeys);
    }
    // All passkeys of a user have one handle, so that an authenticator shows one account.
    let handle = match passkeys.first() {
        Some(first) => <[u8; USER_HANDLE]>::try_from(first.user_handle.as_slice())
            .map_err(|_| AccountsError::FactorNotUsable)?,
        None => *random::<USER_HANDLE>()?,
    };
    let named = named(&row, handle);
    let begun = party.begin_registration(&named, descriptors(&passkeys))?;
    let (flow, mut ceremony) = new_row(Purpose::Registration, begun.state)?;
    ceremony.user_id = Some(user);
    ceremony.session_id = session_of(who);
    keep(service, ceremony).await?;
    Ok(Ceremony {
        flow,
        options: begun.options,
    })
}

/// Lets the passkey count that the authenticator has made, and ends all other sessions, which may be those of an attacker.
/// With the user's first second factor come the first recovery codes.
///
/// # Errors
///
/// 403 `step_up_required`; [`AccountsError::LinkGone`] for a registration that is over, [`AccountsError::Invalid`] with `credential`
/// for what is no answer to it, [`AccountsError::Conflict`] for a passkey that is registered already.
pub(crate) async fn register(
    service: &Service,
    who: &Principal,
    flow: &str,
    credential: &Value,
    label: Option<String>,
) -> Result<(PasskeyRow, Vec<SecretString>), AccountsError> {
    let user: UserId = Id::from_uuid(who.id);
    service::authenticated_now(who, mfa::needed(service, user).await?)?;
    let answer = read_registration(credential).ok_or_else(wrong_credential)?;
    let session = session_of(who);
    let ceremony = take(service, flow, move |purpose, row| {
        purpose == Purpose::Registration && row.user_id == Some(user) && row.session_id == session
    });
    let ceremony = ceremony.await?;
    let registered = relying_party(service)?.registered(&ceremony.state, &answer);
    let registered = registered.ok_or_else(wrong_credential)?;
    let row = PasskeyRow {
        id: Id::new(),
        user_id: user,
        user_handle: registered.user_handle,
        credential_id: registered.credential_id,
        data: registered.data,
        transports: registered.transports,
        aaguid: registered.aaguid,
        label,
        discoverable: registered.discoverable,
        backup_eligible: registered.state.backup_eligible,
        backup_state: registered.state.backup_state,
        sign_count: registered.state.sign_count,
        created_at: Moment::now(),
        last_used_at: None,
        vouched_by: None,
    };
    let first = factors::first_codes(service, user).await?;
    let (caller, worked, passkey) = (who.clone(), service.clone(), row.clone());
    let added = service.open_db.act("register passkey", async move |tx| {
        act_as(tx, user);
        users::hold(tx, user, Hold::Alone).await?;
        let held = factor_store::held(tx, user).await?;
        // Another factor may have been activated since.
        service::authenticated_now(&caller, held.needed())?;
        if held.passkeys >= MOST {
            return Err(AccountsError::TooManyPasskeys);
        }
        let codes = first.keep(tx, user, held).await?;
        let password = users::password(tx, user).await?;
        let vouched_by = password.and_then(|row| row.set_by);
        let passkey = PasskeyRow {
            vouched_by,
            ..passkey
        };
        store::insert(tx, &passkey).await?;
        sessions::end_all(tx, &worked.changes, user, session, "factor_added").await?;
        let factor = Factor::Passkey(passkey.id).name();
        notices::factor_added(tx, &worked, user, factor).await?;
        events::emit_of_user(tx, user, &FactorAdded { user, factor }).await?;
        let act = Act::on_user(FACTOR_ADDED, user).detail("factor", factor);
        let act = act.detail("passkey", passkey.id.to_string());
        Ok(act.record_of(tx, user).await?.of(codes))
    });
    let codes = added.await?;
    Ok((row, codes))
}

fn session_of(who: &Principal) -> Option<SessionId> {
    who.session.map(Id::from_uuid)
}

fn named(row: &UserRow, handle: [u8; USER_HANDLE]) -> NamedUser<'_> {
    let name = row.email.as_deref().or(row.username.as_deref());
    NamedUser {
        name: name.unwrap_or("user"),
        full_name: row.full_name.as_deref(),
        handle,
    }
}
