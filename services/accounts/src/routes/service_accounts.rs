//! Service accounts of the tenant.

use dotmac_platform::{
    audit::Acts as _,
    db::types::{Id, Moment},
    prelude::*,
    routing::{CursorScope, Idempotency, IfMatch, Page, Paging, Sort, Versioned},
};
use garde::Validate;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use super::{BODY, CALLS, etag, status, visible};
use crate::{
    AccountsError, ReadServiceAccounts, WriteServiceAccounts,
    problems::{OF_ADMINISTRATION, OF_LIST, OF_READING},
    rules::service_accounts as rules,
    service::Service,
    store::{
        ACTIVE, DISABLED,
        service_accounts::{self as store, ServiceAccount, ServiceAccountRow},
        slice::{ByCreation, Slice},
    },
};

pub(super) fn declare(routes: &mut Routes) {
    routes
        .get("", list_service_accounts)
        .problems(OF_LIST)
        .summary("The service accounts of the tenant")
        .rate_limit(CALLS);
    routes
        .post("", create_service_account)
        .problems(OF_ADMINISTRATION)
        .summary("Make a service account")
        .rate_limit(CALLS)
        .body_limit(BODY);
    routes
        .get("/{id}", find_service_account)
        .problems(OF_READING)
        .summary("One service account")
        .rate_limit(CALLS);
    routes
        .patch("/{id}", change_service_account)
        .problems(OF_ADMINISTRATION)
        .summary("Rename a service account, or disable it")
        .rate_limit(CALLS)
        .body_limit(BODY);
    routes
        .delete("/{id}", delete_service_account)
        .problems(OF_ADMINISTRATION)
        .summary("Delete a service account with its keys")
        .rate_limit(CALLS);
}

/// A service account.
#[derive(Serialize, ToSchema)]
struct ServiceAccountBody {
    id: Uuid,
    name: String,
    /// `active` or `disabled`.
    status: String,
    created_at: Moment,
    etag: String,
}

/// A service account to be.
#[derive(Deserialize, Validate, ToSchema)]
struct ServiceAccountPost {
    #[garde(length(chars, min = 1, max = 100), custom(visible))]
    name: String,
}

/// What may be changed of a service account.
#[derive(Deserialize, Validate, ToSchema)]
struct ServiceAccountPatch {
    #[garde(inner(length(chars, min = 1, max = 100), custom(visible)))]
    name: Option<String>,
    #[garde(skip)]
    status: Option<Status>,
}

/// Which service accounts.
#[derive(Deserialize, IntoParams)]
struct ServiceAccountFilter {
    /// `active` or `disabled`.
    status: Option<String>,
}

/// Whether the keys of an account are valid.
#[derive(Clone, Copy, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum Status {
    Active,
    Disabled,
}

fn body(row: ServiceAccountRow) -> ServiceAccountBody {
    ServiceAccountBody {
        id: row.id.uuid(),
        name: row.name,
        status: row.status,
        created_at: row.created_at,
        etag: etag(row.version),
    }
}

fn versioned(row: ServiceAccountRow) -> Versioned<ServiceAccountBody> {
    Versioned {
        version: row.version,
        body: body(row),
    }
}

async fn list_service_accounts(
    who: Can<ReadServiceAccounts>,
    on: Use<Service>,
    filter: Query<ServiceAccountFilter>,
    sort: Sort<ByCreation>,
    paging: Paging,
) -> Result<Page<ServiceAccountBody>, AccountsError> {
    let (status, order) = (status(filter.status.as_deref())?, sort.to_string());
    let filtered = status.clone().unwrap_or_default();
    let bound = CursorScope {
        tenant: who.tenant,
        list: "service-accounts",
        sort: &order,
        filter: &filtered,
    };
    let (window, db) = (paging.window(&bound)?, on.db.tenant(&who.scope()));
    let read = db.read("list service accounts", async move |tx| {
        rows!(window, |after, limit| store::page(
            tx,
            status.clone(),
            Slice::new(sort, after, limit)
        ))
    });
    Ok(paging.page(&bound, read.await?, |row| row.id).map(body))
}

async fn create_service_account(
    who: Can<WriteServiceAccounts>,
    on: Use<Service>,
    new: Valid<ServiceAccountPost>,
    once: Idempotency,
) -> Result<Created<Versioned<ServiceAccountBody>>, AccountsError> {
    let (principal, name) = ((*who).clone(), new.into_inner().name);
    let created = on
        .db
        .tenant(&who.scope())
        .act("create service account", async move |tx| {
            let made = rules::create(tx, &principal, name).await?;
            Ok::<_, AccountsError>(made.map(|row| {
                let location = format!("/api/v1/service-accounts/{}", row.id);
                let body = versioned(row);
                once.keep(tx, Created { location, body })
            }))
        });
    created.await
}

async fn find_service_account(
    who: Can<ReadServiceAccounts>,
    on: Use<Service>,
    id: Path<Id<ServiceAccount>>,
) -> Result<Versioned<ServiceAccountBody>, AccountsError> {
    let db = on.db.tenant(&who.scope());
    let found = db.read("find service account", async move |tx| {
        rules::find(tx, *id).await
    });
    Ok(versioned(found.await?))
}

async fn change_service_account(
    who: Can<WriteServiceAccounts>,
    on: Use<Service>,
    id: Path<Id<ServiceAccount>>,
    seen: IfMatch,
    patch: Valid<ServiceAccountPatch>,
) -> Result<Versioned<ServiceAccountBody>, AccountsError> {
    on.stepped_up_person(&who)?;
    let ServiceAccountPatch { name, status } = patch.into_inner();
    let (principal, changes, id) = ((*who).clone(), on.changes.clone(), *id);
    let updated = on
        .db
        .tenant(&who.scope())
        .act("change service account", async move |tx| {
            let row = rules::find(tx, id).await?;
            seen.check(row.version)?;
            let name = name.unwrap_or_else(|| row.name.clone());
            let is_active = match status {
                Some(Status::Active) => true,
                Some(Status::Disabled) => false,
                None => row.status == ACTIVE,
            };
            let status = if is_active { ACTIVE } else { DISABLED };
            let done = rules::update(tx, &changes, &principal, &row, name, status).await?;
            let found = rules::find(tx, id).await?;
            Ok::<_, AccountsError>(done.map(|()| found))
        });
    Ok(versioned(updated.await?))
}

async fn delete_service_account(
    who: Can<WriteServiceAccounts>,
    on: Use<Service>,
    id: Path<Id<ServiceAccount>>,
    seen: IfMatch,
) -> Result<NoContent, AccountsError> {
    on.stepped_up_person(&who)?;
    let (principal, changes, id) = ((*who).clone(), on.changes.clone(), *id);
    let deleted = on
        .db
        .tenant(&who.scope())
        .act("delete service account", async move |tx| {
            let row = rules::find(tx, id).await?;
            seen.check(row.version)?;
            rules::delete(tx, &changes, &principal, &row).await
        });
    deleted.await?;
    Ok(NoContent)
}
