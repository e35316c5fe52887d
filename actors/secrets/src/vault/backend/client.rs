//! The HTTP client: where it goes, whom it trusts, what it proves itself with, and why it did not get through.

use std::{error::Error, path::Path};

use reqwest::{Certificate, Client, Identity, redirect};

use super::CallFailure;
use crate::{Auth, config::VaultConfig};

/// A client for the configured server, with the files as they are now. Blocks.
///
/// # Errors
///
/// A file that cannot be used, or no TLS.
pub(super) fn open(config: &VaultConfig) -> Result<Client, CallFailure> {
    let mut builder = Client::builder()
        .redirect(redirect::Policy::none())
        .no_proxy();
    if config.address.starts_with("https://") {
        if let Some(path) = &config.ca_cert {
            let trusted = authorities(path).map_err(CallFailure::CaCertificate)?;
            builder = builder.tls_certs_merge(trusted);
        }
        if let Some(identity) = identity(&config.auth).map_err(CallFailure::ClientCertificate)? {
            builder = builder.identity(identity);
        }
    } else {
        // Nothing is encrypted, so nothing need be trusted, and the system's certificates are not loaded.
        builder = builder.tls_certs_only(Vec::new());
    }
    let failed = |error: reqwest::Error| CallFailure::Tls(dotmac_causes::root(&error).to_string());
    builder.build().map_err(failed)
}

/// The present files of the client certificate, if any.
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

/// The certificates in a file; one without any would silently mean no additional trust.
fn authorities(path: &Path) -> Result<Vec<Certificate>, String> {
    let pem = dotmac_bounded_read::read(path).map_err(|e| e.to_string())?;
    let found =
        Certificate::from_pem_bundle(&pem).map_err(|e| dotmac_causes::root(&e).to_string())?;
    match found.is_empty() {
        true => Err("it holds no PEM certificate".to_owned()),
        false => Ok(found),
    }
}

/// Whether a TLS session was refused; there are other reasons for no connection.
pub(super) fn connection_failure(error: &(dyn Error + 'static)) -> CallFailure {
    match dotmac_causes::find::<rustls::Error>(error) {
        Some(tls) => CallFailure::Tls(tls.to_string()),
        None => CallFailure::Connection(dotmac_causes::root(error).to_string()),
    }
}
