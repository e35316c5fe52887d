//! What an administrator does about a user: whether they are let in, and how.

use dotmac_platform::{
    access::Principal,
    audit::AcrossActs as _,
    db::{
        AcrossTx, Db,
        types::{Id, Moment},
    },
    prelude::*,
};
use secrecy::ExposeSecret;
use serde::Serialize;
use utoipa::ToSchema;

use crate::{
    AccountsError, WriteUsers, changes::Changes, problems::OF_ADMINISTRATION, routes::CALLS,
    rules::users as rules, service::Service, store::users::User,
};

pub(super) fn declare(routes: &mut Routes) {
    routes
        .post("/{id}/disable", disable_user)
        .problems(OF_ADMINISTRATION)
        .summary("Let a user in no more, and end all sessions")
        .rate_limit(CALLS);
    routes
        .post("/{id}/enable", enable_user)
        .problems(OF_ADMINISTRATION)
        .summary("Let a user in again")
        .rate_limit(CALLS);
    routes
        .post("/{id}/unlock", unlock_user)
        .problems(OF_ADMINISTRATION)
        .summary("Forget a user's failed sign-ins")
        .rate_limit(CALLS);
    routes
        .post("/{id}/sign-out", sign_out_user)
        .problems(OF_ADMINISTRATION)
        .summary("End a user's sessions")
        .rate_limit(CALLS);
    routes
        .post("/{id}/reset-link", reset_link)
        .problems(OF_ADMINISTRATION)
        .summary("A link by which a user sets a password")
        .rate_limit(CALLS);
}

/// A link by which a user sets a password. It is shown once.
#[derive(Serialize, ToSchema)]
struct ResetLink {
    /// For `POST /auth/password/reset`.
    token: String,
    url: String,
    expires_at: Moment,
}

/// The way to the database for an administrator who was authenticated just now, and what the acts need.
fn administered(who: &Principal, on: &Service) -> Result<(Db, Principal, Changes), AccountsError> {
    on.stepped_up_person(who)?;
    Ok((on.asked_by(who), who.clone(), on.changes.clone()))
}

async fn disable_user(
    who: Can<WriteUsers>,
    on: Use<Service>,
    id: Path<Id<User>>,
) -> Result<NoContent, AccountsError> {
    let (db, caller, changes) = administered(&who, &on)?;
    let disabled = db.act_across("disable user", async move |mut tx: AcrossTx<'_>| {
        rules::disable(&mut tx, &changes, &caller, *id).await
    });
    disabled.await?;
    Ok(NoContent)
}

async fn enable_user(
    who: Can<WriteUsers>,
    on: Use<Service>,
    id: Path<Id<User>>,
) -> Result<NoContent, AccountsError> {
    let (db, caller, changes) = administered(&who, &on)?;
    let enabled = db.act_across("enable user", async move |mut tx: AcrossTx<'_>| {
        rules::enable(&mut tx, &changes, &caller, *id).await
    });
    enabled.await?;
    Ok(NoContent)
}

async fn unlock_user(
    who: Can<WriteUsers>,
    on: Use<Service>,
    id: Path<Id<User>>,
) -> Result<NoContent, AccountsError> {
    let (db, caller, _) = administered(&who, &on)?;
    let keys = on.keys.get().await?;
    let unlocked = db.act_across("unlock user", async move |mut tx: AcrossTx<'_>| {
        rules::unlock(&mut tx, &keys, &caller, *id).await
    });
    unlocked.await?;
    Ok(NoContent)
}

async fn sign_out_user(
    who: Can<WriteUsers>,
    on: Use<Service>,
    id: Path<Id<User>>,
) -> Result<NoContent, AccountsError> {
    let (db, caller, changes) = administered(&who, &on)?;
    let ended = db.act_across("sign user out", async move |mut tx: AcrossTx<'_>| {
        rules::sign_out(&mut tx, &changes, &caller, *id).await
    });
    ended.await?;
    Ok(NoContent)
}

async fn reset_link(
    who: Can<WriteUsers>,
    on: Use<Service>,
    id: Path<Id<User>>,
) -> Result<Json<ResetLink>, AccountsError> {
    let (db, caller, _) = administered(&who, &on)?;
    let made = db.act_across("make reset link", async move |mut tx: AcrossTx<'_>| {
        rules::reset_link(&mut tx, &caller, *id).await
    });
    let (minted, expires_at) = made.await?;
    let token = minted.text.expose_secret().to_owned();
    Ok(Json(ResetLink {
        url: format!("{}/account/reset#token={token}", on.settings.issuer()),
        token,
        expires_at,
    }))
}
