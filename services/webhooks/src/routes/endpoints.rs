//! `/webhooks`: endpoints.

use std::time::Duration;

use dotmac_platform::{
    audit::Acts as _,
    db::{TenantTx, types::Moment},
    prelude::*,
    routing::InvalidRequest,
};
use secrecy::ExposeSecret as _;

use super::{BODY, CHANGES};
use crate::{
    Read, WebhooksError, Write,
    bodies::{
        DeliveryBody, EndpointBody, EndpointPatch, MadeEndpoint, NewEndpoint, Recovered, Recovery,
        Rotation, StatsBody,
    },
    rules::{deliveries, endpoints as rules, secrets as secret_rules, stats},
    service::Service,
    store::{
        endpoints::{self as store, EndpointId, EndpointRow},
        secrets,
    },
};

pub(super) fn declare(routes: &mut Routes) {
    routes.no_store();
    routes
        .get("", list)
        .summary("The tenant's webhook endpoints, the newest first");
    routes
        .post("", create)
        .summary("Create a webhook endpoint; only this answer has its secret")
        .rate_limit(CHANGES)
        .body_limit(BODY)
        .secret_answer();
    routes.get("/{id}", find).summary("One webhook endpoint");
    routes
        .patch("/{id}", change)
        .summary("Change a webhook endpoint")
        .rate_limit(CHANGES)
        .body_limit(BODY);
    routes
        .delete("/{id}", delete)
        .summary("Delete a webhook endpoint and its deliveries");
    routes
        .post("/{id}/rotate", rotate)
        .summary("Give a webhook endpoint another secret")
        .description(
            "The former secret also signs for a time, so that the receiver can change over.",
        )
        .rate_limit(CHANGES)
        .body_limit(BODY);
    routes
        .post("/{id}/test", test)
        .summary("Send a test to a webhook endpoint")
        .rate_limit(CHANGES);
    routes
        .post("/{id}/pause", pause)
        .summary("Pause a webhook endpoint");
    routes
        .post("/{id}/resume", resume)
        .summary("Resume a paused or disabled webhook endpoint");
    routes
        .post("/{id}/recover", recover)
        .summary("Restart failed deliveries of a webhook endpoint")
        .rate_limit(CHANGES)
        .body_limit(BODY);
    routes
        .get("/{id}/stats", show_stats)
        .summary("The state of a webhook endpoint, and its figures");
}

/// An endpoint as it is shown, with what may be shown of its secrets.
async fn body(tx: &mut TenantTx, row: EndpointRow) -> Result<EndpointBody, WebhooksError> {
    let mut bodies = bodies(tx, vec![row]).await?;
    bodies.pop().ok_or(WebhooksError::NotFound)
}

async fn bodies(
    tx: &mut TenantTx,
    rows: Vec<EndpointRow>,
) -> Result<Vec<EndpointBody>, WebhooksError> {
    let ids = rows.iter().map(|row| row.id).collect();
    let shown = secrets::shown(tx, ids, Moment::now()).await?;
    let bodies = rows.into_iter().map(|row| {
        let of_it = || shown.iter().filter(|it| it.endpoint_id == row.id);
        let present = of_it().find(|it| it.expires_at.is_none());
        let headers = row.header_names.0.iter();
        EndpointBody {
            id: row.id.uuid(),
            public_key: present.and_then(|it| it.public_key.clone()),
            former_secret_until: of_it().filter_map(|it| it.expires_at).max(),
            headers: headers
                .map(|name| (name.clone(), "[redacted]".to_owned()))
                .collect(),
            url: row.url,
            description: row.description,
            events: row.events.0,
            signing: row.signing,
            state: row.state,
            state_reason: row.state_reason,
            created_at: row.created_at,
            updated_at: row.updated_at,
        }
    });
    Ok(bodies.collect())
}

async fn versioned(
    tx: &mut TenantTx,
    row: EndpointRow,
) -> Result<Versioned<EndpointBody>, WebhooksError> {
    let version = row.version;
    let body = body(tx, row).await?;
    Ok(Versioned { version, body })
}

async fn list(
    who: Can<Read>,
    on: Use<Service>,
    paging: Paging,
) -> Result<Page<EndpointBody>, WebhooksError> {
    let scope = CursorScope::of(who.tenant, "webhooks");
    let (window, db) = (paging.window(&scope)?, on.db.tenant(&who.scope()));
    let found = db.read("list webhooks", async move |tx| {
        let found = rows!(window, |before, limit| store::page(tx, before, limit))?;
        Ok::<_, WebhooksError>(Rows {
            rows: bodies(tx, found.rows).await?,
            total: found.total,
        })
    });
    Ok(paging.page(&scope, found.await?, |it| EndpointId::from_uuid(it.id)))
}

async fn create(
    who: Can<Write>,
    on: Use<Service>,
    new: Valid<NewEndpoint>,
    once: Idempotency,
) -> Result<Created<MadeEndpoint>, WebhooksError> {
    let (new, service) = (new.into_inner(), on.0.clone());
    let db = on.db.tenant(&who.scope());
    let created = db.act("create webhook", async move |tx| {
        let (created, proof) = rules::create(tx, &service, new).await?.into_parts();
        let (row, secret) = created;
        let location = format!("/api/v1/webhooks/{}", row.id);
        let body = MadeEndpoint {
            secret: secret.expose_secret().to_owned(),
            about: body(tx, row).await?,
        };
        Ok::<_, WebhooksError>(proof.map(|()| once.keep(tx, Created { location, body })))
    });
    created.await
}

