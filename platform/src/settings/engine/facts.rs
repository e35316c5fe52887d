//! What computed defaults may depend on: the keys that were set, and the machine.

use std::collections::BTreeMap;
use std::thread::available_parallelism;

use super::source::Found;
use super::value::Setting;
use crate::settings::types::Environment;

/// Looked at after the given values were checked and before the defaults are filled in.
#[derive(Debug)]
pub(crate) struct Facts<'a> {
    /// The right values that somebody gave, by full key.
    pub(crate) given: &'a BTreeMap<String, Found>,
    /// Whether the log goes to a terminal.
    pub(crate) terminal: bool,
}

impl Facts<'_> {
    /// The text given for `key`, if any.
    pub(crate) fn given(&self, key: &str) -> Option<&str> {
        self.given.get(key).map(|found| found.text.as_str())
    }

    pub(crate) fn environment(&self) -> Environment {
        self.given("DOTMAC_ENVIRONMENT")
            .and_then(|text| Environment::parse(text).ok())
            .unwrap_or(Environment::Development)
    }

    /// Processor cores that this process may use, at least 1.
    pub(crate) fn cores(&self) -> usize {
        available_parallelism().map_or(1, usize::from)
    }
}
