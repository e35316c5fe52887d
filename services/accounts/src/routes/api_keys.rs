//! API keys: those of the tenant for its administrators, and the caller's own.

use std::time::Duration;

use dotmac_platform::{
    db::types::{Id, Moment},
    prelude::*,
    routing::{CursorScope, Idempotency, IfMatch, Noted, Page, Paging},
};
use garde::Validate;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use super::{BODY, CALLS, REPORTS, etag, refused, visible};
use crate::{
    AccountsError, ReadApiKeys, WriteApiKeys,
    rules::{
        api_keys::{self as rules, LONGEST_OVERLAP, NewKey},
        roles,
    },
    service::{self, Service},
    store::{
        api_keys::{self as store, ApiKey, ApiKeyRow, KeyRules},
        bindings::Holder,
        users::UserId,
    },
};

/// How long the former secret of a rotated key counts if nothing else is said.
const OVERLAP: Duration = Duration::from_secs(24 * 3600);

pub(super) fn declare(routes: &mut Routes) {
    routes
        .get("", list_keys)
        .summary("The API keys of the tenant")
        .rate_limit(CALLS);
    routes
        .post("", create_key)
        .summary("Make an API key, for a service account or for yourself")
        .rate_limit(CALLS)
        .body_limit(BODY)
        .secret_answer();
    routes
        .get("/{id}", find_key)
        .summary("One API key")
        .rate_limit(CALLS);
    routes
        .delete("/{id}", revoke_key)
        .summary("Revoke an API key")
        .rate_limit(CALLS);
    routes
        .post("/{id}/rotate", rotate_key)
        .summary("Give an API key another secret")
        .rate_limit(CALLS)
        .body_limit(BODY);
}

/// Those of the caller, below `/auth/me/api-keys`.
pub(super) fn declare_own(routes: &mut Routes) {
    routes
        .get("", list_own_keys)
        .summary("Your own API keys")
        .rate_limit(CALLS);
    routes
        .post("", create_own_key)
        .summary("Make an API key of your own")
        .rate_limit(CALLS)
        .body_limit(BODY)
        .secret_answer();
    routes
        .delete("/{id}", revoke_own_key)
        .summary("Revoke an API key of your own")
        .rate_limit(CALLS);
    routes
        .post("/{id}/rotate", rotate_own_key)
        .summary("Give an API key of your own another secret")
        .rate_limit(CALLS)
        .body_limit(BODY);
}

/// Below `/keys`: for scanners, and for anybody who finds one.
pub(super) fn declare_reports(routes: &mut Routes) {
    routes
        .post("/report", report_key)
        .summary("Report an API key that was found; it is revoked")
        .rate_limit(REPORTS)
        .body_limit(BODY);
}

/// An API key. Its text is only in the answer that made it.
#[derive(Serialize, ToSchema)]
struct KeyBody {
    id: Uuid,
    name: String,
    /// What its text begins with.
    prefix: String,
    /// Whose it is, if it is a service account's.
    service_account_id: Option<Uuid>,
    /// Whose it is, if it is a person's.
    user_id: Option<Uuid>,
    scopes: Vec<String>,
    cidrs: Vec<String>,
    created_at: Moment,
    expires_at: Option<Moment>,
    last_used_at: Option<Moment>,
    /// While a rotated key has two secrets: until when the former counts, and when the next was last used.
    former_until: Option<Moment>,
    next_last_used_at: Option<Moment>,
    etag: String,
}

/// A key that was made, with its text.
#[derive(Serialize, ToSchema)]
struct MadeKey {
    /// The key, shown this once.
    key: String,
    #[serde(flatten)]
    about: KeyBody,
}

/// A key to be.
#[derive(Deserialize, Validate, ToSchema)]
struct KeyPost {
    #[garde(length(chars, min = 1, max = 100), custom(visible))]
    name: String,
    /// Without it the key is the caller's own.
    #[serde(default)]
    #[garde(skip)]
    service_account_id: Option<Uuid>,
    /// Permissions; it has those of them that its owner has as well.
    #[garde(length(min = 1, max = 100), inner(length(bytes, min = 1, max = 200)))]
    scopes: Vec<String>,
    /// 90 days away unless it is said; at most a year.
    #[serde(default)]
    #[garde(skip)]
    expires_at: Option<Moment>,
    /// Networks that it may be used from.
    #[serde(default)]
    #[garde(length(max = 50))]
    cidrs: Vec<String>,
}

