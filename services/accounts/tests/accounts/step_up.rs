//! How strong and how young an authentication must be, and what a session is worth that is gone on with.

use reqwest::Method;
use serde_json::json;

use crate::{
    ADMIN, Answer, House, PASSWORD,
    factors::{code, enrolled, within_a_step},
};

async fn step_up(house: &House, token: &str, password: &str) -> Answer {
    let body = json!({ "password": password });
    house.post("/auth/step-up", Some(token), body).await
}

fn wanted(answer: &Answer, field: &str) -> String {
    let errors = answer.body["errors"].as_array().unwrap();
    let of_field = errors.iter().find(|error| error["field"] == field);
    of_field.unwrap()["message"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn administrators_prove_again_who_they_are_once_that_was_too_long_ago() {
    House::on_both(async |house| {
        house.administrator().await;
        // Before the first use, so that nothing is remembered of the session.
        let session = house.login(ADMIN, PASSWORD).await;
        let (token, refresh) = (session.text("access_token"), session.text("refresh_token"));
        house
            .sql("UPDATE sessions SET auth_time = '2026-11-01 00:00:00.000000'")
            .await;
        assert_eq!(house.get("/auth/me", Some(&token)).await.status, 200);
        let refused = house.get("/users", Some(&token)).await;
        assert_eq!(refused.short(), (403, "step_up_required"), "{refused:?}");
        assert_eq!(
            (wanted(&refused, "acr_values"), wanted(&refused, "max_age")),
            ("1".into(), "43200".into())
        );
        let challenge = refused.headers["www-authenticate"].to_str().unwrap();
        assert!(
            challenge.contains("insufficient_user_authentication"),
            "{challenge}"
        );
        let key = json!({ "name": "mine", "scopes": ["accounts.users.read"] });
        let refused = house
            .post("/auth/me/api-keys", Some(&token), key.clone())
            .await;
        assert_eq!(refused.short(), (403, "step_up_required"), "{refused:?}");
        assert_eq!(wanted(&refused, "max_age"), "900");

        let wrong = step_up(&house, &token, "not the password of anybody").await;
        assert_eq!(
            (wrong.status, &wrong.body["errors"][0]["code"]),
            (422, &"password_wrong".into())
        );
        let stronger = step_up(&house, &token, PASSWORD).await;
        assert_eq!(stronger.status, 200, "{stronger:?}");
        assert_eq!(stronger.headers["cache-control"], "no-store");
        let new = stronger.text("access_token");
        assert_eq!(house.get("/users", Some(&new)).await.status, 200);
        assert_eq!(
            house
                .post("/auth/me/api-keys", Some(&new), key)
                .await
                .status,
            201
        );
        // What was stolen of the former session is worth nothing.
        let former = house.get("/auth/me", Some(&token)).await;
        assert_eq!(former.short(), (401, "session_ended"));
        let former = json!({ "refresh_token": refresh });
        let former = house.post("/auth/refresh", None, former).await;
        assert_eq!(former.short(), (401, "session_ended"));
    })
    .await;
}

/// What opens the way to more, or stops others, is not for whoever found a session that lies open.
#[tokio::test]
async fn what_makes_or_stops_others_wants_an_authentication_of_just_now() {
    House::on_both(async |house| {
        let admin = house.admin_session().await.text("access_token");
        let (ann, _) = house.user(&admin, "ann@example.com", &["member"]).await;
        let account = house.post("/service-accounts", Some(&admin), json!({ "name": "ci" }));
        let account = account.await.text("id");
        let tenant = "01900000-0000-7000-8000-000000000001";
        // Before the first use, so that nothing is remembered of the session.
        let token = house.login(ADMIN, PASSWORD).await.text("access_token");
        let hour_ago = chrono::Utc::now() - chrono::TimeDelta::hours(1);
        let hour_ago = hour_ago.format("%Y-%m-%d %H:%M:%S%.6f");
        house
            .sql(&format!("UPDATE sessions SET auth_time = '{hour_ago}'"))
            .await;

        assert_eq!(house.get("/users", Some(&token)).await.status, 200);
        let plain = json!({ "email": "plain@example.com" });
        let plain = house.post("/users", Some(&token), plain).await;
        assert_eq!(plain.status, 201, "{plain:?}");
        let (post, patch, delete) = (Method::POST, Method::PATCH, Method::DELETE);
        let with_role = json!({ "email": "x@example.com", "roles": ["owner"] });
        let with_password = json!({ "email": "x@example.com", "password": PASSWORD });
        for (method, path, body) in [
            (&post, "/users".to_owned(), Some(with_role)),
            (&post, "/users".to_owned(), Some(with_password)),
            (&post, format!("/users/{ann}/disable"), Some(json!({}))),
            (&post, format!("/users/{ann}/enable"), Some(json!({}))),
            (&post, format!("/users/{ann}/unlock"), Some(json!({}))),
            (&post, format!("/users/{ann}/sign-out"), Some(json!({}))),
            (&post, format!("/users/{ann}/reset-link"), Some(json!({}))),
            (&delete, format!("/users/{ann}"), None),
            (&delete, format!("/tenants/{tenant}/members/{ann}"), None),
            (
                &post,
                "/tenants".to_owned(),
                Some(json!({ "slug": "acme", "name": "Acme" })),
            ),
            (
                &patch,
                format!("/service-accounts/{account}"),
                Some(json!({ "status": "active" })),
            ),
            (&delete, format!("/service-accounts/{account}"), None),
        ] {
            let headers = [("if-match", "*")];
            let method = method.clone();
            let answer = house.send(0, method, &path, Some(&token), body, &headers);
            let answer = answer.await;
            assert_eq!(
                answer.short(),
                (403, "step_up_required"),
                "{path}: {answer:?}"
            );
            assert_eq!(wanted(&answer, "max_age"), "900", "{path}");
        }
    })
    .await;
}

#[tokio::test]
async fn where_two_factors_are_wanted_a_password_administers_nothing() {
    let house = House::on_sqlite(1, &[("DOTMAC_ACCOUNTS_ADMIN_ACR", "2")]).await;
    let admin = house.admin_session().await.text("access_token");
    assert_eq!(house.get("/auth/me", Some(&admin)).await.status, 200);
    for (method, path) in [
        (Method::GET, "/users"),
        (Method::POST, "/users"),
        (Method::POST, "/roles"),
        (Method::GET, "/permissions"),
        (Method::POST, "/tenants"),
        (Method::POST, "/api-keys"),
    ] {
        let body = (method == Method::POST).then(|| json!({}));
        let answer = house.send(0, method, path, Some(&admin), body, &[]).await;
        assert_eq!(
            answer.short(),
            (403, "step_up_required"),
            "{path}: {answer:?}"
        );
    }
    let key = json!({ "name": "mine", "scopes": ["*"] });
    let answer = house.post("/auth/me/api-keys", Some(&admin), key).await;
    assert_eq!(answer.short(), (403, "step_up_required"), "{answer:?}");
    assert_eq!(wanted(&answer, "acr_values"), "2");
}

#[tokio::test]
async fn where_two_factors_are_wanted_an_administrator_with_an_app_administers() {
    let house = House::on_sqlite(1, &[("DOTMAC_ACCOUNTS_ADMIN_ACR", "2")]).await;
    let (before, secret, _) = enrolled(&house).await;
    let refused = house.get("/users", Some(&before)).await;
    assert_eq!(refused.short(), (403, "step_up_required"), "{refused:?}");
    within_a_step().await;
    let body = json!({ "code": code(&secret, 0) });
    let stepped_up = house.post("/auth/step-up", Some(&before), body).await;
    assert_eq!(stepped_up.status, 200, "{stepped_up:?}");
    let token = stepped_up.text("access_token");
    assert_eq!(house.get("/users", Some(&token)).await.status, 200);
    let key = json!({ "name": "mine", "scopes": ["accounts.users.read"] });
    let key = house.post("/auth/me/api-keys", Some(&token), key).await;
    assert_eq!(key.status, 201, "{key:?}");
    // The code is used up for a second step-up as well.
    let body = json!({ "code": code(&secret, 0) });
    let again = house.post("/auth/step-up", Some(&token), body).await;
    assert_eq!(
        (again.status, &again.body["errors"][0]["code"]),
        (422, &"code_wrong".into()),
        "{again:?}"
    );
}

#[tokio::test]
async fn users_cannot_create_a_link_for_their_own_password() {
    House::on_both(async |house| {
        let session = house.admin_session().await;
        let id = session.body["user"]["id"].as_str().unwrap();
        let path = format!("/users/{id}/reset-link");
        let token = session.text("access_token");
        let link = house.post(&path, Some(&token), json!({})).await;
        assert_eq!(link.short(), (403, "forbidden"), "{link:?}");
    })
    .await;
}

#[tokio::test]
async fn going_on_in_a_tenant_or_stepping_up_makes_no_session_last_longer() {
    let hour = "1h";
    let settings = [
        ("DOTMAC_ACCOUNTS_SESSION_ABSOLUTE", hour),
        ("DOTMAC_ACCOUNTS_SESSION_IDLE", hour),
        ("DOTMAC_ACCOUNTS_REFRESH_IDLE", hour),
    ];
    for house in [
        House::on_sqlite(1, &settings).await,
        House::on_postgres(1, &settings).await,
    ] {
        let session = house.admin_session().await;
        let end = session.text("expires_at");
        let tenant = session.body["user"]["tenant"]["id"].clone();
        let switch = json!({ "tenant_id": tenant });
        let token = session.text("access_token");
        let switched = house
            .post("/auth/switch-tenant", Some(&token), switch)
            .await;
        assert_eq!(
            (switched.status, switched.text("expires_at")),
            (200, end.clone())
        );
        let stronger = step_up(&house, &switched.text("access_token"), PASSWORD).await;
        assert_eq!((stronger.status, stronger.text("expires_at")), (200, end));
    }
}

#[tokio::test]
async fn passwords_are_tried_ten_times_a_minute_and_sign_ins_counted_by_wide_networks_too() {
    let house = House::on_sqlite(1, &[]).await;
    let session = house.admin_session().await;
    let policy = |answer: &Answer| {
        let policy = answer.headers["ratelimit-policy"].to_str().unwrap();
        policy.to_owned()
    };
    let expected = r#""login";q=10;w=60, "login_wide";q=100;w=60"#;
    assert_eq!(policy(&session), expected);
    let change = json!({ "current": "not it", "new": "a quite different sentence 7" });
    let token = session.text("access_token");
    let change = house
        .post("/auth/password/change", Some(&token), change)
        .await;
    assert_eq!(policy(&change), r#""principal";q=10;w=60"#);
    let switch = json!({ "tenant_id": session.body["user"]["tenant"]["id"] });
    let switched = house
        .post("/auth/switch-tenant", Some(&token), switch)
        .await;
    assert_eq!(policy(&switched), r#""principal";q=10;w=60"#);
}

#[tokio::test]
async fn what_accounts_answer_is_kept_by_no_cache() {
    let house = House::on_sqlite(1, &[]).await;
    let token = house.admin_session().await.text("access_token");
    let key = json!({ "name": "mine", "scopes": ["accounts.users.read"] });
    for answer in [
        house.get("/auth/me", Some(&token)).await,
        house.get("/auth/me", None).await,
        house.get("/users", Some(&token)).await,
        house.post("/auth/me/api-keys", Some(&token), key).await,
        house.post("/auth/login", None, json!({})).await,
        house.login(ADMIN, "a wrong password of some length").await,
        house
            .post(
                "/auth/logout-all",
                Some(&token),
                json!({ "except_current": true }),
            )
            .await,
    ] {
        assert_eq!(answer.headers["cache-control"], "no-store", "{answer:?}");
    }
    let keys = house.get("/.well-known/jwks.json", None).await;
    assert_eq!(keys.headers["cache-control"], "public, max-age=600");
}

/// Whoever holds a stolen session guesses twenty times, and keeps the owner out of nothing.
#[tokio::test]
async fn a_stolen_session_that_fails_to_give_the_password_ends_and_holds_back_no_other() {
    House::on_both(async |house| {
        let admin = house.admin_session().await.text("access_token");
        let (_, stolen) = house.user(&admin, "ann@example.com", &[]).await;
        let own = house.login("ann@example.com", PASSWORD).await;
        let own = own.text("access_token");
        let tenant = stolen.body["user"]["tenant"]["id"].clone();
        let stolen = stolen.text("access_token");
        let wrong = async |token: &str| {
            let wrong = step_up(&house, token, "not the password of anybody").await;
            let code = &wrong.body["errors"][0]["code"];
            assert_eq!(code, "password_wrong", "{wrong:?}");
        };
        wrong(&stolen).await;
        let locked =
            "UPDATE login_throttle SET failures = 20, until = '9999-01-01 00:00:00.000000'";
        house.sql(locked).await;
        let held = step_up(&house, &stolen, PASSWORD).await;
        assert_eq!(held.short(), (429, "rate_limited"), "{held:?}");
        let change = json!({ "current": PASSWORD, "new": "a quite different sentence 7" });
        let held = house
            .post("/auth/password/change", Some(&stolen), change.clone())
            .await;
        assert_eq!(held.short(), (429, "rate_limited"), "{held:?}");
        let stepped_up = step_up(&house, &own, PASSWORD).await;
        assert_eq!(stepped_up.status, 200, "{stepped_up:?}");

        // What takes the place of the session has its failures.
        let switch = json!({ "tenant_id": tenant });
        let switched = house
            .post("/auth/switch-tenant", Some(&stolen), switch)
            .await;
        assert_eq!(switched.status, 200, "{switched:?}");
        let stolen = switched.text("access_token");
        house
            .sql("UPDATE login_throttle SET failures = 19, until = '2026-11-01 00:00:00.000000'")
            .await;
        wrong(&stolen).await;
        let ended = house.get("/auth/me", Some(&stolen)).await;
        assert_eq!(ended.short(), (401, "session_ended"), "{ended:?}");
        let because = "sessions WHERE end_reason = 'too_many_failures'";
        assert_eq!(house.rows(because).await, 1);
        let own = stepped_up.text("access_token");
        let changed = house
            .post("/auth/password/change", Some(&own), change)
            .await;
        assert_eq!(changed.status, 204, "{changed:?}");
    })
    .await;
}
