//! The caller's preferences, and the tenant's recipients that get nothing.

use dotmac_platform::{audit::Acts as _, mail::EmailAddress, prelude::*};

use super::person;
use crate::{
    ReadSuppressions, WriteSuppressions,
    bodies::{Preferences, SuppressionBody, SuppressionsAsked},
    error::NotificationsError,
    rules::{preferences as rules, suppress},
    service::Service,
    store::suppressions::{self, SuppressionId},
};

pub(super) fn declare(routes: &mut Routes) {
    routes
        .get("", find_preferences)
        .summary("The caller's preferences");
    routes
        .put("", replace_preferences)
        .summary("Replace the caller's preferences");
}

pub(super) fn declare_suppressions(routes: &mut Routes) {
    routes
        .get("", list_suppressions)
        .summary("Recipients that get no messages, newest first");
    routes
        .delete("/{id}", delete_suppression)
        .summary("Remove a suppression");
}

async fn find_preferences(
    who: Authenticated,
    on: Use<Service>,
) -> Result<Json<Preferences>, NotificationsError> {
    let (db, user) = (on.db.tenant(&who.scope()), person(&who)?);
    let found = db.read("find preferences", async move |tx| {
        rules::find(tx, user).await
    });
    Ok(Json(found.await?))
}

async fn replace_preferences(
    who: Authenticated,
    on: Use<Service>,
    new: Valid<Preferences>,
) -> Result<Json<Preferences>, NotificationsError> {
    let (db, user) = (on.db.tenant(&who.scope()), person(&who)?);
    let new = new.into_inner();
    let replaced = db.act("replace preferences", async move |tx| {
        rules::replace(tx, user, new).await
    });
    Ok(Json(replaced.await?))
}

async fn list_suppressions(
    who: Can<ReadSuppressions>,
    on: Use<Service>,
    asked: Query<SuppressionsAsked>,
    paging: Paging,
) -> Result<Page<SuppressionBody>, NotificationsError> {
    let recipient = asked.recipient.as_deref();
    // Of what is no address there is none.
    let key = recipient.map(|it| {
        EmailAddress::parse(it).map_or_else(|| it.to_owned(), |it| it.normal().to_owned())
    });
    let bound_filter = format!("{key:?}");
    let scope = CursorScope {
        filter: &bound_filter,
        ..CursorScope::of(who.tenant, "suppressions")
    };
    let (window, db) = (paging.window(&scope)?, on.db.tenant(&who.scope()));
    let found = db.read("list suppressions", async move |tx| {
        rows!(window, |after, limit| suppressions::page(
            tx,
            key.clone(),
            after,
            limit
        ))
    });
    let found = found.await?.map(SuppressionBody::from);
    Ok(paging.page(&scope, found, |it| it.id))
}

async fn delete_suppression(
    who: Can<WriteSuppressions>,
    on: Use<Service>,
    id: Path<SuppressionId>,
    seen: IfMatch,
) -> Result<NoContent, NotificationsError> {
    let db = on.db.tenant(&who.scope());
    let deleted = db.act("delete suppression", async move |tx| {
        suppress::delete(tx, *id, &seen).await
    });
    deleted.await?;
    Ok(NoContent)
}
