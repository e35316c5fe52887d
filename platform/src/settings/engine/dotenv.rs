//! The `.env` file of a developer's working directory.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::{self, ErrorKind, Read};
use std::path::Path;

use super::error::{Mistake, Origin};

/// The variables of the file at `path`; none if there is no such file.
pub(crate) fn read(path: &Path, mistakes: &mut Vec<Mistake>) -> BTreeMap<String, OsString> {
    match dotmac_bounded_read::read_text(path) {
        Ok(text) => parse(&text, mistakes),
        // A directory of that name is a Python environment.
        Err(cause) if matches!(cause.kind(), ErrorKind::NotFound | ErrorKind::IsADirectory) => {
            BTreeMap::new()
        }
        Err(cause) => {
            mistakes.push(Mistake::new(
                ".env",
                None,
                format!("cannot read {path:?}: {cause}"),
                "make it readable or remove it",
            ));
            BTreeMap::new()
        }
    }
}

fn parse(text: &str, mistakes: &mut Vec<Mistake>) -> BTreeMap<String, OsString> {
    let mut variables = BTreeMap::new();
    let line = Cell::new(0);
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    for item in dotenvy::from_read_iter(Lines {
        rest: text.as_bytes(),
        line: &line,
    }) {
        match item {
            Ok((name, value)) => {
                if variables
                    .insert(name.clone(), OsString::from(value))
                    .is_some()
                {
                    let problem = format!("set a second time in line {}", line.get());
                    mistakes.push(Mistake::new(
                        name,
                        Origin::DotEnv,
                        problem,
                        "remove one of the two lines",
                    ));
                }
            }
            // The text of the line stays out of the message: it may hold a secret.
            Err(error) => {
                let lines = match &error {
                    dotenvy::Error::LineParse(text, _) => text.lines().count().max(1),
                    _ => 1,
                };
                let first = (line.get() + 1).saturating_sub(lines);
                mistakes.push(Mistake::new(
                    format!(".env line {first}"),
                    None,
                    "it is not KEY=value",
                    "put a value with spaces, quotes, `$` or `#` in single quotes, or make the line a # comment",
                ));
            }
        }
    }
    variables
}

/// Serves one line at a time, so that the line which a parser failed at is known.
struct Lines<'a> {
    rest: &'a [u8],
    line: &'a Cell<usize>,
}

impl Read for Lines<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let end = self.rest.iter().position(|byte| *byte == b'\n');
        let line = end.map_or(self.rest.len(), |end| end + 1);
        let count = line.min(buffer.len());
        let (served, rest) = self.rest.split_at(count);
        buffer[..count].copy_from_slice(served);
        self.rest = rest;
        // A line longer than the buffer is served in parts and counted with its last.
        if count > 0 && count == line {
            self.line.set(self.line.get() + 1);
        }
        Ok(count)
    }
}
