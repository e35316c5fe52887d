//! The default backend: Vault's HTTP API by `reqwest`, asynchronous on the caller's runtime.
//!
//! A credential goes to the configured host alone: redirects are not followed, but for a standby's to the same
//! host and path, and no proxy of the environment is used. Answers are read in pieces, up to a limit.
//! `reqwest` and what is below it log at their own levels; we report every failure ourselves, so their events
//! are switched off around each call.

use bytes::Bytes;
use reqwest::{
    Client, Method, Response, Url,
    header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, LOCATION, RETRY_AFTER},
};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use tokio::sync::RwLock;
use tracing::{Dispatch, dispatcher, instrument::WithSubscriber};
use zeroize::Zeroizing;

use super::{
    Answer, CallFailure, Reply, Request, SecretBackend,
    client::{self, connection_failure},
    span::{self, Server},
    written,
};
use crate::config::{ConfigError, VaultConfig};

/// Of an answer no more is read, in bytes. Vault stores entries of at most 1 MiB by default.
const ANSWER_LIMIT: usize = 4 << 20;
/// Of a refusal no more is read, in bytes. It holds a sentence or two.
const REFUSAL_LIMIT: usize = 64 << 10;

const TOKEN: HeaderName = HeaderName::from_static("x-vault-token");
const NAMESPACE: HeaderName = HeaderName::from_static("x-vault-namespace");
/// Proof against being used by a page in a browser; an agent may insist on it.
const REQUEST: HeaderName = HeaderName::from_static("x-vault-request");

/// Speaks to Vault over HTTP.
pub(super) struct HttpBackend {
    config: VaultConfig,
    base: Url,
    /// Built with the first request and before each login: it reads certificate files.
    http: RwLock<Option<Client>>,
    server: Server,
}

/// One request to any path of the API.
struct Call<'a> {
    path: &'a str,
    headers: HeaderMap,
    body: Option<Bytes>,
}

/// The result: the status, the body as far as it was read, and the pause that was asked for.
struct Received {
    status: u16,
    body: Zeroizing<Vec<u8>>,
    retry_after: Option<HeaderValue>,
}

impl HttpBackend {
    /// # Errors
    ///
    /// [`ConfigError::Address`] if the server's address is no URL.
    pub(super) fn new(config: VaultConfig) -> Result<Self, ConfigError> {
        let base = address(&config)?;
        Ok(Self {
            server: Server::of(&base),
            base,
            config,
            http: RwLock::new(None),
        })
    }

    async fn open(&self) -> Result<Client, CallFailure> {
        let config = self.config.clone();
        // Off the actor's thread: it reads files, and the system's certificates among them.
        let client = tokio::task::spawn_blocking(move || {
            dispatcher::with_default(&Dispatch::none(), || client::open(&config))
        })
        .await
        .map_err(|e| CallFailure::Connection(e.to_string()))??;
        *self.http.write().await = Some(client.clone());
        Ok(client)
    }

    async fn client(&self) -> Result<Client, CallFailure> {
        let opened = self.http.read().await.clone();
        match opened {
            Some(client) => Ok(client),
            None => self.open().await,
        }
    }

    /// Sends `call`, within a span, and receives any answer.
    async fn exec(&self, mut call: Call<'_>) -> Result<Received, CallFailure> {
        let client = self.client().await?;
        let (method, path) = (call.method(), call.path);
        let request = async {
            span::inject(&mut call.headers);
            let received = self.receive(&client, &call);
            let received = received.with_subscriber(Dispatch::none()).await?;
            Ok((received.status, received))
        };
        span::traced(&self.server, method.as_str(), path, request).await
    }

