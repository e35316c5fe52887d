//! A session with one Vault server: logged in when needed, and clear about what goes wrong.
//!
//! Everything is bounded: each request by the configured time-out, requests under way by
//! [`REQUESTS_AT_ONCE`], logins by a lock, so that many readers who meet an expired token make one
//! login. `login` is about tokens, `database` about leased credentials, `diagnosis` about failures.

mod auth;
pub mod backend;
mod database;
mod diagnosis;
mod document;
mod login;
mod pause;
mod session;
mod write;

pub use auth::{Auth, Credential};
pub(crate) use backend::CallFailure;
pub(crate) use database::{Issued, LeaseLookup};
pub(crate) use diagnosis::Failure;
pub use document::Document;
pub(crate) use document::Version;
pub(crate) use login::Unwrapped;
pub use session::Identity;
pub(crate) use session::{Lease, Outbox, Revocation};
pub use write::Expected;

use std::{future::Future, sync::Arc, time::Duration};

use secrecy::SecretString;
use serde_json::{Value, json};
use tokio::{
    sync::{Mutex, Semaphore},
    time::timeout,
};
use tracing::debug;

use super::{
    SecretFeed, SecretPath, SecretsError, VaultFailure,
    backoff::Backoff,
    config::{ConfigError, KvVersion, VaultConfig},
};
use backend::{Answer, Request, SecretBackend};
use diagnosis::Asking;
use login::{LOOKUP, LoginState};
use pause::Pause;
use session::Session;

const REQUESTS_AT_ONCE: usize = 8;
/// The path at which the server describes mounts to callers with any permission below them.
pub(super) const MOUNTS: &str = "sys/internal/ui/mounts/";

/// Waits between failed logins.
const LOGIN_WAIT_MIN: Duration = Duration::from_millis(100);
const LOGIN_WAIT_MAX: Duration = Duration::from_secs(10);

