//! The lock after a hundred failures, what its owner is written, and how the owner gets past it.

use reqwest::Method;
use serde_json::{Value, json};

use crate::{
    House, PASSWORD,
    browsers::cookie,
    mail::{ANN, token},
};

const LOCKOUTS: &str = "dotmac_accounts_lockouts_total";

#[tokio::test]
async fn the_hundredth_failure_locks_and_the_link_that_is_mailed_then_passes_the_lock() {
    House::with_mail(&[], async |house| {
        house.ann().await;
        let wrong = async || house.login(ANN, "a wrong password of some length").await;
        assert_eq!(wrong().await.short(), (401, "invalid_credentials"));
        let locks = "audit_entry WHERE action = 'authn_login_lock'";
        for (failures, locked) in [(98, 0), (99, 1)] {
            house
                .sql(&format!(
                    "UPDATE login_throttle SET failures = {failures}, until = '2026-11-01 00:00:00.000000'"
                ))
                .await;
            assert_eq!(wrong().await.short(), (401, "invalid_credentials"));
            assert_eq!(house.rows(locks).await, locked, "after {failures} failures");
            let counted = house.instances[0].metric(LOCKOUTS).await;
            assert_eq!(counted, Some(locked as f64), "after {failures} failures");
        }
        // For good, not for 15 minutes; no answer says more than an hour.
        let right = house.login(ANN, PASSWORD).await;
        assert_eq!(right.short(), (429, "rate_limited"), "{right:?}");
        assert_eq!(right.headers["retry-after"], "3600");

        let mail = house.mail("accounts.locked", ANN, 1).await;
        let link = json!({ "token": token(&mail), "mode": "token" });
        let session = house
            .post("/auth/magic-link/confirm", None, link.clone())
            .await;
        assert_eq!(session.status, 200, "{session:?}");
        let access = session.text("access_token");
        assert_eq!(house.get("/auth/me", Some(&access)).await.status, 200);
        let again = house.post("/auth/magic-link/confirm", None, link).await;
        assert_eq!(again.short(), (410, "link_used_or_expired"));
        assert_eq!(house.login(ANN, PASSWORD).await.status, 200);
        house.mail("accounts.locked", ANN, 1).await;
    })
    .await;
}

/// Also where others have used up the mails that the address gets in an hour.
#[tokio::test]
async fn the_owner_is_told_of_a_lock_once_a_day_and_what_others_ask_for_does_not_end_the_link() {
    House::with_mail(&[], async |house| {
        house.ann().await;
        let wrong = async || house.login(ANN, "a wrong password of some length").await;
        let link = |mail: &Value| json!({ "token": token(mail), "mode": "token" });
        let confirm = async |link: Value| house.post("/auth/magic-link/confirm", None, link).await;
        let ask = async |count: usize| {
            let asked = house.post("/auth/magic-link", None, json!({ "email": ANN }));
            assert_eq!(asked.await.status, 202);
            house.mail("accounts.sign_in", ANN, count).await;
        };
        assert_eq!(wrong().await.short(), (401, "invalid_credentials"));
        house
            .sql("UPDATE login_throttle SET failures = 99, until = '2026-11-01 00:00:00.000000'")
            .await;
        assert_eq!(wrong().await.short(), (401, "invalid_credentials"));
        let first = house.mail("accounts.locked", ANN, 1).await;
        for count in 1..=3 {
            ask(count).await;
        }
        assert_eq!(wrong().await.short(), (429, "rate_limited"));

        let yesterday = chrono::Utc::now() - chrono::TimeDelta::hours(25);
        let yesterday = yesterday.format("%Y-%m-%d %H:%M:%S%.6f");
        let aged = format!("SET window_start = '{yesterday}' WHERE failures >= 100");
        house.sql(&format!("UPDATE login_throttle {aged}")).await;
        for _ in 0..2 {
            assert_eq!(wrong().await.short(), (429, "rate_limited"));
        }
        let second = house.mail("accounts.locked", ANN, 2).await;
        // An hour later.
        house
            .sql("DELETE FROM login_throttle WHERE failures < 100")
            .await;
        ask(4).await;
        let gone = confirm(link(&first)).await;
        assert_eq!(gone.short(), (410, "link_used_or_expired"), "{gone:?}");
        let session = confirm(link(&second)).await;
        assert_eq!(session.status, 200, "{session:?}");
        assert_eq!(house.login(ANN, PASSWORD).await.status, 200);
        house.mail("accounts.locked", ANN, 2).await;
    })
    .await;
}

/// Somebody at the owner's own browser, whose failures are counted by its device.
#[tokio::test]
async fn a_lock_of_the_owners_browser_is_passed_by_the_link_and_over_then() {
    House::with_mail(&[], async |house| {
        house.ann().await;
        let body =
            |password: &str| json!({ "identifier": ANN, "password": password, "mode": "cookie" });
        let session = house.post("/auth/login", None, body(PASSWORD)).await;
        let device = format!(
            "dotmac_device={}",
            cookie(&session, "dotmac_device").unwrap()
        );
        let wrong = "a wrong password of some length";
        let here =
            async |password: &str| house.post_as(&device, "/auth/login", body(password)).await;
        assert_eq!(here(wrong).await.short(), (401, "invalid_credentials"));
        house
            .sql("UPDATE login_throttle SET failures = 99, until = '2026-11-01 00:00:00.000000'")
            .await;
        assert_eq!(here(wrong).await.short(), (401, "invalid_credentials"));
        assert_eq!(here(PASSWORD).await.short(), (429, "rate_limited"));

        let mail = house.mail("accounts.locked", ANN, 1).await;
        let link = json!({ "token": token(&mail), "mode": "cookie" });
        let passed = [("cookie", device.as_str())];
        let path = "/auth/magic-link/confirm";
        let passed = house
            .send(0, Method::POST, path, None, Some(link), &passed)
            .await;
        assert_eq!(passed.status, 200, "{passed:?}");
        assert_eq!(here(PASSWORD).await.status, 200);
    })
    .await;
}
