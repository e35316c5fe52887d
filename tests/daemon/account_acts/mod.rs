//! The audit entries of accounts: one for each kind of act, in the tenant that it concerns, with its actor.

mod others;

use std::{collections::BTreeMap, fs};

use reqwest::Method;
use serde_json::{Value, json};

use crate::{
    events::{Client, answer, instances, served},
    support::{Daemon, Postgres, daemon::Builder, eventually, repository},
};

const ADMIN: &str = "admin@example.com";
const PASSWORD: &str = "seven green boxes in a row";
const OTHER_PASSWORD: &str = "eight purple doors on a hill";
const MASTER_KEY: &str = "AQIDBAUGBwgJCgsMDQ4PEBESExQVFhcYGRobHB0eHyA=";

fn daemon(url: &str) -> Builder {
    Daemon::builder()
        .env("DOTMAC_DATABASE_URL", url)
        .env("DOTMAC_APP_MASTER_KEY", MASTER_KEY)
        .env(
            "DOTMAC_APP_SECRET_KEY",
            "a-secret-of-at-least-32-characters-for-tests",
        )
        .env("DOTMAC_HTTP_REQUEST_TIMEOUT", "30s")
        // A second use of a refresh token is theft at once.
        .env("DOTMAC_ACCOUNTS_REFRESH_GRACE", "0s")
}

/// Callers of a daemon that has an administrator.
struct House<'d> {
    daemon: &'d Daemon,
    admin_id: String,
    admin: String,
}

impl<'d> House<'d> {
    async fn of(daemon: &'d Daemon, url: &str) -> Self {
        let command = ["user", "create-admin", "--email", ADMIN, "--json"];
        let made = crate::account_acts::daemon(url)
            .run_in(daemon.directory(), &command)
            .await;
        let lines = made.lines.iter();
        let made: Value = lines
            .filter_map(|line| serde_json::from_str(line).ok())
            .find(|line: &Value| line["token"].is_string())
            .unwrap_or_else(|| panic!("{}", made.text()));
        let anonymous = Client { daemon, token: "" };
        let reset = json!({ "token": made["token"], "password": PASSWORD });
        let (status, body) = open(&anonymous, "/auth/password/reset", reset).await;
        assert_eq!(status, 204, "{body}");
        let admin = login(daemon, ADMIN, PASSWORD).await;
        Self {
            daemon,
            admin_id: text(&made, "user_id"),
            admin,
        }
    }

    fn admin(&self) -> Client<'_> {
        Client {
            daemon: self.daemon,
            token: &self.admin,
        }
    }

    async fn post(&self, path: &str, body: Value) -> Value {
        let (status, answer) = self.admin().post(&format!("/api/v1{path}"), body).await;
        assert!((200..300).contains(&status), "{path}: {status} {answer}");
        answer
    }

    async fn delete(&self, path: &str, etag: &str) {
        let path = format!("/api/v1{path}");
        let request = self.admin().request(Method::DELETE, &path);
        let (status, body) = answer(request.header("if-match", etag)).await;
        assert_eq!(status, 204, "{path}: {body}");
    }

    async fn patch(&self, path: &str, etag: &str, body: Value) -> Value {
        let path = format!("/api/v1{path}");
        let request = self.admin().request(Method::PATCH, &path);
        let (status, answer) = answer(request.header("if-match", etag).json(&body)).await;
        assert_eq!(status, 200, "{path}: {answer}");
        answer
    }

    /// The newest entry that fits, once it is there.
    async fn entry(&self, query: &str) -> Value {
        eventually(&format!("an entry of {query}"), || async {
            let path = format!("/api/v1/audit/events?limit=1&{query}");
            let (status, page) = self.admin().get(&path).await;
            assert_eq!(status, 200, "{page}");
            page["items"].as_array()?.first().cloned()
        })
        .await
    }

    async fn until(&self, action: &str, resource: &str) -> Value {
        self.entry(&format!("action={action}&resource={resource}"))
            .await
    }
}

fn text(value: &Value, field: &str) -> String {
    let text = value[field].as_str();
    text.unwrap_or_else(|| panic!("no `{field}` in {value}"))
        .to_owned()
}

/// A request without credentials.
async fn open(client: &Client<'_>, path: &str, body: Value) -> (u16, Value) {
    let url = format!("{}/api/v1{path}", client.daemon.base);
    served(|| client.daemon.client.post(&url).json(&body)).await
}

async fn login(daemon: &Daemon, identifier: &str, password: &str) -> String {
    let body = json!({ "identifier": identifier, "password": password, "mode": "token" });
    let client = Client { daemon, token: "" };
    let (status, session) = open(&client, "/auth/login", body).await;
    assert_eq!(status, 200, "{session}");
    text(&session, "access_token")
}

