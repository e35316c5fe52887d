//! The authorities that calls by https trust: those of the system, and those that the operator adds.

use std::path::{Path, PathBuf};

use rustls::{ClientConfig, RootCertStore, crypto::aws_lc_rs};
use rustls_pki_types::{CertificateDer, pem::PemObject};
use tokio::{sync::OnceCell, task::spawn_blocking};

use super::EgressError;

/// The configuration of TLS, read with the first call that needs it.
pub(super) struct Tls {
    ca_cert: Option<PathBuf>,
    config: OnceCell<ClientConfig>,
}

impl Tls {
    /// Trusts the authorities in the file `ca_cert` as well.
    pub(super) fn new(ca_cert: Option<PathBuf>) -> Self {
        Self {
            ca_cert,
            config: OnceCell::new(),
        }
    }

    /// # Errors
    ///
    /// [`EgressError::Unusable`]; it is read again at the next call.
    pub(super) async fn config(&self) -> Result<ClientConfig, EgressError> {
        let read = || async {
            let ca_cert = self.ca_cert.clone();
            let read = spawn_blocking(move || read(ca_cert.as_deref())).await;
            read.map_err(|error| error.to_string())?
        };
        let config = self.config.get_or_try_init(read).await;
        let config = config.map_err(|problem: String| EgressError::Unusable { problem })?;
        Ok(config.clone())
    }
}

/// Blocks.
fn read(ca_cert: Option<&Path>) -> Result<ClientConfig, String> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if let Some(path) = ca_cert {
        let problem = |error: &dyn std::fmt::Display| format!("`{}`: {error}", path.display());
        let text = dotmac_bounded_read::read(path).map_err(|error| problem(&error))?;
        let added: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
        roots.add_parsable_certificates(added.map_err(|error| problem(&error))?);
    }
    if roots.is_empty() {
        return Err("no authority is trusted; install ca-certificates".to_owned());
    }
    let builder = ClientConfig::builder_with_provider(aws_lc_rs::default_provider().into());
    let builder = builder.with_safe_default_protocol_versions();
    let builder = builder.map_err(|error| error.to_string())?;
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}
