//! Mails that their owner did not ask for: what is in them, and what those who ask for others can do to them.

use reqwest::Method;
use serde_json::{Value, json};

use crate::{
    ADMIN, House, PASSWORD,
    factors::code as code_of_app,
    mail::{ANN, OTHER_PASSWORD, browser, code, token},
};

const GONE: (u16, &str) = (410, "link_used_or_expired");

impl House {
    /// Asks for a link that sets the password of ann; the mail, which is the one of that number.
    async fn forgot(&self, number: usize) -> Value {
        let ask = json!({ "email": ANN });
        let asked = self.post("/auth/password/forgot", None, ask).await;
        assert_eq!(asked.status, 202, "{asked:?}");
        self.mail("accounts.password_reset", ANN, number).await
    }
}

#[tokio::test]
async fn a_mail_that_anybody_asks_for_ends_no_link_of_an_administrator() {
    House::with_mail(&[], async |house| {
        let admin = house.login(ADMIN, PASSWORD).await.text("access_token");
        let (ann, _) = house.user(&admin, ANN, &["member"]).await;
        let mailed = |mail: &Value| {
            json!({ "token": token(mail), "code": code(mail), "password": OTHER_PASSWORD })
        };
        let reset = async |link: Value| house.post("/auth/password/reset", None, link).await;

        let path = format!("/users/{ann}/reset-link");
        let made = house.post(&path, Some(&admin), json!({})).await;
        let (first, second) = (house.forgot(1).await, house.forgot(2).await);
        // Of those that were asked for the newest is the only one.
        assert_eq!(reset(mailed(&first)).await.short(), GONE);
        let link = json!({ "token": made.text("token"), "password": OTHER_PASSWORD });
        let set = reset(link).await;
        assert_eq!(set.status, 204, "{set:?}");
        // It was for the password of before.
        assert_eq!(reset(mailed(&second)).await.short(), GONE);

        // One of an operator, or of an administrator, is the only one.
        let made = house.post(&path, Some(&admin), json!({})).await;
        let third = house.forgot(3).await;
        let printed = house.command(&["user", "reset-link", ANN]).await;
        let last = printed.lines().find_map(|line| line.split("#token=").nth(1));
        let made = json!({ "token": made.text("token"), "password": PASSWORD });
        for link in [made, mailed(&third)] {
            assert_eq!(reset(link).await.short(), GONE);
        }
        let set = reset(json!({ "token": last.unwrap(), "password": PASSWORD })).await;
        assert_eq!(set.status, 204, "{set:?}");
    })
    .await;
}

#[tokio::test]
async fn the_owner_is_told_of_each_factor_that_is_added_or_removed() {
    House::with_mail(&[], async |house| {
        let access = house.ann().await.text("access_token");
        let secret = house.with_app(&access).await;
        let added = house.mail("accounts.factor_added", ANN, 1).await;
        assert_eq!(added["data"]["factor"], "authenticator app", "{added}");
        let at = added["data"]["at"].as_str().unwrap();
        let year = chrono::Utc::now().format("%Y-").to_string();
        assert!(at.starts_with(&year) && at.ends_with(" UTC"), "{at}");

        let now = json!({ "code": code_of_app(&secret, 0) });
        let strong = house.post("/auth/step-up", Some(&access), now).await;
        assert_eq!(strong.status, 200, "{strong:?}");
        let strong = strong.text("access_token");
        let removed = house.remove_app(&strong, "*").await;
        assert_eq!(removed.status, 204, "{removed:?}");
        let removed = house.mail("accounts.factor_removed", ANN, 1).await;
        assert_eq!(removed["data"]["factor"], "authenticator app", "{removed}");
        assert!(removed["data"]["at"].is_string(), "{removed}");

        // By an operator.
        house.with_app(&strong).await;
        house.mail("accounts.factor_added", ANN, 2).await;
        house.command(&["user", "remove-factors", ANN]).await;
        let removed = house.mail("accounts.factor_removed", ANN, 2).await;
        assert_eq!(removed["data"]["factor"], "authenticator app", "{removed}");
    })
    .await;
}

#[tokio::test]
async fn an_address_that_is_not_proved_gets_no_name_that_a_user_chose() {
    const NAME: &str = "your bank has locked you out, call 555 0100";
    const STRANGER: &str = "stranger@example.org";
    House::with_mail(&[], async |house| {
        let access = house.ann().await.text("access_token");
        let (path, named) = ("/auth/me", json!({ "full_name": NAME }));
        let seen = [("if-match", "*")];
        let named = house
            .send(0, Method::PATCH, path, Some(&access), Some(named), &seen)
            .await;
        assert_eq!(named.status, 200, "{named:?}");
        let new = json!({ "email": STRANGER });
        let asked = house.post("/auth/email/change", Some(&access), new).await;
        assert_eq!(asked.status, 202, "{asked:?}");
        let mail = house.mail("accounts.email_change", STRANGER, 1).await;
        assert_eq!(mail["data"]["name"], STRANGER, "{mail}");
        assert!(!mail.to_string().contains("bank"), "{mail}");

        // Nor does that of the account, until it is proved.
        let sign_in = async |email: &str| {
            let asked = house.post("/auth/code", None, json!({ "email": email }));
            assert_eq!(asked.await.status, 202);
            house.mail("accounts.sign_in_code", email, 1).await
        };
        let own = sign_in(ANN).await;
        assert_eq!(own["data"]["name"], ANN, "{own}");
        let link = json!({ "token": token(&mail) });
        let proved = house
            .post_as(&browser(&asked), "/auth/email/verify", link)
            .await;
        assert_eq!(proved.status, 204, "{proved:?}");
        let own = sign_in(STRANGER).await;
        assert_eq!(own["data"]["name"], NAME, "{own}");
    })
    .await;
}
