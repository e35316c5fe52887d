//! An authenticator app (TOTP, RFC 6238). A secret is made here and never taken from a client; it counts once a first code has
//! proved that the app has it.

use dotmac_platform::{
    access::Principal,
    audit::SystemActs as _,
    db::types::{Id, Moment},
};
use secrecy::{ExposeSecret, SecretString};

use super::{Factor, Proof, recovery::first_codes, wrong_code};
use crate::{
    AccountsError,
    audit::{Act, FACTOR_ADDED, FACTOR_BEGUN, act_as},
    events::{self, FactorAdded},
    rules::{mail::notices, sessions},
    secret_text::random,
    service::{self, Service},
    store::{
        factors::{self as store, TOTP, TotpRow},
        users::{self, Hold, UserId, UserRow},
    },
};

/// Bytes of a secret: as many as its hash has (RFC 4226, 4, R6).
const SECRET: usize = 20;

/// What an authenticator app is set up by, shown once.
pub(crate) struct Setup {
    /// In base 32, to be typed.
    pub(crate) secret: SecretString,
    /// For a QR code.
    pub(crate) uri: SecretString,
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
    let (id, worked, caller) = (row.id, service.clone(), who.clone());
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
        sessions::end_all(tx, &worked.changes, user, session, "factor_added").await?;
        let factor = Factor::Totp.name();
        notices::factor_added(tx, &worked, user, factor).await?;
        events::emit_of_user(tx, user, &FactorAdded { user, factor }).await?;
        let act = Act::on_user(FACTOR_ADDED, user).detail("factor", factor);
        Ok(act.record_of(tx, user).await?.of(codes))
    });
    confirmed.await
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
