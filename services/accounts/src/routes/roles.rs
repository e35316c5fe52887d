//! Roles of the tenant, and all permissions that there are.

use dotmac_platform::{
    access::{PermissionSet, PermissionSpec},
    audit::Acts as _,
    db::types::{Id, Moment},
    prelude::*,
    routing::{CursorScope, Idempotency, IfMatch, Page, Paging, Sort, SortColumn, Versioned},
};
use garde::Validate;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use super::{BODY, CALLS, etag, page_of_all, visible};
use crate::{
    AccountsError, ReadRoles, WriteRoles,
    problems::{OF_ADMINISTRATION, OF_LIST, OF_READING},
    rules::roles as rules,
    service::Service,
    store::{
        roles::{self as store, Role, RoleGrants, RoleRow},
        slice::{ByCreation, Slice},
    },
};

pub(super) fn declare_permissions(routes: &mut Routes) {
    routes
        .get("", list_permissions)
        .problems(OF_LIST)
        .summary("Every permission that there is")
        .rate_limit(CALLS);
}

pub(super) fn declare(routes: &mut Routes) {
    routes
        .get("", list_roles)
        .problems(OF_LIST)
        .summary("The roles of the tenant")
        .rate_limit(CALLS);
    routes
        .post("", create_role)
        .problems(OF_ADMINISTRATION)
        .summary("Make a role")
        .rate_limit(CALLS)
        .body_limit(BODY);
    routes
        .get("/{id}", find_role)
        .problems(OF_READING)
        .summary("One role")
        .rate_limit(CALLS);
    routes
        .patch("/{id}", change_role)
        .problems(OF_ADMINISTRATION)
        .summary("Change a role")
        .rate_limit(CALLS)
        .body_limit(BODY);
    routes
        .delete("/{id}", delete_role)
        .problems(OF_ADMINISTRATION)
        .summary("Delete a role")
        .rate_limit(CALLS);
}

/// A role.
#[derive(Serialize, ToSchema)]
struct RoleBody {
    id: Uuid,
    name: String,
    description: String,
    /// Whether every tenant has it; then it cannot be changed.
    is_system: bool,
    /// Permissions that it gives: names, or patterns as `accounts.users.*`.
    permissions: Vec<String>,
    /// Permissions that it takes away, whatever gives them.
    denied: Vec<String>,
    created_at: Moment,
    etag: String,
}

/// A role to be.
#[derive(Deserialize, Validate, ToSchema)]
struct RolePost {
    #[garde(length(chars, min = 1, max = 100), custom(visible))]
    name: String,
    #[serde(default)]
    #[garde(length(chars, max = 500), custom(visible))]
    description: String,
    #[serde(default)]
    #[garde(length(max = 200), inner(length(bytes, min = 1, max = 200)))]
    permissions: Vec<String>,
    #[serde(default)]
    #[garde(length(max = 200), inner(length(bytes, min = 1, max = 200)))]
    denied: Vec<String>,
}

/// What may be changed of a role.
#[derive(Default, Deserialize, Validate, ToSchema)]
pub(super) struct RolePatch {
    #[garde(inner(length(chars, min = 1, max = 100), custom(visible)))]
    pub(super) name: Option<String>,
    #[garde(inner(length(chars, max = 500), custom(visible)))]
    pub(super) description: Option<String>,
    #[garde(inner(length(max = 200), inner(length(bytes, min = 1, max = 200))))]
    pub(super) permissions: Option<Vec<String>>,
    #[garde(inner(length(max = 200), inner(length(bytes, min = 1, max = 200))))]
    pub(super) denied: Option<Vec<String>>,
}

/// Which roles.
#[derive(Deserialize, IntoParams)]
struct RoleFilter {
    /// Those that every tenant has, or the tenant's own.
    is_system: Option<bool>,
}

/// The sort key of permissions.
#[derive(Clone, Copy, Debug, PartialEq)]
enum PermissionColumn {
    Name,
}

impl SortColumn for PermissionColumn {
    const COLUMNS: &'static [(&'static str, Self)] = &[("name", Self::Name)];
    const DEFAULT: Sort<Self> = Sort::ascending(Self::Name);
}

/// A permission.
#[derive(Serialize, ToSchema)]
struct PermissionBody {
    name: &'static str,
    /// What it allows, in a sentence.
    description: &'static str,
}

impl From<PermissionSpec> for PermissionBody {
    fn from(spec: PermissionSpec) -> Self {
        Self {
            name: spec.name,
            description: spec.description.trim(),
        }
    }
}

fn versioned((row, grants): (RoleRow, RoleGrants)) -> Versioned<RoleBody> {
    Versioned {
        version: row.version,
        body: body(row, grants),
    }
}

fn body(row: RoleRow, grants: RoleGrants) -> RoleBody {
    RoleBody {
        id: row.id.uuid(),
        name: row.name,
        description: row.description,
        is_system: row.is_system,
        permissions: grants.allow,
        denied: grants.deny,
        created_at: row.created_at,
        etag: etag(row.version),
    }
}

/// Sorted, each once.
fn grants(mut allow: Vec<String>, mut deny: Vec<String>) -> RoleGrants {
    for names in [&mut allow, &mut deny] {
        names.sort();
        names.dedup();
    }
    RoleGrants { allow, deny }
}

