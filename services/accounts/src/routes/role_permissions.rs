//! What a role gives and denies, by itself.

use dotmac_platform::{
    db::types::Id,
    prelude::*,
    routing::{IfMatch, Versioned},
};
use garde::Validate;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{
    BODY, CALLS, etag,
    roles::{RolePatch, change},
};
use crate::{
    AccountsError, ReadRoles, WriteRoles,
    problems::{OF_ADMINISTRATION, OF_READING},
    rules::roles as rules,
    service::Service,
    store::roles::{Role, RoleGrants, RoleRow},
};

/// Below `/roles`.
pub(super) fn declare(routes: &mut Routes) {
    routes
        .get("/{id}/permissions", find_role_permissions)
        .problems(OF_READING)
        .summary("What a role gives and denies")
        .rate_limit(CALLS);
    routes
        .put("/{id}/permissions", set_role_permissions)
        .problems(OF_ADMINISTRATION)
        .summary("Set what a role gives and denies, in place of what it did")
        .rate_limit(CALLS)
        .body_limit(BODY);
}

/// What a role gives and denies.
#[derive(Serialize, ToSchema)]
struct RolePermissions {
    /// Permissions that it gives: names, or patterns as `accounts.users.*`.
    permissions: Vec<String>,
    /// Permissions that it takes away, whatever gives them.
    denied: Vec<String>,
    /// That of the role.
    etag: String,
}

/// What a role is to give and deny.
#[derive(Deserialize, Validate, ToSchema)]
struct RolePermissionsPut {
    #[garde(length(max = 200), inner(length(bytes, min = 1, max = 200)))]
    permissions: Vec<String>,
    #[serde(default)]
    #[garde(length(max = 200), inner(length(bytes, min = 1, max = 200)))]
    denied: Vec<String>,
}

fn versioned((row, grants): (RoleRow, RoleGrants)) -> Versioned<RolePermissions> {
    Versioned {
        version: row.version,
        body: RolePermissions {
            permissions: grants.allow,
            denied: grants.deny,
            etag: etag(row.version),
        },
    }
}

async fn find_role_permissions(
    who: Can<ReadRoles>,
    on: Use<Service>,
    id: Path<Id<Role>>,
) -> Result<Versioned<RolePermissions>, AccountsError> {
    let db = on.db.tenant(&who.scope());
    let found = db.read("find role", async move |tx| rules::find(tx, *id).await);
    Ok(versioned(found.await?))
}

async fn set_role_permissions(
    who: Can<WriteRoles>,
    on: Use<Service>,
    id: Path<Id<Role>>,
    seen: IfMatch,
    new: Valid<RolePermissionsPut>,
) -> Result<Versioned<RolePermissions>, AccountsError> {
    let RolePermissionsPut {
        permissions,
        denied,
    } = new.into_inner();
    let patch = RolePatch {
        permissions: Some(permissions),
        denied: Some(denied),
        ..RolePatch::default()
    };
    Ok(versioned(change(&who, &on, *id, seen, patch).await?))
}
