//! Passkeys: registered by a signed-in user, and used to sign in, as a second factor, and to step up. The state of a ceremony is
//! kept here, is good once and for five minutes, and belongs to the session or the browser that asked.

mod registering;
mod signing_in;

use std::time::Duration;

use aws_lc_rs::constant_time;
use dotmac_platform::{
    audit::SystemActs as _,
    db::{
        Tx,
        types::{Id, Moment},
    },
};
use secrecy::SecretString;
use serde_json::Value;

pub(crate) use registering::{begin_registration, register};
pub(crate) use signing_in::{
    begin_second_factor, begin_sign_in, begin_step_up, prove_second_factor, prove_step_up, sign_in,
};

use crate::{
    AccountsError,
    audit::{Act, PASSKEY_BACKUP_CHANGED, PASSKEY_COPIED},
    relying_party::{Answer, Descriptor, Fault, RelyingParty},
    secret_text::{self, Prefix},
    service::Service,
    store::{
        ceremonies::{self, CeremonyRow},
        passkeys::{self as store, PasskeyRow, PasskeyState},
        users::UserId,
    },
};

/// How long an authenticator has time to answer; as long as the options say.
const GOOD_FOR: Duration = Duration::from_secs(5 * 60);

/// What a passkey by itself is (RFC 8176): the possession of a key, and the user verified by the authenticator.
pub(crate) const AMR: &str = "pop mfa";

/// What a ceremony is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// Signing in as the user that the passkey belongs to.
    SignIn,
    /// Signing in as the user that was named.
    NamedSignIn,
    SecondFactor,
    StepUp,
    Registration,
}

impl Purpose {
    const fn name(self) -> &'static str {
        match self {
            Self::SignIn => "sign_in",
            Self::NamedSignIn => "named_sign_in",
            Self::SecondFactor => "second_factor",
            Self::StepUp => "step_up",
            Self::Registration => "registration",
        }
    }

    fn of(row: &CeremonyRow) -> Option<Self> {
        let all = [
            Self::SignIn,
            Self::NamedSignIn,
            Self::SecondFactor,
            Self::StepUp,
            Self::Registration,
        ];
        all.into_iter()
            .find(|purpose| purpose.name() == row.purpose)
    }
}

/// A ceremony that has begun: the text by which it goes on, and the options for `navigator.credentials`.
pub(crate) struct Ceremony {
    pub(crate) flow: SecretString,
    pub(crate) options: Value,
}

/// A passkey that was shown, to be used in the transaction that relies on it.
pub(crate) struct UsedPasskey {
    passkey: PasskeyRow,
    state: PasskeyState,
}

impl UsedPasskey {
    /// Whose it is.
    pub(crate) const fn user(&self) -> UserId {
        self.passkey.user_id
    }

    /// Writes the use down.
    ///
    /// # Errors
    ///
    /// [`AccountsError::InvalidCredentials`] if the passkey was removed or used meanwhile.
    pub(crate) async fn spend(&self, tx: &mut Tx) -> Result<(), AccountsError> {
        let Self { passkey, state } = self;
        if store::used(tx, passkey.id, passkey.sign_count, *state).await? == 0 {
            return Err(AccountsError::InvalidCredentials);
        }
        if state.backup_eligible != passkey.backup_eligible {
            let act = Act::on_user(PASSKEY_BACKUP_CHANGED, passkey.user_id);
            let act = act.detail("passkey", passkey.id.to_string());
            let act = act.detail("backup_eligible", state.backup_eligible.to_string());
            act.record_of(tx, passkey.user_id).await?.of(());
        }
        Ok(())
    }
}

/// The relying party of this installation.
///
/// # Errors
///
/// [`AccountsError::Forbidden`] if its public address has no host name: authenticators know no other.
fn relying_party(service: &Service) -> Result<RelyingParty, AccountsError> {
    RelyingParty::of(&service.settings.public_url).ok_or(AccountsError::Forbidden(
        "there are no passkeys at an address of numbers: the public address must have a host name",
    ))
}

