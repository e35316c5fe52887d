//! `/webhook-deliveries` and `/webhook-events`.

use dotmac_platform::{audit::Acts as _, prelude::*};
use serde_json::Value;

use super::{CHANGES, parsed};
use crate::{
    Read, ReadDeliveries, WebhooksError, WriteDeliveries,
    bodies::{Asked, DeliveryBody, DetailBody, EventBody},
    rules::deliveries as rules,
    service::Service,
    store::{
        attempts::AttemptRow,
        deliveries::{self as store, DeliveryId, DeliveryRow, Filter},
        states::DeliveryState,
    },
};

pub(super) fn declare(routes: &mut Routes) {
    routes.no_store();
    routes
        .get("", list)
        .id("webhooks_list_deliveries")
        .summary("The tenant's webhook deliveries, the newest first");
    routes
        .get("/{id}", find)
        .id("webhooks_find_delivery")
        .summary("One webhook delivery, with what is sent and its attempts");
    routes
        .post("/{id}/replay", replay)
        .id("webhooks_replay_delivery")
        .summary("Restart a webhook delivery")
        .description("Also a delivered one. The receiver recognises the same `webhook-id`.")
        .rate_limit(CHANGES);
}

pub(super) fn declare_events(routes: &mut Routes) {
    routes
        .get("", list_events)
        .summary("The types of events that webhook endpoints can get")
        .description("In addition to these, types of the tenant: `custom.order.paid.v1`.");
}

impl From<DeliveryRow> for DeliveryBody {
    fn from(row: DeliveryRow) -> Self {
        Self {
            id: row.id.uuid(),
            endpoint: row.endpoint_id.uuid(),
            event: row.kind,
            message_id: row.message_id.uuid(),
            state: row.state,
            attempt_count: row.attempts,
            next_attempt_at: Some(row.due_at).filter(|_| row.state == DeliveryState::Pending),
            last_status: row.last_status,
            last_error: row.last_error,
            created_at: row.created_at,
            finished_at: row.finished_at,
        }
    }
}

async fn list(
    who: Can<ReadDeliveries>,
    on: Use<Service>,
    asked: Query<Asked>,
    paging: Paging,
) -> Result<Page<DeliveryBody>, WebhooksError> {
    let endpoint = parsed("endpoint", asked.endpoint.as_deref(), || {
        "is the id of a webhook endpoint".to_owned()
    })?;
    let state = parsed("state", asked.state.as_deref(), || {
        let words: Vec<_> = DeliveryState::ALL.iter().map(|it| it.as_str()).collect();
        format!("is one of {}", words.join(", "))
    })?;
    let filter = Filter {
        endpoint,
        state,
        kind: asked.event.clone(),
    };
    let bound_filter = format!("{filter:?}");
    let bound = CursorScope {
        tenant: who.tenant,
        list: "webhook-deliveries",
        sort: "",
        filter: &bound_filter,
    };
    let (window, db) = (paging.window(&bound)?, on.db.tenant(&who.scope()));
    let found = db.read("list webhook deliveries", async move |tx| {
        rows!(window, |before, limit| store::page(
            tx,
            filter.clone(),
            before,
            limit
        ))
    });
    let found = found.await?.map(DeliveryBody::from);
    Ok(paging.page(&bound, found, |it: &DeliveryBody| {
        DeliveryId::from_uuid(it.id)
    }))
}

async fn find(
    who: Can<ReadDeliveries>,
    on: Use<Service>,
    id: Path<DeliveryId>,
) -> Result<Json<DetailBody>, WebhooksError> {
    let db = on.db.tenant(&who.scope());
    let found = db.read("find webhook delivery", async move |tx| {
        rules::detail(tx, *id).await
    });
    let (row, payload, attempts) = found.await?;
    Ok(Json(DetailBody {
        delivery: row.into(),
        payload: serde_json::from_str(&payload).unwrap_or(Value::Null),
        attempts: attempts.into_iter().map(AttemptRow::attempt).collect(),
    }))
}

async fn replay(
    who: Can<WriteDeliveries>,
    on: Use<Service>,
    id: Path<DeliveryId>,
) -> Result<Accepted<DeliveryBody>, WebhooksError> {
    let db = on.db.tenant(&who.scope());
    let replayed = db.act("replay webhook delivery", async move |tx| {
        let replayed = rules::replay(tx, *id).await?;
        Ok::<_, WebhooksError>(replayed.map(|row| {
            let location = format!("/api/v1/webhook-deliveries/{}", row.id);
            let body = DeliveryBody::from(row);
            Accepted { location, body }
        }))
    });
    replayed.await
}

async fn list_events(_: Can<Read>, on: Use<Service>) -> Result<Page<EventBody>, WebhooksError> {
    let types = on.catalogue.types().iter().map(|it| EventBody {
        kind: it.kind().to_owned(),
        description: it.description(),
        schema: it.schema(),
    });
    Ok(Page::whole(types.collect()))
}
