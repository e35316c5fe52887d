//! Second factors: an authenticator app (TOTP, RFC 6238), passkeys, and recovery codes. A secret is made here and never taken from a
//! client; it counts once a first code has proved that the app has it.

mod recovery;

use dotmac_platform::{
    access::Principal,
    audit::{Audited, Recorded, SystemActs as _},
    db::{
        Tx,
        types::{Id, Moment},
    },
    routing::IfMatch,
};
use secrecy::{ExposeSecret, SecretString};

use super::{passkeys::UsedPasskey, sessions};
use crate::{
    AccountsError,
    audit::{Act, FACTOR_ADDED, FACTOR_BEGUN, FACTOR_REMOVED, PASSWORD_CHANGE, act_as},
    changes::Changes,
    events::{self, FactorAdded, FactorRemoved, PasswordChanged},
    secret_text::random,
    service::{self, Service},
    store::{
        factors::{self as store, TOTP, Totp, TotpRow},
        passkeys::{self, PasskeyId},
        sessions::{self as session_store, SessionId},
        users::{self, Hold, UserId, UserRow},
    },
};
pub(crate) use recovery::{first_codes, prove_recovery, renew_codes};

/// Bytes of a secret: as many as its hash has (RFC 4226, 4, R6).
const SECRET: usize = 20;

/// What an authenticator app is set up by, shown once.
pub(crate) struct Setup {
    /// In base 32, to be typed.
    pub(crate) secret: SecretString,
    /// For a QR code.
    pub(crate) uri: SecretString,
}

/// A second factor that was shown, to be used up in the transaction that relies on it.
pub(crate) enum Proof {
    Totp {
        id: Id<Totp>,
        step: i64,
    },
    Recovery {
        user: UserId,
        number: i32,
        /// The hash that it was checked with: another code may have taken the number since.
        phc: String,
    },
    Passkey(UsedPasskey),
}

/// A second factor that can be added and taken away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Factor {
    Totp,
    Passkey(PasskeyId),
}

impl Factor {
    /// Its kind.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Totp => "totp",
            Self::Passkey(_) => "passkey",
        }
    }
}

impl Proof {
    /// The method, as a session has it (RFC 8176).
    pub(crate) const fn amr(&self) -> &'static str {
        match self {
            Self::Totp { .. } => "otp",
            Self::Recovery { .. } => "rc",
            Self::Passkey(_) => "pop",
        }
    }
}

/// The answer to a wrong code.
pub(super) fn wrong_code() -> AccountsError {
    AccountsError::field("code", "code_wrong", "is wrong, or was used before")
}

/// A secret for an authenticator app of the user, in place of one that was never confirmed.
///
/// # Errors
///
/// [`AccountsError::Conflict`] if the user has an app already.
pub(crate) async fn begin_totp(
    service: &Service,
    user: &UserRow,
    label: Option<String>,
) -> Result<Setup, AccountsError> {
    // They are opened with the first use, and the key to seal with is with them.
    service.keys.get().await?;
    let secret = random::<SECRET>()?;
    let (row_id, id) = (Id::new(), user.id);
    let row = TotpRow {
        id: row_id,
        user_id: id,
        label,
        secret_enc: service
            .keys
            .sealer()
            .seal::<[u8]>(TOTP.of(row_id), &*secret)?,
        last_step: 0,
        created_at: Moment::now(),
        confirmed_at: None,
    };
    let begun = service.open_db.act("begin TOTP", async move |tx| {
        act_as(tx, id);
        users::hold(tx, id, Hold::Alone).await?;
        if store::has_totp(tx, id).await? {
            return Err(AccountsError::Conflict);
        }
        store::delete_pending_totp(tx, id).await?;
        store::insert_totp(tx, row).await?;
        let act = Act::on_user(FACTOR_BEGUN, id).detail("factor", "totp");
        Ok(act.record_of(tx, id).await?.of(()))
    });
    begun.await?;
    let name = user.email.as_deref().or(user.username.as_deref());
    // A colon would end the issuer.
    let name = name.unwrap_or("user").replace(':', "_");
    let issuer = service.settings.public_url.host_str().unwrap_or("dotmac");
    let totp = totp(&*secret, issuer.replace(':', "_"), name)?;
    let uri = totp.to_url().map_err(|_| AccountsError::FactorNotUsable)?;
    Ok(Setup {
        secret: totp.secret().to_base32().into(),
        uri: uri.into(),
    })
}

