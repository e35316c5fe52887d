//! What happens to requests that meet each other, and to an instance that the database fails at the wrong moment.

use futures_util::future::join_all;
use reqwest::Method;
use serde_json::{Value, json};

use crate::{
    ADMIN, Answer, House, PASSWORD,
    factors::{code as totp, within_a_step},
    mail::{ANN, OTHER_PASSWORD, browser, code, token},
};

fn count(answers: &[Answer], status: u16) -> usize {
    answers.iter().filter(|it| it.status == status).count()
}

#[tokio::test]
async fn of_many_requests_to_go_on_elsewhere_one_begins_a_session() {
    House::on_both(async |house| {
        let session = house.admin_session().await;
        let token = session.text("access_token");
        let switch = json!({ "tenant_id": session.body["user"]["tenant"]["id"] });
        let all = (0..8).map(|_| house.post("/auth/switch-tenant", Some(&token), switch.clone()));
        let answers = join_all(all).await;
        assert_eq!(count(&answers, 200), 1, "{answers:?}");
        assert_eq!(count(&answers, 401), 7, "{answers:?}");
    })
    .await;
}

#[tokio::test]
async fn of_many_changes_to_one_version_one_is_made() {
    House::on_both(async |house| {
        let admin = house.admin_session().await.text("access_token");
        let (user, _) = house.user(&admin, "ann@example.com", &[]).await;
        let role = house
            .post("/roles", Some(&admin), json!({ "name": "own" }))
            .await;
        let account = house
            .post("/service-accounts", Some(&admin), json!({ "name": "ci" }))
            .await;
        let tenant = "01900000-0000-7000-8000-000000000001";
        for (path, field) in [
            (format!("/users/{user}"), "full_name"),
            (format!("/roles/{}", role.text("id")), "description"),
            (format!("/service-accounts/{}", account.text("id")), "name"),
            (format!("/tenants/{tenant}"), "name"),
        ] {
            let found = house.get(&path, Some(&admin)).await;
            let tag = found.text("etag");
            let headers = [("if-match", tag.as_str())];
            let patch = |n: usize| {
                let body = Some(json!({ field: format!("N{n}") }));
                house.send(0, Method::PATCH, &path, Some(&admin), body, &headers)
            };
            let answers = join_all((0..8).map(patch)).await;
            assert_eq!(count(&answers, 200), 1, "{path}: {answers:?}");
            assert_eq!(count(&answers, 412), 7, "{path}: {answers:?}");
        }
    })
    .await;
}

#[tokio::test]
async fn a_lost_answer_is_given_again_three_times_however_many_ask_at_once() {
    let settings = [("DOTMAC_ACCOUNTS_REFRESH_GRACE", "1ms")];
    for house in [
        House::on_sqlite(1, &settings).await,
        House::on_postgres(1, &settings).await,
    ] {
        let session = house.admin_session().await;
        let first = json!({ "refresh_token": session.text("refresh_token") });
        let next = house.post("/auth/refresh", None, first.clone()).await;
        assert_eq!(next.status, 200, "{next:?}");
        let again = (0..16).map(|_| house.post("/auth/refresh", None, first.clone()));
        let answers = join_all(again).await;
        let given = count(&answers, 200);
        assert!(given <= 3, "{given}: {answers:?}");
        assert!(
            answers.iter().any(|it| it.code() == "refresh_reused"),
            "{answers:?}"
        );
    }
}