#[tokio::test]
async fn each_act_has_its_entry_with_who_did_it_on_both_back_ends() {
    let postgres = Postgres::start().await;
    for url in ["sqlite:dotmac.db".to_owned(), postgres.url()] {
        let daemons = instances(|| daemon(&url), &url).await;
        let house = House::of(&daemons[0], &url).await;
        let admin = format!("user:{}", house.admin_id);

        let new = json!({ "email": "ann@example.com", "password": PASSWORD, "roles": ["member"] });
        let ann = house.post("/users", new).await;
        let ann_id = text(&ann, "id");
        let of_ann = format!("accounts.user/{ann_id}");
        house
            .patch(
                &format!("/users/{ann_id}"),
                &text(&ann, "etag"),
                json!({ "full_name": "Ann" }),
            )
            .await;
        let role = house
            .post(
                "/roles",
                json!({ "name": "reader", "permissions": ["accounts.users.read"] }),
            )
            .await;
        let role_id = text(&role, "id");
        let binding = house
            .post(
                "/role-bindings",
                json!({ "principal": ann_id, "role": "reader" }),
            )
            .await;
        let account = house
            .post("/service-accounts", json!({ "name": "robot" }))
            .await;
        let key = json!({ "name": "k", "scopes": ["accounts.users.read"] });
        let key = house.post("/api-keys", key).await;
        let key_id = text(&key, "id");
        let rotate = format!("/api-keys/{key_id}/rotate");
        let rotated = house.post(&rotate, json!({})).await;
        house
            .delete(&format!("/api-keys/{key_id}"), &text(&rotated, "etag"))
            .await;
        let tenant = json!({ "slug": "acme", "name": "Acme" });
        let tenant = house.post("/tenants", tenant).await;

        // Ann's own acts, and attempts in her name.
        let token = login(house.daemon, "ann@example.com", PASSWORD).await;
        let client = Client {
            daemon: house.daemon,
            token: &token,
        };
        for identifier in ["ann@example.com", "nobody@example.com"] {
            let wrong = json!({ "identifier": identifier, "password": "wrong", "mode": "token" });
            let (status, _) = open(&client, "/auth/login", wrong).await;
            assert_eq!(status, 401);
        }
        let change = json!({ "current": PASSWORD, "new": OTHER_PASSWORD });
        let (status, body) = client.post("/api/v1/auth/password/change", change).await;
        assert_eq!(status, 204, "{body}");
        let wrong = json!({ "current": "wrong", "new": OTHER_PASSWORD });
        let (status, _) = client.post("/api/v1/auth/password/change", wrong).await;
        assert_eq!(status, 422);
        let app = client.post("/api/v1/auth/me/factors/totp", json!({})).await;
        assert_eq!(app.0, 200, "{}", app.1);
        let step_up = json!({ "password": OTHER_PASSWORD });
        let stepped_up = client.post("/api/v1/auth/step-up", step_up).await;
        assert_eq!(stepped_up.0, 200, "{}", stepped_up.1);

        house
            .post(&format!("/users/{ann_id}/unlock"), json!({}))
            .await;
        house
            .post(&format!("/users/{ann_id}/reset-link"), json!({}))
            .await;
        house
            .post(&format!("/users/{ann_id}/disable"), json!({}))
            .await;
        house
            .post(&format!("/users/{ann_id}/enable"), json!({}))
            .await;
        let (_, found) = house.admin().get(&format!("/api/v1/users/{ann_id}")).await;
        house
            .delete(&format!("/users/{ann_id}"), &text(&found, "etag"))
            .await;
        house
            .delete(
                &format!("/role-bindings/{}", text(&binding, "id")),
                &text(&binding, "etag"),
            )
            .await;
        house
            .delete(&format!("/roles/{role_id}"), &text(&role, "etag"))
            .await;
        house
            .delete(
                &format!("/service-accounts/{}", text(&account, "id")),
                &text(&account, "etag"),
            )
            .await;

        let (key_of, role_of) = (
            format!("accounts.api_key/{key_id}"),
            format!("accounts.role/{role_id}"),
        );
        let (binding_of, account_of, tenant_of) = (
            format!("accounts.role_binding/{}", text(&binding, "id")),
            format!("accounts.service_account/{}", text(&account, "id")),
            format!("accounts.tenant/{}", text(&tenant, "id")),
        );
        let me = format!("user:{ann_id}");
        let system = "system:check credentials".to_owned();
        let others = house.do_others(&url, &postgres).await;
        let others = others.iter();
        let others =
            others.map(|(action, resource, actor, outcome)| (*action, resource, actor, *outcome));
        for (action, resource, actor, outcome) in [
            ("user_created", &of_ann, &admin, "success"),
            ("user_updated", &of_ann, &admin, "success"),
            ("role_created", &role_of, &admin, "success"),
            ("authz_change", &binding_of, &admin, "success"),
            ("service_account_created", &account_of, &admin, "success"),
            ("api_key_created", &key_of, &admin, "success"),
            ("api_key_rotated", &key_of, &admin, "success"),
            ("api_key_revoked", &key_of, &admin, "success"),
            ("tenant_created", &tenant_of, &admin, "success"),
            ("authn_login_success", &of_ann, &me, "success"),
            ("authn_login_fail", &of_ann, &system, "failure"),
            ("authn_password_change", &of_ann, &me, "success"),
            ("authn_password_check", &of_ann, &me, "failure"),
            ("authn_factor_begun", &of_ann, &me, "success"),
            ("authn_step_up", &of_ann, &me, "success"),
            ("user_unlocked", &of_ann, &admin, "success"),
            ("user_reset_link_created", &of_ann, &admin, "success"),
            ("user_disabled", &of_ann, &admin, "success"),
            ("sessions_ended", &of_ann, &admin, "success"),
            ("user_enabled", &of_ann, &admin, "success"),
            ("user_deleted", &of_ann, &admin, "success"),
            ("role_deleted", &role_of, &admin, "success"),
            ("service_account_deleted", &account_of, &admin, "success"),
        ]
        .into_iter()
        .chain(others)
        {
            // Asked for by the actor: one of the same action by another may be linked before.
            let of_actor = format!("action={action}&resource={resource}&actor={actor}");
            let entry = house.entry(&of_actor).await;
            assert_eq!(entry["outcome"].as_str(), Some(outcome), "{entry}");
            let shown = entry.to_string();
            assert!(
                !shown.contains("example.com") && !shown.contains(PASSWORD),
                "{shown}"
            );
        }

        // Where a client was is under the key of the user; an unknown identifier is in the log of the operators.
        let seen = house.until("authn_login_success", &of_ann).await;
        assert_eq!(seen["subject"], ann["id"], "{seen}");
        assert_eq!(seen["personal"]["network"], "127.0.0.1", "{seen}");
        let unknown = eventually("the failure of an unknown identifier", || async {
            let path = "/api/v1/audit/events?limit=200&action=authn_login_fail";
            let (_, page) = house.admin().get(path).await;
            let items = page["items"].as_array()?.iter();
            items.clone().find(|it| it["resource"]["id"] == "").cloned()
        })
        .await;
        assert_eq!(unknown["details"], json!({ "stands_for": "1" }));
        let key = house
            .until("crypto_key_created", "accounts.signing_key")
            .await;
        assert!(key["details"]["kid"].is_string(), "{key}");
        let operators = house
            .entry(&format!(
                "action=user_created&resource=accounts.user/{}",
                house.admin_id
            ))
            .await;
        assert_eq!(
            operators["actor"],
            "system:an operator makes an administrator"
        );

        house.produced_all(&url, &postgres).await;
    }
}

