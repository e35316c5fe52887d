//! The tables of the log, and the text of an event's data as a column.

use std::io::Write as _;

use diesel::{
    expression::AsExpression,
    pg::Pg,
    serialize::{self, IsNull, Output, ToSql},
    sql_types::Json,
    sqlite::Sqlite,
};

diesel::table! {
    use dotmac_db::types::sql::*;

    event (xid, position) {
        xid -> BigInt,
        position -> BigInt,
        id -> Uuid,
        tenant_id -> Nullable<Uuid>,
        #[sql_name = "type"]
        kind -> Text,
        subject -> Text,
        partition_key -> Text,
        data -> Json,
        actor -> Nullable<Text>,
        traceparent -> Nullable<Text>,
        at -> Timestamp,
    }
}

diesel::table! {
    use dotmac_db::types::sql::*;

    event_retention (id) {
        id -> Integer,
        xid -> BigInt,
        position -> BigInt,
    }
}

diesel::table! {
    use dotmac_db::types::sql::*;

    event_subscriber (name) {
        name -> Text,
        xid -> BigInt,
        position -> BigInt,
        moved_at -> Timestamp,
    }
}

diesel::table! {
    use dotmac_db::types::sql::*;

    event_held (subscriber, xid, position) {
        subscriber -> Text,
        xid -> BigInt,
        position -> BigInt,
        lane -> Text,
        failures -> Integer,
        retry_at -> Nullable<Timestamp>,
        parked -> Bool,
        error -> Nullable<Text>,
    }
}

/// A text that is JSON already.
#[derive(AsExpression, Clone, Debug)]
#[diesel(sql_type = Json)]
pub(super) struct JsonText(pub(super) String);

impl ToSql<Json, Pg> for JsonText {
    fn to_sql<'b>(&'b self, out: &mut Output<'b, '_, Pg>) -> serialize::Result {
        out.write_all(self.0.as_bytes())?;
        Ok(IsNull::No)
    }
}

impl ToSql<Json, Sqlite> for JsonText {
    fn to_sql<'b>(&'b self, out: &mut Output<'b, '_, Sqlite>) -> serialize::Result {
        out.set_value(self.0.as_str());
        Ok(IsNull::No)
    }
}
