//! `dotmac backup FILE`: a copy of the SQLite database, also while the daemon runs.

use std::path::PathBuf;

use clap::Args;

use crate::{Exit, db, program::Program, settings::DatabaseTarget, shown::in_line};

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
            let (from, to) = (path.to_string_lossy(), arguments.file.to_string_lossy());
            super::print(&format!(
                "backed `{}` up to `{}`: {bytes} bytes, checked",
                in_line(&from),
                in_line(&to)
            ));
            Exit::Success
        }
        Err(error) => {
            super::complain(&dotmac_causes::chain(&error));
            Exit::Unavailable
        }
    }
}
