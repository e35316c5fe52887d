//! Takes requests apart, calls rules, puts answers together.

use std::time::Duration;

use dotmac_platform::{
    audit::{AcrossActs as _, Acts as _, Audit as _},
    db::AcrossTx,
    events::{CloudEvent, EventId, Position, SubscriberStatus, subscribers},
    prelude::*,
    routing::InvalidRequest,
};

use crate::{
    EventsError, Read, ReadSubscribers, Service, Write, WriteSubscribers, acts,
    bodies::{Asked, NewEvent, Rewind, SubscriberBody, TypeBody},
    rules,
};

const MINUTE: Duration = Duration::from_secs(60);

pub(crate) fn declare(routes: &mut Routes) {
    routes
        .get("", list)
        .summary("The tenant's events, in their order")
        .description(
            "Oldest first. The order never changes, and no event appears before a read one: a reader continues with \
            the `sequence` of its last event as `after`, and misses none. Events appear when no older transaction can \
            commit any more.",
        );
    routes
        .post("", publish)
        .summary("Emit an event of a type of the tenant")
        .rate_limit(RateLimit::per_principal(6000, MINUTE));
    routes
        .get("/types", types)
        .summary("The types of events that this program emits");
    routes
        .get("/subscribers", list_subscribers)
        .summary("The position of each subscriber, and the cause of its lag");
    routes
        .post("/subscribers/{name}/rewind", rewind)
        .summary("Rewind a subscriber to another position of the log")
        .description(
            "It handles all events from there on again, and drops its held and parked events.",
        );
    routes
        .post("/subscribers/{name}/retry", retry)
        .summary("Retry the parked events of a subscriber");
    routes.get("/{id}", find).summary("One event");
}

async fn list(
    who: Can<Read>,
    on: Use<Service>,
    asked: Query<Asked>,
    paging: Paging,
) -> Result<Page<CloudEvent>, EventsError> {
    let filter = rules::filter(&asked)?;
    let bound_filter = format!("{:?} {:?}", filter.kinds, filter.subject);
    let bound = CursorScope {
        tenant: who.tenant,
        list: "events",
        sort: "",
        filter: &bound_filter,
    };
    let window = paging.window_after(place(&asked, &paging, &bound)?);
    let db = on.db.tenant(&who.scope());
    let events = db.read("list events", async move |tx| {
        rows!(window, |after, limit| rules::list(
            tx,
            &filter,
            after,
            limit.try_into().unwrap_or(u16::MAX)
        ))
    });
    let key = |event: &CloudEvent| event.sequence().to_string();
    Ok(paging.page(&bound, events.await?, key))
}

/// Behind which place the list begins: `after` is a `sequence`, or a cursor as `cursor` is.
fn place(
    asked: &Asked,
    paging: &Paging,
    bound: &CursorScope<'_>,
) -> Result<Option<Position>, EventsError> {
    let after = asked.after.as_deref();
    if let Some(place) = after.and_then(|after| after.parse().ok()) {
        return Ok(Some(place));
    }
    let paging = match after {
        Some(cursor) => &paging.clone().with_cursor("after", cursor.to_owned()),
        None => paging,
    };
    let sequence: Option<String> = paging.after(bound)?;
    Ok(sequence.and_then(|sequence| sequence.parse().ok()))
}

async fn find(
    who: Can<Read>,
    on: Use<Service>,
    id: Path<EventId>,
) -> Result<Json<CloudEvent>, EventsError> {
    let db = on.db.tenant(&who.scope());
    let found = db.read("find event", async move |tx| rules::one(tx, *id).await);
    Ok(Json(found.await?))
}

async fn publish(
    who: Can<Write>,
    on: Use<Service>,
    new: Valid<NewEvent>,
    once: Idempotency,
) -> Result<Created<CloudEvent>, EventsError> {
    let new = new.into_inner();
    let db = on.db.tenant(&who.scope());
    let published = db.act("publish event", async move |tx| {
        let published = rules::publish(tx, new).await?;
        let location = format!("/api/v1/events/{}", published.id());
        Ok(published.map(|body| once.keep(tx, Created { location, body })))
    });
    published.await
}

async fn types(_: Can<Read>, on: Use<Service>) -> Page<TypeBody> {
    Page::whole(on.catalogue.types().iter().map(TypeBody::from).collect())
}

async fn list_subscribers(
    _: Can<ReadSubscribers>,
    on: Use<Service>,
) -> Result<Page<SubscriberBody>, DbError> {
    let db = on.db.system("show subscribers to an operator");
    let found = db.read("list subscribers", async |c| subscribers(c).await);
    let subscriptions = on.catalogue.subscriptions();
    let body = |status| SubscriberBody::new(status, &subscriptions);
    Ok(Page::whole(found.await?.into_iter().map(body).collect()))
}

/// Recorded as an act of the caller, in the caller's tenant.
async fn rewind(
    who: Can<WriteSubscribers>,
    on: Use<Service>,
    name: Path<String>,
    asked: Valid<Rewind>,
) -> Result<Json<SubscriberBody>, EventsError> {
    let to = rules::rewind_to(&asked.to).ok_or_else(|| {
        let right = "is `beginning`, a `sequence` of 32 hexadecimal digits, or a moment as `2026-11-28T12:00:00Z`";
        InvalidRequest::fields([("to", right.to_owned())])
    })?;
    let db = on.db.system("rewind a subscriber for an operator");
    let scope = who.scope();
    let rewound = db.act_across("rewind subscriber", async move |mut tx: AcrossTx<'_>| {
        let by = tx.tenant(&scope).await?;
        let recorded = by.audit(acts::rewind(&name, &to))?;
        let tx = tx.system().await?;
        rules::rewind_subscriber(tx, &name, to, recorded).await
    });
    Ok(shown(rewound.await?, &on))
}

/// Recorded as [`rewind`] is.
async fn retry(
    who: Can<WriteSubscribers>,
    on: Use<Service>,
    name: Path<String>,
) -> Result<Json<SubscriberBody>, EventsError> {
    let db = on.db.system("retry a subscriber's events for an operator");
    let scope = who.scope();
    let retried = db.act_across("retry parked events", async move |mut tx: AcrossTx<'_>| {
        let by = tx.tenant(&scope).await?;
        let recorded = by.audit(acts::retry(&name))?;
        let tx = tx.system().await?;
        rules::retry(tx, &name, recorded).await
    });
    Ok(shown(retried.await?, &on))
}

fn shown(status: SubscriberStatus, on: &Service) -> Json<SubscriberBody> {
    Json(SubscriberBody::new(status, &on.catalogue.subscriptions()))
}
