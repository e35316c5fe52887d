//! Brings a schema up to date, one process at a time, or says what is missing.
//!
//! On PostgreSQL a session-wide advisory lock lets one process in; on SQLite the write lock does. Each
//! migration is a transaction: one that fails leaves the schema as it was before it. To look takes no lock and
//! writes nothing, so it works on a standby too.
//!
//! Each migration has an owner, such as a module of the program. Two owners may have the same version, and what
//! ran of an owner that this program does not have is left alone.

mod back_end;
mod owners;
mod script;
mod status;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};

use diesel::{
    backend::Backend,
    connection::{Instrumentation, InstrumentationEvent},
    migration::{Migration, MigrationSource},
};
use diesel_async::async_connection_wrapper::AsyncConnectionWrapper;

use self::{
    back_end::{Schema, SupportedBackend, lock, lock_briefly, locking_failed},
    owners::{Owned, join, split},
};
pub use self::{
    owners::{Migrations, MigrationsError, PLATFORM, Scripts, in_order},
    status::{OwnerStatus, Status},
};
use super::{
    Config, OpenError, SqlState, Target,
    connect::{self, Opened},
    monitor::{Alarms, ConnectionState},
};

/// The table of the versions that ran, as diesel names it.
const VERSIONS: &str = "__diesel_schema_migrations";

/// An operation on a schema.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Only look.
    Look,
    /// Run all that are pending.
    Up,
    /// Take some back, the newest first.
    Down {
        /// Of whose migrations.
        owner: String,
        /// How many.
        steps: u32,
    },
}

/// The executed migrations, and the present state.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Names of those that were run or taken back by this call, those of others than the platform as `owner/name`.
    pub changed: Vec<String>,
    /// The schema afterwards.
    pub status: Status,
}

/// Does one [`Step`] to the database of `config`. Waits for another process that migrates.
///
/// Must run on a multi-threaded tokio runtime.
///
/// # Errors
///
/// [`OpenError::Migration`] if one did not go through, with the statement that failed;
/// [`OpenError::SchemaNewer`] if nothing may be run on this schema; otherwise why the database could not be used,
/// which may be different the next time.
pub async fn migrate(config: &Config, step: Step) -> Result<Outcome, OpenError> {
    let connection_state = ConnectionState::new(&Alarms::default());
    let only_looks = step == Step::Look;
    let run = MigrationRun {
        config: config.clone(),
        step,
        connection_state: Arc::clone(&connection_state),
        failed: Arc::default(),
    };
    let migrating = match &config.target {
        Target::Sqlite(file) => {
            let file = file.clone();
            tokio::task::spawn_blocking(move || {
                let (connection, _hold) = file.open(connect::sqlite)?;
                // Closed before the hold is given up: what is bound last is dropped first.
                let mut connection = connection;
                let walked = if only_looks {
                    run.run(&mut connection)
                } else {
                    connection
                        .immediate_transaction::<_, Failure, _>(|c| run.run(c).map_err(Failure))
                        .map_err(|failure| failure.0)
                };
                walked.map_err(|error| blame_the_file(file.path(), error))
            })
        }
        Target::Postgres(server) => {
            let Opened { connection, .. } =
                connect::postgres(server, config, &connection_state).await?;
            let lock_timeout = config.lock_timeout;
            // The lock ends with the connection, which ends here, also after a panic.
            tokio::task::spawn_blocking(move || {
                let mut connection = AsyncConnectionWrapper::from(connection);
                if only_looks {
                    lock_briefly(&mut connection)?;
                } else {
                    lock(&mut connection, lock_timeout)?;
                }
                run.run(&mut connection)
            })
        }
    };
    migrating
        .await
        .unwrap_or_else(|died| Err(OpenError::Setup(died.to_string())))
}

/// `error`, or, if its cause is the file's disk or another process that holds the file, what an operator can do
/// about that: no fault of a migration's.
fn blame_the_file(path: &Path, error: OpenError) -> OpenError {
    const OF_THE_FILE: [&str; 3] = ["database or disk is full", "disk I/O error", "is locked"];
    let texts: Vec<String> = dotmac_causes::causes(&error)
        .map(ToString::to_string)
        .collect();
    let of_the_file = OF_THE_FILE
        .into_iter()
        .find(|words| texts.iter().any(|text| text.contains(words)));
    of_the_file.map_or(error, |words| connect::refused(path, words))
}

fn preparing_failed(source: diesel::result::Error) -> OpenError {
    OpenError::Query {
        what: "preparing a migration",
        source,
    }
}

/// Carries our error through diesel's transaction.
struct Failure(OpenError);

