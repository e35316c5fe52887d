//! Deliveries.

use dotmac_platform::{audit::Acts as _, db::types::Id, prelude::*, routing::InvalidRequest};

use crate::{
    Read, Write,
    bodies::{Asked, DeliveryBody, DeliveryDetail},
    channel::{Channel, State},
    error::NotificationsError,
    rules::act,
    service::Service,
    store::{
        deliveries::{self, DeliveryId, Filter},
        digests,
    },
};

pub(super) fn declare(routes: &mut Routes) {
    routes
        .get("", list_deliveries)
        .summary("The tenant's deliveries, the newest first");
    routes
        .get("/{id}", find_delivery)
        .summary("One delivery, with its attempts");
    routes
        .post("/{id}/retry", retry_delivery)
        .summary("Send a delivery again")
        .description("One that is `unknown` may have arrived, so it may arrive twice.");
    routes
        .post("/{id}/cancel", cancel_delivery)
        .summary("Cancel a waiting delivery");
}

fn filter(asked: &Asked) -> Result<Filter, InvalidRequest> {
    let states = || {
        let states: Vec<_> = State::ALL.iter().map(|it| it.as_str()).collect();
        format!("is one of {}", states.join(", "))
    };
    let channels = || {
        let channels: Vec<_> = Channel::ALL.iter().map(|it| it.as_str()).collect();
        format!("is one of {}", channels.join(", "))
    };
    let state = asked.state.as_deref().map(|it| {
        it.parse::<State>()
            .map_err(|_| InvalidRequest::query("state", states()))
    });
    let channel = asked.channel.as_deref().map(|it| {
        it.parse::<Channel>()
            .map_err(|_| InvalidRequest::query("channel", channels()))
    });
    Ok(Filter {
        state: state.transpose()?,
        channel: channel.transpose()?,
        notification: asked.notification.map(Id::from_uuid),
    })
}

async fn list_deliveries(
    who: Can<Read>,
    on: Use<Service>,
    asked: Query<Asked>,
    paging: Paging,
) -> Result<Page<DeliveryBody>, NotificationsError> {
    let filter = filter(&asked)?;
    let bound_filter = format!("{filter:?}");
    let scope = CursorScope {
        filter: &bound_filter,
        ..CursorScope::of(who.tenant, "deliveries")
    };
    let (window, db) = (paging.window(&scope)?, on.db.tenant(&who.scope()));
    let found = db.read("list deliveries", async move |tx| {
        rows!(window, |after, limit| deliveries::page(
            tx, filter, after, limit
        ))
    });
    let found = found.await?.map(DeliveryBody::from);
    Ok(paging.page(&scope, found, |it| it.id))
}

async fn find_delivery(
    who: Can<Read>,
    on: Use<Service>,
    id: Path<DeliveryId>,
) -> Result<Json<DeliveryDetail>, NotificationsError> {
    let db = on.db.tenant(&who.scope());
    let found = db.read("find delivery", async move |tx| {
        let delivery = act::find(tx, *id).await?;
        let history = deliveries::attempts(tx, *id).await?;
        let digest_of = digests::first_of(tx, *id).await?;
        Ok::<_, NotificationsError>((delivery, history, digest_of))
    });
    let (delivery, history, digest_of) = found.await?;
    let history = history
        .iter()
        .filter_map(|it| serde_json::from_str(it).ok());
    Ok(Json(DeliveryDetail {
        delivery: delivery.into(),
        digest_of,
        history: history.collect(),
    }))
}

async fn retry_delivery(
    who: Can<Write>,
    on: Use<Service>,
    id: Path<DeliveryId>,
) -> Result<Json<DeliveryBody>, NotificationsError> {
    let (service, db) = (on.0.clone(), on.db.tenant(&who.scope()));
    let done = db.act("retry delivery", async move |tx| {
        act::retry(tx, &service, *id).await
    });
    Ok(Json(done.await?.into()))
}

async fn cancel_delivery(
    who: Can<Write>,
    on: Use<Service>,
    id: Path<DeliveryId>,
) -> Result<Json<DeliveryBody>, NotificationsError> {
    let db = on.db.tenant(&who.scope());
    let done = db.act("cancel delivery", async move |tx| {
        act::cancel(tx, *id).await
    });
    Ok(Json(done.await?.into()))
}
