//! The events of accounts, each emitted by its act.

use reqwest::Method;
use serde_json::json;

use crate::{
    ADMIN, House, PASSWORD,
    factors::{code, enrolled, within_a_step},
};

const DEFAULT: &str = "01900000-0000-7000-8000-000000000001";

/// The types that the module declares.
fn declared() -> Vec<&'static str> {
    let source = include_str!("../../src/events.rs");
    let types = source.lines().filter_map(|line| {
        let (_, rest) = line.split_once(" = \"")?;
        let kind = rest.split('"').next()?;
        kind.ends_with(".v1").then_some(kind)
    });
    types.filter(|kind| !kind.starts_with("area.")).collect()
}

#[tokio::test]
async fn each_type_of_event_is_emitted_by_its_act() {
    House::on_both(async |house| {
        let (_, secret, _) = enrolled(&house).await;
        within_a_step().await;
        let first = house.login(ADMIN, PASSWORD).await;
        let second = json!({
            "flow": first.body["mfa"]["flow"], "method": "totp", "code": code(&secret, 0),
        });
        let session = house.post("/auth/mfa/verify", None, second).await;
        let admin = session.text("access_token");
        let any = [("if-match", "*")];
        let send = async |method: Method, path: &str, body| {
            let answer = house.send(0, method, path, Some(&admin), body, &any).await;
            assert!(answer.status < 300, "{path}: {answer:?}");
            answer
        };
        let post = async |path: &str, body| send(Method::POST, path, Some(body)).await;
        let delete = async |path: String| send(Method::DELETE, &path, None).await;

        let (ann, of_ann) = house.user(&admin, "ann@example.com", &[]).await;
        let path = format!("/users/{ann}");
        let named = json!({ "full_name": "Ann Lee" });
        let patched = send(Method::PATCH, &path, Some(named)).await;
        assert_eq!(patched.body["full_name"], "Ann Lee");
        let bound = post(
            "/role-bindings",
            json!({ "principal": ann, "role": "member" }),
        )
        .await;
        delete(format!("/role-bindings/{}", bound.text("id"))).await;
        let grant = json!({ "principal": ann, "permission": "accounts.users.read" });
        let granted = post("/grants", grant).await;
        let key = json!({ "name": "k", "scopes": ["accounts.users.read"] });
        let key = post("/api-keys", key).await.text("id");
        post(&format!("/api-keys/{key}/rotate"), json!({})).await;
        delete(format!("/api-keys/{key}")).await;

        let access = of_ann.text("access_token");
        let own = json!({ "name": "k", "scopes": ["accounts.users.read"] });
        let own = house.post("/auth/me/api-keys", Some(&access), own).await;
        assert_eq!(own.status, 201, "{own:?}");
        let change = json!({ "current": PASSWORD, "new": "ten red boxes in a row" });
        let changed = house.post("/auth/password/change", Some(&access), change);
        assert_eq!(changed.await.status, 204);
        delete(format!("/grants/{}", granted.text("id"))).await;
        let out = house.post("/auth/logout", Some(&access), json!({})).await;
        assert_eq!(out.status, 204, "{out:?}");
        post(&format!("{path}/disable"), json!({})).await;
        post(&format!("{path}/enable"), json!({})).await;
        delete(path).await;
        let (bob, _) = house.user(&admin, "bob@example.com", &[]).await;
        delete(format!("/tenants/{DEFAULT}/members/{bob}")).await;
        house.remove_app(&admin, "*").await;

        let declared = declared();
        assert!(declared.len() > 15, "{declared:?}");
        for kind in declared {
            let emitted = house.rows(&format!("event WHERE type = '{kind}'")).await;
            assert!(emitted > 0, "no act here emits {kind}");
        }
    })
    .await;
}
