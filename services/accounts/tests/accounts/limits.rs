//! How often, how fast and how strongly: limits of sessions and codes, changes on other instances, what a tenant wants, and what
//! tokens are signed with.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use reqwest::Method;
use serde_json::{Value, json};

use crate::{
    ADMIN, Answer, House, PASSWORD,
    factors::{code, within_a_step},
};

#[tokio::test]
async fn a_session_refreshes_sixty_times_a_minute_and_no_other_is_held_back_by_it() {
    let house = House::on_sqlite(1, &[]).await;
    let mut session = house.admin_session().await;
    let other = house.login(ADMIN, PASSWORD).await;
    let refresh = async |session: &Answer| {
        let body = json!({ "refresh_token": session.text("refresh_token") });
        house.post("/auth/refresh", None, body).await
    };
    let mut renewed = 0;
    let limited = loop {
        let next = refresh(&session).await;
        if next.status != 200 {
            break next;
        }
        renewed += 1;
        session = next;
    };
    assert_eq!(limited.short(), (429, "rate_limited"), "{limited:?}");
    assert!((60..75).contains(&renewed), "{renewed}");
    let policy = limited.headers["ratelimit-policy"].to_str().unwrap();
    assert!(policy.contains("\"refresh\";q=60;w=60"), "{policy}");
    assert_eq!(refresh(&other).await.status, 200);
    // Nothing was changed by what was refused.
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(refresh(&session).await.status, 200);
}

/// What anybody can ask for has a limit for each client network, and ten times that for the network around it.
#[tokio::test]
async fn each_public_route_has_the_limit_of_its_kind() {
    let settings = [
        ("DOTMAC_HTTP_TRUSTED_PROXIES", "127.0.0.1"),
        ("DOTMAC_ACCOUNTS_REGISTRATION", "open"),
    ];
    let house = House::on_sqlite(1, &settings).await;
    let none = json!({ "email": "nobody@example.com" });
    let link = json!({ "token": "dmo_x" });
    let flow = json!({ "flow": "dmf_x", "method": "totp", "code": "000000" });
    let reset = json!({ "token": "dmo_x", "password": PASSWORD });
    let code = json!({ "email": "nobody@example.com", "code": "00000000" });
    for (number, (path, body, policy, most, window)) in [
        ("/auth/register", &none, "register", 5, 3600),
        ("/auth/password/forgot", &none, "mail", 10, 3600),
        ("/auth/email/resend", &none, "mail", 10, 3600),
        ("/auth/magic-link", &none, "mail", 10, 3600),
        ("/auth/code", &none, "mail", 10, 3600),
        ("/auth/mfa/verify", &flow, "mfa", 20, 60),
        ("/auth/magic-link/confirm", &link, "link", 20, 60),
        ("/auth/email/verify", &link, "link", 20, 60),
        ("/auth/email/undo", &link, "link", 20, 60),
        ("/auth/password/reset", &reset, "link", 20, 60),
        ("/auth/code/confirm", &code, "mfa", 20, 60),
    ]
    .into_iter()
    .enumerate()
    {
        let ask = async |from: String| {
            let headers = [("x-forwarded-for", from.as_str())];
            let body = Some(body.clone());
            house
                .send(0, Method::POST, path, None, body, &headers)
                .await
        };
        let of_one = join_all((0..most + 5).map(|_| ask(format!("198.51.{number}.9")))).await;
        let limited: Vec<_> = of_one.iter().filter(|it| it.status == 429).collect();
        // Within a minute a few come back.
        assert!(
            (3..=5).contains(&limited.len()),
            "{path}: {}",
            limited.len()
        );
        let said = limited[0].headers["ratelimit-policy"].to_str().unwrap();
        let expected = format!("\"{policy}\";q={most};w={window}");
        assert!(said.contains(&expected), "{path}: {said}");

        if ["/auth/register", "/auth/password/forgot"].contains(&path) {
            let around = (0..10 * most + 5).map(|n| ask(format!("203.0.{number}.{}", 1 + n % 200)));
            let limited = join_all(around).await;
            let limited = limited.iter().filter(|it| it.status == 429).count();
            assert_eq!(limited, 5, "{path}");
        }
    }
}