impl From<diesel::result::Error> for Failure {
    fn from(source: diesel::result::Error) -> Self {
        Self(locking_failed(source))
    }
}

/// One call of [`migrate`], with a connection that it has to itself.
struct MigrationRun {
    config: Config,
    step: Step,
    connection_state: Arc<ConnectionState>,
    failed: Arc<Mutex<Option<FailedScript>>>,
}

/// The script that failed, as it was then: what is done to clean up makes one forget.
struct FailedScript {
    text: String,
    /// The number of executed statements, if known.
    done: u64,
    state: Option<SqlState>,
}

impl MigrationRun {
    fn run<C>(&self, connection: &mut C) -> Result<Outcome, OpenError>
    where
        C: Schema,
        C::Backend: SupportedBackend,
    {
        let known = self.known::<C>()?;
        let mut changed = Vec::new();
        let status = self.status(connection, &known)?;
        let todo: Vec<&Owned<C::Backend>> = match &self.step {
            Step::Look => Vec::new(),
            Step::Up => {
                // Under the lock: a newer program may have had it before.
                status.suits()?;
                let is_pending = |it: &&Owned<C::Backend>| {
                    let of = status.of(it.owner());
                    of.is_some_and(|of| of.pending.iter().any(|name| name == it.name()))
                };
                known.iter().filter(is_pending).collect()
            }
            Step::Down { owner, steps } => newest(&known, &status, owner, *steps)?,
        };
        if self.step != Step::Look {
            // Makes the table of versions, and has failures of what follows noted.
            let made = connection.applied_migrations();
            made.map_err(|error| {
                self.locked_out(connection, VERSIONS)
                    .unwrap_or_else(|| failed(error))
            })?;
            connection.set_instrumentation(self.noting());
        }
        for migration in todo {
            let name = join(migration.owner(), migration.name());
            let is_apart = !migration.metadata().run_in_transaction();
            if is_apart {
                connection
                    .prepare_untransacted()
                    .map_err(preparing_failed)?;
            }
            let done = match self.step {
                Step::Down { .. } => connection.revert_migration(migration),
                Step::Look | Step::Up => connection.run_migration(migration),
            };
            if let Err(error) = done {
                return Err(self.explained(connection, &name, &*error));
            }
            if is_apart {
                let limited = connection.limit_locks(self.config.lock_timeout);
                limited.map_err(preparing_failed)?;
            }
            changed.push(name);
        }
        let status = self.status(connection, &known)?;
        Ok(Outcome { changed, status })
    }

    /// All migrations of all who have tables, in the order in which they run.
    fn known<C>(&self) -> Result<Vec<Owned<C::Backend>>, OpenError>
    where
        C: Schema,
        C::Backend: SupportedBackend,
    {
        let mut known = Vec::new();
        for migrations in in_order(&self.config.migrations)? {
            let source = C::source(migrations);
            let of_owner: Vec<Box<dyn Migration<C::Backend>>> =
                source.migrations().map_err(failed)?;
            let of_owner = of_owner.into_iter();
            let mut of_owner: Vec<_> = of_owner
                .map(|migration| Owned::new(migrations.owner, migration))
                .collect();
            of_owner.sort_by(|one, other| one.version().cmp(other.version()));
            known.extend(of_owner);
        }
        Ok(known)
    }

    /// Versions that ran, oldest first.
    fn applied(&self, connection: &mut impl Schema) -> Result<Vec<String>, OpenError> {
        self.listed(connection, VERSIONS)
    }

    fn listed(
        &self,
        connection: &mut impl Schema,
        table: &'static str,
    ) -> Result<Vec<String>, OpenError> {
        let query = format!("SELECT version AS text FROM {table} ORDER BY version");
        let listed = connection.has_table(table).and_then(|is_there| {
            if is_there {
                connection.texts(&query)
            } else {
                Ok(Vec::new())
            }
        });
        listed.map_err(|source| {
            let what = "reading the schema";
            let locked_out = self.locked_out(connection, table);
            locked_out.unwrap_or(OpenError::Query { what, source })
        })
    }

    /// The error to report if what failed last had waited in vain for another session's lock.
    fn locked_out(&self, connection: &mut impl Schema, table: &str) -> Option<OpenError> {
        (self.connection_state.last() == Some(SqlState::LOCK_NOT_AVAILABLE)).then(|| {
            OpenError::SchemaLocked {
                holders: connection.holders_of(table),
            }
        })
    }