/// Each from a network of its own, so that none is limited.
#[tokio::test]
async fn of_fifty_uses_at_once_of_what_is_good_once_one_counts() {
    let settings = [("DOTMAC_HTTP_TRUSTED_PROXIES", "127.0.0.1")];
    House::with_mail(&settings, async |house| {
        house.ann().await;
        let fifty = async |path: &str, cookie: &str, body: &Value| {
            let all = (0..50).map(async |n: usize| {
                let from = format!("10.{n}.0.1");
                let headers = [("cookie", cookie), ("x-forwarded-for", from.as_str())];
                let body = Some(body.clone());
                house
                    .send(0, Method::POST, path, None, body, &headers)
                    .await
            });
            join_all(all).await
        };
        for (ask, purpose, path, status) in [
            (
                "/auth/magic-link",
                "sign_in",
                "/auth/magic-link/confirm",
                200,
            ),
            ("/auth/code", "sign_in_code", "/auth/code/confirm", 200),
            (
                "/auth/password/forgot",
                "password_reset",
                "/auth/password/reset",
                204,
            ),
        ] {
            let asked = house.post(ask, None, json!({ "email": ANN })).await;
            let mail = house.mail(&format!("accounts.{purpose}"), ANN, 1).await;
            let body = match path {
                "/auth/code/confirm" => {
                    json!({ "email": ANN, "code": code(&mail), "mode": "token" })
                }
                "/auth/password/reset" => {
                    json!({ "token": token(&mail), "password": OTHER_PASSWORD })
                }
                _ => json!({ "token": token(&mail), "mode": "token" }),
            };
            let answers = fifty(path, &browser(&asked), &body).await;
            assert_eq!(count(&answers, status), 1, "{path}: {answers:?}");
        }
        house.sql("DELETE FROM login_throttle").await;

        let app = "/auth/me/factors/totp";
        let token = house.login(ADMIN, PASSWORD).await.text("access_token");
        let secret = house
            .post(app, Some(&token), json!({}))
            .await
            .text("secret");
        within_a_step().await;
        let first = json!({ "code": totp(&secret, -1) });
        let confirmed = house.post(app, Some(&token), first).await;
        for (method, code) in [
            ("totp", totp(&secret, 0)),
            (
                "recovery_code",
                confirmed.body["recovery_codes"][0]
                    .as_str()
                    .unwrap()
                    .to_owned(),
            ),
        ] {
            let begun = house.login(ADMIN, PASSWORD).await;
            let flow = &begun.body["mfa"]["flow"];
            let body = json!({ "flow": flow, "method": method, "code": code });
            let answers = fifty("/auth/mfa/verify", "", &body).await;
            assert_eq!(count(&answers, 200), 1, "{method}: {answers:?}");
        }
    })
    .await;
}

/// A change is recorded with a number. Another instance that has read a larger number reads no smaller one any more, so none may
/// become visible after it. SQLite has one writer.
#[tokio::test]
async fn no_change_becomes_visible_after_one_with_a_larger_number() {
    let house = House::on_postgres(1, &[]).await;
    let first = house.admin_session().await;
    let second = house.login(ADMIN, PASSWORD).await;
    let (slow, quick) = (first.text("access_token"), second.text("access_token"));
    for token in [&slow, &quick] {
        assert_eq!(house.get("/auth/me", Some(token)).await.status, 200);
    }
    // Another instance that ends the first session, and takes its time for the commit.
    let session = first.text("session_id");
    let ending = format!(
        "BEGIN; SELECT pg_advisory_xact_lock(7017843186951284339); \
         INSERT INTO accounts_changes (kind, subject, at) VALUES ('session', '{session}', now() AT TIME ZONE 'utc'); \
         UPDATE sessions SET ended_at = now() AT TIME ZONE 'utc' WHERE id = '{session}'; SELECT pg_sleep(3); COMMIT"
    );
    let postgres = house.postgres.as_ref().unwrap();
    let sleeps = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'";
    let meanwhile = async {
        dotmac_testkit::eventually("the change to be under way", || async {
            (postgres.query(sleeps).await == "1").then_some(())
        })
        .await;
        let out = house.post("/auth/logout", Some(&quick), json!({})).await;
        assert_eq!(out.status, 204, "{out:?}");
    };
    tokio::join!(postgres.query(&ending), meanwhile);
    let refused = house.until_refused(0, &slow).await;
    assert_eq!(refused.short(), (401, "session_ended"), "{refused:?}");
}

/// SQLite has one writer: there the requests cannot meet.
#[tokio::test]
async fn many_requests_at_once_create_no_more_than_the_limit() {
    let house = House::on_postgres(1, &[]).await;
    let admin = house.admin_session().await.text("access_token");
    // With the four of the system, one less than a tenant may have.
    house
        .sql(
            "INSERT INTO roles (id, tenant_id, name, description, is_system, version, created_at) \
             SELECT gen_random_uuid(), '01900000-0000-7000-8000-000000000001', 'r' || n, '', false, 1, now() \
             FROM generate_series(1, 195) n",
        )
        .await;
    let make = |n: usize| {
        let role = json!({ "name": format!("own {n}") });
        house.post("/roles", Some(&admin), role)
    };
    let made = join_all((0..16).map(make)).await;
    assert_eq!(count(&made, 201), 1, "{made:?}");
    assert_eq!(count(&made, 403), 15, "{made:?}");
    assert_eq!(house.rows("roles").await, 200);
}

/// SQLite has one writer: there the two cannot meet.
#[tokio::test]
async fn a_sign_in_that_meets_a_new_password_does_not_outlive_the_old_one() {
    let house = House::on_postgres(1, &[]).await;
    house.administrator().await;
    // As a reset does it: the password is another one once that is committed.
    let resetting = "UPDATE passwords SET phc = replace(phc, 'm=', 'm=0')";
    let sign_in = house.login(ADMIN, PASSWORD);
    let answer = house.while_user_is_held(resetting, sign_in).await;
    assert_eq!(answer.short(), (401, "invalid_credentials"), "{answer:?}");
}

