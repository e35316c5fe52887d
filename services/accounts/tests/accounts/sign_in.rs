//! Signing in, refreshing, signing out, and what other instances learn of it.

use std::time::Duration;

use reqwest::Method;
use serde_json::json;

use crate::{ADMIN, House, PASSWORD};

async fn tour(house: &House) {
    let link = house.administrator().await;
    let again = json!({ "token": link, "password": "another fine password of mine" });
    assert_eq!(
        house
            .post("/auth/password/reset", None, again)
            .await
            .short(),
        (410, "link_used_or_expired")
    );

    let session = house.login(ADMIN, PASSWORD).await;
    assert_eq!(session.status, 200, "{session:?}");
    assert_eq!(
        (&session.body["token_type"], &session.body["acr"]),
        (&"Bearer".into(), &1.into())
    );
    assert_eq!(session.body["user"]["tenant"]["slug"], "default");
    assert_eq!(session.headers["cache-control"], "no-store");
    let (access, refresh) = (session.text("access_token"), session.text("refresh_token"));

    // Every instance knows who calls.
    for instance in 0..2 {
        let me = house
            .send(instance, Method::GET, "/auth/me", Some(&access), None, &[])
            .await;
        assert_eq!(me.status, 200, "{me:?}");
        assert_eq!(
            (&me.body["email"], &me.body["roles"]),
            (&ADMIN.into(), &json!(["owner"]))
        );
    }
    let jwks = house.get("/.well-known/jwks.json", None).await;
    assert_eq!(
        (&jwks.body["keys"][0]["alg"], jwks.body["keys"][0].get("d")),
        (&"ES256".into(), None)
    );

    // A refresh token is none of the things that it is not.
    assert_eq!(
        house.get("/auth/me", Some(&refresh)).await.short(),
        (401, "token_invalid")
    );
    let as_refresh = json!({ "refresh_token": access });
    assert_eq!(
        house.post("/auth/refresh", None, as_refresh).await.short(),
        (401, "token_invalid")
    );

    // Two tabs refresh at once, on two instances: both get the same successor, and nobody is signed out.
    let renew = |instance, token: &str| {
        let body = json!({ "refresh_token": token });
        house.send(
            instance,
            Method::POST,
            "/auth/refresh",
            None,
            Some(body),
            &[],
        )
    };
    let (one, other) = tokio::join!(renew(0, &refresh), renew(1, &refresh));
    assert_eq!((one.status, other.status), (200, 200), "{one:?} {other:?}");
    assert_eq!(one.text("refresh_token"), other.text("refresh_token"));
    assert_ne!(one.text("refresh_token"), refresh);
    let access = other.text("access_token");

    // What is ended on one instance is ended on the other.
    assert_eq!(
        house
            .send(1, Method::GET, "/auth/me", Some(&access), None, &[])
            .await
            .status,
        200
    );
    let out = house
        .send(0, Method::POST, "/auth/logout", Some(&access), None, &[])
        .await;
    assert_eq!(out.status, 204, "{out:?}");
    assert_eq!(
        house.get("/auth/me", Some(&access)).await.short(),
        (401, "session_ended")
    );
    assert_eq!(
        house.until_refused(1, &access).await.short(),
        (401, "session_ended")
    );
    assert_eq!(
        renew(1, &one.text("refresh_token")).await.short(),
        (401, "session_ended")
    );
}

#[tokio::test]
async fn an_administrator_signs_in_refreshes_and_signs_out_on_two_instances_of_sqlite() {
    tour(&House::on_sqlite(2, &[]).await).await;
}

#[tokio::test]
async fn an_administrator_signs_in_refreshes_and_signs_out_on_two_instances_of_postgres() {
    tour(&House::on_postgres(2, &[]).await).await;
}

#[tokio::test]
async fn a_refresh_token_that_is_used_again_ends_the_session() {
    let house = House::on_sqlite(2, &[("DOTMAC_ACCOUNTS_REFRESH_GRACE", "0s")]).await;
    let session = house.admin_session().await;
    let stolen = json!({ "refresh_token": session.text("refresh_token") });
    let first = house.post("/auth/refresh", None, stolen.clone()).await;
    assert_eq!(first.status, 200);
    let again = house.post("/auth/refresh", None, stolen).await;
    assert_eq!(again.short(), (401, "refresh_reused"));
    for instance in 0..2 {
        let refused = house
            .until_refused(instance, &first.text("access_token"))
            .await;
        assert_eq!(refused.short(), (401, "session_ended"));
    }
    let successor = json!({ "refresh_token": first.text("refresh_token") });
    assert_eq!(
        house.post("/auth/refresh", None, successor).await.short(),
        (401, "session_ended")
    );
}

