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

mod docs;
mod engine;
mod groups;
mod rules;
mod types;

#[cfg(test)]
mod tests;

pub use docs::{Row, as_env, as_json, as_table, env_example, settings_markdown};
pub use engine::error::{Mistake, Origin, SettingsErrors};
pub use engine::source::Sources;
pub use groups::{
    AppSettings, CorsSettings, DatabaseSettings, DatabaseTarget, HttpSettings, PostgresTarget,
    ShutdownSettings, SupervisionSettings, TelemetrySettings, VaultSettings,
};
pub use types::{
    ByteSize, CorsOrigin, DatabaseUrl, Environment, HostName, HostPattern, KvVersion, LogFilter,
    LogFormat, Migrate, MountPath, OtlpCompression, OtlpProtocol, PostgresUrl, SecretReference,
    SecretSetting, ServerHost, SslMode, VaultAuth, otlp_headers,
};

/// A value as the environment would give it, for tests of other rooms.
#[cfg(test)]
pub(crate) use tests::parsed;

use std::path::PathBuf;

use secrecy::{ExposeSecret, SecretString};

use engine::group::{KeySpec, PREFIX};
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
    /// One for each key, in the order of the documentation.
    entries: Vec<Entry>,
    /// Variables of the OpenTelemetry standard that are set and that nothing here reads.
    unread: Vec<String>,
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
struct Entry {
    spec: &'static KeySpec,
    text: SecretString,
    origin: Origin,
}

/// A key whose value is another one in newer settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Full name of the key.
    pub key: String,
    /// The former value, secrets redacted; empty if it was not set.
    pub old: String,
    /// The new value, secrets redacted; empty if it is not set.
    pub new: String,
    /// Whether it can be applied now; else it needs a restart.
    pub live: bool,
}

/// A secret that is to be read from Vault.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WantedSecret {
    /// Full name of the key whose value it is.
    pub key: String,
    /// Where in Vault it is.
    pub reference: SecretReference,
    /// Whether the operator named the reference; else it is the key's default path, and there may
    /// be nothing.
    pub explicit: bool,
}

impl Settings {
    /// Reads the settings of this process.
    ///
    /// # Errors
    ///
    /// [`SettingsErrors`] with every mistake that was found; the process should exit 78.
    pub fn load() -> Result<Self, SettingsErrors> {
        Self::from_sources(&Sources::of_process())
    }

    /// Reads the settings from `sources`, as a test or `dotmac config` wants it.
    ///
    /// # Errors
    ///
    /// As [`load`](Self::load).
    pub fn from_sources(sources: &Sources) -> Result<Self, SettingsErrors> {
        load::load(sources)
    }

    /// The secrets to read from Vault: every reference, and for a secret that nobody gave the
    /// default path of its key. Empty if Vault is not enabled.
    pub fn wanted_secrets(&self) -> Vec<WantedSecret> {
        if !self.vault.enabled {
            return Vec::new();
        }
        let (lacks_username, lacks_password) = self.database.lacks();
        let wanted = self.entries.iter().filter_map(|entry| {
            let key = entry.spec.key();
            let text = entry.text.expose_secret();
            if let (true, Ok(reference)) = (entry.spec.kind.secret, text.parse()) {
                return Some(WantedSecret {
                    key,
                    reference,
                    explicit: true,
                });
            }
            let path = entry.spec.vault.filter(|_| text.is_empty())?;
            let is_needed = match key.as_str() {
                "DOTMAC_DATABASE_USERNAME" => lacks_username,
                "DOTMAC_DATABASE_PASSWORD" => lacks_password,
                _ => true,
            };
            let reference = format!("{}{path}", SecretReference::SCHEME).parse().ok()?;
            is_needed.then_some(WantedSecret {
                key,
                reference,
                explicit: false,
            })
        });
        wanted.collect()
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

    /// What is different in `new`, key by key.
    pub fn diff(&self, new: &Self) -> Vec<Change> {
        // Both lists come from the same table, so the keys stand side by side.
        let pairs = self.entries.iter().zip(&new.entries);
        pairs
            .filter(|(old, new)| old.text.expose_secret() != new.text.expose_secret())
            .map(|(old, new)| Change {
                key: old.spec.key(),
                old: old.shown(),
                new: new.shown(),
                live: old.spec.live || new.is_read_at_each_use() || old.lasts_in(new),
            })
            .collect()
    }

    /// Where the value of `name`, a key without its prefix, came from.
    fn origin(&self, name: &str) -> Origin {
        let key = format!("{PREFIX}{name}");
        let entry = self.entries.iter().find(|entry| entry.spec.key() == key);
        entry.map_or(Origin::Default, |entry| entry.origin.clone())
    }

    /// Whether somebody set `name`, a key without its prefix.
    pub(crate) fn is_given(&self, name: &str) -> bool {
        self.origin(name) != Origin::Default
    }
}

impl Entry {
    /// A credential for Vault that lies in a file is read from there at each login.
    fn is_read_at_each_use(&self) -> bool {
        let is_credential = self.spec.kind.secret && self.spec.prefix == "VAULT_";
        is_credential && matches!(self.origin, Origin::File(_))
    }

    /// Whether `new` differs only in what is taken live.
    fn lasts_in(&self, new: &Self) -> bool {
        let lasting = |entry: &Self| (entry.spec.kind.lasting)(entry.text.expose_secret());
        lasting(self) == lasting(new)
    }

    /// The value for a reader: secrets redacted, empty if not set.
    fn shown(&self) -> String {
        match self.text.expose_secret() {
            "" => String::new(),
            text => self.spec.shown(text),
        }
    }
}
