//! A session with one Vault server: logged in when needed, and clear about what goes wrong.
//!
//! The only place that knows what Vault's answers mean. Everything is bounded: each request by the
//! configured time-out, requests under way by [`REQUESTS_AT_ONCE`], logins by a lock, so that many
//! readers who meet an expired token make one login.

use std::{future::Future, sync::Arc, time::Duration};

use secrecy::ExposeSecret;
use serde_json::Value;
use tokio::{
    sync::{Mutex, Semaphore},
    time::{Instant, timeout},
};
use tracing::debug;

use super::{
    Document, SecretPath, SecretsError, VaultFailure,
    backend::{self, CallFailure, Login, SecretBackend},
    config::{ConfigError, KvVersion, VaultConfig},
};

const REQUESTS_AT_ONCE: usize = 8;
/// Where the server tells of mounts to whoever may do anything below them.
const MOUNTS: &str = "sys/internal/ui/mounts/";
/// Longest piece of a server's own words that is repeated in an error.
const DETAIL_LIMIT: usize = 300;

/// A session with one Vault server.
pub struct Vault {
    config: VaultConfig,
    backend: Arc<dyn SecretBackend>,
    session: Mutex<Session>,
    kv_version: Mutex<KvVersion>,
    permits: Semaphore,
}

/// Which login we are at. A reader remembers the serial it read with, and asks for a later one if its
/// token turns out to be dead.
#[derive(Default)]
struct Session {
    serial: u64,
    alive: bool,
    renew_at: Option<Instant>,
    /// When the last attempt failed and how: whoever waited for it shares its outcome, instead of
    /// waiting for a time-out of their own, one after another.
    failed: Option<(Instant, SecretsError)>,
}

impl Vault {
    /// Prepares a session; the first request logs in.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] if the configured client cannot do what is asked of it.
    pub fn new(config: VaultConfig) -> Result<Self, ConfigError> {
        let backend = backend::open(&config)?;
        Ok(Self::over(config, backend))
    }

    /// The same over a backend of the caller's own.
    #[must_use]
    pub fn over(config: VaultConfig, backend: Arc<dyn SecretBackend>) -> Self {
        let kv_version = Mutex::new(config.kv_version);
        Self {
            config,
            backend,
            session: Mutex::default(),
            kv_version,
            permits: Semaphore::new(REQUESTS_AT_ONCE),
        }
    }

    /// Makes sure of a login, without reading anything.
    ///
    /// # Errors
    ///
    /// [`SecretsError::Login`]; asking again later is safe.
    pub async fn log_in(&self) -> Result<(), SecretsError> {
        self.session(None).await.map(drop)
    }

    /// Reads the latest version of one secret. If the token turns out to have ended, logs in again and
    /// tries once more.
    ///
    /// # Errors
    ///
    /// [`SecretsError::Login`] or [`SecretsError::Read`]; asking again later is safe.
    pub async fn read(&self, path: &SecretPath) -> Result<Document, SecretsError> {
        // Never closed, so there is always a permit sooner or later.
        let _permit = self.permits.acquire().await;
        let serial = self.session(None).await?;
        let failed = |source| SecretsError::Read {
            path: path.clone(),
            source,
        };
        let first = self.read_kv(path).await;
        match first {
            Err(failure)
                if failure.is_denied() && !self.token_is_known().await.map_err(failed)? =>
            {
                self.session(Some(serial)).await?;
                self.read_kv(path).await.map_err(failed)
            }
            answer => answer.map_err(failed),
        }
    }

    /// The serial of a login that is neither about to end nor the one that proved `dead`.
    async fn session(&self, dead: Option<u64>) -> Result<u64, SecretsError> {
        let asked = Instant::now();
        let mut session = self.session.lock().await;
        if let Some((at, error)) = &session.failed
            && *at >= asked
        {
            return Err(error.clone());
        }
        let ended = session.renew_at.is_some_and(|at| Instant::now() >= at);
        if session.alive && !ended && dead != Some(session.serial) {
            return Ok(session.serial);
        }
        session.alive = false;
        match self.bounded(self.backend.login()).await {
            Ok(Login { expires_in }) => {
                // A tenth of its life is left for requests under way.
                let renew_at =
                    expires_in.and_then(|life| Instant::now().checked_add(life.mul_f64(0.9)));
                *session = Session {
                    serial: session.serial + 1,
                    alive: true,
                    renew_at,
                    failed: None,
                };
                debug!(
                    secrets.auth = self.config.auth.name(),
                    ?expires_in,
                    "logged in to Vault"
                );
                Ok(session.serial)
            }
            Err(failure) => {
                let error = SecretsError::Login {
                    source: self.explain(failure, Asking::Login).await,
                };
                session.failed = Some((Instant::now(), error.clone()));
                Err(error)
            }
        }
    }

    /// Tells a token that has ended from a policy that says no: the server answers both with 403.
    async fn token_is_known(&self) -> Result<bool, VaultFailure> {
        match self
            .bounded(self.backend.get("auth/token/lookup-self"))
            .await
        {
            Ok(_) => Ok(true),
            Err(Failure::Call(denial)) if denial.is_policy_denial() => Ok(true),
            Err(Failure::Call(CallFailure::Refused { status: 403, .. })) => Ok(false),
            Err(failure) => Err(self
                .explain(failure, Asking::Path("auth/token/lookup-self"))
                .await),
        }
    }

    async fn read_kv(&self, path: &SecretPath) -> Result<Document, VaultFailure> {
        let mount = &self.config.mount;
        let (api_path, versioned) = match self.kv_version().await? {
            KvVersion::V2 => (format!("{mount}/data/{path}"), true),
            KvVersion::V1 | KvVersion::Auto => (format!("{mount}/{path}"), false),
        };
        let data = self.get(&api_path).await?;
        let document = if versioned {
            Document::from_kv2(data)
        } else {
            Document::from_kv1(data)
        };
        // A version that was deleted leaves its metadata behind, and no data.
        document.ok_or(VaultFailure::PathMissing { path: api_path })
    }

