//! Sign-ins whose password was right and that wait for a second factor.

use diesel::prelude::*;
use diesel_async::RunQueryDsl;
use dotmac_platform::db::{
    Connection, DbError, OptionalExtension, Tx, on,
    types::{Id, Json, Moment},
};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{schema::sign_in_flows as flows, sessions::Client, users::UserId};

/// A mark for ids.
pub(crate) enum Flow {}

#[derive(Clone, Insertable, Queryable, Selectable)]
#[diesel(table_name = flows)]
pub(crate) struct FlowRow {
    pub(crate) id: Id<Flow>,
    pub(crate) public_id: String,
    pub(crate) user_id: UserId,
    /// SHA-256 of the secret part.
    pub(crate) hash: Vec<u8>,
    pub(crate) data: Json<FlowData>,
    pub(crate) tries: i32,
    pub(crate) expires_at: Moment,
}

/// What the session will be made of.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct FlowData {
    /// The kind of session.
    pub(crate) kind: String,
    pub(crate) client: Client,
    /// The known device of the client.
    pub(crate) device: Option<Uuid>,
    /// When the password was set that was right: once it is another, the flow is over.
    pub(crate) password_epoch: String,
    /// The first factor, as a session has it (RFC 8176).
    #[serde(default = "password")]
    pub(crate) first: String,
}

/// What it was before there was another.
fn password() -> String {
    "pwd".to_owned()
}

pub(crate) async fn insert(tx: &mut Tx, row: &FlowRow) -> Result<(), DbError> {
    on!(tx, |c| diesel::insert_into(flows::table)
        .values(row)
        .execute(c)
        .await)
    .map(drop)
}

pub(crate) async fn find(c: &mut Connection, public_id: &str) -> Result<Option<FlowRow>, DbError> {
    let query = flows::table.filter(flows::public_id.eq(public_id.to_owned()));
    on!(c, |c| query.select(FlowRow::as_select()).first(c).await).optional()
}

/// Takes one of `most` tries; 0 if there is none left.
pub(crate) async fn take_try(tx: &mut Tx, id: Id<Flow>, most: i32) -> Result<usize, DbError> {
    let open = flows::id.eq(id).and(flows::tries.lt(most));
    let update = diesel::update(flows::table.filter(open)).set(flows::tries.eq(flows::tries + 1));
    on!(tx, |c| update.execute(c).await)
}

/// Ends the flow; 0 if another request did before.
pub(crate) async fn delete(tx: &mut Tx, id: Id<Flow>) -> Result<usize, DbError> {
    on!(tx, |c| diesel::delete(
        flows::table.filter(flows::id.eq(id))
    )
    .execute(c)
    .await)
}

/// Deletes those that were over before `time`, at most `limit`; how many that were.
pub(crate) async fn delete_over(tx: &mut Tx, time: Moment, limit: i64) -> Result<usize, DbError> {
    let over = flows::table
        .filter(flows::expires_at.lt(time))
        .select(flows::id)
        .limit(limit);
    let over: Vec<Id<Flow>> = on!(tx, |c| over.load(c).await)?;
    on!(tx, |c| diesel::delete(
        flows::table.filter(flows::id.eq_any(over))
    )
    .execute(c)
    .await)
}