/// Which passkeys may answer, and how they are reached.
fn descriptors(rows: &[PasskeyRow]) -> Vec<Descriptor> {
    let each = rows.iter();
    each.map(|row| (row.credential_id.clone(), row.transports))
        .collect()
}

/// A row for a ceremony with its own text.
fn new_row(purpose: Purpose, state: Vec<u8>) -> Result<(SecretString, CeremonyRow), AccountsError> {
    let minted = secret_text::mint_pair(Prefix::Flow)?;
    let row = CeremonyRow {
        id: Id::new(),
        public_id: minted.public_id,
        hash: minted.hash,
        purpose: purpose.name().to_owned(),
        user_id: None,
        session_id: None,
        browser: None,
        state,
        expires_at: Moment::now() + GOOD_FOR,
    };
    Ok((minted.text, row))
}

/// Has the ceremony wait for its answer.
async fn keep(service: &Service, ceremony: CeremonyRow) -> Result<(), AccountsError> {
    let kept = service
        .open_db
        .transaction("begin passkey ceremony", async move |tx| {
            ceremonies::replace(tx, &ceremony).await
        });
    Ok(kept.await?)
}

/// Ends the ceremony of that text, which must be one that `is_expected`.
///
/// # Errors
///
/// [`AccountsError::LinkGone`] for any other, one that is over, and one that was used.
async fn take(
    service: &Service,
    flow: &str,
    is_expected: impl FnOnce(Purpose, &CeremonyRow) -> bool + Send + 'static,
) -> Result<CeremonyRow, AccountsError> {
    let given = secret_text::read_pair(Prefix::Flow, flow).ok_or(AccountsError::LinkGone)?;
    let (public_id, hash) = (given.public_id.to_owned(), given.hash);
    let taken = service
        .open_db
        .transaction("take passkey ceremony", async move |tx| {
            let found = ceremonies::find(tx, &public_id).await?;
            let row = found.ok_or(AccountsError::LinkGone)?;
            let is_right = constant_time::verify_slices_are_equal(&row.hash, &hash).is_ok()
                && row.expires_at > Moment::now()
                && Purpose::of(&row).is_some_and(|purpose| is_expected(purpose, &row));
            if !is_right || ceremonies::delete(tx, row.id).await? == 0 {
                return Err(AccountsError::LinkGone);
            }
            Ok(row)
        });
    taken.await
}

/// An answer that does not count, and whose passkey it is of, if it is of one.
struct Refused(Option<UserId>);

/// What an answer to the ceremony proves.
async fn prove(
    service: &Service,
    ceremony: &CeremonyRow,
    credential: &Value,
) -> Result<Result<UsedPasskey, Refused>, AccountsError> {
    let is_listed = Purpose::of(ceremony) != Some(Purpose::SignIn);
    let Some(answer) = Answer::read(is_listed, credential) else {
        return Ok(Err(Refused(None)));
    };
    let id = answer.credential_id();
    let found = service
        .open_db
        .read("find passkey", async move |c| store::find(c, id).await);
    let Some(passkey) = found.await? else {
        return Ok(Err(Refused(None)));
    };
    let user = passkey.user_id;
    if ceremony.user_id.is_some_and(|expected| expected != user) {
        return Ok(Err(Refused(Some(user))));
    }
    match relying_party(service)?.verify(&ceremony.state, &answer, &passkey) {
        Ok(state) => Ok(Ok(UsedPasskey { passkey, state })),
        Err(Fault::Wrong) => Ok(Err(Refused(Some(user)))),
        Err(Fault::Counter) => {
            let recorded = service
                .open_db
                .act("record copied passkey", async move |tx| {
                    let act =
                        Act::on_user(PASSKEY_COPIED, user).failed("the counter did not go up");
                    let act = act.detail("passkey", passkey.id.to_string());
                    Ok::<_, AccountsError>(act.record_of(tx, user).await?.of(()))
                });
            recorded.await?;
            Ok(Err(Refused(Some(user))))
        }
    }
}

/// The answer to an invalid credential.
pub(super) fn wrong_credential() -> AccountsError {
    AccountsError::field(
        "credential",
        "credential_wrong",
        "is no answer of an authenticator to these options on this site",
    )
}
