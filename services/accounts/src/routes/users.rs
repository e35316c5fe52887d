//! Users of the tenant, for its administrators.

use dotmac_platform::{
    access::Principal,
    db::{
        AcrossTx,
        types::{Id, Moment},
    },
    prelude::*,
    routing::{Change, CursorScope, Idempotency, IfMatch, InvalidRequest, Page, Paging, Versioned},
};
use garde::Validate;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use super::{
    BODY, CALLS, etag,
    me::{changed, display_name, language_tag},
    visible,
};
use crate::{
    AccountsError, ReadUsers, WriteUsers,
    password::Asker,
    rules::{passwords, users as rules, users::NewUser},
    service::{self, Service},
    store::{
        ACTIVE, DISABLED,
        bindings::{self, Holder},
        users::{self as store, ProfileChange, User, UserRow},
    },
};

pub(super) fn declare(routes: &mut Routes) {
    routes
        .get("", list_users)
        .summary("The users of the tenant")
        .rate_limit(CALLS);
    routes
        .post("", create_user)
        .summary("Make a user")
        .rate_limit(CALLS)
        .body_limit(BODY);
    routes
        .get("/{id}", find_user)
        .summary("One user")
        .rate_limit(CALLS);
    routes
        .patch("/{id}", change_user)
        .summary("Change a user's profile")
        .rate_limit(CALLS)
        .body_limit(BODY);
    routes
        .delete("/{id}", delete_user)
        .summary("Delete a user")
        .rate_limit(CALLS);
    routes
        .post("/{id}/disable", disable_user)
        .summary("Let a user in no more, and end all sessions")
        .rate_limit(CALLS);
    routes
        .post("/{id}/enable", enable_user)
        .summary("Let a user in again")
        .rate_limit(CALLS);
    routes
        .post("/{id}/unlock", unlock_user)
        .summary("Forget a user's failed sign-ins")
        .rate_limit(CALLS);
    routes
        .post("/{id}/sign-out", sign_out_user)
        .summary("End a user's sessions")
        .rate_limit(CALLS);
    routes
        .post("/{id}/reset-link", reset_link)
        .summary("A link by which a user sets a password")
        .rate_limit(CALLS);
}

/// A user.
#[derive(Serialize, ToSchema)]
struct UserBody {
    id: Uuid,
    email: Option<String>,
    email_verified: bool,
    username: Option<String>,
    full_name: Option<String>,
    locale: Option<String>,
    /// `active` or `disabled`.
    status: String,
    /// Names of the roles in this tenant.
    roles: Vec<String>,
    created_at: Moment,
    updated_at: Moment,
    etag: String,
}

/// A user to be.
#[derive(Deserialize, Validate, ToSchema)]
struct UserPost {
    #[garde(length(bytes, min = 1, max = 320))]
    email: String,
    /// Without one the user sets it by a link.
    #[serde(default)]
    #[garde(inner(length(bytes, min = 1, max = 1024)))]
    #[schema(format = Password)]
    password: Option<String>,
    #[serde(default)]
    #[garde(inner(length(bytes, min = 1, max = 64)))]
    username: Option<String>,
    #[serde(default)]
    #[garde(inner(length(chars, min = 1, max = 200), custom(visible)))]
    full_name: Option<String>,
    /// Names of roles.
    #[serde(default)]
    #[garde(length(max = 20), inner(length(chars, min = 1, max = 100)))]
    roles: Vec<String>,
}

/// What may be changed of a user.
#[derive(Deserialize, Validate, ToSchema)]
struct UserPatch {
    #[serde(default)]
    #[garde(skip)]
    username: Change<String>,
    #[serde(default)]
    #[garde(custom(display_name))]
    full_name: Change<String>,
    /// A language tag, as `de-CH`.
    #[serde(default)]
    #[garde(custom(language_tag))]
    locale: Change<String>,
}

/// Which users.
#[derive(Deserialize, IntoParams)]
struct UserFilter {
    /// `active` or `disabled`.
    status: Option<String>,
}

