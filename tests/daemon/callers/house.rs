//! The daemon that callers meet: its routes, how they are called, and by whom.

use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};

use crate::support::Daemon;

pub(super) const ADMIN: &str = "admin@example.com";
pub(super) const PASSWORD: &str = "seven green boxes in a row";

/// A route of a module.
#[derive(Clone, Debug)]
pub(super) struct Operation {
    pub(super) method: Method,
    pub(super) path: String,
    pub(super) permission: Option<String>,
    pub(super) is_public: bool,
    /// The names of its query parameters.
    pub(super) query: Vec<String>,
    /// The least of what its body needs, if that is JSON.
    pub(super) body: Option<Value>,
}

impl Operation {
    /// The status of a `GET` of what there is: the file is a plain text, of which nothing can be made.
    pub(super) fn found(&self) -> u16 {
        let ends = |ends: &[&str]| ends.iter().any(|end| self.path.ends_with(end));
        if ends(&["/info", "/text", "/renditions/{rendition}"]) {
            422
        } else if ends(&["/factors/totp", "/passkeys/{id}"]) {
            // The administrator has no second factor.
            404
        } else {
            200
        }
    }

    pub(super) fn is_unsafe(&self) -> bool {
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
pub(super) enum Credentials<'c> {
    None,
    Bearer(&'c str),
    Key(&'c str),
    /// A browser on the page of another site.
    ForeignPage(&'c str),
    Both(&'c str, &'c str),
}

/// A daemon with an administrator, and one thing of each kind in the tenant `default`.
pub(super) struct House {
    pub(super) daemon: Daemon,
    pub(super) operations: Vec<Operation>,
    /// What stands in the place of a parameter, by what the path has before it.
    pub(super) ids: Vec<(&'static str, String)>,
    pub(super) admin: String,
}

impl House {
    pub(super) async fn open(url: &str) -> Self {
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

    pub(super) async fn login(&self, identifier: &str) -> String {
        let login = json!({ "identifier": identifier, "password": PASSWORD, "mode": "token" });
        let session = self.post("/auth/login", Credentials::None, login).await;
        assert_eq!(session.0, 200, "{session:?}");
        session.1["access_token"].as_str().unwrap().to_owned()
    }

    /// Makes something as the administrator; its id.
    pub(super) async fn make(&self, path: &str, body: Value) -> String {
        let made = self
            .post(path, Credentials::Bearer(&self.admin), body)
            .await;
        assert!(matches!(made.0, 201 | 202), "{path}: {made:?}");
        made.1["id"].as_str().unwrap().to_owned()
    }

    pub(super) async fn get(&self, path: &str, credentials: Credentials<'_>) -> (u16, Value) {
        self.send(Method::GET, &format!("/api/v1{path}"), credentials, None)
            .await
    }

    pub(super) async fn post(
        &self,
        path: &str,
        credentials: Credentials<'_>,
        body: Value,
    ) -> (u16, Value) {
        let path = format!("/api/v1{path}");
        self.send(Method::POST, &path, credentials, Some(body))
            .await
    }

    pub(super) async fn send(
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
    pub(super) async fn call(
        &self,
        operation: &Operation,
        credentials: Credentials<'_>,
    ) -> (u16, Value) {
        let body = operation.is_unsafe().then(|| json!({}));
        let path = self.filled(&operation.path);
        self.send(operation.method.clone(), &path, credentials, body)
            .await
    }

    /// The same with ids that nothing has.
    pub(super) async fn call_upon_nothing(
        &self,
        operation: &Operation,
        credentials: Credentials<'_>,
    ) -> (u16, Value) {
        let parts = operation.path.split('/').map(|part| match part {
            part if part.starts_with('{') => "01900000-0000-7000-8000-0000000000bb",
            part => part,
        });
        let path = parts.collect::<Vec<_>>().join("/");
        let (method, body) = (operation.method.clone(), Some(json!({})));
        self.send(method, &path, credentials, body).await
    }

    pub(super) fn filled(&self, pattern: &str) -> String {
        let mut path = pattern.to_owned();
        while let Some((before, rest)) = path.split_once('{') {
            let id = self.ids.iter().find(|(prefix, _)| before.ends_with(prefix));
            let (_, id) = id.unwrap_or_else(|| panic!("there is nothing for {pattern}"));
            let after = rest.split_once('}').unwrap().1;
            path = format!("{before}{id}{after}");
        }
        path
    }

    pub(super) fn guarded(&self) -> impl Iterator<Item = &Operation> {
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

fn query(operation: &Value) -> Vec<String> {
    let parameters = operation["parameters"].as_array().into_iter().flatten();
    let of_query = parameters.filter(|it| it["in"] == "query");
    of_query
        .map(|it| it["name"].as_str().unwrap().to_owned())
        .collect()
}

/// A value of that schema, with the fields that must be there. Rules may not like it.
fn least(document: &Value, schema: &Value) -> Value {
    if let Some(path) = schema["$ref"].as_str() {
        let schema = document.pointer(path.trim_start_matches('#'));
        return least(document, schema.unwrap());
    }
    let all = ["allOf", "oneOf", "anyOf"];
    if let Some(one) = all.iter().find_map(|name| schema[name][0].as_object()) {
        return least(document, &json!(one));
    }
    if let Some(one) = schema["enum"].get(0) {
        return one.clone();
    }
    let kind = match &schema["type"] {
        Value::Array(kinds) => kinds[0].as_str(),
        kind => kind.as_str(),
    };
    match (kind, schema["format"].as_str()) {
        (Some("string"), Some("uuid")) => json!("01900000-0000-7000-8000-0000000000bb"),
        (Some("string"), Some("date-time")) => json!("2026-11-30T12:00:00Z"),
        (Some("string"), _) => json!("x"),
        (Some("integer" | "number"), _) => json!(1),
        (Some("boolean"), _) => json!(true),
        (Some("array"), _) => json!([]),
        _ => {
            let needed = schema["required"].as_array().into_iter().flatten();
            let needed = needed.filter_map(Value::as_str);
            let fields = needed.map(|name| {
                let value = least(document, &schema["properties"][name]);
                (name.to_owned(), value)
            });
            Value::Object(fields.collect())
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
                query: query(operation),
                body: operation["requestBody"]["content"]
                    .get("application/json")
                    .map(|body| least(document, &body["schema"])),
            });
        }
    }
    assert!(operations.len() > 50, "{operations:?}");
    operations
}
