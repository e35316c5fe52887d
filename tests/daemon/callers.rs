//! Every route of the daemon, as its OpenAPI document lists them, with every kind of wrong caller: without credentials, with
//! credentials that are changed or over, without the permission, with an API key of another permission, from another
//! site, and from another tenant.

use std::collections::BTreeSet;

use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};

use crate::support::{Daemon, Postgres, eventually, sqlite};

const ADMIN: &str = "admin@example.com";
const PASSWORD: &str = "seven green boxes in a row";

/// What anybody may call. A route that joins them is a decision.
const PUBLIC: [&str; 24] = [
    "GET /.well-known/jwks.json",
    "GET /account/assets/link.js",
    "GET /account/{page}",
    "GET /api/v1/notifications/webhook-key",
    "GET /api/v1/u/{token}",
    "GET /f/{token}",
    "OPTIONS /api/v1/files/tus",
    "POST /api/v1/auth/code",
    "POST /api/v1/auth/code/confirm",
    "POST /api/v1/auth/email/resend",
    "POST /api/v1/auth/email/undo",
    "POST /api/v1/auth/email/verify",
    "POST /api/v1/auth/login",
    "POST /api/v1/auth/magic-link",
    "POST /api/v1/auth/magic-link/confirm",
    "POST /api/v1/auth/mfa/verify",
    "POST /api/v1/auth/passkey/options",
    "POST /api/v1/auth/passkey/verify",
    "POST /api/v1/auth/password/forgot",
    "POST /api/v1/auth/password/reset",
    "POST /api/v1/auth/refresh",
    "POST /api/v1/auth/register",
    "POST /api/v1/keys/report",
    "POST /api/v1/u/{token}",
];

/// Permissions of other modules than accounts that reach all tenants.
const OF_OPERATORS: [&str; 2] = ["events.subscribers.", "jobs.queues."];

/// A route of a module.
#[derive(Clone, Debug)]
struct Operation {
    method: Method,
    path: String,
    permission: Option<String>,
    is_public: bool,
}

impl Operation {
    /// The status of a `GET` of what there is: the file is a plain text, of which nothing can be made.
    fn found(&self) -> u16 {
        let made = ["/info", "/text", "/renditions/{rendition}"];
        match made.iter().any(|end| self.path.ends_with(end)) {
            true => 422,
            false => 200,
        }
    }

    fn is_unsafe(&self) -> bool {
        self.method != Method::GET
    }
}

impl std::fmt::Display for Operation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.method, self.path)
    }
}

