//! Accounts: what an authenticated route costs against a public one, what it costs to check a token for the first time and again,
//! how soon another instance goes by the end of a session or a change of roles, whether sign-ins are bound by the hash alone, what a flood of them
//! does to `/health`, and what a million sessions do to queries. This program, started as a platform with the module and two routes
//! that do nothing.

use std::{
    collections::BTreeMap,
    process::{Command, ExitCode},
    time::{Duration, Instant},
};

use aws_lc_rs::{
    rand::SystemRandom,
    signature::{
        ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _,
        UnparsedPublicKey,
    },
};
use dotmac_platform::{Platform, permissions, prelude::*};
use futures_util::future::join_all;
use reqwest::{Client, Method};
use serde_json::{Value, json};

use crate::{
    many_accounts,
    process::Measured,
    report::{Report, median, ms, percentile, us},
    support::{self, Postgres, tool},
    throughput::{CONNECTIONS, p99, requests_a_second},
};

/// Variable that turns this program into the platform.
pub const ASKED: &str = "ACCOUNTS_SERVER";
const ROUNDS: usize = 5;
/// Access tokens of one session, each checked for the first time once; each takes two refreshes, of 60 a minute.
const TOKENS: usize = 25;
/// Sign-ins of one measurement, one after another on as many connections as there are threads that hash.
const SIGN_INS: usize = 200;
const USERS: usize = 20;
/// Sessions that end; and roles that are given or taken.
const ENDS: usize = 100;
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

pub struct Bed {
    pub platform: Measured,
    pub client: Client,
    pub server: Postgres,
    directory: tempfile::TempDir,
}

