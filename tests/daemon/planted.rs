//! No credential of accounts is in anything that the daemon emits or stores: passwords, tokens, cookies, keys, links, codes and
//! secrets of apps, used rightly and wrongly, at the most talkative level.

use std::{cell::RefCell, collections::BTreeMap};

use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};

use crate::{
    support::{
        Daemon, Postgres, collector::Collector, daemon::Builder, eventually, leaks::Emitted, sqlite,
    },
    totp::{code, within_a_step},
};

const ADMIN: &str = "admin@example.com";
const PASSWORD: &str = "seven planted boxes in a row";
const OTHER_PASSWORD: &str = "eight planted doors on a hill";
const WRONG_PASSWORD: &str = "nine planted trees that are wrong";

/// In no secret, and in all that is searched.
const CANARY: &str = "a-canary-5d1f0b7e9c";

fn daemon(url: &str) -> Builder {
    Daemon::builder()
        .env("DOTMAC_DATABASE_URL", url)
        .env(
            "DOTMAC_APP_MASTER_KEY",
            "AQIDBAUGBwgJCgsMDQ4PEBESExQVFhcYGRobHB0eHyA=",
        )
        .env("DOTMAC_HTTP_REQUEST_TIMEOUT", "30s")
}

/// A client that keeps the secrets that it is given, and the refusals.
struct Client<'d> {
    daemon: &'d Daemon,
    /// With their names, for the report of a leak.
    secrets: RefCell<BTreeMap<String, String>>,
    refusals: RefCell<String>,
}

impl Client<'_> {
    /// Keeps a secret, without what may be shown of it: its prefix, the public part of one that has two, what a token says.
    fn plant(&self, name: &str, secret: &str) -> String {
        let hidden = match secret.get(..4) {
            Some("dmk_" | "dmp_" | "dmo_" | "dmf_") => &secret[16..],
            Some("dms_" | "dmr_" | "dmd_" | "dmb_") => &secret[4..],
            Some("eyJ0" | "eyJh") => secret.rsplit('.').next().unwrap(),
            _ => secret,
        };
        let mut secrets = self.secrets.borrow_mut();
        secrets.insert(hidden.to_owned(), name.to_owned());
        secret.to_owned()
    }

    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let url = format!("{}/api/v1{path}", self.daemon.base);
        self.daemon.client.request(method, url)
    }

    /// Sends it, keeps what it was refused with, and plants each cookie that is set.
    async fn send(&self, request: RequestBuilder) -> (u16, Value) {
        let answer = request.send().await.unwrap();
        let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
        for line in headers.get_all("set-cookie") {
            let cookie = line.to_str().unwrap().split(';').next().unwrap();
            let (name, value) = cookie.split_once('=').unwrap();
            if !value.is_empty() {
                self.plant(name, value);
            }
        }
        let path = answer.url().path().to_owned();
        let body = answer.text().await.unwrap();
        if status >= 400 {
            *self.refusals.borrow_mut() += &format!("{path}\n{headers:?}\n{body}\n");
        }
        (status, serde_json::from_str(&body).unwrap_or_default())
    }

    async fn post(&self, path: &str, token: Option<&str>, body: Value) -> (u16, Value) {
        let request = self.request(Method::POST, path).json(&body);
        let request = token
            .into_iter()
            .fold(request, |request, token| request.bearer_auth(token));
        self.send(request).await
    }

    /// Posts what must be taken; what it gives, with each of `secrets` planted.
    async fn done(&self, path: &str, token: Option<&str>, body: Value, secrets: &[&str]) -> Value {
        let (status, answer) = self.post(path, token, body).await;
        assert!(status < 300, "{path}: {status} {answer}");
        for secret in secrets {
            self.plant(secret, answer[secret].as_str().unwrap());
        }
        answer
    }

    /// The link of the mail for that purpose and its code, both planted.
    async fn mail(&self, token: &str, purpose: &str) -> (String, String) {
        let text = eventually("the mail to be held", || async {
            let outbox = self.request(Method::GET, "/notifications/outbox");
            let (_, held) = self.send(outbox.bearer_auth(token)).await;
            let mut mails = held["items"].as_array()?.iter();
            let mail = mails.find(|mail| mail["purpose"] == purpose)?;
            mail["text"].as_str().map(str::to_owned)
        })
        .await;
        let link = text.split("#token=").nth(1).unwrap_or_default();
        let link = link.split_whitespace().next().unwrap_or_default();
        let code = text.split("Code: ").nth(1).unwrap();
        let code = code.split_whitespace().next().unwrap();
        if !link.is_empty() {
            self.plant("link", link);
        }
        (link.to_owned(), self.plant("code", code))
    }

    /// Sends each secret as a value where it does not belong; all of it is refused. Names of fields are in answers, as sent.
    async fn misuse(&self, admin: &str) {
        let secrets: Vec<String> = self.secrets.borrow().keys().cloned().collect();
        for secret in secrets {
            let misplaced = [
                self.request(Method::GET, "/auth/me").bearer_auth(&secret),
                self.request(Method::GET, "/auth/me")
                    .header("x-api-key", &secret),
                self.request(Method::GET, "/auth/me")
                    .header("cookie", format!("dotmac_session={secret}")),
                self.request(Method::GET, &format!("/auth/me?token={secret}"))
                    .bearer_auth(admin),
                self.request(Method::POST, "/roles")
                    .bearer_auth(admin)
                    .json(&json!({ "name": [secret] })),
                self.request(Method::POST, "/auth/refresh")
                    .json(&json!({ "refresh_token": { "a": secret } })),
                self.request(Method::POST, "/auth/email/undo")
                    .header("content-type", "application/json")
                    .body(format!("{{\"token\": \"{secret}\"")),
            ];
            for request in misplaced {
                let (status, answer) = self.send(request).await;
                assert!((400..500).contains(&status), "{status} {answer}");
            }
        }
    }
}

