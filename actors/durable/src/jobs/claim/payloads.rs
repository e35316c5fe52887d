//! The arguments of jobs that were claimed.

use std::collections::HashMap;

use diesel::prelude::*;
use diesel_async::RunQueryDsl;
use dotmac_db::{DbError, Tx, on, types::Moment};
use serde_json::Value;

use super::{Claimed, JobId, Row};
use crate::jobs::{settle::Lease, tables::job_payload};

/// Adds what the jobs are to be done with.
pub(super) async fn with_payloads(
    tx: &mut Tx,
    rows: Vec<Row>,
    at: Moment,
) -> Result<Vec<Claimed>, DbError> {
    if rows.is_empty() {
        return Ok(Vec::new());
    }
    let ids: Vec<_> = rows.iter().map(|row| row.id).collect();
    let query = job_payload::table
        .filter(job_payload::job_id.eq_any(ids))
        .select((
            job_payload::job_id,
            job_payload::args,
            job_payload::traceparent,
        ));
    let payloads: Vec<(JobId, Value, Option<String>)> = on!(tx, |c| query.load(c).await)?;
    let payloads = payloads
        .into_iter()
        .map(|(id, args, trace)| (id, (args, trace)));
    let mut payloads: HashMap<_, _> = payloads.collect();
    let claimed = rows.into_iter().map(|row| {
        let (args, traceparent) = payloads.remove(&row.id).unwrap_or_default();
        Claimed {
            lease: Lease {
                id: row.id,
                tenant: row.tenant_id,
                number: row.lease,
            },
            kind: row.kind,
            queue: row.queue,
            attempt: row.attempt,
            max_attempts: row.max_attempts,
            crashes: row.crashes,
            at,
            args,
            traceparent,
        }
    });
    Ok(claimed.collect())
}
