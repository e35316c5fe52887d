//! API keys: those of the tenant for its administrators; the caller's [own]; those that were [found](reports).

mod filter;
pub(super) mod own;
pub(super) mod reports;

use std::time::Duration;

use dotmac_platform::{
    access::Principal,
    audit::Acts as _,
    db::types::{Id, Moment},
    prelude::*,
    routing::{CursorScope, Idempotency, IfMatch, Page, Paging, Sort, Versioned},
};
use garde::Validate;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use self::filter::KeyFilter;
use super::{BODY, CALLS, etag, refused, visible};
use crate::{
    AccountsError, ReadApiKeys, WriteApiKeys,
    problems::{OF_ADMINISTRATION, OF_LIST, OF_READING},
    rules::{
        api_keys::{self as rules, Expiry, LONGEST_OVERLAP, NewKey},
        roles,
    },
    service::Service,
    store::{
        api_keys::{self as store, ApiKey, ApiKeyRow, KeyRules},
        bindings::Holder,
        slice::{ByCreation, Slice},
        users::UserId,
    },
};

/// How long the former secret of a rotated key stays valid by default.
const OVERLAP: Duration = Duration::from_secs(24 * 3600);

pub(super) fn declare(routes: &mut Routes) {
    routes
        .get("", list_keys)
        .problems(OF_LIST)
        .summary("The API keys of the tenant")
        .rate_limit(CALLS);
    routes
        .post("", create_key)
        .problems(OF_ADMINISTRATION)
        .summary("Make an API key, for a service account or for yourself")
        .rate_limit(CALLS)
        .body_limit(BODY)
        .secret_answer();
    routes
        .get("/{id}", find_key)
        .problems(OF_READING)
        .summary("One API key")
        .rate_limit(CALLS);
    routes
        .delete("/{id}", revoke_key)
        .problems(OF_ADMINISTRATION)
        .summary("Revoke an API key")
        .rate_limit(CALLS);
    routes
        .post("/{id}/rotate", rotate_key)
        .problems(OF_ADMINISTRATION)
        .summary("Give an API key another secret")
        .rate_limit(CALLS)
        .body_limit(BODY);
}

/// An API key. Its text is only in the answer that made it.
#[derive(Serialize, ToSchema)]
struct KeyBody {
    id: Uuid,
    name: String,
    /// What its text begins with.
    prefix: String,
    /// The service account that owns it, unless a user does.
    service_account_id: Option<Uuid>,
    /// The user who owns it, unless a service account does.
    user_id: Option<Uuid>,
    scopes: Vec<String>,
    cidrs: Vec<String>,
    /// Its requests in a minute, over all routes; null if only the limits of the routes apply.
    requests_per_minute: Option<u32>,
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
    /// 90 days away by default; at most a year, or `never` with the permission `accounts.api_keys.never_expire`.
    #[serde(default)]
    #[garde(skip)]
    expires_at: Option<KeyEnd>,
    /// Networks that it may be used from.
    #[serde(default)]
    #[garde(length(max = 50), inner(length(bytes, max = 64)))]
    cidrs: Vec<String>,
    /// Its requests in a minute, over all routes, in addition to the limits of the routes.
    #[serde(default)]
    #[garde(inner(range(min = 1, max = 60_000)))]
    requests_per_minute: Option<u32>,
}

/// When a key ends.
#[derive(Deserialize, ToSchema)]
#[serde(untagged)]
enum KeyEnd {
    At(Moment),
    Never(Never),
}

/// The word `never`.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum Never {
    Never,
}

impl From<Option<KeyEnd>> for Expiry {
    fn from(end: Option<KeyEnd>) -> Self {
        match end {
            None => Self::Usual,
            Some(KeyEnd::At(at)) => Self::At(at),
            Some(KeyEnd::Never(Never::Never)) => Self::Never,
        }
    }
}

/// How a key is rotated.
#[derive(Deserialize, Validate, ToSchema)]
struct Rotation {
    /// How long the former secret stays valid along with the new one, as `24h`; at most `7d`. `0s` ends it at once.
    #[serde(default)]
    #[garde(inner(length(bytes, max = 20)))]
    overlap: Option<String>,
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
        requests_per_minute: row.rules.0.requests_per_minute,
        created_at: row.created_at,
        expires_at: row.expires_at,
        last_used_at: row.last_used_at,
        former_until: row.hash_until.filter(|_| row.next_hash.is_some()),
        next_last_used_at: row.next_last_used_at,
        etag: etag(row.version),
    }
}

