//! The table of how often tags were given, and every query on it.

use diesel::prelude::*;
use diesel_async::RunQueryDsl;
use dotmac_platform::db::{DbError, TenantTx, on};
use serde::Serialize;
use utoipa::ToSchema;

diesel::table! {
    use dotmac_platform::db::types::sql::*;

    note_tag_count (tenant_id, tag) {
        tenant_id -> Uuid,
        tag -> Text,
        notes -> BigInt,
    }
}

/// A tag, and how often it was given.
#[derive(Clone, Debug, Queryable, Selectable, Serialize, ToSchema)]
#[diesel(table_name = note_tag_count)]
pub(crate) struct TagCount {
    /// The tag.
    tag: String,
    /// Notes that it was given to.
    notes: i64,
}

/// Counts that a tag was given once more.
pub(crate) async fn count(tx: &mut TenantTx, tag: &str) -> Result<(), DbError> {
    let row = (
        note_tag_count::tenant_id.eq(tx.tenant()),
        note_tag_count::tag.eq(tag.to_owned()),
        note_tag_count::notes.eq(1_i64),
    );
    let insert = diesel::insert_into(note_tag_count::table)
        .values(row)
        .on_conflict((note_tag_count::tenant_id, note_tag_count::tag))
        .do_update()
        .set(note_tag_count::notes.eq(note_tag_count::notes + 1_i64));
    on!(tx, |c| insert.execute(c).await).map(drop)
}

/// At most `limit` tags, those that were given most often first.
pub(crate) async fn most_given(tx: &mut TenantTx, limit: i64) -> Result<Vec<TagCount>, DbError> {
    let query = note_tag_count::table
        .filter(note_tag_count::tenant_id.eq(tx.tenant()))
        .order((note_tag_count::notes.desc(), note_tag_count::tag))
        .limit(limit);
    on!(tx, |c| query.select(TagCount::as_select()).load(c).await)
}