/// Lets the caller's app count whose first code this is, and ends all other sessions, which may be those of an attacker. With
/// the user's first second factor come the first recovery codes.
///
/// # Errors
///
/// [`AccountsError::Invalid`] for another code; 403 `step_up_required`.
pub(crate) async fn confirm_totp(
    service: &Service,
    who: &Principal,
    code: &str,
) -> Result<Vec<SecretString>, AccountsError> {
    let user: UserId = Id::from_uuid(who.id);
    let session = who.session.map(Id::from_uuid);
    service.keys.get().await?;
    let read = service
        .open_db
        .read("read TOTP", async move |c| store::totp_of(c, user).await);
    let row = read.await?.ok_or(AccountsError::NotFound)?;
    if row.confirmed_at.is_some() {
        return Err(AccountsError::Conflict);
    }
    let step = matched(service, &row, code)?.ok_or_else(wrong_code)?;
    let first = first_codes(service, user).await?;
    let (id, changes, caller) = (row.id, service.changes.clone(), who.clone());
    let confirmed = service.open_db.act("confirm TOTP", async move |tx| {
        act_as(tx, user);
        users::hold(tx, user, Hold::Alone).await?;
        let held = store::held(tx, user).await?;
        // A passkey may have been activated since.
        service::authenticated_now(&caller, held.needed())?;
        if store::use_step(tx, id, step).await? == 0 || store::confirm_totp(tx, id).await? == 0 {
            return Err(AccountsError::Conflict);
        }
        let codes = first.keep(tx, user, held).await?;
        sessions::end_all(tx, &changes, user, session, "factor_added").await?;
        let factor = Factor::Totp.name();
        events::emit_of_user(tx, user, &FactorAdded { user, factor }).await?;
        let act = Act::on_user(FACTOR_ADDED, user).detail("factor", factor);
        Ok(act.record_of(tx, user).await?.of(codes))
    });
    confirmed.await
}

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

async fn record_removed(
    tx: &mut Tx,
    user: UserId,
    kinds: &[&'static str],
) -> Result<Recorded, AccountsError> {
    for factor in kinds {
        events::emit_of_user(tx, user, &FactorRemoved { user, factor }).await?;
    }
    let act = Act::on_user(FACTOR_REMOVED, user).detail("factor", kinds.join(" "));
    act.record_of(tx, user).await
}

/// What a code of the app proves; `None` for any other text, and for the code of a step that was used.
///
/// # Errors
///
/// [`AccountsError::Db`], [`AccountsError::Sealing`].
pub(crate) async fn prove_totp(
    service: &Service,
    user: UserId,
    code: &str,
) -> Result<Option<Proof>, AccountsError> {
    let read = service
        .open_db
        .read("read TOTP", async move |c| store::totp_of(c, user).await);
    let Some(row) = read.await?.filter(|row| row.confirmed_at.is_some()) else {
        return Ok(None);
    };
    let step = matched(service, &row, code)?.filter(|step| *step > row.last_step);
    Ok(step.map(|step| Proof::Totp { id: row.id, step }))
}

/// Uses the proof up.
///
/// # Errors
///
/// [`AccountsError::InvalidCredentials`] if another request did before.
pub(crate) async fn spend(tx: &mut Tx, proof: &Proof) -> Result<(), AccountsError> {
    let spent = match proof {
        Proof::Passkey(used) => return used.spend(tx).await,
        Proof::Totp { id, step } => store::use_step(tx, *id, *step).await?,
        Proof::Recovery { user, number, phc } => store::use_code(tx, *user, *number, phc).await?,
    };
    match spent {
        0 => Err(AccountsError::InvalidCredentials),
        _ => Ok(()),
    }
}

/// The step of 30 s whose code this is, of the present one, the one before and the next.
fn matched(service: &Service, row: &TotpRow, code: &str) -> Result<Option<i64>, AccountsError> {
    let secret = service
        .keys
        .sealer()
        .open(TOTP.of(row.id), &row.secret_enc)?;
    let totp = totp(secret.expose_secret(), String::new(), "user".to_owned())?;
    let now = u64::try_from(chrono::Utc::now().timestamp()).unwrap_or_default();
    let step = totp.check(code.trim(), now);
    Ok(step.and_then(|step| i64::try_from(step).ok()))
}

/// SHA-1, 6 digits, 30 s, one step of leeway: apps ignore anything else without a word.
fn totp(secret: &[u8], issuer: String, name: String) -> Result<totp_rs::Totp, AccountsError> {
    totp_rs::Builder::new()
        .with_secret(secret)
        .with_issuer(Some(issuer).filter(|issuer| !issuer.is_empty()))
        .with_account_name(name)
        .with_skew(1)
        .build()
        .map_err(|_| AccountsError::FactorNotUsable)
}

#[cfg(test)]
#[expect(clippy::expect_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    #[test]
    fn codes_are_those_of_rfc_6238() {
        // Appendix B, SHA-1, the last six digits.
        let totp = totp(b"12345678901234567890", String::new(), "a".to_owned()).expect("usable");
        assert_eq!(totp.check("287082", 59), Some(1));
        assert_eq!(totp.check("081804", 1_111_111_109), Some(37_037_036));
        assert_eq!(totp.check("081804", 1_111_111_109 + 90), None);
    }
}
