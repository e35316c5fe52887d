//! Statements written as text that a connection prepares once.

use diesel::{
    QueryResult,
    backend::Backend,
    query_builder::{AstPass, Query, QueryFragment, QueryId},
};

/// `query` as a statement that each connection prepares once and keeps: for `sql_query` whose text is the same each time, or one
/// of a few. By itself diesel has PostgreSQL read and plan such a text at every call, which takes another round trip
/// and often longer than the statement.
///
/// A text must have no values in it: each other text is kept as long as its connection.
///
/// ```
/// # use diesel::{sql_query, sql_types::BigInt};
/// # use diesel_async::RunQueryDsl;
/// # use dotmac_db::{Connection, DbError, on, prepared};
/// # async fn example(c: &mut Connection) -> Result<usize, DbError> {
/// let delete = prepared(sql_query("DELETE FROM note WHERE id < $1").bind::<BigInt, _>(7));
/// on!(c, |c| delete.execute(c).await)
/// # }
/// ```
pub const fn prepared<Q>(query: Q) -> Prepared<Q> {
    Prepared(query)
}

/// See [`prepared`].
#[derive(Clone, Copy, Debug)]
#[must_use = "nothing is run before `load`, `get_result` or `execute`"]
pub struct Prepared<Q>(Q);

impl<Q: Query> Query for Prepared<Q> {
    type SqlType = Q::SqlType;
}

/// Its text is its id.
impl<Q> QueryId for Prepared<Q> {
    type QueryId = ();

    const HAS_STATIC_QUERY_ID: bool = false;
}

impl<Q, DB> QueryFragment<DB> for Prepared<Q>
where
    DB: Backend,
    Q: QueryFragment<DB>,
{
    fn walk_ast<'b>(&'b self, pass: AstPass<'_, 'b, DB>) -> QueryResult<()> {
        self.0.walk_ast(pass)
    }

    fn is_safe_to_cache_prepared(&self, _: &DB) -> QueryResult<bool> {
        Ok(true)
    }
}
