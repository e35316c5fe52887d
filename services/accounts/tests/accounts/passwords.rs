//! How long passwords must be: 15 characters alone, 8 beside a second factor, and what happens when that goes.

use serde_json::json;

use crate::{
    ADMIN, Answer, House, PASSWORD,
    factors::{code, enrolled, within_a_step},
};

/// Eight characters that nobody guesses early.
const SHORT: &str = "kV7!qz2#";

/// The first fault of a refused password.
fn fault(answer: &Answer) -> (u16, String, String) {
    let error = &answer.body["errors"][0];
    let text = |name: &str| error[name].as_str().unwrap_or_default().to_owned();
    (answer.status, text("code"), text("message"))
}

fn too_short(number: u32) -> (u16, String, String) {
    let message = format!("must have at least {number} characters");
    (422, "password_too_short".to_owned(), message)
}

impl House {
    async fn change_password(&self, token: &str, current: &str, new: &str) -> Answer {
        let change = json!({ "current": current, "new": new });
        self.post("/auth/password/change", Some(token), change)
            .await
    }
}

#[tokio::test]
async fn a_short_password_stands_beside_a_second_factor_and_never_alone() {
    House::on_both(async |house| {
        let alone = house.admin_session().await.text("access_token");
        let refused = house.change_password(&alone, PASSWORD, SHORT).await;
        assert_eq!(fault(&refused), too_short(15), "{refused:?}");
        let new = json!({ "email": "ann@example.com", "password": SHORT });
        let refused = house.post("/users", Some(&alone), new).await;
        assert_eq!(fault(&refused), too_short(15), "{refused:?}");

        let (token, secret, _) = app_of(&house, &alone).await;
        let refused = house.change_password(&token, PASSWORD, "kV7!qz2").await;
        assert_eq!(fault(&refused), too_short(8), "{refused:?}");
        let refused = house.change_password(&token, PASSWORD, "password").await;
        assert_eq!(fault(&refused).1, "password_common", "{refused:?}");
        let changed = house.change_password(&token, PASSWORD, SHORT).await;
        assert_eq!(changed.status, 204, "{changed:?}");

        // It is not left alone by its owner.
        let kept = house.remove_app(&token, "*").await;
        assert_eq!(kept.short(), (409, "last_factor"), "{kept:?}");
        let detail = kept.text("detail");
        assert!(detail.contains("15 characters"), "{detail}");
        let longer = house.change_password(&token, SHORT, PASSWORD).await;
        assert_eq!(longer.status, 204, "{longer:?}");
        let removed = house.remove_app(&token, "*").await;
        assert_eq!(removed.status, 204, "{removed:?}");
        drop(secret);
    })
    .await;
}

/// Hashes of other products end at 72 bytes, or at a NUL.
#[tokio::test]
async fn every_character_of_a_long_password_counts() {
    let house = House::on_sqlite(1, &[]).await;
    let token = house.admin_session().await.text("access_token");
    let long = "seven green boxes in a row, ".repeat(5)[..127].to_owned();
    let changed = house
        .change_password(&token, PASSWORD, &format!("{long}1"))
        .await;
    assert_eq!(changed.status, 204, "{changed:?}");
    let wrong = house.login(ADMIN, &format!("{long}2")).await;
    assert_eq!(wrong.short(), (401, "invalid_credentials"), "{wrong:?}");
    assert_eq!(house.login(ADMIN, &format!("{long}1")).await.status, 200);
    let refused = house
        .change_password(&token, &format!("{long}1"), &format!("{long}12"))
        .await;
    assert_eq!(refused.status, 422, "{refused:?}");
}

#[tokio::test]
async fn with_the_factors_an_operator_takes_a_short_password_away() {
    House::on_both(async |house| {
        let alone = house.admin_session().await.text("access_token");
        let (token, ..) = app_of(&house, &alone).await;
        let changed = house.change_password(&token, PASSWORD, SHORT).await;
        assert_eq!(changed.status, 204, "{changed:?}");
        let removed = house.command(&["user", "remove-factors", ADMIN]).await;
        assert!(removed.contains("the password was too short"), "{removed}");
        let refused = house.login(ADMIN, SHORT).await;
        assert_eq!(refused.short(), (401, "invalid_credentials"), "{refused:?}");

        // A link sets another, as long as one that is alone must be.
        let printed = house.command(&["user", "reset-link", ADMIN]).await;
        let link = printed.lines().find(|line| line.contains("#token="));
        let token = link.unwrap().split("#token=").nth(1).unwrap();
        let reset = async |password: &str| {
            let reset = json!({ "token": token, "password": password });
            house.post("/auth/password/reset", None, reset).await
        };
        let refused = reset(SHORT).await;
        assert_eq!(fault(&refused), too_short(15), "{refused:?}");
        assert_eq!(reset(PASSWORD).await.status, 204);
        let session = house.login(ADMIN, PASSWORD).await;
        assert!(session.body["access_token"].is_string(), "{session:?}");
    })
    .await;
}

#[tokio::test]
async fn a_link_sets_a_short_password_for_a_user_with_a_second_factor() {
    let house = House::on_sqlite(1, &[]).await;
    let (_, secret, _) = enrolled(&house).await;
    let printed = house.command(&["user", "reset-link", ADMIN]).await;
    let link = printed.lines().find(|line| line.contains("#token="));
    let token = link.unwrap().split("#token=").nth(1).unwrap();
    let reset = json!({ "token": token, "password": SHORT });
    let reset = house.post("/auth/password/reset", None, reset).await;
    assert_eq!(reset.status, 204, "{reset:?}");
    let first = house.login(ADMIN, SHORT).await;
    let flow = first.body["mfa"]["flow"].as_str().unwrap();
    within_a_step().await;
    let second = json!({ "flow": flow, "method": "totp", "code": code(&secret, 0) });
    let session = house.post("/auth/mfa/verify", None, second).await;
    assert_eq!(session.status, 200, "{session:?}");
}

/// An app of the caller, set up by one route alone; the session, which counts as authenticated by it, the secret and the codes.
async fn app_of(house: &House, token: &str) -> (String, String, Vec<String>) {
    let path = "/auth/me/factors/totp";
    let none = house.get(path, Some(token)).await;
    assert_eq!(none.short(), (404, "not_found"), "{none:?}");
    let setup = house
        .post(path, Some(token), json!({ "label": "Phone" }))
        .await;
    let secret = setup.text("secret");
    assert!(
        setup.text("uri").starts_with("otpauth://totp/"),
        "{setup:?}"
    );
    within_a_step().await;
    let first = json!({ "code": code(&secret, -1) });
    let confirmed = house.post(path, Some(token), first).await;
    let codes = confirmed.body["recovery_codes"].as_array().unwrap().clone();
    let codes: Vec<String> = codes
        .iter()
        .map(|it| it.as_str().unwrap().to_owned())
        .collect();
    assert_eq!(codes.len(), 10, "{confirmed:?}");
    let app = house.get(path, Some(token)).await;
    assert_eq!((app.status, &app.body["label"]), (200, &json!("Phone")));
    let left = house
        .get("/auth/me/factors/recovery-codes", Some(token))
        .await;
    assert_eq!(left.body, json!({ "left": 10 }));
    // With the app, so that the session is worth both factors.
    let stepped_up = json!({ "code": code(&secret, 0) });
    let session = house.post("/auth/step-up", Some(token), stepped_up).await;
    assert_eq!(session.status, 200, "{session:?}");
    (session.text("access_token"), secret, codes)
}
