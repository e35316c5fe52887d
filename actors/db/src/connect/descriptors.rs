//! Whether the process has as many files open as it may: then no database can be opened, regardless of other
//! faults.

use std::{fs::File, io};

/// `EMFILE`: the process may not open another file. The standard library has no kind for it.
const TOO_MANY_HERE: i32 = 24;
/// `ENFILE`: nor may any other process of the system.
const TOO_MANY_ANYWHERE: i32 = 23;

/// Whether this is what the error says.
pub(crate) fn are_short(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(TOO_MANY_HERE | TOO_MANY_ANYWHERE)
    )
}

/// Tries it, for SQLite says only that it could not open the file.
pub(crate) fn shortage() -> Option<io::Error> {
    File::open("/dev/null").err().filter(are_short)
}
