//! The caller's tenant, its members, and new tenants.

use dotmac_platform::{
    audit::{AcrossActs as _, Acts as _},
    db::{
        AcrossTx, Tenant,
        types::{Id, Moment},
    },
    prelude::*,
    routing::{CursorScope, Idempotency, IfMatch, Page, Paging, Sort, Versioned},
};
use garde::Validate;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use super::{BODY, CALLS, etag, page_of_all, visible};
use crate::{
    AccountsError, CreateTenants, ReadMembers, ReadTenants, WriteMembers, WriteTenants,
    problems::{OF_ADMINISTRATION, OF_LIST, OF_READING},
    rules::tenants as rules,
    service::{self, Service},
    store::{
        slice::{ByCreation, Slice},
        tenants::{self as store, TenantRow},
        user_pages::{self, MemberColumn},
        users::{self, User, UserRow},
    },
};

pub(super) fn declare(routes: &mut Routes) {
    routes
        .get("", list_tenants)
        .problems(OF_LIST)
        .summary("The tenants that you are a member of")
        .rate_limit(CALLS);
    routes
        .post("", create_tenant)
        .problems(OF_ADMINISTRATION)
        .summary("Make a tenant; you are its owner")
        .rate_limit(CALLS)
        .body_limit(BODY);
    routes
        .get("/{id}", find_tenant)
        .problems(OF_READING)
        .summary("Your tenant")
        .rate_limit(CALLS);
    routes
        .patch("/{id}", change_tenant)
        .problems(OF_ADMINISTRATION)
        .summary("Rename your tenant")
        .rate_limit(CALLS)
        .body_limit(BODY);
    routes
        .get("/{id}/members", list_members)
        .problems(OF_READING)
        .summary("The members of your tenant")
        .rate_limit(CALLS);
    routes
        .delete("/{id}/members/{user}", remove_member)
        .problems(OF_ADMINISTRATION)
        .summary("End a membership")
        .rate_limit(CALLS);
}

/// A tenant.
#[derive(Serialize, ToSchema)]
struct TenantView {
    id: Uuid,
    slug: String,
    name: String,
    /// `active` or `disabled`.
    status: String,
    created_at: Moment,
    etag: String,
}

/// A tenant to be.
#[derive(Deserialize, Validate, ToSchema)]
struct TenantPost {
    /// 2 to 40 of `a-z`, `0-9` and `-`, a letter first.
    #[garde(custom(is_slug))]
    slug: String,
    #[garde(length(chars, min = 1, max = 200), custom(visible))]
    name: String,
}

/// What may be changed of a tenant.
#[derive(Deserialize, Validate, ToSchema)]
struct TenantPatch {
    #[garde(inner(length(chars, min = 1, max = 200), custom(visible)))]
    name: Option<String>,
}

/// A member of a tenant.
#[derive(Serialize, ToSchema)]
struct Member {
    user_id: Uuid,
    email: Option<String>,
    full_name: Option<String>,
    /// `active` or `disabled`.
    status: String,
    joined_at: Moment,
    /// That of the user.
    etag: String,
}

fn is_slug(text: &str, _: &()) -> garde::Result {
    let is_right = (2..=40).contains(&text.len())
        && text.starts_with(|first: char| first.is_ascii_lowercase())
        && !text.ends_with('-')
        && text
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
    if is_right {
        Ok(())
    } else {
        Err(garde::Error::new(
            "must be 2 to 40 of a-z, 0-9 and `-`, a letter first and no `-` last",
        ))
    }
}

fn view(row: TenantRow) -> TenantView {
    TenantView {
        id: row.id.uuid(),
        slug: row.slug,
        name: row.name,
        status: row.status,
        created_at: row.created_at,
        etag: etag(row.version),
    }
}

fn versioned(row: TenantRow) -> Versioned<TenantView> {
    Versioned {
        version: row.version,
        body: view(row),
    }
}