fn settings(server: &Postgres) -> [(&'static str, String); 5] {
    [
        // The same for both instances: it is in their tokens.
        (
            "DOTMAC_ACCOUNTS_PUBLIC_URL",
            "http://localhost:8000".to_owned(),
        ),
        ("DOTMAC_DATABASE_URL", server.url()),
        ("DOTMAC_APP_MASTER_KEY", MASTER_KEY.to_owned()),
        // Each sign-in comes from its own network.
        ("DOTMAC_HTTP_TRUSTED_PROXIES", "127.0.0.1".to_owned()),
        ("DOTMAC_ACCOUNTS_HASH_THREADS", "1".to_owned()),
    ]
}

impl Bed {
    async fn open() -> Self {
        let (server, directory) = (Postgres::start().await, tempfile::tempdir().unwrap());
        let settings = settings(&server);
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

/// Requests a second with a token, and without.
fn routes(report: &mut Report, bed: &Bed, token: &str) {
    let rate = |path: &str, header: Option<&str>| {
        let mut wrk = Command::new(tool("wrk"));
        if let Some(header) = header {
            wrk.args(["-H", header]);
        }
        requests_a_second(wrk, CONNECTIONS, bed.platform.port, path)
    };
    let header = format!("authorization: Bearer {token}");
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        theirs.push(rate("/api/v1/routed/public", None));
        ours.push(rate("/api/v1/routed/own", Some(&header)));
    }
    let (ours, theirs) = (median(&mut ours), median(&mut theirs));
    report.row(
        "authenticated route, the same token again and again, 64 connections",
        "at least 0.9 of a public route",
        format!("{:.2} of it ({ours:.0}/s)", ours / theirs),
        format!("public route, same answer: {theirs:.0}/s"),
        ours >= 0.9 * theirs,
    );
    let added = 1_000_000.0 / ours - 1_000_000.0 / theirs;
    report.row(
        "check of a token that was checked before",
        "under 2 µs a request",
        format!("{added:.1} µs more of the machine a request"),
        format!("public route: {:.1} µs", 1_000_000.0 / theirs),
        added < 2.0,
    );
}

/// The extra time of the first check of a token: not of the first one of its generation, which is written down.
async fn checks(report: &mut Report, bed: &Bed) {
    let (status, session) = bed.sign_in(ADMIN, 1).await;
    assert_eq!(status, 200, "{session}");
    let mut session = session;
    let mut tokens = Vec::new();
    for number in 0..TOKENS {
        let body = json!({ "refresh_token": session["refresh_token"] });
        let (status, first) = bed.post("/auth/refresh", 2 * number, body.clone()).await;
        assert_eq!(status, 200, "{first}");
        let (status, again) = bed.post("/auth/refresh", 2 * number + 1, body).await;
        assert_eq!(status, 200, "{again}");
        let [seen, token] = [&first, &again].map(|it| it["access_token"].as_str().unwrap());
        assert_ne!(seen, token, "a second token of the generation");
        bed.asked(seen).await;
        tokens.push(token.to_owned());
        session = again;
    }
    let signature = Signature::new();
    let mut alone = Vec::new();
    // Of the server's time on the processor: how soon a process is woken is another matter.
    let spent = async |alone: &mut Vec<Duration>| {
        let before = bed.platform.cpu_time();
        for token in &tokens {
            bed.asked(token).await;
            // After a request, as for the server: the caches of the machine have something else.
            alone.push(signature.verified());
        }
        (bed.platform.cpu_time() - before) / TOKENS as u32
    };
    let (cold, warm) = (spent(&mut alone).await, spent(&mut alone).await);
    let alone = percentile(&mut alone, 0.5);
    let added = cold.saturating_sub(warm);
    report.row(
        "first check of a token, its session known",
        "at most 15 µs more than to verify an ES256 signature",
        format!("{} of a core", us(added)),
        format!(
            "one signature, after a request as well: {}; again and again: {}",
            us(alone),
            us(signature.again_and_again())
        ),
        added < alone + Duration::from_micros(15),
    );
}

/// The signature of a token of a usual length.
struct Signature {
    public: UnparsedPublicKey<Vec<u8>>,
    bytes: Vec<u8>,
}

impl Signature {
    const MESSAGE: [u8; 600] = [b'x'; 600];

    fn new() -> Self {
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
        let signature = pair.sign(&SystemRandom::new(), &Self::MESSAGE).unwrap();
        let public = pair.public_key().as_ref().to_vec();
        Self {
            public: UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, public),
            bytes: signature.as_ref().to_vec(),
        }
    }

    /// How long it takes to verify it.
    fn verified(&self) -> Duration {
        let began = Instant::now();
        self.public.verify(&Self::MESSAGE, &self.bytes).unwrap();
        began.elapsed()
    }

    fn again_and_again(&self) -> Duration {
        const TIMES: u32 = 1000;
        (0..TIMES).map(|_| self.verified()).sum::<Duration>() / TIMES
    }
}

/// How long after the answer to a change on one instance another instance goes by it: a sign-out, and a role that is given and
/// taken.
async fn changes(report: &mut Report, bed: &Bed, admin: &str, user: &str) {
    let settings = settings(&bed.server);
    let other = Measured::this_program(bed.directory.path(), ASKED, &settings);
    other.until("/ready");
    let there = async |path: &str, token: &str| {
        let url = format!("http://127.0.0.1:{}/api/v1/routed/{path}", other.port);
        let answer = bed.client.get(url).bearer_auth(token).send().await;
        answer.unwrap().status().as_u16()
    };
    let (mut ends, mut requests) = (Vec::new(), Vec::new());
    for number in 0..ENDS {
        let (status, session) = bed.sign_in(ADMIN, 3000 + number).await;
        assert_eq!(status, 200, "{session}");
        let token = session["access_token"].as_str().unwrap();
        assert_eq!(there("own", token).await, 200);
        let began = Instant::now();
        assert_eq!(there("own", token).await, 200);
        requests.push(began.elapsed());
        let out = bed.change(Method::POST, "/auth/logout", token, json!({}));
        assert_eq!(out.await.0, 204);
        let began = Instant::now();
        while there("own", token).await == 200 {}
        ends.push(began.elapsed());
    }

    let (status, session) = bed.sign_in(user, 4000).await;
    assert_eq!(status, 200, "{session}");
    let token = session["access_token"].as_str().unwrap();
    let role = json!({ "name": "thing_user", "permissions": [USED] });
    let (status, role) = bed.change(Method::POST, "/roles", admin, role).await;
    assert_eq!(status, 201, "{role}");
    let mut roles = Vec::new();
    for _ in 0..ENDS / 2 {
        let binding = json!({ "principal": session["user"]["id"], "role": role["id"] });
        let given = bed.change(Method::POST, "/role-bindings", admin, binding);
        let (status, given) = given.await;
        assert_eq!(status, 201, "{given}");
        let began = Instant::now();
        while there("used", token).await != 200 {}
        roles.push(began.elapsed());
        let path = format!("/role-bindings/{}", given["id"].as_str().unwrap());
        let taken = bed.change(Method::DELETE, &path, admin, json!({})).await;
        assert_eq!(taken.0, 204, "{taken:?}");
        let began = Instant::now();
        while there("used", token).await == 200 {}
        roles.push(began.elapsed());
    }
    let request = percentile(&mut requests, 0.5);
    for (what, times) in [
        (
            "a session that ended on one instance is refused by another, PostgreSQL",
            &mut ends,
        ),
        (
            "a role that is given or taken on one instance counts on another, PostgreSQL",
            &mut roles,
        ),
    ] {
        let (middle, last) = (percentile(times, 0.5), percentile(times, 0.99));
        report.row(
            what,
            "p99 under 50 ms",
            format!("p50 {}, p99 {}", ms(middle), ms(last)),
            format!("a request there: {}", us(request)),
            last < Duration::from_millis(50),
        );
    }
}

/// Sign-ins one after another, and for how much of that time a hash was computed.
async fn sign_ins(report: &mut Report, bed: &Bed, users: &[String]) {
    let (before, _) = bed.hashed();
    let began = Instant::now();
    // Two at a time: one is hashed while the other one's session is written.
    let turns = join_all((0..2).map(|turn| async move {
        for number in (turn..SIGN_INS).step_by(2) {
            let (status, answer) = bed.sign_in(&users[number % users.len()], number).await;
            assert_eq!(status, 200, "{answer}");
        }
    }));
    turns.await;
    let took = began.elapsed().as_secs_f64();
    let hashing = bed.hashed().0 - before;
    report.row(
        "sign-ins, two at a time, one thread that hashes",
        "a hash is computed for at least 0.9 of the time",
        format!(
            "{:.2} of it, {:.0} sign-ins/s",
            hashing / took,
            SIGN_INS as f64 / took
        ),
        format!("a hash: {:.1} ms", hashing * 1000.0 / SIGN_INS as f64),
        hashing >= 0.9 * took,
    );
}

/// Clients that send a request at once, each second.
const FLOOD: usize = 200;

/// The 99th of a hundred of `/health` while clients send a request at once, again and again; and how many answers had each status.
async fn flooded(
    bed: &Bed,
    request: impl AsyncFn(usize) -> u16,
) -> (Duration, BTreeMap<u16, usize>) {
    let flooding = async {
        let mut statuses = BTreeMap::new();
        let until = Instant::now() + Duration::from_secs(5);
        let mut from = 1000;
        while Instant::now() < until {
            let next = tokio::time::sleep(Duration::from_secs(1));
            for status in join_all((0..FLOOD).map(|number| request(from + number))).await {
                *statuses.entry(status).or_default() += 1;
            }
            from += FLOOD;
            next.await;
        }
        statuses
    };
    let measuring = async {
        tokio::time::sleep(Duration::from_millis(500)).await;
        p99(bed.platform.port).await
    };
    let (statuses, p99) = tokio::join!(flooding, measuring);
    (p99, statuses)
}

/// `/health` while 200 clients sign in at once, again and again: against as many whose requests are refused before a password
/// is hashed, while another process computes at the niceness of the threads that hash. What is left is what sign-ins cost the
/// threads of HTTP.
async fn flood(report: &mut Report, bed: &Bed, users: &[String]) {
    let alone = p99(bed.platform.port).await;
    let none = json!({ "identifier": "", "password": PASSWORD, "mode": "token" });
    let mut other = Command::new("nice")
        .args(["-n", "10", "sh", "-c", "while :; do :; done"])
        .spawn()
        .unwrap();
    let (refused, _) = flooded(bed, async |from| {
        bed.post("/auth/login", from, none.clone()).await.0
    })
    .await;
    other.kill().unwrap();
    other.wait().unwrap();
    let (signing_in, statuses) = flooded(bed, async |from| {
        bed.sign_in(&users[from % users.len()], from).await.0
    })
    .await;
    report.row(
        "p99 of /health while 200 clients sign in at once",
        "at most 2 ms more than while as many are refused and another process computes",
        format!("{} (answers: {statuses:?})", ms(signing_in)),
        format!("refused: {}; nothing at all: {}", ms(refused), ms(alone)),
        signing_in < refused + Duration::from_millis(2),
    );
}

pub async fn measure(report: &mut Report) {
    let bed = Bed::open().await;
    let (status, admin) = bed.sign_in(ADMIN, 0).await;
    assert_eq!(status, 200, "{admin}");
    let token = admin["access_token"].as_str().unwrap().to_owned();
    routes(report, &bed, &token);
    checks(report, &bed).await;
    let mut users = Vec::new();
    for number in 0..USERS {
        let email = format!("user{number}@example.com");
        let new = json!({ "email": email, "password": PASSWORD, "roles": ["member"] });
        let url = format!("http://127.0.0.1:{}/api/v1/users", bed.platform.port);
        support::eventually("a user", || async {
            let request = bed.client.post(&url).bearer_auth(&token).json(&new);
            let answer = request.send().await.unwrap();
            (answer.status() == 201).then_some(())
        })
        .await;
        users.push(email);
    }
    changes(report, &bed, &token, &users[0]).await;
    sign_ins(report, &bed, &users).await;
    flood(report, &bed, &users).await;
    let (status, session) = bed.sign_in(ADMIN, 2).await;
    assert_eq!(status, 200, "{session}");
    many_accounts::measure(report, &bed, &token, session).await;
}
