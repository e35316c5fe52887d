//! The seam between us and the crates that speak Vault's HTTP API.
//!
//! A backend moves requests and answers; it keeps no token and judges nothing. What an answer means
//! (KV versions, expired tokens, sealed servers) is decided once, in [`Vault`](crate::Vault).

mod client;
#[cfg(feature = "hashicorp_vault")]
mod hashicorp;
mod native;
mod span;

use std::{sync::Arc, time::Duration};

use futures_util::future::BoxFuture;
use reqwest::Url;
use secrecy::SecretString;
use serde::Deserialize;
use serde_json::Value;
use zeroize::{Zeroize, Zeroizing};

use crate::config::{Client, ConfigError, VaultConfig};

/// The answer to one request, when it comes.
pub type Reply<'a, T> = BoxFuture<'a, Result<T, CallFailure>>;

/// One way of speaking to a Vault server. Object safe, so that the client can be chosen at run time.
///
/// Methods may be called at any time and at once. Dropping a future abandons the request; the caller sets the time
/// limit.
pub trait SecretBackend: Send + Sync {
    /// Sends one request below `/v1/`. An empty body of a success is an [`Answer`] without anything in it.
    fn send<'a>(&'a self, request: Request<'a>) -> Reply<'a, Answer>;

    /// The status code of `GET /v1/sys/health`, sent without namespace and token; a failure if the body is not
    /// that of Vault's health, since gateways use the same codes.
    fn health(&self) -> Reply<'_, u16>;

    /// Reads certificate files again, before a login: they rotate too.
    fn reopen(&self) -> Reply<'_, ()>;
}

/// A request to a server.
#[derive(Clone)]
pub struct Request<'a> {
    /// Below `/v1/`; made of [`SecretPath`](crate::SecretPath)s and constants.
    pub path: &'a str,
    /// The token of the caller; none for a login.
    pub token: Option<&'a SecretString>,
    /// `None` reads; anything else is written.
    pub body: Option<Value>,
}

/// `body` as it is sent; nothing of it stays behind.
fn written(mut body: Value) -> Zeroizing<String> {
    let text = Zeroizing::new(body.to_string());
    wipe(&mut body);
    text
}

