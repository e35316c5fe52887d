//! Second factors: an authenticator app (TOTP, RFC 6238) and recovery codes. A secret is made here and never taken from a
//! client; it counts once a first code has proved that the app has it.

mod recovery;

use dotmac_platform::{
    access::Principal,
    audit::{Audited, SystemActs as _},
    db::{
        Tx,
        types::{Id, Moment},
    },
};
use secrecy::{ExposeSecret, SecretString};

use super::sessions;
use crate::{
    AccountsError,
    audit::{Act, FACTOR_ADDED, FACTOR_BEGUN, FACTOR_REMOVED, act_as},
    changes::Changes,
    events::{self, FactorAdded, FactorRemoved},
    secret_text::random,
    service::{self, Service},
    store::{
        factors::{self as store, TOTP, Totp, TotpRow},
        sessions::{self as session_store, SessionId},
        users::{self, Hold, UserId, UserRow},
    },
};
use recovery::new_codes;
pub(crate) use recovery::{prove_recovery, renew_codes};

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
}

impl Proof {
    /// The method, as a session has it (RFC 8176).
    pub(crate) const fn amr(&self) -> &'static str {
        match self {
            Self::Totp { .. } => "otp",
            Self::Recovery { .. } => "rc",
        }
    }
}

/// What is said of a code that does not count.
pub(super) fn wrong_code() -> AccountsError {
    AccountsError::field("code", "code_wrong", "is not right, or was used before")
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

/// Lets the app count whose first code this is, and ends all sessions but `session`, which may be those of an attacker; the
/// user's first recovery codes.
///
/// # Errors
///
/// [`AccountsError::Invalid`] for another code.
pub(crate) async fn confirm_totp(
    service: &Service,
    user: UserId,
    session: Option<SessionId>,
    code: &str,
) -> Result<Vec<SecretString>, AccountsError> {
    service.keys.get().await?;
    let read = service
        .open_db
        .read("read TOTP", async move |c| store::totp_of(c, user).await);
    let row = read.await?.ok_or(AccountsError::NotFound)?;
    if row.confirmed_at.is_some() {
        return Err(AccountsError::Conflict);
    }
    let step = matched(service, &row, code)?.ok_or_else(wrong_code)?;
    let (codes, rows) = new_codes(service, user).await?;
    let (id, changes) = (row.id, service.changes.clone());
    let confirmed = service.open_db.act("confirm TOTP", async move |tx| {
        act_as(tx, user);
        users::hold(tx, user, Hold::Alone).await?;
        if store::use_step(tx, id, step).await? == 0 || store::confirm_totp(tx, id).await? == 0 {
            return Err(AccountsError::Conflict);
        }
        store::replace_codes(tx, user, rows).await?;
        sessions::end_all(tx, &changes, user, session, "factor_added").await?;
        let added = FactorAdded {
            user,
            factor: "totp",
        };
        events::emit_of_user(tx, user, &added).await?;
        let act = Act::on_user(FACTOR_ADDED, user).detail("factor", "totp");
        Ok(act.record_of(tx, user).await?.of(()))
    });
    confirmed.await?;
    Ok(codes)
}

/// Takes the caller's app away, as [`remove`] does. The factor that there is must have been shown just now.
///
/// # Errors
///
/// 403 `step_up_required`; [`AccountsError::NotFound`] if there is none.
pub(crate) async fn remove_own(
    tx: &mut Tx,
    changes: &Changes,
    who: &Principal,
) -> Result<Audited<()>, AccountsError> {
    let user = Id::from_uuid(who.id);
    // No app comes to count between the check and the end.
    users::hold(tx, user, Hold::Alone).await?;
    let needed = if store::has_totp(tx, user).await? {
        2
    } else {
        1
    };
    service::authenticated_now(who, needed)?;
    remove(tx, changes, user, who.session.map(Id::from_uuid)).await
}

/// Takes the app away, and the recovery codes with it: a password alone lets the user in then. All sessions end but `session`,
/// which is worth no more than a password from now on.
///
/// # Errors
///
/// [`AccountsError::NotFound`] if there is none.
pub(crate) async fn remove(
    tx: &mut Tx,
    changes: &Changes,
    user: UserId,
    session: Option<SessionId>,
) -> Result<Audited<()>, AccountsError> {
    users::hold(tx, user, Hold::Alone).await?;
    if store::delete_totp(tx, user).await? == 0 {
        return Err(AccountsError::NotFound);
    }
    store::replace_codes(tx, user, Vec::new()).await?;
    if let Some(session) = session {
        session_store::weaken(tx, session).await?;
    }
    sessions::end_all(tx, changes, user, session, "factor_removed").await?;
    let removed = FactorRemoved {
        user,
        factor: "totp",
    };
    events::emit_of_user(tx, user, &removed).await?;
    let act = Act::on_user(FACTOR_REMOVED, user).detail("factor", "totp");
    Ok(act.record_of(tx, user).await?.of(()))
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