async fn find(
    who: Can<Read>,
    on: Use<Service>,
    id: Path<EndpointId>,
) -> Result<Versioned<EndpointBody>, WebhooksError> {
    let db = on.db.tenant(&who.scope());
    let found = db.read("find webhook", async move |tx| {
        let row = rules::find(tx, *id).await?;
        versioned(tx, row).await
    });
    found.await
}

async fn change(
    who: Can<Write>,
    on: Use<Service>,
    id: Path<EndpointId>,
    seen: IfMatch,
    patch: Valid<EndpointPatch>,
) -> Result<Versioned<EndpointBody>, WebhooksError> {
    let (patch, service) = (patch.into_inner(), on.0.clone());
    let db = on.db.tenant(&who.scope());
    let changed = db.act("change webhook", async move |tx| {
        let changed = rules::change(tx, &service, *id, &seen, patch).await?;
        let (row, proof) = changed.into_parts();
        let body = versioned(tx, row).await?;
        Ok::<_, WebhooksError>(proof.map(|()| body))
    });
    changed.await
}

async fn delete(
    who: Can<Write>,
    on: Use<Service>,
    id: Path<EndpointId>,
    seen: IfMatch,
) -> Result<NoContent, WebhooksError> {
    let db = on.db.tenant(&who.scope());
    let deleted = db.act("delete webhook", async move |tx| {
        rules::delete(tx, *id, &seen).await
    });
    deleted.await?;
    Ok(NoContent)
}

async fn rotate(
    who: Can<Write>,
    on: Use<Service>,
    id: Path<EndpointId>,
    rotation: Valid<Rotation>,
) -> Result<Json<MadeEndpoint>, WebhooksError> {
    let overlap = overlap(&on, rotation.into_inner())?;
    let service = on.0.clone();
    let db = on.db.tenant(&who.scope());
    let rotated = db.act("rotate secret of webhook", async move |tx| {
        let rotated = secret_rules::rotate(tx, &service.sealer, *id, overlap).await?;
        let ((row, secret), proof) = rotated.into_parts();
        let body = MadeEndpoint {
            secret: secret.expose_secret().to_owned(),
            about: body(tx, row).await?,
        };
        Ok::<_, WebhooksError>(proof.map(|()| body))
    });
    Ok(Json(rotated.await?))
}

fn overlap(on: &Service, rotation: Rotation) -> Result<Duration, WebhooksError> {
    let Some(text) = rotation.overlap else {
        return Ok(on.settings.rotation_overlap);
    };
    let read = humantime::parse_duration(text.trim()).ok();
    let overlap = read.filter(|overlap| *overlap <= secret_rules::LONGEST_OVERLAP);
    let wanted = "is a time of at most 7 days, as `24h`";
    overlap.ok_or_else(|| InvalidRequest::fields([("overlap", wanted.to_owned())]).into())
}

async fn test(
    who: Can<Write>,
    on: Use<Service>,
    id: Path<EndpointId>,
    once: Idempotency,
) -> Result<Accepted<DeliveryBody>, WebhooksError> {
    let db = on.db.tenant(&who.scope());
    let tested = db.act("test webhook", async move |tx| {
        let tested = deliveries::test(tx, *id).await?;
        Ok::<_, WebhooksError>(tested.map(|row| {
            let location = format!("/api/v1/webhook-deliveries/{}", row.id);
            let body = DeliveryBody::from(row);
            once.keep(tx, Accepted { location, body })
        }))
    });
    tested.await
}

async fn pause(
    who: Can<Write>,
    on: Use<Service>,
    id: Path<EndpointId>,
) -> Result<Versioned<EndpointBody>, WebhooksError> {
    let db = on.db.tenant(&who.scope());
    let paused = db.act("pause webhook", async move |tx| {
        let (row, proof) = rules::pause(tx, *id).await?.into_parts();
        let body = versioned(tx, row).await?;
        Ok::<_, WebhooksError>(proof.map(|()| body))
    });
    paused.await
}

async fn resume(
    who: Can<Write>,
    on: Use<Service>,
    id: Path<EndpointId>,
) -> Result<Versioned<EndpointBody>, WebhooksError> {
    let db = on.db.tenant(&who.scope());
    let resumed = db.act("resume webhook", async move |tx| {
        let (row, proof) = rules::resume(tx, *id).await?.into_parts();
        let body = versioned(tx, row).await?;
        Ok::<_, WebhooksError>(proof.map(|()| body))
    });
    resumed.await
}

async fn recover(
    who: Can<Write>,
    on: Use<Service>,
    id: Path<EndpointId>,
    recovery: Valid<Recovery>,
) -> Result<Json<Recovered>, WebhooksError> {
    let since = recovery.since;
    let db = on.db.tenant(&who.scope());
    let recovered = db.act("recover webhook", async move |tx| {
        deliveries::recover(tx, *id, since).await
    });
    Ok(Json(recovered.await?))
}

async fn show_stats(
    who: Can<Read>,
    on: Use<Service>,
    id: Path<EndpointId>,
) -> Result<Json<StatsBody>, WebhooksError> {
    let lanes = on.settings.lanes();
    let db = on.db.tenant(&who.scope());
    let counted = db.read("count deliveries of webhook", async move |tx| {
        stats::of(tx, &lanes, *id).await
    });
    Ok(Json(counted.await?))
}
