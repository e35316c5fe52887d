//! Whether a SQLite file is sound, which only reading all of it shows.

use std::path::{Path, PathBuf};

use diesel::{QueryResult, RunQueryDsl, SqliteConnection};

use crate::{OpenError, connect};

/// Up to this size a file is checked while the caller waits: seconds, on any disk.
const READ_THROUGH_LIMIT: u64 = 1 << 30;

/// The result of [`check_integrity`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Integrity {
    /// All pages are what they should be.
    Sound,
    /// Not checked: the file has that many bytes, too many to wait for.
    TooLarge(u64),
}

/// Of all that SQLite can check, how much.
#[derive(Clone, Copy)]
pub(crate) enum Depth {
    /// Every page of every table and index: `quick_check`. Leaves out whether they agree.
    Pages,
    /// The same, whether indexes agree with their tables, and whether rows are there that others refer to.
    Everything,
}

#[derive(diesel::QueryableByName)]
struct Remark {
    #[diesel(sql_type = diesel::sql_types::Text)]
    text: String,
}

/// Reads through the database in `path`, of which nothing is changed; others may use it meanwhile. A file of more than
/// 1 GiB is skipped: its backup is checked, without a waiting caller.
///
/// # Errors
///
/// [`OpenError::File`] says what is wrong with the file.
pub async fn check_integrity(path: PathBuf) -> Result<Integrity, OpenError> {
    let reading = tokio::task::spawn_blocking(move || read(&path));
    reading
        .await
        .unwrap_or_else(|died| Err(OpenError::Setup(died.to_string())))
}

fn read(path: &Path) -> Result<Integrity, OpenError> {
    let refused = |problem: String| connect::refused(path, &problem);
    let bytes = std::fs::metadata(path).map_err(|error| refused(error.to_string()))?;
    if bytes.len() > READ_THROUGH_LIMIT {
        return Ok(Integrity::TooLarge(bytes.len()));
    }
    let mut connection = connect::sqlite(path)?;
    match first_damage(&mut connection, Depth::Pages) {
        Ok(None) => Ok(Integrity::Sound),
        Ok(Some(damage)) => Err(refused(format!("malformed: {damage}"))),
        Err(error) => Err(refused(error.to_string())),
    }
}

/// The first fault, if any.
pub(crate) fn first_damage(
    connection: &mut SqliteConnection,
    depth: Depth,
) -> QueryResult<Option<String>> {
    let queries: &[&str] = match depth {
        Depth::Pages => &["SELECT quick_check AS text FROM pragma_quick_check LIMIT 1"],
        Depth::Everything => &[
            "SELECT integrity_check AS text FROM pragma_integrity_check LIMIT 1",
            "SELECT 'a row of ' || \"table\" || ' refers to one of ' || parent || ' that is not there' AS text \
             FROM pragma_foreign_key_check LIMIT 1",
        ],
    };
    for query in queries {
        let remarks: Vec<Remark> = diesel::sql_query(*query).load(connection)?;
        let damage = remarks.into_iter().find(|remark| remark.text != "ok");
        if damage.is_some() {
            return Ok(damage.map(|remark| remark.text));
        }
    }
    Ok(None)
}
