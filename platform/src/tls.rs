//! The server's certificate, replaceable while connections are served.
//!
//! A handshake takes the current certificate of [`TlsCertificates`], so a renewed certificate is
//! in use after [`TlsCertificates::reload`] without a dropped connection. A reload that fails leaves
//! the former certificate in place.

use std::{io, path::PathBuf, sync::Arc};

use arc_swap::ArcSwap;
use rustls::{
    ServerConfig,
    crypto::{CryptoProvider, aws_lc_rs},
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};
use rustls_pki_types::{
    CertificateDer, PrivateKeyDer,
    pem::{self, PemObject},
};

use crate::shown::quoted_path;

/// Where the server's certificate chain and private key are, both PEM.
#[derive(Clone, Debug)]
pub struct TlsFiles {
    /// Certificate chain, the server's own certificate first.
    pub certificates: PathBuf,
    /// Private key: PKCS#8, PKCS#1 or SEC1.
    pub key: PathBuf,
}

/// Why a certificate cannot be served; each names the file.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be opened or read.
    #[error("cannot read {}: {reason}", quoted_path(path))]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's own words.
        reason: io::Error,
    },
    /// A file is not PEM.
    #[error("{} is not valid PEM: {reason}", quoted_path(path))]
    Pem {
        /// The file.
        path: PathBuf,
        /// The problem.
        reason: pem::Error,
    },
    /// A file is PEM but holds nothing of what is wanted.
    #[error("{} holds no {wanted}", quoted_path(path))]
    Absent {
        /// The file.
        path: PathBuf,
        /// `certificate` or `private key`.
        wanted: &'static str,
    },
    /// Certificate and key do not belong together, or one of them is of no supported kind.
    #[error("certificate {} and key {} cannot be used together: {reason}", quoted_path(&files.certificates), quoted_path(&files.key))]
    Mismatch {
        /// Both files.
        files: TlsFiles,
        /// The problem.
        reason: rustls::Error,
    },
    /// The provider offers no protocol version that is safe.
    #[error("cannot set up TLS")]
    Provider(#[source] rustls::Error),
}

/// A certificate that handshakes take from memory and [`reload`](Self::reload) exchanges.
#[derive(Debug)]
pub struct TlsCertificates {
    files: TlsFiles,
    provider: Arc<CryptoProvider>,
    current: ArcSwap<CertifiedKey>,
}

impl TlsCertificates {
    /// Reads both files and checks that they belong together.
    ///
    /// # Errors
    ///
    /// [`TlsError`], naming the file and what is wrong.
    pub fn load(files: TlsFiles) -> Result<Arc<Self>, TlsError> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let current = ArcSwap::from_pointee(read(&files, &provider)?);
        Ok(Arc::new(Self {
            files,
            provider,
            current,
        }))
    }

    /// Reads both files again; handshakes from now on get the new certificate.
    ///
    /// # Errors
    ///
    /// [`TlsError`]; the former certificate then stays in use.
    pub fn reload(&self) -> Result<(), TlsError> {
        self.current
            .store(Arc::new(read(&self.files, &self.provider)?));
        Ok(())
    }

    /// TLS 1.2 and 1.3, HTTP/1.1 only: actix is built without HTTP/2.
    pub(super) fn server_config(self: &Arc<Self>) -> Result<ServerConfig, TlsError> {
        let resolver: Arc<dyn ResolvesServerCert> = Arc::clone(self) as _;
        let mut config = ServerConfig::builder_with_provider(Arc::clone(&self.provider))
            .with_safe_default_protocol_versions()
            .map_err(TlsError::Provider)?
            .with_no_client_auth()
            .with_cert_resolver(resolver);
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(config)
    }
}

impl ResolvesServerCert for TlsCertificates {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.current.load_full())
    }
}

fn read(named: &TlsFiles, provider: &CryptoProvider) -> Result<CertifiedKey, TlsError> {
    let content = |path: &PathBuf| {
        dotmac_bounded_read::read(path).map_err(|reason| TlsError::Read {
            path: path.clone(),
            reason,
        })
    };
    let broken = |path: &PathBuf, wanted, reason| match reason {
        pem::Error::NoItemsFound => TlsError::Absent {
            path: path.clone(),
            wanted,
        },
        reason => TlsError::Pem {
            path: path.clone(),
            reason,
        },
    };
    let chain = CertificateDer::pem_slice_iter(&content(&named.certificates)?)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| broken(&named.certificates, "certificate", error))?;
    if chain.is_empty() {
        return Err(TlsError::Absent {
            path: named.certificates.clone(),
            wanted: "certificate",
        });
    }
    let key = PrivateKeyDer::from_pem_slice(&content(&named.key)?)
        .map_err(|error| broken(&named.key, "private key", error))?;
    CertifiedKey::from_der(chain, key, provider).map_err(|reason| TlsError::Mismatch {
        files: named.clone(),
        reason,
    })
}
