//! Identities that logins prove: JWTs that a key has signed, and service accounts of a fake Kubernetes.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::json;

use crate::server::Outcome;

/// An RSA key, and JWTs that it has signed.
pub(crate) struct Key {
    private: PathBuf,
    pub(crate) public: PathBuf,
}

impl Key {
    pub(crate) fn new(directory: &Path) -> Outcome<Self> {
        openssl(directory, "genrsa -out jwt.key 2048")?;
        openssl(directory, "rsa -in jwt.key -pubout -out jwt.pub")?;
        Ok(Self {
            private: directory.join("jwt.key"),
            public: directory.join("jwt.pub"),
        })
    }

    pub(crate) fn sign(&self, claims: &serde_json::Value) -> Outcome<String> {
        let header = json!({ "alg": "RS256", "typ": "JWT" }).to_string();
        let signed = format!(
            "{}.{}",
            URL_SAFE_NO_PAD.encode(header),
            URL_SAFE_NO_PAD.encode(claims.to_string())
        );
        let mut signing = Command::new("openssl")
            .args(["dgst", "-sha256", "-sign"])
            .arg(&self.private)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        signing
            .stdin
            .take()
            .ok_or("no input")?
            .write_all(signed.as_bytes())?;
        let signature = signing.wait_with_output()?.stdout;
        Ok(format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature)))
    }
}

pub(crate) fn openssl(directory: &Path, arguments: &str) -> Outcome {
    let output = Command::new("openssl")
        .args(arguments.split_whitespace())
        .current_dir(directory)
        .output()?;
    match output.status.success() {
        true => Ok(()),
        false => Err(String::from_utf8_lossy(&output.stderr).into()),
    }
}

/// Answers TokenReview as an API server of Kubernetes would: any token is authentic, with the identity of its claims.
pub(crate) struct FakeKubernetes {
    pub(crate) address: String,
}

impl FakeKubernetes {
    pub(crate) fn start() -> Outcome<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = format!("http://{}", listener.local_addr()?);
        thread::Builder::new()
            .name("fake-kubernetes".to_owned())
            .spawn(move || {
                for stream in listener.incoming().map_while(Result::ok) {
                    // A client that has gone away needs no answer.
                    review(stream).unwrap_or_default();
                }
            })?;
        Ok(Self { address })
    }
}

fn review(mut stream: TcpStream) -> Outcome {
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut length = 0;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        if let Some(value) = line.to_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse()?;
        }
        if line.trim().is_empty() {
            break;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    let asked: serde_json::Value = serde_json::from_slice(&body)?;
    let token = asked["spec"]["token"].as_str().unwrap_or_default();
    let claims = token.split('.').nth(1).unwrap_or_default();
    let claims: serde_json::Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(claims)?)?;
    let answer = json!({
        "apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview",
        "status": {
            "authenticated": true, "audiences": claims["aud"],
            "user": { "username": claims["sub"], "uid": "1",
                      "groups": ["system:serviceaccounts"] },
        },
    })
    .to_string();
    write!(
        stream,
        "HTTP/1.1 201 Created\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{answer}",
        answer.len()
    )?;
    Ok(())
}
