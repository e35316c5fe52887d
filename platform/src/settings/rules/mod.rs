//! What must hold between settings, each of which is right by itself.
//!
//! `production` adds what only production refuses.

mod files;
mod production;
mod weak;

use std::collections::BTreeSet;
use std::time::Duration;

use secrecy::ExposeSecret as _;

use super::engine::error::Mistake;
use super::engine::group::PREFIX;
use super::groups::DatabaseTarget;
use super::types::{
    CorsOrigin, DatabaseUrl, Environment, SecretReference, SecretSetting, VaultAuth, otlp_headers,
};
use super::{Origin, Settings, TelemetrySettings};

/// The rules that `settings` break. A rule about a key in `wrong` is left out: its default stands
/// in the place of what the operator meant.
pub(crate) fn mistakes(settings: &Settings, wrong: &BTreeSet<String>) -> Vec<Mistake> {
    let mut rules = Rules {
        settings,
        wrong,
        mistakes: Vec::new(),
    };
    rules.listener();
    rules.files();
    rules.durations();
    rules.escalation();
    rules.vault();
    rules.references();
    rules.database();
    rules.collector();
    rules.cors();
    if settings.app.environment == Environment::Production {
        rules.production();
    }
    rules.mistakes
}

struct Rules<'a> {
    settings: &'a Settings,
    wrong: &'a BTreeSet<String>,
    mistakes: Vec<Mistake>,
}