    async fn receive(&self, client: &Client, call: &Call<'_>) -> Result<Received, CallFailure> {
        let mut url = self.base.clone();
        url.set_path(&format!("/v1/{}", call.path));
        let mut answer = call.send(client, url).await?;
        if answer.status().is_redirection() {
            let to = target(&answer)?;
            if !is_standbys_redirect(answer.status().as_u16(), answer.url(), &to) {
                return Err(CallFailure::redirected(&to));
            }
            answer = call.send(client, to).await?;
            if answer.status().is_redirection() {
                return Err(CallFailure::redirected(&target(&answer)?));
            }
        }
        let status = answer.status();
        let retry_after = answer.headers().get(RETRY_AFTER).cloned();
        let limit = match status.is_success() {
            true => ANSWER_LIMIT,
            false => REFUSAL_LIMIT,
        };
        let (body, is_whole) = read(answer, limit).await?;
        if status.is_success() && !is_whole {
            let limit = limit >> 20;
            return Err(CallFailure::Garbled(format!(
                "it is longer than {limit} MiB"
            )));
        }
        Ok(Received {
            status: status.as_u16(),
            body,
            retry_after,
        })
    }
}

impl SecretBackend for HttpBackend {
    fn send<'a>(&'a self, request: Request<'a>) -> Reply<'a, Answer> {
        Box::pin(async move {
            let call = Call {
                path: request.path,
                headers: headers(self.config.namespace.as_deref(), request.token)?,
                body: request.body.map(|body| Bytes::from_owner(written(body))),
            };
            let received = self.exec(call).await?;
            if !received.is_success() {
                return Err(received.refusal());
            }
            if received.body.is_empty() {
                return Ok(Answer::default());
            }
            // The parser's own text may quote what it could not parse: a secret, perhaps.
            serde_json::from_slice(&received.body).map_err(|_| CallFailure::not_vault())
        })
    }

