//! Which permissions principals of the tenant have without a role.

use dotmac_platform::{
    audit::Acts as _,
    db::types::{Id, Moment},
    prelude::*,
    routing::{CursorScope, Idempotency, IfMatch, Page, Paging, Versioned},
};
use garde::Validate;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use super::{
    BODY, CALLS, etag,
    held::{UNCHANGED, held_handlers},
};
use crate::{
    AccountsError, ReadRoles, WriteRoles,
    problems::{OF_ADMINISTRATION, OF_LIST, OF_READING},
    rules::{
        held::{self as rules, Terms},
        roles,
    },
    service::Service,
    store::{
        bindings::Holder,
        grants::{self as store, Grant, GrantRow},
        held::HeldFilter,
        slice::{ByCreation, Slice},
    },
};

pub(super) fn declare(routes: &mut Routes) {
    routes
        .get("", list_grants)
        .problems(OF_LIST)
        .summary("The permissions that principals have without a role")
        .rate_limit(CALLS);
    routes
        .post("", create_grant)
        .problems(OF_ADMINISTRATION)
        .summary("Give a permission without a role, for good or until a time")
        .rate_limit(CALLS)
        .body_limit(BODY);
    routes
        .get("/{id}", find_grant)
        .problems(OF_READING)
        .summary("One permission that was given without a role")
        .rate_limit(CALLS);
    routes
        .delete("/{id}", delete_grant)
        .problems(OF_ADMINISTRATION)
        .summary("Take a permission away that was given without a role")
        .rate_limit(CALLS);
}

/// A permission that a principal has without a role.
#[derive(Serialize, ToSchema)]
struct GrantBody {
    id: Uuid,
    /// A user or a service account.
    principal: Uuid,
    /// `user` or `service`.
    kind: &'static str,
    permission: String,
    granted_by: String,
    created_at: Moment,
    expires_at: Option<Moment>,
    etag: String,
}

/// A permission to give.
#[derive(Deserialize, Validate, ToSchema)]
struct GrantPost {
    /// A user or a service account of the tenant.
    #[garde(skip)]
    principal: Uuid,
    /// Its name.
    #[garde(length(bytes, min = 1, max = 200))]
    permission: String,
    #[serde(default)]
    #[garde(skip)]
    expires_at: Option<Moment>,
}

/// Which grants.
#[derive(Deserialize, IntoParams)]
struct GrantFilter {
    /// Those of one user or service account.
    principal: Option<Uuid>,
    /// Those of one permission, by its name.
    permission: Option<String>,
}

impl GrantFilter {
    fn read(self) -> HeldFilter<String> {
        HeldFilter {
            principal: self.principal,
            what: self.permission,
        }
    }
}

impl GrantBody {
    fn of(row: &GrantRow) -> Self {
        Self {
            id: row.id.uuid(),
            principal: row.principal(),
            kind: row.holder().map_or("service", Holder::kind),
            permission: row.permission.clone(),
            granted_by: row.granted_by.clone(),
            created_at: row.created_at,
            expires_at: row.expires_at,
            etag: etag(UNCHANGED),
        }
    }
}

held_handlers! {
    "grants", store, Grant, GrantFilter, GrantBody, rules::take_permission;
    list_grants, find_grant, delete_grant
}

async fn create_grant(
    who: Can<WriteRoles>,
    on: Use<Service>,
    new: Valid<GrantPost>,
    once: Idempotency,
) -> Result<Created<Versioned<GrantBody>>, AccountsError> {
    on.stepped_up_person(&who)?;
    let GrantPost {
        principal,
        permission,
        expires_at,
    } = new.into_inner();
    let (me, changes) = ((*who).clone(), on.changes.clone());
    let created = on
        .db
        .tenant(&who.scope())
        .act("give permission", async move |tx| {
            let terms = Terms {
                holder: roles::holder(tx, principal).await?,
                expires_at,
            };
            let given = rules::give_permission(tx, &changes, &me, terms, permission).await?;
            Ok::<_, AccountsError>(given.map(|row| {
                let location = format!("/api/v1/grants/{}", row.id);
                let body = GrantBody::of(&row).versioned();
                once.keep(tx, Created { location, body })
            }))
        });
    created.await
}
