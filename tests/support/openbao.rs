//! An OpenBao server of a test's own, in development mode: unsealed, in memory, token `root-token`.

use std::process::Command;

use serde_json::{Value, json};

use super::{eventually, free_port, process::Process, tool};

pub const ROOT_TOKEN: &str = "root-token";

pub struct OpenBao {
    process: Process,
    pub port: u16,
    client: reqwest::Client,
}

impl OpenBao {
    pub async fn start() -> Self {
        let port = free_port();
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        let server = Self {
            process: launch(port),
            port,
            client,
        };
        server.answers().await;
        server
    }

    pub fn address(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    async fn answers(&self) {
        eventually("OpenBao to answer", || async {
            let answer = self
                .client
                .get(format!("{}/v1/sys/health", self.address()))
                .send()
                .await
                .ok()?;
            answer.status().is_success().then_some(())
        })
        .await;
    }

    /// Writes a secret of one field into the KV engine at `secret/`.
    pub async fn write(&self, path: &str, field: &str, value: &str) {
        self.call(
            reqwest::Method::POST,
            &format!("secret/data/{path}"),
            json!({ "data": { field: value } }),
        )
        .await;
    }

    pub async fn seal(&self) {
        self.call(reqwest::Method::PUT, "sys/seal", Value::Null)
            .await;
    }

    /// One call of its API as root.
    pub async fn call(&self, method: reqwest::Method, path: &str, body: Value) -> Value {
        let request = self
            .client
            .request(method, format!("{}/v1/{path}", self.address()));
        let answer = request
            .header("X-Vault-Token", ROOT_TOKEN)
            .json(&body)
            .send()
            .await
            .unwrap();
        assert!(
            answer.status().is_success(),
            "{path}: {:?}",
            answer.text().await
        );
        answer.json().await.unwrap_or(Value::Null)
    }

    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// Starts it again on the same port; what it held is gone, as it kept it in memory.
    pub async fn restart(&mut self) {
        self.process = launch(self.port);
        self.answers().await;
    }

    pub fn freeze(&self) {
        self.process.signal("STOP");
    }

    pub fn thaw(&self) {
        self.process.signal("CONT");
    }
}

fn launch(port: u16) -> Process {
    let mut server = Command::new(tool("bao"));
    server.args([
        "server",
        "-dev",
        "-dev-no-store-token",
        &format!("-dev-root-token-id={ROOT_TOKEN}"),
    ]);
    server.arg(format!("-dev-listen-address=127.0.0.1:{port}"));
    Process::spawn(&mut server)
}
