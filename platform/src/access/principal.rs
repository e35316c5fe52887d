//! Who calls, as handlers see it.

use std::{fmt, ops::Deref, time::Duration};

use chrono::{DateTime, Utc};
use dotmac_db::{Actor, TenantId, TenantScope, authentication::authenticated_scope};
use uuid::Uuid;

use super::{Permission, PermissionSet};

/// How often one principal may call all routes together.
#[derive(Clone, Copy, Debug)]
pub(crate) struct OwnLimit {
    pub(crate) name: &'static str,
    pub(crate) requests: u32,
    pub(crate) window: Duration,
}

/// A caller that has proved who it is. Derefs to its [`Identity`].
///
/// It is made by [`AuthRequest::principal`](super::AuthRequest::principal) alone, which nothing but an
/// [`Authenticator`](super::Authenticator) can call, so a handler has no principal but that of its own request:
///
/// ```compile_fail,E0451
/// # use dotmac_platform::access::{Identity, Principal};
/// fn pretend(identity: Identity) -> Principal {
///     Principal { identity, limit: None }
/// }
/// ```
///
/// Nor can it make the request that an authenticator is asked about:
///
/// ```compile_fail,E0639
/// # use dotmac_platform::access::AuthRequest;
/// # use actix_web::HttpRequest;
/// fn pretend(request: &HttpRequest) -> AuthRequest<'_> {
///     let (method, path, headers) = (request.method(), request.path(), request.headers());
///     AuthRequest { method, path, headers, client: None, is_secure: true }
/// }
/// ```
///
/// Or open the rows of a tenant past both:
///
/// ```compile_fail,E0603
/// # use dotmac_platform::db::{Actor, TenantId, TenantScope};
/// fn pretend(tenant: TenantId) -> TenantScope {
///     dotmac_platform::db::authentication::authenticated_scope(tenant, Actor::System(""))
/// }
/// ```
#[derive(Clone, Debug)]
pub struct Principal {
    identity: Identity,
    limit: Option<OwnLimit>,
}

/// The identity of a caller, and its permissions within one tenant. Any code can make one; it opens nothing.
#[derive(Clone, Debug)]
pub struct Identity {
    /// The user, service account or key that acts.
    pub id: Uuid,
    /// The kind of that principal.
    pub kind: PrincipalKind,
    /// The tenant that it acts in.
    pub tenant: TenantId,
    /// Its permissions there.
    pub permissions: PermissionSet,
    /// How strongly it was authenticated: 1 one factor, 2 two factors or a passkey, 3 hardware-bound.
    pub acr: u8,
    /// When it was last authenticated.
    pub authenticated_at: DateTime<Utc>,
    /// The session or key by which it calls, if there is one.
    pub session: Option<Uuid>,
}

/// The kind of the caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PrincipalKind {
    /// A person.
    User,
    /// A service account.
    Service,
    /// An API key.
    Key,
}

impl PrincipalKind {
    /// The word that logs and audit entries use.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Service => "service",
            Self::Key => "key",
        }
    }
}

impl fmt::Display for PrincipalKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Deref for Principal {
    type Target = Identity;

    fn deref(&self) -> &Identity {
        &self.identity
    }
}

impl Principal {
    /// The principal whose credentials were found to be good.
    pub(super) const fn proved(identity: Identity) -> Self {
        Self {
            identity,
            limit: None,
        }
    }

    /// The same with a limit of its requests to all routes together, counted by the session or key of the principal: at most
    /// `requests` in any `window`, shown as the policy `name`, as [`RateLimit::per_key`](crate::routing::RateLimit::per_key) takes
    /// them. The limits of routes apply as well.
    #[must_use]
    pub fn limited(self, name: &'static str, requests: u32, window: Duration) -> Self {
        let limit = Some(OwnLimit {
            name,
            requests,
            window,
        });
        Self { limit, ..self }
    }

    pub(crate) const fn limit(&self) -> Option<OwnLimit> {
        self.limit
    }

    /// Whether it may do `P`.
    #[must_use]
    pub fn may<P: Permission>(&self) -> bool {
        self.permissions.has::<P>()
    }

    /// The way to the rows of its tenant.
    #[must_use]
    #[expect(
        clippy::disallowed_methods,
        reason = "a principal is who authentication found"
    )]
    pub fn scope(&self) -> TenantScope {
        let actor = Actor::Principal {
            kind: self.kind.as_str(),
            id: self.id,
        };
        authenticated_scope(self.tenant, actor)
    }
}
