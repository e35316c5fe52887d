//! Recovery codes, for the day on which app or passkeys are lost: ten, each good once.

use dotmac_platform::{
    access::Principal,
    audit::SystemActs as _,
    db::{Tx, types::Id},
};
use secrecy::SecretString;
use zeroize::Zeroizing;

use super::Proof;
use crate::{
    AccountsError,
    audit::{Act, RECOVERY_CODES_DELETED, RECOVERY_CODES_RENEWED, act_as},
    password::{Asker, Verdict},
    rules::mfa,
    secret_text::random,
    service::{self, Service},
    store::{
        factors::{self as store, CodeRow, Held},
        users::{self, Hold, UserId},
    },
};

/// Recovery codes of a user.
const CODES: i32 = 10;

/// Characters of a recovery code: 60 bits.
const CODE_CHARACTERS: usize = 12;

/// Crockford's base 32: no character is taken for another.
const DIGITS: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";

/// New recovery codes in place of the former ones.
///
/// # Errors
///
/// [`AccountsError::NotFound`] without a second factor: a code is for the day on which that is lost. 403 `step_up_required` unless
/// that was shown just now.
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
        .act("renew recovery codes", async move |tx| {
            act_as(tx, user);
            users::hold(tx, user, Hold::Alone).await?;
            if !store::held(tx, user).await?.any() {
                return Err(AccountsError::NotFound);
            }
            // A factor may have been activated since.
            service::authenticated_now(&caller, 2)?;
            store::replace_codes(tx, user, rows).await?;
            let act = Act::on_user(RECOVERY_CODES_RENEWED, user);
            Ok(act.record_of(tx, user).await?.of(()))
        });
    renewed.await?;
    Ok(codes)
}

/// Deletes the recovery codes that the caller has left, for one who wants no way in but the factors themselves.
///
/// # Errors
///
/// [`AccountsError::NotFound`] if there is none; 403 `step_up_required` unless a second factor was shown just now.
pub(crate) async fn delete_codes(service: &Service, who: &Principal) -> Result<(), AccountsError> {
    let (user, caller) = (Id::from_uuid(who.id), who.clone());
    let deleted = service
        .open_db
        .act("delete recovery codes", async move |tx| {
            act_as(tx, user);
            users::hold(tx, user, Hold::Alone).await?;
            let held = store::held(tx, user).await?;
            service::authenticated_now(&caller, held.needed())?;
            if store::codes_left(tx, user).await? == 0 {
                return Err(AccountsError::NotFound);
            }
            store::replace_codes(tx, user, Vec::new()).await?;
            let act = Act::on_user(RECOVERY_CODES_DELETED, user);
            Ok(act.record_of(tx, user).await?.of(()))
        });
    deleted.await
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

/// Recovery codes for a user's first second factor.
pub(crate) struct FirstCodes(Option<(Vec<SecretString>, Vec<CodeRow>)>);

/// Makes them, unless the user has a second factor, and codes, already.
///
/// # Errors
///
/// [`AccountsError::Busy`].
pub(crate) async fn first_codes(
    service: &Service,
    user: UserId,
) -> Result<FirstCodes, AccountsError> {
    let read = service
        .open_db
        .read("read factors", async move |c| store::held(c, user).await);
    let made = match read.await?.any() {
        true => None,
        false => Some(new_codes(service, user).await?),
    };
    Ok(FirstCodes(made))
}

impl FirstCodes {
    /// Keeps them if the user, whose row is held, has no second factor yet; those that are to be shown.
    ///
    /// # Errors
    ///
    /// [`AccountsError::Changed`] if the factor that there was is gone.
    pub(crate) async fn keep(
        self,
        tx: &mut Tx,
        user: UserId,
        held: Held,
    ) -> Result<Vec<SecretString>, AccountsError> {
        if held.any() {
            return Ok(Vec::new());
        }
        let (codes, rows) = self.0.ok_or(AccountsError::Changed)?;
        store::replace_codes(tx, user, rows).await?;
        Ok(codes)
    }
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
    use secrecy::ExposeSecret as _;

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
}