    /// The API version of the mount; the server is asked once, until it has answered.
    async fn kv_version(&self) -> Result<KvVersion, VaultFailure> {
        let mut known = self.kv_version.lock().await;
        if *known == KvVersion::Auto {
            let mount = &self.config.mount;
            let found = self.get(&format!("{MOUNTS}{mount}")).await?;
            let engine = found
                .get("type")
                .and_then(Value::as_str)
                .unwrap_or_default();
            if !matches!(engine, "kv" | "generic") {
                return Err(VaultFailure::BadAnswer {
                    detail: format!(
                        "the engine at `{mount}` is `{}`, not `kv`",
                        engine.escape_debug()
                    ),
                });
            }
            *known = match found.pointer("/options/version").and_then(Value::as_str) {
                Some("2") => KvVersion::V2,
                _ => KvVersion::V1,
            };
            debug!(secrets.mount = mount, version = ?*known, "found the version of the KV engine");
        }
        Ok(*known)
    }

    async fn get(&self, path: &str) -> Result<Value, VaultFailure> {
        let answer = self.bounded(self.backend.get(path)).await;
        match answer {
            Ok(value) => Ok(value),
            Err(failure) => Err(self.explain(failure, Asking::Path(path)).await),
        }
    }

    async fn bounded<T>(
        &self,
        call: impl Future<Output = Result<T, CallFailure>>,
    ) -> Result<T, Failure> {
        match timeout(self.config.timeout, call).await {
            Ok(answer) => answer.map_err(Failure::Call),
            Err(_) => Err(Failure::Timeout(self.config.timeout)),
        }
    }

    /// Says what a failure means. Where the server itself seems unfit, its health is asked for: a
    /// sealed, an uninitialised and a standby server refuse requests in the same words.
    async fn explain(&self, failure: Failure, asking: Asking<'_>) -> VaultFailure {
        let address = || self.config.address.clone();
        let (status, errors) = match failure {
            Failure::Timeout(after) => {
                return VaultFailure::Timeout {
                    address: address(),
                    after,
                };
            }
            Failure::Call(CallFailure::Connection(detail)) => {
                return VaultFailure::Unreachable {
                    address: address(),
                    detail: self.presentable(&detail),
                };
            }
            Failure::Call(CallFailure::Tls(detail)) => {
                return VaultFailure::Tls {
                    address: address(),
                    detail: self.presentable(&detail),
                };
            }
            Failure::Call(CallFailure::CaCertificate(detail)) => {
                let path = self.config.ca_cert.clone().unwrap_or_default();
                return VaultFailure::CaCertificate { path, detail };
            }
            Failure::Call(CallFailure::Garbled(detail)) => {
                return VaultFailure::BadAnswer {
                    detail: self.presentable(&detail),
                };
            }
            Failure::Call(CallFailure::Refused { status, errors }) => (status, errors.join("; ")),
        };
        let detail = if errors.is_empty() {
            format!("status {status}")
        } else {
            self.presentable(&errors)
        };
        match (status, asking) {
            (429, _) => VaultFailure::RateLimited,
            (472 | 473, _) => VaultFailure::Standby,
            (502 | 504, _) => VaultFailure::Unreachable {
                address: address(),
                detail: format!("a gateway answered {status}"),
            },
            (500 | 501 | 503, _) => match self.bounded(self.backend.health()).await {
                Ok(501) => VaultFailure::NotInitialized,
                Ok(503) => VaultFailure::Sealed,
                Ok(429 | 472 | 473) => VaultFailure::Standby,
                _ => VaultFailure::BadAnswer {
                    detail: format!("status {status}: {detail}"),
                },
            },
            (404, _) if errors.contains("namespace not found") => VaultFailure::NamespaceMissing {
                namespace: self.config.namespace.clone().unwrap_or_default(),
            },
            (400, _) if errors.contains("HTTP request to an HTTPS server") => VaultFailure::Tls {
                address: address(),
                detail,
            },
            (400 | 401 | 403 | 404, Asking::Login) => VaultFailure::AuthenticationFailed {
                method: self.config.auth.name(),
                detail,
            },
            (404, Asking::Path(_)) if errors.contains("no handler for route") => {
                VaultFailure::MountMissing {
                    mount: self.config.mount.clone(),
                }
            }
            (403, Asking::Path(path)) => match path.strip_prefix(MOUNTS) {
                Some(mount) => VaultFailure::MountHidden {
                    mount: mount.to_owned(),
                },
                None => VaultFailure::PermissionDenied {
                    path: path.to_owned(),
                },
            },
            (404, Asking::Path(path)) => VaultFailure::PathMissing {
                path: path.to_owned(),
            },
            _ => VaultFailure::BadAnswer {
                detail: format!("status {status}: {detail}"),
            },
        }
    }

    /// A server's own words as one bounded line, in which no credential of ours can be.
    fn presentable(&self, words: &str) -> String {
        let line = words.split_whitespace().collect::<Vec<_>>().join(" ");
        let line = line.replace(self.config.auth.secret().expose_secret(), "[redacted]");
        line.chars()
            .filter(|c| !c.is_control())
            .take(DETAIL_LIMIT)
            .collect()
    }
}

/// What we wanted when it failed.
#[derive(Clone, Copy)]
enum Asking<'a> {
    Login,
    Path(&'a str),
}

enum Failure {
    Call(CallFailure),
    Timeout(Duration),
}
