//! Which permissions principals of the tenant have without a role.

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
    rules::{
        grants::{self as rules, NewGrant},
        roles,
    },
    service::Service,
    store::{
        bindings::Holder,
        grants::{self as store, Grant, GrantRow},
    },
};

pub(super) fn declare(routes: &mut Routes) {
    routes
        .get("", list_grants)
        .problems(OF_LIST)
        .summary("Which permissions principals have without a role")
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

fn body(row: &GrantRow) -> GrantBody {
    let holder = row.holder();
    GrantBody {
        id: row.id.uuid(),
        principal: holder.map(Holder::uuid).unwrap_or_default(),
        kind: holder.map_or("service", Holder::kind),
        permission: row.permission.clone(),
        granted_by: row.granted_by.clone(),
        created_at: row.created_at,
        expires_at: row.expires_at,
    }
}

async fn list_grants(
    who: Can<ReadRoles>,
    on: Use<Service>,
    paging: Paging,
) -> Result<Page<GrantBody>, AccountsError> {
    let bound = CursorScope::of(who.tenant, "grants");
    let (after, rows) = (paging.after::<Id<Grant>>(&bound)?, paging.rows());
    let read = on
        .db
        .tenant(&who.scope())
        .read("list grants", async move |tx| {
            store::page(tx, after, rows).await
        });
    let page = paging.page(&bound, read.await?, |row| row.id);
    Ok(page.map(|row| body(&row)))
}

async fn create_grant(
    who: Can<WriteRoles>,
    on: Use<Service>,
    new: Valid<GrantPost>,
    once: Idempotency,
) -> Result<Created<GrantBody>, AccountsError> {
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
            let new = NewGrant {
                holder: roles::holder(tx, principal).await?,
                permission,
                expires_at,
            };
            let given = rules::create(tx, &changes, &me, new).await?;
            Ok::<_, AccountsError>(given.map(|row| {
                let location = format!("/api/v1/grants/{}", row.id);
                let body = body(&row);
                once.keep(tx, Created { location, body })
            }))
        });
    created.await
}

async fn find_grant(
    who: Can<ReadRoles>,
    on: Use<Service>,
    id: Path<Id<Grant>>,
) -> Result<Json<GrantBody>, AccountsError> {
    let db = on.db.tenant(&who.scope());
    let found = db.read("find grant", async move |tx| store::find(tx, *id).await);
    let row = found.await?.ok_or(AccountsError::NotFound)?;
    Ok(Json(body(&row)))
}

async fn delete_grant(
    who: Can<WriteRoles>,
    on: Use<Service>,
    id: Path<Id<Grant>>,
) -> Result<NoContent, AccountsError> {
    on.stepped_up_person(&who)?;
    let (principal, changes, id) = ((*who).clone(), on.changes.clone(), *id);
    let deleted = on
        .db
        .tenant(&who.scope())
        .act("take permission away", async move |tx| {
            rules::delete(tx, &changes, &principal, id).await
        });
    deleted.await?;
    Ok(NoContent)
}
