//! An OpenBao server of a test's own, in development mode: unsealed, in memory, token `root-token`.

use std::{collections::BTreeSet, path::Path, process::Command};

use serde_json::{Value, json};

use super::{Postgres, eventually, free_port, process::Process, repository, tool};

/// The token that may do everything on each server of this module.
pub const ROOT_TOKEN: &str = "root-token";

/// A running server. Killed when dropped.
pub struct OpenBao {
    process: Process,
    /// Where it listens, on the loopback interface.
    pub port: u16,
    client: reqwest::Client,
    directory: tempfile::TempDir,
    /// The unseal key of a server with storage on disk; one in development mode is never sealed.
    key: Option<String>,
}

impl OpenBao {
    /// A server in development mode, once it answers.
    pub async fn start() -> Self {
        let port = free_port();
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        let directory = tempfile::tempdir().unwrap();
        let server = Self {
            process: launch(port, directory.path()),
            port,
            client,
            directory,
            key: None,
        };
        server.answers().await;
        server
    }

    /// A server that keeps what it holds on disk, and holds nothing yet.
    pub async fn uninitialised() -> Self {
        let port = free_port();
        let directory = tempfile::tempdir().unwrap();
        let server = Self {
            process: launch_durable(port, directory.path()),
            port,
            client: reqwest::Client::builder().no_proxy().build().unwrap(),
            directory,
            key: None,
        };
        server.listens().await;
        server
    }

    /// Another node of the cluster that `active`, which is durable, is the active node of.
    pub async fn standby_of(active: &Self) -> Self {
        let server = Self::uninitialised().await;
        let join = json!({ "leader_api_addr": active.address() });
        server
            .call_as("", reqwest::Method::PUT, "sys/storage/raft/join", join)
            .await;
        server.unseal(&active.unseal_key()).await;
        eventually("the node to be a standby", || async {
            let url = format!("{}/v1/sys/health", server.address());
            let health = server.client.get(url).send().await.ok()?;
            (health.status() == 429).then_some(())
        })
        .await;
        server
    }

    /// A server that keeps what it holds on disk: after a crash it is sealed, and else as it was.
    pub async fn durable() -> Self {
        let mut server = Self::uninitialised().await;
        let shares = json!({ "secret_shares": 1, "secret_threshold": 1 });
        let made = server
            .call_as("", reqwest::Method::PUT, "sys/init", shares)
            .await;
        let key = made["keys"][0].as_str().unwrap().to_owned();
        server.unseal(&key).await;
        server.key = Some(key);
        server.answers().await;
        let root = made["root_token"].as_str().unwrap();
        let token = json!({ "id": ROOT_TOKEN, "policies": ["root"] });
        server
            .call_as(root, reqwest::Method::POST, "auth/token/create", token)
            .await;
        server
    }

    async fn listens(&self) {
        eventually("OpenBao to listen", || async {
            let url = format!("{}/v1/sys/health", self.address());
            self.client.get(url).send().await.ok()
        })
        .await;
    }

    /// Its address, as `DOTMAC_VAULT_ADDR` wants it.
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
            if !answer.status().is_success() {
                return None;
            }
            // A new KV engine refuses all for a moment: "Upgrading from non-versioned to versioned data".
            let path = "secret/data/none";
            let read = self.send(ROOT_TOKEN, reqwest::Method::GET, path, Value::Null);
            (read.await.status() != 400).then_some(())
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

    /// Runs `deploy/openbao/set-up` against this server and `postgres`, with variables of its own such
    /// as `TTL`; the settings that it prints for the daemon.
    pub fn set_up(&self, postgres: &Postgres, variables: &[(&str, &str)]) -> Vec<(String, String)> {
        let script = repository().join("deploy/openbao/set-up");
        let output = Command::new(script)
            .env("BAO_ADDR", self.address())
            .env("BAO_TOKEN", ROOT_TOKEN)
            .env("HOME", self.directory.path())
            .env("BAO", tool("bao"))
            .env("PSQL", tool("psql"))
            .env("PGHOST", "127.0.0.1")
            .env("PGPORT", postgres.port.to_string())
            .env("PGUSER", "postgres")
            .env("PGPASSWORD", "postgres")
            .env("PGSSLMODE", "disable")
            .envs(variables.iter().copied())
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let complaints = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{text}{complaints}");
        let setting = |line: &str| {
            let (key, value) = line.trim().strip_prefix("export ")?.split_once('=')?;
            Some((key.to_owned(), value.to_owned()))
        };
        text.lines().filter_map(setting).collect()
    }

    /// The leases on users of the dynamic role that are alive.
    pub async fn leases(&self) -> usize {
        let path = "sys/leases/lookup/database/creds/dotmac";
        let list = reqwest::Method::from_bytes(b"LIST").unwrap();
        let answer = self.try_call(list, path, Value::Null).await;
        let keys = answer.as_ref().and_then(|it| it["data"]["keys"].as_array());
        keys.map_or(0, Vec::len)
    }

