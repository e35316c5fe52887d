//! Looks whether the database does its work, beside the traffic and on a connection of its own, so
//! that a busy pool is not taken for a dead server.
//!
//! It looks at a steady pace, and at once when the traffic tells something. What it costs does not depend on
//! how many ask for probes: they read the last verdict.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use diesel::{
    SqliteConnection, connection::SimpleConnection, result::DatabaseErrorKind,
    result::Error as QueryError,
};
use diesel_async::{AsyncPgConnection, RunQueryDsl, SimpleAsyncConnection};
use tokio::task::JoinSet;

use super::{
    AUTHENTICATION_FAILED, Config, OpenError, Pool, SqlState, Target,
    alarms::{Alarms, Line},
    connect::{self, Opened},
    credentials::Pass,
    health::{Health, Judge, Seen},
    instruments::Looks,
};

/// Between two looks. With [`ANSWER_LIMIT`] it bounds how long a dead database can seem ready: 1.5 s.
pub(super) const INTERVAL: Duration = Duration::from_millis(500);

/// The same while it is down: how long its return may go unnoticed.
const INTERVAL_WHILE_DOWN: Duration = Duration::from_millis(200);

/// Between two looks, whatever the traffic tells.
const LEAST_INTERVAL: Duration = Duration::from_millis(50);

/// A server that takes longer for a constant is not one to send work to.
const ANSWER_LIMIT: Duration = Duration::from_secs(1);

/// Looks once whether a database can be reached as `config` says and takes writes. A SQLite file that is
/// not there is made.
///
/// # Errors
///
/// [`OpenError`] says what stands in the way.
pub async fn look(config: Config) -> Result<(), OpenError> {
    let connection = connect(&config, &Alarms::default()).await?;
    connection.asked(&config).await.map(drop)
}

/// Watches one database.
pub(super) struct Monitor {
    config: Config,
    pool: Arc<Pool>,
    alarms: Alarms,
    judge: Judge,
    looks: Looks,
    connection: Option<Watch>,
    /// Tries to connect that have not ended. A further one is begun with each look, since one whose first
    /// packet was lost would wait for seconds after the server is back.
    connecting: JoinSet<Result<Watch, OpenError>>,
    /// At the last look that came through our user was gone, and what was open went on in its role.
    user_gone: bool,
    pause: Duration,
}

#[expect(clippy::large_enum_variant, reason = "there is one")]
enum Watch {
    Postgres(AsyncPgConnection, Arc<Line>, Pass),
    Sqlite(SqliteConnection),
}

/// What a server says of itself and of us.
#[derive(diesel::QueryableByName)]
struct Standing {
    #[diesel(sql_type = diesel::sql_types::Bool)]
    read_only: bool,
    /// Whom we logged in as has been removed.
    #[diesel(sql_type = diesel::sql_types::Bool)]
    user_gone: bool,
    /// We act in another role, and go on to do so.
    #[diesel(sql_type = diesel::sql_types::Bool)]
    in_role: bool,
}

impl Monitor {
    /// A monitor of a database that has just been opened, which was the first look.
    pub(super) fn new(config: Config, pool: Arc<Pool>) -> Self {
        let looks = Looks::shared();
        looks.looked();
        Self {
            alarms: pool.alarms().clone(),
            judge: Judge::new(config.pool_timeout.max(ANSWER_LIMIT)),
            looks,
            connection: None,
            connecting: JoinSet::new(),
            user_gone: false,
            // Soon has a connection of its own, while it can be had.
            pause: LEAST_INTERVAL,
            pool,
            config,
        }
    }

