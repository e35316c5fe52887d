//! A copy of a SQLite database while it is in use, proved before it is called a backup.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
};

use diesel::{Connection as _, RunQueryDsl, SqliteConnection, connection::SimpleConnection};

use super::integrity::{self, Depth};
use crate::{OpenError, connect};

/// Why there is no backup. Nothing is left in its place.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// There is something at its place already.
    #[error("`{:.100}` exists already; name a new file", path.to_string_lossy())]
    Exists {
        /// The place.
        path: PathBuf,
    },
    /// There is no database to copy.
    #[error("there is no database at `{:.100}`", path.to_string_lossy())]
    Missing {
        /// Where it should be.
        path: PathBuf,
    },
    /// The database could not be opened or copied.
    #[error("failed to back up the database")]
    Database(#[source] OpenError),
    /// The copy is not sound, so the database is not either.
    #[error("the copy of `{:.100}` is damaged: {problem}; check the database with `PRAGMA \
        integrity_check`", path.to_string_lossy())]
    Damaged {
        /// The database.
        path: PathBuf,
        /// The first finding of the check.
        problem: String,
    },
    /// The copy could not be put in its place.
    #[error("cannot write `{:.100}`", path.to_string_lossy())]
    Write {
        /// The place.
        path: PathBuf,
        /// The error of the operating system.
        #[source]
        source: io::Error,
    },
}

/// Copies the database in `from` to the file `to`, as it is at one moment; others read and write meanwhile.
/// The copy is checked, on the disk and complete before it has the name `to`. Gives its size in bytes. Blocks.
///
/// # Errors
///
/// [`BackupError`]; nothing is at `to` then that was not there before.
pub fn backup(from: &Path, to: &Path) -> Result<u64, BackupError> {
    if to.exists() {
        return Err(BackupError::Exists {
            path: to.to_owned(),
        });
    }
    if !from.exists() {
        return Err(BackupError::Missing {
            path: from.to_owned(),
        });
    }
    let mut name = to.as_os_str().to_owned();
    name.push(".partial");
    let partial = PathBuf::from(name);
    let written = |source| BackupError::Write {
        path: to.to_owned(),
        source,
    };
    // Of a backup that was interrupted.
    match fs::remove_file(&partial) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(written(error)),
        _ => {}
    }
    let directory = to.parent().filter(|path| !path.as_os_str().is_empty());
    let directory = directory.unwrap_or(Path::new("."));
    // SQLite would say of the database that it cannot be opened.
    fs::metadata(directory).map_err(written)?;
    let made = copy(from, &partial).and_then(|()| {
        let file = File::open(&partial).map_err(written)?;
        file.sync_all().map_err(written)?;
        // Not over something that came meanwhile.
        fs::hard_link(&partial, to).map_err(written)?;
        File::open(directory)
            .and_then(|directory| directory.sync_all())
            .map_err(written)?;
        file.metadata().map(|it| it.len()).map_err(written)
    });
    fs::remove_file(&partial).ok();
    made
}

fn copy(from: &Path, to: &Path) -> Result<(), BackupError> {
    let failed = |error: diesel::result::Error| {
        BackupError::Database(connect::refused(from, &error.to_string()))
    };
    let target = to.to_str().ok_or_else(|| {
        BackupError::Database(connect::refused(to, "its name is not valid UTF-8"))
    })?;
    let mut connection = connect::sqlite(from).map_err(BackupError::Database)?;
    // One read transaction, so the copy is of one moment; writers go on in the write-ahead log.
    diesel::sql_query("VACUUM INTO ?")
        .bind::<diesel::sql_types::Text, _>(target)
        .execute(&mut connection)
        .map_err(failed)?;

    let mut copy = SqliteConnection::establish(target)
        .map_err(|error| BackupError::Database(connect::refused(to, &error.to_string())))?;
    copy.batch_execute("PRAGMA query_only = ON")
        .map_err(failed)?;
    match integrity::first_damage(&mut copy, Depth::Everything).map_err(failed)? {
        Some(problem) => Err(BackupError::Damaged {
            path: from.to_owned(),
            problem,
        }),
        None => Ok(()),
    }
}
