//! Every route of the daemon, as its OpenAPI document lists them, with every kind of wrong caller: without credentials, with
//! credentials that are changed or over, without the permission, with an API key of another permission, from another
//! site, and from another tenant.

mod house;
mod roles;
mod things;
mod tokens;

use std::collections::BTreeSet;

use reqwest::Method;
use serde_json::{Value, json};

use self::{
    house::{ADMIN, Credentials, House, Operation, PASSWORD},
    tokens::Signer,
};
use crate::support::{Postgres, sqlite};

/// What any client may call. A route that joins them is a decision.
const PUBLIC: [&str; 25] = [
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
    "POST /api/v1/notifications/reports",
    "POST /api/v1/u/{token}",
];

/// What needs no permission and answers an API key: the rest is a person's own.
const FOR_KEYS: [&str; 4] = [
    "GET /api/v1/auth/me",
    "GET /api/v1/auth/me/permissions",
    "GET /api/v1/push/key",
    "GET /api/v1/tenants",
];

/// Routes that answer the owner of another tenant otherwise than that there is nothing.
const OTHERWISE: [&str; 3] = [
    // They look at the headers of tus first.
    "DELETE /api/v1/files/tus/{id}: 412",
    "PATCH /api/v1/files/tus/{id}: 412",
    "POST /api/v1/files/tus/{id}: 400",
];

/// Permissions of other modules than accounts that reach all tenants.
const OF_OPERATORS: [&str; 2] = ["events.subscribers.", "jobs.queues."];

fn short(answer: &(u16, Value)) -> (u16, &str) {
    (answer.0, answer.1["code"].as_str().unwrap_or_default())
}

#[tokio::test]
async fn no_route_answers_a_wrong_caller() {
    refuses_wrong_callers("sqlite:dotmac.db", None).await;
}

#[tokio::test]
async fn no_route_answers_a_wrong_caller_on_postgres() {
    let postgres = Postgres::start().await;
    refuses_wrong_callers(&postgres.url(), Some(&postgres)).await;
}

async fn refuses_wrong_callers(url: &str, postgres: Option<&Postgres>) {
    let house = House::open(url).await;
    let public: BTreeSet<String> = house
        .operations
        .iter()
        .filter(|it| it.is_public)
        .map(ToString::to_string)
        .collect();
    assert_eq!(public, PUBLIC.map(str::to_owned).into());

    // A session that has ended, one that goes on with a changed token and with one whose time is over, and one of a browser.
    let ended = house.login("ann@example.com").await;
    let out = house.post("/auth/logout", Credentials::Bearer(&ended), json!({}));
    let out = out.await;
    assert_eq!(out.0, 204, "{out:?}");
    let member = house.login("ann@example.com").await;
    let changed = member[..member.len() - 4].to_owned() + "AAAA";
    let cookie = browser(&house).await;
    let signer = Signer::known_to(&house, postgres).await;
    let expired = signer.expired(&house, &member).await;

    let read = key(&house, "accounts.users.read").await;
    let mut answers_keys = Vec::new();
    for operation in house.guarded() {
        let call = async |credentials| house.call(operation, credentials).await;
        let answer = call(Credentials::None).await;
        assert_eq!(answer.0, 401, "{operation}: {answer:?}");
        for (token, code) in [
            (ended.as_str(), "session_ended"),
            (&expired, "token_expired"),
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
        } else {
            let answer = call(Credentials::Key(&read)).await;
            assert!(answer.0 < 500, "{operation}: {answer:?}");
            if answer.0 < 400 {
                answers_keys.push(operation.to_string());
            }
        }
    }
    assert_eq!(answers_keys, FOR_KEYS);
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

/// What a route does not name cannot be set by naming it: a status, a tenant, an owner.
#[tokio::test]
async fn no_route_takes_a_field_that_it_does_not_name() {
    let house = House::open("sqlite:dotmac.db").await;
    let admin = Credentials::Bearer(&house.admin);
    let (mut asked, mut others) = (0, Vec::new());
    for operation in &house.operations {
        let Some(mut body) = operation.body.clone() else {
            continue;
        };
        body["no_such_field"] = 1.into();
        let path = house.filled(&operation.path);
        let method = operation.method.clone();
        let answer = house.send(method, &path, admin, Some(body)).await;
        asked += 1;
        if short(&answer) != (400, "unknown_fields") {
            others.push(format!("{operation}: {} {}", answer.0, answer.1["code"]));
        }
    }
    assert!(asked > 50, "{asked}");
    // It takes nothing before there is a secret that those who report sign with.
    let reports = "POST /api/v1/notifications/reports: 422 \"reports_not_configured\"";
    assert_eq!(others, [reports]);
}

#[tokio::test]
async fn every_list_is_counted_if_its_client_asks() {
    let house = House::open("sqlite:dotmac.db").await;
    let takes = |it: &Operation, name: &str| it.query.iter().any(|known| known == name);
    let lists = house.guarded().filter(|it| takes(it, "cursor"));
    let (counted, others): (Vec<_>, Vec<_>) = lists.partition(|it| takes(it, "count"));
    let others: Vec<_> = others.iter().map(ToString::to_string).collect();
    // It verifies part by part, and ends with what it found.
    assert_eq!(others, ["GET /api/v1/audit/verify"]);
    assert!(counted.len() > 20, "{counted:?}");
    let admin = Credentials::Bearer(&house.admin);
    for list in counted {
        let path = house.filled(&list.path);
        let get = async |query: &str| {
            let path = format!("{path}?{query}");
            house.send(Method::GET, &path, admin, None).await
        };
        let all = get("limit=200").await.1;
        assert!(all["total"].is_null(), "{list}: {all}");
        let (status, one) = get("limit=1&count=true").await;
        assert_eq!(status, 200, "{list}: {one}");
        assert_eq!(one["total_is_exact"], true, "{list}: {one}");
        let items = all["items"].as_array().unwrap().len() as u64;
        let total = one["total"].as_u64().unwrap();
        // Each reading of the audit log is an entry of it, and events go on.
        let grows = list.path.ends_with("/events") || list.path.ends_with("/checkpoints");
        let is_right = total == items || grows && total > items;
        assert!(is_right, "{list}: {total} of {items}");
        let wrong = get("count=yes").await;
        assert_eq!(short(&wrong), (400, "invalid_query"), "{list}");
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
        let mut others = Vec::new();
        for operation in house.guarded() {
            // The user is the same person, whose sessions these are.
            if !operation.path.contains('{') || operation.path.contains("/auth/me/sessions/") {
                continue;
            }
            // With all that its body needs, so that nothing but the tenant is wrong.
            let body = match operation.is_unsafe() {
                true => Some(operation.body.clone().unwrap_or_else(|| json!({}))),
                false => None,
            };
            let path = house.filled(&operation.path);
            let caller = Credentials::Bearer(owner);
            let answer = house.send(operation.method.clone(), &path, caller, body);
            let answer = answer.await;
            let is_of_operators = operation
                .permission
                .iter()
                .any(|it| OF_OPERATORS.iter().any(|area| it.starts_with(area)));
            let expected = if is_of_operators { 403 } else { 404 };
            if answer.0 != expected {
                others.push(format!("{operation}: {}", answer.0));
            }
        }
        assert_eq!(others, OTHERWISE, "{url}");
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
