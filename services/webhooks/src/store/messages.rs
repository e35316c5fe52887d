//! Messages: what is sent, once for all endpoints that get it.

use std::collections::{BTreeSet, HashMap};

use diesel::{
    prelude::*,
    sql_query,
    sql_types::{BigInt, Text, Timestamp},
};
use diesel_async::RunQueryDsl;
use dotmac_platform::db::{
    DbError, OptionalExtension, Querying as _, TenantId, TenantTx, Tx, on, prepared, records,
    types::{Id, Moment},
};

use super::schema::webhook_message as message;

/// A mark for ids: those of events, and of tests.
pub(crate) enum Message {}

pub(crate) type MessageId = Id<Message>;

#[derive(Clone, Debug, QueryableByName)]
#[diesel(table_name = message)]
pub(crate) struct MessageRow {
    pub(crate) tenant_id: TenantId,
    pub(crate) id: MessageId,
    pub(crate) kind: String,
    pub(crate) payload: String,
    pub(crate) traceparent: Option<String>,
    pub(crate) created_at: Moment,
}

/// Inserts the message, unless it is there.
pub(crate) async fn insert(tx: &mut Tx, row: MessageRow) -> Result<(), DbError> {
    let row = (
        message::tenant_id.eq(row.tenant_id),
        message::id.eq(row.id),
        message::kind.eq(row.kind),
        message::payload.eq(row.payload),
        message::traceparent.eq(row.traceparent),
        message::created_at.eq(row.created_at),
    );
    let insert = diesel::insert_into(message::table).values(row);
    let insert = insert
        .on_conflict((message::tenant_id, message::id))
        .do_nothing();
    on!(tx, |c| insert.execute(c).await).map(drop)
}

/// These messages, of any tenants: each by one step through the index of its tenant's.
pub(crate) async fn of(
    tx: &mut Tx,
    ids: &BTreeSet<(TenantId, MessageId)>,
) -> Result<HashMap<(TenantId, MessageId), MessageRow>, DbError> {
    let wanted: Vec<_> = ids
        .iter()
        .map(|(tenant_id, id)| serde_json::json!({ "tenant_id": tenant_id, "id": id }))
        .collect();
    let fields = [("tenant_id", "uuid"), ("id", "uuid")];
    let query = sql_query(format!(
        "SELECT m.tenant_id, m.id, m.kind, m.payload, m.traceparent, m.created_at FROM {} JOIN webhook_message AS m \
         ON m.tenant_id = r.tenant_id AND m.id = r.id",
        records::relation(tx.connection(), "$1", &fields)
    ));
    let wanted = serde_json::to_string(&wanted).unwrap_or_default();
    let query = query.bind::<Text, _>(wanted);
    let found: Vec<MessageRow> = on!(tx, |c| prepared(query).load(c).await)?;
    let keyed = found.into_iter().map(|it| ((it.tenant_id, it.id), it));
    Ok(keyed.collect())
}

/// Deletes at most `most` messages that were made before then and of which no delivery is left.
pub(crate) async fn delete_unused(
    tx: &mut Tx,
    before: Moment,
    most: i64,
) -> Result<usize, DbError> {
    let query = sql_query(
        "DELETE FROM webhook_message WHERE (tenant_id, id) IN (SELECT m.tenant_id, m.id FROM webhook_message AS m \
         WHERE m.created_at < $1 AND NOT EXISTS (SELECT 1 FROM webhook_delivery AS d WHERE d.tenant_id = m.tenant_id \
         AND d.message_id = m.id) ORDER BY m.created_at LIMIT $2)",
    );
    let query = query.bind::<Timestamp, _>(before).bind::<BigInt, _>(most);
    on!(tx, |c| query.execute(c).await)
}

/// What is sent of that message of the tenant.
pub(crate) async fn payload(tx: &mut TenantTx, id: MessageId) -> Result<Option<String>, DbError> {
    let this_one = message::table.find((tx.tenant(), id));
    let query = this_one.select(message::payload);
    on!(tx, |c| query.first(c).await).optional()
}