/// A session with one Vault server.
pub struct Vault {
    config: VaultConfig,
    backend: Arc<dyn SecretBackend>,
    login_state: Mutex<LoginState>,
    kv_version: Mutex<KvVersion>,
    permits: Semaphore,
    outbox: Arc<Outbox>,
    unwrapped: Unwrapped,
    /// The pause that the server has asked for between reads.
    pause: Pause,
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
        let backoff = Backoff::new(LOGIN_WAIT_MIN, LOGIN_WAIT_MAX);
        Self {
            config,
            backend,
            login_state: Mutex::new(LoginState::new(backoff)),
            kv_version,
            permits: Semaphore::new(REQUESTS_AT_ONCE),
            outbox: Arc::default(),
            unwrapped: Unwrapped::default(),
            pause: Pause::default(),
        }
    }

    /// The same with `feed`'s memory of what is to be revoked and of what was unwrapped, which outlives it.
    pub(super) fn remembering_in(self, feed: &SecretFeed) -> Self {
        Self {
            outbox: feed.outbox(),
            unwrapped: feed.unwrapped(),
            ..self
        }
    }

    /// Makes sure of a login, without reading anything; who the server takes us for.
    ///
    /// # Errors
    ///
    /// [`SecretsError::Login`]; asking again later is safe.
    pub async fn log_in(&self) -> Result<Identity, SecretsError> {
        let session = self.session(None).await?;
        Ok(session.identity.clone())
    }

    /// The status code of the server's health: 200 serves, 429 and 472 to 473 standby, 501 not
    /// initialised, 503 sealed.
    ///
    /// # Errors
    ///
    /// [`SecretsError::Login`] if there is no answer.
    pub async fn health(&self) -> Result<u16, SecretsError> {
        match self.bounded(self.backend.health()).await {
            Ok(status) => Ok(status),
            Err(failure) => Err(SecretsError::Login {
                source: self.explain(failure, Asking::Login, None).await,
            }),
        }
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
        let failed = |source| SecretsError::Read {
            path: path.clone(),
            source,
        };
        if let Some(left) = self.pause.left() {
            return Err(failed(VaultFailure::RateLimited {
                retry_after: Some(left),
            }));
        }
        let read = async |session: Arc<Session>| self.read_kv(&session, path).await;
        let answer = self.with_session(read, failed).await;
        if let Err(SecretsError::Read { source, .. }) = &answer
            && let Some(pause) = source.pause()
        {
            self.pause.keep(pause);
        }
        answer
    }

    /// Does `work` with the present session, and once more with a new one if the token proves dead:
    /// the server answers that and a policy's no with the same 403.
    pub(super) async fn with_session<T>(
        &self,
        work: impl AsyncFn(Arc<Session>) -> Result<T, VaultFailure>,
        failed: impl Fn(VaultFailure) -> SecretsError,
    ) -> Result<T, SecretsError> {
        let session = self.session(None).await?;
        match work(Arc::clone(&session)).await {
            Err(failure)
                if failure.is_denied() && !self.knows(&session).await.map_err(&failed)? =>
            {
                let session = self.session(Some(&session)).await?;
                work(session).await.map_err(&failed)
            }
            answer => answer.map_err(&failed),
        }
    }

    /// Whether the server knows the token of `session`.
    pub(super) async fn knows(&self, session: &Session) -> Result<bool, VaultFailure> {
        match self.look_up(&session.token).await {
            Ok(_) => Ok(true),
            Err(Failure::Call(denial)) if denial.is_policy_denial() => Ok(true),
            Err(Failure::Call(CallFailure::Refused { status: 403, .. })) => Ok(false),
            Err(failure) => {
                let asking = Asking::Path {
                    path: LOOKUP,
                    mount: "auth/token",
                    capability: "read",
                };
                Err(self.explain(failure, asking, Some(&session.token)).await)
            }
        }
    }

    /// The capabilities of this login on each of `paths`, as written in a policy.
    ///
    /// # Errors
    ///
    /// [`SecretsError::Login`], also if the server does not say.
    pub async fn capabilities(&self, paths: &[String]) -> Result<Vec<Vec<String>>, SecretsError> {
        let path = "sys/capabilities-self";
        let failed = |source| SecretsError::Login { source };
        let ask = async |session: Arc<Session>| {
            let body = json!({ "paths": paths });
            self.ask(&session, path, "sys", Some(body)).await
        };
        let answer = self.with_session(ask, failed).await?;
        let data = answer.data.unwrap_or_default();
        let of = |path: &String| {
            let listed = data.get(path.as_str()).and_then(Value::as_array);
            let listed = listed.ok_or_else(|| {
                failed(VaultFailure::BadAnswer {
                    detail: "it does not list the capabilities on a path".to_owned(),
                })
            })?;
            let words = listed.iter().filter_map(Value::as_str);
            Ok(words.map(str::to_owned).collect())
        };
        paths.iter().map(of).collect()
    }

    /// The path of a secret as a policy and the API spell it.
    ///
    /// # Errors
    ///
    /// [`SecretsError`] if the version of the engine is to be asked for and cannot be had.
    pub async fn policy_path(&self, path: &SecretPath) -> Result<String, SecretsError> {
        let failed = |source| SecretsError::Read {
            path: path.clone(),
            source,
        };
        let spell = async |session: Arc<Session>| self.api_path(&session, path).await;
        Ok(self.with_session(spell, failed).await?.0)
    }

    async fn api_path(
        &self,
        session: &Session,
        path: &SecretPath,
    ) -> Result<(String, bool), VaultFailure> {
        let mount = &self.config.mount;
        Ok(match self.kv_version(session).await? {
            KvVersion::V2 => (format!("{mount}/data/{path}"), true),
            KvVersion::V1 | KvVersion::Auto => (format!("{mount}/{path}"), false),
        })
    }

    async fn read_kv(
        &self,
        session: &Session,
        path: &SecretPath,
    ) -> Result<Document, VaultFailure> {
        let (api_path, versioned) = self.api_path(session, path).await?;
        let answer = self
            .ask(session, &api_path, &self.config.mount, None)
            .await?;
        let data = answer.data.filter(|data| {
            let must_be = if versioned {
                data.get("metadata")
            } else {
                Some(data)
            };
            must_be.is_some_and(Value::is_object)
        });
        let data = data.ok_or_else(|| VaultFailure::BadAnswer {
            detail: "it has no secret of the KV engine".to_owned(),
        })?;
        let document = if versioned {
            Document::from_kv2(data)
        } else {
            Document::from_kv1(data)
        };
        // A version that was deleted leaves its metadata behind, and no data.
        document.ok_or(VaultFailure::PathMissing { path: api_path })
    }

    /// The API version of the mount; the server is asked once, until it has answered.
    async fn kv_version(&self, session: &Session) -> Result<KvVersion, VaultFailure> {
        let mut known = self.kv_version.lock().await;
        if *known == KvVersion::Auto {
            let mount = &self.config.mount;
            let found = self
                .ask(session, &format!("{MOUNTS}{mount}"), mount, None)
                .await?
                .data
                .unwrap_or_default();
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

    /// One request within `session`, with what its failure means.
    pub(super) async fn ask(
        &self,
        session: &Session,
        path: &str,
        mount: &str,
        body: Option<Value>,
    ) -> Result<Answer, VaultFailure> {
        let capability = if body.is_some() { "update" } else { "read" };
        match self.call(path, Some(&session.token), body).await {
            Ok(answer) => Ok(answer),
            Err(failure) => {
                let asking = Asking::Path {
                    path,
                    mount,
                    capability,
                };
                Err(self.explain(failure, asking, Some(&session.token)).await)
            }
        }
    }

    /// One request.
    pub(super) async fn call(
        &self,
        path: &str,
        token: Option<&SecretString>,
        body: Option<Value>,
    ) -> Result<Answer, Failure> {
        self.bounded(self.backend.send(Request { path, token, body }))
            .await
    }

    /// The server's data of a token.
    pub(super) async fn look_up(&self, token: &SecretString) -> Result<Answer, Failure> {
        let answer = self.call(LOOKUP, Some(token), None).await?;
        let of = |field: &str| answer.data.as_ref()?.get(field);
        let is_right = of("policies").is_some_and(Value::is_array)
            && of("ttl").and_then(Value::as_u64).is_some();
        match is_right {
            true => Ok(answer),
            false => Err(Failure::garbled(
                "it has neither policies nor the time to live of a token",
            )),
        }
    }

    pub(super) async fn bounded<T>(
        &self,
        call: impl Future<Output = Result<T, CallFailure>>,
    ) -> Result<T, Failure> {
        match timeout(self.config.timeout, call).await {
            Ok(answer) => answer.map_err(Failure::Call),
            Err(_) => Err(Failure::Timeout(self.config.timeout)),
        }
    }

    pub(super) fn config(&self) -> &VaultConfig {
        &self.config
    }

    pub(super) fn backend(&self) -> &dyn SecretBackend {
        &*self.backend
    }

    pub(super) fn login_state(&self) -> &Mutex<LoginState> {
        &self.login_state
    }

    pub(super) fn unwrapped(&self) -> &Unwrapped {
        &self.unwrapped
    }

    pub(super) fn outbox(&self) -> &Arc<Outbox> {
        &self.outbox
    }
}
