//! Certificates of a test's own, and TLS in front of a server that has none.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
};

use rustls::{
    RootCertStore, ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::WebPkiClientVerifier,
};
use tokio::{net::TcpListener, task::JoinHandle};
use tokio_rustls::TlsAcceptor;

fn openssl(directory: &Path, arguments: &str) {
    let output = Command::new("openssl")
        .args(arguments.split(' '))
        .current_dir(directory)
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

/// An authority, another one, and certificates of both for `localhost` alone, which do for clients too:
/// `server` and `client` of `ca`, `stranger` of `other`.
pub fn certificates(directory: &Path) {
    let key = "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes";
    for authority in ["ca", "other"] {
        openssl(
            directory,
            &format!(
                "req -x509 {key} -days 2 -subj /CN={authority} -keyout {authority}.key -out {authority}.crt"
            ),
        );
    }
    std::fs::write(
        directory.join("names"),
        "subjectAltName=DNS:localhost\nbasicConstraints=CA:FALSE\n",
    )
    .unwrap();
    for (name, authority) in [("server", "ca"), ("client", "ca"), ("stranger", "other")] {
        openssl(
            directory,
            &format!("req {key} -subj /CN={name} -keyout {name}.key -out {name}.csr"),
        );
        openssl(
            directory,
            &format!(
                "x509 -req -in {name}.csr -CA {authority}.crt -CAkey {authority}.key -CAcreateserial -days 2 -extfile names -out {name}.crt"
            ),
        );
    }
}

/// Speaks TLS as `localhost` and hands the plain bytes on to a server on this machine, as a sidecar
/// would. Ends with the test.
pub struct TlsFront {
    task: JoinHandle<()>,
    /// Where it listens, on the loopback interface.
    pub port: u16,
    /// The authority that signed its certificate.
    pub ca: PathBuf,
    directory: tempfile::TempDir,
}

impl TlsFront {
    /// Before the server on that port, open to every client.
    pub async fn before(server: u16) -> Self {
        Self::start(server, false).await
    }

    /// The same, open only to who shows a certificate of the authority.
    pub async fn asking_before(server: u16) -> Self {
        Self::start(server, true).await
    }

    async fn start(server: u16, asks: bool) -> Self {
        let directory = tempfile::tempdir().unwrap();
        certificates(directory.path());
        let file = |name: &str| directory.path().join(name);
        let mut trusted = RootCertStore::empty();
        trusted
            .add(CertificateDer::from_pem_file(file("ca.crt")).unwrap())
            .unwrap();
        let mut clients = WebPkiClientVerifier::builder(Arc::new(trusted));
        if !asks {
            clients = clients.allow_unauthenticated();
        }
        let chain = CertificateDer::pem_file_iter(file("server.crt")).unwrap();
        let chain = chain.collect::<Result<Vec<_>, _>>().unwrap();
        let key = PrivateKeyDer::from_pem_file(file("server.key")).unwrap();
        let mut config = ServerConfig::builder()
            .with_client_cert_verifier(clients.build().unwrap())
            .with_single_cert(chain, key)
            .unwrap();
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let server = SocketAddr::from(([127, 0, 0, 1], server));
        let task = tokio::spawn(async move {
            while let Ok((outside, _)) = listener.accept().await {
                let acceptor = acceptor.clone();
                tokio::spawn(async move {
                    // A client that does not trust us hangs up: that is its business.
                    let mut outside = acceptor.accept(outside).await.ok()?;
                    let mut inside = tokio::net::TcpStream::connect(server).await.ok()?;
                    tokio::io::copy_bidirectional(&mut outside, &mut inside)
                        .await
                        .ok()
                });
            }
        });
        Self {
            task,
            port,
            ca: file("ca.crt"),
            directory,
        }
    }

    /// An authority that did not sign it.
    pub fn other_ca(&self) -> PathBuf {
        self.file("other.crt")
    }

    /// One of the files that [`certificates`] makes.
    pub fn file(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }
}

impl Drop for TlsFront {
    fn drop(&mut self) {
        self.task.abort();
    }
}
