//! Accounts: this program, started as a platform with the module and routes that do nothing but ask who calls.

mod changes;
mod checks;
mod many;
mod sign_ins;

use std::{
    path::Path,
    process::{Command, ExitCode},
    time::{Duration, Instant},
};

use dotmac_platform::{Platform, permissions, prelude::*};
use reqwest::{Client, Method};
use serde_json::{Value, json};

use crate::{
    process::Measured,
    report::Report,
    support::{self, Postgres},
};

/// Variable that turns this program into the platform.
pub const ASKED: &str = "ACCOUNTS_SERVER";
const USERS: usize = 20;
pub const ADMIN: &str = "admin@example.com";
const PASSWORD: &str = "seven green boxes in a row";
const MASTER_KEY: &str = "AQIDBAUGBwgJCgsMDQ4PEBESExQVFhcYGRobHB0eHyA=";

/// The name of the permission below.
const USED: &str = "routed.things.use";

permissions! {
    /// Use the third route.
    Used = "routed.things.use";
}

/// Routes that are alike but for their guard.
struct Routed;

impl Module for Routed {
    const NAME: &'static str = "routed";
    type Settings = NoSettings;

    fn manifest() -> Manifest {
        Manifest::new("Answers, to measure how soon.").permissions(PERMISSIONS)
    }

    fn mount(_: NoSettings, on: &mut Mount<'_>) -> Result<(), MountError> {
        on.routes("/routed", |routes| {
            routes.get("/public", public).summary("For everybody");
            routes
                .get("/own", own)
                .summary("For those who are signed in");
            routes.get("/used", used).summary("For those who may");
        });
        Ok(())
    }
}

async fn public(_: Public) -> Json<bool> {
    Json(true)
}

async fn own(_: Authenticated) -> Json<bool> {
    Json(true)
}

async fn used(_: Can<Used>) -> Json<bool> {
    Json(true)
}

pub fn asked_for() -> bool {
    std::env::var_os(ASKED).is_some()
}

pub fn serve() -> ExitCode {
    Platform::new("accounts", env!("CARGO_PKG_VERSION"))
        .module::<dotmac_accounts::Accounts>()
        .module::<Routed>()
        .main()
}

/// An instance, an administrator, and the database of both.
pub struct Bed {
    pub platform: Measured,
    pub client: Client,
    /// `None` with SQLite.
    server: Option<Postgres>,
    directory: tempfile::TempDir,
}

