//! Who has which role of the tenant.

use dotmac_platform::{
    audit::Acts as _,
    db::types::{Id, Moment},
    prelude::*,
    routing::{CursorScope, Idempotency, Page, Paging},
};
use garde::Validate;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use super::{BODY, CALLS};
use crate::{
    AccountsError, ReadRoles, WriteRoles,
    problems::{OF_ADMINISTRATION, OF_LIST, OF_READING},
    rules::{role_bindings as rules, roles},
    service::Service,
    store::bindings::{self as store, Binding, BindingRow, Holder},
};

pub(super) fn declare(routes: &mut Routes) {
    routes
        .get("", list_bindings)
        .problems(OF_LIST)
        .summary("Who has which role")
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

/// Somebody's role.
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

fn binding(row: &BindingRow) -> BindingBody {
    let holder = row.holder();
    BindingBody {
        id: row.id.uuid(),
        principal: holder.map(Holder::uuid).unwrap_or_default(),
        kind: holder.map_or("service", Holder::kind),
        role: row.role_id.uuid(),
        granted_by: row.granted_by.clone(),
        created_at: row.created_at,
        expires_at: row.expires_at,
    }
}

async fn list_bindings(
    who: Can<ReadRoles>,
    on: Use<Service>,
    paging: Paging,
) -> Result<Page<BindingBody>, AccountsError> {
    let bound = CursorScope::of(who.tenant, "role-bindings");
    let (after, rows) = (paging.after::<Id<Binding>>(&bound)?, paging.rows());
    let read = on
        .db
        .tenant(&who.scope())
        .read("list role bindings", async move |tx| {
            store::page(tx, after, rows).await
        });
    let page = paging.page(&bound, read.await?, |row| row.id);
    Ok(page.map(|row| binding(&row)))
}

async fn create_binding(
    who: Can<WriteRoles>,
    on: Use<Service>,
    new: Valid<BindingPost>,
    once: Idempotency,
) -> Result<Created<BindingBody>, AccountsError> {
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
            let holder = roles::holder(tx, principal).await?;
            let given = rules::bind(tx, &changes, &me, holder, &role, expires_at).await?;
            let location = format!("/api/v1/role-bindings/{}", given.id);
            let body = binding(&given);
            let kept = once.keep(tx, Created { location, body });
            Ok::<_, AccountsError>(given.map(|_| kept))
        });
    created.await
}

async fn find_binding(
    who: Can<ReadRoles>,
    on: Use<Service>,
    id: Path<Id<Binding>>,
) -> Result<Json<BindingBody>, AccountsError> {
    let db = on.db.tenant(&who.scope());
    let found = db.read("find role binding", async move |tx| {
        store::find(tx, *id).await
    });
    let row = found.await?.ok_or(AccountsError::NotFound)?;
    Ok(Json(binding(&row)))
}

async fn delete_binding(
    who: Can<WriteRoles>,
    on: Use<Service>,
    id: Path<Id<Binding>>,
) -> Result<NoContent, AccountsError> {
    on.stepped_up_person(&who)?;
    let (principal, changes, id) = ((*who).clone(), on.changes.clone(), *id);
    let deleted = on
        .db
        .tenant(&who.scope())
        .act("take role away", async move |tx| {
            rules::unbind(tx, &changes, &principal, id).await
        });
    deleted.await?;
    Ok(NoContent)
}
