//! Who calls, as handlers see it.

use std::fmt;

use chrono::{DateTime, Utc};
use dotmac_db::{Actor, TenantId, TenantScope};
use uuid::Uuid;

use super::{Permission, PermissionSet};

/// A caller that has proved who it is, and what it may do within one tenant.
#[derive(Clone, Debug)]
pub struct Principal {
    /// The user, service account or key that acts.
    pub id: Uuid,
    /// What kind of principal that is.
    pub kind: PrincipalKind,
    /// The tenant that it acts in.
    pub tenant: TenantId,
    /// What it may do there.
    pub permissions: PermissionSet,
    /// How strongly it was authenticated: 1 one factor, 2 two factors or a passkey, 3 hardware-bound.
    pub acr: u8,
    /// When it was last authenticated.
    pub authenticated_at: DateTime<Utc>,
    /// The session or key by which it calls, if there is one.
    pub session: Option<Uuid>,
}

/// What kind of principal calls.
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

impl Principal {
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
        TenantScope::authenticated(self.tenant, actor)
    }
}
