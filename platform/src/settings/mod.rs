//! The settings of the daemon: read once at start, from the environment, and checked as a whole.
//!
//! [`Settings::load`] is the only way in, and nothing else in the workspace reads the environment.
//! It opens no port and no database, and reports every mistake at once. A key that nothing reads
//! must not exist here.
//!
//! `engine/` turns texts into values, `groups/` declares the keys, `types/` their types, `rules/` what must
//! hold between them, `docs/` what is shown of them.
//!
//! A group is declared once (`groups/`), and from that declaration come the struct, the detection
//! of unknown keys, `dotmac config`, `docs/settings.md` and `deploy/dotmac.env.example`. The value
//! of a secret leaves this module only through its own type: never in an error, a table or `Debug`.

pub mod docs;
mod engine;
mod groups;
mod rules;
mod types;

#[cfg(test)]
mod tests;

pub use docs::{Row, as_env, as_json, as_table};
pub use engine::appliers::{Applied, Appliers, Live, NotApplied};
pub(crate) use engine::catalogue::enabled_key;
pub use engine::catalogue::{Catalogue, CatalogueError};
#[doc(hidden)]
pub use engine::declare::macro_support;
pub use engine::declare::{
    DefaultText, Fallback, Range, argument, between, computed, fallback, fixed, lasting, sized,
    translated,
};
pub use engine::error::{Mistake, Origin, SettingsErrors};
pub use engine::facts::Facts;
pub use engine::group::{Group, GroupSpec, KeySpec, NoSettings};
pub use engine::live::Change;
pub use engine::rules::Rules;
pub use engine::secrets::WantedSecret;
pub(crate) use engine::secrets::{APP_MASTER_KEY, APP_SECRET_KEY};
pub use engine::source::Sources;
pub use engine::value::{Invalid, Setting};
pub use groups::{
    AppSettings, CorsSettings, DatabaseSettings, DatabaseTarget, EgressSettings, HttpSettings,
    PostgresTarget, ShutdownSettings, SupervisionSettings, TelemetrySettings, VaultSettings,
};
pub use types::{
    ByteSize, Compression, CorsOrigin, DatabaseUrl, EgressTarget, Environment, HostName,
    HostPattern, KvVersion, LogFilter, LogFormat, MigrateMode, MountPath, PostgresUrl, Protocol,
    SecretReference, SecretSetting, ServerHost, SslMode, VaultAuth, otlp_headers,
};

/// A value as the environment would give it, for tests of other rooms.
#[cfg(test)]
pub(crate) use tests::parsed;

use std::any::Any;
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

use secrecy::{ExposeSecret, SecretString};

use engine::catalogue::{ENABLED, Filled, ModuleGroup};
use engine::group::PREFIX;
use engine::load;

/// Every setting, right in itself and together with the others.
#[derive(Debug, Clone)]
pub struct Settings {
    /// `DOTMAC_*`
    pub app: AppSettings,
    /// `DOTMAC_HTTP_*`
    pub http: HttpSettings,
    /// `DOTMAC_SHUTDOWN_*`
    pub shutdown: ShutdownSettings,
    /// `DOTMAC_SUPERVISION_*`
    pub supervision: SupervisionSettings,
    /// `DOTMAC_VAULT_*`
    pub vault: VaultSettings,
    /// `DOTMAC_DATABASE_*`
    pub database: DatabaseSettings,
    /// `DOTMAC_TELEMETRY_*`
    pub telemetry: TelemetrySettings,
    /// The same for each signal, with `OTEL_EXPORTER_OTLP_TRACES_*` and the like in place of what is
    /// for all.
    pub exports: Exports,
    /// `DOTMAC_CORS_*`
    pub cors: CorsSettings,
    /// `DOTMAC_EGRESS_*`
    pub egress: EgressSettings,
    catalogue: Catalogue,
    /// Those of the modules that are on.
    groups: Vec<(ModuleGroup, Arc<dyn Filled>)>,
    /// Names of the modules that are switched off.
    off: BTreeSet<&'static str>,
    /// One for each key, in the order of the documentation.
    entries: Vec<Entry>,
    /// Variables of the OpenTelemetry standard that are set and that nothing here reads.
    unread: Vec<String>,
    warnings: Vec<Mistake>,
    /// Secrets that must be there, by full key.
    needed: BTreeSet<String>,
}

/// How each signal of telemetry is exported.
#[derive(Debug, Clone)]
pub struct Exports {
    /// Of the spans.
    pub traces: Export,
    /// Of the metrics.
    pub metrics: Export,
    /// Of the log events.
    pub logs: Export,
}

/// How one signal is exported.
#[derive(Debug, Clone)]
pub struct Export {
    /// The settings of telemetry as they are for this signal.
    pub settings: TelemetrySettings,
    /// Whether the endpoint was given for this signal alone: then it is used as it is.
    pub has_own_endpoint: bool,
}