/// When the grace is over: a successor of which nothing was seen on any instance was lost, and is given again three times. One that
/// was seen was stolen, or its predecessor was.
#[tokio::test]
async fn after_the_grace_a_lost_answer_is_given_again_and_theft_ends_the_session_on_both_back_ends()
{
    let grace = [("DOTMAC_ACCOUNTS_REFRESH_GRACE", "1ms")];
    for house in [
        House::on_sqlite(2, &grace).await,
        House::on_postgres(2, &grace).await,
    ] {
        let renew = async |token: &str| {
            tokio::time::sleep(Duration::from_millis(10)).await;
            let body = json!({ "refresh_token": token });
            house.post("/auth/refresh", None, body).await
        };
        let lost = house.admin_session().await.text("refresh_token");
        let successor = renew(&lost).await.text("refresh_token");
        for time in 1..=3 {
            let again = renew(&lost).await;
            assert_eq!(again.status, 200, "time {time}: {again:?}");
            assert_eq!(again.text("refresh_token"), successor, "time {time}");
        }
        assert_eq!(renew(&lost).await.short(), (401, "refresh_reused"));
        assert_eq!(renew(&successor).await.short(), (401, "session_ended"));

        let stolen = house.login(ADMIN, PASSWORD).await.text("refresh_token");
        let first = renew(&stolen).await;
        let seen = first.text("access_token");
        let there = house.send(1, Method::GET, "/auth/me", Some(&seen), None, &[]);
        assert_eq!(there.await.status, 200);
        assert_eq!(renew(&stolen).await.short(), (401, "refresh_reused"));
        for instance in 0..2 {
            let refused = house.until_refused(instance, &seen).await;
            assert_eq!(refused.short(), (401, "session_ended"));
        }
    }
}

#[tokio::test]
async fn a_user_sees_and_ends_own_sessions_and_no_others() {
    let house = House::on_sqlite(1, &[]).await;
    let admin = house.admin_session().await.text("access_token");
    let (_, ann) = house.user(&admin, "ann@example.com", &["member"]).await;
    let second = house.login("ann@example.com", PASSWORD).await;
    let (first, second) = (ann.text("access_token"), second.text("access_token"));
    let sessions = house.get("/auth/me/sessions", Some(&first)).await;
    let sessions = sessions.body["items"].as_array().unwrap().clone();
    assert_eq!(sessions.len(), 2);
    let other = sessions
        .iter()
        .find(|it| it["is_current"] == false)
        .unwrap();
    let path = format!("/auth/me/sessions/{}", other["id"].as_str().unwrap());
    let delete = |token: String| {
        let (house, path) = (&house, path.clone());
        async move {
            let any = [("if-match", "*")];
            house
                .send(0, Method::DELETE, &path, Some(&token), None, &any)
                .await
        }
    };
    assert_eq!(delete(admin.clone()).await.short(), (404, "not_found"));
    assert_eq!(delete(first.clone()).await.status, 204);
    assert_eq!(
        house.get("/auth/me", Some(&second)).await.short(),
        (401, "session_ended")
    );

    let change = json!({ "current": PASSWORD, "new": "a quite different sentence 7" });
    let third = house
        .login("ann@example.com", PASSWORD)
        .await
        .text("access_token");
    let wrong = json!({ "current": "not the password", "new": "a quite different sentence 7" });
    assert_eq!(
        house
            .post("/auth/password/change", Some(&first), wrong)
            .await
            .body["errors"][0]["field"],
        "current"
    );
    assert_eq!(
        house
            .post("/auth/password/change", Some(&first), change)
            .await
            .status,
        204
    );
    assert_eq!(house.get("/auth/me", Some(&first)).await.status, 200);
    assert_eq!(
        house.get("/auth/me", Some(&third)).await.short(),
        (401, "session_ended")
    );
    assert_eq!(
        house.login("ann@example.com", PASSWORD).await.short(),
        (401, "invalid_credentials")
    );
}

#[tokio::test]
async fn passwords_that_are_guessed_first_are_refused_with_the_reason() {
    let house = House::on_sqlite(1, &[]).await;
    let printed = house
        .command(&["user", "create-admin", "--email", ADMIN, "--json"])
        .await;
    let made: serde_json::Value = serde_json::from_str(printed.lines().last().unwrap()).unwrap();
    for (password, code) in [
        ("short", "password_too_short"),
        ("passwordpassword", "password_common"),
        ("admin@example.comadmin", "password_context"),
        // The tenant.
        ("default default 7d", "password_context"),
    ] {
        let answer = house.post(
            "/auth/password/reset",
            None,
            json!({ "token": made["token"], "password": password }),
        );
        let answer = answer.await;
        assert_eq!(
            (answer.status, &answer.body["errors"][0]["code"]),
            (422, &code.into()),
            "{answer:?}"
        );
    }
    let register = json!({ "email": "new@example.com" });
    assert_eq!(
        house.post("/auth/register", None, register).await.short(),
        (403, "registration_closed")
    );
}
