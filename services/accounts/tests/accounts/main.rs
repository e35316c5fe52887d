//! Accounts as clients, administrators and attackers meet them: the program on both back ends, two instances of it.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod abuse;
mod administration;
mod attacks;
mod browsers;
mod contract;
mod database;
mod escalation;
mod events;
mod factors;
mod grants;
mod keys;
mod lifetimes;
mod limits;
mod link_page;
mod lists;
mod locks;
mod mail;
mod makers;
mod notices;
mod passkey_refusals;
mod passkeys;
mod passwords;
mod races;
mod repeats;
mod rotation;
mod scale;
mod sessions;
mod sign_in;
mod start;
mod step_up;
mod timing;
mod tokens;
mod undo;

use std::{
    path::PathBuf,
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
};

use reqwest::{Method, Response};
use serde_json::{Value, json};

use dotmac_testkit::{Daemon, OpenBao, Postgres, daemon::Builder, openbao::ROOT_TOKEN};

/// 32 bytes, the same for all instances.
const MASTER_KEY: &str = "AQIDBAUGBwgJCgsMDQ4PEBESExQVFhcYGRobHB0eHyA=";
const SECRET_KEY: &str = "a-secret-of-at-least-32-characters-for-tests";

const ADMIN: &str = "admin@example.com";
const PASSWORD: &str = "seven green boxes in a row";

/// The program with accounts and nothing else.
fn program() -> Builder {
    // Hashing is on threads of low priority: a machine that is busy otherwise takes its time.
    Daemon::program(env!("CARGO_BIN_EXE_accounts").into())
        .env("DOTMAC_HTTP_REQUEST_TIMEOUT", "30s")
        .env("DOTMAC_SUPERVISION_START_TIMEOUT", "30s")
}

/// The same with a module that writes mails to a file.
fn mailing_program() -> Builder {
    Daemon::example("outbox")
        .env("DOTMAC_HTTP_REQUEST_TIMEOUT", "30s")
        .env("DOTMAC_SUPERVISION_START_TIMEOUT", "30s")
}

/// Instances of the program on one database, which has an administrator.
struct House {
    /// The first one makes changes, the others learn of them; unless they [take turns](House::in_turns).
    instances: Vec<Daemon>,
    /// The requests so far, if instances take turns.
    turn: Option<AtomicUsize>,
    url: String,
    settings: Vec<(&'static str, String)>,
    postgres: Option<Postgres>,
    directory: tempfile::TempDir,
    program: fn() -> Builder,
}

/// What a request was answered with.
#[derive(Debug)]
struct Answer {
    status: u16,
    body: Value,
    headers: reqwest::header::HeaderMap,
}

impl Answer {
    async fn of(response: Response) -> Self {
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let body = response.json().await.unwrap_or_default();
        Self {
            status,
            body,
            headers,
        }
    }

    fn code(&self) -> &str {
        self.body["code"].as_str().unwrap_or_default()
    }

    /// Status and code, for comparisons.
    fn short(&self) -> (u16, &str) {
        (self.status, self.code())
    }