    /// Every secret that the server has handed out so far, tokens included, out of its audit log.
    pub fn handed_out(&self) -> BTreeSet<String> {
        let log = std::fs::read_to_string(self.directory.path().join("audit.log")).unwrap();
        let mut secrets = BTreeSet::new();
        for line in log.lines().filter_map(|it| serde_json::from_str(it).ok()) {
            collect(&line, &mut secrets);
        }
        secrets
    }

    /// Has the audit log show `traceparent`, as it came.
    pub async fn audit_traceparent(&self) {
        let path = "sys/config/auditing/request-headers/traceparent";
        self.call(reqwest::Method::POST, path, json!({ "hmac": false }))
            .await;
    }

    /// The trace contexts that requests to `path` have brought.
    pub fn traceparents(&self, path: &str) -> BTreeSet<String> {
        let log = std::fs::read_to_string(self.directory.path().join("audit.log")).unwrap();
        let lines = log
            .lines()
            .filter_map(|it| serde_json::from_str::<Value>(it).ok());
        lines
            .filter(|line| line["request"]["path"] == path)
            .filter_map(|line| {
                let sent = &line["request"]["headers"]["traceparent"][0];
                sent.as_str().map(str::to_owned)
            })
            .collect()
    }

    /// The leases on database users that were created, and those with a request for revocation.
    pub fn leases_by_fate(&self) -> (BTreeSet<String>, BTreeSet<String>) {
        let log = std::fs::read_to_string(self.directory.path().join("audit.log")).unwrap();
        let (mut issued, mut revoked) = (BTreeSet::new(), BTreeSet::new());
        for line in log
            .lines()
            .filter_map(|it| serde_json::from_str::<Value>(it).ok())
        {
            if line["type"] != "response" || line["error"].is_string() {
                continue;
            }
            let path = line["request"]["path"].as_str().unwrap_or_default();
            if let Some(lease) = line["response"]["secret"]["lease_id"].as_str()
                && path.starts_with("database/creds/")
            {
                issued.insert(lease.to_owned());
            }
            if let Some(lease) = line["request"]["data"]["lease_id"].as_str()
                && path == "sys/leases/revoke"
            {
                revoked.insert(lease.to_owned());
            }
        }
        (issued, revoked)
    }

    /// Unseals it.
    pub async fn unseal(&self, key: &str) {
        self.call(reqwest::Method::PUT, "sys/unseal", json!({ "key": key }))
            .await;
    }

    /// The unseal key; a dev server prints it.
    pub fn unseal_key(&self) -> String {
        if let Some(key) = &self.key {
            return key.clone();
        }
        let lines = self.process.lines();
        let key = lines.iter().find_map(|it| it.strip_prefix("Unseal Key: "));
        key.unwrap().trim().to_owned()
    }

    /// Seals it: it answers every request with 503 until it is unsealed.
    pub async fn seal(&self) {
        self.call(reqwest::Method::PUT, "sys/seal", Value::Null)
            .await;
    }

    /// Ends the leases below `prefix`, as an administrator does: their holders are not notified.
    pub async fn revoke(&self, prefix: &str) {
        let path = format!("sys/leases/revoke-prefix/{prefix}");
        let body = json!({ "sync": true });
        self.call(reqwest::Method::PUT, &path, body).await;
    }

