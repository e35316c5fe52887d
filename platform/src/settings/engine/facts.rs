//! Facts for computed defaults: the keys that were set, and the machine.

use std::collections::BTreeMap;
use std::thread::available_parallelism;

use super::source::Found;
use super::value::Setting;
use crate::settings::types::Environment;

/// The state after the check of given values and before the defaults.
#[derive(Debug)]
pub struct Facts<'a> {
    /// The right values that are set, by full key.
    given: &'a BTreeMap<String, Found>,
    terminal: bool,
    app_name: &'a str,
}

impl<'a> Facts<'a> {
    /// `app_name` is the default of `DOTMAC_APP_NAME`.
    pub(crate) fn new(
        given: &'a BTreeMap<String, Found>,
        terminal: bool,
        app_name: &'a str,
    ) -> Self {
        Self {
            given,
            terminal,
            app_name,
        }
    }

    pub(crate) fn found(&self, key: &str) -> Option<&Found> {
        self.given.get(key)
    }

    /// The text given for `key`, by its full name, if any. A wrong one counts as not given.
    #[must_use]
    pub fn given(&self, key: &str) -> Option<&str> {
        self.found(key).map(|found| found.text.as_str())
    }

    /// The name of the service: `DOTMAC_APP_NAME`, or its default.
    #[must_use]
    pub fn app_name(&self) -> &str {
        self.given("DOTMAC_APP_NAME").unwrap_or(self.app_name)
    }

    /// The purpose of the installation.
    #[must_use]
    pub fn environment(&self) -> Environment {
        self.given("DOTMAC_ENVIRONMENT")
            .and_then(|text| Environment::parse(text).ok())
            .unwrap_or(Environment::Development)
    }

    /// Where the program is reached from its own machine: `localhost`, the port that it listens on, and `https` with a
    /// certificate. With port `0`, which is not known before it listens, port 8000.
    #[must_use]
    pub fn local_url(&self) -> String {
        let scheme = match self.given("DOTMAC_TLS_CERT") {
            Some(_) => "https",
            None => "http",
        };
        let port = self.given("DOTMAC_PORT").filter(|port| *port != "0");
        format!("{scheme}://localhost:{}", port.unwrap_or("8000"))
    }

    /// Processor cores that this process may use, at least 1.
    #[must_use]
    pub fn cores(&self) -> usize {
        available_parallelism().map_or(1, usize::from)
    }

    /// Whether the log goes to a terminal.
    #[must_use]
    pub fn terminal(&self) -> bool {
        self.terminal
    }
}