/// How a key is rotated.
#[derive(Deserialize, Validate, ToSchema)]
struct Rotation {
    /// How long the former secret counts beside the new one, as `24h`; at most `7d`. `0s` ends it at once.
    #[serde(default)]
    #[garde(inner(length(bytes, max = 20)))]
    overlap: Option<String>,
}

/// A key that was found.
#[derive(Deserialize, Validate, ToSchema)]
struct Report {
    #[garde(length(bytes, min = 1, max = 256))]
    key: String,
}

fn body(row: ApiKeyRow) -> KeyBody {
    let prefix = row
        .holder()
        .map(|holder| rules::prefix(holder).text())
        .unwrap_or_default();
    KeyBody {
        id: row.id.uuid(),
        name: row.name,
        prefix: format!("{prefix}{}", row.public_id),
        service_account_id: row.service_account_id.map(Id::uuid),
        user_id: row.user_id.map(Id::uuid),
        scopes: row.rules.0.scopes,
        cidrs: row.rules.0.cidrs.iter().map(ToString::to_string).collect(),
        created_at: row.created_at,
        expires_at: row.expires_at,
        last_used_at: row.last_used_at,
        former_until: row.hash_until.filter(|_| row.next_hash.is_some()),
        next_last_used_at: row.next_last_used_at,
        etag: etag(row.version),
    }
}

async fn page(
    who: &dotmac_platform::access::Principal,
    on: &Service,
    of: Option<UserId>,
    paging: Paging,
) -> Result<Page<KeyBody>, AccountsError> {
    let filter = of.map(|of| of.to_string()).unwrap_or_default();
    let bound = CursorScope {
        tenant: who.tenant,
        list: "api-keys",
        sort: "",
        filter: &filter,
    };
    let (after, rows) = (paging.after::<Id<ApiKey>>(&bound)?, paging.rows());
    let read = on
        .db
        .tenant(&who.scope())
        .read("list API keys", async move |tx| {
            store::page(tx, of, after, rows).await
        });
    let items = read.await?.into_iter().map(body).collect();
    Ok(paging.page(&bound, items, |key| Id::<ApiKey>::from_uuid(key.id)))
}

async fn make(
    who: &dotmac_platform::access::Principal,
    on: &Service,
    new: KeyPost,
    once: Idempotency,
) -> Result<Created<MadeKey>, AccountsError> {
    on.stepped_up_person(who)?;
    roles::check_names("scopes", &new.scopes)?;
    let cidrs: Result<Vec<ipnet::IpNet>, _> = new.cidrs.iter().map(|text| text.parse()).collect();
    let cidrs = cidrs.map_err(|_| {
        refused(
            "cidrs",
            "are networks, as `192.0.2.0/24` or `2001:db8::/32`",
        )
    })?;
    let holder = match new.service_account_id {
        Some(id) => Holder::Service(Id::from_uuid(id)),
        None => Holder::User(Id::from_uuid(who.id)),
    };
    let new = NewKey {
        holder,
        name: new.name,
        rules: KeyRules {
            scopes: new.scopes,
            cidrs,
        },
        expires_at: new.expires_at,
    };
    let principal = who.clone();
    let created = on
        .db
        .tenant(&who.scope())
        .transaction("create API key", async move |tx| {
            let (row, text) = rules::create(tx, &principal, new).await?;
            let location = format!("/api/v1/api-keys/{}", row.id);
            let body = MadeKey {
                key: text.expose_secret().to_owned(),
                about: body(row),
            };
            Ok::<_, AccountsError>(once.keep(tx, Created { location, body }))
        });
    created.await
}

async fn revoke(
    who: &dotmac_platform::access::Principal,
    on: &Service,
    id: Id<ApiKey>,
    of: Option<UserId>,
    seen: IfMatch,
) -> Result<NoContent, AccountsError> {
    let (principal, changes) = (who.clone(), on.changes.clone());
    let revoked = on
        .db
        .tenant(&who.scope())
        .transaction("revoke API key", async move |tx| {
            let row = rules::find(tx, id, of).await?;
            seen.check(row.version)?;
            rules::revoke(tx, &changes, &principal, &row).await
        });
    revoked.await?;
    Ok(NoContent)
}