/// How a request is authenticated.
#[derive(Clone, Copy, Debug)]
enum Credentials<'c> {
    None,
    Bearer(&'c str),
    Key(&'c str),
    /// A browser on the page of another site.
    ForeignPage(&'c str),
    Both(&'c str, &'c str),
}

/// A daemon with an administrator, and one thing of each kind in the tenant `default`.
struct House {
    daemon: Daemon,
    operations: Vec<Operation>,
    /// What stands in the place of a parameter, by what the path has before it.
    ids: Vec<(&'static str, String)>,
    admin: String,
}

impl House {
    async fn open(url: &str) -> Self {
        let daemon = Daemon::builder()
            .env("DOTMAC_DATABASE_URL", url)
            .env("DOTMAC_HTTP_REQUEST_TIMEOUT", "30s")
            // That of RFC 8291's example: anybody's.
            .env(
                "DOTMAC_NOTIFICATIONS_PUSH_KEY",
                "yfWPiYE-n46HLnH0KqZOF1fJJU3MYrct3AELtAQ-oRw",
            )
            .spawn()
            .await;
        daemon.until("/ready", 200).await;
        let document = daemon.json("/openapi.json").await.1;
        let mut house = Self {
            operations: operations(&document),
            daemon,
            ids: Vec::new(),
            admin: String::new(),
        };
        house.furnish(url).await;
        house
    }

    async fn furnish(&mut self, url: &str) {
        let made = Daemon::builder()
            .env("DOTMAC_DATABASE_URL", url)
            .run_in(
                self.daemon.directory(),
                &["user", "create-admin", "--email", ADMIN, "--json"],
            )
            .await;
        let line = made.lines.iter().find(|line| line.contains("\"token\""));
        let made: Value = serde_json::from_str(line.unwrap()).unwrap();
        let reset = json!({ "token": made["token"], "password": PASSWORD });
        let answer = self
            .post("/auth/password/reset", Credentials::None, reset)
            .await;
        assert_eq!(answer.0, 204, "{answer:?}");
        self.admin = self.login(ADMIN).await;

        let ann = json!({ "email": "ann@example.com", "password": PASSWORD, "roles": ["member"] });
        let ann = self.make("/users", ann).await;
        let role = json!({ "name": "own", "permissions": ["accounts.users.read"] });
        let role = self.make("/roles", role).await;
        let account = self
            .make("/service-accounts", json!({ "name": "ci" }))
            .await;
        let grant = json!({ "principal": account, "permission": "accounts.users.read" });
        let grant = self.make("/grants", grant).await;
        let key = json!({ "name": "key", "scopes": ["accounts.users.read"], "service_account_id": account });
        let key = self.make("/api-keys", key).await;
        let own = json!({ "name": "own", "scopes": ["accounts.users.read"] });
        let own = self.make("/auth/me/api-keys", own).await;
        let echo = json!({ "kind": "system.echo", "args": { "text": "a" }, "run_at": "2099-01-01T00:00:00Z" });
        let job = self.make("/jobs", echo).await;
        let daily = json!({ "name": "daily", "kind": "system.echo", "args": { "text": "a" }, "every": 86_400 });
        let schedule = self.make("/schedules", daily).await;
        let hook = json!({ "url": "http://127.0.0.1:1/", "events": ["custom.*"] });
        let hook = self.make("/webhooks", hook).await;
        let delivery = self
            .make(&format!("/webhooks/{hook}/test"), json!({}))
            .await;
        let template = json!({ "key": "welcome", "subject": "Welcome", "text": "Hello" });
        let template = self.make("/templates", template).await;
        let notification = self.notify(json!({ "email": "ann@example.com" })).await;
        let item = self.item().await;
        let browser = json!({
            "endpoint": "https://push.example.com/send",
            "keys": {
                "p256dh": "BCVxsr7N_eNgVRqvHtD0zTZsEc6-VV-JvLexhqUzORcxaOzi6-AYWXvTBHm4bjyPjs7Vd8pZGH6SRpkNtoIAiw4",
                "auth": "BTBZMqHH6r4Tts7J_aSIgg",
            },
        });
        let browser = self.make("/push/subscriptions", browser).await;
        let first = async |path: &str| {
            eventually(path, || async {
                let list = self.get(path, Credentials::Bearer(&self.admin)).await.1;
                let id = list["items"].as_array()?.first()?["id"].as_str()?;
                Some(id.to_owned())
            })
            .await
        };
        let file = self.upload().await;
        let link = self.make(&format!("/files/{file}/links"), json!({})).await;
        self.ids = vec![
            ("/files/", file),
            ("/links/", link),
            // Of the content that the file has.
            ("/versions/", "1".to_owned()),
            ("/renditions/", "40x30.png".to_owned()),
            ("/tus/", self.begin_upload().await),
            ("/users/", ann.clone()),
            ("/members/", ann),
            ("/roles/", role),
            ("/grants/", grant),
            ("/service-accounts/", account),
            ("/me/api-keys/", own),
            ("/api-keys/", key),
            ("/role-bindings/", first("/role-bindings").await),
            ("/sessions/", first("/auth/me/sessions").await),
            ("/subscribers/", "notes.tags".to_owned()),
            // The reading itself is an act that is recorded.
            ("/audit/events/", first("/audit/events").await),
            ("/events/", first("/events").await),
            ("/jobs/", job),
            ("/templates/", template),
            ("/suppressions/", self.suppression().await),
            ("/notifications/", notification.0),
            ("/deliveries/", notification.1),
            ("/inbox/", item),
            // One that does not exist: a passkey is made by an authenticator alone.
            (
                "/passkeys/",
                "01900000-0000-7000-8000-0000000000aa".to_owned(),
            ),
            ("/push/subscriptions/", browser),
            ("/queues/", "default".to_owned()),
            ("/schedules/", schedule),
            ("/webhooks/", hook),
            ("/webhook-deliveries/", delivery),
            (
                "/tenants/",
                "01900000-0000-7000-8000-000000000001".to_owned(),
            ),
        ];
    }

    /// Sends a notification; its id, and that of its delivery.
    async fn notify(&self, to: Value) -> (String, String) {
        let new = json!({ "to": [to], "content": { "subject": "Hello", "text": "Good day." } });
        let admin = Credentials::Bearer(&self.admin);
        let (status, sent) = self.post("/notifications", admin, new).await;
        assert_eq!(status, 202, "{sent}");
        let id = |it: &Value| it["id"].as_str().unwrap().to_owned();
        (id(&sent), id(&sent["deliveries"][0]))
    }

    /// An item in the inbox of the administrator.
    async fn item(&self) -> String {
        let me = self
            .get("/auth/me", Credentials::Bearer(&self.admin))
            .await
            .1;
        self.notify(json!({ "user": me["id"] })).await.1
    }

    /// A recipient that has unsubscribed.
    async fn suppression(&self) -> String {
        let admin = Credentials::Bearer(&self.admin);
        let held = self.get("/notifications/outbox", admin).await.1;
        let link = held["items"][0]["unsubscribe_url"].as_str().unwrap();
        let (_, path) = link.split_once("/api/v1").unwrap();
        let clicked = self.post(path, Credentials::None, json!({})).await;
        assert_eq!(clicked.0, 200, "{clicked:?}");
        let all = self.get("/suppressions", admin).await.1;
        all["items"][0]["id"].as_str().unwrap().to_owned()
    }

    async fn login(&self, identifier: &str) -> String {
        let login = json!({ "identifier": identifier, "password": PASSWORD, "mode": "token" });
        let session = self.post("/auth/login", Credentials::None, login).await;
        assert_eq!(session.0, 200, "{session:?}");
        session.1["access_token"].as_str().unwrap().to_owned()
    }

    /// Makes something as the administrator; its id.
    async fn make(&self, path: &str, body: Value) -> String {
        let made = self
            .post(path, Credentials::Bearer(&self.admin), body)
            .await;
        assert!(matches!(made.0, 201 | 202), "{path}: {made:?}");
        made.1["id"].as_str().unwrap().to_owned()
    }

    /// A file of the administrator; its id.
    async fn upload(&self) -> String {
        let url = format!("{}/api/v1/files/content?name=a.txt", self.daemon.base);
        let request = self.daemon.client.put(url).body("hello");
        let answer = request.bearer_auth(&self.admin).send().await.unwrap();
        assert_eq!(answer.status(), 201);
        let file: Value = answer.json().await.unwrap();
        file["id"].as_str().unwrap().to_owned()
    }

    /// An upload of the administrator that is not whole; its id.
    async fn begin_upload(&self) -> String {
        let url = format!("{}/api/v1/files/tus", self.daemon.base);
        let request = self.daemon.client.post(url).bearer_auth(&self.admin);
        let request = request
            .header("tus-resumable", "1.0.0")
            .header("upload-length", "5")
            .header("upload-metadata", "filename YQ==");
        let answer = request.send().await.unwrap();
        assert_eq!(answer.status(), 201);
        let upload: Value = answer.json().await.unwrap();
        upload["id"].as_str().unwrap().to_owned()
    }

    async fn get(&self, path: &str, credentials: Credentials<'_>) -> (u16, Value) {
        self.send(Method::GET, &format!("/api/v1{path}"), credentials, None)
            .await
    }

    async fn post(&self, path: &str, credentials: Credentials<'_>, body: Value) -> (u16, Value) {
        let path = format!("/api/v1{path}");
        self.send(Method::POST, &path, credentials, Some(body))
            .await
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        credentials: Credentials<'_>,
        body: Option<Value>,
    ) -> (u16, Value) {
        let url = format!("{}{path}", self.daemon.base);
        let request = self.daemon.client.request(method, url);
        let request = credentials.bring(request).header("if-match", "*");
        let request = match body {
            Some(body) => request.json(&body),
            None => request,
        };
        let answer = request.send().await.unwrap();
        let status = answer.status().as_u16();
        (status, answer.json().await.unwrap_or_default())
    }

    /// Calls the route with the ids of the tenant `default`, and with a body that no rule likes.
    async fn call(&self, operation: &Operation, credentials: Credentials<'_>) -> (u16, Value) {
        let body = operation.is_unsafe().then(|| json!({}));
        let path = self.filled(&operation.path);
        self.send(operation.method.clone(), &path, credentials, body)
            .await
    }

    fn filled(&self, pattern: &str) -> String {
        let mut path = pattern.to_owned();
        while let Some((before, rest)) = path.split_once('{') {
            let id = self.ids.iter().find(|(prefix, _)| before.ends_with(prefix));
            let (_, id) = id.unwrap_or_else(|| panic!("there is nothing for {pattern}"));
            let after = rest.split_once('}').unwrap().1;
            path = format!("{before}{id}{after}");
        }
        path
    }

    fn guarded(&self) -> impl Iterator<Item = &Operation> {
        self.operations.iter().filter(|it| !it.is_public)
    }
}

impl Credentials<'_> {
    fn bring(self, request: RequestBuilder) -> RequestBuilder {
        match self {
            Self::None => request,
            Self::Bearer(token) => request.bearer_auth(token),
            Self::Key(key) => request.header("x-api-key", key),
            Self::ForeignPage(cookie) => request
                .header("cookie", format!("dotmac_session={cookie}"))
                .header("sec-fetch-site", "cross-site"),
            Self::Both(token, cookie) => request
                .bearer_auth(token)
                .header("cookie", format!("dotmac_session={cookie}")),
        }
    }
}

/// The routes of modules: those of the platform have no guard and are no concern of accounts.
fn operations(document: &Value) -> Vec<Operation> {
    let mut operations = Vec::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let Some(security) = operation["security"].as_array() else {
                continue;
            };
            operations.push(Operation {
                method: method.to_uppercase().parse().unwrap(),
                path: path.clone(),
                permission: operation["x-permission"].as_str().map(str::to_owned),
                is_public: security.contains(&json!({})),
            });
        }
    }
    assert!(operations.len() > 50, "{operations:?}");
    operations
}

