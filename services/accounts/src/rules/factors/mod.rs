//! Second factors: an authenticator app, passkeys, and recovery codes.

mod recovery;
mod removing;
mod totp;

use dotmac_platform::db::{Tx, types::Id};

use super::passkeys::UsedPasskey;
use crate::{
    AccountsError,
    store::{
        factors::{self as store, Totp},
        passkeys::PasskeyId,
        users::UserId,
    },
};
pub(crate) use recovery::{delete_codes, first_codes, prove_recovery, renew_codes};
pub(crate) use removing::{remove_all, remove_own, remove_since};
pub(crate) use totp::{begin_totp, confirm_totp, prove_totp};

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