async fn rotate(
    who: &dotmac_platform::access::Principal,
    on: &Service,
    id: Id<ApiKey>,
    of: Option<UserId>,
    rotation: Rotation,
) -> Result<Json<MadeKey>, AccountsError> {
    use dotmac_platform::settings::Setting as _;
    on.stepped_up_person(who)?;
    let overlap = match &rotation.overlap {
        None => OVERLAP,
        Some(text) => Duration::parse(text)
            .ok()
            .filter(|overlap| *overlap <= LONGEST_OVERLAP)
            .ok_or_else(|| {
                refused(
                    "overlap",
                    "is a time with its unit, as `24h`, and at most `7d`",
                )
            })?,
    };
    let (principal, changes) = (who.clone(), on.changes.clone());
    let rotated = on
        .db
        .tenant(&who.scope())
        .transaction("rotate API key", async move |tx| {
            let row = rules::find(tx, id, of).await?;
            let text = rules::rotate(tx, &changes, &principal, &row, overlap).await?;
            Ok::<(SecretString, ApiKeyRow), AccountsError>((text, rules::find(tx, id, of).await?))
        });
    let (text, row) = rotated.await?;
    Ok(Json(MadeKey {
        key: text.expose_secret().to_owned(),
        about: body(row),
    }))
}

async fn list_keys(
    who: Can<ReadApiKeys>,
    on: Use<Service>,
    paging: Paging,
) -> Result<Page<KeyBody>, AccountsError> {
    page(&who, &on, None, paging).await
}

async fn create_key(
    who: Can<WriteApiKeys>,
    on: Use<Service>,
    new: Valid<KeyPost>,
    once: Idempotency,
) -> Result<Created<MadeKey>, AccountsError> {
    make(&who, &on, new.into_inner(), once).await
}

async fn find_key(
    who: Can<ReadApiKeys>,
    on: Use<Service>,
    id: Path<Id<ApiKey>>,
) -> Result<dotmac_platform::routing::Versioned<KeyBody>, AccountsError> {
    let db = on.db.tenant(&who.scope());
    let row = db
        .read("find API key", async move |tx| {
            rules::find(tx, *id, None).await
        })
        .await?;
    Ok(dotmac_platform::routing::Versioned {
        version: row.version,
        body: body(row),
    })
}

async fn revoke_key(
    who: Can<WriteApiKeys>,
    on: Use<Service>,
    id: Path<Id<ApiKey>>,
    seen: IfMatch,
) -> Result<NoContent, AccountsError> {
    revoke(&who, &on, *id, None, seen).await
}

async fn rotate_key(
    who: Can<WriteApiKeys>,
    on: Use<Service>,
    id: Path<Id<ApiKey>>,
    rotation: Valid<Rotation>,
) -> Result<Json<MadeKey>, AccountsError> {
    rotate(&who, &on, *id, None, rotation.into_inner()).await
}

async fn list_own_keys(
    who: Authenticated,
    on: Use<Service>,
    paging: Paging,
) -> Result<Page<KeyBody>, AccountsError> {
    service::person(&who)?;
    let me = Id::from_uuid(who.id);
    page(&who, &on, Some(me), paging).await
}

async fn create_own_key(
    who: Authenticated,
    on: Use<Service>,
    new: Valid<KeyPost>,
    once: Idempotency,
) -> Result<Created<MadeKey>, AccountsError> {
    let new = new.into_inner();
    if new.service_account_id.is_some() {
        return Err(refused(
            "service_account_id",
            "is for POST /api/v1/api-keys",
        ));
    }
    make(&who, &on, new, once).await
}

async fn revoke_own_key(
    who: Authenticated,
    on: Use<Service>,
    id: Path<Id<ApiKey>>,
    seen: IfMatch,
) -> Result<NoContent, AccountsError> {
    let me = Id::from_uuid(who.id);
    revoke(&who, &on, *id, Some(me), seen).await
}

async fn rotate_own_key(
    who: Authenticated,
    on: Use<Service>,
    id: Path<Id<ApiKey>>,
    rotation: Valid<Rotation>,
) -> Result<Json<MadeKey>, AccountsError> {
    let me = Id::from_uuid(who.id);
    rotate(&who, &on, *id, Some(me), rotation.into_inner()).await
}

/// The same answer whether it was a key or not.
async fn report_key(
    _: Public,
    on: Use<Service>,
    report: Valid<Report>,
) -> Result<Noted, AccountsError> {
    let (changes, key) = (
        on.changes.clone(),
        SecretString::from(report.into_inner().key),
    );
    if !rules::is_well_formed(key.expose_secret()) {
        return Ok(Noted);
    }
    let reported = on.open_db.transaction("report API key", async move |tx| {
        rules::report(tx, &changes, key.expose_secret()).await
    });
    reported.await?;
    Ok(Noted)
}