/// The keys cannot be read for a while, at the very time at which one of them is revoked.
#[tokio::test]
async fn a_revoked_key_ends_even_if_reading_the_keys_fails_once() {
    let settings = [
        ("DOTMAC_DATABASE_LOCK_TIMEOUT", "500ms"),
        ("DOTMAC_DATABASE_STATEMENT_TIMEOUT", "2s"),
    ];
    let house = House::on_postgres(1, &settings).await;
    let token = house.admin_session().await.text("access_token");
    assert_eq!(house.get("/auth/me", Some(&token)).await.status, 200);
    let postgres = house.postgres.as_ref().unwrap();
    let revoking = "BEGIN; LOCK TABLE signing_keys IN ACCESS EXCLUSIVE MODE; \
        UPDATE signing_keys SET revoked_at = now() AT TIME ZONE 'utc'; SELECT pg_sleep(5); COMMIT";
    let noting = "INSERT INTO accounts_changes (kind, subject, at) \
        VALUES ('keys', gen_random_uuid(), now() AT TIME ZONE 'utc')";
    let sleeps = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'";
    let note = async {
        dotmac_testkit::eventually("the table to be held", || async {
            (postgres.query(sleeps).await == "1").then_some(())
        })
        .await;
        postgres.query(noting).await;
    };
    tokio::join!(postgres.query(revoking), note);
    // Until the changes are read again each request reads the keys anew, which would hide that nothing else does.
    dotmac_testkit::eventually("the changes to be read again", || async {
        let age = house.instances[0].metric("dotmac_accounts_changes_age_seconds");
        age.await.filter(|age| *age < 3.0)
    })
    .await;
    let refused = house.until_refused(0, &token).await;
    assert_eq!(refused.short(), (401, "token_invalid"), "{refused:?}");
}

#[tokio::test]
async fn a_retired_key_is_deleted_at_its_time_and_values_of_a_former_master_key_are_resealed() {
    let mut house = House::on_postgres(1, &[]).await;
    let session = house.admin_session().await;
    let postgres = house.postgres.as_ref().unwrap();
    house.command(&["accounts", "keys", "rotate"]).await;
    let published = || async {
        let keys = house.get("/.well-known/jwks.json", None).await;
        keys.body["keys"].as_array().map_or(0, Vec::len)
    };
    dotmac_testkit::eventually("the new key to be published", || async {
        (published().await == 2).then_some(())
    })
    .await;
    postgres
        .query(
            "UPDATE signing_keys SET retire_at = now() AT TIME ZONE 'utc' + interval '4 seconds' \
             WHERE retire_at IS NOT NULL; \
             UPDATE signing_keys SET activate_at = now() AT TIME ZONE 'utc'; \
             INSERT INTO accounts_changes (kind, subject, at) \
             VALUES ('keys', gen_random_uuid(), now() AT TIME ZONE 'utc')",
        )
        .await;
    dotmac_testkit::eventually("the retired key to be gone", || async {
        (published().await == 1).then_some(())
    })
    .await;
    let token = session.text("access_token");
    let refused = house.get("/auth/me", Some(&token)).await;
    assert_eq!(refused.short(), (401, "token_invalid"), "{refused:?}");

    // The key of the house is changed as docs/sealing.md says; then the former one can go.
    let new = "ICEiIyQlJicoKSorLC0uLzAxMjM0NTY3ODk6Ozw9Pj8=";
    let both = format!("{new},{}", crate::MASTER_KEY);
    house.instances.clear();
    let postgres = house.postgres.as_ref().unwrap();
    let with = |key: &str| house.builder().env("DOTMAC_APP_MASTER_KEY", key);
    let heads = "SELECT string_agg(encode(substr(secret_enc, 1, 16), 'hex'), ',') FROM secret_keys";
    let before = postgres.query(heads).await;
    // The next run, which is due within ten minutes.
    postgres
        .query("UPDATE lease SET due_at = '2026-01-01', expires_at = '2026-01-01'")
        .await;
    let changed = with(&both).spawn().await;
    changed.until("/ready", 200).await;
    dotmac_testkit::eventually("the secrets to be sealed anew", || async {
        (postgres.query(heads).await != before).then_some(())
    })
    .await;
    let alone = with(new).spawn().await;
    alone.until("/ready", 200).await;
    let url = format!("{}/api/v1/auth/refresh", alone.base);
    let refresh = json!({ "refresh_token": session.text("refresh_token") });
    let renewed = alone.client.post(url).json(&refresh).send().await.unwrap();
    assert_eq!(renewed.status(), 200);
}