impl Exports {
    /// All three.
    pub fn each(&self) -> impl Iterator<Item = &Export> {
        [&self.traces, &self.metrics, &self.logs].into_iter()
    }
}

/// The text that a key was read from. Any text is kept like a secret, so that none needs care.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    key: String,
    spec: KeySpec,
    /// The module whose it is; `None` for the platform's own.
    module: Option<&'static str>,
    text: SecretString,
    origin: Origin,
}

impl Settings {
    /// Reads the settings of this process, which has the keys of `catalogue`.
    ///
    /// # Errors
    ///
    /// [`SettingsErrors`] with every mistake that was found; the process should exit 78.
    pub fn load(catalogue: &Catalogue) -> Result<Self, SettingsErrors> {
        Self::from_sources(catalogue, &Sources::of_process())
    }

    /// Reads the settings from `sources`, as a test wants it.
    ///
    /// # Errors
    ///
    /// As [`load`](Self::load).
    pub fn from_sources(catalogue: &Catalogue, sources: &Sources) -> Result<Self, SettingsErrors> {
        load::load(catalogue, sources)
    }

    /// The keys that these settings were read with.
    #[must_use]
    pub fn catalogue(&self) -> &Catalogue {
        &self.catalogue
    }

    /// The settings of a module; `None` if it is switched off, or if no module of the catalogue has them.
    #[must_use]
    pub fn of<G: Group>(&self) -> Option<&G> {
        let mut groups = self.groups.iter();
        groups.find_map(|(_, group)| (&**group as &dyn Any).downcast_ref())
    }

    /// Whether the module `name` is on: it is in the catalogue, and `DOTMAC_<NAME>_ENABLED` is not `false`.
    #[must_use]
    pub fn module_enabled(&self, name: &str) -> bool {
        self.catalogue.modules().any(|module| module == name) && !self.off.contains(name)
    }

    /// The modules of the program that are switched off, in its order.
    pub(crate) fn modules_off(&self) -> impl Iterator<Item = &'static str> {
        self.catalogue
            .modules()
            .filter(|name| self.off.contains(name))
    }

    /// Faults that production refuses: a warning at the start.
    #[must_use]
    pub fn warnings(&self) -> &[Mistake] {
        &self.warnings
    }

    /// The effective value and the origin of every key, in the order of the documentation. For a
    /// secret that is looked for in Vault the value is the reference.
    pub fn effective(&self) -> Vec<Row> {
        let wanted = self.wanted_secrets();
        let mut rows: Vec<Row> = self.entries.iter().map(Row::from).collect();
        for row in &mut rows {
            if let Some(secret) = wanted.iter().find(|secret| secret.key == row.key) {
                row.value = Some(secret.reference.to_string());
            }
        }
        rows
    }

    /// The files that `_FILE` keys name.
    pub fn files(&self) -> Vec<PathBuf> {
        let files = self.entries.iter().filter_map(|entry| match &entry.origin {
            Origin::File(path) => Some(path.clone()),
            _ => None,
        });
        files.collect()
    }

    /// The file that the value of `name`, a key without its prefix, was read from, if it was.
    pub(crate) fn file_of(&self, name: &str) -> Option<PathBuf> {
        match self.origin(name) {
            Origin::File(path) => Some(path),
            _ => None,
        }
    }

    /// Variables of the OpenTelemetry standard that are set and have no effect: no mistake, since
    /// they may be meant for others, but worth a line in the log.
    pub fn unread(&self) -> &[String] {
        &self.unread
    }

    /// Where the value of `name`, a key without its prefix, came from.
    fn origin(&self, name: &str) -> Origin {
        let key = format!("{PREFIX}{name}");
        let entry = self.entries.iter().find(|entry| entry.key == key);
        entry.map_or(Origin::Default, |entry| entry.origin.clone())
    }

    /// Whether `name`, a key without its prefix, is set.
    pub(crate) fn is_given(&self, name: &str) -> bool {
        self.origin(name) != Origin::Default
    }

    /// Whether the key of `entry` has an effect: it is not one of a module that is off.
    fn is_in_effect(&self, entry: &Entry) -> bool {
        entry.switches_module() || entry.module.is_none_or(|name| !self.off.contains(name))
    }
}

impl Entry {
    /// Whether it is `DOTMAC_<NAME>_ENABLED`.
    fn switches_module(&self) -> bool {
        self.module.is_some() && self.spec.field == ENABLED
    }

    fn is_set(&self) -> bool {
        !self.text.expose_secret().is_empty()
    }

    /// The value for a reader: secrets redacted, empty if not set.
    fn shown(&self) -> String {
        match self.text.expose_secret() {
            "" => String::new(),
            text => self.spec.shown(text),
        }
    }
}
