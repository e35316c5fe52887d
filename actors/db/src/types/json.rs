//! Values that the database keeps as JSON.

use std::io::Write as _;

use diesel::{
    backend::Backend,
    deserialize::{self, FromSql, FromSqlRow},
    expression::AsExpression,
    pg::Pg,
    serialize::{self, IsNull, Output, ToSql},
    sql_types,
    sqlite::Sqlite,
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

/// A `T` in a column of type `JSON` (on SQLite its text). What does not fit `T` when it is read is an error.
#[derive(
    AsExpression, FromSqlRow, Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize,
)]
#[diesel(sql_type = sql_types::Json)]
#[serde(transparent)]
pub struct Json<T: 'static>(pub T);

impl<T: Serialize + std::fmt::Debug> ToSql<sql_types::Json, Pg> for Json<T> {
    fn to_sql<'b>(&'b self, out: &mut Output<'b, '_, Pg>) -> serialize::Result {
        out.write_all(serde_json::to_string(&self.0)?.as_bytes())?;
        Ok(IsNull::No)
    }
}

impl<T: Serialize + std::fmt::Debug> ToSql<sql_types::Json, Sqlite> for Json<T> {
    fn to_sql<'b>(&'b self, out: &mut Output<'b, '_, Sqlite>) -> serialize::Result {
        out.set_value(serde_json::to_string(&self.0)?);
        Ok(IsNull::No)
    }
}

impl<T: DeserializeOwned, DB: Backend> FromSql<sql_types::Json, DB> for Json<T>
where
    serde_json::Value: FromSql<sql_types::Json, DB>,
{
    fn from_sql(bytes: DB::RawValue<'_>) -> deserialize::Result<Self> {
        let value = serde_json::Value::from_sql(bytes)?;
        Ok(Self(serde_json::from_value(value)?))
    }
}
