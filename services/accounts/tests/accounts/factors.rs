//! Second factors: an app, recovery codes, and authentication once more.

use std::time::{Duration, SystemTime};

use reqwest::Method;
use serde_json::{Value, json};

use crate::{ADMIN, Answer, House, PASSWORD};

/// The code of an app with that secret, so many steps of 30 s from now.
pub(super) fn code(secret: &str, steps: i64) -> String {
    let secret = totp_rs::Secret::try_from_base32(secret).unwrap();
    let totp = totp_rs::Builder::new().with_secret(secret).build().unwrap();
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let now = now.unwrap().as_secs();
    totp.generate(now.checked_add_signed(steps * 30).unwrap())
        .to_string()
}

/// Not so close to the end of a step that the next request may fall into another one.
pub(super) async fn within_a_step() {
    loop {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let left = 30 - now.unwrap().as_secs() % 30;
        if left > 8 {
            return;
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

impl House {
    /// The first step of a sign-in of a user with a second factor.
    async fn flow(&self) -> String {
        let first = self.login(ADMIN, PASSWORD).await;
        assert_eq!(first.status, 200, "{first:?}");
        assert!(first.body.get("access_token").is_none(), "{first:?}");
        assert_eq!(
            first.body["mfa"]["methods"],
            json!(["totp", "recovery_code"])
        );
        first.body["mfa"]["flow"].as_str().unwrap().to_owned()
    }

    async fn verify(&self, flow: &str, method: &str, code: &str) -> Answer {
        let body = json!({ "flow": flow, "method": method, "code": code });
        self.post("/auth/mfa/verify", None, body).await
    }

    /// Takes the caller's app away that was seen with this tag.
    pub(super) async fn remove_app(&self, token: &str, tag: &str) -> Answer {
        let (path, seen) = ("/auth/me/factors/totp", [("if-match", tag)]);
        self.send(0, Method::DELETE, path, Some(token), None, &seen)
            .await
    }
}

/// An administrator with an app: a session of before it, the secret, and the recovery codes.
pub(super) async fn enrolled(house: &House) -> (String, String, Vec<String>) {
    let token = house.admin_session().await.text("access_token");
    let begun = house
        .post(
            "/auth/me/factors/totp",
            Some(&token),
            json!({ "label": "phone" }),
        )
        .await;
    assert_eq!(begun.status, 200, "{begun:?}");
    let secret = begun.text("secret");
    assert!(
        begun.text("uri").starts_with("otpauth://totp/localhost:"),
        "{begun:?}"
    );
    assert_eq!(begun.headers["cache-control"], "no-store");
    // It does not count yet.
    assert!(house.login(ADMIN, PASSWORD).await.body["access_token"].is_string());
    let confirm = "/auth/me/factors/totp/confirm";
    let wrong = house
        .post(confirm, Some(&token), json!({ "code": "000000" }))
        .await;
    assert_eq!(wrong.body["errors"][0]["code"], "code_wrong", "{wrong:?}");
    within_a_step().await;
    let first = json!({ "code": code(&secret, -1) });
    let confirmed = house.post(confirm, Some(&token), first).await;
    assert_eq!(confirmed.status, 200, "{confirmed:?}");
    let codes: Vec<String> = confirmed.body["recovery_codes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|code| code.as_str().unwrap().to_owned())
        .collect();
    assert_eq!(codes.len(), 10);
    (token, secret, codes)
}

async fn a_second_factor_is_needed_and_each_code_is_good_once(house: House) {
    let (before, secret, codes) = enrolled(&house).await;
    let flow = house.flow().await;
    // The code that confirmed the app, and one of no app.
    for spent in [code(&secret, -1), "123456".to_owned()] {
        let refused = house.verify(&flow, "totp", &spent).await;
        assert_eq!(refused.short(), (401, "invalid_credentials"));
        // It does not say which was wrong, nor what was right before.
        assert_eq!(refused.body["detail"], "these credentials are not right");
    }
    let now = code(&secret, 0);
    let session = house.verify(&flow, "totp", &now).await;
    assert_eq!(
        (session.status, &session.body["acr"]),
        (200, &json!(2)),
        "{session:?}"
    );
    let token = session.text("access_token");
    assert_eq!(house.get("/auth/me", Some(&token)).await.body["acr"], 2);
    // The flow is over, and the code is used up for every other.
    assert_eq!(
        house.verify(&flow, "totp", &now).await.short(),
        (410, "link_used_or_expired")
    );
    let flow = house.flow().await;
    assert_eq!(
        house.verify(&flow, "totp", &now).await.short(),
        (401, "invalid_credentials")
    );
    let typed = codes[3].to_lowercase().replace('-', " ");
    let recovered = house.verify(&flow, "recovery_code", &typed).await;
    assert_eq!(
        (recovered.status, &recovered.body["acr"]),
        (200, &json!(2)),
        "{recovered:?}"
    );
    let flow = house.flow().await;
    let again = house.verify(&flow, "recovery_code", &codes[3]).await;
    assert_eq!(again.short(), (401, "invalid_credentials"));
    let factors = house.get("/auth/me/factors", Some(&token)).await;
    assert_eq!(factors.body["recovery_codes_left"], 9, "{factors:?}");
    assert_eq!(factors.body["totp"]["label"], "phone");
    // A sign-in offers no recovery code to a user who has none left.
    let used = "UPDATE recovery_codes SET used_at = '2026-11-01 00:00:00.000000'";
    house.sql(used).await;
    let first = house.login(ADMIN, PASSWORD).await;
    assert_eq!(first.body["mfa"]["methods"], json!(["totp"]), "{first:?}");

    // A session of before the app is too weak to change it, and the password does not make it stronger.
    let tag = factors.body["totp"]["etag"].as_str().unwrap();
    let refused = house.remove_app(&before, tag).await;
    assert_eq!(refused.short(), (403, "step_up_required"));
    let change = json!({ "current": PASSWORD, "new": "eight yellow boxes in a row" });
    let change = house
        .post("/auth/password/change", Some(&before), change)
        .await;
    assert_eq!(change.short(), (403, "step_up_required"));
    let step_up = |body: Value| house.post("/auth/step-up", Some(&before), body);
    let by_password = step_up(json!({ "password": PASSWORD })).await;
    assert_eq!(by_password.short(), (403, "step_up_required"));
    within_a_step().await;
    let stepped = step_up(json!({ "code": code(&secret, 1) })).await;
    assert_eq!(
        (stepped.status, &stepped.body["acr"]),
        (200, &json!(2)),
        "{stepped:?}"
    );
    assert_eq!(house.refused(&before).await.short(), (401, "session_ended"));

    let dump = house.dump().await;
    for planted in codes.iter().chain([&secret]) {
        assert!(
            !dump.contains(planted.as_str()),
            "{planted} is in the database"
        );
    }
    let (token, path) = (stepped.text("access_token"), "/auth/me/factors/totp");
    let bare = house.send(0, Method::DELETE, path, Some(&token), None, &[]);
    assert_eq!(bare.await.short(), (428, "precondition_required"));
    let stale = house.remove_app(&token, "\"7\"").await;
    assert_eq!(stale.short(), (412, "precondition_failed"));
    assert_eq!(house.remove_app(&token, tag).await.status, 204);
    assert_eq!(
        house.remove_app(&token, tag).await.short(),
        (404, "not_found")
    );
    assert!(house.login(ADMIN, PASSWORD).await.body["access_token"].is_string());
}

#[tokio::test]
async fn a_second_factor_is_needed_and_each_code_is_good_once_on_sqlite() {
    a_second_factor_is_needed_and_each_code_is_good_once(House::on_sqlite(1, &[]).await).await;
}

#[tokio::test]
async fn a_second_factor_is_needed_and_each_code_is_good_once_on_postgres() {
    let house = House::on_postgres(1, &[]).await.in_turns().await;
    a_second_factor_is_needed_and_each_code_is_good_once(house).await;
}

#[tokio::test]
async fn codes_are_not_guessed_and_a_code_signs_in_once_however_often_it_comes_at_once() {
    let house = House::on_postgres(1, &[]).await;
    let (_, secret, codes) = enrolled(&house).await;
    let flow = house.flow().await;
    for _ in 0..5 {
        let refused = house.verify(&flow, "totp", "000001").await;
        assert_eq!(refused.short(), (401, "invalid_credentials"));
    }
    // The flow has no try left, not even for the right code; and another one has to wait.
    within_a_step().await;
    let right = code(&secret, 0);
    assert_eq!(
        house.verify(&flow, "totp", &right).await.short(),
        (410, "link_used_or_expired")
    );
    house.command(&["user", "unlock", ADMIN]).await;

    let flow = house.flow().await;
    let at_once = (0..5).map(|_| house.verify(&flow, "totp", &right));
    let answers = futures_util::future::join_all(at_once).await;
    let signed_in = answers.iter().filter(|answer| answer.status == 200).count();
    assert_eq!(signed_in, 1, "{answers:?}");

    // Who has lost the app and the codes is let in by an operator.
    assert_eq!(codes.len(), 10);
    house.command(&["user", "remove-factors", ADMIN]).await;
    assert!(house.login(ADMIN, PASSWORD).await.body["access_token"].is_string());
}

#[tokio::test]
async fn other_sessions_end_with_a_new_app_and_with_its_end_and_the_present_one_is_weaker_then() {
    House::on_both(async |house| {
        let house = house.in_turns().await;
        let token = house.admin_session().await.text("access_token");
        let stolen = house.login(ADMIN, PASSWORD).await.text("access_token");
        let me = async |token: &str| house.get("/auth/me", Some(token)).await;
        assert_eq!(me(&stolen).await.status, 200);
        let setup = house.post("/auth/me/factors/totp", Some(&token), json!({}));
        let secret = setup.await.text("secret");
        within_a_step().await;
        let first = json!({ "code": code(&secret, -1) });
        let path = "/auth/me/factors/totp/confirm";
        let confirmed = house.post(path, Some(&token), first).await;
        assert_eq!(confirmed.status, 200, "{confirmed:?}");
        assert_eq!(house.refused(&stolen).await.short(), (401, "session_ended"));
        assert_eq!(me(&token).await.status, 200);

        let mut strong = Vec::new();
        for method in ["totp", "recovery_code"] {
            let flow = house.flow().await;
            let code = match method {
                "totp" => code(&secret, 0),
                _ => confirmed.body["recovery_codes"][0]
                    .as_str()
                    .unwrap()
                    .to_owned(),
            };
            let session = house.verify(&flow, method, &code).await;
            assert_eq!(session.status, 200, "{session:?}");
            strong.push(session.text("access_token"));
        }
        let removed = house.remove_app(&strong[0], "*").await;
        assert_eq!(removed.status, 204, "{removed:?}");
        assert_eq!(
            house.refused(&strong[1]).await.short(),
            (401, "session_ended")
        );
        let kept = me(&strong[0]).await;
        assert_eq!(
            (kept.status, &kept.body["acr"]),
            (200, &json!(1)),
            "{kept:?}"
        );
    })
    .await;
}

/// SQLite has one writer: there they cannot meet.
#[tokio::test]
async fn an_app_that_is_being_confirmed_is_neither_replaced_nor_removed_by_who_did_not_show_it() {
    let house = House::on_postgres(1, &[]).await;
    let token = house.admin_session().await.text("access_token");
    let setup = house.post("/auth/me/factors/totp", Some(&token), json!({}));
    assert_eq!(setup.await.status, 200);
    for (method, expected) in [
        (Method::POST, (409, "conflict")),
        (Method::DELETE, (403, "step_up_required")),
    ] {
        let body = (method == Method::POST).then(|| json!({}));
        let path = "/auth/me/factors/totp";
        let changing = "UPDATE totp_factors SET confirmed_at = now() AT TIME ZONE 'utc'";
        let seen = [("if-match", "*")];
        let request = house.send(0, method, path, Some(&token), body, &seen);
        let answer = house.while_user_is_held(changing, request).await;
        assert_eq!(answer.short(), expected, "{answer:?}");
        house
            .sql("UPDATE totp_factors SET confirmed_at = NULL")
            .await;
    }
}

#[tokio::test]
async fn a_recovery_code_that_was_replaced_meanwhile_is_worth_nothing() {
    let house = House::on_postgres(1, &[]).await;
    let (_, _, codes) = enrolled(&house).await;
    let flow = house.flow().await;
    let changing = "UPDATE recovery_codes SET phc = replace(phc, 'm=', 'm=0')";
    let request = house.verify(&flow, "recovery_code", &codes[0]);
    let answer = house.while_user_is_held(changing, request).await;
    assert_eq!(answer.short(), (401, "invalid_credentials"), "{answer:?}");
}

/// As after so many failures that the next try waits for long: all that are counted, whatever they count.
const LOCKED: &str =
    "UPDATE login_throttle SET failures = 20, until = '9999-01-01 00:00:00.000000'";

#[tokio::test]
async fn a_stolen_session_locks_no_user_out_and_ends_once_it_has_failed_too_often() {
    House::on_both(async |house| {
        let (stolen, secret, codes) = enrolled(&house).await;
        let wrong = async || {
            let body = json!({ "code": "000001" });
            let answer = house.post("/auth/step-up", Some(&stolen), body).await;
            assert_eq!(answer.body["errors"][0]["code"], "code_wrong", "{answer:?}");
        };
        wrong().await;
        house.sql(LOCKED).await;
        let held = json!({ "code": "000001" });
        let held = house.post("/auth/step-up", Some(&stolen), held).await;
        assert_eq!(held.short(), (429, "rate_limited"), "{held:?}");
        within_a_step().await;
        for (method, code) in [
            ("totp", code(&secret, 0)),
            ("recovery_code", codes[0].clone()),
        ] {
            let flow = house.flow().await;
            let session = house.verify(&flow, method, &code).await;
            assert_eq!(session.status, 200, "{method}: {session:?}");
        }

        house
            .sql("UPDATE login_throttle SET failures = 19, until = '2026-11-01 00:00:00.000000'")
            .await;
        wrong().await;
        let ended = house.get("/auth/me", Some(&stolen)).await;
        assert_eq!(ended.short(), (401, "session_ended"), "{ended:?}");
    })
    .await;
}

#[tokio::test]
async fn codes_of_an_app_that_does_not_count_yet_are_not_counted_against_it() {
    let house = House::on_sqlite(1, &[]).await;
    let token = house.admin_session().await.text("access_token");
    for _ in 0..8 {
        let body = json!({ "code": "000001" });
        let answer = house.post("/auth/step-up", Some(&token), body).await;
        assert_eq!(answer.body["errors"][0]["code"], "code_wrong", "{answer:?}");
    }
}

#[tokio::test]
async fn a_locked_app_is_unlocked_by_an_operator_alone_and_recovery_codes_stay_good() {
    House::on_both(async |house| {
        let (before, secret, codes) = enrolled(&house).await;
        let (_, bob) = house.user(&before, "bob@example.com", &["owner"]).await;
        let bob = bob.text("access_token");
        let me = house.get("/auth/me", Some(&before)).await.text("id");
        let flow = house.flow().await;
        let refused = house.verify(&flow, "totp", "000001").await;
        assert_eq!(refused.short(), (401, "invalid_credentials"));
        house.sql(LOCKED).await;

        // Neither an administrator nor a link gives an attacker more tries.
        let (path, none) = (format!("/users/{me}"), json!({}));
        let unlocked = house
            .post_owned(format!("{path}/unlock"), &bob, none.clone())
            .await;
        assert_eq!(unlocked.status, 204, "{unlocked:?}");
        let link = house
            .post_owned(format!("{path}/reset-link"), &bob, none)
            .await;
        let reset = json!({ "token": link.text("token"), "password": PASSWORD });
        let reset = house.post("/auth/password/reset", None, reset).await;
        assert_eq!(reset.status, 204, "{reset:?}");
        within_a_step().await;
        let right = code(&secret, 0);
        let flow = house.flow().await;
        let held = house.verify(&flow, "totp", &right).await;
        assert_eq!(held.short(), (429, "rate_limited"), "{held:?}");
        let recovered = house.verify(&flow, "recovery_code", &codes[1]).await;
        assert_eq!(recovered.status, 200, "{recovered:?}");

        house.command(&["user", "unlock", ADMIN]).await;
        within_a_step().await;
        let flow = house.flow().await;
        let session = house.verify(&flow, "totp", &code(&secret, 0)).await;
        assert_eq!(session.status, 200, "{session:?}");
    })
    .await;
}

/// Ten slow hashes a call, which go before the sign-ins of new devices.
#[tokio::test]
async fn recovery_codes_are_renewed_three_times_an_hour_by_one_caller() {
    let house = House::on_sqlite(1, &[]).await;
    let (_, secret, _) = enrolled(&house).await;
    within_a_step().await;
    let flow = house.flow().await;
    let session = house.verify(&flow, "totp", &code(&secret, 0)).await;
    let token = session.text("access_token");
    let renew = || house.post("/auth/me/factors/recovery-codes", Some(&token), json!({}));
    for _ in 0..3 {
        let renewed = renew().await;
        assert_eq!(renewed.status, 200, "{renewed:?}");
    }
    assert_eq!(renew().await.status, 429);
}

#[tokio::test]
async fn recovery_codes_are_deleted_by_whoever_shows_the_app() {
    House::on_both(async |house| {
        let (weak, secret, codes) = enrolled(&house).await;
        let path = "/auth/me/factors/recovery-codes";
        let delete = async |token: &str| {
            let deleted = house.send(0, Method::DELETE, path, Some(token), None, &[]);
            deleted.await
        };
        let refused = delete(&weak).await;
        assert_eq!(refused.short(), (403, "step_up_required"), "{refused:?}");
        within_a_step().await;
        let flow = house.flow().await;
        let session = house.verify(&flow, "totp", &code(&secret, 0)).await;
        let token = session.text("access_token");
        let deleted = delete(&token).await;
        assert_eq!(deleted.status, 204, "{deleted:?}");
        assert_eq!(delete(&token).await.short(), (404, "not_found"));
        let left = house.get(path, Some(&token)).await;
        assert_eq!(left.body, json!({ "left": 0 }));
        let first = house.login(ADMIN, PASSWORD).await;
        assert_eq!(first.body["mfa"]["methods"], json!(["totp"]), "{first:?}");
        let flow = first.body["mfa"]["flow"].as_str().unwrap();
        let gone = house.verify(flow, "recovery_code", &codes[0]).await;
        assert_eq!(gone.short(), (401, "invalid_credentials"), "{gone:?}");
    })
    .await;
}

#[tokio::test]
async fn a_browser_goes_on_with_its_second_factor_from_this_site_alone() {
    let house = House::on_sqlite(1, &[]).await;
    let (_, secret, _) = enrolled(&house).await;
    let login = json!({ "identifier": ADMIN, "password": PASSWORD, "mode": "cookie" });
    let first = house.post("/auth/login", None, login).await;
    let flow = first.body["mfa"]["flow"].as_str().unwrap();
    within_a_step().await;
    let body = json!({ "flow": flow, "method": "totp", "code": code(&secret, 0) });
    let verify = |site: &'static str| {
        let (path, body) = ("/auth/mfa/verify", Some(body.clone()));
        let house = &house;
        async move {
            let headers = [("sec-fetch-site", site)];
            house
                .send(0, Method::POST, path, None, body, &headers)
                .await
        }
    };
    let foreign = verify("cross-site").await;
    assert_eq!(foreign.short(), (403, "csrf"), "{foreign:?}");
    let session = verify("same-origin").await;
    assert_eq!(session.status, 200, "{session:?}");
}
