//! HTTPS by real handshakes: the certificate served, its exchange, and what is said of broken files.
//!
//! The certificates are for these tests only: self-signed, `localhost`, valid until 2126.

use std::{
    fs,
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    path::PathBuf,
    sync::Arc,
};

use rustls::{
    ClientConfig, ClientConnection, RootCertStore, StreamOwned, crypto::aws_lc_rs, version::TLS13,
};
use rustls_pki_types::{CertificateDer, ServerName, pem::PemObject};

use super::*;
use crate::http::{Running, TlsCertificates, TlsError, TlsFiles, bind, serve};

const ONE: (&str, &str) = (
    include_str!("certificates/one.pem"),
    include_str!("certificates/one.key"),
);
const TWO: (&str, &str) = (
    include_str!("certificates/two.pem"),
    include_str!("certificates/two.key"),
);

/// Two files in a directory of their own; gone when dropped.
struct Files {
    directory: PathBuf,
    paths: TlsFiles,
}

impl Files {
    fn new(name: &str, (certificates, key): (&str, &str)) -> Result<Self, Failure> {
        let directory =
            std::env::temp_dir().join(format!("dotmac-tls-{name}-{}", std::process::id()));
        fs::create_dir_all(&directory)?;
        let paths = TlsFiles {
            certificates: directory.join("server.pem"),
            key: directory.join("server.key"),
        };
        let files = Self { directory, paths };
        files.write((certificates, key))?;
        Ok(files)
    }

    fn write(&self, (certificates, key): (&str, &str)) -> Result<(), Failure> {
        fs::write(&self.paths.certificates, certificates)?;
        Ok(fs::write(&self.paths.key, key)?)
    }

    fn error(&self) -> Result<String, Failure> {
        let error: TlsError = TlsCertificates::load(self.paths.clone())
            .err()
            .ok_or("loaded")?;
        Ok(error.to_string())
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(&self.directory));
    }
}

/// Asks `/health` by HTTPS, trusting one certificate only; returns the answer and the protocol agreed on.
async fn ask_trusting(
    address: SocketAddr,
    certificate: &'static str,
) -> Result<(String, Option<Vec<u8>>), Failure> {
    let talk = move || -> Result<_, Box<dyn std::error::Error + Send + Sync>> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(certificate.as_bytes())?)?;
        let provider = Arc::new(aws_lc_rs::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&TLS13])?
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let client = ClientConnection::new(Arc::new(config), ServerName::try_from("localhost")?)?;
        let socket = TcpStream::connect(address)?;
        socket.set_read_timeout(Some(Duration::from_secs(5)))?;
        let mut stream = StreamOwned::new(client, socket);
        stream
            .write_all(b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
        let mut answer = [0; 1024];
        let read = stream.read(&mut answer)?;
        let protocol = stream.conn.alpn_protocol().map(<[u8]>::to_vec);
        Ok((
            String::from_utf8_lossy(&answer[..read]).into_owned(),
            protocol,
        ))
    };
    tokio::task::spawn_blocking(talk)
        .await?
        .map_err(|error| error.to_string().into())
}

#[actix_web::test]
async fn a_renewed_certificate_is_served_after_a_reload() -> Outcome {
    let files = Files::new("reload", ONE)?;
    let mut config = config();
    config.tls = Some(files.paths.clone());
    let listeners = bind(&config)?;
    let address = listeners.addresses()[0];
    let Running {
        server,
        handle,
        certificates,
        ..
    } = serve(listeners, config, mounted(&Staged::new(Readiness::Ready)))?;
    actix_rt::spawn(server);
    let certificates = certificates.ok_or("no certificates")?;

    let (answer, protocol) = ask_trusting(address, ONE.0).await?;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert_eq!(protocol.as_deref(), Some(&b"http/1.1"[..]));
    assert!(ask_trusting(address, TWO.0).await.is_err());

    files.write(("broken", "broken"))?;
    assert!(certificates.reload().is_err());
    assert!(
        ask_trusting(address, ONE.0).await.is_ok(),
        "a failed reload must change nothing"
    );

    files.write(TWO)?;
    certificates.reload()?;
    assert!(ask_trusting(address, TWO.0).await.is_ok());
    assert!(ask_trusting(address, ONE.0).await.is_err());
    handle.stop(false).await;
    Ok(())
}

#[test]
fn broken_files_are_named_with_what_is_wrong() -> Outcome {
    let swapped = Files::new("mismatch", (ONE.0, TWO.1))?;
    assert!(
        swapped.error()?.contains("cannot be used together"),
        "{}",
        swapped.error()?
    );
    let empty = Files::new("empty", ("", ONE.1))?;
    assert!(
        empty
            .error()?
            .ends_with("server.pem\" holds no certificate"),
        "{}",
        empty.error()?
    );
    let keyless = Files::new("keyless", (ONE.0, ONE.0))?;
    assert!(
        keyless
            .error()?
            .ends_with("server.key\" holds no private key"),
        "{}",
        keyless.error()?
    );
    let absent = Files::new("absent", ONE)?;
    fs::remove_file(&absent.paths.key)?;
    assert!(
        absent.error()?.starts_with("cannot read \"/"),
        "{}",
        absent.error()?
    );
    Ok(())
}
