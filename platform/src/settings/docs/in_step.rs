//! For the tests of a service: files of its own that are generated from its settings are up to date.

use std::fs;
use std::path::Path;

use super::{env_example, markdown};
use crate::settings::{Catalogue, Group};

/// Between these lines a file holds what is generated; without them, all of the file is.
const MARKS: [&str; 2] = ["<!-- settings: generated -->", "<!-- settings: end -->"];

/// Checks that the file at `path` holds the documentation of the settings `G` of the module `name`: as a
/// whole, or between the lines `<!-- settings: generated -->` and `<!-- settings: end -->`. With
/// `UPDATE_GENERATED=1` in the environment it is written.
///
/// ```no_run
/// # use dotmac_platform::settings::{docs, NoSettings as NotesSettings};
/// #[test]
/// fn the_settings_are_documented() {
///     docs::assert_documented::<NotesSettings>("notes", concat!(env!("CARGO_MANIFEST_DIR"), "/README.md"));
/// }
/// ```
///
/// # Panics
///
/// If it does not, or cannot be read or written; and if the declaration of the settings is wrong.
#[track_caller]
pub fn assert_documented<G: Group>(name: &'static str, path: impl AsRef<Path>) {
    let catalogue = catalogue::<G>(name);
    assert_generated(path, &markdown(name, &catalogue, Some(name)));
}

/// Checks that the file at `path` is the example of an environment file for the settings `G` of the module
/// `name`, as [`assert_documented`] does.
///
/// # Panics
///
/// As [`assert_documented`].
#[track_caller]
pub fn assert_example<G: Group>(name: &'static str, path: impl AsRef<Path>) {
    let catalogue = catalogue::<G>(name);
    assert_generated(path, &env_example(name, &catalogue, Some(name)));
}

/// Checks that the file at `path` holds `text`, as [`assert_documented`] does.
///
/// # Panics
///
/// As [`assert_documented`].
#[track_caller]
pub fn assert_generated(path: impl AsRef<Path>, text: &str) {
    let writes = std::env::var_os("UPDATE_GENERATED").is_some();
    let outcome = in_step(path.as_ref(), text, writes);
    assert!(outcome.is_ok(), "{}", outcome.err().unwrap_or_default());
}

/// Brings the file up to date if it `writes`; else says whether it is.
pub(crate) fn in_step(path: &Path, text: &str, writes: bool) -> Result<(), String> {
    let shown = path.display();
    let found = fs::read_to_string(path).unwrap_or_default();
    let right = replaced(&found, text);
    if writes {
        fs::write(path, &right).map_err(|error| format!("cannot write {shown}: {error}"))
    } else if found == right {
        Ok(())
    } else {
        Err(format!(
            "{shown} is not up to date: run this test with UPDATE_GENERATED=1 in the environment"
        ))
    }
}

#[track_caller]
fn catalogue<G: Group>(name: &'static str) -> Catalogue {
    let mut catalogue = Catalogue::platform();
    let added = catalogue.add::<G>(name);
    assert!(added.is_ok(), "{added:?}");
    catalogue
}

/// `file` with `text` between the marks, or `text` if it has none.
fn replaced(file: &str, text: &str) -> String {
    let [begin, end] = MARKS;
    let marked = file
        .split_once(begin)
        .and_then(|(before, rest)| Some((before, rest.split_once(end)?.1)));
    match marked {
        Some((before, after)) => format!("{before}{begin}\n\n{}\n\n{end}{after}", text.trim()),
        None => text.to_owned(),
    }
}
