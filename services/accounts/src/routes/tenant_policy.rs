//! What a tenant wants of how its members sign in.

use dotmac_platform::{
    audit::Acts as _,
    db::Tenant,
    prelude::*,
    routing::{IfMatch, Versioned},
};
use garde::Validate;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{BODY, CALLS, etag};
use crate::{
    AccountsError, ReadTenants, WriteTenants,
    problems::{OF_ADMINISTRATION, OF_READING},
    rules::tenants as rules,
    service::Service,
    store::tenants::TenantRow,
};

/// Below `/tenants`.
pub(super) fn declare(routes: &mut Routes) {
    routes
        .get("/{id}/policy", find_policy)
        .problems(OF_READING)
        .summary("How members of your tenant must sign in")
        .rate_limit(CALLS);
    routes
        .patch("/{id}/policy", change_policy)
        .problems(OF_ADMINISTRATION)
        .summary("Change how members of your tenant must sign in")
        .rate_limit(CALLS)
        .body_limit(BODY);
}

/// The policy of a tenant.
#[derive(Serialize, ToSchema)]
struct TenantPolicy {
    /// Whether members need a second factor for everything but how they sign in.
    mfa_required: bool,
    /// That of the tenant.
    etag: String,
}

/// What may be changed of it.
#[derive(Deserialize, Validate, ToSchema)]
struct TenantPolicyPatch {
    #[garde(skip)]
    mfa_required: Option<bool>,
}

fn versioned(row: &TenantRow) -> Versioned<TenantPolicy> {
    Versioned {
        version: row.version,
        body: TenantPolicy {
            mfa_required: row.mfa_required,
            etag: etag(row.version),
        },
    }
}

async fn find_policy(
    who: Can<ReadTenants>,
    on: Use<Service>,
    id: Path<Id<Tenant>>,
) -> Result<Versioned<TenantPolicy>, AccountsError> {
    let db = on.db.tenant(&who.scope());
    let found = db.read("find policy", async move |tx| rules::find(tx, *id).await);
    Ok(versioned(&found.await?))
}

async fn change_policy(
    who: Can<WriteTenants>,
    on: Use<Service>,
    id: Path<Id<Tenant>>,
    seen: IfMatch,
    patch: Valid<TenantPolicyPatch>,
) -> Result<Versioned<TenantPolicy>, AccountsError> {
    on.stepped_up_person(&who)?;
    let (principal, changes, id) = ((*who).clone(), on.changes.clone(), *id);
    let mfa_required = patch.into_inner().mfa_required;
    let changed = on
        .db
        .tenant(&who.scope())
        .act("change policy", async move |tx| {
            let row = rules::find(tx, id).await?;
            seen.check(row.version)?;
            let wanted = mfa_required.unwrap_or(row.mfa_required);
            let done = rules::set_policy(tx, &changes, &principal, &row, wanted).await?;
            let found = rules::find(tx, id).await?;
            Ok::<_, AccountsError>(done.map(|()| found))
        });
    Ok(versioned(&changed.await?))
}
