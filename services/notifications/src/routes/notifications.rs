//! Notifications, and mail that is held.

use dotmac_platform::{access::Principal, audit::Acts as _, prelude::*, routing::JsonOrHtml};

use super::{BODY, CALLS, LINKS};
use crate::{
    Read, ReadOutbox, Write, WriteTransactional,
    bodies::{NewNotification, NotificationBody, PublicKeyBody, SentBody},
    channel::Channel,
    error::{Missing, NotificationsError},
    rules::{
        outbox::{self, HeldMail},
        send::{self, CallerMay},
    },
    service::Service,
    store::{
        attachments, deliveries,
        notifications::{self, NotificationId},
    },
};

pub(super) fn declare(routes: &mut Routes) {
    routes
        .post("", send_notification)
        .summary("Send a notification")
        .description(
            "Accepted does not mean sent: the state of a delivery is the answer of the next hop; see `GET \
            /notifications/{id}`.",
        )
        .rate_limit(CALLS)
        .body_limit(BODY);
    routes
        .get("/outbox", read_outbox)
        .summary("Mail that is held in development, as JSON or as a page");
    routes
        .get("/webhook-key", find_webhook_key)
        .summary("The key by which receivers of notifications at URLs verify them")
        .rate_limit(LINKS);
    routes
        .get("/{id}", find_notification)
        .summary("One notification, with its deliveries");
}

async fn send_notification(
    who: Can<Write>,
    on: Use<Service>,
    new: Valid<NewNotification>,
    once: Idempotency,
) -> Result<Accepted<SentBody>, NotificationsError> {
    let may = caller_may(&on, &who);
    let (service, new) = (on.0.clone(), new.into_inner());
    let db = on.db.tenant(&who.scope());
    let sent = db.act("send notification", async move |tx| {
        let sent = send::send(tx, &service, may, new).await?;
        Ok::<_, NotificationsError>(sent.map(|body| {
            let location = format!("/api/v1/notifications/{}", body.id);
            once.keep(tx, Accepted { location, body })
        }))
    });
    sent.await
}

/// What the caller may do beyond sending notifications.
pub(super) fn caller_may(on: &Service, who: &Principal) -> CallerMay {
    CallerMay {
        be_transactional: who.may::<WriteTransactional>(),
        read_files: on.files.get().is_some_and(|it| it.may_read(who)),
    }
}

async fn find_webhook_key(
    _: Public,
    on: Use<Service>,
) -> Result<Json<PublicKeyBody>, NotificationsError> {
    let public_key = on.webhook_key().and_then(|it| it.public());
    let public_key = public_key.ok_or(NotificationsError::NotConfigured(Channel::Webhook))?;
    Ok(Json(PublicKeyBody { public_key }))
}

async fn find_notification(
    who: Can<Read>,
    on: Use<Service>,
    id: Path<NotificationId>,
) -> Result<Json<NotificationBody>, NotificationsError> {
    let db = on.db.tenant(&who.scope());
    let found = db.read("find notification", async move |tx| {
        let row = notifications::find(tx, *id).await?;
        let row = row.ok_or(NotificationsError::NotFound(Missing::Notification))?;
        let deliveries = deliveries::of_notification(tx, row.id).await?;
        let files = attachments::of(tx, row.id).await?;
        Ok::<_, NotificationsError>(NotificationBody::new(row, files, deliveries))
    });
    Ok(Json(found.await?))
}

async fn read_outbox(
    who: Can<ReadOutbox>,
    on: Use<Service>,
    paging: Paging,
) -> Result<JsonOrHtml<Page<HeldMail>>, NotificationsError> {
    let scope = CursorScope::of(who.tenant, "outbox");
    let window = paging.window(&scope)?;
    let (service, db) = (on.0.clone(), on.db.tenant(&who.scope()));
    let held = db.act("read held mail", async move |tx| {
        outbox::list(tx, &service, window).await
    });
    let json = paging.page(&scope, held.await?, |it| it.id);
    let page = outbox::page(&json.items);
    Ok(JsonOrHtml { json, page })
}