async fn page(
    who: &Principal,
    on: &Service,
    of: Option<Holder>,
    sort: Sort<ByCreation>,
    paging: Paging,
) -> Result<Page<KeyBody>, AccountsError> {
    let (filter, order) = (format!("{of:?}"), sort.to_string());
    let bound = CursorScope {
        tenant: who.tenant,
        list: "api-keys",
        sort: &order,
        filter: &filter,
    };
    let (window, db) = (paging.window(&bound)?, on.db.tenant(&who.scope()));
    let read = db.read("list API keys", async move |tx| {
        rows!(window, |after, limit| store::page(
            tx,
            of,
            Slice::new(sort, after, limit)
        ))
    });
    Ok(paging.page(&bound, read.await?, |row| row.id).map(body))
}

async fn find(
    who: &Principal,
    on: &Service,
    id: Id<ApiKey>,
    of: Option<UserId>,
) -> Result<Versioned<KeyBody>, AccountsError> {
    let db = on.db.tenant(&who.scope());
    let found = db.read("find API key", async move |tx| {
        rules::find(tx, id, of).await
    });
    let row = found.await?;
    Ok(Versioned {
        version: row.version,
        body: body(row),
    })
}

async fn make(
    who: &Principal,
    on: &Service,
    new: KeyPost,
    once: Idempotency,
) -> Result<Created<Versioned<MadeKey>>, AccountsError> {
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
            requests_per_minute: new.requests_per_minute,
        },
        expiry: new.expires_at.into(),
    };
    let principal = who.clone();
    let created = on
        .db
        .tenant(&who.scope())
        .act("create API key", async move |tx| {
            let made = rules::create(tx, &principal, new).await?;
            Ok::<_, AccountsError>(made.map(|(row, text)| {
                let location = format!("/api/v1/api-keys/{}", row.id);
                let body = made_key(text, row);
                once.keep(tx, Created { location, body })
            }))
        });
    created.await
}

async fn revoke(
    who: &Principal,
    on: &Service,
    id: Id<ApiKey>,
    of: Option<UserId>,
    seen: IfMatch,
) -> Result<NoContent, AccountsError> {
    let (principal, changes) = (who.clone(), on.changes.clone());
    let revoked = on
        .db
        .tenant(&who.scope())
        .act("revoke API key", async move |tx| {
            let row = rules::find(tx, id, of).await?;
            seen.check(row.version)?;
            rules::revoke(tx, &changes, &principal, &row).await
        });
    revoked.await?;
    Ok(NoContent)
}

async fn rotate(
    who: &Principal,
    on: &Service,
    id: Id<ApiKey>,
    of: Option<UserId>,
    rotation: Rotation,
) -> Result<Versioned<MadeKey>, AccountsError> {
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
        .act("rotate API key", async move |tx| {
            let row = rules::find(tx, id, of).await?;
            let rotated = rules::rotate(tx, &changes, &principal, &row, overlap).await?;
            let row = rules::find(tx, id, of).await?;
            Ok::<_, AccountsError>(rotated.map(|text| (text, row)))
        });
    let (text, row) = rotated.await?;
    Ok(made_key(text, row))
}

fn made_key(text: SecretString, row: ApiKeyRow) -> Versioned<MadeKey> {
    Versioned {
        version: row.version,
        body: MadeKey {
            key: text.expose_secret().to_owned(),
            about: body(row),
        },
    }
}

async fn list_keys(
    who: Can<ReadApiKeys>,
    on: Use<Service>,
    filter: Query<KeyFilter>,
    sort: Sort<ByCreation>,
    paging: Paging,
) -> Result<Page<KeyBody>, AccountsError> {
    let of = filter.into_inner().read()?;
    page(&who, &on, of, sort, paging).await
}

async fn create_key(
    who: Can<WriteApiKeys>,
    on: Use<Service>,
    new: Valid<KeyPost>,
    once: Idempotency,
) -> Result<Created<Versioned<MadeKey>>, AccountsError> {
    make(&who, &on, new.into_inner(), once).await
}

async fn find_key(
    who: Can<ReadApiKeys>,
    on: Use<Service>,
    id: Path<Id<ApiKey>>,
) -> Result<Versioned<KeyBody>, AccountsError> {
    find(&who, &on, *id, None).await
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
) -> Result<Versioned<MadeKey>, AccountsError> {
    rotate(&who, &on, *id, None, rotation.into_inner()).await
}
