//! What can go wrong with webhooks, and the answers to clients.

use dotmac_platform::{
    audit::AuditError,
    db::DbError,
    egress::EgressError,
    events::EmitError,
    http::Problem,
    module::WorkerError,
    routing::{ApiError, InvalidRequest, PreconditionFailed, ProblemType},
    sealing::{ResealError, SealingError},
    supervision::Reason,
};

use crate::{signing::NoRandom, store::states::EndpointState};

const NOT_FOUND: ProblemType = ProblemType::new(
    404,
    "webhook_not_found",
    "there is no such webhook endpoint",
);
const NO_DELIVERY: ProblemType = ProblemType::new(
    404,
    "webhook_delivery_not_found",
    "there is no such webhook delivery",
);
const TOO_MANY: ProblemType = ProblemType::new(
    409,
    "too_many_webhooks",
    "the tenant has reached the limit of webhook endpoints",
);
const STATE: ProblemType = ProblemType::new(
    409,
    "webhook_state",
    "the state of the webhook endpoint does not allow it",
);
const SENDING: ProblemType = ProblemType::new(
    409,
    "webhook_delivery_sending",
    "an attempt of the delivery is under way",
);
const NO_KEY: ProblemType = ProblemType::new(
    503,
    "webhook_secrets_unavailable",
    "secrets cannot be sealed or opened now",
);

/// Why something cannot be done with webhooks.
#[derive(Debug, thiserror::Error)]
pub enum WebhooksError {
    /// No endpoint of that id belongs to the tenant.
    #[error("there is no such webhook endpoint")]
    NotFound,
    /// No delivery of that id belongs to the tenant.
    #[error("there is no such webhook delivery")]
    NoDelivery,
    /// The tenant has as many endpoints as it may have.
    #[error("the tenant has {0} webhook endpoints, which is all it may have")]
    TooMany(u32),
    /// An endpoint in this state cannot be treated so.
    #[error("the webhook endpoint is {state}; {wanted}")]
    State {
        /// Its state.
        state: &'static str,
        /// What would be right.
        wanted: &'static str,
    },
    /// An attempt of the delivery is under way.
    #[error("an attempt of the delivery is under way")]
    Sending,
    /// The endpoint was changed since the client saw it.
    #[error(transparent)]
    Changed(#[from] PreconditionFailed),
    /// Values of the request are not acceptable.
    #[error(transparent)]
    Invalid(#[from] InvalidRequest),
    /// A secret cannot be sealed or opened.
    #[error(transparent)]
    Sealing(#[from] SealingError),
    /// There are no random bytes for a secret.
    #[error("the system gives no random bytes")]
    NoRandom,
    /// The database did not do it.
    #[error(transparent)]
    Db(#[from] DbError),
    /// The event of what happened was not taken.
    #[error(transparent)]
    Emit(#[from] EmitError),
    /// The entry of what was done was not taken.
    #[error(transparent)]
    Record(#[from] AuditError),
}

impl WebhooksError {
    pub(crate) const fn state(state: EndpointState, wanted: &'static str) -> Self {
        let state = state.as_str();
        Self::State { state, wanted }
    }

    /// What is wrong with a URL that can never be called.
    pub(crate) fn url(error: &EgressError) -> Self {
        let problem = format!("cannot be called: {error}");
        InvalidRequest::field("url", error.code(), problem).into()
    }
}

impl From<NoRandom> for WebhooksError {
    fn from(_: NoRandom) -> Self {
        Self::NoRandom
    }
}

impl From<ResealError> for WebhooksError {
    fn from(error: ResealError) -> Self {
        match error {
            ResealError::Db(error) => Self::Db(error),
            ResealError::Sealing(error) => Self::Sealing(error),
        }
    }
}

impl WorkerError for WebhooksError {
    fn upstream(&self) -> Option<Reason> {
        match self {
            // Leases tell whether it was written down, so the sender need not know.
            Self::Db(DbError::OutcomeUnknown(_)) => Some(Reason::UNREACHABLE),
            Self::Db(error) => error.reason(),
            _ => None,
        }
    }
}

impl ApiError for WebhooksError {
    const PROBLEMS: &'static [ProblemType] =
        &[NOT_FOUND, NO_DELIVERY, TOO_MANY, STATE, SENDING, NO_KEY];

    fn into_problem(self) -> Problem {
        let text = self.to_string();
        match self {
            Self::NotFound => NOT_FOUND.problem(),
            Self::NoDelivery => NO_DELIVERY.problem(),
            Self::TooMany(_) => TOO_MANY.problem().detail(text),
            Self::State { .. } => STATE.problem().detail(text),
            Self::Sending => SENDING.problem(),
            Self::Changed(error) => error.into(),
            Self::Invalid(error) => error.into(),
            Self::Sealing(error) => {
                tracing::warn!(%error, "secrets of webhooks cannot be sealed or opened");
                NO_KEY.problem()
            }
            Self::NoRandom => NO_KEY.problem(),
            Self::Db(error) => error.into(),
            Self::Emit(error) => DbError::from(error).into(),
            Self::Record(error) => DbError::from(error).into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use diesel::result::Error::NotFound;

    use super::*;

    #[test]
    fn a_commit_whose_outcome_is_unknown_is_an_outage() {
        let unknown = WebhooksError::from(DbError::OutcomeUnknown(NotFound));
        assert_eq!(unknown.upstream(), Some(Reason::UNREACHABLE));
        let wrong = WebhooksError::from(DbError::Query(NotFound));
        assert_eq!(wrong.upstream(), None);
    }
}
