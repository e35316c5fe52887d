//! What can go wrong with accounts, and the answers to clients.

use std::{borrow::Cow, time::Duration};

use dotmac_platform::{
    access::AuthError,
    audit::AuditError,
    db::DbError,
    events::EmitError,
    http::Problem,
    jobs::EnqueueError,
    mail::MailError,
    module::{ModuleVaultError, WorkerError},
    routing::{ApiError, InvalidRequest, PreconditionFailed, ProblemType},
    sealing::SealingError,
    supervision::Reason,
};

use crate::{password::PasswordFault, problems::*};

/// Why something cannot be done with accounts.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AccountsError {
    /// Unknown, wrong, disabled, or in no tenant; clients do not learn which.
    #[error("the credentials are wrong")]
    InvalidCredentials,
    /// The token was not issued here, or was changed.
    #[error("the token is not valid")]
    TokenInvalid,
    /// The token is over.
    #[error("the token has expired")]
    TokenExpired,
    /// The session was ended or is over.
    #[error("the session has ended")]
    SessionEnded,
    /// A refresh token was used a second time; its session has been ended.
    #[error("the refresh token was used before")]
    RefreshReused,
    /// It is not allowed, and why.
    #[error("{0}")]
    Forbidden(&'static str),
    /// The tenant wants a second factor, which the user does not have.
    #[error("the tenant wants a second factor of its members")]
    MfaEnrolmentRequired,
    /// A request of another site.
    #[error("the request comes from another site")]
    Csrf,
    /// Only administrators create accounts.
    #[error("registration is closed")]
    RegistrationClosed,
    /// There is no such thing in the tenant.
    #[error("there is no such object")]
    NotFound,
    /// There is one already.
    #[error("there is one already")]
    Conflict,
    /// Another request has changed the same meanwhile.
    #[error("another request has changed it")]
    Changed,
    /// A tenant keeps one owner.
    #[error("it is the last owner of the tenant")]
    LastOwner,
    /// A user keeps a way in that is good enough by itself; what is wrong with the others.
    #[error("{0}")]
    LastFactor(&'static str),
    /// A user has as many passkeys as there may be.
    #[error("the limit of passkeys is reached")]
    TooManyPasskeys,
    /// A link was used or is over.
    #[error("the link was used or has expired")]
    LinkGone,
    /// Values of the request are not acceptable.
    #[error(transparent)]
    Invalid(#[from] InvalidRequest),
    /// Too many failures; when to try again.
    #[error("too many failures")]
    Throttled(Duration),
    /// The queue of password hashes is full.
    #[error("too many sign-ins are under way")]
    Busy,
    /// A stored hash is none that may be computed.
    #[error("a stored password hash cannot be used")]
    HashNotUsable,
    /// The pepper of a stored hash is not there, or what is there is none.
    #[error("the pepper of passwords cannot be used, or that of a stored hash is missing")]
    PepperNotUsable,
    /// The filter of breached passwords, which new ones are checked with, cannot be read.
    #[error("the filter of breached passwords cannot be read")]
    BreachFilterNotUsable(#[source] std::io::Error),
    /// A second factor cannot be computed.
    #[error("a second factor cannot be used")]
    FactorNotUsable,
    /// Vault did not read or write a key of the program.
    #[error("failed to use Vault for a key of the program")]
    Vault(#[from] ModuleVaultError),
    /// A key of the program is in Vault, which is not configured here.
    #[error("the key is in Vault, which is not configured on this instance")]
    NoVault,
    /// There is no key to sign with yet.
    #[error("no key for signing tokens")]
    NoSigningKey,
    /// The operating system has no random bytes.
    #[error("the operating system has no random bytes")]
    NoRandom,
    /// A token could not be signed.
    #[error("failed to sign a token")]
    Signing,
    /// A secret in the database could not be sealed or opened.
    #[error(transparent)]
    Sealing(#[from] SealingError),
    /// Credentials cannot be checked now; clients learn no more.
    #[error("credentials cannot be checked now")]
    Unavailable(#[source] Box<Self>),
    /// A mail was not queued.
    #[error(transparent)]
    Mail(#[from] MailError),
    /// The database failed.
    #[error(transparent)]
    Db(#[from] DbError),
    /// Anything that the platform answers as it is.
    #[error("{0}")]
    Problem(Problem),
}

impl AccountsError {
    /// A field that is not acceptable.
    pub(crate) fn field(
        field: &'static str,
        code: &'static str,
        message: impl Into<Cow<'static, str>>,
    ) -> Self {
        InvalidRequest::field(field, code, message).into()
    }

    /// The same, without what failed: a sign-in and a refresh say no more than that credentials cannot be checked.
    pub(crate) fn of_credentials(self) -> Self {
        match self {
            Self::Db(_)
            | Self::Mail(_)
            | Self::NoRandom
            | Self::Signing
            | Self::Sealing(_)
            | Self::NoSigningKey
            | Self::Vault(_)
            | Self::NoVault
            | Self::HashNotUsable
            | Self::PepperNotUsable
            | Self::BreachFilterNotUsable(_)
            | Self::FactorNotUsable => Self::Unavailable(Box::new(self)),
            error => error,
        }
    }

    pub(crate) fn password(field: &'static str, fault: PasswordFault) -> Self {
        Self::field(field, fault.code(), fault.message())
    }
}

impl From<Problem> for AccountsError {
    fn from(problem: Problem) -> Self {
        Self::Problem(problem)
    }
}

impl From<AuditError> for AccountsError {
    fn from(error: AuditError) -> Self {
        Self::Db(error.into())
    }
}

impl From<EnqueueError> for AccountsError {
    fn from(error: EnqueueError) -> Self {
        match error {
            EnqueueError::TooManyWaiting { .. } => Self::Busy,
            error => Self::Db(error.into()),
        }
    }
}

impl From<EmitError> for AccountsError {
    fn from(error: EmitError) -> Self {
        Self::Db(error.into())
    }
}

impl From<PreconditionFailed> for AccountsError {
    fn from(failed: PreconditionFailed) -> Self {
        Self::Problem(failed.into())
    }
}

impl WorkerError for AccountsError {
    fn upstream(&self) -> Option<Reason> {
        match self {
            Self::Db(error) | Self::Mail(MailError::Database(error)) => error.reason(),
            _ => None,
        }
    }
}

impl ApiError for AccountsError {
    const PROBLEMS: &'static [ProblemType] = &[
        INVALID_CREDENTIALS,
        TOKEN_INVALID,
        TOKEN_EXPIRED,
        SESSION_ENDED,
        REFRESH_REUSED,
        FORBIDDEN,
        STEP_UP_REQUIRED,
        MFA_ENROLMENT_REQUIRED,
        CSRF,
        REGISTRATION_CLOSED,
        NOT_FOUND,
        CONFLICT,
        LAST_OWNER,
        LAST_FACTOR,
        LINK_GONE,
        RATE_LIMITED,
        AUTH_BUSY,
        AUTH_UNAVAILABLE,
    ];

    fn into_problem(self) -> Problem {
        match self {
            Self::InvalidCredentials => INVALID_CREDENTIALS.problem(),
            Self::TokenInvalid => TOKEN_INVALID.problem(),
            Self::TokenExpired => TOKEN_EXPIRED.problem(),
            Self::SessionEnded => SESSION_ENDED.problem(),
            Self::RefreshReused => REFRESH_REUSED.problem(),
            Self::Forbidden(why) => FORBIDDEN.problem().detail(why),
            Self::MfaEnrolmentRequired => MFA_ENROLMENT_REQUIRED.problem(),
            Self::Csrf => CSRF.problem(),
            Self::RegistrationClosed => REGISTRATION_CLOSED.problem(),
            Self::NotFound => NOT_FOUND.problem(),
            Self::Conflict => CONFLICT.problem(),
            Self::Changed => CONFLICT.problem().detail("another request has changed it"),
            Self::LastOwner => LAST_OWNER.problem(),
            Self::LastFactor(why) => LAST_FACTOR.problem().detail(why),
            Self::TooManyPasskeys => CONFLICT
                .problem()
                .detail("the limit of passkeys is reached"),
            Self::LinkGone => LINK_GONE.problem(),
            Self::Invalid(error) => error.into(),
            Self::Throttled(wait) => RATE_LIMITED.problem().retry_after(wait),
            Self::Busy => AUTH_BUSY.problem().retry_after(Duration::from_secs(2)),
            // The problem says the same.
            Self::Unavailable(cause) => unavailable(*cause),
            error @ (Self::NoSigningKey
            | Self::Vault(_)
            | Self::NoVault
            | Self::PepperNotUsable
            | Self::BreachFilterNotUsable(_)
            | Self::Sealing(SealingError::NoKey { .. })) => unavailable(error),
            Self::Db(error) if error.is_unique_violation() => CONFLICT.problem(),
            Self::Db(error) => error.into(),
            Self::Mail(error) => error.into(),
            Self::Problem(problem) => problem,
            error @ (Self::HashNotUsable
            | Self::FactorNotUsable
            | Self::NoRandom
            | Self::Signing
            | Self::Sealing(_)) => Problem::internal(error),
        }
    }
}

/// 503, with a cause for the log.
fn unavailable(cause: AccountsError) -> Problem {
    let problem = AUTH_UNAVAILABLE
        .problem()
        .retry_after(Duration::from_secs(5));
    problem.caused_by(cause)
}

/// Of the check of credentials. What the database did not do is never taken for a refusal.
impl From<AccountsError> for AuthError {
    fn from(error: AccountsError) -> Self {
        match error {
            AccountsError::SessionEnded => Self::Invalid {
                code: "session_ended",
            },
            AccountsError::TokenExpired => Self::Invalid {
                code: "token_expired",
            },
            AccountsError::TokenInvalid => Self::Invalid {
                code: "token_invalid",
            },
            AccountsError::MfaEnrolmentRequired => Self::Refused {
                code: "mfa_enrolment_required",
                detail: MFA_ENROLMENT_REQUIRED.description,
            },
            AccountsError::Csrf => Self::Refused {
                code: "csrf",
                detail: CSRF.description,
            },
            AccountsError::Problem(problem) => Self::Other(problem),
            AccountsError::Unavailable(cause) => Self::Unavailable(cause),
            error => Self::Unavailable(Box::new(error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_says_once_that_credentials_cannot_be_checked() {
        let error = || AccountsError::NoSigningKey.of_credentials();
        let of_guard = Problem::from(AuthError::from(error()));
        for problem in [error().into_problem(), of_guard] {
            assert_eq!(
                dotmac_causes::chain(&problem),
                "503 auth_unavailable: credentials cannot be checked now: no key for signing tokens"
            );
        }
    }
}
