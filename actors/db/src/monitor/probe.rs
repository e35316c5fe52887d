//! The monitor's own connection, and what it asks of a database.

use std::{sync::Arc, time::Duration};

use diesel::{
    SqliteConnection, connection::SimpleConnection, result::DatabaseErrorKind,
    result::Error as QueryError,
};
use diesel_async::{AsyncPgConnection, RunQueryDsl, SimpleAsyncConnection};

use super::{
    alarms::{Alarms, ConnectionState},
    pulse::Pulse,
};
use crate::{
    Config, OpenError, SqlState, Target,
    account::AccountGuard,
    connect::{self, Opened},
    file::Hold,
};

/// A server of which nothing was heard for this long while it owes an answer does not answer.
pub(crate) const ANSWER_LIMIT: Duration = Duration::from_secs(1);

/// The longest that a look waits for a server that is heard, and does not come to the end of its answer.
pub(crate) const LONGEST_LOOK: Duration = Duration::from_secs(10);

/// Looks once whether a database can be reached as `config` says and takes writes. A SQLite file that is
/// not there is made. The role that the work of a PostgreSQL server is done in; `None` of SQLite.
///
/// # Errors
///
/// [`OpenError`] says what stands in the way.
pub async fn look(config: Config) -> Result<Option<Role>, OpenError> {
    let pulse = Pulse::new();
    let connection = connect(&config, &Alarms::default(), &pulse).await?;
    match connection.asked(&config, &pulse, ANSWER_LIMIT).await?.0 {
        Watch::Postgres(mut connection, ..) => role(&mut connection).await.map(Some),
        Watch::Sqlite(..) => Ok(None),
    }
}

/// A role of PostgreSQL, and what row-level security is to it.
#[derive(Debug, Clone, PartialEq, Eq, diesel::QueryableByName)]
#[non_exhaustive]
pub struct Role {
    /// Its name.
    #[diesel(sql_type = diesel::sql_types::Text)]
    pub name: String,
    /// It has `SUPERUSER` or `BYPASSRLS`, so no policy holds for it.
    #[diesel(sql_type = diesel::sql_types::Bool)]
    pub bypasses_row_security: bool,
    /// It owns a table with policies, or is a member of the role that does: it can switch them off.
    #[diesel(sql_type = diesel::sql_types::Bool)]
    pub owns_tables: bool,
}

#[expect(clippy::large_enum_variant, reason = "there is one")]
pub(crate) enum Watch {
    Postgres(AsyncPgConnection, Arc<ConnectionState>, AccountGuard),
    /// In the order in which they are to be dropped.
    Sqlite(SqliteConnection, Hold),
}

/// The state of a server and of our user.
#[derive(diesel::QueryableByName)]
struct ServerState {
    #[diesel(sql_type = diesel::sql_types::Bool)]
    read_only: bool,
    /// Whom we logged in as has been removed.
    #[diesel(sql_type = diesel::sql_types::Bool)]
    user_gone: bool,
    /// We act in another role, and go on to do so.
    #[diesel(sql_type = diesel::sql_types::Bool)]
    in_role: bool,
}

impl Watch {
    /// Itself, if the database accepts writes before the time limit; and whether the user has been removed, so that
    /// open connections go on and no new ones can be opened.
    pub(crate) async fn asked(
        self,
        config: &Config,
        pulse: &Pulse,
        silence: Duration,
    ) -> Result<(Self, bool), OpenError> {
        let asking = async {
            match self {
                Self::Postgres(mut connection, connection_state, guard) => {
                    let server_state = server_state(&mut connection).await?;
                    let target = || config.target.to_string();
                    if server_state.user_gone {
                        guard.refused();
                    }
                    if server_state.user_gone && !server_state.in_role {
                        Err(OpenError::UserGone { target: target() })
                    } else if server_state.read_only {
                        Err(OpenError::ReadOnly { target: target() })
                    } else {
                        let watch = Self::Postgres(connection, connection_state, guard);
                        Ok((watch, server_state.user_gone))
                    }
                }
                Self::Sqlite(connection, hold) => {
                    let looked = look_at_sqlite(connection, hold, config).await;
                    looked.map(|watch| (watch, false))
                }
            }
        };
        let asked = pulse.unless_silent(silence, LONGEST_LOOK, asking).await;
        asked.unwrap_or_else(|| Err(silent("a check", config)))
    }

    pub(crate) fn is_fit(&self) -> bool {
        match self {
            // A look must not keep a former account alive.
            Self::Postgres(_, connection_state, guard) => {
                connection_state.is_fit() && guard.is_valid()
            }
            Self::Sqlite(..) => true,
        }
    }
}

pub(crate) fn silent(what: &'static str, config: &Config) -> OpenError {
    OpenError::Timeout {
        what,
        target: config.target.to_string(),
        limit: ANSWER_LIMIT,
    }
}

pub(crate) async fn connect(
    config: &Config,
    alarms: &Alarms,
    pulse: &Pulse,
) -> Result<Watch, OpenError> {
    match &config.target {
        Target::Postgres(server) => {
            let connection_state = ConnectionState::with_pulse(alarms, pulse.clone());
            // A refusal is reported at once; its successor is known at the next check.
            let Opened {
                connection, guard, ..
            } = connect::postgres_within(Duration::ZERO, server, config, &connection_state).await?;
            Ok(Watch::Postgres(connection, connection_state, guard))
        }
        Target::Sqlite(file) => {
            let file = file.clone();
            let opened = blocking(move || file.open(connect::sqlite)).await;
            opened.map(|(connection, hold)| Watch::Sqlite(connection, hold))
        }
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, OpenError> + Send + 'static,
) -> Result<T, OpenError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|died| Err(OpenError::Setup(died.to_string())))
}