impl Rules<'_> {
    /// Reports that `broken` holds, under the first of `names` (keys without their prefix). All of
    /// them take part in the rule.
    fn refuse(
        &mut self,
        broken: bool,
        names: &[&str],
        problem: impl Into<String>,
        remedy: impl Into<String>,
    ) {
        let keys: Vec<String> = names.iter().map(|name| format!("{PREFIX}{name}")).collect();
        if !broken || keys.iter().any(|key| self.wrong.contains(key)) {
            return;
        }
        if let (Some(name), Some(key)) = (names.first(), keys.into_iter().next()) {
            let origin = Some(self.settings.origin(name)).filter(|it| *it != Origin::Default);
            self.mistakes
                .push(Mistake::new(key, origin, problem, remedy));
        }
    }

    fn listener(&mut self) {
        let app = &self.settings.app;
        let (cert, key) = (app.tls_cert.is_some(), app.tls_key.is_some());
        self.refuse(
            cert && !key,
            &["TLS_CERT", "TLS_KEY"],
            "a certificate is of no use without its key",
            "set DOTMAC_TLS_KEY too",
        );
        self.refuse(
            key && !cert,
            &["TLS_KEY", "TLS_CERT"],
            "a key is of no use without its certificate",
            "set DOTMAC_TLS_CERT too",
        );
    }

    fn durations(&mut self) {
        let Settings {
            shutdown,
            supervision,
            ..
        } = self.settings;
        self.refuse(
            shutdown.drain_delay >= shutdown.timeout,
            &["SHUTDOWN_DRAIN_DELAY", "SHUTDOWN_TIMEOUT"],
            format!(
                "{} leaves nothing of DOTMAC_SHUTDOWN_TIMEOUT, {}, to stop in",
                show(shutdown.drain_delay),
                show(shutdown.timeout),
            ),
            "make the drain delay shorter or the time-out longer",
        );
        self.refuse(
            supervision.hang_after <= supervision.heartbeat,
            &["SUPERVISION_HANG_AFTER", "SUPERVISION_HEARTBEAT"],
            format!(
                "{} is not longer than DOTMAC_SUPERVISION_HEARTBEAT, {}: healthy actors would be taken for hung",
                show(supervision.hang_after),
                show(supervision.heartbeat),
            ),
            "make it several heartbeats long",
        );
        self.refuse(
            supervision.backoff_min > supervision.backoff_max,
            &["SUPERVISION_BACKOFF_MIN", "SUPERVISION_BACKOFF_MAX"],
            format!(
                "{} is longer than DOTMAC_SUPERVISION_BACKOFF_MAX, {}",
                show(supervision.backoff_min),
                show(supervision.backoff_max),
            ),
            "make it shorter, or the longest wait longer",
        );
    }

    /// An actor that fails as soon as it runs must use up its restarts within the period, or the
    /// process would restart it for ever.
    fn escalation(&mut self) {
        let settings = &self.settings.supervision;
        let waits = first_waits(
            settings.intensity,
            settings.backoff_min,
            settings.backoff_max,
        );
        self.refuse(
            waits >= settings.period && settings.backoff_min <= settings.backoff_max,
            &[
                "SUPERVISION_PERIOD",
                "SUPERVISION_INTENSITY",
                "SUPERVISION_BACKOFF_MIN",
                "SUPERVISION_BACKOFF_MAX",
            ],
            format!(
                "the waits before the first {} restarts add up to {}, not less than the period, {}: a crash loop would never end the process",
                settings.intensity,
                show(waits),
                show(settings.period),
            ),
            "lengthen the period, lower the intensity or shorten the waits",
        );
    }

    fn vault(&mut self) {
        let vault = &self.settings.vault;
        if !vault.enabled {
            return;
        }
        let off = "or set DOTMAC_VAULT_ENABLED=false";
        self.refuse(
            vault.addr.is_none(),
            &["VAULT_ADDR", "VAULT_ENABLED"],
            "Vault is enabled and has no address",
            format!("set it, e.g. https://vault.example:8200, {off}"),
        );
        self.refuse(
            vault.addr.as_ref().is_some_and(|addr| addr.path() != "/"),
            &["VAULT_ADDR", "VAULT_ENABLED"],
            "behind the address stands a path, which clients of Vault take in different ways",
            "write scheme, host and port only, e.g. https://vault.example:8200",
        );
        let by = |method: VaultAuth| vault.auth == method;
        let needs = [
            ("VAULT_TOKEN", by(VaultAuth::Token) && vault.token.is_none()),
            (
                "VAULT_ROLE_ID",
                by(VaultAuth::AppRole) && vault.role_id.is_none(),
            ),
            (
                "VAULT_SECRET_ID",
                by(VaultAuth::AppRole) && vault.secret_id.is_none(),
            ),
            (
                "VAULT_ROLE",
                by(VaultAuth::Kubernetes) && vault.role.is_none(),
            ),
            ("VAULT_JWT", by(VaultAuth::Jwt) && vault.jwt.is_none()),
            (
                "VAULT_CLIENT_CERT",
                by(VaultAuth::Cert) && vault.client_cert.is_none(),
            ),
            (
                "VAULT_CLIENT_KEY",
                by(VaultAuth::Cert) && vault.client_key.is_none(),
            ),
        ];
        for (name, is_missing) in needs {
            self.refuse(
                is_missing,
                &[name, "VAULT_AUTH", "VAULT_ENABLED"],
                format!("Vault is enabled and logging in by {} needs it", vault.auth),
                format!("set it or its _FILE twin, {off}"),
            );
        }
        self.refuse(
            by(VaultAuth::Cert) && vault.addr.as_ref().is_some_and(|it| it.scheme() == "http"),
            &["VAULT_ADDR", "VAULT_AUTH", "VAULT_ENABLED"],
            "a client certificate is shown by TLS, and this address is plain http",
            "use https",
        );
    }

    /// A reference can be followed only if Vault is enabled.
    fn references(&mut self) {
        let Settings {
            database,
            telemetry,
            ..
        } = self.settings;
        let secrets = [
            ("DATABASE_USERNAME", &database.username),
            ("DATABASE_PASSWORD", &database.password),
            ("TELEMETRY_OTLP_HEADERS", &telemetry.otlp_headers),
        ];
        for (name, secret) in secrets {
            let reference = match secret {
                Some(SecretSetting::Reference(reference)) => Some(reference),
                _ => None,
            };
            self.refuse(
                reference.is_some() && !self.settings.vault.enabled,
                &[name, "VAULT_ENABLED", "VAULT_ADDR"],
                format!(
                    "{} is in Vault, which is not enabled",
                    reference
                        .map(SecretReference::to_string)
                        .unwrap_or_default()
                ),
                "set DOTMAC_VAULT_ADDR, or give the value itself",
            );
        }
    }

    fn database(&mut self) {
        let database = &self.settings.database;
        let given = |name: &str| self.settings.is_given(&format!("DATABASE_{name}"));
        let (by_url, by_host) = (given("URL"), given("HOST"));
        let stray: Vec<&str> = ["NAME", "PORT"]
            .into_iter()
            .filter(|name| given(name))
            .collect();
        let both = "give the database either by its URL or by its parts";
        self.refuse(
            by_url && by_host,
            &["DATABASE_URL", "DATABASE_HOST"],
            "DOTMAC_DATABASE_HOST is set too",
            both,
        );
        for name in stray {
            let key = format!("DATABASE_{name}");
            self.refuse(
                by_url && !by_host,
                &[&key, "DATABASE_URL"],
                "the URL already says it",
                both,
            );
            self.refuse(
                !by_url && !by_host,
                &[&key, "DATABASE_HOST", "DATABASE_URL"],
                "it belongs to a server, and no server is given",
                "set DOTMAC_DATABASE_HOST too",
            );
        }
        self.refuse(
            by_host && !by_url && database.name.is_none(),
            &["DATABASE_NAME", "DATABASE_HOST"],
            "a server is given, and no database there",
            "set it, e.g. dotmac",
        );
        let (cert, key) = (&database.client_cert, &database.client_key);
        for (broken, name, other) in [
            (cert.is_some() && key.is_none(), "CERT", "KEY"),
            (key.is_some() && cert.is_none(), "KEY", "CERT"),
        ] {
            self.refuse(
                broken,
                &[
                    &format!("DATABASE_CLIENT_{name}"),
                    &format!("DATABASE_CLIENT_{other}"),
                ],
                "a certificate and its key are of use only together",
                format!("set DOTMAC_DATABASE_CLIENT_{other} too"),
            );
        }
        if !(by_url && by_host) {
            self.database_user();
        }
    }

    fn database_user(&mut self) {
        let database = &self.settings.database;
        if database.vault_role.is_some() {
            return self.database_role();
        }
        let (lacks_username, _) = database.lacks();
        self.refuse(
            lacks_username && !self.settings.vault.enabled,
            &[
                "DATABASE_USERNAME",
                "DATABASE_URL",
                "DATABASE_HOST",
                "VAULT_ENABLED",
                "VAULT_ADDR",
            ],
            "PostgreSQL needs to know who connects",
            "set it, put it into the URL, or keep it in Vault",
        );
        if database.host.is_some() {
            return;
        }
        let DatabaseUrl::Postgres(url) = &database.url else {
            for name in ["USERNAME", "PASSWORD"] {
                let key = format!("DATABASE_{name}");
                self.refuse(
                    self.settings.is_given(&key),
                    &[&key, "DATABASE_URL", "DATABASE_HOST"],
                    "SQLite has no users",
                    "remove it, or give a PostgreSQL server",
                );
            }
            return;
        };
        let twice = [
            (
                "DATABASE_USERNAME",
                database.username.is_some() && url.username.is_some(),
            ),
            (
                "DATABASE_PASSWORD",
                database.password.is_some() && url.password.is_some(),
            ),
            (
                "DATABASE_SSLMODE",
                url.sslmode.is_some_and(|mode| mode != database.sslmode),
            ),
        ];
        for (name, is_twice) in twice {
            self.refuse(
                is_twice,
                &[name, "DATABASE_URL"],
                "the URL says it too",
                "remove it here or there",
            );
        }
    }

    /// With a role of Vault's, user and password come from nowhere else.
    fn database_role(&mut self) {
        let settings = self.settings;
        self.refuse(
            !settings.vault.enabled,
            &["DATABASE_VAULT_ROLE", "VAULT_ENABLED", "VAULT_ADDR"],
            "the role is in Vault, which is not enabled",
            "set DOTMAC_VAULT_ADDR, or give user and password",
        );
        let target = settings.database.target();
        let (user, password) = match target {
            DatabaseTarget::Sqlite { .. } => {
                return self.refuse(
                    true,
                    &["DATABASE_VAULT_ROLE", "DATABASE_URL", "DATABASE_HOST"],
                    "SQLite has no users",
                    "remove it, or give a PostgreSQL server",
                );
            }
            DatabaseTarget::Postgres(target) => (target.username, target.password),
        };
        for (name, given) in [("USERNAME", user), ("PASSWORD", password)] {
            let key = format!("DATABASE_{name}");
            self.refuse(
                given.is_some(),
                &["DATABASE_VAULT_ROLE", &key, "DATABASE_URL"],
                format!("the role brings it, and DOTMAC_{key} or the URL gives it too"),
                "remove one of them",
            );
        }
    }

    fn collector(&mut self) {
        self.exporter(&self.settings.telemetry);
        for export in self.settings.exports.each() {
            // What is wrong for all signals has been said.
            if self.mistakes.is_empty() {
                self.exporter(&export.settings);
                self.reference_for_one_signal(&export.settings);
            }
        }
    }

    /// Secrets are fetched for keys, and the variables for one signal are no keys.
    fn reference_for_one_signal(&mut self, telemetry: &TelemetrySettings) {
        let reference = |telemetry: &TelemetrySettings| match &telemetry.otlp_headers {
            Some(SecretSetting::Reference(reference)) => Some(reference.to_string()),
            _ => None,
        };
        let own = reference(telemetry);
        self.refuse(
            own.is_some() && own != reference(&self.settings.telemetry),
            &["TELEMETRY_OTLP_HEADERS"],
            "the headers of one signal cannot come from Vault",
            "write the reference into DOTMAC_TELEMETRY_OTLP_HEADERS, for all signals",
        );
    }

    fn exporter(&mut self, telemetry: &TelemetrySettings) {
        let unreadable = match &telemetry.otlp_headers {
            Some(SecretSetting::Literal(text)) => otlp_headers(text.expose_secret()).is_none(),
            _ => false,
        };
        self.refuse(
            unreadable,
            &["TELEMETRY_OTLP_HEADERS"],
            "it is not a list of name=value whose values are percent-encoded",
            "write e.g. authorization=Bearer%20…,x-team=blue",
        );
        let (cert, key) = (
            telemetry.otlp_client_cert.is_some(),
            telemetry.otlp_client_key.is_some(),
        );
        self.refuse(
            cert != key,
            &["TELEMETRY_OTLP_CLIENT_CERT", "TELEMETRY_OTLP_CLIENT_KEY"],
            "a certificate and its key are of no use without each other",
            "set both, or neither",
        );
    }

    fn cors(&mut self) {
        let cors = &self.settings.cors;
        self.refuse(
            cors.enabled && cors.credentials && cors.origins.iter().any(CorsOrigin::is_any),
            &["CORS_ORIGINS", "CORS_CREDENTIALS"],
            "`*` together with DOTMAC_CORS_CREDENTIALS=true would let every web page act for its visitor",
            "list the origins, or set DOTMAC_CORS_CREDENTIALS=false",
        );
    }
}

/// The sum of the first `count` waits, the jitter taken at its longest.
fn first_waits(count: u32, least: Duration, most: Duration) -> Duration {
    let mut wait = least;
    let mut sum = Duration::ZERO;
    for _ in 0..count {
        sum = sum.saturating_add(wait.min(most));
        wait = wait.saturating_mul(2);
    }
    sum
}

fn show(duration: Duration) -> String {
    humantime::format_duration(duration).to_string()
}
