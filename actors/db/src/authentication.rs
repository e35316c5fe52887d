//! The one way to a scope that no system code gives a reason for: the platform's authentication takes it.
//!
//! A crate that builds on the platform does not get here: `dotmac_platform::db` leaves this module out.

use super::{Actor, TenantId, TenantScope};

/// The scope of `actor`, who has proved to be of `tenant`. A test of the architecture and a lint look for it.
#[must_use]
pub const fn authenticated_scope(tenant: TenantId, actor: Actor) -> TenantScope {
    TenantScope::authenticated(tenant, actor)
}
