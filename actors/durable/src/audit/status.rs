//! How far the sealer is behind, and what holds it back.

use chrono::{DateTime, NaiveDateTime};
use diesel::prelude::*;
use diesel_async::RunQueryDsl;
use dotmac_db::{Connection, DbError, OptionalExtension, Querying};

use super::{
    link::{Place, unlinked},
    tables::audit_entry,
};
use crate::{
    clock::now,
    order::{holder, oldest_open},
};

/// The newest entries, among which those without a link are counted.
const MOST: i64 = 10_000;

/// How far the sealer is behind, as its row in the database shows it: the same on every instance.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SealerStatus {
    /// Entries of all tenants that have no link yet, among the newest 10,000.
    pub waiting: i64,
    /// The age of the oldest of them, in seconds.
    pub oldest_seconds: i64,
    /// What keeps them from being linked: `held back by transaction 8123 of pid 99 since 14 s`.
    pub held_by: Option<String>,
}

/// How far the sealer is behind now. For a scope of the system.
///
/// # Errors
///
/// [`DbError`].
pub async fn status(c: &mut Connection) -> Result<SealerStatus, DbError> {
    let before = before_newest(c).await?;
    let waiting: Vec<(i64, NaiveDateTime)> = unlinked(c, before, MOST).await?;
    let count = i64::try_from(waiting.len()).unwrap_or(MOST);
    let Some((oldest, since)) = waiting.into_iter().next() else {
        return Ok(SealerStatus::default());
    };
    let open = oldest_open(c).await?;
    let held_by = match oldest >= open {
        true => holder(c, open).await?,
        false => None,
    };
    let age = DateTime::from(now(c).await?).naive_utc() - since;
    Ok(SealerStatus {
        waiting: count,
        oldest_seconds: age.num_seconds().max(0),
        held_by,
    })
}

/// The place before the newest entries, as many as are counted.
async fn before_newest(c: &mut Connection) -> Result<Place, DbError> {
    let newest = audit_entry::table
        .offset(MOST)
        .select((audit_entry::xid, audit_entry::position));
    let found = match c.connection() {
        Connection::Postgres(c) => {
            let query = newest.order((audit_entry::xid.desc(), audit_entry::position.desc()));
            query.first::<Place>(&mut **c).await
        }
        Connection::Sqlite(c) => {
            let query = newest.order(audit_entry::position.desc());
            query.first::<Place>(&mut **c).await
        }
    };
    Ok(c.classified(found).optional()?.unwrap_or((-1, -1)))
}