#[tokio::test]
async fn a_tenant_sees_what_is_done_in_it_and_an_act_that_fails_has_no_entry() {
    let daemon = daemon("sqlite:dotmac.db").spawn().await;
    daemon.until("/ready", 200).await;
    let house = House::of(&daemon, "sqlite:dotmac.db").await;
    let tenant = json!({ "slug": "acme", "name": "Acme" });
    let tenant = house.post("/tenants", tenant).await;
    let switched = json!({ "tenant_id": tenant["id"] });
    let switched = house.post("/auth/switch-tenant", switched).await;
    let acme = House {
        daemon: &daemon,
        admin_id: house.admin_id.clone(),
        admin: text(&switched, "access_token"),
    };
    let admin = login(&daemon, ADMIN, PASSWORD).await;
    let house = House { admin, ..house };

    let new = json!({ "name": "reader", "permissions": ["accounts.users.read"] });
    acme.post("/roles", new.clone()).await;
    let (status, _) = acme.admin().post("/api/v1/roles", new).await;
    assert_eq!(status, 409);
    let in_acme = acme.until("authn_tenant_switch", "accounts.user").await;
    assert_eq!(in_acme["actor"], format!("user:{}", acme.admin_id));
    acme.until("role_created", "accounts.role").await;
    house.until("session_ended", "accounts.session").await;

    let actions = async |house: &House<'_>| {
        let path = "/api/v1/audit/events?limit=200";
        let (_, page) = house.admin().get(path).await;
        let mut actions = BTreeMap::new();
        for entry in page["items"].as_array().unwrap() {
            *actions.entry(text(entry, "action")).or_insert(0) += 1;
        }
        actions
    };
    let (of_acme, of_default) = (actions(&acme).await, actions(&house).await);
    assert_eq!(of_acme.get("role_created"), Some(&1), "{of_acme:?}");
    assert_eq!(of_acme.get("session_ended"), None, "{of_acme:?}");
    assert_eq!(of_default.get("role_created"), None, "{of_default:?}");
    assert_eq!(of_default.get("authn_tenant_switch"), None);
}

#[tokio::test]
async fn the_acts_of_the_page_are_those_of_the_module() {
    let acts = others::declared_acts().await;
    let page = fs::read_to_string(repository().join("docs/services/accounts.md")).unwrap();
    let section = page.split("\n## Audit\n").nth(1).unwrap();
    let table = section.split("\n## ").next().unwrap();
    let rows = table.lines().filter(|line| line.starts_with("| "));
    let cells = rows.filter_map(|row| row.split('|').nth(2));
    let words = cells.flat_map(|cell| cell.split('`').skip(1).step_by(2));
    let details = [
        "change",
        "role_changed",
        "role_given",
        "role_taken",
        "permission_given",
        "permission_taken",
    ];
    let is_act = |word: &&str| !details.contains(word);
    let documented = words.filter(is_act).map(str::to_owned);
    assert_eq!(acts, documented.collect());
}