    /// Waits until it is time to look or the traffic tells something; looks, and judges. Runs on the
    /// database's runtime.
    pub(super) async fn watch(mut self) -> (Self, Health) {
        tokio::time::sleep(LEAST_INTERVAL).await;
        let pause = self.pause.saturating_sub(LEAST_INTERVAL);
        tokio::time::timeout(pause, self.alarms.told()).await.ok();
        let mut looked = self.look().await;
        if looked.is_ok() {
            looked = self.look_closer().await;
        }
        if looked.is_ok() {
            // Bounded by the time-out for connecting, and done where nobody waits for it.
            let pool = Arc::clone(&self.pool);
            drop(tokio::spawn(async move { pool.tend().await }));
        }
        // What is left of them counts.
        self.pool.drop_unfit();
        let health = self.judge.verdict(looked, self.seen(), Instant::now());
        self.looks.looked();
        self.pause = match health {
            Health::Down(..) => INTERVAL_WHILE_DOWN,
            Health::Good | Health::Impaired(_) => INTERVAL,
        };
        (self, health)
    }

    fn seen(&self) -> Seen {
        let status = self.pool.status();
        Seen {
            used_up: self.pool.is_used_up(),
            exhausted: self.alarms.exhausted_so_far(),
            finished: self.alarms.has_finished(),
            refusal: self.alarms.refusal(),
            corrupted: self.alarms.is_corrupted(),
            has_connections: status.idle + status.used > 0,
            user_gone: self.user_gone,
        }
    }

    /// Asks whether writes are taken.
    async fn look(&mut self) -> Result<(), OpenError> {
        // Taken out, and put back only if all went well: a doubtful connection is not asked twice.
        let connection = match self.connection.take() {
            Some(connection) if connection.is_fit() => connection,
            _ => self.connect().await?,
        };
        let (connection, user_gone) = connection.asked(&self.config).await?;
        self.connection = Some(connection);
        self.user_gone = user_gone;
        if user_gone {
            self.alarms.note_refusal(AUTHENTICATION_FAILED);
        }
        Ok(())
    }

    /// Looks at what the traffic complained about, until there is nothing to complain about any more.
    async fn look_closer(&mut self) -> Result<(), OpenError> {
        if self.alarms.is_disk_full() {
            let connection = self.connection.take();
            let (connection, full) = write_something(connection, &self.config).await?;
            self.connection = Some(connection);
            if full {
                return Err(OpenError::DiskFull {
                    target: self.config.target.to_string(),
                });
            }
            self.alarms.disk_has_space();
        }
        if self.alarms.refusal().is_some() {
            match self.connect().await {
                Ok(connection) => {
                    self.connection = Some(connection);
                    self.user_gone = false;
                    self.alarms.connections_open();
                }
                Err(problem) => self.alarms.note_refusal(problem.reason()),
            }
        }
        Ok(())
    }

    /// A new connection, within [`ANSWER_LIMIT`] of whichever try is the first to succeed.
    async fn connect(&mut self) -> Result<Watch, OpenError> {
        let (config, alarms) = (self.config.clone(), self.alarms.clone());
        self.connecting
            .spawn(async move { connect(&config, &alarms).await });
        let first = async {
            let mut problem = None;
            while let Some(ended) = self.connecting.join_next().await {
                match ended.unwrap_or_else(|died| Err(OpenError::Setup(died.to_string()))) {
                    Ok(connection) => return Ok(connection),
                    Err(error) => problem = Some(error),
                }
            }
            Err(problem.unwrap_or_else(|| silent("connecting", &self.config)))
        };
        let connected = tokio::time::timeout(ANSWER_LIMIT, first).await;
        let connected = connected.unwrap_or_else(|_| Err(silent("connecting", &self.config)));
        if connected.is_ok() {
            // None of the others is wanted; each would keep its account alive.
            self.connecting = JoinSet::new();
        }
        connected
    }
}

impl Watch {
    /// Itself, if the database takes writes and says so within [`ANSWER_LIMIT`]; and whether our user has
    /// been removed, so that what is open goes on and no more can be opened.
    async fn asked(self, config: &Config) -> Result<(Self, bool), OpenError> {
        let asking = async {
            match self {
                Self::Postgres(mut connection, line, pass) => {
                    let standing = standing(&mut connection).await?;
                    let target = || config.target.to_string();
                    if standing.user_gone {
                        pass.refused();
                    }
                    if standing.user_gone && !standing.in_role {
                        Err(OpenError::UserGone { target: target() })
                    } else if standing.read_only {
                        Err(OpenError::ReadOnly { target: target() })
                    } else {
                        let watch = Self::Postgres(connection, line, pass);
                        Ok((watch, standing.user_gone))
                    }
                }
                Self::Sqlite(connection) => {
                    let looked = look_at_sqlite(connection, config).await;
                    looked.map(|connection| (Self::Sqlite(connection), false))
                }
            }
        };
        let asked = tokio::time::timeout(ANSWER_LIMIT, asking).await;
        asked.map_err(|_| silent("a check", config))?
    }

