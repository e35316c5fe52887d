//! What happens to notes without a request.

use std::time::Duration;

use dotmac_platform::db::{DbError, ModuleDb, types::Moment};

use crate::store;

/// Deletes notes older than `keep`.
pub(crate) async fn sweep(db: ModuleDb, keep: Duration) -> Result<(), DbError> {
    let oldest = Moment::now() - keep;
    let db = db.system("delete old notes");
    let deleted = db.transaction("sweep notes", async move |tx| {
        store::delete_older(tx, oldest).await
    });
    match deleted.await? {
        0 => {}
        deleted => tracing::info!(deleted, "deleted old notes"),
    }
    Ok(())
}
