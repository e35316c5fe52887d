//! What an attacker tries, each with the answer that is expected.

use serde_json::{Value, json};

use crate::{ADMIN, House, PASSWORD};
use reqwest::Method;

/// What of an answer a client can compare, but for what is different in each.
fn comparable(answer: &crate::Answer) -> (u16, Value, Vec<String>) {
    let mut body = answer.body.clone();
    body.as_object_mut().unwrap().remove("request_id");
    let names = answer.headers.keys().map(ToString::to_string).collect();
    (answer.status, body, names)
}

#[tokio::test]
async fn unknown_disabled_and_wrong_are_answered_with_the_same_bytes() {
    let house = House::on_sqlite(1, &[]).await;
    let admin = house.admin_session().await.text("access_token");
    let (id, _) = house.user(&admin, "ann@example.com", &[]).await;
    let (_, _) = house.user(&admin, "bob@example.com", &[]).await;
    let disabled = house
        .post(&format!("/users/{id}/disable"), Some(&admin), json!({}))
        .await;
    assert_eq!(disabled.status, 204, "{disabled:?}");

    let unknown = house.login("nobody@example.com", PASSWORD).await;
    assert_eq!(unknown.short(), (401, "invalid_credentials"));
    for (identifier, password) in [
        ("ann@example.com", PASSWORD),
        ("bob@example.com", "a wrong password of some length"),
        ("no-such-name", PASSWORD),
        ("not an identifier at all", PASSWORD),
    ] {
        let answer = house.login(identifier, password).await;
        assert_eq!(comparable(&answer), comparable(&unknown), "{identifier}");
    }
}

#[tokio::test]
async fn failures_slow_down_identifiers_that_exist_and_that_do_not() {
    for identifier in [ADMIN, "nobody@example.com"] {
        let house = House::on_sqlite(1, &[]).await;
        house.administrator().await;
        house.lock(identifier).await;
        let answer = house.login(identifier, PASSWORD).await;
        assert_eq!(answer.short(), (429, "rate_limited"), "{identifier}");
        assert!(
            answer.headers.contains_key("ratelimit-policy"),
            "{answer:?}"
        );
        if identifier == ADMIN {
            // An operator lets the owner in at once.
            house.command(&["user", "unlock", ADMIN]).await;
            assert_eq!(house.login(ADMIN, PASSWORD).await.status, 200);
        }
    }
}

#[tokio::test]
async fn forged_tokens_are_refused() {
    let house = House::on_sqlite(1, &[]).await;
    let session = house.admin_session().await;
    let token = session.text("access_token");
    let parts: Vec<&str> = token.split('.').collect();
    let (head, claims, signature) = (parts[0], parts[1], parts[2]);
    // {"alg":"none","typ":"at+jwt","kid":"x"}
    let none = "eyJhbGciOiJub25lIiwidHlwIjoiYXQrand0Iiwia2lkIjoieCJ9";
    for forged in [
        format!("{none}.{claims}."),
        format!("{none}.{claims}.{signature}"),
        format!("{head}.{claims}."),
        format!("{head}.{claims}x.{signature}"),
        format!("{head}.{claims}"),
        "dms_0000000000".to_owned(),
        "dmk_0000000000".to_owned(),
        "x".repeat(5000),
    ] {
        let answer = house.get("/auth/me", Some(&forged)).await;
        assert_eq!(answer.short(), (401, "token_invalid"), "{forged}");
        assert!(answer.headers.contains_key("www-authenticate"));
    }
    let two = house
        .send(
            0,
            Method::GET,
            "/auth/me",
            Some(&token),
            None,
            &[("x-api-key", "dmk_x")],
        )
        .await;
    assert_eq!(two.short(), (400, "ambiguous_credentials"));
    assert_eq!(house.get("/auth/me", None).await.status, 401);
}

#[tokio::test]
async fn fields_that_are_not_for_the_caller_are_refused() {
    let house = House::on_sqlite(1, &[]).await;
    let admin = house.admin_session().await.text("access_token");
    let (id, ann) = house.user(&admin, "ann@example.com", &["member"]).await;
    let ann = ann.text("access_token");
    for field in [
        "status",
        "roles",
        "tenant_id",
        "email_verified",
        "id",
        "acr",
        "managed_by",
    ] {
        let mut patch = json!({ "full_name": "Ann" });
        patch[field] = "x".into();
        let me = house.send(
            0,
            Method::PATCH,
            "/auth/me",
            Some(&ann),
            Some(patch.clone()),
            &[("if-match", "*")],
        );
        assert_eq!(me.await.short(), (400, "unknown_fields"), "{field}");
        let path = format!("/users/{id}");
        let user = house.send(
            0,
            Method::PATCH,
            &path,
            Some(&admin),
            Some(patch),
            &[("if-match", "*")],
        );
        assert_eq!(user.await.short(), (400, "unknown_fields"), "{field}");
    }
    let smuggled = json!({ "email": "x@example.com", "is_admin": true });
    assert_eq!(
        house.post("/users", Some(&admin), smuggled).await.short(),
        (400, "unknown_fields")
    );
    for email in [
        "ann\u{200b}@example.com",
        "\u{430}nn@example.com",
        "a@b.example\r\nBcc: c@d.example",
        "ANN@example.com",
    ] {
        let answer = house
            .post("/users", Some(&admin), json!({ "email": email }))
            .await;
        assert!(matches!(answer.status, 409 | 422), "{email:?}: {answer:?}");
    }
}

#[tokio::test]
async fn neither_the_log_nor_the_database_has_a_password_or_a_token() {
    for house in [
        House::on_sqlite(1, &[]).await,
        House::on_postgres(1, &[]).await,
    ] {
        let link = house.administrator().await;
        let session = house.login(ADMIN, PASSWORD).await;
        let (access, refresh) = (session.text("access_token"), session.text("refresh_token"));
        let key = json!({ "name": "mine", "scopes": ["accounts.users.read"] });
        let key = house.post("/api-keys", Some(&access), key).await;
        assert_eq!(key.status, 201, "{key:?}");
        let key = key.text("key");
        house
            .login(ADMIN, "a wrong password that must not be logged")
            .await;
        house.get("/auth/me", Some(&key)).await;
        house
            .post("/auth/refresh", None, json!({ "refresh_token": refresh }))
            .await;

        let (dump, log) = (house.dump().await, house.instances[0].lines().join("\n"));
        assert!(dump.contains(ADMIN), "the dump holds nothing");
        let wrong = "a wrong password that must not be logged";
        for secret in [
            PASSWORD,
            wrong,
            &link,
            &access,
            &refresh,
            &key,
            &link[16..],
            &key[16..],
            &refresh[8..],
        ] {
            assert!(!dump.contains(secret), "the database holds {secret}");
            assert!(!log.contains(secret), "the log holds {secret}");
        }
    }
}

#[tokio::test]
async fn a_request_that_is_refused_is_logged_with_its_caller() {
    let house = House::on_sqlite(1, &[]).await;
    let admin = house.admin_session().await.text("access_token");
    let (id, ann) = house.user(&admin, "ann@example.com", &["member"]).await;
    let refused = house.get("/users", Some(&ann.text("access_token"))).await;
    assert_eq!(refused.short(), (403, "forbidden"));
    let line = house.instances[0].logged("GET /api/v1/users 403").await;
    assert_eq!(line["user.id"], id, "{line}");
}
