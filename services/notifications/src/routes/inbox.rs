//! The caller's inbox.

use dotmac_platform::{access::Principal, prelude::*};

use super::person;
use crate::{
    bodies::{InboxAsked, InboxItem, ReadAllBody, UnreadBody},
    error::{Missing, NotificationsError},
    service::Service,
    store::{
        deliveries::DeliveryId,
        inbox::{self, Act},
    },
};

pub(super) fn declare(routes: &mut Routes) {
    routes
        .get("", list_inbox)
        .summary("The caller's inbox, the newest first, without what was archived");
    routes
        .get("/unread-count", count_unread)
        .summary("The number of unread items of the caller, up to 1000");
    routes
        .post("/read-all", read_all)
        .summary("Mark all items as read");
    routes
        .post("/{id}/read", read_item)
        .summary("Mark an item as read");
    routes
        .post("/{id}/archive", archive_item)
        .summary("Take an item out of the inbox");
}

async fn list_inbox(
    who: Authenticated,
    on: Use<Service>,
    asked: Query<InboxAsked>,
    paging: Paging,
) -> Result<Page<InboxItem>, NotificationsError> {
    let is_unread = asked.unread.unwrap_or_default();
    let bound_filter = format!("{} {is_unread}", who.id);
    let scope = CursorScope {
        filter: &bound_filter,
        ..CursorScope::of(who.tenant, "inbox")
    };
    let window = paging.window(&scope)?;
    let (db, user) = (on.db.tenant(&who.scope()), person(&who)?);
    let found = db.read("list inbox", async move |tx| {
        rows!(window, |after, limit| inbox::page(
            tx,
            user,
            (is_unread, after),
            limit
        ))
    });
    let found = found.await?.map(InboxItem::from);
    Ok(paging.page(&scope, found, |it| it.id))
}

async fn count_unread(
    who: Authenticated,
    on: Use<Service>,
) -> Result<Json<UnreadBody>, NotificationsError> {
    let (db, user) = (on.db.tenant(&who.scope()), person(&who)?);
    let counted = db.read("count unread", async move |tx| {
        inbox::count_unread(tx, user).await
    });
    let unread = counted.await?;
    Ok(Json(UnreadBody { unread }))
}

async fn read_all(
    who: Authenticated,
    on: Use<Service>,
) -> Result<Json<ReadAllBody>, NotificationsError> {
    let (db, user) = (on.db.tenant(&who.scope()), person(&who)?);
    let read = db.transaction("read all items", async move |tx| {
        inbox::read_all(tx, user).await
    });
    let read = read.await?;
    Ok(Json(ReadAllBody { read }))
}

async fn read_item(
    who: Authenticated,
    on: Use<Service>,
    id: Path<DeliveryId>,
) -> Result<Json<InboxItem>, NotificationsError> {
    act(&who, &on, *id, Act::Read).await
}

async fn archive_item(
    who: Authenticated,
    on: Use<Service>,
    id: Path<DeliveryId>,
) -> Result<Json<InboxItem>, NotificationsError> {
    act(&who, &on, *id, Act::Archive).await
}

async fn act(
    who: &Principal,
    on: &Service,
    id: DeliveryId,
    act: Act,
) -> Result<Json<InboxItem>, NotificationsError> {
    let (db, user) = (on.db.tenant(&who.scope()), person(who)?);
    let done = db.transaction("change item", async move |tx| {
        inbox::act(tx, user, id, act).await
    });
    let item = done
        .await?
        .ok_or(NotificationsError::NotFound(Missing::Item))?;
    Ok(Json(item.into()))
}