/// What all instances on a database have in common: on PostgreSQL, or on SQLite in the directory.
fn settings(server: Option<&Postgres>, directory: &Path) -> [(&'static str, String); 5] {
    let file = || format!("sqlite:{}", directory.join("accounts.db").display());
    [
        // It is in their tokens.
        (
            "DOTMAC_ACCOUNTS_PUBLIC_URL",
            "http://localhost:8000".to_owned(),
        ),
        (
            "DOTMAC_DATABASE_URL",
            server.map_or_else(file, Postgres::url),
        ),
        ("DOTMAC_APP_MASTER_KEY", MASTER_KEY.to_owned()),
        // Each sign-in comes from its own network.
        ("DOTMAC_HTTP_TRUSTED_PROXIES", "127.0.0.1".to_owned()),
        ("DOTMAC_ACCOUNTS_HASH_THREADS", "1".to_owned()),
    ]
}

impl Bed {
    async fn open(server: Option<Postgres>) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let settings = settings(server.as_ref(), directory.path());
        let platform = Measured::this_program(directory.path(), ASKED, &settings);
        platform.until("/ready");
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.env(ASKED, "yes").current_dir(directory.path());
        command.envs(settings.iter().map(|(key, value)| (key, value)));
        let made = command
            .args(["user", "create-admin", "--email", ADMIN, "--json"])
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&made.stdout);
        let line = text.lines().find(|line| line.contains("\"token\""));
        let line =
            line.unwrap_or_else(|| panic!("{text}{}", String::from_utf8_lossy(&made.stderr)));
        let made: Value = serde_json::from_str(line).unwrap();
        let bed = Self {
            platform,
            client: Client::builder().no_proxy().build().unwrap(),
            server,
            directory,
        };
        let reset = json!({ "token": made["token"], "password": PASSWORD });
        let reset = bed.post("/auth/password/reset", 0, reset).await;
        assert_eq!(reset.0, 204, "{reset:?}");
        bed
    }

    /// Another instance on the same database.
    fn another(&self) -> Measured {
        let settings = settings(self.server.as_ref(), self.directory.path());
        let other = Measured::this_program(self.directory.path(), ASKED, &settings);
        other.until("/ready");
        other
    }

    /// Sends a request as a client of the network `from`.
    pub async fn post(&self, path: &str, from: usize, body: Value) -> (u16, Value) {
        let url = format!("http://127.0.0.1:{}/api/v1{path}", self.platform.port);
        let network = format!("10.{}.{}.1", from / 256 % 256, from % 256);
        let request = self.client.post(url).header("x-forwarded-for", network);
        let answer = request.json(&body).send().await.unwrap();
        let status = answer.status().as_u16();
        (status, answer.json().await.unwrap_or_default())
    }

    /// Changes something as the holder of a token.
    async fn change(&self, method: Method, path: &str, token: &str, body: Value) -> (u16, Value) {
        let url = format!("http://127.0.0.1:{}/api/v1{path}", self.platform.port);
        let request = self.client.request(method, url).bearer_auth(token);
        let request = request.header("if-match", "*").json(&body);
        let answer = request.send().await.unwrap();
        let status = answer.status().as_u16();
        (status, answer.json().await.unwrap_or_default())
    }

    /// The session of the administrator, who signs in from the network `from`.
    async fn admin(&self, from: usize) -> Value {
        let (status, session) = self.sign_in(ADMIN, from).await;
        assert_eq!(status, 200, "{session}");
        session
    }

    /// Makes users, as the administrator with that token; their addresses.
    async fn users(&self, token: &str, count: usize) -> Vec<String> {
        let mut users = Vec::new();
        for number in 0..count {
            let email = format!("user{number}@example.com");
            let new = json!({ "email": email, "password": PASSWORD, "roles": ["member"] });
            support::eventually("a user", || async {
                let made = self
                    .change(Method::POST, "/users", token, new.clone())
                    .await;
                (made.0 == 201).then_some(())
            })
            .await;
            users.push(email);
        }
        users
    }

    pub async fn sign_in(&self, identifier: &str, from: usize) -> (u16, Value) {
        let body = json!({ "identifier": identifier, "password": PASSWORD, "mode": "token" });
        self.post("/auth/login", from, body).await
    }

    /// How long the route takes to answer a token.
    pub async fn asked(&self, token: &str) -> Duration {
        let url = format!("http://127.0.0.1:{}/api/v1/routed/own", self.platform.port);
        let began = Instant::now();
        let answer = self.client.get(url).bearer_auth(token).send().await;
        let took = began.elapsed();
        assert_eq!(answer.unwrap().status(), 200);
        took
    }

    /// Seconds for which the threads that hash have worked so far, and how many pieces of work that were.
    fn hashed(&self) -> (f64, f64) {
        let (_, text) = self.platform.get("/metrics").unwrap();
        let of = |what: &str| {
            let name = format!("dotmac_accounts_hash_duration_seconds_{what} ");
            let mut lines = text.lines();
            let value = lines.find_map(|line| line.strip_prefix(&name));
            value.map_or(0.0, |value| value.trim().parse().unwrap())
        };
        (of("sum"), of("count"))
    }
}

pub async fn measure(report: &mut Report) {
    let mut bed = Bed::open(Some(Postgres::start().await)).await;
    let token = of(&bed.admin(0).await, "access_token");
    checks::routes(report, &bed, &token);
    checks::checks(report, &bed).await;
    let users = bed.users(&token, USERS).await;
    changes::elsewhere(report, &bed, &token, &users[0]).await;
    sign_ins::sign_ins(report, &bed, &users).await;
    sign_ins::flood(report, &bed, &users).await;
    let session = bed.admin(2).await;
    many::measure(report, &bed, &token, session).await;
    changes::without_database(report, &mut bed).await;

    let bed = Bed::open(None).await;
    let token = of(&bed.admin(0).await, "access_token");
    let users = bed.users(&token, 1).await;
    changes::elsewhere(report, &bed, &token, &users[0]).await;
}

/// A text of an answer.
fn of(answer: &Value, field: &str) -> String {
    let text = answer[field].as_str();
    text.unwrap_or_else(|| panic!("no `{field}` in {answer}"))
        .to_owned()
}
