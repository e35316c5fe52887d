//! Push messages: the caller's browsers, and the key that they subscribe with.

use dotmac_platform::{audit::Acts as _, prelude::*};

use super::person;
use crate::{
    bodies::{
        NewSubscription, OldSubscription, PublicKeyBody, SubscriptionBody, SubscriptionsBody,
    },
    channel::Channel,
    error::NotificationsError,
    rules::push as rules,
    service::Service,
    store::push::{self, SubscriptionId},
};

pub(super) fn declare(routes: &mut Routes) {
    routes
        .get("/key", find_push_key)
        .summary("The key that browsers subscribe with: their `applicationServerKey`");
    routes
        .get("/subscriptions", list_subscriptions)
        .summary("The caller's browsers that take push messages");
    routes
        .post("/subscriptions", subscribe)
        .summary("Subscribe a browser of the caller to push messages")
        .description("A subscribed browser keeps its id.");
    routes
        .delete("/subscriptions", end_subscription_of_endpoint)
        .summary("End the subscription of the browser with this endpoint");
    routes
        .get("/subscriptions/{id}", find_subscription)
        .summary("A browser of the caller that takes push messages");
    routes
        .delete("/subscriptions/{id}", end_subscription)
        .summary("End the subscription of a browser");
}

async fn find_push_key(
    _: Authenticated,
    on: Use<Service>,
) -> Result<Json<PublicKeyBody>, NotificationsError> {
    let key = on.push_key();
    let key = key.ok_or(NotificationsError::NotConfigured(Channel::WebPush))?;
    let public_key = key.public().to_owned();
    Ok(Json(PublicKeyBody { public_key }))
}

async fn list_subscriptions(
    who: Authenticated,
    on: Use<Service>,
) -> Result<Json<SubscriptionsBody>, NotificationsError> {
    let (db, user) = (on.db.tenant(&who.scope()), person(&who)?);
    let found = db.read("list push subscriptions", async move |tx| {
        push::of_users(tx, vec![user]).await
    });
    let items = found.await?.into_iter().map(SubscriptionBody::from);
    Ok(Json(SubscriptionsBody {
        items: items.collect(),
    }))
}

async fn subscribe(
    who: Authenticated,
    on: Use<Service>,
    new: Valid<NewSubscription>,
    once: Idempotency,
) -> Result<Created<Versioned<SubscriptionBody>>, NotificationsError> {
    if !on.has(Channel::WebPush) {
        return Err(NotificationsError::NotConfigured(Channel::WebPush));
    }
    let (db, user) = (on.db.tenant(&who.scope()), person(&who)?);
    let (service, new) = (on.0.clone(), new.into_inner());
    let made = db.act("subscribe to push messages", async move |tx| {
        let with = (&service.sealer, &service.egress);
        let made = rules::subscribe(tx, with, user, new).await?;
        Ok::<_, NotificationsError>(made.map(|row| {
            let location = format!("/api/v1/push/subscriptions/{}", row.id);
            let body = row.into();
            once.keep(tx, Created { location, body })
        }))
    });
    made.await
}

async fn find_subscription(
    who: Authenticated,
    on: Use<Service>,
    id: Path<SubscriptionId>,
) -> Result<Versioned<SubscriptionBody>, NotificationsError> {
    let (db, user) = (on.db.tenant(&who.scope()), person(&who)?);
    let found = db.read("find push subscription", async move |tx| {
        rules::find(tx, user, *id).await
    });
    Ok(found.await?.into())
}

async fn end_subscription(
    who: Authenticated,
    on: Use<Service>,
    id: Path<SubscriptionId>,
    seen: IfMatch,
) -> Result<NoContent, NotificationsError> {
    let (db, user) = (on.db.tenant(&who.scope()), person(&who)?);
    let ended = db.act("unsubscribe from push messages", async move |tx| {
        rules::unsubscribe(tx, user, *id, &seen).await
    });
    ended.await?;
    Ok(NoContent)
}

async fn end_subscription_of_endpoint(
    who: Authenticated,
    on: Use<Service>,
    old: Valid<OldSubscription>,
) -> Result<NoContent, NotificationsError> {
    let (db, user) = (on.db.tenant(&who.scope()), person(&who)?);
    let endpoint = old.into_inner().endpoint;
    let ended = db.act("unsubscribe from push messages", async move |tx| {
        rules::unsubscribe_endpoint(tx, user, &endpoint).await
    });
    ended.await?;
    Ok(NoContent)
}
