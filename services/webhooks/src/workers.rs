//! What happens to webhooks without a request: what is over is taken away, and what a former master key sealed is resealed.

use std::time::Duration;

use dotmac_platform::{
    db::{DbError, Tx, types::Moment},
    sealing::{Resealing, SealedColumn},
    supervision::WorkerContext,
};

use crate::{
    WebhooksError,
    service::Service,
    store::{
        deliveries,
        endpoints::{self, HEADERS},
        messages,
        secrets::{self, SECRETS},
    },
};

/// Rows that one transaction takes away.
const BATCH: i64 = 500;

/// Deleted endpoints that one run takes away.
const MOST_DELETED: i64 = 100;

/// How long a secret stays after its end, for attempts that were signed with it and are under way.
const SECRETS_KEPT: Duration = Duration::from_secs(3600);

/// Takes away what is over. One instance does it at a time.
pub(crate) async fn sweep(service: Service, context: WorkerContext) -> Result<(), WebhooksError> {
    reseal(&service, SECRETS, &context).await?;
    reseal(&service, HEADERS, &context).await?;
    let db = service.db.system("take away old webhooks");
    let before = Moment::now() - service.settings.retention;
    let mut taken = 0;
    loop {
        let older = async move |tx: &mut Tx| deliveries::delete_older(tx, before, BATCH).await;
        let deleted: Result<usize, DbError> = db.transaction("take deliveries away", older).await;
        let deleted = deleted?;
        taken += deleted;
        context.beat();
        if is_end(deleted) {
            break;
        }
    }
    loop {
        let unused = async move |tx: &mut Tx| messages::delete_unused(tx, before, BATCH).await;
        let deleted: Result<usize, DbError> = db.transaction("take messages away", unused).await;
        context.beat();
        if is_end(deleted?) {
            break;
        }
    }
    if taken > 0 {
        tracing::info!(deliveries = taken, "deleted old webhook deliveries");
    }
    let over = async move |tx: &mut Tx| {
        secrets::delete_expired(tx, Moment::now() - SECRETS_KEPT).await?;
        endpoints::deleted(tx, MOST_DELETED).await
    };
    let deleted: Result<Vec<_>, DbError> = db.transaction("take secrets away", over).await;
    for (tenant, id) in deleted? {
        loop {
            let of = async move |tx: &mut Tx| deliveries::delete_of(tx, tenant, id, BATCH).await;
            let deleted: Result<usize, DbError> = db.transaction("take deliveries away", of).await;
            context.beat();
            if is_end(deleted?) {
                break;
            }
        }
        let remove = async move |tx: &mut Tx| endpoints::remove(tx, tenant, id).await;
        let removed: Result<(), DbError> = db.transaction("take endpoint away", remove).await;
        match removed {
            // A delivery was added meanwhile; the next run takes it.
            Err(error) if error.reason().is_none() => {
                tracing::debug!(%error, "a deleted webhook endpoint is removed later");
            }
            removed => removed?,
        }
    }
    Ok(())
}

fn is_end(deleted: usize) -> bool {
    i64::try_from(deleted).is_ok_and(|deleted| deleted < BATCH)
}

/// Moves what is sealed to the first key. Without one nothing can be sealed: requests are refused with that reason, and the worker
/// has not failed.
async fn reseal(
    service: &Service,
    column: SealedColumn,
    context: &WorkerContext,
) -> Result<(), WebhooksError> {
    let db = service.db.system("reseal secrets of webhooks");
    let mut resealing = Resealing::new(column);
    loop {
        let step = resealing.step(&db, &service.sealer, 100).await;
        context.beat();
        match step.map_err(WebhooksError::from) {
            Ok(done) if done.is_done => return Ok(()),
            Ok(_) => {}
            Err(WebhooksError::Sealing(error)) => {
                tracing::debug!(%error, "secrets of webhooks were not resealed");
                return Ok(());
            }
            Err(error) => return Err(error),
        }
    }
}