async fn list_permissions(
    who: Can<ReadRoles>,
    sort: Sort<PermissionColumn>,
    paging: Paging,
) -> Result<Page<PermissionBody>, AccountsError> {
    let order = sort.to_string();
    let bound = CursorScope {
        sort: &order,
        ..CursorScope::of(who.tenant, "permissions")
    };
    let (all, name) = (PermissionSet::all().specs(), |it: &PermissionSpec| {
        it.name.to_owned()
    });
    let page = page_of_all(&paging, &bound, sort.is_descending, all, name)?;
    Ok(page.map(PermissionBody::from))
}

async fn list_roles(
    who: Can<ReadRoles>,
    on: Use<Service>,
    filter: Query<RoleFilter>,
    sort: Sort<ByCreation>,
    paging: Paging,
) -> Result<Page<RoleBody>, AccountsError> {
    let (is_system, order) = (filter.into_inner().is_system, sort.to_string());
    let filtered = format!("{is_system:?}");
    let bound = CursorScope {
        tenant: who.tenant,
        list: "roles",
        sort: &order,
        filter: &filtered,
    };
    let (window, db) = (paging.window(&bound)?, on.db.tenant(&who.scope()));
    let read = db.read("list roles", async move |tx| {
        let found = rows!(window, |after, limit| store::page(
            tx,
            is_system,
            Slice::new(sort, after, limit)
        ))?;
        let ids = found.rows.iter().map(|row| row.id).collect();
        let mut grants = store::grants_of(tx, ids).await?;
        Ok::<_, AccountsError>(found.map(|row| {
            let grants = grants.remove(&row.id).unwrap_or_default();
            body(row, grants)
        }))
    });
    Ok(paging.page(&bound, read.await?, |role| Id::<Role>::from_uuid(role.id)))
}

async fn create_role(
    who: Can<WriteRoles>,
    on: Use<Service>,
    new: Valid<RolePost>,
    once: Idempotency,
) -> Result<Created<Versioned<RoleBody>>, AccountsError> {
    let RolePost {
        name,
        description,
        permissions,
        denied,
    } = new.into_inner();
    on.stepped_up_person(&who)?;
    rules::check_names("permissions", &permissions)?;
    rules::check_names("denied", &denied)?;
    let (principal, grants) = ((*who).clone(), grants(permissions, denied));
    let created = on
        .db
        .tenant(&who.scope())
        .act("create role", async move |tx| {
            let made = rules::create(tx, &principal, name, description, grants).await?;
            let body = versioned(rules::find(tx, made.id).await?);
            let location = format!("/api/v1/roles/{}", made.id);
            let kept = once.keep(tx, Created { location, body });
            Ok::<_, AccountsError>(made.map(|_| kept))
        });
    created.await
}

async fn find_role(
    who: Can<ReadRoles>,
    on: Use<Service>,
    id: Path<Id<Role>>,
) -> Result<Versioned<RoleBody>, AccountsError> {
    let found = on
        .db
        .tenant(&who.scope())
        .read("find role", async move |tx| rules::find(tx, *id).await);
    Ok(versioned(found.await?))
}

async fn change_role(
    who: Can<WriteRoles>,
    on: Use<Service>,
    id: Path<Id<Role>>,
    seen: IfMatch,
    patch: Valid<RolePatch>,
) -> Result<Versioned<RoleBody>, AccountsError> {
    let changed = change(&who, &on, *id, seen, patch.into_inner()).await?;
    Ok(versioned(changed))
}

/// Changes a role as far as the patch says; what it is then.
pub(super) async fn change(
    who: &Can<WriteRoles>,
    on: &Service,
    id: Id<Role>,
    seen: IfMatch,
    patch: RolePatch,
) -> Result<(RoleRow, RoleGrants), AccountsError> {
    let RolePatch {
        name,
        description,
        permissions,
        denied,
    } = patch;
    on.stepped_up_person(who)?;
    rules::check_names("permissions", permissions.as_deref().unwrap_or_default())?;
    rules::check_names("denied", denied.as_deref().unwrap_or_default())?;
    let (principal, changes) = ((**who).clone(), on.changes.clone());
    let updated = on
        .db
        .tenant(&who.scope())
        .act("change role", async move |tx| {
            let (row, present) = rules::find(tx, id).await?;
            seen.check(row.version)?;
            let texts = (
                name.unwrap_or_else(|| row.name.clone()),
                description.unwrap_or_else(|| row.description.clone()),
            );
            let is_given = permissions.is_some() || denied.is_some();
            let new = grants(
                permissions.unwrap_or(present.allow),
                denied.unwrap_or(present.deny),
            );
            let new = is_given.then_some(new);
            let done = rules::update(tx, &changes, &principal, row, texts, new).await?;
            let found = rules::find(tx, id).await?;
            Ok::<_, AccountsError>(done.map(|()| found))
        });
    updated.await
}

async fn delete_role(
    who: Can<WriteRoles>,
    on: Use<Service>,
    id: Path<Id<Role>>,
    seen: IfMatch,
) -> Result<NoContent, AccountsError> {
    on.stepped_up_person(&who)?;
    let (principal, changes, id) = ((*who).clone(), on.changes.clone(), *id);
    let deleted = on
        .db
        .tenant(&who.scope())
        .act("delete role", async move |tx| {
            let (row, _) = rules::find(tx, id).await?;
            seen.check(row.version)?;
            rules::delete(tx, &changes, &principal, &row).await
        });
    deleted.await?;
    Ok(NoContent)
}