    /// The token of a response that wraps another secret id of the role that `set_up` makes.
    pub fn wrapped_secret_id(&self) -> String {
        let output = Command::new(tool("bao"))
            .env("BAO_ADDR", self.address())
            .env("BAO_TOKEN", ROOT_TOKEN)
            .env("HOME", self.directory.path())
            .args(["write", "-force", "-wrap-ttl=60s", "-field=wrapping_token"])
            .arg("auth/approle/role/dotmac/secret-id")
            .output()
            .unwrap();
        let complaints = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{complaints}");
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    /// Has `role` of the JWT method log in, for tokens of `ttl` at most with `policy`; what issues JWTs that
    /// it takes. The issuer is the server's own identity engine.
    pub async fn jwt_issuer(
        &self,
        role: &str,
        policy: &str,
        ttl: &str,
    ) -> impl AsyncFn() -> String {
        use reqwest::Method;
        let enabled = async |method: &str| {
            let body = json!({ "type": method });
            self.call(Method::POST, &format!("sys/auth/{method}"), body)
                .await;
        };
        enabled("userpass").await;
        enabled("jwt").await;
        let issuing = json!({ "key": "default", "client_id": "dotmac" });
        let may_ask = r#"path "identity/oidc/token/*" { capabilities = ["read"] }"#;
        let keys = format!("{}/v1/identity/oidc/.well-known/keys", self.address());
        let taking = json!({
            "role_type": "jwt", "bound_audiences": ["dotmac"], "user_claim": "sub",
            "token_policies": [policy], "token_ttl": ttl, "token_max_ttl": ttl,
        });
        let user = json!({ "password": "a user's", "token_policies": ["issuer"] });
        for (path, body) in [
            (
                "identity/oidc/key/default",
                json!({ "allowed_client_ids": ["*"] }),
            ),
            ("identity/oidc/role/dotmac", issuing),
            ("sys/policies/acl/issuer", json!({ "policy": may_ask })),
            ("auth/userpass/users/dotmac", user),
            ("auth/jwt/config", json!({ "jwks_url": keys })),
            (&format!("auth/jwt/role/{role}"), taking),
        ] {
            self.call(Method::POST, path, body).await;
        }
        let login = json!({ "password": "a user's" });
        let path = "auth/userpass/login/dotmac";
        let login = self.call_as("", Method::POST, path, login).await;
        let user = login["auth"]["client_token"].as_str().unwrap().to_owned();
        async move || {
            let path = "identity/oidc/token/dotmac";
            let issued = self.call_as(&user, Method::GET, path, Value::Null).await;
            issued["data"]["token"].as_str().unwrap().to_owned()
        }
    }

    /// One call of its API as root.
    pub async fn call(&self, method: reqwest::Method, path: &str, body: Value) -> Value {
        self.call_as(ROOT_TOKEN, method, path, body).await
    }

    async fn call_as(
        &self,
        token: &str,
        method: reqwest::Method,
        path: &str,
        body: Value,
    ) -> Value {
        let answer = self.send(token, method, path, body).await;
        assert!(
            answer.status().is_success(),
            "{path}: {:?}",
            answer.text().await
        );
        answer.json().await.unwrap_or(Value::Null)
    }

    /// The same where no may be the answer.
    pub async fn try_call(
        &self,
        method: reqwest::Method,
        path: &str,
        body: Value,
    ) -> Option<Value> {
        let answer = self.send(ROOT_TOKEN, method, path, body).await;
        match answer.status().is_success() {
            true => answer.json().await.ok(),
            false => None,
        }
    }

    async fn send(
        &self,
        token: &str,
        method: reqwest::Method,
        path: &str,
        body: Value,
    ) -> reqwest::Response {
        let request = self
            .client
            .request(method, format!("{}/v1/{path}", self.address()));
        let request = request.header("X-Vault-Token", token).json(&body);
        request.send().await.unwrap()
    }

    /// Kills it, as a crash would.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// Starts it again on the same port. What it held is gone, unless it is durable: then it is sealed.
    pub async fn restart(&mut self) {
        if self.key.is_some() {
            self.process = launch_durable(self.port, self.directory.path());
            return self.listens().await;
        }
        self.process = launch(self.port, self.directory.path());
        self.answers().await;
    }

    /// Stops its process (SIGSTOP) until [`thaw`](Self::thaw): connections are taken, and nothing is answered.
    pub fn freeze(&self) {
        self.process.signal("STOP");
    }

    /// Lets a frozen process run on.
    pub fn thaw(&self) {
        self.process.signal("CONT");
    }
}

/// Strings of an audit log that open something: values of these names, at any depth.
fn collect(value: &Value, secrets: &mut BTreeSet<String>) {
    const NAMES: [&str; 6] = [
        "client_token",
        "jwt",
        "password",
        "secret_id",
        "token",
        "value",
    ];
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                match value {
                    Value::String(text) if NAMES.contains(&name.as_str()) && text.len() > 6 => {
                        secrets.insert(text.clone());
                    }
                    _ => collect(value, secrets),
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|it| collect(it, secrets)),
        _ => {}
    }
}

fn launch(port: u16, directory: &Path) -> Process {
    // Everything it answers, in clear: what it has handed out must be found nowhere else.
    let audit = directory.join("audit.hcl");
    let log = directory.join("audit.log");
    let device = format!(
        "audit \"file\" \"raw\" {{\n options {{ file_path = \"{}\"\n log_raw = \"true\" }}\n}}\n",
        log.display()
    );
    std::fs::write(&audit, device).unwrap();
    let mut server = Command::new(tool("bao"));
    server.args([
        "server",
        "-dev",
        "-dev-no-store-token",
        &format!("-dev-root-token-id={ROOT_TOKEN}"),
    ]);
    server.arg(format!("-dev-listen-address=127.0.0.1:{port}"));
    server.arg(format!("-config={}", audit.display()));
    Process::spawn(&mut server)
}

fn launch_durable(port: u16, directory: &Path) -> Process {
    let config = directory.join("server.hcl");
    let data = directory.join("data");
    std::fs::create_dir_all(&data).unwrap();
    let cluster = free_port();
    let text = format!(
        r#"
        storage "raft" {{
          path    = "{}"
          node_id = "{port}"
        }}
        listener "tcp" {{
          address         = "127.0.0.1:{port}"
          cluster_address = "127.0.0.1:{cluster}"
          tls_disable     = true
        }}
        api_addr     = "http://127.0.0.1:{port}"
        cluster_addr = "http://127.0.0.1:{cluster}"
        "#,
        data.display()
    );
    std::fs::write(&config, text).unwrap();
    let mut server = Command::new(tool("bao"));
    server
        .arg("server")
        .arg(format!("-config={}", config.display()))
        .env("HOME", directory);
    Process::spawn(&mut server)
}