    fn is_fit(&self) -> bool {
        match self {
            // A look must not keep a former account alive.
            Self::Postgres(_, line, pass) => line.is_fit() && pass.is_valid(),
            Self::Sqlite(_) => true,
        }
    }
}

fn silent(what: &'static str, config: &Config) -> OpenError {
    OpenError::Timeout {
        what,
        target: config.target.to_string(),
        limit: ANSWER_LIMIT,
    }
}

async fn connect(config: &Config, alarms: &Alarms) -> Result<Watch, OpenError> {
    match &config.target {
        Target::Postgres(server) => {
            let line = Line::new(alarms);
            // A refusal is told at once; what comes in its place is there at the next look.
            let Opened {
                connection, pass, ..
            } = connect::postgres_within(Duration::ZERO, server, config, &line).await?;
            Ok(Watch::Postgres(connection, line, pass))
        }
        Target::Sqlite(path) => {
            let path = path.clone();
            blocking(move || connect::sqlite(&path))
                .await
                .map(Watch::Sqlite)
        }
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, OpenError> + Send + 'static,
) -> Result<T, OpenError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|died| Err(OpenError::Setup(died.to_string())))
}

/// Takes the write lock and gives it back: on a read-only or damaged file that fails, while a lock
/// held by somebody else is a sign of health.
async fn look_at_sqlite(
    mut connection: SqliteConnection,
    config: &Config,
) -> Result<SqliteConnection, OpenError> {
    let Target::Sqlite(path) = config.target.clone() else {
        return Err(OpenError::Setup("no file is given".into()));
    };
    blocking(move || {
        // Not the time that work has: whoever holds the lock now is at work.
        let prepared = connection.batch_execute("PRAGMA busy_timeout = 0");
        let looked =
            prepared.and_then(|()| connection.immediate_transaction(|_| Ok::<_, QueryError>(())));
        match looked {
            Ok(()) => Ok(connection),
            Err(QueryError::DatabaseError(DatabaseErrorKind::Unknown, info))
                if info.message().contains("locked") =>
            {
                Ok(connection)
            }
            Err(error) => Err(connect::refused(&path, &error.to_string())),
        }
    })
    .await
}

async fn standing(connection: &mut AsyncPgConnection) -> Result<Standing, OpenError> {
    // Not `session_user`, which fails for a user who is gone.
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

/// Has the database write to its disk, and leaves nothing behind. Only asked after it has said that its disk
/// is full; says whether that is still so.
async fn write_something(
    connection: Option<Watch>,
    config: &Config,
) -> Result<(Watch, bool), OpenError> {
    let failed = |source| OpenError::Query {
        what: "writing to see whether the disk has space",
        source,
    };
    match connection {
        Some(Watch::Postgres(mut connection, line, pass)) => {
            line.forget();
            // A table's first rows make its file grow; no other table is touched.
            let script = "BEGIN; CREATE TEMPORARY TABLE dotmac_space ON COMMIT DROP AS \
                          SELECT repeat(md5(n::text), 60) FROM generate_series(1, 100) AS n; ROLLBACK";
            let written = connection.batch_execute(script).await;
            let full = line.last() == Some(SqlState::DISK_FULL);
            match written {
                Err(error) if !full => return Err(failed(error)),
                Err(_) => connection.batch_execute("ROLLBACK").await.map_err(failed)?,
                Ok(()) => {}
            }
            Ok((Watch::Postgres(connection, line, pass), full))
        }
        Some(Watch::Sqlite(mut connection)) => {
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
                Ok((Watch::Sqlite(connection), full))
            })
            .await
        }
        None => Err(silent("a check", config)),
    }
}
