//! Which role each principal of the tenant has.

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
        bindings::{self as store, Binding, BindingRow, Holder},
        held::HeldFilter,
        roles::RoleId,
        slice::{ByCreation, Slice},
    },
};

pub(super) fn declare(routes: &mut Routes) {
    routes
        .get("", list_bindings)
        .problems(OF_LIST)
        .summary("Which role each principal has")
        .rate_limit(CALLS);
    routes
        .post("", create_binding)
        .problems(OF_ADMINISTRATION)
        .summary("Give a role to a user or a service account")
        .rate_limit(CALLS)
        .body_limit(BODY);
    routes
        .get("/{id}", find_binding)
        .problems(OF_READING)
        .summary("One role that is given")
        .rate_limit(CALLS);
    routes
        .delete("/{id}", delete_binding)
        .problems(OF_ADMINISTRATION)
        .summary("Take a role away")
        .rate_limit(CALLS);
}

/// A role of a principal.
#[derive(Serialize, ToSchema)]
struct BindingBody {
    id: Uuid,
    /// A user or a service account.
    principal: Uuid,
    /// `user` or `service`.
    kind: &'static str,
    /// The role's id.
    role: Uuid,
    granted_by: String,
    created_at: Moment,
    expires_at: Option<Moment>,
    etag: String,
}

/// A role to give.
#[derive(Deserialize, Validate, ToSchema)]
struct BindingPost {
    /// A user or a service account of the tenant.
    #[garde(skip)]
    principal: Uuid,
    /// The role's id or its name.
    #[garde(length(chars, min = 1, max = 100))]
    role: String,
    #[serde(default)]
    #[garde(skip)]
    expires_at: Option<Moment>,
}

/// Which role bindings.
#[derive(Deserialize, IntoParams)]
struct BindingFilter {
    /// Those of one user or service account.
    principal: Option<Uuid>,
    /// Those of one role, by its id.
    role: Option<Uuid>,
}

impl BindingFilter {
    fn read(self) -> HeldFilter<RoleId> {
        HeldFilter {
            principal: self.principal,
            what: self.role.map(RoleId::from_uuid),
        }
    }
}

impl BindingBody {
    fn of(row: &BindingRow) -> Self {
        Self {
            id: row.id.uuid(),
            principal: row.principal(),
            kind: row.holder().map_or("service", Holder::kind),
            role: row.role_id.uuid(),
            granted_by: row.granted_by.clone(),
            created_at: row.created_at,
            expires_at: row.expires_at,
            etag: etag(UNCHANGED),
        }
    }
}

held_handlers! {
    "role-bindings", store, Binding, BindingFilter, BindingBody, rules::take_role;
    list_bindings, find_binding, delete_binding
}

async fn create_binding(
    who: Can<WriteRoles>,
    on: Use<Service>,
    new: Valid<BindingPost>,
    once: Idempotency,
) -> Result<Created<Versioned<BindingBody>>, AccountsError> {
    on.stepped_up_person(&who)?;
    let BindingPost {
        principal,
        role,
        expires_at,
    } = new.into_inner();
    let (me, changes) = ((*who).clone(), on.changes.clone());
    let created = on
        .db
        .tenant(&who.scope())
        .act("give role", async move |tx| {
            let role = match role.parse() {
                Ok(id) => roles::find(tx, id).await?.0,
                Err(_) => roles::named(tx, &role).await?,
            };
            let terms = Terms {
                holder: roles::holder(tx, principal).await?,
                expires_at,
            };
            let given = rules::give_role(tx, &changes, &me, terms, &role).await?;
            Ok::<_, AccountsError>(given.map(|row| {
                let location = format!("/api/v1/role-bindings/{}", row.id);
                let body = BindingBody::of(&row).versioned();
                once.keep(tx, Created { location, body })
            }))
        });
    created.await
}
