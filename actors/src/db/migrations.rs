//! Brings a schema up to date, one process at a time, or says what is missing.
//!
//! On PostgreSQL a session-wide advisory lock lets one process in; on SQLite the write lock does. Each
//! migration is a transaction: one that fails leaves the schema as it was before it.

use diesel::{
    backend::Backend,
    migration::{Migration, MigrationSource, MigrationVersion},
};
use diesel_async::{AsyncMigrationHarness, AsyncPgConnection, RunQueryDsl};
use diesel_migrations::MigrationHarness;

use super::{Config, OpenError, Target, connect};

/// Names the lock of migrating processes; any constant that nobody else uses.
const ADVISORY_LOCK: i64 = 0x646f_746d_6163;

/// What a database lacks and has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// Versions that ran, oldest first.
    pub applied: Vec<String>,
    /// Names of those that did not, in the order in which they would.
    pub pending: Vec<String>,
    /// Versions that ran and that this program does not know: the schema is newer than it.
    pub unknown: Vec<String>,
}

/// What to do with a schema.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Only look.
    Look,
    /// Run all that are pending.
    Up,
    /// Take back that many, the newest first.
    Down(u32),
}

/// What was done, and what there is now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Versions that were run or taken back by this call.
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
/// [`OpenError::Migration`] if one did not go through; otherwise why the database could not be opened.
pub async fn migrate(config: &Config, step: Step) -> Result<Outcome, OpenError> {
    match &config.target {
        Target::Sqlite(path) => {
            let (path, source) = (path.clone(), config.migrations.sqlite);
            let migrating = tokio::task::spawn_blocking(move || {
                let mut connection = connect::sqlite(&path)?;
                if step == Step::Look {
                    return walk(&mut connection, source, step);
                }
                connection
                    .immediate_transaction::<_, Failure, _>(|c| {
                        walk(c, source, step).map_err(Failure)
                    })
                    .map_err(|failure| failure.0)
            });
            migrating
                .await
                .map_err(|error| OpenError::Setup(error.to_string()))?
        }
        Target::Postgres(server) => {
            let connection = connect::postgres(server, config).await?;
            // The server's own limits are for queries; waiting for the lock and rewriting a table take longer.
            let connection = prepared(connection).await?;
            let source = config.migrations.postgres;
            // The lock ends with the connection, which ends here, also after a panic.
            let migrating = tokio::spawn(async move {
                walk(&mut AsyncMigrationHarness::new(connection), source, step)
            });
            migrating
                .await
                .map_err(|error| OpenError::Setup(error.to_string()))?
        }
    }
}

/// Carries our error through diesel's transaction.
struct Failure(OpenError);

impl From<diesel::result::Error> for Failure {
    fn from(source: diesel::result::Error) -> Self {
        Self(OpenError::Query {
            what: "locking the database for migration",
            source,
        })
    }
}

async fn prepared(mut connection: AsyncPgConnection) -> Result<AsyncPgConnection, OpenError> {
    let failed = |source| OpenError::Query {
        what: "locking the database for migration",
        source,
    };
    diesel::sql_query("SET statement_timeout = 0")
        .execute(&mut connection)
        .await
        .map_err(failed)?;
    // Also to look: the first look makes the table of versions, which two at once cannot.
    diesel::sql_query(format!("SELECT pg_advisory_lock({ADVISORY_LOCK})"))
        .execute(&mut connection)
        .await
        .map_err(failed)?;
    Ok(connection)
}

fn walk<DB, H, S>(harness: &mut H, source: &S, step: Step) -> Result<Outcome, OpenError>
where
    DB: Backend,
    H: MigrationHarness<DB>,
    S: MigrationSource<DB>,
{
    let known: Vec<Box<dyn Migration<DB>>> = source.migrations().map_err(failed)?;
    let mut changed = Vec::new();
    match step {
        Step::Look => {}
        Step::Up => {
            let applied = harness.applied_migrations().map_err(failed)?;
            for migration in sorted(&known)
                .into_iter()
                .filter(|migration| !applied.contains(&migration.name().version()))
            {
                let name = migration.name().to_string();
                harness
                    .run_migration(migration)
                    .map_err(|error| OpenError::Migration(format!("`{name}`: {error}")))?;
                changed.push(name);
            }
        }
        Step::Down(steps) => {
            let mut applied = harness.applied_migrations().map_err(failed)?;
            applied.sort();
            for version in applied.into_iter().rev().take(steps as usize) {
                let migration = known
                    .iter()
                    .find(|migration| migration.name().version() == version)
                    .ok_or_else(|| {
                        OpenError::Migration(format!(
                            "`{version}` is not known to this program, so it cannot take it back"
                        ))
                    })?;
                let name = migration.name().to_string();
                harness
                    .revert_migration(&**migration)
                    .map_err(|error| OpenError::Migration(format!("`{name}`: {error}")))?;
                changed.push(name);
            }
        }
    }
    let status = status(&known, &harness.applied_migrations().map_err(failed)?);
    Ok(Outcome { changed, status })
}

/// In the order in which they run.
fn sorted<DB: Backend>(known: &[Box<dyn Migration<DB>>]) -> Vec<&dyn Migration<DB>> {
    let mut sorted: Vec<&dyn Migration<DB>> = known.iter().map(AsRef::as_ref).collect();
    sorted.sort_by(|a, b| a.name().version().cmp(&b.name().version()));
    sorted
}

fn status<DB: Backend>(
    known: &[Box<dyn Migration<DB>>],
    applied: &[MigrationVersion<'_>],
) -> Status {
    let known = sorted(known);
    let is_pending =
        |migration: &&&dyn Migration<DB>| !applied.contains(&migration.name().version());
    let is_unknown = |version: &&MigrationVersion<'_>| {
        !known
            .iter()
            .any(|migration| migration.name().version() == **version)
    };
    let mut versions: Vec<String> = applied.iter().map(ToString::to_string).collect();
    versions.sort();
    Status {
        applied: versions,
        pending: known
            .iter()
            .filter(is_pending)
            .map(|m| m.name().to_string())
            .collect(),
        unknown: applied
            .iter()
            .filter(is_unknown)
            .map(ToString::to_string)
            .collect(),
    }
}

fn failed(error: Box<dyn std::error::Error + Send + Sync>) -> OpenError {
    OpenError::Migration(error.to_string())
}
