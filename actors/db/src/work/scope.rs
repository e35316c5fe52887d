//! On whose behalf work is done: a tenant's or the system's.
//!
//! A [`TenantScope`] comes from authentication, or from system code that says why. Through a [`TenantDb`](crate::TenantDb)
//! it becomes a [`TenantTx`](crate::TenantTx), which store functions of a tenant's tables take: a query without a scope
//! does not compile. On PostgreSQL each such transaction also sets `dotmac.tenant_id`, by which row-level security shows
//! it the rows of that tenant and no others; work of the system sets it to `*`.

use std::{
    borrow::Cow,
    collections::BTreeSet,
    fmt,
    sync::{Mutex, PoisonError},
};

use tracing::{debug, info};
use uuid::Uuid;

use crate::{instruments, types::Id};

/// Who rows belong to; a mark for ids.
pub enum Tenant {}

/// The id of a tenant.
pub type TenantId = Id<Tenant>;

/// Who causes what a transaction does, for the events and the audit entries that it writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Actor {
    /// A caller that has proved who it is.
    Principal {
        /// The kind: `user`, `service`, `key`.
        kind: &'static str,
        /// Its id.
        id: Uuid,
    },
    /// Code of the system, with the reason that it gave.
    System(&'static str),
}

impl fmt::Display for Actor {
    /// `user:01a2…`, or `system:` and the reason.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Principal { kind, id } => write!(f, "{kind}:{id}"),
            Self::System(why) => write!(f, "system:{why}"),
        }
    }
}

/// The right to work on the rows of one tenant.
///
/// It cannot be made up, or become another tenant's:
///
/// ```compile_fail,E0616
/// # use dotmac_db::{TenantId, TenantScope};
/// fn pretend(scope: &mut TenantScope) {
///     scope.tenant = TenantId::new();
/// }
/// ```
///
/// ```compile_fail,E0624
/// # use dotmac_db::{Actor, TenantId, TenantScope};
/// fn pretend(tenant: TenantId) -> TenantScope {
///     TenantScope::authenticated(tenant, Actor::System("a test"))
/// }
/// ```
#[derive(Clone, Debug)]
pub struct TenantScope {
    tenant: TenantId,
    actor: Actor,
}

impl TenantScope {
    /// The scope of `actor`, who has proved to be of `tenant`.
    pub(crate) const fn authenticated(tenant: TenantId, actor: Actor) -> Self {
        Self { tenant, actor }
    }

    /// The scope of system code that works on the rows of `tenant`, such as a worker. `why` is a short constant;
    /// it is logged, and counted in `dotmac_database_system_scopes_total`.
    #[must_use]
    pub fn system(tenant: TenantId, why: &'static str) -> Self {
        note_system_scope(why);
        Self {
            tenant,
            actor: Actor::System(why),
        }
    }

    /// Whose rows.
    #[must_use]
    pub const fn tenant(&self) -> TenantId {
        self.tenant
    }

    /// Who acts.
    pub(crate) const fn actor(&self) -> Actor {
        self.actor
    }
}

/// Counts a scope that no authentication gave, and logs it: the first for each reason as INFO.
pub(crate) fn note_system_scope(why: &'static str) {
    static KNOWN: Mutex<BTreeSet<&'static str>> = Mutex::new(BTreeSet::new());
    instruments::system_scope(why);
    let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    let is_new = known.insert(why);
    drop(known);
    if is_new {
        info!(why, "system scope, without authentication: {why}");
    } else {
        debug!(why, "system scope, without authentication: {why}");
    }
}

/// The tenant of a transaction.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scope {
    /// Tables without tenants.
    Open,
    Tenant(TenantId, Actor),
    /// Rows of all tenants, and why; who asked for it, if it was a caller.
    System(&'static str, Option<Actor>),
}

impl Scope {
    pub(crate) fn tenant(self) -> Option<TenantId> {
        match self {
            Self::Tenant(tenant, _) => Some(tenant),
            Self::Open | Self::System(..) => None,
        }
    }

    pub(crate) fn actor(self) -> Option<Actor> {
        match self {
            Self::Open => None,
            Self::Tenant(_, actor) => Some(actor),
            Self::System(why, caller) => Some(caller.unwrap_or(Actor::System(why))),
        }
    }

    /// The same of the system with `actor` as who asked for it. A tenant's has its own actor already.
    pub(crate) fn asked_by(self, actor: Actor) -> Self {
        match self {
            Self::System(why, _) => Self::System(why, Some(actor)),
            scope => scope,
        }
    }

    /// The statement that sets the scope of row-level security until the end of the transaction; none without a scope.
    pub(crate) fn setting(self) -> Option<String> {
        match self {
            Self::Open => None,
            Self::Tenant(tenant, _) => Some(format!("SET LOCAL dotmac.tenant_id = '{tenant}'")),
            Self::System(..) => Some("SET LOCAL dotmac.tenant_id = '*'".to_owned()),
        }
    }

    /// `begin`, and what lets row-level security know the scope until the end of that transaction.
    pub(crate) fn entered(self, begin: &'static str) -> Cow<'static, str> {
        match self.setting() {
            None => begin.into(),
            Some(setting) => format!("{begin}; {setting}").into(),
        }
    }
}
