//! SQLite files of other processes: read, changed and damaged.

use std::{
    fs,
    io::{Seek, SeekFrom, Write},
    path::Path,
};

use diesel::{
    Connection as _, QueryableByName, RunQueryDsl as _, SqliteConnection,
    connection::SimpleConnection, sql_query, sql_types::BigInt,
};

/// Runs statements on the file while other processes have it open.
pub fn execute(file: &Path, statements: &str) {
    let mut connection = SqliteConnection::establish(file.to_str().unwrap()).unwrap();
    connection
        .batch_execute("PRAGMA busy_timeout = 10000")
        .unwrap();
    connection.batch_execute(statements).unwrap();
}

/// The rows of a table of the file, while other processes have it open.
pub fn count(file: &Path, table: &str) -> i64 {
    #[derive(QueryableByName)]
    struct Counted {
        #[diesel(sql_type = BigInt)]
        rows: i64,
    }
    let mut connection = SqliteConnection::establish(file.to_str().unwrap()).unwrap();
    connection
        .batch_execute("PRAGMA busy_timeout = 10000")
        .unwrap();
    let query = format!("SELECT count(*) AS rows FROM {table}");
    let counted: Counted = sql_query(query).get_result(&mut connection).unwrap();
    counted.rows
}

/// All that the file holds, what is in its log as well, as text.
pub fn dump(file: &Path) -> String {
    let log = file.with_extension("db-wal");
    let parts = [file, &log].map(|part| fs::read(part).unwrap_or_default());
    let parts = parts.iter().map(|bytes| String::from_utf8_lossy(bytes));
    parts.collect()
}

/// Overwrites the page on which a table begins.
pub fn damage(file: &Path, table: &str) {
    #[derive(QueryableByName)]
    struct Place {
        #[diesel(sql_type = BigInt)]
        at: i64,
        #[diesel(sql_type = BigInt)]
        size: i64,
    }
    let mut connection = SqliteConnection::establish(file.to_str().unwrap()).unwrap();
    let query = format!(
        "SELECT (rootpage - 1) * page_size AS at, page_size AS size \
         FROM sqlite_master, pragma_page_size WHERE name = '{table}'"
    );
    let place: Place = sql_query(query).get_result(&mut connection).unwrap();
    // In the file itself, which must not be overruled by what is still in the log.
    connection
        .batch_execute("PRAGMA wal_checkpoint(TRUNCATE)")
        .unwrap();
    drop(connection);
    let mut file = fs::OpenOptions::new().write(true).open(file).unwrap();
    file.seek(SeekFrom::Start(place.at.try_into().unwrap()))
        .unwrap();
    file.write_all(&vec![0xA5; place.size.try_into().unwrap()])
        .unwrap();
}
