//! The macros that write a query for both back ends.

/// Rows of one statement of [`insert_all!`](crate::insert_all): PostgreSQL takes 65535 values, which is 65
/// columns.
pub const ROWS_AT_ONCE: usize = 1000;

/// Runs the same diesel expression on whichever back end the connection is of.
///
/// `on!(connection, |c| expression)`: `connection` is a `&mut` to anything [`Querying`](crate::Querying), a
/// [`Connection`](crate::Connection) or a [`Tx`](crate::Tx); `c` is the back end's own connection. The expression is
/// compiled once for each back end, so it must be valid for both. What it returns, diesel's `QueryResult`, becomes a
/// `Result` with a [`DbError`](crate::DbError), classified by the observations of the connection.
#[macro_export]
macro_rules! on {
    ($connection:expr, |$c:ident| $expression:expr) => {{
        let connection = $crate::Querying::connection($connection);
        let result = match connection {
            $crate::Connection::Postgres($c) => {
                let $c = &mut **$c;
                $expression
            }
            $crate::Connection::Sqlite($c) => {
                let $c = &mut **$c;
                $expression
            }
        };
        $crate::Connection::classified(connection, result)
    }};
}

/// Inserts rows, up to [`ROWS_AT_ONCE`](crate::ROWS_AT_ONCE) with each statement, and gives their number:
/// `insert_all!(connection, table, rows)`, where `rows` is a `Vec` of something `Insertable` that is `Clone` and owns what it
/// holds.
///
/// Not one statement: call it in a transaction if all or none shall be there. A single row is the commonest case; its
/// statement is prepared once on a connection of PostgreSQL, while that of several rows is prepared each time.
#[macro_export]
macro_rules! insert_all {
    ($connection:expr, $table:expr, $rows:expr) => {{
        let mut rows: Vec<_> = $rows;
        let connection = $crate::Querying::connection($connection);
        let result = match connection {
            $crate::Connection::Postgres(c) => match rows.pop() {
                Some(row) if rows.is_empty() => {
                    let insert = ::diesel::insert_into($table).values(row);
                    ::diesel_async::RunQueryDsl::execute(insert, &mut **c).await
                }
                last => {
                    rows.extend(last);
                    let mut inserted = Ok(0);
                    for rows in rows.chunks($crate::ROWS_AT_ONCE) {
                        let insert = ::diesel::insert_into($table).values(rows);
                        let done = ::diesel_async::RunQueryDsl::execute(insert, &mut **c).await;
                        inserted = match (inserted, done) {
                            (Ok(before), Ok(now)) => Ok(before + now),
                            (_, Err(error)) | (Err(error), _) => Err(error),
                        };
                        if inserted.is_err() {
                            break;
                        }
                    }
                    inserted
                }
            },
            // diesel-async cannot carry a batch to SQLite's thread, so the rows themselves go there.
            $crate::Connection::Sqlite(c) => {
                c.spawn_blocking(move |c| {
                    let insert = ::diesel::insert_into($table).values(&rows);
                    ::diesel::RunQueryDsl::execute(insert, c)
                })
                .await
            }
        };
        $crate::Connection::classified(connection, result)
    }};
}

/// Inserts rows in one go with the commit of a transaction, after all else that it does, and so without a round trip of its own:
/// `insert_with_commit!(tx, table, function, rows)`, where `rows` is a `Vec` as for [`insert_all!`](crate::insert_all) whose rows
/// are [`RowWithCommit`](crate::RowWithCommit) too. What the database has against the rows comes out as the error of the
/// transaction.
///
/// On PostgreSQL `function` inserts each: a function that a migration has made, with the columns as its parameters. The
/// transaction itself cannot read the rows any more.
#[macro_export]
macro_rules! insert_with_commit {
    ($tx:expr, $table:expr, $function:expr, $rows:expr) => {{
        let rows: Vec<_> = $rows;
        let tx: &mut $crate::Tx = $tx;
        let is_sqlite = matches!(
            $crate::Querying::connection(tx),
            $crate::Connection::Sqlite(_)
        );
        if is_sqlite {
            tx.run_with_commit(move |c| {
                // One by one, as the statement for one row is prepared once on each connection.
                for row in rows {
                    let insert = ::diesel::insert_into($table).values(row);
                    ::diesel::RunQueryDsl::execute(insert, c)?;
                }
                Ok(())
            });
        } else {
            for row in &rows {
                tx.call_with_commit($function, row);
            }
        }
    }};
}