/// A link by which a user sets a password. It is shown once.
#[derive(Serialize, ToSchema)]
struct ResetLink {
    /// For `POST /auth/password/reset`.
    token: String,
    url: String,
    expires_at: Moment,
}

fn body(row: UserRow, roles: Vec<String>) -> UserBody {
    UserBody {
        id: row.id.uuid(),
        email: row.email,
        email_verified: row.email_verified_at.is_some(),
        username: row.username,
        full_name: row.full_name,
        locale: row.locale,
        status: row.status,
        roles,
        created_at: row.created_at,
        updated_at: row.updated_at,
        etag: etag(row.version),
    }
}

fn versioned((row, roles): (UserRow, Vec<String>)) -> Versioned<UserBody> {
    Versioned {
        version: row.version,
        body: body(row, roles),
    }
}

async fn list_users(
    who: Can<ReadUsers>,
    on: Use<Service>,
    filter: Query<UserFilter>,
    paging: Paging,
) -> Result<Page<UserBody>, AccountsError> {
    let status = filter.into_inner().status;
    if status
        .as_deref()
        .is_some_and(|status| status != ACTIVE && status != DISABLED)
    {
        return Err(InvalidRequest::query("status", "is `active` or `disabled`").into());
    }
    let filter = status.clone().unwrap_or_default();
    let bound = CursorScope {
        tenant: who.tenant,
        list: "users",
        sort: "",
        filter: &filter,
    };
    let (after, rows) = (paging.after::<Id<User>>(&bound)?, paging.rows());
    let read = on
        .db
        .tenant(&who.scope())
        .read("list users", async move |tx| {
            let mut users = Vec::new();
            for row in store::page(tx, status, after, rows).await? {
                let roles = bindings::role_names(tx, Holder::User(row.id)).await?;
                users.push(body(row, roles));
            }
            Ok::<_, AccountsError>(users)
        });
    Ok(paging.page(&bound, read.await?, |user| Id::<User>::from_uuid(user.id)))
}

async fn create_user(
    who: Can<WriteUsers>,
    on: Use<Service>,
    new: Valid<UserPost>,
    once: Idempotency,
) -> Result<Created<Versioned<UserBody>>, AccountsError> {
    let UserPost {
        email,
        password,
        username,
        full_name,
        roles,
    } = new.into_inner();
    // Whoever could make a user that can sign in, or that has roles, would be that user once its own session is over.
    if password.is_some() || !roles.is_empty() {
        on.stepped_up_person(&who)?;
    }
    let new = NewUser {
        email,
        username,
        full_name,
    };
    let row = rules::row(new, who.tenant)?;
    let phc = match password {
        None => None,
        Some(password) => {
            let _place = on.hasher.place_of(who.id)?;
            let password = SecretString::from(password);
            let asker = Asker::signed_in();
            Some(passwords::hash_new(&on, asker, &row, "password", password).await?)
        }
    };
    let (principal, changes) = ((*who).clone(), on.changes.clone());
    let created = on
        .db
        .tenant(&who.scope())
        .transaction("create user", async move |tx| {
            rules::create(tx, &changes, &principal, &row, phc, &roles).await?;
            let body = versioned(rules::find(tx, row.id).await?);
            let location = format!("/api/v1/users/{}", row.id);
            Ok::<_, AccountsError>(once.keep(tx, Created { location, body }))
        });
    created.await
}

async fn find_user(
    who: Can<ReadUsers>,
    on: Use<Service>,
    id: Path<Id<User>>,
) -> Result<Versioned<UserBody>, AccountsError> {
    let found = on
        .db
        .tenant(&who.scope())
        .read("find user", async move |tx| rules::find(tx, *id).await);
    Ok(versioned(found.await?))
}

async fn change_user(
    who: Can<WriteUsers>,
    on: Use<Service>,
    id: Path<Id<User>>,
    seen: IfMatch,
    patch: Valid<UserPatch>,
) -> Result<Versioned<UserBody>, AccountsError> {
    let UserPatch {
        username,
        full_name,
        locale,
    } = patch.into_inner();
    let change = ProfileChange {
        username: changed(username),
        username_normal: None,
        full_name: changed(full_name),
        locale: changed(locale),
    };
    if change.username.is_some() {
        // Users sign in by it.
        service::person(&who)?;
    }
    let (principal, id) = ((*who).clone(), *id);
    let updated = on
        .db
        .tenant(&who.scope())
        .transaction("change user", async move |tx| {
            let (row, _) = rules::find(tx, id).await?;
            seen.check(row.version)?;
            rules::update(tx, &principal, &row, change).await?;
            rules::find(tx, id).await
        });
    Ok(versioned(updated.await?))
}

