//! Users of the tenant, for its administrators.

mod status;

use std::collections::BTreeMap;

use dotmac_platform::{
    audit::{AcrossActs as _, Acts as _},
    db::{
        AcrossTx,
        types::{Id, Moment},
    },
    prelude::*,
    routing::{
        Change, CursorScope, Idempotency, IfMatch, InvalidRequest, Page, Paging, Sort, Versioned,
    },
};
use garde::Validate;
use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use super::{
    BODY, CALLS, etag,
    me::{changed, display_name, language_tag},
    personal, status as given_status,
};
use crate::{
    AccountsError, ReadUsers, WriteUsers, names,
    password::Asker,
    problems::{OF_ADMINISTRATION, OF_LIST, OF_READING},
    rules::{new_passwords, users as rules, users::NewUser},
    service::{self, Service},
    store::{
        bindings,
        roles::RoleId,
        slice::{ByCreation, Slice},
        user_pages as store,
        users::{ProfileChange, User, UserRow},
    },
};

pub(super) fn declare(routes: &mut Routes) {
    routes
        .get("", list_users)
        .problems(OF_LIST)
        .summary("The users of the tenant")
        .rate_limit(CALLS);
    routes
        .post("", create_user)
        .problems(OF_ADMINISTRATION)
        .summary("Create a user")
        .rate_limit(CALLS)
        .body_limit(BODY);
    routes
        .get("/{id}", find_user)
        .problems(OF_READING)
        .summary("One user")
        .rate_limit(CALLS);
    routes
        .patch("/{id}", change_user)
        .problems(OF_ADMINISTRATION)
        .summary("Change a user's profile")
        .rate_limit(CALLS)
        .body_limit(BODY);
    routes
        .delete("/{id}", delete_user)
        .problems(OF_ADMINISTRATION)
        .summary("Delete a user")
        .rate_limit(CALLS);
    status::declare(routes);
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
    #[garde(inner(length(chars, min = 1, max = 200), custom(personal)))]
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
    /// The user with this address.
    email: Option<String>,
    /// Those that have this role now, by its id.
    role: Option<Uuid>,
}

impl UserFilter {
    fn read(self) -> Result<store::UserFilter, InvalidRequest> {
        let email = self.email.map(|email| {
            names::email(&email)
                .ok_or_else(|| InvalidRequest::query("email", "is an e-mail address"))
        });
        Ok(store::UserFilter {
            status: given_status(self.status.as_deref())?,
            email: email.transpose()?,
            role: self.role.map(RoleId::from_uuid),
        })
    }
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
    sort: Sort<ByCreation>,
    paging: Paging,
) -> Result<Page<UserBody>, AccountsError> {
    let (filter, order) = (filter.into_inner().read()?, sort.to_string());
    let filtered = format!("{filter:?}");
    let bound = CursorScope {
        tenant: who.tenant,
        list: "users",
        sort: &order,
        filter: &filtered,
    };
    let (window, db) = (paging.window(&bound)?, on.db.tenant(&who.scope()));
    let read = db.read("list users", async move |tx| {
        let found = rows!(window, |after, limit| store::page(
            tx,
            filter.clone(),
            Slice::new(sort, after, limit)
        ))?;
        let ids = found.rows.iter().map(|row| row.id).collect();
        let mut roles: BTreeMap<_, Vec<String>> = BTreeMap::new();
        for (user, role) in bindings::role_names_of(tx, ids).await? {
            roles.entry(user).or_default().push(role);
        }
        Ok::<_, AccountsError>(found.map(|row| {
            let roles = roles.remove(&row.id).unwrap_or_default();
            body(row, roles)
        }))
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
    // A stolen session could make a user that can sign in, or that has roles, and go on as that user after its own end.
    if password.is_some() || !roles.is_empty() {
        on.stepped_up_person(&who)?;
    }
    let new = NewUser {
        email,
        username,
        full_name,
    };
    let row = rules::row(new, who.tenant)?;
    let password = match password {
        None => None,
        Some(password) => {
            let _place = on.hasher.place_of(who.id)?;
            let password = SecretString::from(password);
            let asker = Asker::signed_in();
            Some(new_passwords::hash_new(&on, asker, &row, "password", password).await?)
        }
    };
    let (principal, changes) = ((*who).clone(), on.changes.clone());
    let created = on
        .db
        .tenant(&who.scope())
        .act("create user", async move |tx| {
            let made = rules::create(tx, &changes, &principal, &row, password, &roles).await?;
            let body = versioned(rules::find(tx, row.id).await?);
            let location = format!("/api/v1/users/{}", row.id);
            let kept = once.keep(tx, Created { location, body });
            Ok::<_, AccountsError>(made.map(|()| kept))
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
        .act("change user", async move |tx| {
            let (row, _) = rules::find(tx, id).await?;
            seen.check(row.version)?;
            let done = rules::update(tx, &principal, &row, change).await?;
            let found = rules::find(tx, id).await?;
            Ok::<_, AccountsError>(done.map(|()| found))
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
    let deleted = on
        .asked_by(&who)
        .act_across("delete user", async move |mut tx: AcrossTx<'_>| {
            let (row, _) = rules::find(tx.tenant(&principal.scope()).await?, id).await?;
            seen.check(row.version)?;
            rules::delete(&mut tx, &changes, &principal, &row).await
        });
    deleted.await?;
    Ok(NoContent)
}
