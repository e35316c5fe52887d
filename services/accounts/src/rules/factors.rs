//! Second factors: an authenticator app (TOTP, RFC 6238) and recovery codes. A secret is made here and never taken from a
//! client; it counts once a first code has proved that the app has it.

use dotmac_platform::{
    access::Principal,
    db::{
        Tx,
        types::{Id, Moment},
    },
};
use secrecy::{ExposeSecret, SecretString};
use zeroize::Zeroizing;

use super::{mfa, sessions};
use crate::{
    AccountsError, Act,
    changes::Changes,
    events::{self, FactorAdded, FactorRemoved},
    password::{Asker, Verdict},
    secret_text::random,
    service::{self, Service},
    store::{
        factors::{self as store, CodeRow, TOTP, Totp, TotpRow},
        sessions::{self as session_store, SessionId},
        users::{self, Hold, UserId, UserRow},
    },
};

/// Bytes of a secret: as many as its hash has (RFC 4226, 4, R6).
const SECRET: usize = 20;

/// Recovery codes of a user.
const CODES: i32 = 10;

/// Characters of a recovery code: 60 bits.
const CODE_CHARACTERS: usize = 12;

/// Crockford's base 32: no character is taken for another.
const DIGITS: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";

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
    let begun = service.open_db.transaction("begin TOTP", async move |tx| {
        users::hold(tx, id, Hold::Alone).await?;
        if store::has_totp(tx, id).await? {
            return Err(AccountsError::Conflict);
        }
        store::delete_pending_totp(tx, id).await?;
        store::insert_totp(tx, row).await?;
        Act::success("authn_factor_begun", "user", id.uuid()).record(tx);
        Ok(())
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
    let confirmed = service
        .open_db
        .transaction("confirm TOTP", async move |tx| {
            users::hold(tx, user, Hold::Alone).await?;
            if store::use_step(tx, id, step).await? == 0 || store::confirm_totp(tx, id).await? == 0
            {
                return Err(AccountsError::Conflict);
            }
            store::replace_codes(tx, user, rows).await?;
            sessions::end_all(tx, &changes, user, session, "factor_added").await?;
            Act::success("authn_factor_added", "user", user.uuid()).record(tx);
            let added = FactorAdded {
                user,
                factor: "totp",
            };
            events::emit_of_user(tx, user, &added).await
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
) -> Result<(), AccountsError> {
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
) -> Result<(), AccountsError> {
    users::hold(tx, user, Hold::Alone).await?;
    if store::delete_totp(tx, user).await? == 0 {
        return Err(AccountsError::NotFound);
    }
    store::replace_codes(tx, user, Vec::new()).await?;
    if let Some(session) = session {
        session_store::weaken(tx, session).await?;
    }
    sessions::end_all(tx, changes, user, session, "factor_removed").await?;
    Act::success("authn_factor_removed", "user", user.uuid()).record(tx);
    let removed = FactorRemoved {
        user,
        factor: "totp",
    };
    events::emit_of_user(tx, user, &removed).await
}

/// New recovery codes in place of the former ones.
///
/// # Errors
///
/// [`AccountsError::NotFound`] without an app: a code is for the day on which that is lost. 403 `step_up_required` unless that
/// was shown just now.
pub(crate) async fn renew_codes(
    service: &Service,
    who: &Principal,
) -> Result<Vec<SecretString>, AccountsError> {
    let user = Id::from_uuid(who.id);
    service::authenticated_now(who, mfa::needed(service, user).await?)?;
    let caller = who.clone();
    let (codes, rows) = new_codes(service, user).await?;
    let renewed = service
        .open_db
        .transaction("renew recovery codes", async move |tx| {
            users::hold(tx, user, Hold::Alone).await?;
            if !store::has_totp(tx, user).await? {
                return Err(AccountsError::NotFound);
            }
            // It may have come to count since.
            service::authenticated_now(&caller, 2)?;
            store::replace_codes(tx, user, rows).await?;
            Act::success("authn_recovery_codes_renewed", "user", user.uuid()).record(tx);
            Ok(())
        });
    renewed.await?;
    Ok(codes)
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

/// What a recovery code proves; `None` for any other text.
///
/// # Errors
///
/// As [`prove_totp`]; [`AccountsError::Busy`].
pub(crate) async fn prove_recovery(
    service: &Service,
    asker: Asker,
    user: UserId,
    code: &str,
) -> Result<Option<Proof>, AccountsError> {
    let Some((number, secret)) = read_code(code) else {
        return Ok(None);
    };
    let read = service.open_db.read("read recovery code", async move |c| {
        store::code(c, user, number).await
    });
    // As much work for a code that was used, or that there never was.
    let stored = read.await?;
    let verdict = service.hasher.verify(asker, secret, stored.clone()).await?;
    let proof = stored.map(|phc| Proof::Recovery { user, number, phc });
    Ok(proof.filter(|_| verdict != Verdict::Wrong))
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

/// Codes with their rows: slow hashes, since 60 bits are few (ASVS 5.0, 6.5.2).
async fn new_codes(
    service: &Service,
    user: UserId,
) -> Result<(Vec<SecretString>, Vec<CodeRow>), AccountsError> {
    let _place = service.hasher.place_of(user.uuid())?;
    let (mut codes, mut rows) = (Vec::new(), Vec::new());
    for number in 0..CODES {
        let secret = new_code()?;
        let hashed = SecretString::from(secret.as_str());
        rows.push(CodeRow {
            user_id: user,
            number,
            phc: service.hasher.hash(Asker::signed_in(), hashed).await?,
            used_at: None,
        });
        codes.push(shown(number, &secret));
    }
    Ok((codes, rows))
}

/// 12 characters, each as likely as any other: 32 of them are 5 bits.
fn new_code() -> Result<Zeroizing<String>, AccountsError> {
    let bytes = random::<CODE_CHARACTERS>()?;
    let digits = bytes
        .iter()
        .map(|byte| char::from(DIGITS[usize::from(byte % 32)]));
    Ok(Zeroizing::new(digits.collect()))
}

/// `NN-XXXX-XXXX-XXXX`: the number finds the row, so that a try costs one hash.
fn shown(number: i32, secret: &str) -> SecretString {
    let (first, rest) = secret.split_at(CODE_CHARACTERS / 3);
    let (second, third) = rest.split_at(CODE_CHARACTERS / 3);
    format!("{number:02}-{first}-{second}-{third}").into()
}

/// The number and the secret of a code as people type it: in any case, with blanks, `O` for zero.
fn read_code(text: &str) -> Option<(i32, SecretString)> {
    if text.len() > 64 {
        return None;
    }
    let kept = text.chars().filter(|it| !it.is_whitespace() && *it != '-');
    let normal: Zeroizing<String> = Zeroizing::new(
        kept.map(|it| match it.to_ascii_uppercase() {
            'O' => '0',
            'I' | 'L' => '1',
            it => it,
        })
        .collect(),
    );
    let (number, secret) = normal.split_at_checked(2)?;
    let is_code = secret.len() == CODE_CHARACTERS
        && secret.bytes().all(|it| DIGITS.contains(&it))
        && number.bytes().all(|it| it.is_ascii_digit());
    if !is_code {
        return None;
    }
    Some((number.parse().ok()?, secret.into()))
}

#[cfg(test)]
#[expect(clippy::expect_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    #[test]
    fn a_recovery_code_is_read_as_people_type_it() {
        let code = new_code().expect("random bytes");
        let text = shown(7, &code);
        let text = text.expose_secret();
        assert_eq!(text.len(), 17, "{text}");
        for typed in [
            text.to_owned(),
            text.to_lowercase(),
            text.replace('-', " "),
            text.replace('0', "o").replace('1', "L"),
        ] {
            let (number, secret) = read_code(&typed).expect("a code");
            assert_eq!((number, secret.expose_secret()), (7, code.as_str()));
        }
        for other in [
            "",
            "07",
            "07-ABCD-EFGH",
            "xx-0000-0000-0000",
            "07-UUUU-0000-0000",
        ] {
            assert!(read_code(other).is_none(), "{other}");
        }
    }

    #[test]
    fn codes_are_those_of_rfc_6238() {
        // Appendix B, SHA-1, the last six digits.
        let totp = totp(b"12345678901234567890", String::new(), "a".to_owned()).expect("usable");
        assert_eq!(totp.check("287082", 59), Some(1));
        assert_eq!(totp.check("081804", 1_111_111_109), Some(37_037_036));
        assert_eq!(totp.check("081804", 1_111_111_109 + 90), None);
    }
}