/// How long after the answer the end of a session counts on another instance.
#[tokio::test]
async fn on_postgres_what_is_ended_on_one_instance_is_ended_on_the_others_in_a_moment() {
    let house = House::on_postgres(2, &[]).await;
    let admin = house.admin_session().await.text("access_token");
    let mut delays = Vec::new();
    for number in 0..10 {
        let email = format!("user{number}@example.com");
        let (_, session) = house.user(&admin, &email, &[]).await;
        let token = session.text("access_token");
        let there = async || {
            let me = house.send(1, Method::GET, "/auth/me", Some(&token), None, &[]);
            me.await.status
        };
        assert_eq!(there().await, 200);
        let out = house.post("/auth/logout", Some(&token), json!({})).await;
        assert_eq!(out.status, 204, "{out:?}");
        let began = Instant::now();
        while there().await == 200 {
            assert!(began.elapsed() < Duration::from_secs(5), "it still counts");
        }
        delays.push(began.elapsed());
    }
    delays.sort();
    // A notification, not the reading at an interval; the machine may be busy with other tests.
    assert!(delays[5] < Duration::from_millis(300), "{delays:?}");
}

#[tokio::test]
async fn codes_are_tried_ten_times_an_hour_and_the_twentieth_locks_and_is_mailed() {
    House::with_mail(&[], async |house| {
        let token = house.login(ADMIN, PASSWORD).await.text("access_token");
        let path = "/auth/me/factors/totp";
        let setup = house.post(path, Some(&token), json!({})).await;
        within_a_step().await;
        let first = json!({ "code": code(&setup.text("secret"), -1) });
        let confirmed = house.post(path, Some(&token), first).await;
        assert_eq!(confirmed.status, 200, "{confirmed:?}");
        let wrong = async || {
            let first = house.login(ADMIN, PASSWORD).await;
            let flow = first.body["mfa"]["flow"].as_str().unwrap().to_owned();
            let body = json!({ "flow": flow, "method": "totp", "code": "000001" });
            house.post("/auth/mfa/verify", None, body).await
        };
        let aged = |failures: i32| {
            format!("UPDATE login_throttle SET failures = {failures}, until = '2026-11-01 00:00:00.000000'")
        };
        assert_eq!(wrong().await.short(), (401, "invalid_credentials"));
        house.sql(&aged(9)).await;
        assert_eq!(wrong().await.short(), (401, "invalid_credentials"));
        let held = wrong().await;
        assert_eq!(held.short(), (429, "rate_limited"), "{held:?}");
        let wait: u64 = held.headers["retry-after"].to_str().unwrap().parse().unwrap();
        assert!((3500..=3600).contains(&wait), "{wait}");

        house.sql(&aged(19)).await;
        assert_eq!(wrong().await.short(), (401, "invalid_credentials"));
        let locked = wrong().await;
        let wait: u64 = locked.headers["retry-after"].to_str().unwrap().parse().unwrap();
        // No answer says more than an hour.
        assert_eq!(wait, 3600);
        house.mail("accounts.factor_locked", ADMIN, 1).await;
        let lockouts = house.instances[0].metric("dotmac_accounts_lockouts_total");
        assert_eq!(lockouts.await, Some(1.0));
    })
    .await;
}

