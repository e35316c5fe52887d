//! TLS to PostgreSQL with the meanings that libpq gives to `sslmode`.

use std::{path::Path, sync::Arc};

use rustls::{
    CertificateError, ClientConfig, ConfigBuilder, DigitallySignedStruct, Error, RootCertStore,
    SignatureScheme, WantsVerifier,
    client::{
        WantsClientCert, WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{CryptoProvider, aws_lc_rs},
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject};

use crate::{ClientCert, Postgres, SslMode};

/// A client configuration for a server whose mode is not [`SslMode::Disable`].
///
/// # Errors
///
/// One sentence: the file or the store that cannot be used, and why.
pub(crate) async fn client_config(server: &Postgres) -> Result<ClientConfig, String> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?;
    let authorities = server.ca_cert.as_deref();
    let builder = match server.ssl_mode {
        SslMode::VerifyFull => builder.with_root_certificates(roots(authorities).await?),
        // libpq takes authorities that are given as the wish to have them asked.
        SslMode::Require if authorities.is_some() => {
            any_name(builder, roots(authorities).await?, provider)?
        }
        SslMode::VerifyCa => any_name(builder, roots(authorities).await?, provider)?,
        SslMode::Disable | SslMode::Prefer | SslMode::Require => builder
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(AnyCertificate(provider))),
    };
    match &server.client_cert {
        None => Ok(builder.with_no_client_auth()),
        Some(ClientCert { certificates, key }) => {
            let pem = |path: &Path, error: &dyn std::fmt::Display| {
                format!("`{}`: {error}", path.display())
            };
            let chain: Vec<_> = read_certificates(certificates).await?;
            let text = dotmac_bounded_read::read_async(key).await;
            let text = text.map_err(|error| pem(key, &error))?;
            let private = PrivateKeyDer::from_pem_slice(&text).map_err(|error| pem(key, &error))?;
            builder
                .with_client_auth_cert(chain, private)
                .map_err(|error| {
                    let key = key.display();
                    pem(
                        certificates,
                        &format!("it does not match the key `{key}`: {error}"),
                    )
                })
        }
    }
}

fn any_name(
    builder: ConfigBuilder<ClientConfig, WantsVerifier>,
    authorities: RootCertStore,
    provider: Arc<CryptoProvider>,
) -> Result<ConfigBuilder<ClientConfig, WantsClientCert>, String> {
    let inner = WebPkiServerVerifier::builder_with_provider(Arc::new(authorities), provider)
        .build()
        .map_err(|error| error.to_string())?;
    Ok(builder
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AnyName(inner))))
}

async fn read_certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let name = path.display();
    let text = dotmac_bounded_read::read_async(path).await;
    let text = text.map_err(|error| format!("`{name}`: {error}"))?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    let found = found.map_err(|error| format!("`{name}`: {error}"))?;
    if found.is_empty() {
        return Err(format!(
            "`{name}` holds no certificate; give a file in PEM format"
        ));
    }
    Ok(found)
}

async fn roots(ca_cert: Option<&Path>) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    match ca_cert {
        Some(path) => {
            let (added, _) = roots.add_parsable_certificates(read_certificates(path).await?);
            if added == 0 {
                return Err(format!(
                    "`{}` has no usable authority; give the authorities to trust, in PEM format",
                    path.display()
                ));
            }
        }
        None => {
            let (added, _) =
                roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            if added == 0 {
                return Err(
                    "the system has no trusted authority; install ca-certificates or give a CA file"
                        .into(),
                );
            }
        }
    }
    Ok(roots)
}

/// `verify-ca`: the chain counts, the name does not.
#[derive(Debug)]
struct AnyName(Arc<WebPkiServerVerifier>);

impl ServerCertVerifier for AnyName {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        match self
            .0
            .verify_server_cert(end_entity, intermediates, server_name, ocsp, now)
        {
            Err(Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) => Ok(ServerCertVerified::assertion()),
            other => other,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }
}

/// `prefer`, and `require` without authorities: encryption without authentication of the server.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        rustls::crypto::verify_tls12_signature(
            message,
            cert,
            dss,
            &self.0.signature_verification_algorithms,
        )
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        rustls::crypto::verify_tls13_signature(
            message,
            cert,
            dss,
            &self.0.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
