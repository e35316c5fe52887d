//! What callers read and change of their own account.

use dotmac_platform::{
    access::PrincipalKind,
    audit::Acts as _,
    db::types::{Id, Moment},
    prelude::*,
    routing::{Change, CursorScope, IfMatch, Page, Paging, Sort, Versioned},
};
use garde::Validate;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use super::{BODY, CALLS, etag, page_of_all, session::TenantBody};
use crate::{
    AccountsError,
    problems::{OF_OWN_LIST, OF_OWN_READING, OF_SESSION},
    rules::{sessions as rules, users as user_rules},
    service::{self, Service},
    store::{
        bindings::{self, Holder},
        service_accounts, sessions,
        sessions::{Session, SessionColumn, SessionRow},
        tenants, users,
        users::ProfileChange,
    },
};

pub(super) fn declare(routes: &mut Routes) {
    routes
        .get("/me", read_me)
        .problems(OF_OWN_LIST)
        .summary("Who you are")
        .rate_limit(CALLS);
    routes
        .patch("/me", change_me)
        .problems(OF_SESSION)
        .summary("Change your profile")
        .rate_limit(CALLS)
        .body_limit(BODY);
    routes
        .get("/me/permissions", my_permissions)
        .problems(OF_OWN_LIST)
        .summary("What you may do")
        .rate_limit(CALLS);
    routes
        .get("/me/sessions", my_sessions)
        .problems(OF_OWN_LIST)
        .summary("Where you are signed in")
        .rate_limit(CALLS);
    routes
        .get("/me/sessions/{id}", my_session)
        .problems(OF_OWN_READING)
        .summary("One of your sessions")
        .rate_limit(CALLS);
    routes
        .delete("/me/sessions/{id}", end_session)
        .problems(OF_SESSION)
        .summary("End one of your sessions")
        .rate_limit(CALLS);
}

/// The caller.
#[derive(Serialize, ToSchema)]
struct Me {
    id: Uuid,
    /// `user`, `service` or `key`.
    kind: &'static str,
    email: Option<String>,
    email_verified: bool,
    username: Option<String>,
    full_name: Option<String>,
    locale: Option<String>,
    tenant: TenantBody,
    /// Names of the roles in this tenant.
    roles: Vec<String>,
    /// How strongly the caller was authenticated: 1 one factor, 2 two.
    acr: u8,
    /// When.
    authenticated_at: Moment,
    session_id: Option<Uuid>,
    etag: String,
}

/// What may be changed of one's own profile.
#[derive(Deserialize, Validate, ToSchema)]
struct MePatch {
    #[serde(default)]
    #[garde(custom(display_name))]
    full_name: Change<String>,
    /// A language tag, as `de-CH`.
    #[serde(default)]
    #[garde(custom(language_tag))]
    locale: Change<String>,
}

/// Permissions by name.
#[derive(Serialize, ToSchema)]
struct Permissions {
    permissions: Vec<&'static str>,
}

/// A session, as its owner sees it.
#[derive(Serialize, ToSchema)]
struct SessionView {
    id: Uuid,
    /// Whether it is the one that asks.
    is_current: bool,
    /// `cookie` or `token`.
    kind: String,
    device_name: Option<String>,
    /// The network that it was begun from.
    network: Option<String>,
    user_agent: Option<String>,
    created_at: Moment,
    last_seen_at: Moment,
    expires_at: Moment,
    /// Changes with each use that is noted.
    etag: String,
}

pub(super) fn display_name(change: &Change<String>, _: &()) -> garde::Result {
    match change.set() {
        Some(text) if text.is_empty() || text.chars().count() > 200 => {
            Err(garde::Error::new("must have 1 to 200 characters"))
        }
        Some(text) => super::personal(text, &()),
        None => Ok(()),
    }
}

pub(super) fn language_tag(change: &Change<String>, _: &()) -> garde::Result {
    let is_tag = |text: &str| {
        (2..=35).contains(&text.len())
            && text.split('-').all(|part| {
                (1..=8).contains(&part.len())
                    && part.bytes().all(|byte| byte.is_ascii_alphanumeric())
            })
    };
    match change.set() {
        Some(text) if !is_tag(text) => Err(garde::Error::new("must be a language tag, as `de-CH`")),
        _ => Ok(()),
    }
}

/// A field of a patch as a store takes it.
pub(super) fn changed(change: Change<String>) -> Option<Option<String>> {
    match change {
        Change::Keep => None,
        Change::Clear => Some(None),
        Change::Set(text) => Some(Some(text)),
    }
}

async fn read_me(who: Authenticated, on: Use<Service>) -> Result<Versioned<Me>, AccountsError> {
    me(&who, &on).await
}

