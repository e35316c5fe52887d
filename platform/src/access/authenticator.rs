//! How a request becomes a principal: what an accounts service, or an embedding program, provides.

use std::{net::IpAddr, sync::Arc, time::Duration};

use actix_web::{
    HttpMessage, HttpRequest,
    http::{
        Method,
        header::{self, HeaderMap, HeaderValue},
    },
};
use futures_util::future::LocalBoxFuture;
use uuid::Uuid;

use super::{Authorizer, CredentialScheme, Identity, PermissionSpec, Principal, RequestedResource};
use crate::http::{FieldError, Problem, ProblemType, User};

/// Finds out who calls. One for a whole program; without one, guarded routes answer 401.
pub trait Authenticator: Send + Sync + 'static {
    /// The principal behind `request`; `None` for a request that brings no credentials.
    ///
    /// Called once for a request to a guarded route, before its body is read.
    ///
    /// # Errors
    ///
    /// [`AuthError`] for credentials that are wrong, and if it cannot be found out now.
    fn authenticate<'r>(
        &'r self,
        request: AuthRequest<'r>,
    ) -> LocalBoxFuture<'r, Result<Option<Principal>, AuthError>>;

    /// Whether the principal, which has the permission, may use it as it is authenticated now. Asked for each request to a
    /// route with a [`Can`](super::Can), so that a permission can need a stronger or a younger authentication.
    ///
    /// # Errors
    ///
    /// [`AuthError::StepUp`].
    fn confirm(
        &self,
        _principal: &Principal,
        _permission: PermissionSpec,
    ) -> Result<(), AuthError> {
        Ok(())
    }

    /// The problems that may answer a request to such a route before its handler is called, for the documentation: in
    /// addition to 401 `unauthenticated`, and 403 `forbidden` where it needs a permission.
    fn problems(&self, _route: &GuardedRoute<'_>) -> Vec<ProblemType> {
        Vec::new()
    }

    /// The ways in which a request may bring credentials, for the documentation: at least one. A request brings them in one
    /// of these ways, and clients of the document take the first that they know.
    fn schemes(&self) -> Vec<CredentialScheme> {
        vec![CredentialScheme::BEARER]
    }
}

/// A route that needs a caller, for [`Authenticator::problems`].
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct GuardedRoute<'r> {
    /// Its method.
    pub method: &'r Method,
    /// Its path, with the names of its parameters.
    pub path: &'r str,
    /// The permission that it needs, if it needs one.
    pub permission: Option<PermissionSpec>,
}

/// A request as an [`Authenticator`] sees it. Only the platform creates one.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct AuthRequest<'r> {
    /// The method.
    pub method: &'r Method,
    /// The path, without the query, decoded as routes are matched with it: `/%61b` is `/ab`.
    pub path: &'r str,
    /// All headers, cookies among them.
    pub headers: &'r HeaderMap,
    /// The client's address: that of the peer, or what trusted proxies say of it.
    pub client: Option<IpAddr>,
    /// Whether the client speaks TLS, to us or to a trusted proxy.
    pub is_secure: bool,
}

impl AuthRequest<'_> {
    /// The principal that this request comes from, once its credentials have proved that.
    #[must_use]
    pub fn principal(&self, identity: Identity) -> Principal {
        Principal::proved(identity)
    }
}