/// SQLite's state of its write-ahead log.
#[derive(diesel::QueryableByName)]
struct Log {
    /// Frames in it.
    #[diesel(sql_type = diesel::sql_types::BigInt)]
    log: i64,
}

/// Whether the file is the one that was opened, and takes writes: takes the write lock and gives it back. On a
/// read-only or damaged file that fails, while a lock that others hold is a sign of health.
async fn look_at_sqlite(
    mut connection: SqliteConnection,
    hold: Hold,
    config: &Config,
) -> Result<Watch, OpenError> {
    let Target::Sqlite(file) = config.target.clone() else {
        return Err(OpenError::Setup("no file is given".into()));
    };
    blocking(move || {
        hold.verify_place()?;
        let refused = |error: QueryError| connect::refused(file.path(), &error.to_string());
        let log: Log = diesel::RunQueryDsl::get_result(
            diesel::sql_query("PRAGMA wal_checkpoint(NOOP)"),
            &mut connection,
        )
        .map_err(refused)?;
        hold.verify_frames(log.log.try_into().unwrap_or(0))?;
        // Not the time limit of work: the holder of the lock is working.
        let prepared = connection.batch_execute("PRAGMA busy_timeout = 0");
        let looked =
            prepared.and_then(|()| connection.immediate_transaction(|_| Ok::<_, QueryError>(())));
        match looked {
            Ok(()) => Ok(Watch::Sqlite(connection, hold)),
            Err(QueryError::DatabaseError(DatabaseErrorKind::Unknown, info))
                if info.message().contains("locked") =>
            {
                Ok(Watch::Sqlite(connection, hold))
            }
            Err(error) => Err(refused(error)),
        }
    })
    .await
}

async fn server_state(connection: &mut AsyncPgConnection) -> Result<ServerState, OpenError> {
    // Not `session_user`, which fails for a user that was removed.
    let query = "SELECT pg_is_in_recovery() OR current_setting('transaction_read_only')::boolean AS read_only, \
                 NOT EXISTS (SELECT FROM pg_stat_get_activity(pg_backend_pid()) AS us \
                 JOIN pg_roles ON pg_roles.oid = us.usesysid) AS user_gone, \
                 current_setting('role') <> 'none' AS in_role";
    let failed = |source| OpenError::Query {
        what: "a check",
        source,
    };
    diesel::sql_query(query)
        .get_result(connection)
        .await
        .map_err(failed)
}

async fn role(connection: &mut AsyncPgConnection) -> Result<Role, OpenError> {
    let query = "SELECT rolname::text AS name, rolsuper OR rolbypassrls AS bypasses_row_security, \
                 EXISTS (SELECT FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace \
                 WHERE relrowsecurity AND nspname = ANY (current_schemas(false)) \
                 AND pg_has_role(pg_roles.oid, relowner, 'MEMBER')) AS owns_tables \
                 FROM pg_roles WHERE rolname = current_user";
    let failed = |source| OpenError::Query {
        what: "a look at the role",
        source,
    };
    diesel::sql_query(query)
        .get_result(connection)
        .await
        .map_err(failed)
}

/// Has the database write to its disk, and leaves nothing behind. Only asked after it has said that its disk
/// is full; says whether that is still so.
pub(crate) async fn write_something(
    connection: Option<Watch>,
    config: &Config,
) -> Result<(Watch, bool), OpenError> {
    let failed = |source| OpenError::Query {
        what: "writing to see whether the disk has space",
        source,
    };
    match connection {
        Some(Watch::Postgres(mut connection, connection_state, guard)) => {
            connection_state.forget();
            // A table's first rows make its file grow; no other table is touched.
            let script = "BEGIN; CREATE TEMPORARY TABLE dotmac_space ON COMMIT DROP AS \
                          SELECT repeat(md5(n::text), 60) FROM generate_series(1, 100) AS n; ROLLBACK";
            let written = connection.batch_execute(script).await;
            let full = connection_state.last() == Some(SqlState::DISK_FULL);
            match written {
                Err(error) if !full => return Err(failed(error)),
                Err(_) => connection.batch_execute("ROLLBACK").await.map_err(failed)?,
                Ok(()) => {}
            }
            Ok((Watch::Postgres(connection, connection_state, guard), full))
        }
        Some(Watch::Sqlite(mut connection, hold)) => {
            blocking(move || {
                // As one commit, so that pages really go to the disk; none of them stays in use.
                let script = "PRAGMA busy_timeout = 100; BEGIN IMMEDIATE; \
                               CREATE TABLE dotmac_space (filler BLOB); \
                               INSERT INTO dotmac_space VALUES (zeroblob(65536)); \
                               DROP TABLE dotmac_space; COMMIT";
                let written = connection.batch_execute(script);
                let full = match &written {
                    Ok(()) => false,
                    Err(error) => {
                        connection.batch_execute("ROLLBACK").ok();
                        SqlState::of_sqlite(error) == Some(SqlState::DISK_FULL)
                    }
                };
                Ok((Watch::Sqlite(connection, hold), full))
            })
            .await
        }
        None => Err(silent("a check", config)),
    }
}