async fn me(
    who: &dotmac_platform::access::Principal,
    on: &Service,
) -> Result<Versioned<Me>, AccountsError> {
    let (kind, id) = (who.kind, who.id);
    let read = on.db.tenant(&who.scope()).read("read me", async move |tx| {
        let tenant = tx.tenant();
        let tenant = tenants::find(tx, tenant)
            .await?
            .ok_or(AccountsError::NotFound)?;
        let (user, holder, name, version) = match kind {
            PrincipalKind::Service => {
                let account = service_accounts::find(tx, Id::from_uuid(id)).await?;
                let account = account.ok_or(AccountsError::NotFound)?;
                (
                    None,
                    Holder::Service(account.id),
                    Some(account.name),
                    account.version,
                )
            }
            PrincipalKind::User | PrincipalKind::Key => {
                let user = users::find(tx, Id::from_uuid(id))
                    .await?
                    .ok_or(AccountsError::NotFound)?;
                let (name, version) = (user.full_name.clone(), user.version);
                (Some(user), Holder::User(Id::from_uuid(id)), name, version)
            }
        };
        let roles = bindings::role_names(tx, holder).await?;
        Ok::<_, AccountsError>((tenant, user, roles, name, version))
    });
    let (tenant, user, roles, full_name, version) = read.await?;
    let user = user.as_ref();
    let body = Me {
        id,
        kind: kind.as_str(),
        email: user.and_then(|user| user.email.clone()),
        email_verified: user.is_some_and(|user| user.email_verified_at.is_some()),
        username: user.and_then(|user| user.username.clone()),
        full_name,
        locale: user.and_then(|user| user.locale.clone()),
        tenant: TenantBody {
            id: tenant.id.uuid(),
            slug: tenant.slug,
        },
        roles,
        acr: who.acr,
        authenticated_at: who.authenticated_at.into(),
        session_id: who.session.filter(|_| kind == PrincipalKind::User),
        etag: etag(version),
    };
    Ok(Versioned { version, body })
}

async fn change_me(
    who: Authenticated,
    on: Use<Service>,
    seen: IfMatch,
    patch: Valid<MePatch>,
) -> Result<Versioned<Me>, AccountsError> {
    service::person(&who)?;
    let MePatch { full_name, locale } = patch.into_inner();
    let change = ProfileChange {
        full_name: changed(full_name),
        locale: changed(locale),
        ..ProfileChange::default()
    };
    let id = Id::from_uuid(who.id);
    let updated = on
        .db
        .tenant(&who.scope())
        .act("change me", async move |tx| {
            let row = users::find(tx, id).await?.ok_or(AccountsError::NotFound)?;
            seen.check(row.version)?;
            user_rules::update_own(tx, &row, change).await
        });
    updated.await?;
    me(&who, &on).await
}

async fn my_permissions(who: Authenticated) -> Result<Json<Permissions>, AccountsError> {
    let permissions = who.permissions.names();
    Ok(Json(Permissions { permissions }))
}

async fn my_sessions(
    who: Authenticated,
    on: Use<Service>,
    sort: Sort<SessionColumn>,
    paging: Paging,
) -> Result<Page<SessionView>, AccountsError> {
    service::person(&who)?;
    let (user, most) = (Id::from_uuid(who.id), i64::from(on.settings.max_sessions));
    // Also those in other tenants.
    let read = on.open_db.read("list own sessions", async move |c| {
        sessions::of_user(c, user, most).await
    });
    let bound = CursorScope {
        tenant: who.tenant,
        list: "own sessions",
        sort: &sort.to_string(),
        filter: &who.id.to_string(),
    };
    let place = |row: &SessionRow| {
        let at = match sort.column {
            SessionColumn::LastSeenAt => row.last_seen_at,
            SessionColumn::CreatedAt => row.created_at,
        };
        (at, row.id)
    };
    let page = page_of_all(&paging, &bound, sort.is_descending, read.await?, place)?;
    Ok(page.map(|row| view(row, who.session)))
}

async fn my_session(
    who: Authenticated,
    on: Use<Service>,
    id: Path<Id<Session>>,
) -> Result<Versioned<SessionView>, AccountsError> {
    service::person(&who)?;
    let user = Id::from_uuid(who.id);
    let read = on.open_db.read("find own session", async move |c| {
        rules::find_own(c, user, *id).await
    });
    let row = read.await?;
    Ok(Versioned {
        version: row.version(),
        body: view(row, who.session),
    })
}

fn view(row: SessionRow, current: Option<Uuid>) -> SessionView {
    let etag = etag(row.version());
    let client = row.client.0;
    SessionView {
        etag,
        id: row.id.uuid(),
        is_current: current == Some(row.id.uuid()),
        kind: row.kind,
        device_name: client.device_name,
        network: client.network,
        user_agent: client.user_agent,
        created_at: row.created_at,
        last_seen_at: row.last_seen_at,
        expires_at: row.idle_until.min(row.expires_at),
    }
}

async fn end_session(
    who: Authenticated,
    on: Use<Service>,
    id: Path<Id<Session>>,
    seen: IfMatch,
) -> Result<NoContent, AccountsError> {
    service::person(&who)?;
    let (user, changes, id) = (Id::from_uuid(who.id), on.changes.clone(), *id);
    let ended = on
        .asked_by(&who)
        .transaction("end own session", async move |tx| {
            let own = rules::find_own(tx, user, id).await?;
            seen.check(own.version())?;
            rules::end(tx, &changes, &own, "ended_by_user").await
        });
    ended.await?;
    Ok(NoContent)
}
