//! Rules between the platform's own settings, and for all secrets. The rules of a
//! module are its own.
//!
//! `production` adds what only production refuses.

mod database;
mod files;
mod production;
mod secrets;
mod weak;

use std::time::Duration;

use secrecy::ExposeSecret as _;

use super::engine::rules::Rules;
use super::types::{CorsOrigin, VaultAuth, otlp_headers};
use super::{Settings, TelemetrySettings};

/// The rules between the platform's own keys.
pub(crate) fn check(settings: &Settings, rules: Rules<'_>) {
    let in_production = rules.in_production();
    let mut rules = PlatformRules { settings, rules };
    rules.listener();
    rules.files();
    rules.durations();
    rules.escalation();
    rules.vault();
    rules.secrets();
    rules.app_secret_key();
    rules.master_key();
    rules.database();
    rules.collector();
    rules.cors();
    if in_production {
        rules.production();
    }
}

struct PlatformRules<'a> {
    settings: &'a Settings,
    rules: Rules<'a>,
}

impl PlatformRules<'_> {
    /// Reports that `broken` holds, under the first of `names` (keys without their prefix). All of
    /// them take part in the rule.
    fn refuse(
        &mut self,
        broken: bool,
        names: &[&str],
        problem: impl Into<String>,
        remedy: impl Into<String>,
    ) {
        self.rules.refuse(broken, names, problem, remedy);
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
        let is_same_host = app
            .management_host
            .as_ref()
            .is_none_or(|host| *host == app.host);
        self.refuse(
            is_same_host && app.port != 0 && app.management_port == Some(app.port),
            &["MANAGEMENT_PORT", "PORT"],
            "the management listener needs a separate port",
            "set another one, 0 for any free one",
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
            supervision.hang_after < supervision.heartbeat * 2,
            &["SUPERVISION_HANG_AFTER", "SUPERVISION_HEARTBEAT"],
            format!(
                "{} is less than twice DOTMAC_SUPERVISION_HEARTBEAT, {}: every pause would count as a hang",
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
            "the address must not have a path; Vault clients disagree on how to treat it",
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

    fn collector(&mut self) {
        self.exporter(&self.settings.telemetry);
        for export in self.settings.exports.each() {
            // Faults of all signals are reported already.
            if self.rules.is_clean() {
                self.exporter(&export.settings);
                self.reference_for_one_signal(&export.settings);
            }
        }
    }

    /// Secrets are fetched for keys, and the variables for one signal are no keys.
    fn reference_for_one_signal(&mut self, telemetry: &TelemetrySettings) {
        let reference = |telemetry: &TelemetrySettings| {
            telemetry.otlp_headers.reference().map(ToString::to_string)
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
        let headers = telemetry.otlp_headers.literal();
        let unreadable = headers.is_some_and(|text| otlp_headers(text.expose_secret()).is_none());
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