/// Why a request is not authenticated.
#[derive(Debug, thiserror::Error)]
pub enum AuthError {
    /// The credentials are wrong, expired or revoked: 401.
    #[error("the credentials are not valid")]
    Invalid {
        /// For programs: `token_expired`, `session_ended`.
        code: &'static str,
    },
    /// The credentials are good and must not be used for this request: 403.
    #[error("the request is refused: {detail}")]
    Refused {
        /// For programs: `csrf`.
        code: &'static str,
        /// For people.
        detail: &'static str,
    },
    /// The credentials are good, and a stronger or more recent authentication is required: 403 `step_up_required`, with
    /// both in `errors` and, as RFC 9470 has it, in `WWW-Authenticate`.
    #[error("the caller must be authenticated by acr {acr} within {} s", max_age.as_secs())]
    StepUp {
        /// How strong it must be, as [`Identity::acr`].
        acr: u8,
        /// How long ago it may be.
        max_age: Duration,
    },
    /// Whether the credentials are good cannot be found out now: 503.
    #[error("credentials cannot be checked now")]
    Unavailable(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// Anything else.
    #[error("{0}")]
    Other(Problem),
}

impl From<AuthError> for Problem {
    fn from(error: AuthError) -> Self {
        match error {
            AuthError::Invalid { code } => {
                unauthorized("the credentials are not valid", "invalid_token").code(code)
            }
            AuthError::Refused { code, detail } => Self::forbidden(detail).code(code),
            AuthError::StepUp { acr, max_age } => step_up(acr, max_age),
            AuthError::Unavailable(cause) => {
                Self::unavailable("credentials cannot be checked now", Duration::from_secs(1))
                    .code("auth_unavailable")
                    .caused_by(cause)
            }
            AuthError::Other(problem) => problem,
        }
    }
}

/// The step that a client must take first.
fn step_up(acr: u8, max_age: Duration) -> Problem {
    let (acr, max_age) = (acr.to_string(), max_age.as_secs().to_string());
    let challenge = format!(
        "Bearer error=\"insufficient_user_authentication\", acr_values=\"{acr}\", max_age=\"{max_age}\""
    );
    let problem = Problem::forbidden("a stronger or more recent authentication is required")
        .code("step_up_required")
        .field(FieldError::new("acr_values", "required", acr))
        .field(FieldError::new("max_age", "required", max_age));
    match HeaderValue::try_from(challenge) {
        Ok(challenge) => problem.header(header::WWW_AUTHENTICATE, challenge),
        Err(_) => problem,
    }
}

/// 401 as RFC 6750 says it.
pub(super) fn unauthorized(detail: &'static str, error: &'static str) -> Problem {
    let challenge = if error.is_empty() {
        HeaderValue::from_static("Bearer")
    } else {
        HeaderValue::from_str(&format!("Bearer error=\"{error}\""))
            .unwrap_or_else(|_| HeaderValue::from_static("Bearer"))
    };
    Problem::unauthorized(detail)
        .code("unauthenticated")
        .header(header::WWW_AUTHENTICATE, challenge)
}

/// The program's authenticator and authorizer, as guards find them.
#[derive(Clone, Default)]
pub(crate) struct Authentication {
    authenticator: Option<Arc<dyn Authenticator>>,
    authorizer: Option<Arc<dyn Authorizer>>,
}

impl Authentication {
    pub(crate) fn by(
        authenticator: Option<Arc<dyn Authenticator>>,
        authorizer: Option<Arc<dyn Authorizer>>,
    ) -> Self {
        Self {
            authenticator,
            authorizer,
        }
    }

    /// Whether `principal`, which has the permission, may use it on what `request` names.
    pub(super) async fn authorize(
        &self,
        principal: &Principal,
        permission: PermissionSpec,
        request: &HttpRequest,
    ) -> Result<(), Problem> {
        let Some(authorizer) = &self.authorizer else {
            return Ok(());
        };
        let pattern = request.match_pattern().unwrap_or_default();
        let resource = RequestedResource::new(request, request.method(), &pattern);
        let authorized = authorizer.authorize(principal, permission, resource);
        Ok(authorized.await?)
    }

    /// What such a route may answer before its handler is called.
    pub(crate) fn problems(
        &self,
        method: &Method,
        path: &str,
        permission: Option<PermissionSpec>,
    ) -> Vec<ProblemType> {
        let route = GuardedRoute {
            method,
            path,
            permission,
        };
        let authenticator = self.authenticator.as_ref();
        authenticator.map_or_else(Vec::new, |it| it.problems(&route))
    }

    /// The ways in which a request may bring credentials.
    pub(crate) fn schemes(&self) -> Vec<CredentialScheme> {
        let authenticator = self.authenticator.as_ref();
        authenticator.map_or_else(|| vec![CredentialScheme::BEARER], |it| it.schemes())
    }

    /// Whether `principal` may use the permission as it is authenticated now.
    pub(super) fn confirm(
        &self,
        principal: &Principal,
        permission: PermissionSpec,
    ) -> Result<(), Problem> {
        match &self.authenticator {
            Some(authenticator) => Ok(authenticator.confirm(principal, permission)?),
            None => Ok(()),
        }
    }

    /// The principal behind `request`, if it has one.
    pub(super) async fn principal(
        &self,
        request: &HttpRequest,
    ) -> Result<Option<Principal>, Problem> {
        let Some(authenticator) = &self.authenticator else {
            return Ok(None);
        };
        let headers = request.headers();
        let (client, is_secure) = crate::http::origin(request);
        let asked = AuthRequest {
            method: request.method(),
            path: request.match_info().as_str(),
            headers,
            client,
            is_secure,
        };
        let principal = authenticator.authenticate(asked).await?;
        if let Some(principal) = &principal {
            let mut text = Uuid::encode_buffer();
            let user = User::new(principal.id.hyphenated().encode_lower(&mut text));
            request.extensions_mut().insert(user);
        }
        Ok(principal)
    }
}
