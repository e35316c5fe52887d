//! Up to where rows that are ordered by their transaction can be read: nothing can appear below it any more.

use diesel::{
    QueryableByName,
    dsl::sql,
    sql_query,
    sql_types::{BigInt, Integer, Nullable, Text},
};
use diesel_async::RunQueryDsl;
use dotmac_db::{Connection, DbError, OptionalExtension, Querying};

/// The oldest transaction that may still add rows; all below it have ended. What the same connection reads after it is
/// complete below it, since a later snapshot sees all that had ended. SQLite has one writer, so there it is beyond all.
pub(crate) async fn oldest_open(c: &mut Connection) -> Result<i64, DbError> {
    let Connection::Postgres(postgres) = c else {
        return Ok(i64::MAX);
    };
    let query = diesel::select(sql::<BigInt>(
        "pg_snapshot_xmin(pg_current_snapshot())::text::bigint",
    ));
    let xid = query.get_result(&mut **postgres).await;
    c.classified(xid)
}

#[derive(QueryableByName)]
struct Holder {
    #[diesel(sql_type = Nullable<Integer>)]
    pid: Option<i32>,
    #[diesel(sql_type = Nullable<Text>)]
    prepared: Option<String>,
    #[diesel(sql_type = Nullable<BigInt>)]
    seconds: Option<i64>,
}

/// Which session has the transaction `xid`, by which rows of later ones are held back: `held back by transaction 8123 of
/// pid 99 since 14 s`.
pub(crate) async fn holder(c: &mut Connection, xid: i64) -> Result<Option<String>, DbError> {
    let Connection::Postgres(postgres) = c.connection() else {
        return Ok(None);
    };
    // Sessions show the lower half of the id.
    let query = sql_query(
        "SELECT pid, NULL AS prepared, extract(epoch FROM clock_timestamp() - xact_start)::bigint AS seconds \
         FROM pg_stat_activity WHERE backend_xid::text::bigint = $1 % 4294967296 \
         UNION ALL \
         SELECT NULL, gid, extract(epoch FROM clock_timestamp() - prepared)::bigint \
         FROM pg_prepared_xacts WHERE transaction::text::bigint = $1 % 4294967296",
    );
    let found = query
        .bind::<BigInt, _>(xid)
        .get_result::<Holder>(&mut **postgres)
        .await;
    let found = c.classified(found).optional()?;
    let session = match &found {
        Some(Holder { pid: Some(pid), .. }) => format!("of pid {pid}"),
        Some(Holder {
            prepared: Some(gid),
            ..
        }) => format!("prepared as `{gid}`"),
        _ => "of a session that this user cannot see; grant it pg_read_all_stats".to_owned(),
    };
    let since = found
        .and_then(|it| it.seconds)
        .map(|seconds| format!(" since {seconds} s"));
    Ok(Some(format!(
        "held back by transaction {xid} {session}{}",
        since.unwrap_or_default()
    )))
}