    fn status<C>(
        &self,
        connection: &mut C,
        known: &[Owned<C::Backend>],
    ) -> Result<Status, OpenError>
    where
        C: Schema,
        C::Backend: SupportedBackend,
    {
        let applied = self.applied(connection)?;
        let compatible = self.listed(connection, "schema_compatible")?;
        let mut by_owner = BTreeMap::<&str, Vec<String>>::new();
        for (owner, version) in applied.iter().map(|version| split(version)) {
            by_owner.entry(owner).or_default().push(version.to_owned());
        }
        let mut owners = Vec::new();
        for migrations in in_order(&self.config.migrations)? {
            let owner = migrations.owner;
            let applied = by_owner.remove(owner).unwrap_or_default();
            let known = || known.iter().filter(|it| it.owner() == owner);
            let versions: BTreeSet<&str> = known().map(Owned::version).collect();
            let pending =
                known().filter(|it| applied.iter().all(|version| version != it.version()));
            let pending = pending.map(|it| it.name().to_owned()).collect();
            let is_unknown = |version: &&String| !versions.contains(version.as_str());
            let unknown: Vec<String> = applied.iter().filter(is_unknown).cloned().collect();
            let is_incompatible = |version: &&String| !compatible.contains(&join(owner, version));
            let names = known().map(|it| (it.version().to_owned(), it.name().to_owned()));
            owners.push(OwnerStatus {
                owner: owner.to_owned(),
                names: names.collect(),
                is_absent: false,
                incompatible: unknown.iter().filter(is_incompatible).cloned().collect(),
                unknown,
                pending,
                applied,
            });
        }
        let absent = by_owner.into_iter().map(|(owner, applied)| OwnerStatus {
            owner: owner.to_owned(),
            is_absent: true,
            applied,
            ..OwnerStatus::default()
        });
        owners.extend(absent);
        Ok(Status { owners })
    }

    /// Keeps the script that fails first, and how far it came.
    fn noting(&self) -> impl Instrumentation + use<> {
        let (connection_state, failed) =
            (Arc::clone(&self.connection_state), Arc::clone(&self.failed));
        move |event: InstrumentationEvent<'_>| match event {
            InstrumentationEvent::StartQuery { .. } => connection_state.forget(),
            InstrumentationEvent::FinishQuery {
                query,
                error: Some(error),
                ..
            } => {
                let mut failed = failed.lock().unwrap_or_else(PoisonError::into_inner);
                failed.get_or_insert_with(|| FailedScript {
                    text: query.to_string(),
                    done: connection_state.statements_done(),
                    state: connection_state
                        .last()
                        .or_else(|| SqlState::of_sqlite(error)),
                });
            }
            _ => {}
        }
    }

    /// Why a migration did not go through: with the statement, or as something that may pass.
    fn explained(
        &self,
        connection: &mut impl Schema,
        name: &str,
        error: &(dyn std::error::Error + Send + Sync),
    ) -> OpenError {
        let target = self.config.target.to_string();
        // Taken out, since to look for the culprit is to fail again.
        let mut failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        let noted = failed.take();
        drop(failed);
        match noted.as_ref().and_then(|noted| noted.state) {
            _ if self.connection_state.is_cut() => {}
            Some(SqlState::LOCK_NOT_AVAILABLE | SqlState::DEADLOCK) => {
                return OpenError::MigrationGaveWay(format!("`{name}`: {error}"));
            }
            Some(SqlState::READ_ONLY) => return OpenError::ReadOnly { target },
            Some(SqlState::DISK_FULL) => return OpenError::DiskFull { target },
            Some(state) if state.is_disconnection() => {}
            _ => {
                let statement = noted.and_then(|FailedScript { text, done, .. }| {
                    let statements = script::statements(&text);
                    let at = connection.culprit(&statements, done);
                    let text = script::shown(statements.get(at)?);
                    Some(format!(" in statement {}, `{text}`", at + 1))
                });
                let statement = statement.unwrap_or_default();
                return OpenError::Migration(format!("`{name}`{statement}: {error}"));
            }
        }
        OpenError::Timeout {
            what: "a migration, which is rolled back,",
            target,
            limit: self.config.connect_timeout,
        }
    }
}

/// The newest `steps` that ran of `owner`, the newest first.
fn newest<'a, DB: Backend>(
    known: &'a [Owned<DB>],
    status: &Status,
    owner: &str,
    steps: u32,
) -> Result<Vec<&'a Owned<DB>>, OpenError> {
    let mut found = Vec::new();
    for version in status.newest(owner, steps)? {
        let migration = known
            .iter()
            .find(|it| join(it.owner(), it.version()) == version);
        found.push(migration.ok_or_else(|| {
            OpenError::NotTakenBack(format!("`{version}` is not known to this program"))
        })?);
    }
    Ok(found)
}

fn failed(error: Box<dyn std::error::Error + Send + Sync>) -> OpenError {
    OpenError::Migration(error.to_string())
}