    fn text(&self, field: &str) -> String {
        let text = self.body[field].as_str();
        text.unwrap_or_else(|| panic!("no `{field}` in {self:?}"))
            .to_owned()
    }
}

impl House {
    /// On SQLite.
    async fn on_sqlite(instances: usize, settings: &[(&'static str, &str)]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let url = format!("sqlite:{}", directory.path().join("house.db").display());
        Self::open(url, None, directory, instances, settings).await
    }

    /// On SQLite, with the program's keys in Vault.
    async fn with_vault(bao: &OpenBao) -> Self {
        let address = bao.address();
        let vault = [
            ("DOTMAC_VAULT_ADDR", address.as_str()),
            ("DOTMAC_VAULT_TOKEN", ROOT_TOKEN),
        ];
        Self::on_sqlite(1, &vault).await
    }

    /// On PostgreSQL.
    async fn on_postgres(instances: usize, settings: &[(&'static str, &str)]) -> Self {
        let (postgres, directory) = (Postgres::start().await, tempfile::tempdir().unwrap());
        let url = postgres.url();
        Self::open(url, Some(postgres), directory, instances, settings).await
    }

    async fn open(
        url: String,
        postgres: Option<Postgres>,
        directory: tempfile::TempDir,
        instances: usize,
        settings: &[(&'static str, &str)],
    ) -> Self {
        let settings = settings
            .iter()
            .map(|(key, value)| (*key, (*value).to_owned()));
        let mut house = Self {
            instances: Vec::new(),
            turn: None,
            url,
            settings: settings.collect(),
            postgres,
            directory,
            program,
        };
        house.spawn(instances).await;
        house
    }

    async fn spawn(&mut self, instances: usize) {
        for _ in 0..instances {
            let daemon = self.builder().spawn().await;
            daemon.until("/ready", 200).await;
            self.instances.push(daemon);
        }
    }

    /// With one more instance; from now on each request goes to the next one.
    async fn in_turns(mut self) -> Self {
        self.spawn(1).await;
        self.turn = Some(AtomicUsize::new(0));
        self
    }

    /// A house on each back end whose mails are in a file, which has an administrator.
    async fn with_mail(settings: &[(&'static str, &str)], test: impl AsyncFn(Self)) {
        for mut house in [
            Self::on_sqlite(0, settings).await,
            Self::on_postgres(0, settings).await,
        ] {
            let outbox = house.outbox().display().to_string();
            house.settings.push(("DOTMAC_OUTBOX_PATH", outbox));
            house.program = mailing_program;
            house.spawn(1).await;
            house.administrator().await;
            test(house).await;
        }
    }

    fn outbox(&self) -> PathBuf {
        self.directory.path().join("outbox.ndjson")
    }

    /// The mails so far, the newest last.
    fn mails(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(self.outbox()).unwrap_or_default();
        // The last one may be half written.
        let lines = text.split_inclusive('\n').filter(|it| it.ends_with('\n'));
        lines
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }

    /// The newest mail of that purpose to that address, once there are so many.
    async fn mail(&self, purpose: &str, to: &str, count: usize) -> Value {
        dotmac_testkit::eventually(&format!("{count} mails {purpose} to {to}"), || async {
            let mut mails = self.mails();
            mails.retain(|mail| mail["purpose"] == purpose && mail["to"] == to);
            (mails.len() == count).then(|| mails.pop())?
        })
        .await
    }

    /// A daemon, or a command, of this house.
    fn builder(&self) -> Builder {
        let builder = (self.program)()
            .env("DOTMAC_DATABASE_URL", &self.url)
            .env("DOTMAC_APP_MASTER_KEY", MASTER_KEY)
            .env("DOTMAC_APP_SECRET_KEY", SECRET_KEY);
        let settings = self.settings.iter();
        settings.fold(builder, |builder, (key, value)| builder.env(key, value))
    }

    /// What a command prints; it must succeed. While the database is not available, as on a machine that is too busy, it is
    /// tried again.
    async fn command(&self, arguments: &[&str]) -> String {
        let ended = dotmac_testkit::eventually("the command to reach the database", || async {
            let ended = self
                .builder()
                .run_in(self.directory.path(), arguments)
                .await;
            (ended.code != 69).then_some(ended)
        })
        .await;
        assert_eq!(ended.code, 0, "{arguments:?}: {}", ended.text());
        let lines = ended
            .lines
            .iter()
            .filter(|line| !line.starts_with("{\"timestamp"));
        lines.map(String::as_str).collect::<Vec<_>>().join("\n")
    }

    /// Makes the first administrator and sets the password; the token of the link.
    async fn administrator(&self) -> String {
        let printed = self
            .command(&["user", "create-admin", "--email", ADMIN, "--json"])
            .await;
        let line = printed
            .lines()
            .find(|line| line.contains("\"token\""))
            .unwrap();
        let made: Value = serde_json::from_str(line).unwrap();
        let token = made["token"].as_str().unwrap().to_owned();
        let reset = json!({ "token": token, "password": PASSWORD });
        let answer = self.post("/auth/password/reset", None, reset).await;
        assert_eq!(answer.status, 204, "{answer:?}");
        token
    }

    /// The session of the administrator, with tokens.
    async fn admin_session(&self) -> Answer {
        self.administrator().await;
        self.login(ADMIN, PASSWORD).await
    }

    async fn login(&self, identifier: &str, password: &str) -> Answer {
        let body = json!({ "identifier": identifier, "password": password, "mode": "token" });
        self.post("/auth/login", None, body).await
    }

    /// Fails to sign in until the next try has to wait for seconds.
    async fn lock(&self, identifier: &str) {
        loop {
            let answer = self
                .login(identifier, "a wrong password of some length")
                .await;
            let wait = answer
                .headers
                .get("retry-after")
                .and_then(|wait| wait.to_str().ok()?.parse().ok());
            let Some(wait): Option<u64> = wait else {
                assert_eq!(answer.short(), (401, "invalid_credentials"), "{answer:?}");
                continue;
            };
            assert_eq!(answer.short(), (429, "rate_limited"), "{answer:?}");
            if wait >= 4 {
                return;
            }
            tokio::time::sleep(std::time::Duration::from_secs(wait)).await;
        }
    }

    async fn get(&self, path: &str, token: Option<&str>) -> Answer {
        self.send(0, Method::GET, path, token, None, &[]).await
    }

    async fn post(&self, path: &str, token: Option<&str>, body: Value) -> Answer {
        self.send(0, Method::POST, path, token, Some(body), &[])
            .await
    }

    async fn post_owned(&self, path: String, token: &str, body: Value) -> Answer {
        self.post(&path, Some(token), body).await
    }

    /// Sends a request to one of the instances, or to the one whose turn it is.
    async fn send(
        &self,
        instance: usize,
        method: Method,
        path: &str,
        token: Option<&str>,
        body: Option<Value>,
        headers: &[(&str, &str)],
    ) -> Answer {
        let turn = self.turn.as_ref().map(|turn| turn.fetch_add(1, Relaxed));
        let instance = turn.map_or(instance, |turn| turn % self.instances.len());
        self.send_to(instance, method, path, token, body, headers)
            .await
    }

    async fn send_to(
        &self,
        instance: usize,
        method: Method,
        path: &str,
        token: Option<&str>,
        body: Option<Value>,
        headers: &[(&str, &str)],
    ) -> Answer {
        let daemon = &self.instances[instance];
        let path = if path.starts_with("/.") {
            path.to_owned()
        } else {
            format!("/api/v1{path}")
        };
        let mut request = daemon
            .client
            .request(method, format!("{}{path}", daemon.base));
        if let Some(token) = token {
            request = request.bearer_auth(token);
        }
        if let Some(body) = body {
            request = request.json(&body);
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        Answer::of(request.send().await.unwrap()).await
    }

    /// Asks `instance` who calls until it refuses the token; what it says then.
    async fn until_refused(&self, instance: usize, token: &str) -> Answer {
        dotmac_testkit::eventually("the token to be refused", || async {
            let answer = self
                .send_to(instance, Method::GET, "/auth/me", Some(token), None, &[])
                .await;
            (answer.status != 200).then_some(answer)
        })
        .await
    }

    /// What the token is refused with: at once by the instance that ended it, in a moment by all if they take turns.
    async fn refused(&self, token: &str) -> Answer {
        if self.turn.is_some() {
            for instance in 0..self.instances.len() {
                self.until_refused(instance, token).await;
            }
        }
        self.get("/auth/me", Some(token)).await
    }

    /// A user of the tenant with roles and a password, signed in.
    async fn user(&self, admin: &str, email: &str, roles: &[&str]) -> (String, Answer) {
        let new = json!({ "email": email, "password": PASSWORD, "roles": roles });
        let made = self.post("/users", Some(admin), new).await;
        assert_eq!(made.status, 201, "{made:?}");
        let session = self.login(email, PASSWORD).await;
        assert_eq!(session.status, 200, "{session:?}");
        (made.text("id"), session)
    }

    /// A house on each back end.
    async fn on_both(test: impl AsyncFn(Self)) {
        test(Self::on_sqlite(1, &[]).await).await;
        test(Self::on_postgres(1, &[]).await).await;
    }
}