/// All kinds of credentials, each given by the daemon and used; a session of the end.
async fn use_credentials(client: &Client<'_>, link: &str) -> String {
    client.plant("first link", link);
    let login = |password: &str, mode: &str| json!({ "identifier": ADMIN, "password": password, "mode": mode });
    for (password, status) in [("short", 422), (WRONG_PASSWORD, 204)] {
        let reset = json!({ "token": link, "password": password });
        let answer = client.post("/auth/password/reset", None, reset).await;
        assert_eq!(answer.0, status, "{answer:?}");
    }
    let session = client
        .done("/auth/login", None, login(WRONG_PASSWORD, "token"), &[])
        .await;
    let change = json!({ "current": WRONG_PASSWORD, "new": PASSWORD });
    let token = session["access_token"].as_str();
    client
        .done("/auth/password/change", token, change, &[])
        .await;
    let wrong = client
        .post("/auth/login", None, login(WRONG_PASSWORD, "token"))
        .await;
    assert_eq!(wrong.0, 401, "{wrong:?}");
    client
        .done("/auth/login", None, login(PASSWORD, "cookie"), &[])
        .await;
    let tokens = ["access_token", "refresh_token"];
    let session = client
        .done("/auth/login", None, login(PASSWORD, "token"), &tokens)
        .await;
    let refresh = json!({ "refresh_token": session["refresh_token"] });
    let session = client.done("/auth/refresh", None, refresh, &tokens).await;
    let token = session["access_token"].as_str();

    let new = json!({ "name": "k", "scopes": ["accounts.users.read"] });
    let made = client.done("/api-keys", token, new, &["key"]).await;
    let rotate = format!("/api-keys/{}/rotate", made["id"].as_str().unwrap());
    let body = json!({ "overlap": "1h" });
    let rotated = client.done(&rotate, token, body, &["key"]).await;
    for key in [&made["key"], &rotated["key"]] {
        let request = client.request(Method::GET, "/users");
        let used = client.send(request.bearer_auth(key.as_str().unwrap()));
        assert_eq!(used.await.0, 200);
    }

    let ask = json!({ "email": ADMIN });
    for (path, purpose) in [
        ("/auth/magic-link", "accounts.sign_in"),
        ("/auth/code", "accounts.sign_in_code"),
        ("/auth/password/forgot", "accounts.password_reset"),
    ] {
        client.done(path, None, ask.clone(), &[]).await;
        let (link, code) = client.mail(token.unwrap(), purpose).await;
        let (path, body) = match path {
            "/auth/code" => (
                "/auth/code/confirm",
                json!({ "email": ADMIN, "code": code, "mode": "token" }),
            ),
            "/auth/magic-link" => (
                "/auth/magic-link/confirm",
                json!({ "token": link, "code": code, "mode": "token" }),
            ),
            _ => (
                "/auth/password/reset",
                json!({ "token": link, "code": code, "password": OTHER_PASSWORD }),
            ),
        };
        client.done(path, None, body, &[]).await;
    }

    let session = client
        .done("/auth/login", None, login(OTHER_PASSWORD, "token"), &tokens)
        .await;
    let token = session["access_token"].as_str();
    let path = "/auth/me/factors/totp";
    let begun = client.done(path, token, json!({}), &["secret"]).await;
    let secret = begun["secret"].as_str().unwrap();
    within_a_step().await;
    let first = json!({ "code": code(secret, -1) });
    let confirmed = client.done(path, token, first, &[]).await;
    for code in &confirmed["recovery_codes"].as_array().unwrap()[..2] {
        client.plant("recovery code", code.as_str().unwrap());
    }
    let waiting = client
        .done("/auth/login", None, login(OTHER_PASSWORD, "token"), &[])
        .await;
    let flow = client.plant("flow", waiting["mfa"]["flow"].as_str().unwrap());
    let verify = |code: &Value| json!({ "flow": flow, "method": "recovery_code", "code": code });
    let codes = &confirmed["recovery_codes"];
    let used = client
        .done("/auth/mfa/verify", None, verify(&codes[0]), &tokens)
        .await;
    let again = client
        .post("/auth/mfa/verify", None, verify(&codes[0]))
        .await;
    assert_eq!(again.0, 410, "{again:?}");
    used["access_token"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn no_credential_of_accounts_is_in_anything_emitted_or_stored_on_both_back_ends() {
    let postgres = Postgres::start().await;
    for url in ["sqlite:dotmac.db".to_owned(), postgres.url()] {
        let collector = Collector::start().await;
        let endpoint = collector.endpoint();
        let spawned = daemon(&url)
            .env("DOTMAC_TELEMETRY_LOG_LEVEL", "trace")
            .env("DOTMAC_TELEMETRY_OTLP_ENDPOINT", endpoint)
            .spawn()
            .await;
        spawned.until("/ready", 200).await;
        let command = ["user", "create-admin", "--email", ADMIN, "--json"];
        let made = daemon(&url).run_in(spawned.directory(), &command).await;
        let lines = made.lines.iter();
        let link = lines
            .filter_map(|line| serde_json::from_str::<Value>(line).ok())
            .find_map(|line| line["token"].as_str().map(str::to_owned))
            .unwrap();
        let client = Client {
            daemon: &spawned,
            secrets: RefCell::default(),
            refusals: RefCell::default(),
        };
        let admin = use_credentials(&client, &link).await;
        for password in [PASSWORD, OTHER_PASSWORD, WRONG_PASSWORD] {
            client.plant("password", password);
        }
        client.misuse(&admin).await;
        spawned.get(&format!("/nowhere/{CANARY}")).await;
        let metrics = spawned.get("/metrics").await.text().await.unwrap();
        let file = spawned.directory().join("dotmac.db");
        let dump = match url.starts_with("sqlite") {
            true => sqlite::dump(&file),
            false => postgres.dump().await,
        };
        let (secrets, refusals) = (client.secrets.take(), client.refusals.take());
        let log = spawned.stop().await.text();
        assert!(
            log.contains("\"level\":\"TRACE\""),
            "nothing at trace level"
        );

        let mut emitted = Vec::new();
        for (source, text, canary) in [
            ("the log", log, CANARY),
            ("the collector", collector.text(), CANARY),
            ("the metrics", metrics, "dotmac_accounts_sign_ins_total"),
            ("the database", dump, ADMIN),
            ("the answers", refusals, "/api/v1/auth/me"),
        ] {
            let text = Emitted::new(source, text);
            assert_eq!(text.betrays(canary), Some("plain"), "{source}");
            emitted.push(text);
        }
        assert!(secrets.len() > 20, "{secrets:?}");
        for text in emitted {
            for (secret, name) in &secrets {
                // A code is as short as many a number.
                let is_in = match secret.len() {
                    8 => text.contains(&format!("\"{secret}\"")).then_some("quoted"),
                    _ => text.betrays(secret),
                };
                assert_eq!(is_in, None, "{name} {secret} is in {}", text.source);
            }
        }
    }
}