async fn delete_user(
    who: Can<WriteUsers>,
    on: Use<Service>,
    id: Path<Id<User>>,
    seen: IfMatch,
) -> Result<NoContent, AccountsError> {
    on.stepped_up_person(&who)?;
    let (principal, changes, id) = ((*who).clone(), on.changes.clone(), *id);
    let deleted =
        on.open_db
            .transaction_across("delete user", async move |mut tx: AcrossTx<'_>| {
                let (row, _) = rules::find(tx.tenant(&principal.scope()).await?, id).await?;
                seen.check(row.version)?;
                rules::delete(&mut tx, &changes, &principal, &row).await
            });
    deleted.await?;
    Ok(NoContent)
}

/// What an administrator has done about a user.
#[derive(Clone, Copy)]
enum Order {
    Disable,
    Enable,
    SignOut,
}

async fn carry_out(
    who: &Principal,
    on: &Service,
    id: Id<User>,
    order: Order,
) -> Result<NoContent, AccountsError> {
    on.stepped_up_person(who)?;
    let (who, changes) = (who.clone(), on.changes.clone());
    let operation = match order {
        Order::Disable => "disable user",
        Order::Enable => "enable user",
        Order::SignOut => "sign user out",
    };
    let done = on
        .open_db
        .transaction_across(operation, async move |mut tx: AcrossTx<'_>| match order {
            Order::Disable => rules::disable(&mut tx, &changes, &who, id).await,
            Order::Enable => rules::enable(&mut tx, &changes, &who, id).await,
            Order::SignOut => rules::sign_out(&mut tx, &changes, &who, id).await,
        });
    done.await?;
    Ok(NoContent)
}

async fn disable_user(
    who: Can<WriteUsers>,
    on: Use<Service>,
    id: Path<Id<User>>,
) -> Result<NoContent, AccountsError> {
    carry_out(&who, &on, *id, Order::Disable).await
}

async fn enable_user(
    who: Can<WriteUsers>,
    on: Use<Service>,
    id: Path<Id<User>>,
) -> Result<NoContent, AccountsError> {
    carry_out(&who, &on, *id, Order::Enable).await
}

async fn unlock_user(
    who: Can<WriteUsers>,
    on: Use<Service>,
    id: Path<Id<User>>,
) -> Result<NoContent, AccountsError> {
    on.stepped_up_person(&who)?;
    let (principal, keys, id) = ((*who).clone(), on.keys.get().await?, *id);
    let done = on
        .open_db
        .transaction_across("unlock user", async move |mut tx: AcrossTx<'_>| {
            rules::unlock(&mut tx, &keys, &principal, id).await
        });
    done.await?;
    Ok(NoContent)
}

async fn sign_out_user(
    who: Can<WriteUsers>,
    on: Use<Service>,
    id: Path<Id<User>>,
) -> Result<NoContent, AccountsError> {
    carry_out(&who, &on, *id, Order::SignOut).await
}

async fn reset_link(
    who: Can<WriteUsers>,
    on: Use<Service>,
    id: Path<Id<User>>,
) -> Result<Json<ResetLink>, AccountsError> {
    on.stepped_up_person(&who)?;
    let (principal, id) = ((*who).clone(), *id);
    let made = on
        .open_db
        .transaction_across("make reset link", async move |mut tx: AcrossTx<'_>| {
            rules::reset_link(&mut tx, &principal, id).await
        });
    let (minted, expires_at) = made.await?;
    let token = minted.text.expose_secret().to_owned();
    Ok(Json(ResetLink {
        url: format!("{}/account/reset#token={token}", on.settings.issuer()),
        token,
        expires_at,
    }))
}