    fn health(&self) -> Reply<'_, u16> {
        /// The content of every health answer, of any status.
        #[derive(Deserialize)]
        #[expect(dead_code, reason = "only their presence counts")]
        struct Health {
            initialized: bool,
            sealed: bool,
        }
        Box::pin(async {
            let call = Call {
                path: "sys/health",
                headers: headers(None, None)?,
                body: None,
            };
            let received = self.exec(call).await?;
            match serde_json::from_slice::<Health>(&received.body) {
                Ok(_) => Ok(received.status),
                Err(_) if received.is_success() => Err(CallFailure::not_vault()),
                Err(_) => Err(received.refusal()),
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

impl Received {
    const fn is_success(&self) -> bool {
        matches!(self.status, 200..=299)
    }

    fn refusal(&self) -> CallFailure {
        let body = String::from_utf8_lossy(&self.body);
        let pause = self.retry_after.as_ref().and_then(|it| it.to_str().ok());
        CallFailure::refused(self.status, &body, pause)
    }
}

impl Call<'_> {
    fn method(&self) -> Method {
        match self.body {
            Some(_) => Method::POST,
            None => Method::GET,
        }
    }

    async fn send(&self, client: &Client, url: Url) -> Result<Response, CallFailure> {
        let mut request = client
            .request(self.method(), url)
            .headers(self.headers.clone());
        if let Some(body) = &self.body {
            request = request
                .header(CONTENT_TYPE, "application/json")
                .body(body.clone());
        }
        request.send().await.map_err(|e| connection_failure(&e))
    }
}

/// As much of the body as `limit` allows, and whether that is all of it.
async fn read(
    mut answer: Response,
    limit: usize,
) -> Result<(Zeroizing<Vec<u8>>, bool), CallFailure> {
    let said = answer.content_length().unwrap_or_default();
    let room = usize::try_from(said).unwrap_or(limit).min(limit);
    let mut body = Zeroizing::new(Vec::with_capacity(room));
    while let Some(piece) = answer.chunk().await.map_err(|e| connection_failure(&e))? {
        let fits = piece.len().min(limit - body.len());
        body.extend_from_slice(&piece[..fits]);
        if fits < piece.len() {
            return Ok((body, false));
        }
    }
    Ok((body, true))
}

/// Where an answer sends us on to.
fn target(answer: &Response) -> Result<Url, CallFailure> {
    let location = answer.headers().get(LOCATION);
    let location = location.and_then(|it| it.to_str().ok());
    location
        .and_then(|it| answer.url().join(it).ok())
        .ok_or_else(|| {
            let status = answer.status().as_u16();
            CallFailure::Garbled(format!("status {status} without a location"))
        })
}

/// Whether a redirect is one that a standby of the same host gives, so that the same request may be sent on,
/// credentials and all: same scheme, host and path, by a status that keeps the method.
fn is_standbys_redirect(status: u16, from: &Url, to: &Url) -> bool {
    matches!(status, 307 | 308)
        && to.scheme() == from.scheme()
        && to.host() == from.host()
        && to.path() == from.path()
        && to.query() == from.query()
        && to.username().is_empty()
        && to.password().is_none()
}

fn headers(
    namespace: Option<&str>,
    token: Option<&SecretString>,
) -> Result<HeaderMap, CallFailure> {
    let mut headers = HeaderMap::new();
    headers.insert(REQUEST, HeaderValue::from_static("true"));
    if let Some(namespace) = namespace {
        let value = HeaderValue::from_str(namespace)
            .map_err(|_| CallFailure::unsendable("the namespace"))?;
        headers.insert(NAMESPACE, value);
    }
    if let Some(token) = token.map(ExposeSecret::expose_secret) {
        if !token.bytes().all(|b| b.is_ascii_graphic()) {
            return Err(CallFailure::unsendable("the token"));
        }
        // Wiped when the last holder of the header lets go.
        let bytes = Bytes::from_owner(Zeroizing::new(token.to_owned()));
        let mut value = HeaderValue::from_maybe_shared(bytes)
            .map_err(|_| CallFailure::unsendable("the token"))?;
        value.set_sensitive(true);
        headers.insert(TOKEN, value);
    }
    Ok(headers)
}

/// The configured address as a URL.
pub(super) fn address(config: &VaultConfig) -> Result<Url, ConfigError> {
    let is_no_url = |_| ConfigError::Address {
        detail: "it is not a URL",
    };
    config.address.parse().map_err(is_no_url)
}

#[cfg(test)]
mod tests {
    use std::error::Error;

    use super::*;

    #[test]
    fn a_request_is_sent_on_to_the_same_host_and_path_alone() -> Result<(), Box<dyn Error>> {
        let from = "https://vault.example:8200/v1/auth/token/lookup-self".parse::<Url>()?;
        for (expected, status, to) in [
            (
                true,
                307,
                "https://vault.example:8210/v1/auth/token/lookup-self",
            ),
            (true, 308, "https://VAULT.example/v1/auth/token/lookup-self"),
            (true, 307, "//vault.example:8210/v1/auth/token/lookup-self"),
            (
                false,
                301,
                "https://vault.example:8210/v1/auth/token/lookup-self",
            ),
            (
                false,
                302,
                "https://vault.example:8210/v1/auth/token/lookup-self",
            ),
            (
                false,
                303,
                "https://vault.example:8210/v1/auth/token/lookup-self",
            ),
            (
                false,
                307,
                "http://vault.example:8200/v1/auth/token/lookup-self",
            ),
            (
                false,
                307,
                "https://vault.example.evil/v1/auth/token/lookup-self",
            ),
            (
                false,
                307,
                "https://vault.example@evil/v1/auth/token/lookup-self",
            ),
            (
                false,
                307,
                "https://u:p@vault.example/v1/auth/token/lookup-self",
            ),
            (false, 307, "https://vault.example:8200/v1/sys/raw/x"),
            (false, 307, "lookup-self?x=1"),
            (false, 307, "file:///v1/auth/token/lookup-self"),
        ] {
            let is_followed = is_standbys_redirect(status, &from, &from.join(to)?);
            assert_eq!(is_followed, expected, "{status} {to}");
        }
        Ok(())
    }
}
