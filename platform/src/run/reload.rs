//! SIGHUP: reads the settings again, applies what can be applied, and says for each key what became of it.
//!
//! Reloads run concurrently with all other work, one at a time. Files are read on a thread of their own, which is not
//! joined: a stop waits neither for a file nor for Vault.

use std::{error::Error, io, sync::Arc, thread};

use dotmac_db::{Db, PoolSize};
use dotmac_secrets::{SecretsActor, Want, Wanted};
use dotmac_supervision::ActorHandle;
use dotmac_telemetry::Telemetry;
use tokio::sync::{mpsc, oneshot};
use tracing::{error, info, warn};

use super::servers::ClientConnections;
use crate::{
    components,
    http::{TlsCertificates, TlsError},
    settings::{Appliers, Catalogue, Change, Settings, SettingsErrors},
};

/// The parts that take new settings while they run.
pub(super) struct Reload {
    pub(super) telemetry: Telemetry,
    pub(super) certificates: Option<Arc<TlsCertificates>>,
    pub(super) secrets: ActorHandle<SecretsActor>,
    /// Secrets that are always needed.
    pub(super) own_secrets: Vec<Wanted>,
    pub(super) db: Db,
    pub(super) pool_size: PoolSize,
    pub(super) connections: ClientConnections,
    /// Of the live keys of modules.
    pub(super) appliers: Appliers,
}

/// The values that a reload has read from files.
struct Read {
    settings: Settings,
    /// The result for the certificate, if there is one.
    certificate: Option<Result<(), TlsError>>,
}

impl Reload {
    /// Reloads for each message of either kind, until both senders are gone. What comes during a reload
    /// is answered by one that follows it.
    pub(super) async fn serve(
        self,
        mut current: Settings,
        mut hangups: mpsc::Receiver<()>,
        mut changed_files: mpsc::Receiver<()>,
    ) {
        loop {
            tokio::select! {
                Some(()) = hangups.recv() => {}
                Some(()) = changed_files.recv() => {
                    info!("the file of a setting has changed");
                }
                else => return,
            }
            self.run(&mut current).await;
        }
    }

    /// Applies the settings as they are now. A mistake in them changes nothing.
    async fn run(&self, current: &mut Settings) {
        info!("reloading the settings");
        let read = match self.read(current.catalogue().clone()).await {
            Ok(Ok(read)) => read,
            Ok(Err(mistakes)) => {
                for mistake in mistakes.mistakes() {
                    error!(key = mistake.key, result = "rejected", "{mistake}");
                }
                return error!(
                    result = "rejected",
                    "nothing was reloaded: the settings have mistakes"
                );
            }
            Err(error) => {
                return error!(
                    result = "rejected",
                    error = &error as &dyn Error,
                    "nothing was reloaded: there is no thread to read the settings"
                );
            }
        };
        let mut new = read.settings;
        new.keep_modules_of(current);
        for warning in new.warnings() {
            if !current.warnings().contains(warning) {
                warn!(key = warning.key, "{warning}");
            }
        }
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
        if let Some(certificate) = read.certificate {
            report_certificate(certificate);
        }
        self.reload_modules(current, &new, &changes).await;
        self.reload_secrets(&new).await;
        // Keys that need a restart keep being reported until it comes.
        current.telemetry.log_level = new.telemetry.log_level;
        current.database.pool_size = new.database.pool_size;
        current.database.url = new.database.url;
    }

    fn reload_pool_size(&self, current: &Settings, new: &Settings) {
        let (former, size) = (current.database.pool_size, new.database.pool_size);
        if former != size {
            self.connections.leave_room_for(size);
            self.db.resize(&self.pool_size, size);
            info!(
                key = "DOTMAC_DATABASE_POOL_SIZE",
                result = "applied",
                former,
                "the limit of database connections is now {size}"
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

    /// Reads the settings and, if they are good, the certificate. Not on tokio's blocking threads, which
    /// the end of the process would wait for.
    ///
    /// # Errors
    ///
    /// The operating system has no thread left, or the mistakes in the settings.
    async fn read(&self, catalogue: Catalogue) -> io::Result<Result<Read, SettingsErrors>> {
        let (sender, read) = oneshot::channel();
        let certificates = self.certificates.clone();
        let work = move || {
            let read = Settings::load(&catalogue).map(|settings| Read {
                settings,
                certificate: certificates.map(|certificates| certificates.reload()),
            });
            // It has no receiver once the stop has begun.
            drop(sender.send(read));
        };
        thread::Builder::new().name("reload".into()).spawn(work)?;
        read.await
            .map_err(|_| io::Error::other("the thread ended early"))
    }

    async fn reload_modules(&self, current: &mut Settings, new: &Settings, changes: &[Change]) {
        for report in self.appliers.apply(current, new, changes).await {
            let key = &report.key;
            match report.result {
                Ok(()) => info!(
                    key,
                    result = "applied",
                    "`{key}` has changed and is in use now"
                ),
                Err(error) => error!(
                    key,
                    result = "rejected",
                    error,
                    "`{key}` has changed, and the former value stays in use"
                ),
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

fn report_certificate(outcome: Result<(), TlsError>) {
    const KEY: &str = "DOTMAC_TLS_CERT";
    match outcome {
        Ok(()) => info!(
            key = KEY,
            result = "applied",
            "new connections use the certificate on disk"
        ),
        Err(error) => error!(
            key = KEY,
            result = "rejected",
            error = &error as &dyn Error,
            "the former certificate stays in use"
        ),
    }
}
