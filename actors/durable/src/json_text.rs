//! A text that is JSON, as a column.

use std::io::Write as _;

use diesel::{
    expression::AsExpression,
    pg::Pg,
    serialize::{self, IsNull, Output, ToSql},
    sql_types::Json,
    sqlite::Sqlite,
};
use serde::Serialize;

/// A text that is JSON already. Within other JSON it is a string, so that nothing is made of it there.
#[derive(AsExpression, Clone, Debug, Serialize)]
#[diesel(sql_type = Json)]
#[serde(transparent)]
pub(crate) struct JsonText(pub(crate) String);

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
