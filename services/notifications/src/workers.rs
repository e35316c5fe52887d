//! What happens to notifications without a request.

use std::time::Duration;

use dotmac_platform::{
    db::types::Moment,
    sealing::{ResealError, Resealing},
    supervision::WorkerContext,
};

use crate::{
    error::NotificationsError,
    service::Service,
    store::{lanes, notifications, push::SUBSCRIPTION, reports},
};

/// Notifications that one transaction deletes, so that it is short.
const BATCH: i64 = 500;

/// How long the ids of calls are kept by which relays reported something: longer than relays send one again.
const REPORTS: Duration = Duration::from_secs(7 * 24 * 3600);

/// How long the lane of a URL is kept that is not called any more.
const LANES: Duration = Duration::from_secs(2 * 24 * 3600);

/// Deletes what is older than it is kept, in batches, and the content of secret mails whose time is over; and reseals what a former
/// master key sealed.
pub(crate) async fn sweep(
    service: Service,
    context: WorkerContext,
) -> Result<(), NotificationsError> {
    reseal(&service, &context).await?;
    let now = Moment::now();
    let oldest = now - service.settings.retention;
    let db = service.db.system("delete old notifications");
    let forgotten = db.transaction("forget expired mail", async move |tx| {
        notifications::forget_expired(tx, now).await
    });
    let forgotten = forgotten.await?;
    if forgotten > 0 {
        tracing::info!(forgotten, "deleted the content of expired mail");
    }
    let (unused, reported) = (now - LANES, now - REPORTS);
    let forgotten = db.transaction("delete unused lanes and reports", async move |tx| {
        lanes::delete_unused(tx, unused).await?;
        reports::delete_older(tx, reported).await
    });
    forgotten.await?;
    loop {
        let deleted = db.transaction("sweep notifications", async move |tx| {
            notifications::delete_older(tx, oldest, BATCH).await
        });
        context.beat();
        match deleted.await? {
            0 => return Ok(()),
            deleted => tracing::info!(deleted, "deleted old notifications"),
        }
    }
}

/// Moves what is kept of browsers to the first master key. Without one there are none.
async fn reseal(service: &Service, context: &WorkerContext) -> Result<(), NotificationsError> {
    let db = service.db.system("reseal push subscriptions");
    let mut resealing = Resealing::new(SUBSCRIPTION);
    loop {
        let step = resealing.step(&db, &service.sealer, 100).await;
        context.beat();
        match step {
            Ok(done) if done.is_done => return Ok(()),
            Ok(_) => {}
            Err(ResealError::Sealing(error)) => {
                tracing::debug!(%error, "push subscriptions were not resealed");
                return Ok(());
            }
            Err(ResealError::Db(error)) => return Err(error.into()),
        }
    }
}
