//! Writes the ends of attempts, in groups: all that have gathered while the last group was committed.
//!
//! An end that nothing gathered with is written at once, alone. Each is guarded by its lease, and counts when its group is
//! committed: if the process ends before, the jobs run again. An end that the database refuses fails its job and no other.

use std::sync::{Arc, atomic::Ordering::SeqCst};

use dotmac_db::{DbError, Retry, Tx};
use tokio::{sync::mpsc, time::sleep};
use tracing::error;

use super::life::{AGAIN, Fault, Life};
use crate::{
    jobs::{
        JobId, measure,
        settle::{self, End},
    },
    outage::is_passing,
};

/// Ends that are written by one transaction.
const AT_ONCE: usize = 256;

impl Life {
    /// Writes ends of attempts for as long as there are any.
    pub(super) async fn write_ends(&self, mut receiver: mpsc::Receiver<End>) -> Fault {
        let mut group = Vec::new();
        while receiver.recv_many(&mut group, AT_ONCE).await > 0 {
            let ends = Arc::new(std::mem::take(&mut group));
            if let Err(error) = self.settle(&ends).await {
                return error.into();
            }
            self.unwritten.fetch_sub(ends.len(), SeqCst);
            self.moved.notify_one();
        }
        Fault::Blocked(0)
    }

    /// Writes a group of ends; one by one if the database refuses it.
    async fn settle(&self, ends: &Arc<Vec<End>>) -> Result<(), DbError> {
        if let Err(error) = self.write_group(ends).await {
            if !is_refusal(&error) {
                return Err(error);
            }
            for end in ends.iter() {
                self.settle_one(end).await?;
            }
        }
        Ok(())
    }

    async fn settle_one(&self, end: &End) -> Result<(), DbError> {
        let Err(refused) = self.write_group(&Arc::new(vec![end.clone()])).await else {
            return Ok(());
        };
        if !is_refusal(&refused) {
            return Err(refused);
        }
        let id = end.lease.id;
        error!(
            job.id = %id, error = &refused as &dyn std::error::Error,
            "the database refused the end of a job; the job has failed"
        );
        let failed = end.clone().refused(&refused);
        self.write_group(&Arc::new(vec![failed])).await
    }

    async fn write_group(&self, ends: &Arc<Vec<End>>) -> Result<(), DbError> {
        loop {
            let given = Arc::clone(ends);
            let write = async move |tx: &mut Tx| settle::write(tx, &given).await;
            let db = &self.this.db;
            match db
                .retrying_transaction("end jobs", Retry::new(), write)
                .await
            {
                Ok(written) => {
                    count(ends, &written);
                    return Ok(());
                }
                // It may have taken place; then the lease is over, and the same changes nothing.
                Err(error) if is_passing(&error) => sleep(AGAIN).await,
                Err(error) => return Err(error),
            }
        }
    }
}

/// Whether the database does not take what was to be written.
fn is_refusal(error: &DbError) -> bool {
    matches!(error, DbError::Query(_) | DbError::InvalidData(_))
}

/// Counts those of `ends` that were written.
fn count(ends: &[End], written: &[JobId]) {
    for end in ends.iter().filter(|end| written.contains(&end.lease.id)) {
        if let Some(kind) = end.kind {
            measure::ended(kind, end.state);
        }
    }
}