#[tokio::test]
async fn a_tenant_that_wants_a_second_factor_lets_its_members_add_one_and_do_nothing_else() {
    House::on_both(async |house| {
        let alone = house.admin_session().await.text("access_token");
        let (_, ann) = house.user(&alone, "ann@example.com", &["admin"]).await;
        let ann = ann.text("access_token");
        let key = json!({ "name": "mine", "scopes": ["accounts.users.read"] });
        let made = house
            .post("/auth/me/api-keys", Some(&ann), key.clone())
            .await;
        assert_eq!(made.status, 201, "{made:?}");
        let rotate = format!("/auth/me/api-keys/{}/rotate", made.text("id"));
        let path = "/tenants/01900000-0000-7000-8000-000000000001/policy";
        let policy = house.get(path, Some(&alone)).await;
        assert_eq!(policy.body["mfa_required"], false, "{policy:?}");
        let tag = policy.text("etag");
        let require = async |token: &str, is_required: bool, seen: &str| {
            let body = Some(json!({ "mfa_required": is_required }));
            house
                .send(
                    0,
                    Method::PATCH,
                    path,
                    Some(token),
                    body,
                    &[("if-match", seen)],
                )
                .await
        };
        // Nobody shuts out others who has no second factor.
        let weak = require(&alone, true, &tag).await;
        assert_eq!(weak.short(), (403, "step_up_required"), "{weak:?}");

        let factor = async |token: &str| {
            let path = "/auth/me/factors/totp";
            let setup = house.post(path, Some(token), json!({})).await;
            let secret = setup.text("secret");
            within_a_step().await;
            let first = json!({ "code": code(&secret, -1) });
            let confirmed = house.post(path, Some(token), first).await;
            assert_eq!(confirmed.status, 200, "{confirmed:?}");
            secret
        };
        let step_up = async |token: &str, secret: &str| {
            within_a_step().await;
            let shown = json!({ "code": code(secret, 0) });
            let session = house.post("/auth/step-up", Some(token), shown).await;
            assert_eq!(session.status, 200, "{session:?}");
            session.text("access_token")
        };
        let secret = factor(&alone).await;
        let strong = step_up(&alone, &secret).await;
        let set = require(&strong, true, &tag).await;
        assert_eq!(
            (set.status, &set.body["mfa_required"]),
            (200, &json!(true)),
            "{set:?}"
        );
        assert_eq!(
            require(&strong, true, &tag).await.short(),
            (412, "precondition_failed")
        );

        let users = async |token: &str| house.get("/users", Some(token)).await;
        assert_eq!(users(&strong).await.status, 200);
        let barred = users(&ann).await;
        assert_eq!(
            barred.short(),
            (403, "mfa_enrolment_required"),
            "{barred:?}"
        );
        // However the path is spelled.
        for path in ["/auth/me", "/%61uth/me"] {
            let answer = house.get(path, Some(&ann)).await;
            assert_eq!(answer.status, 200, "{path}: {answer:?}");
        }
        // A key would do without a second factor what its owner may not.
        for (path, body) in [
            ("/auth/me/api-keys", key.clone()),
            ("/auth/me/api%2Dkeys", key.clone()),
            (rotate.as_str(), json!({})),
        ] {
            let barred = house.post(path, Some(&ann), body).await;
            let expected = (403, "mfa_enrolment_required");
            assert_eq!(barred.short(), expected, "{path}: {barred:?}");
        }
        let secret = factor(&ann).await;
        let barred = users(&ann).await;
        assert_eq!(barred.short(), (403, "step_up_required"), "{barred:?}");
        let ann = step_up(&ann, &secret).await;
        assert_eq!(users(&ann).await.status, 200);
        let rotated = house.post(&rotate, Some(&ann), json!({})).await;
        assert_eq!(rotated.status, 200, "{rotated:?}");
        let made = house.post("/auth/me/api-keys", Some(&ann), key).await;
        assert_eq!(made.status, 201, "{made:?}");

        // Going on there from another tenant takes it as well.
        let (_, bob) = house.user(&strong, "bob@example.com", &["member"]).await;
        let bob = bob.text("access_token");
        let barred = users(&bob).await;
        assert_eq!(
            barred.short(),
            (403, "mfa_enrolment_required"),
            "{barred:?}"
        );
        let switch = json!({ "tenant_id": "01900000-0000-7000-8000-000000000001" });
        let switched = house.post("/auth/switch-tenant", Some(&bob), switch).await;
        assert_eq!(
            switched.short(),
            (403, "mfa_enrolment_required"),
            "{switched:?}"
        );
    })
    .await;
}