fn wipe(value: &mut Value) {
    match value {
        Value::String(text) => text.zeroize(),
        Value::Array(items) => items.iter_mut().for_each(wipe),
        Value::Object(fields) => fields.values_mut().for_each(wipe),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// An answer of Vault's, in the one shape that all but health have.
#[derive(Default, Deserialize)]
pub struct Answer {
    /// The requested path or role.
    #[serde(default)]
    pub data: Option<Value>,
    /// The token that a login brought.
    #[serde(default)]
    pub auth: Option<Granted>,
    /// Names the lease on what is in `data`; empty if there is none.
    #[serde(default)]
    pub lease_id: String,
    /// Seconds that the lease lives.
    #[serde(default)]
    pub lease_duration: u64,
    /// Whether its life can be extended.
    #[serde(default)]
    pub renewable: bool,
}

/// A token that a login brought, or what is left of one after a renewal.
#[derive(Deserialize)]
pub struct Granted {
    /// The token.
    pub client_token: SecretString,
    /// The policies that it has.
    #[serde(default)]
    pub policies: Vec<String>,
    /// Seconds that it lives; 0 is for ever.
    #[serde(default)]
    pub lease_duration: u64,
    /// Whether its life can be extended.
    #[serde(default)]
    pub renewable: bool,
}

/// Why there is no answer to use, as the transport sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CallFailure {
    /// The server answered with another status than success.
    Refused {
        /// The HTTP status.
        status: u16,
        /// The `errors` of its body, or the body itself if it is not Vault's JSON.
        errors: Vec<String>,
        /// The pause that the server requests, if any.
        retry_after: Option<Duration>,
    },
    /// It sends the request on to where our credentials must not go: scheme, host and port of that place.
    Redirected(String),
    /// No connection, or one that broke.
    Connection(String),
    /// No TLS session.
    Tls(String),
    /// The configured CA certificate cannot be used.
    CaCertificate(String),
    /// The configured client certificate or its key cannot be used.
    ClientCertificate(String),
    /// An answer that is not Vault's.
    Garbled(String),
}

impl CallFailure {
    /// The kind of failure, from a closed set: for spans.
    pub(crate) const fn kind(&self) -> &'static str {
        match self {
            Self::Refused { .. } => "refused",
            Self::Redirected(_) => "redirected",
            Self::Connection(_) => "connection",
            Self::Tls(_) => "tls",
            Self::CaCertificate(_) | Self::ClientCertificate(_) => "certificate",
            Self::Garbled(_) => "bad_answer",
        }
    }

    fn not_vault() -> Self {
        Self::Garbled("it is not the JSON of Vault's API".to_owned())
    }

    /// `what` is not made of characters that a header may have.
    fn unsendable(what: &str) -> Self {
        Self::Garbled(format!("{what} cannot be sent as a header"))
    }

    fn redirected(to: &Url) -> Self {
        Self::Redirected(to.origin().ascii_serialization())
    }

    /// From the status, the body and the header `Retry-After` of an answer. Of the latter's two forms Vault sends
    /// seconds.
    fn refused(status: u16, body: &str, retry_after: Option<&str>) -> Self {
        #[derive(serde::Deserialize)]
        struct Refusal {
            errors: Vec<String>,
        }
        let errors = match serde_json::from_str::<Refusal>(body) {
            Ok(refusal) => refusal.errors,
            // Health and deleted versions answer with JSON of another shape: nothing in it is an error text.
            Err(_) if body.trim_start().starts_with('{') => Vec::new(),
            Err(_) => vec![body.to_owned()],
        };
        let seconds = retry_after.and_then(|text| text.trim().parse().ok());
        Self::Refused {
            status,
            errors,
            retry_after: seconds.map(Duration::from_secs),
        }
    }

    /// Whether a policy said no, as opposed to a token that the server does not know.
    ///
    /// Vault and OpenBao both answer 403. A policy's denial is a list of exactly one error; an unknown
    /// token is the bare text (OpenBao) or a list of two (Vault).
    pub(crate) fn is_policy_denial(&self) -> bool {
        matches!(self, Self::Refused { status: 403, errors, .. } if errors.iter().any(|e| e.starts_with("1 error occurred")))
    }
}

/// Opens the backend that `config` asks for; no request is made yet.
///
/// # Errors
///
/// [`ConfigError`] if the backend cannot do what `config` asks for.
pub fn open(config: &VaultConfig) -> Result<Arc<dyn SecretBackend>, ConfigError> {
    supports(config)?;
    Ok(match config.client {
        Client::Native => Arc::new(native::HttpBackend::new(config.clone())?),
        #[cfg(feature = "hashicorp_vault")]
        Client::HashicorpVault => Arc::new(hashicorp::HashicorpBackend::new(config.clone())),
    })
}

/// Whether the chosen client can do all that `config` asks for.
pub(crate) fn supports(config: &VaultConfig) -> Result<(), ConfigError> {
    match config.client {
        Client::Native => native::address(config).map(drop),
        #[cfg(feature = "hashicorp_vault")]
        Client::HashicorpVault => hashicorp::supports(config),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_body_is_reduced_to_its_texts() {
        let failure = CallFailure::refused(403, r#"{"errors":["permission denied"]}"#, None);
        assert_eq!(
            failure,
            CallFailure::Refused {
                status: 403,
                errors: vec!["permission denied".to_owned()],
                retry_after: None,
            }
        );
        let sealed = CallFailure::refused(503, r#"{"initialized":true,"sealed":true}"#, Some(" 7"));
        assert_eq!(
            sealed,
            CallFailure::Refused {
                status: 503,
                errors: Vec::new(),
                retry_after: Some(Duration::from_secs(7)),
            }
        );
    }

    #[test]
    fn a_policy_denial_differs_from_an_unknown_token() {
        let denial = |text: &str| {
            CallFailure::Refused {
                status: 403,
                errors: vec![text.to_owned()],
                retry_after: None,
            }
            .is_policy_denial()
        };
        assert!(denial("1 error occurred:\n\t* permission denied\n\n"));
        assert!(!denial("permission denied"));
        assert!(!denial(
            "2 errors occurred:\n\t* permission denied\n\t* invalid token\n\n"
        ));
    }
}