async fn list_tenants(
    who: Authenticated,
    on: Use<Service>,
    sort: Sort<ByCreation>,
    paging: Paging,
) -> Result<Page<TenantView>, AccountsError> {
    let (user, own) = (Id::from_uuid(who.id), who.tenant);
    let is_person = service::person(&who).is_ok();
    let read = on.open_db.read("list own tenants", async move |c| {
        // A key is good for one tenant, and says nothing of the others.
        let ids = if is_person {
            users::tenants(c, user).await?
        } else {
            vec![own]
        };
        store::find_all(c, ids).await
    });
    let bound = CursorScope {
        tenant: who.tenant,
        list: "tenants",
        sort: &sort.to_string(),
        filter: &who.id.to_string(),
    };
    let tenants = read.await?;
    let page = page_of_all(&paging, &bound, sort.is_descending, tenants, |row| row.id)?;
    Ok(page.map(view))
}

async fn create_tenant(
    who: Can<CreateTenants>,
    on: Use<Service>,
    new: Valid<TenantPost>,
    once: Idempotency,
) -> Result<Created<Versioned<TenantView>>, AccountsError> {
    on.stepped_up_person(&who)?;
    let TenantPost { slug, name } = new.into_inner();
    let (owner, changes) = (Id::from_uuid(who.id), on.changes.clone());
    let created =
        on.asked_by(&who)
            .act_across("create tenant", async move |mut tx: AcrossTx<'_>| {
                let made = rules::create(&mut tx, &changes, owner, slug, name).await?;
                let system = tx.system().await?;
                Ok::<_, AccountsError>(made.map(|row| {
                    let location = format!("/api/v1/tenants/{}", row.id);
                    let body = versioned(row);
                    once.keep(system, Created { location, body })
                }))
            });
    created.await
}

async fn find_tenant(
    who: Can<ReadTenants>,
    on: Use<Service>,
    id: Path<Id<Tenant>>,
) -> Result<Versioned<TenantView>, AccountsError> {
    let found = on
        .db
        .tenant(&who.scope())
        .read("find tenant", async move |tx| rules::find(tx, *id).await);
    Ok(versioned(found.await?))
}

async fn change_tenant(
    who: Can<WriteTenants>,
    on: Use<Service>,
    id: Path<Id<Tenant>>,
    seen: IfMatch,
    patch: Valid<TenantPatch>,
) -> Result<Versioned<TenantView>, AccountsError> {
    service::person(&who)?;
    let (id, name) = (*id, patch.into_inner().name);
    let updated = on
        .db
        .tenant(&who.scope())
        .transaction("change tenant", async move |tx| {
            let row = rules::find(tx, id).await?;
            seen.check(row.version)?;
            if let Some(name) = name {
                rules::rename(tx, &row, name).await?;
            }
            rules::find(tx, id).await
        });
    Ok(versioned(updated.await?))
}

async fn list_members(
    who: Can<ReadMembers>,
    on: Use<Service>,
    id: Path<Id<Tenant>>,
    sort: Sort<MemberColumn>,
    paging: Paging,
) -> Result<Page<Member>, AccountsError> {
    let (order, id) = (sort.to_string(), *id);
    let bound = CursorScope {
        sort: &order,
        ..CursorScope::of(who.tenant, "members")
    };
    let (window, db) = (paging.window(&bound)?, on.db.tenant(&who.scope()));
    let read = db.read("list members", async move |tx| {
        rules::find(tx, id).await?;
        Ok::<_, AccountsError>(rows!(window, |after, limit| user_pages::members(
            tx,
            Slice::new(sort, after, limit)
        ))?)
    });
    let member = |(user, status, joined_at): (UserRow, String, Moment)| Member {
        etag: etag(user.version),
        user_id: user.id.uuid(),
        email: user.email,
        full_name: user.full_name,
        status,
        joined_at,
    };
    let page = paging.page(&bound, read.await?, |(user, _, joined_at)| {
        (*joined_at, user.id)
    });
    Ok(page.map(member))
}

async fn remove_member(
    who: Can<WriteMembers>,
    on: Use<Service>,
    path: Path<(Id<Tenant>, Id<User>)>,
    seen: IfMatch,
) -> Result<NoContent, AccountsError> {
    on.stepped_up_person(&who)?;
    let (principal, changes, (tenant, user)) = ((*who).clone(), on.changes.clone(), *path);
    let removed = on
        .db
        .tenant(&who.scope())
        .act("remove member", async move |tx| {
            rules::find(tx, tenant).await?;
            rules::remove_member(tx, &changes, &principal, user, &seen).await
        });
    removed.await?;
    Ok(NoContent)
}
