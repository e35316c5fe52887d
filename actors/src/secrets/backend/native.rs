//! The default backend: the crate `vaultrs`, asynchronous on the caller's runtime.
//!
//! Requests go through `rustify`, the layer below `vaultrs`, because `vaultrs` keeps the status of an
//! answer that is not Vault's JSON (a health check, a gateway) to itself. Both crates log what they
//! do, errors included, at their own levels; we report every failure ourselves, so their events are
//! switched off around each call.

use std::{error::Error, fs, io, path::Path};

use rustify::{
    clients::reqwest::Client as HttpClient,
    endpoint::Endpoint,
    enums::{RequestMethod, RequestType, ResponseType},
    errors::ClientError as RequestError,
};
use secrecy::ExposeSecret;
use serde_json::Value;
use tokio::sync::{OnceCell, RwLock};
use tracing::{Dispatch, dispatcher, instrument::WithSubscriber};
use vaultrs::{
    api::{
        AuthInfo, EndpointMiddleware, EndpointResult,
        auth::approle::requests::LoginWithApproleRequest,
    },
    client::{VaultClient, VaultClientSettings},
    error::ClientError,
};
use zeroize::Zeroize;

use super::{CallFailure, Login, Reply, SecretBackend};
use crate::secrets::config::{Auth, ConfigError, VaultConfig};

/// Speaks to Vault through `vaultrs`.
pub(super) struct VaultrsBackend {
    config: VaultConfig,
    /// Built with the first request: it reads certificate files.
    http: OnceCell<HttpClient>,
    token: RwLock<Token>,
}

/// The token of the last login, in the form in which it is sent.
struct Token(EndpointMiddleware);

impl Drop for Token {
    fn drop(&mut self) {
        self.0.token.zeroize();
    }
}

impl VaultrsBackend {
    pub(super) fn new(config: VaultConfig) -> Self {
        let token = RwLock::new(Token(headers(config.namespace.clone(), String::new())));
        Self {
            config,
            http: OnceCell::new(),
            token,
        }
    }

    async fn http(&self) -> Result<&HttpClient, CallFailure> {
        let build = async {
            let config = self.config.clone();
            // Off the actor's thread: it reads files, and the system's certificates among them.
            tokio::task::spawn_blocking(move || {
                dispatcher::with_default(&Dispatch::none(), || http_client(&config))
            })
            .await
            .map_err(|e| CallFailure::Connection(e.to_string()))?
        };
        self.http.get_or_try_init(|| build).await
    }

    /// Sends `endpoint` with `headers` and hands the parsed answer over.
    async fn exec<E: Endpoint>(
        &self,
        endpoint: E,
        headers: &EndpointMiddleware,
    ) -> Result<EndpointResult<E::Response>, CallFailure> {
        let http = self.http().await?;
        async {
            endpoint
                .with_middleware(headers)
                .exec(http)
                .await?
                .wrap::<EndpointResult<_>>()
        }
        .with_subscriber(Dispatch::none())
        .await
        .map_err(request_failure)
    }

    async fn keep_token(&self, mut token: String) -> Result<(), CallFailure> {
        // `vaultrs` panics over a token that is not a header value.
        if token.is_empty() || !token.bytes().all(|b| b.is_ascii_graphic()) {
            token.zeroize();
            return Err(CallFailure::Garbled(
                "the login brought no usable token".to_owned(),
            ));
        }
        *self.token.write().await = Token(headers(self.config.namespace.clone(), token));
        Ok(())
    }
}

impl SecretBackend for VaultrsBackend {
    fn login(&self) -> Reply<'_, Login> {
        Box::pin(async {
            match &self.config.auth {
                Auth::Token(token) => {
                    self.keep_token(token.expose_secret().to_owned()).await?;
                    match self.get("auth/token/lookup-self").await {
                        Ok(found) => Ok(Login::from_lookup(&found)),
                        // Known to the server, though not allowed to look at itself.
                        Err(denial) if denial.is_policy_denial() => Ok(Login { expires_in: None }),
                        Err(failure) => Err(failure),
                    }
                }
                Auth::AppRole {
                    mount,
                    role_id,
                    secret_id,
                } => {
                    let request = LoginWithApproleRequest::builder()
                        .mount(mount.as_str())
                        .role_id(role_id.as_str())
                        .secret_id(secret_id.expose_secret())
                        .build()
                        .map_err(|e| CallFailure::Garbled(e.to_string()))?;
                    let anonymous = headers(self.config.namespace.clone(), String::new());
                    let granted: Option<AuthInfo> = self.exec(request, &anonymous).await?.auth;
                    let granted = granted.ok_or_else(|| {
                        CallFailure::Garbled("the login brought no token".to_owned())
                    })?;
                    self.keep_token(granted.client_token).await?;
                    Ok(Login::expiring_in(granted.lease_duration))
                }
            }
        })
    }

    fn get<'a>(&'a self, path: &'a str) -> Reply<'a, Value> {
        Box::pin(async move {
            let token = self.token.read().await;
            let answer = self.exec(Get { path }, &token.0).await?;
            answer
                .data
                .ok_or_else(|| CallFailure::Garbled("the answer holds no data".to_owned()))
        })
    }

    fn health(&self) -> Reply<'_, u16> {
        Box::pin(async {
            match self
                .exec(Get { path: "sys/health" }, &headers(None, String::new()))
                .await
            {
                Err(CallFailure::Refused { status, .. }) => Ok(status),
                // A healthy server's answer has another shape than all the rest.
                Ok(_) | Err(CallFailure::Garbled(_)) => Ok(200),
                Err(failure) => Err(failure),
            }
        })
    }
}

