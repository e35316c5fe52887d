//! What a tenant wants of how its members sign in, and what a session lacks for it.

use dotmac_platform::db::{Connection, DbError};

use crate::{
    AccountsError, service,
    store::{factors, sessions::SessionRow},
};

/// What a session lacks in a tenant whose members need a second factor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lack {
    /// The user has none yet.
    Factor,
    /// It has not been shown.
    StepUp,
}

impl From<Lack> for AccountsError {
    fn from(lack: Lack) -> Self {
        match lack {
            Lack::Factor => Self::MfaEnrolmentRequired,
            Lack::StepUp => service::step_up_required(2),
        }
    }
}

/// What the session lacks for a tenant whose policy that is.
pub(crate) async fn lack(
    c: &mut Connection,
    session: &SessionRow,
    mfa_required: bool,
) -> Result<Option<Lack>, DbError> {
    if !mfa_required || session.acr > 1 {
        return Ok(None);
    }
    let held = factors::held(c, session.user_id).await?;
    Ok(Some(if held.any() {
        Lack::StepUp
    } else {
        Lack::Factor
    }))
}
