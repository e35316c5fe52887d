//! The database's own time, by which instances whose clocks differ agree.

use std::time::Duration;

use chrono::{DateTime, Utc};
use diesel::{dsl::sql, sql_types::Timestamp};
use diesel_async::RunQueryDsl;
use dotmac_db::{Connection, DbError, Querying, records, types::Moment};
use serde::{Serialize, Serializer};

/// The time of the database server, by which instances agree whose clocks differ. SQLite has none: its file is on this machine.
///
/// # Errors
///
/// [`DbError`].
pub async fn now(c: &mut Connection) -> Result<Moment, DbError> {
    let c = c.connection();
    let Connection::Postgres(postgres) = c else {
        return Ok(Moment::now());
    };
    let query = diesel::select(sql::<Timestamp>("clock_timestamp() AT TIME ZONE 'UTC'"));
    let now = query.get_result(&mut **postgres).await;
    c.classified(now)
}

/// How long it is from one moment to another; nothing if that is over.
pub(crate) fn between(from: Moment, to: Moment) -> Duration {
    let (from, to) = (DateTime::<Utc>::from(from), DateTime::<Utc>::from(to));
    (to - from).to_std().unwrap_or_default()
}

/// A moment in JSON, as both back ends read it.
pub(crate) struct Stamp(pub(crate) Moment);

impl Serialize for Stamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&records::moment(self.0))
    }
}
