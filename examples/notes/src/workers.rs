//! Background work on notes.

use std::time::Duration;

use dotmac_platform::db::{DbError, ModuleDb, types::Moment};

use crate::store;

/// Notes that one transaction deletes, so that it is short.
const BATCH: i64 = 1000;

/// Deletes notes older than `keep`, in batches.
pub(crate) async fn sweep(db: ModuleDb, keep: Duration) -> Result<(), DbError> {
    let oldest = Moment::now() - keep;
    let db = db.system("delete old notes");
    loop {
        let deleted = db.transaction("sweep notes", async move |tx| {
            store::delete_older(tx, oldest, BATCH).await
        });
        match deleted.await? {
            0 => return Ok(()),
            deleted => tracing::info!(deleted, "deleted old notes"),
        }
    }
}
