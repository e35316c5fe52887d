//! The bounds of sessions and keys: how many there are, what a refresh token must prove, when the use of a key is stored.

use reqwest::Method;
use serde_json::{Value, json};

use crate::{ADMIN, Answer, House, PASSWORD, browsers::cookie};

/// What the database knows of refresh tokens, by which each of them is judged.
async fn refresh_rows(house: &House) -> i64 {
    let rows = "session_refresh WHERE generation = 1 AND confirmed_gen = 0 AND lost_replays = 0";
    house.rows(rows).await
}

async fn me(house: &House, session: &Answer) -> u16 {
    let token = session.text("access_token");
    house.get("/auth/me", Some(&token)).await.status
}

#[tokio::test]
async fn a_sign_in_beyond_the_most_sessions_ends_the_one_that_was_idle_the_longest() {
    let settings = [("DOTMAC_ACCOUNTS_MAX_SESSIONS", "3")];
    for house in [
        House::on_sqlite(1, &settings).await,
        House::on_postgres(1, &settings).await,
    ] {
        let first = house.admin_session().await;
        let second = house.login(ADMIN, PASSWORD).await;
        let third = house.login(ADMIN, PASSWORD).await;
        // The second one was not used for the longest time, though the first one is older.
        let idle = second.text("session_id");
        house
            .sql(&format!(
                "UPDATE sessions SET last_seen_at = '2026-11-01 00:00:00.000000' WHERE id = '{idle}'"
            ))
            .await;
        let fourth = house.login(ADMIN, PASSWORD).await;
        for (session, expected) in [(&first, 200), (&second, 401), (&third, 200), (&fourth, 200)] {
            assert_eq!(me(&house, session).await, expected, "{session:?}");
        }
        let ended = "sessions WHERE end_reason = 'too_many_sessions'";
        assert_eq!(house.rows(ended).await, 1);
    }
}

/// The text has the right checksum, since it was a right token before the salt of its session changed.
#[tokio::test]
async fn a_refresh_token_whose_code_is_wrong_changes_nothing() {
    House::on_both(async |house| {
        let session = house.admin_session().await;
        let refresh = json!({ "refresh_token": session.text("refresh_token") });
        let send = async || house.post("/auth/refresh", None, refresh.clone()).await;
        house
            .sql(
                "CREATE TABLE kept AS SELECT salt FROM session_refresh; \
                 UPDATE session_refresh SET salt = substr(salt, 2)",
            )
            .await;
        for _ in 0..4 {
            let refused = send().await;
            assert_eq!(refused.short(), (401, "token_invalid"), "{refused:?}");
        }
        assert_eq!(refresh_rows(&house).await, 1);
        let ended = "sessions WHERE ended_at IS NOT NULL";
        assert_eq!(house.rows(ended).await, 0);
        house
            .sql("UPDATE session_refresh SET salt = (SELECT salt FROM kept)")
            .await;
        let renewed = send().await;
        assert_eq!(renewed.status, 200, "{renewed:?}");
        assert_eq!(refresh_rows(&house).await, 0);
    })
    .await;
}

/// A write for each request with a key would be one for each row of the table that all wait for.
#[tokio::test]
async fn uses_of_a_key_are_stored_together_and_by_the_secret_that_was_used() {
    let settings = [("DOTMAC_ADMIN_SOCKET", "admin.sock")];
    for house in [
        House::on_sqlite(1, &settings).await,
        House::on_postgres(1, &settings).await,
    ] {
        let admin = house.admin_session().await.text("access_token");
        let new = json!({ "name": "k", "scopes": ["accounts.users.read"] });
        let made = house.post("/api-keys", Some(&admin), new).await;
        let (first, path) = (made.text("key"), format!("/api-keys/{}", made.text("id")));
        let used = async |key: &str| {
            for _ in 0..3 {
                assert_eq!(house.get("/users", Some(key)).await.status, 200);
            }
        };
        let shown = async || {
            let found = house.get(&path, Some(&admin)).await;
            [
                found.body["last_used_at"].clone(),
                found.body["next_last_used_at"].clone(),
            ]
        };
        // They are stored once a minute, and when the worker begins.
        let stored = async |which: usize| {
            let daemon = &house.instances[0];
            let restart = ["restart", "accounts.uses"];
            let restarted = house.builder().run_in(daemon.directory(), &restart).await;
            assert_eq!(restarted.code, 0, "{}", restarted.text());
            dotmac_testkit::eventually("the use to be stored", || async {
                let shown = shown().await;
                shown[which].is_string().then_some(shown)
            })
            .await
        };
        used(&first).await;
        assert_eq!(shown().await, [Value::Null, Value::Null]);
        let [of_first, of_second] = stored(0).await;
        assert_eq!(of_second, Value::Null);
        let rotate = json!({ "overlap": "1h" });
        let second = house
            .post(&format!("{path}/rotate"), Some(&admin), rotate)
            .await
            .text("key");
        used(&second).await;
        assert_eq!(shown().await, [of_first.clone(), Value::Null]);
        let [still, of_second] = stored(1).await;
        assert_eq!(still, of_first);
        assert!(of_second.is_string());
    }
}

/// Idle for too long, or over for good: neither token nor cookie of such a session counts, and none makes it go on.
#[tokio::test]
async fn a_session_ends_with_its_times() {
    House::on_both(async |house| {
        house.administrator().await;
        for column in ["idle_until", "expires_at"] {
            let tokens = house.login(ADMIN, PASSWORD).await;
            let body = json!({ "identifier": ADMIN, "password": PASSWORD, "mode": "cookie" });
            let session = house.post("/auth/login", None, body).await;
            let cookie = cookie(&session, "dotmac_session").unwrap();
            let cookie = format!("dotmac_session={cookie}");
            // Neither is remembered yet.
            house
                .sql(&format!(
                    "UPDATE sessions SET {column} = '2026-11-01 00:00:00.000000'"
                ))
                .await;
            let (access, refresh) = (tokens.text("access_token"), tokens.text("refresh_token"));
            let ended = (401, "session_ended");
            let me = house.get("/auth/me", Some(&access)).await;
            assert_eq!(me.short(), ended, "{column}");
            let renewed = json!({ "refresh_token": refresh });
            let renewed = house.post("/auth/refresh", None, renewed).await;
            assert_eq!(renewed.short(), ended, "{column}");
            let headers = [("cookie", cookie.as_str())];
            let me = house.send(0, Method::GET, "/auth/me", None, None, &headers);
            assert_eq!(me.await.short(), ended, "{column}");
        }
    })
    .await;
}
