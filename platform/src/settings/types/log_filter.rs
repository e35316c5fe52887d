//! Which log lines are written.

use std::fmt;
use std::ops::Deref;

use tracing::level_filters::LevelFilter;
use tracing_subscriber::EnvFilter;

use crate::settings::{Invalid, Setting};

/// A level, or directives for single targets, as `tracing_subscriber::EnvFilter` reads them. No
/// white space stands around its items, which EnvFilter would misread.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogFilter(String);

impl Deref for LogFilter {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for LogFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Setting for LogFilter {
    const EXAMPLE: &'static str = "info,actix_web=debug";

    fn expected() -> String {
        "a level (off, error, warn, info, debug, trace) or a list of target=level".to_owned()
    }

    fn parse(text: &str) -> Result<Self, Invalid> {
        // EnvFilter (tracing-subscriber 0.3.23) trims an item to parse it and then cuts the untrimmed
        // one at the places it found: it misreads ` hyper=debug`, and panics inside a character.
        let text = text.split(',').map(str::trim).collect::<Vec<_>>().join(",");
        if text.split(',').all(str::is_empty) {
            return Err(Invalid::plain());
        }
        // EnvFilter takes `wran` for the name of a target and then logs nothing else.
        if text.split(',').any(is_bare_target) {
            return Err(Invalid::because("a word alone must be a level"));
        }
        match EnvFilter::try_new(&text) {
            Ok(_) => Ok(Self(text)),
            Err(_) => Err(Invalid::plain()),
        }
    }
}

/// `RUST_LOG` may name a target alone, which means all of it.
pub(crate) fn from_rust_log(text: &str) -> String {
    let directive = |item: &str| {
        if is_bare_target(item) {
            format!("{}=trace", item.trim())
        } else {
            item.to_owned()
        }
    };
    text.split(',').map(directive).collect::<Vec<_>>().join(",")
}

fn is_bare_target(item: &str) -> bool {
    let item = item.trim();
    // `[`, `{` and `"` belong to span directives, which EnvFilter judges.
    !item.is_empty()
        && !item.contains(['=', '[', ']', '{', '}', '"'])
        && item.parse::<LevelFilter>().is_err()
}
