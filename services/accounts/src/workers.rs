//! Work on accounts without a request.

use std::time::Duration;

use dotmac_platform::{
    db::{DbError, Tx, types::Moment},
    supervision::WorkerContext,
};

use crate::{
    AccountsError,
    cookies::DEVICE_KNOWN,
    service::Service,
    store::{
        api_keys, bindings, ceremonies, changes, devices, flows, grants, one_time, registrations,
        sessions, throttle,
    },
};

/// How long sessions, role bindings and grants stay after their end, for questions about them.
const ENDED_KEPT: Duration = Duration::from_secs(30 * 24 * 3600);

/// How long changes stay: far longer than any instance goes without reading them and does not forget everything.
const CHANGES_KEPT: Duration = Duration::from_secs(3600);

/// Failures are counted for a day.
const FAILURES_KEPT: Duration = Duration::from_secs(25 * 3600);

/// Rows that are deleted with one transaction.
const BATCH: i64 = 500;

/// Keeps this instance's memory true: reads what changed on others, and the keys if they did.
pub(crate) async fn follow(service: Service) -> Result<(), AccountsError> {
    service.changes.read(&service.open_db).await?;
    if service.changes.are_keys_due() || service.keys.has_retired() {
        // A load that fails is tried again: what was revoked must not count any longer. Without a key to seal with the public
        // keys were loaded all the same.
        unless_sealed(service.keys.load().await.map(drop))?;
        service.changes.keys_loaded();
    }
    Ok(())
}

/// Without a key to seal with, or while Vault does not answer, each sign-in that needs a new key is refused, with its reason; the
/// worker itself has not failed.
fn unless_sealed(result: Result<(), AccountsError>) -> Result<(), AccountsError> {
    match result {
        Err(error @ AccountsError::Vault(_)) => {
            let error = dotmac_causes::chain(&error);
            tracing::warn!(error, "cannot create a new key of the program; retrying");
            Ok(())
        }
        Err(error @ (AccountsError::Sealing(_) | AccountsError::NoSigningKey)) => {
            tracing::warn!(%error, "sign-in is refused: no key for signing tokens; set DOTMAC_APP_MASTER_KEY");
            Ok(())
        }
        result => result,
    }
}

/// Stores when API keys were used.
pub(crate) async fn write_uses(service: Service) -> Result<(), AccountsError> {
    let uses = service.uses.take();
    if uses.is_empty() {
        return Ok(());
    }
    let written = service
        .open_db
        .transaction("write uses of API keys", async move |tx| {
            for (id, is_next, at) in uses {
                api_keys::touch(tx, id, is_next, at).await?;
            }
            Ok::<_, AccountsError>(())
        });
    written.await
}

/// What is deleted once it is over.
#[derive(Clone, Copy)]
enum Swept {
    Sessions,
    Links,
    Registrations,
    Flows,
    Ceremonies,
    Failures,
    Devices,
    Bindings,
    Grants,
    Changes,
}

impl Swept {
    const ALL: [Self; 10] = [
        Self::Sessions,
        Self::Links,
        Self::Registrations,
        Self::Flows,
        Self::Ceremonies,
        Self::Failures,
        Self::Devices,
        Self::Bindings,
        Self::Grants,
        Self::Changes,
    ];

    /// Deletes some of it; the number of rows.
    async fn delete(self, tx: &mut Tx, now: Moment) -> Result<usize, DbError> {
        match self {
            Self::Sessions => sessions::delete_over(tx, now - ENDED_KEPT, BATCH).await,
            Self::Links => one_time::delete_over(tx, now, BATCH).await,
            Self::Registrations => registrations::delete_over(tx, now, BATCH).await,
            Self::Flows => flows::delete_over(tx, now, BATCH).await,
            Self::Ceremonies => ceremonies::delete_over(tx, now, BATCH).await,
            Self::Failures => throttle::delete_over(tx, now - FAILURES_KEPT, BATCH).await,
            Self::Devices => devices::delete_older(tx, now - DEVICE_KNOWN, BATCH).await,
            Self::Bindings => bindings::delete_over(tx, now - ENDED_KEPT, BATCH).await,
            Self::Grants => grants::delete_over(tx, now - ENDED_KEPT, BATCH).await,
            Self::Changes => changes::delete_older(tx, now - CHANGES_KEPT, BATCH).await,
        }
    }
}

/// Deletes what is over, reseals what a former master key sealed, and replaces the signing key when it is due. One instance does
/// it at a time.
pub(crate) async fn sweep(service: Service, context: WorkerContext) -> Result<(), AccountsError> {
    unless_sealed(service.keys.reseal().await)?;
    unless_sealed(service.keys.rotate_if_due().await)?;
    let now = Moment::now();
    for swept in Swept::ALL {
        loop {
            let delete = async move |tx: &mut Tx| swept.delete(tx, now).await;
            let deleted = service.open_db.transaction("delete what is over", delete);
            let deleted = deleted.await?;
            context.beat();
            if i64::try_from(deleted).is_ok_and(|deleted| deleted < BATCH) {
                break;
            }
        }
    }
    Ok(())
}