/// A plain read of any path of the API.
struct Get<'a> {
    path: &'a str,
}

impl Endpoint for Get<'_> {
    type Response = Value;
    const REQUEST_BODY_TYPE: RequestType = RequestType::JSON;
    const RESPONSE_BODY_TYPE: ResponseType = ResponseType::JSON;

    fn path(&self) -> String {
        self.path.to_owned()
    }

    fn method(&self) -> RequestMethod {
        RequestMethod::GET
    }
}

fn headers(namespace: Option<String>, token: String) -> EndpointMiddleware {
    EndpointMiddleware {
        token,
        version: "v1".to_owned(),
        wrap: None,
        namespace,
    }
}

/// What `vaultrs` builds its HTTP client from. Written out in full, since its builder fills what is
/// left out from the environment; without token and time limit, which are set on each request.
pub(super) fn client_settings(config: &VaultConfig) -> Result<VaultClientSettings, ConfigError> {
    Ok(VaultClientSettings {
        address: config.address.parse().map_err(|_| ConfigError::Address {
            detail: "it is not a URL",
        })?,
        ca_certs: config
            .ca_cert
            .iter()
            .map(|path| path.display().to_string())
            .collect(),
        identity: None,
        timeout: None,
        token: String::new(),
        verify: true,
        version: 1,
        wrapping: false,
        namespace: None,
        proxy: None,
    })
}

fn http_client(config: &VaultConfig) -> Result<HttpClient, CallFailure> {
    if let Some(path) = &config.ca_cert {
        check_ca(path).map_err(CallFailure::CaCertificate)?;
    }
    let settings = client_settings(config).map_err(|e| CallFailure::Connection(e.to_string()))?;
    VaultClient::new(settings)
        .map(|client| client.http)
        .map_err(|error| match error {
            ClientError::FileReadError { source, .. } => {
                CallFailure::CaCertificate(source.to_string())
            }
            ClientError::ParseCertificateError { source, .. } => {
                CallFailure::CaCertificate(root_cause(&source).to_string())
            }
            ClientError::RestClientBuildError { source } => {
                CallFailure::Tls(root_cause(&source).to_string())
            }
            other => CallFailure::Connection(other.to_string()),
        })
}

/// A file without a single certificate would be taken for "trust nobody else" without a word.
fn check_ca(path: &Path) -> Result<(), String> {
    let pem = fs::read(path).map_err(|e| e.to_string())?;
    let marker = b"-----BEGIN CERTIFICATE-----";
    match pem.windows(marker.len()).any(|window| window == marker) {
        true => Ok(()),
        false => Err("it holds no PEM certificate".to_owned()),
    }
}

fn request_failure(error: RequestError) -> CallFailure {
    match error {
        RequestError::ServerResponseError { code, content } => {
            CallFailure::refused(code, content.as_deref().unwrap_or_default())
        }
        RequestError::RequestError { source, .. } | RequestError::ResponseError { source } => {
            connection_failure(&*source)
        }
        // The parser's own text may quote what it could not parse: a secret, perhaps.
        RequestError::ResponseParseError { .. } | RequestError::ResponseConversionError { .. } => {
            CallFailure::Garbled("it is not the JSON of Vault's API".to_owned())
        }
        other => CallFailure::Garbled(other.to_string()),
    }
}

/// Tells a refused TLS session from other ways of not getting through.
fn connection_failure(error: &(dyn Error + 'static)) -> CallFailure {
    match tls_error(error) {
        Some(tls) => CallFailure::Tls(tls.to_string()),
        None => CallFailure::Connection(root_cause(error).to_string()),
    }
}

fn tls_error<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a rustls::Error> {
    // An `io::Error` hides what it wraps from `source()`, and the layers wrap one into another.
    let wrapped = error
        .downcast_ref::<io::Error>()
        .and_then(io::Error::get_ref);
    let next = wrapped
        .map(|inner| inner as &'a (dyn Error + 'static))
        .or_else(|| error.source());
    error.downcast_ref().or_else(|| next.and_then(tls_error))
}

fn root_cause<'a>(mut error: &'a (dyn Error + 'static)) -> &'a (dyn Error + 'static) {
    while let Some(source) = error.source() {
        error = source;
    }
    error
}