fn short(answer: &(u16, Value)) -> (u16, &str) {
    (answer.0, answer.1["code"].as_str().unwrap_or_default())
}

#[tokio::test]
async fn no_route_answers_a_wrong_caller() {
    let house = House::open("sqlite:dotmac.db").await;
    let public: BTreeSet<String> = house
        .operations
        .iter()
        .filter(|it| it.is_public)
        .map(ToString::to_string)
        .collect();
    assert_eq!(public, PUBLIC.map(str::to_owned).into());

    // A session that has ended, one that goes on with a changed token, and one of a browser.
    let ended = house.login("ann@example.com").await;
    let out = house.post("/auth/logout", Credentials::Bearer(&ended), json!({}));
    let out = out.await;
    assert_eq!(out.0, 204, "{out:?}");
    let member = house.login("ann@example.com").await;
    let changed = member[..member.len() - 4].to_owned() + "AAAA";
    let cookie = browser(&house).await;

    let read = key(&house, "accounts.users.read").await;
    for operation in house.guarded() {
        let call = async |credentials| house.call(operation, credentials).await;
        let answer = call(Credentials::None).await;
        assert_eq!(answer.0, 401, "{operation}: {answer:?}");
        for (token, code) in [
            (ended.as_str(), "session_ended"),
            (&changed, "token_invalid"),
            ("x", "token_invalid"),
        ] {
            let answer = call(Credentials::Bearer(token)).await;
            assert_eq!(short(&answer), (401, code), "{operation}");
        }
        let answer = call(Credentials::Both(&member, &cookie)).await;
        assert_eq!(
            short(&answer),
            (400, "ambiguous_credentials"),
            "{operation}"
        );
        if operation.is_unsafe() {
            let answer = call(Credentials::ForeignPage(&cookie)).await;
            assert_eq!(short(&answer), (403, "csrf"), "{operation}");
        }
        if operation.permission.is_some() {
            let answer = call(Credentials::Bearer(&member)).await;
            assert_eq!(short(&answer), (403, "forbidden"), "{operation}");
        } else if operation.is_unsafe() {
            // What is a person's own is nothing for a key.
            let answer = call(Credentials::Key(&read)).await;
            assert!((400..500).contains(&answer.0), "{operation}: {answer:?}");
        }
    }
}

