//! Looks whether the database does its work, beside the traffic and on a connection of its own, so
//! that a busy pool is not taken for a dead server.

use std::time::Duration;

use diesel::{SqliteConnection, result::DatabaseErrorKind, result::Error as QueryError};
use diesel_async::{AsyncPgConnection, RunQueryDsl};

use super::{Config, OpenError, Target, connect};

/// Between two looks. With [`ANSWER_LIMIT`] it bounds how long a dead database can seem ready: 1.5 s.
pub(super) const INTERVAL: Duration = Duration::from_millis(500);

/// A server that takes longer for a constant is not one to send work to.
const ANSWER_LIMIT: Duration = Duration::from_secs(1);

/// Looks once whether a database can be reached as `config` says and takes writes. A SQLite file that is
/// not there is made.
///
/// # Errors
///
/// [`OpenError`] says what stands in the way.
pub async fn look(config: Config) -> Result<(), OpenError> {
    Monitor::new(config).look().await.1
}

/// Watches one database.
pub(super) struct Monitor {
    config: Config,
    connection: Option<Watch>,
}

#[expect(clippy::large_enum_variant, reason = "there is one")]
enum Watch {
    Postgres(AsyncPgConnection),
    Sqlite(SqliteConnection),
}

#[derive(diesel::QueryableByName)]
struct Writable {
    #[diesel(sql_type = diesel::sql_types::Bool)]
    read_only: bool,
}

impl Monitor {
    pub(super) fn new(config: Config) -> Self {
        Self {
            config,
            connection: None,
        }
    }

    /// Looks once: connects if need be, asks whether writes are taken. Runs on the database's runtime.
    pub(super) async fn look(mut self) -> (Self, Result<(), OpenError>) {
        let result = self.try_look().await;
        (self, result)
    }

    async fn try_look(&mut self) -> Result<(), OpenError> {
        let target = self.config.target.to_string();
        // Taken out, and put back only if all went well: a doubtful connection is not asked twice.
        let kept = self.connection.take();
        let connection = match kept.and_then(|it| it.admitted(&self.config)) {
            Some(connection) => connection,
            None => connect(&self.config).await?,
        };
        let config = &self.config;
        let timeout = OpenError::Timeout {
            what: "a check",
            target: target.clone(),
            limit: ANSWER_LIMIT,
        };
        let looking = async {
            match connection {
                Watch::Postgres(connection) => look_at_postgres(connection, target)
                    .await
                    .map(Watch::Postgres),
                Watch::Sqlite(connection) => {
                    look_at_sqlite(connection, config).await.map(Watch::Sqlite)
                }
            }
        };
        self.connection = Some(
            tokio::time::timeout(ANSWER_LIMIT, looking)
                .await
                .map_err(|_| timeout)??,
        );
        Ok(())
    }
}

impl Watch {
    /// Itself, if it was opened with the account in use; a look must not keep a former one alive.
    fn admitted(mut self, config: &Config) -> Option<Self> {
        let admitted = match (&mut self, &config.target) {
            (Self::Postgres(connection), Target::Postgres(server)) => {
                server.credentials.admit(connection)
            }
            _ => true,
        };
        admitted.then_some(self)
    }
}

async fn connect(config: &Config) -> Result<Watch, OpenError> {
    match &config.target {
        Target::Postgres(server) => connect::postgres(server, config).await.map(Watch::Postgres),
        Target::Sqlite(path) => {
            let path = path.clone();
            let opening = tokio::task::spawn_blocking(move || connect::sqlite(&path));
            opening
                .await
                .map_err(|error| OpenError::Setup(error.to_string()))?
                .map(Watch::Sqlite)
        }
    }
}

/// Takes the write lock and gives it back: on a read-only or damaged file that fails, while a lock
/// held by somebody else is a sign of health.
async fn look_at_sqlite(
    mut connection: SqliteConnection,
    config: &Config,
) -> Result<SqliteConnection, OpenError> {
    let looking = tokio::task::spawn_blocking(move || {
        let looked = connection.immediate_transaction(|_| Ok::<_, QueryError>(()));
        (connection, looked)
    });
    let (connection, looked) = looking
        .await
        .map_err(|error| OpenError::Setup(error.to_string()))?;
    match (&config.target, looked) {
        (_, Ok(())) => Ok(connection),
        (_, Err(QueryError::DatabaseError(DatabaseErrorKind::Unknown, info)))
            if info.message().contains("locked") =>
        {
            Ok(connection)
        }
        (Target::Sqlite(path), Err(error)) => Err(connect::refused(path, &error.to_string())),
        (Target::Postgres(_), Err(source)) => Err(OpenError::Query {
            what: "a check",
            source,
        }),
    }
}

async fn look_at_postgres(
    mut connection: AsyncPgConnection,
    target: String,
) -> Result<AsyncPgConnection, OpenError> {
    let query = "SELECT pg_is_in_recovery() OR current_setting('transaction_read_only')::boolean AS read_only";
    let failed = |source| OpenError::Query {
        what: "a check",
        source,
    };
    let answer = diesel::sql_query(query)
        .get_result::<Writable>(&mut connection)
        .await
        .map_err(failed)?;
    if answer.read_only {
        Err(OpenError::ReadOnly { target })
    } else {
        Ok(connection)
    }
}
