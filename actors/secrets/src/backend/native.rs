//! The default backend: the crate `vaultrs`, asynchronous on the caller's runtime.
//!
//! Requests go through `rustify`, the layer below `vaultrs`, because `vaultrs` keeps the status of an
//! answer that is not Vault's JSON (a health check, a gateway) to itself. Both crates log what they
//! do, errors included, at their own levels; we report every failure ourselves, so their events are
//! switched off around each call.

use std::{error::Error, io, path::Path};

use rustify::{
    clients::reqwest::Client as HttpClient,
    endpoint::Endpoint,
    enums::{RequestMethod, RequestType, ResponseType},
    errors::ClientError as RequestError,
};
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;
use tokio::sync::RwLock;
use tracing::{Dispatch, dispatcher, instrument::WithSubscriber};
use vaultrs::{
    api::EndpointMiddleware,
    client::{Identity, VaultClient, VaultClientSettings},
    error::ClientError,
};
use zeroize::{Zeroize, Zeroizing};

use super::{
    Answer, CallFailure, Reply, Request, SecretBackend,
    span::{self, Server, WithContext},
    written,
};
use crate::{
    Auth,
    config::{ConfigError, VaultConfig},
};

/// Speaks to Vault through `vaultrs`.
pub(super) struct VaultrsBackend {
    config: VaultConfig,
    /// Built with the first request and before each login: it reads certificate files.
    http: RwLock<Option<HttpClient>>,
    server: Server,
}

/// The token, in the form in which it is sent.
struct Headers(EndpointMiddleware);

impl Drop for Headers {
    fn drop(&mut self) {
        self.0.token.zeroize();
    }
}

impl VaultrsBackend {
    /// # Errors
    ///
    /// [`ConfigError::Address`] if the server's address is no URL.
    pub(super) fn new(config: VaultConfig) -> Result<Self, ConfigError> {
        Ok(Self {
            server: Server::of(&client_settings(&config)?),
            config,
            http: RwLock::new(None),
        })
    }

    async fn open(&self) -> Result<(), CallFailure> {
        let config = self.config.clone();
        // Off the actor's thread: it reads files, and the system's certificates among them.
        let client = tokio::task::spawn_blocking(move || {
            dispatcher::with_default(&Dispatch::none(), || http_client(&config))
        })
        .await
        .map_err(|e| CallFailure::Connection(e.to_string()))??;
        *self.http.write().await = Some(client);
        Ok(())
    }

    /// Sends `call` with `headers` and hands the body over, empty for a 204.
    async fn exec(
        &self,
        call: Call<'_>,
        headers: &Headers,
    ) -> Result<Zeroizing<Vec<u8>>, CallFailure> {
        if self.http.read().await.is_none() {
            self.open().await?;
        }
        let http = self.http.read().await;
        let http = http
            .as_ref()
            .ok_or_else(|| CallFailure::Connection("the client was closed".to_owned()))?;
        let (method, path) = (call.verb(), call.path);
        let request = async {
            let with_context = WithContext(&headers.0);
            let answer = call
                .with_middleware(&with_context)
                .exec(http)
                .with_subscriber(Dispatch::none())
                .await
                .map_err(request_failure)?;
            let status = answer.response.status().as_u16();
            Ok((status, Zeroizing::new(answer.response.into_body())))
        };
        span::traced(&self.server, method, path, request).await
    }
}

impl SecretBackend for VaultrsBackend {
    fn send<'a>(&'a self, request: Request<'a>) -> Reply<'a, Answer> {
        Box::pin(async move {
            let headers = headers(self.config.namespace.clone(), request.token)?;
            let call = Call {
                path: request.path,
                body: request.body.map(written),
            };
            let body = self.exec(call, &headers).await?;
            if body.is_empty() {
                return Ok(Answer::default());
            }
            // The parser's own text may quote what it could not parse: a secret, perhaps.
            serde_json::from_slice(&body).map_err(|_| CallFailure::not_vault())
        })
    }

    fn health(&self) -> Reply<'_, u16> {
        Box::pin(async {
            let call = Call {
                path: "sys/health",
                body: None,
            };
            match self.exec(call, &headers(None, None)?).await {
                Err(CallFailure::Refused { status, .. }) => Ok(status),
                Ok(_) => Ok(200),
                Err(failure) => Err(failure),
            }
        })
    }

    fn reopen(&self) -> Reply<'_, ()> {
        Box::pin(async {
            let reads_files = self.config.ca_cert.is_some() || self.config.auth.has_certificate();
            if reads_files {
                self.open().await?;
            }
            Ok(())
        })
    }
}

/// One request to any path of the API.
struct Call<'a> {
    path: &'a str,
    body: Option<Zeroizing<String>>,
}

impl Call<'_> {
    fn verb(&self) -> &'static str {
        match self.body {
            Some(_) => "POST",
            None => "GET",
        }
    }
}

impl Endpoint for Call<'_> {
    type Response = Value;
    const REQUEST_BODY_TYPE: RequestType = RequestType::JSON;
    const RESPONSE_BODY_TYPE: ResponseType = ResponseType::JSON;

    fn path(&self) -> String {
        self.path.to_owned()
    }

    fn method(&self) -> RequestMethod {
        match self.body {
            Some(_) => RequestMethod::POST,
            None => RequestMethod::GET,
        }
    }

    fn body(&self) -> Result<Option<Vec<u8>>, RequestError> {
        Ok(self.body.as_ref().map(|body| body.as_bytes().to_vec()))
    }
}

fn headers(
    namespace: Option<String>,
    token: Option<&SecretString>,
) -> Result<Headers, CallFailure> {
    let token = token.map(ExposeSecret::expose_secret).unwrap_or_default();
    // `vaultrs` panics over a token that is not a header value.
    if !token.bytes().all(|b| b.is_ascii_graphic()) {
        return Err(CallFailure::Garbled(
            "the token cannot be sent as a header".to_owned(),
        ));
    }
    Ok(Headers(EndpointMiddleware {
        token: token.to_owned(),
        version: "v1".to_owned(),
        wrap: None,
        namespace,
    }))
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
    let mut settings =
        client_settings(config).map_err(|e| CallFailure::Connection(e.to_string()))?;
    settings.identity = identity(&config.auth).map_err(CallFailure::ClientCertificate)?;
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

/// What we prove ourselves with at the TLS level, if we do: the files as they are now.
fn identity(auth: &Auth) -> Result<Option<Identity>, String> {
    let Auth::Certificate {
        certificate, key, ..
    } = auth
    else {
        return Ok(None);
    };
    let read = |path: &Path| {
        dotmac_bounded_read::read(path).map_err(|e| format!("`{}`: {e}", path.display()))
    };
    let mut pem = read(key)?;
    pem.push(b'\n');
    pem.extend_from_slice(&read(certificate)?);
    let identity = Identity::from_pem(&pem);
    identity
        .map(Some)
        .map_err(|_| "they are not a PEM certificate with its PEM key".to_owned())
}

/// A file without a single certificate would be taken for "trust nobody else" without a word.
fn check_ca(path: &Path) -> Result<(), String> {
    let pem = dotmac_bounded_read::read(path).map_err(|e| e.to_string())?;
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
        // Other texts may quote what could not be parsed: a secret, perhaps.
        _ => CallFailure::not_vault(),
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