#[tokio::test]
async fn a_key_has_a_limit_of_its_own_over_all_routes() {
    House::on_both(async |house| {
        let admin = house.admin_session().await.text("access_token");
        let make = async |limit: Value| {
            let scopes = ["accounts.users.read", "accounts.roles.read"];
            let new = json!({ "name": "k", "scopes": scopes, "requests_per_minute": limit });
            house.post("/api-keys", Some(&admin), new).await
        };
        for (limit, expected) in [(json!(0), 422), (json!(60_001), 422), (json!(-1), 400)] {
            let refused = make(limit).await;
            assert_eq!(refused.status, expected, "{refused:?}");
            let field = &refused.body["errors"][0]["field"];
            assert_eq!(field, "requests_per_minute", "{refused:?}");
        }
        let limited = make(json!(3)).await;
        assert_eq!(
            (limited.status, &limited.body["requests_per_minute"]),
            (201, &json!(3)),
            "{limited:?}"
        );
        let free = make(Value::Null).await;
        assert_eq!(free.body["requests_per_minute"], Value::Null, "{free:?}");
        let (key, free) = (limited.text("key"), free.text("key"));
        for path in ["/users", "/roles", "/users"] {
            let answer = house.get(path, Some(&key)).await;
            assert_eq!(answer.status, 200, "{path}: {answer:?}");
            let policies = answer.headers["ratelimit-policy"].to_str().unwrap();
            assert!(policies.contains("\"api_key\";q=3;w=60"), "{policies}");
        }
        let refused = house.get("/roles", Some(&key)).await;
        assert_eq!(refused.short(), (429, "rate_limited"), "{refused:?}");
        assert!(refused.headers.contains_key("retry-after"), "{refused:?}");
        // Other credentials of the same owner have their own.
        for _ in 0..5 {
            for token in [&free, &admin] {
                let answer = house.get("/users", Some(token)).await;
                assert_eq!(answer.status, 200, "{answer:?}");
            }
        }
    })
    .await;
}

/// 600 a minute, of each principal by itself.
#[tokio::test]
async fn the_calls_of_a_principal_to_all_routes_are_counted_together() {
    let house = House::on_sqlite(1, &[]).await;
    let admin = house.admin_session().await.text("access_token");
    let left = async |token: &str, path: &str| {
        let answer = house.get(path, Some(token)).await;
        assert_eq!(answer.status, 200, "{path}: {answer:?}");
        let policies = answer.headers["ratelimit-policy"].to_str().unwrap();
        assert_eq!(policies, "\"api\";q=600;w=60");
        let limit = answer.headers["ratelimit"].to_str().unwrap();
        let left = limit.strip_prefix("\"api\";r=").unwrap();
        let left = left.split(';').next().unwrap();
        left.parse::<u32>().unwrap()
    };
    let (_, other) = house.user(&admin, "ann@example.com", &["member"]).await;
    let other = other.text("access_token");
    let began = Instant::now();
    let paths = ["/users", "/roles", "/api-keys", "/auth/me"];
    futures_util::future::join_all((0..40).map(|place| left(&admin, paths[place % 4]))).await;
    let last = left(&admin, "/tenants").await;
    let back = began.elapsed().as_millis() / 100;
    assert!(u128::from(last) <= 559 + back, "{last}, {back} came back");
    assert_eq!(left(&other, "/auth/me").await, 599);
}

#[tokio::test]
async fn tokens_are_signed_as_the_setting_says_and_a_change_replaces_the_key() {
    let settings = [("DOTMAC_ACCOUNTS_TOKEN_ALG", "EdDSA")];
    let mut house = House::on_sqlite(1, &settings).await;
    let token = house.admin_session().await.text("access_token");
    let jwks = house.get("/.well-known/jwks.json", None).await;
    let key = &jwks.body["keys"][0];
    let shown = (&key["alg"], &key["crv"], &key["kty"], key.get("d"));
    let expected = (&json!("EdDSA"), &json!("Ed25519"), &json!("OKP"), None);
    assert_eq!(shown, expected, "{jwks:?}");
    assert_eq!(house.get("/auth/me", Some(&token)).await.status, 200);

    house.instances.pop().unwrap().stop().await;
    house.settings.clear();
    house
        .sql("UPDATE lease SET due_at = '2001-01-01 00:00:00' WHERE name = 'accounts.sweep'")
        .await;
    house.spawn(1).await;
    // The former key signs until the new one is known to all, and its tokens stay good.
    dotmac_testkit::eventually("a key of the other algorithm", || async {
        let jwks = house.get("/.well-known/jwks.json", None).await;
        let keys = jwks.body["keys"].as_array().unwrap().clone();
        keys.iter().any(|key| key["alg"] == "ES256").then_some(())
    })
    .await;
    assert_eq!(house.get("/auth/me", Some(&token)).await.status, 200);
    let session = house.login(ADMIN, PASSWORD).await.text("access_token");
    assert_eq!(house.get("/auth/me", Some(&session)).await.status, 200);
}
