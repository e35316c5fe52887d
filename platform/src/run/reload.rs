//! SIGHUP: reads the settings again, applies what can be applied, and says for each key what became of it.

use std::{error::Error, sync::Arc};

use dotmac_db::PoolSize;
use dotmac_secrets::{SecretsActor, Want, Wanted};
use dotmac_supervision::ActorHandle;
use dotmac_telemetry::Telemetry;
use tracing::{error, info, warn};

use crate::{components, extract::Db, http::TlsCertificates, settings::Settings};

/// What can take new settings while it runs.
pub(super) struct Reload {
    pub(super) telemetry: Telemetry,
    pub(super) certificates: Option<Arc<TlsCertificates>>,
    pub(super) secrets: ActorHandle<SecretsActor>,
    /// Secrets that are wanted whatever the settings say.
    pub(super) own_secrets: Vec<Wanted>,
    pub(super) db: Db,
    pub(super) pool_size: PoolSize,
}

impl Reload {
    /// Applies the settings as they are now. A mistake in them changes nothing.
    pub(super) async fn run(&self, current: &mut Settings) {
        info!("reloading the settings");
        let mut new = match Settings::load() {
            Ok(new) => new,
            Err(mistakes) => {
                for mistake in mistakes.mistakes() {
                    error!(key = mistake.key, result = "rejected", "{mistake}");
                }
                return error!(
                    result = "rejected",
                    "nothing was reloaded: the settings have mistakes"
                );
            }
        };
        let changes = current.diff(&new);
        let waiting: Vec<_> = changes.iter().filter(|it| !it.live).collect();
        for change in &waiting {
            warn!(
                key = change.key,
                result = "needs_restart",
                "`{}` has changed and needs a restart",
                change.key
            );
        }
        if waiting.iter().any(|it| it.key == "DOTMAC_DATABASE_URL") {
            // User and password of another database are none for this one.
            new.database.url = current.database.url.clone();
        }
        self.reload_log_level(current, &new);
        self.reload_pool_size(current, &new);
        self.reload_certificates();
        self.reload_secrets(&new).await;
        // Keys that need a restart keep being reported until it comes.
        current.telemetry.log_level = new.telemetry.log_level;
        current.database.pool_size = new.database.pool_size;
        current.database.url = new.database.url;
    }

    fn reload_pool_size(&self, current: &Settings, new: &Settings) {
        let (former, size) = (current.database.pool_size, new.database.pool_size);
        if former != size {
            self.db.resize(&self.pool_size, size);
            info!(
                key = "DOTMAC_DATABASE_POOL_SIZE",
                result = "applied",
                former,
                "there are {size} database connections at the most now"
            );
        }
    }

    fn reload_log_level(&self, current: &Settings, new: &Settings) {
        const KEY: &str = "DOTMAC_TELEMETRY_LOG_LEVEL";
        let (former, level) = (
            current.telemetry.log_level.to_string(),
            new.telemetry.log_level.to_string(),
        );
        if former == level {
            return;
        }
        match self.telemetry.set_log_filter(&level) {
            Ok(()) => info!(
                key = KEY,
                result = "applied",
                former,
                "the log level is now `{level}`"
            ),
            Err(error) => error!(
                key = KEY,
                result = "rejected",
                error = &error as &dyn Error,
                "the log level stays `{former}`"
            ),
        }
    }

    fn reload_certificates(&self) {
        const KEY: &str = "DOTMAC_TLS_CERT";
        let Some(certificates) = &self.certificates else {
            return;
        };
        match certificates.reload() {
            Ok(()) => info!(
                key = KEY,
                result = "applied",
                "new connections get the certificate as it is on disk now"
            ),
            Err(error) => {
                error!(
                    key = KEY,
                    result = "rejected",
                    error = &error as &dyn Error,
                    "the former certificate stays in use"
                );
            }
        }
    }

    async fn reload_secrets(&self, new: &Settings) {
        let mut wanted = components::wanted(new);
        wanted.extend(self.own_secrets.iter().cloned());
        match self.secrets.call(Want { wanted }).await {
            Ok(Ok(changed)) if changed.is_empty() => {
                info!(result = "unchanged", "the secrets are unchanged")
            }
            // The actor has said, key by key, what became of it.
            Ok(Ok(_)) => {}
            Ok(Err(error)) => error!(
                result = "rejected",
                error = &error as &dyn Error,
                "the former secrets stay in use"
            ),
            Err(error) => error!(
                result = "rejected",
                error = &error as &dyn Error,
                "the secrets were not read again"
            ),
        }
    }
}
