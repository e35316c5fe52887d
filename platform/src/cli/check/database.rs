//! The database: whether it is there and takes writes, whether its schema suits, and whether its file is sound.

use std::path::{Path, PathBuf};

use super::{
    super::migrate,
    table::{Outcome, Table},
};
use crate::{
    components,
    db::{
        self, Config, Credentials, Integrity, MigrateMode, OpenError, Role, Target,
        migrations::Step,
    },
    module,
    program::Program,
    settings::Settings,
};

/// Without credentials a server is tried as far as that goes: whether it is there at all.
pub(super) async fn try_database(
    program: &Program,
    settings: &Settings,
    credentials: Option<Credentials>,
    table: &mut Table,
) {
    let credentials = credentials.unwrap_or_else(Credentials::to_come);
    let mut config = components::database(settings, credentials);
    config.migrations = module::migrations(&program.modules);
    let target = config.target.to_string();
    if let Target::Sqlite(file) = &config.target
        && !file.path().exists()
    {
        let (outcome, words) = absent(file.path(), config.migrate);
        table.note(
            "database",
            outcome,
            format!("{target} does not exist yet; {words}"),
        );
        return;
    }
    let file = match &config.target {
        Target::Sqlite(file) => Some(file.path().to_owned()),
        Target::Postgres(_) => None,
    };
    let looking = config.clone();
    let look = async {
        let role = db::look(looking).await?;
        Ok::<_, db::OpenError>((role, format!("{target} takes writes")))
    };
    let looked = table.attempt("database", look, |error| match error {
        db::OpenError::NoAccount(_) => {
            format!("{target} answers, and no user is known to log in with: see above")
        }
        error => dotmac_causes::chain(&error),
    });
    let Some(role) = looked.await else {
        return;
    };
    if let Some(role) = role {
        judge(&role, table);
    }
    try_schema(config, table).await;
    if let Some(file) = file {
        try_file(file, table).await;
    }
}

/// Whether row-level security, the last line of defence between tenants, holds for the daemon's role.
fn judge(role: &Role, table: &mut Table) {
    let name = &role.name;
    let (outcome, words) = if role.bypasses_row_security {
        let words = format!(
            "does not hold for `{name}`, which has SUPERUSER or BYPASSRLS: connect as a role without them"
        );
        (Outcome::Weak, words)
    } else if role.owns_tables {
        let words = format!(
            "holds for `{name}`, which owns the tables and could switch it off: see \"Two roles\" in docs/database.md"
        );
        (Outcome::Good, words)
    } else {
        (Outcome::Good, format!("holds for `{name}`"))
    };
    table.note("row-level security", outcome, words);
}

/// Whether the daemon can make the file that is not there, and the schema in it.
fn absent(file: &Path, migrate: MigrateMode) -> (Outcome, &'static str) {
    let directory = file.parent().filter(|it| !it.as_os_str().is_empty());
    match (directory.is_none_or(Path::is_dir), migrate) {
        (false, _) => (Outcome::Failed, "its directory is missing: create it"),
        (true, MigrateMode::Auto) => (Outcome::Absent, "the daemon creates it"),
        (true, MigrateMode::Check | MigrateMode::Off) => (
            Outcome::Failed,
            "run `migrate up`, or set DOTMAC_DATABASE_MIGRATE=auto",
        ),
    }
}

/// Whether the start would find the schema as it needs it, or bring it there.
async fn try_schema(config: Config, table: &mut Table) {
    let mode = config.migrate;
    let look = async {
        let status = migrate::migrate(config, Step::Look).map_err(SchemaFault::Unreadable)?;
        let status = status.status;
        status.suits().map_err(SchemaFault::Unreadable)?;
        let pending = status.pending();
        match (pending.len(), mode) {
            (0, _) => Ok(((), "the schema is up to date".to_owned())),
            (_, MigrateMode::Auto) => {
                let words = format!("pending, and run at the start: {}", pending.join(", "));
                Ok(((), words))
            }
            (_, MigrateMode::Check | MigrateMode::Off) => Err(SchemaFault::Pending(pending)),
        }
    };
    table
        .attempt("database schema", look, |fault| match fault {
            SchemaFault::Pending(names) => format!(
                "pending, and not run at the start: {}; run `migrate up`, or set DOTMAC_DATABASE_MIGRATE=auto",
                names.join(", ")
            ),
            SchemaFault::Unreadable(error) => dotmac_causes::chain(&error),
        })
        .await;
}

enum SchemaFault {
    Unreadable(OpenError),
    Pending(Vec<String>),
}

/// Whether a SQLite file is sound: to take writes, one good page is enough.
async fn try_file(file: PathBuf, table: &mut Table) {
    let read = async {
        let words = match db::check_integrity(file).await? {
            Integrity::Sound => "checked completely, no damage".to_owned(),
            Integrity::TooLarge(bytes) => {
                format!("not checked, as it has {bytes} bytes: `backup` checks it")
            }
        };
        Ok::<_, db::OpenError>(((), words))
    };
    table
        .attempt("database file", read, |error| dotmac_causes::chain(&error))
        .await;
}
