//! `dotmac backup FILE`: a copy of the SQLite database, also while the daemon runs.

use std::path::PathBuf;

use clap::Args;

use crate::{Exit, db, program::Program, settings::DatabaseTarget};

/// Where to.
#[derive(Args)]
pub(super) struct Arguments {
    /// The file to make; it must not be there yet.
    file: PathBuf,
}

pub(super) fn run(program: &Program, arguments: &Arguments) -> Exit {
    let settings = match super::settings(program) {
        Ok(settings) => settings,
        Err(exit) => return exit,
    };
    let DatabaseTarget::Sqlite { path } = settings.database.target() else {
        eprintln!(
            "the database is a PostgreSQL server, whose own tools back it up: pg_dump, or pg_basebackup with archived WAL"
        );
        return Exit::Usage;
    };
    match db::backup(&path, &arguments.file) {
        Ok(bytes) => {
            super::print(&format!(
                "backed `{}` up to `{}`: {bytes} bytes, checked",
                path.display(),
                arguments.file.display()
            ));
            Exit::Success
        }
        Err(error) => {
            eprintln!("{}", dotmac_causes::chain(&error));
            Exit::Unavailable
        }
    }
}