#[tokio::test]
async fn a_key_is_good_for_its_permission_and_no_other() {
    let house = House::open("sqlite:dotmac.db").await;
    let permissions: BTreeSet<&String> = house
        .operations
        .iter()
        .filter_map(|it| it.permission.as_ref())
        .collect();
    assert!(permissions.len() > 12, "{permissions:?}");
    for permission in &permissions {
        let key = key(&house, permission).await;
        for operation in house.guarded() {
            let Some(needed) = &operation.permission else {
                continue;
            };
            // What the right key does with these routes, other tests look at.
            let answer = if needed == *permission {
                if operation.is_unsafe() {
                    continue;
                }
                house.call(operation, Credentials::Key(&key)).await
            } else {
                let answer = house.call(operation, Credentials::Key(&key)).await;
                let problem = (403, "forbidden");
                assert_eq!(short(&answer), problem, "{permission}: {operation}");
                continue;
            };
            // An upload in parts is only there for the one that began it.
            let expected = match operation.path.ends_with("/tus/{id}") {
                true => 404,
                false => operation.found(),
            };
            assert_eq!(answer.0, expected, "{permission}: {operation}: {answer:?}");
        }
    }
}

/// What reaches all tenants is administration, whichever module it is of.
#[tokio::test]
async fn what_reaches_all_tenants_is_not_for_a_session_that_was_authenticated_long_ago() {
    let house = House::open("sqlite:dotmac.db").await;
    // Before the first use, so that nothing is remembered of the session.
    let token = house.login(ADMIN).await;
    let file = house.daemon.directory().join("dotmac.db");
    let aged = "UPDATE sessions SET auth_time = '2026-11-01 00:00:00.000000'";
    sqlite::execute(&file, aged);
    let mut refused = 0;
    for operation in house.guarded() {
        let Some(permission) = &operation.permission else {
            continue;
        };
        if OF_OPERATORS.iter().any(|area| permission.starts_with(area)) {
            let answer = house.call(operation, Credentials::Bearer(&token)).await;
            let expected = (403, "step_up_required");
            assert_eq!(short(&answer), expected, "{operation}: {answer:?}");
            refused += 1;
        }
    }
    assert!(refused > 2, "{refused}");
    let me = house.get("/auth/me", Credentials::Bearer(&token)).await;
    assert_eq!(me.0, 200, "{me:?}");
}

