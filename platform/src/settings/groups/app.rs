//! The daemon as a whole.

use std::path::PathBuf;

use crate::settings::types::{Environment, HostName, SecretSetting};
use crate::settings::{Facts, between, computed, fallback, fixed};

/// The name of a program that has none of its own.
pub(crate) const APP_NAME: &str = "dotmac-platform";

crate::settings! {
    title: "Application", prefix: "";
    /// The daemon as a whole: its environment, its name and its listeners.
    pub struct AppSettings {
        /// The purpose of this installation. It decides some defaults; `production` refuses unsafe settings and does
        /// not read `.env`.
        environment: Environment { default: fixed("development") }

        /// Name of this service in `/`, `/health`, its OpenAPI document and its telemetry.
        app_name: String { default: fixed(APP_NAME) }

        /// Secret from which the program derives its own keys, such as that of list cursors: at least 32
        /// characters, the same for all instances. Needed in production if a module has lists in pages.
        app_secret_key: SecretSetting { vault: "app/secret_key", optional: true }

        /// Keys that seal secrets in the database, such as those of webhooks: 32 random bytes in base64
        /// (`openssl rand -base64 32`), the same for all instances. Several with commas between for a change: the first
        /// seals, all open. Needed in production if a module seals.
        app_master_key: SecretSetting { vault: "app/master_key", optional: true }

        /// Address or host name to listen on. `0.0.0.0` or `::` means every interface; containers need it.
        host: HostName { default: fixed("127.0.0.1") }

        /// Port to listen on. `0` takes any free port, which is printed and logged.
        port: u16 {
            default: fixed("8000"),
            range: between::<u16>("0", "65535"),
            fallbacks: &[fallback("PORT")],
        }

        /// Address or host name of the management listener. Unset means that of `DOTMAC_HOST`. Has no effect without
        /// `DOTMAC_MANAGEMENT_PORT`.
        management_host: Option<HostName> {}

        /// Port of a second listener for probes and metrics, on a separate thread and without TLS. It answers while
        /// every worker is busy and every connection taken. Only it serves `/metrics`, `/health/startup` and the
        /// aliases of the probes; both listeners serve `/health` and `/ready`. `0` takes any free port. Unset means no
        /// second listener.
        management_port: Option<u16> {}

        /// Threads that serve HTTP requests.
        workers: usize {
            default: computed("one for each processor core", |facts| facts.cores().min(1024).to_string()),
            range: between::<usize>("1", "1024"),
        }

        /// Path of a Unix socket for `dotmac status`, `why`, `restart`, `drain`, `undrain` and `log-level`; only the
        /// daemon's own user may open it. Unset means no socket.
        admin_socket: Option<PathBuf> {}

        /// Whether `/docs`, `/redoc`, `/openapi.json` and `/asyncapi.json` are served.
        docs_enabled: bool {
            default: computed("`false` in production, `true` elsewhere", docs_enabled),
        }

        /// PEM file with the certificate chain to serve HTTPS with. Needs `DOTMAC_TLS_KEY`. Unset
        /// means plain HTTP. The file is read again on SIGHUP.
        tls_cert: Option<PathBuf> { live: true }

        /// PEM file with the private key of `DOTMAC_TLS_CERT`. The file is read again on SIGHUP.
        tls_key: Option<PathBuf> { live: true }
    }
}

fn docs_enabled(facts: &Facts<'_>) -> String {
    (facts.environment() != Environment::Production).to_string()
}
