//! Reads the runtime journal for `dotmac journal`: the newest events, of all components or of one.

use std::path::Path;

use chrono::{DateTime, NaiveDateTime, Utc};
use diesel::prelude::*;

use crate::{
    Config, OpenError, Target,
    connect::{self, Opened},
    monitor::{Alarms, ConnectionState},
    schema::runtime_journal as journal,
};

/// Which events of the journal to read.
#[derive(Clone, Debug)]
pub struct JournalQuery {
    /// The largest number of events, counted from the newest.
    pub last: u32,
    /// Only events of this component; of all components if absent.
    pub component: Option<String>,
}

/// One event of the journal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JournalEntry {
    /// When it was written.
    pub at: DateTime<Utc>,
    /// The process that wrote it.
    pub instance: String,
    /// The component; `runtime` for the process itself.
    pub component: String,
    /// The state that the component entered; of the process `started`, `stopping` or `events_missed`.
    pub event: String,
    /// The reason, if the state has one; of `started` the program, its version and process id.
    pub reason: Option<String>,
}

#[derive(Queryable)]
struct Row {
    instance: String,
    component: String,
    event: String,
    reason: Option<String>,
    at: NaiveDateTime,
}

/// Builds the query and runs `$load` on it; its type differs between the back ends.
macro_rules! newest {
    ($query:expr, |$found:ident| $load:expr) => {{
        let selected = journal::table
            .select((
                journal::instance,
                journal::component,
                journal::event,
                journal::reason,
                journal::at,
            ))
            .order(journal::id.desc())
            .limit($query.last.into())
            .into_boxed();
        let $found = match $query.component {
            Some(name) => selected.filter(journal::component.eq(name)),
            None => selected,
        };
        $load
    }};
}

/// The newest events that `query` asks for, oldest first. Changes nothing; a daemon may run meanwhile.
///
/// # Errors
///
/// Why the database could not be used; [`OpenError::Query`] also where it has no journal yet.
pub async fn read_journal(
    config: &Config,
    query: JournalQuery,
) -> Result<Vec<JournalEntry>, OpenError> {
    let refused = |source| OpenError::Query {
        what: "reading the runtime journal",
        source,
    };
    let mut rows: Vec<Row> = match &config.target {
        Target::Sqlite(file) => {
            let file = file.clone();
            let reading = move || {
                let mut connection = existing(file.path())?;
                newest!(query, |found| {
                    diesel::RunQueryDsl::load(found, &mut connection).map_err(refused)
                })
            };
            tokio::task::spawn_blocking(reading)
                .await
                .unwrap_or_else(|died| Err(OpenError::Setup(died.to_string())))?
        }
        Target::Postgres(server) => {
            let connection_state = ConnectionState::new(&Alarms::default());
            let opened = connect::postgres(server, config, &connection_state).await?;
            let Opened { mut connection, .. } = opened;
            newest!(query, |found| {
                diesel_async::RunQueryDsl::load(found, &mut connection).await
            })
            .map_err(refused)?
        }
    };
    rows.reverse();
    Ok(rows.into_iter().map(JournalEntry::from).collect())
}

/// Opens the file only if it exists; SQLite would create it.
fn existing(path: &Path) -> Result<SqliteConnection, OpenError> {
    match path.try_exists() {
        Ok(true) => connect::sqlite(path),
        Ok(false) => Err(connect::refused(path, "there is no such file")),
        Err(error) => Err(connect::refused(path, &error.to_string())),
    }
}

impl From<Row> for JournalEntry {
    fn from(row: Row) -> Self {
        Self {
            at: row.at.and_utc(),
            instance: row.instance,
            component: row.component,
            event: row.event,
            reason: row.reason,
        }
    }
}