#[tokio::test]
async fn another_tenants_owner_reaches_nothing_on_both_back_ends() {
    let postgres = Postgres::start().await;
    for url in ["sqlite:dotmac.db".to_owned(), postgres.url()] {
        let house = House::open(&url).await;
        let tenant = house
            .make("/tenants", json!({ "slug": "acme", "name": "Acme" }))
            .await;
        let session = house.login(ADMIN).await;
        let switch = json!({ "tenant_id": tenant });
        let session = house
            .post("/auth/switch-tenant", Credentials::Bearer(&session), switch)
            .await;
        let owner = session.1["access_token"].as_str().unwrap();
        for operation in house.guarded() {
            // The user is the same person, whose sessions these are.
            if !operation.path.contains('{') || operation.path.contains("/auth/me/sessions/") {
                continue;
            }
            let answer = house.call(operation, Credentials::Bearer(owner)).await;
            let is_of_operators =
                |it: &String| OF_OPERATORS.iter().any(|area| it.starts_with(area));
            let expected = match &operation.permission {
                Some(permission) if is_of_operators(permission) => 403..404,
                _ if operation.is_unsafe() => 400..500,
                _ => 404..405,
            };
            assert!(expected.contains(&answer.0), "{operation}: {answer:?}");
        }
        // All of it is still there for its own tenant.
        let admin = Credentials::Bearer(&house.admin);
        for operation in house.guarded().filter(|it| !it.is_unsafe()) {
            let answer = house.call(operation, admin).await;
            assert_eq!(answer.0, operation.found(), "{operation}: {answer:?}");
        }
    }
}

/// The cookie of a session in a browser.
async fn browser(house: &House) -> String {
    let login = json!({ "identifier": ADMIN, "password": PASSWORD, "mode": "cookie" });
    let url = format!("{}/api/v1/auth/login", house.daemon.base);
    let answer = house.daemon.client.post(url).json(&login).send().await;
    let answer = answer.unwrap();
    let lines = answer.headers().get_all("set-cookie").iter();
    let mut lines = lines.filter_map(|line| line.to_str().ok()?.split(';').next());
    let cookie = lines.find_map(|line| line.strip_prefix("dotmac_session="));
    cookie.unwrap().to_owned()
}

/// The API key of a service account that has one permission, and whose key may do everything that the account may.
async fn key(house: &House, permission: &str) -> String {
    let account = house
        .make("/service-accounts", json!({ "name": permission }))
        .await;
    let role = json!({ "name": permission, "permissions": [permission] });
    house.make("/roles", role).await;
    let bind = json!({ "principal": account, "role": permission });
    house.make("/role-bindings", bind).await;
    let new = json!({ "name": permission, "scopes": ["*"], "service_account_id": account });
    let made = house
        .post("/api-keys", Credentials::Bearer(&house.admin), new)
        .await;
    assert_eq!(made.0, 201, "{made:?}");
    made.1["key"].as_str().unwrap().to_owned()
}
