//! Links that restore a former address, after the address was changed twice.

use serde_json::{Value, json};

use crate::{
    House,
    factors::{code, within_a_step},
    mail::{self, ANN, OTHER_PASSWORD, token},
};

const FIRST: &str = "eve.one@example.com";
const SECOND: &str = "eve.two@example.com";

impl House {
    /// Changes the address of ann twice, as an attacker with a session does; the links that restore the first address and the
    /// second.
    async fn changed_twice(&self) -> [Value; 2] {
        let access = self.ann().await.text("access_token");
        self.changed_with(&access).await
    }

    async fn changed_with(&self, access: &str) -> [Value; 2] {
        for address in [FIRST, SECOND] {
            let asked = self.asked_for_address(access, address).await;
            self.prove_address(asked).await;
        }
        let of_owner = self.mail("accounts.email_changed", ANN, 1).await;
        let of_attacker = self.mail("accounts.email_changed", FIRST, 1).await;
        [of_owner, of_attacker].map(|mail| json!({ "token": token(&mail) }))
    }

    /// Adds an app; its secret.
    pub(crate) async fn with_app(&self, access: &str) -> String {
        let path = "/auth/me/factors/totp";
        let begun = self.post(path, Some(access), json!({})).await;
        assert_eq!(begun.status, 200, "{begun:?}");
        let secret = begun.text("secret");
        within_a_step().await;
        let first = json!({ "code": code(&secret, -1) });
        let path = "/auth/me/factors/totp/confirm";
        let confirmed = self.post(path, Some(access), first).await;
        assert_eq!(confirmed.status, 200, "{confirmed:?}");
        secret
    }

    /// A session of ann, who has shown the app.
    async fn ann_by_app(&self) -> String {
        let access = self.ann().await.text("access_token");
        let secret = self.with_app(&access).await;
        let now = json!({ "code": code(&secret, 0) });
        let stepped = self.post("/auth/step-up", Some(&access), now).await;
        assert_eq!(stepped.status, 200, "{stepped:?}");
        stepped.text("access_token")
    }

    /// Sets a time of all rows to so many hours ago.
    async fn set_back(&self, times: &str, hours: i64) {
        let then = chrono::Utc::now() - chrono::TimeDelta::hours(hours);
        let then = then.format("%Y-%m-%d %H:%M:%S%.6f");
        self.sql(&format!("UPDATE {times} = '{then}'")).await;
    }

    /// Restores the address of ann, and sets a password by the link that is mailed; the answer to a sign-in.
    async fn restored(&self, link: Value) -> Value {
        let undone = self.post("/auth/email/undo", None, link).await;
        assert_eq!(undone.status, 204, "{undone:?}");
        let mail = self.mail("accounts.password_reset", ANN, 1).await;
        let reset = json!({
            "token": token(&mail), "password": OTHER_PASSWORD, "code": mail::code(&mail),
        });
        let set = self.post("/auth/password/reset", None, reset).await;
        assert_eq!(set.status, 204, "{set:?}");
        let login = self.login(ANN, OTHER_PASSWORD).await;
        assert_eq!(login.status, 200, "{login:?}");
        login.body
    }

    /// The address of the account that `identifier` finds.
    async fn address_of(&self, identifier: &str) -> Value {
        let shown = self.command(&["user", "show", identifier]).await;
        let shown: Value = serde_json::from_str(&shown).unwrap();
        shown["email"].clone()
    }
}

#[tokio::test]
async fn a_second_change_of_the_address_does_not_end_the_link_of_the_first_owner() {
    House::with_mail(&[], async |house| {
        let [of_owner, of_attacker] = house.changed_twice().await;
        let undone = house.post("/auth/email/undo", None, of_owner.clone()).await;
        assert_eq!(undone.status, 204, "{undone:?}");
        assert_eq!(house.address_of(ANN).await, ANN);
        for link in [of_attacker, of_owner] {
            let gone = house.post("/auth/email/undo", None, link).await;
            assert_eq!(gone.short(), (410, "link_used_or_expired"), "{gone:?}");
        }
        assert_eq!(house.address_of(ANN).await, ANN);
    })
    .await;
}

#[tokio::test]
async fn the_link_of_a_later_address_does_not_end_that_of_an_earlier_one() {
    House::with_mail(&[], async |house| {
        let [of_owner, of_attacker] = house.changed_twice().await;
        for (link, address) in [(&of_attacker, FIRST), (&of_owner, ANN)] {
            let undone = house.post("/auth/email/undo", None, link.clone()).await;
            assert_eq!(undone.status, 204, "{undone:?}");
            assert_eq!(house.address_of(address).await, address);
        }
        let gone = house.post("/auth/email/undo", None, of_attacker).await;
        assert_eq!(gone.short(), (410, "link_used_or_expired"), "{gone:?}");
    })
    .await;
}

#[tokio::test]
async fn a_factor_that_was_added_since_the_change_does_not_outlive_it() {
    House::with_mail(&[], async |house| {
        let access = house.ann().await.text("access_token");
        let [of_owner, _] = house.changed_with(&access).await;
        house.with_app(&access).await;
        let session = house.restored(of_owner).await;
        assert!(session["access_token"].is_string(), "{session}");
    })
    .await;
}

#[tokio::test]
async fn a_factor_of_before_the_change_still_counts() {
    House::with_mail(&[], async |house| {
        let access = house.ann_by_app().await;
        house.set_back("totp_factors SET confirmed_at", 25).await;
        let [of_owner, _] = house.changed_with(&access).await;
        let session = house.restored(of_owner).await;
        assert_eq!(session["mfa"]["methods"][0], "totp", "{session}");
    })
    .await;
}

#[tokio::test]
async fn a_factor_that_was_added_within_a_day_before_the_change_was_asked_for_does_not_outlive_it()
{
    House::with_mail(&[], async |house| {
        let access = house.ann_by_app().await;
        let asked = house.asked_for_address(&access, FIRST).await;
        // The link was used late.
        house.set_back("totp_factors SET confirmed_at", 40).await;
        house.set_back("one_time_tokens SET created_at", 20).await;
        house.prove_address(asked).await;
        let notice = house.mail("accounts.email_changed", ANN, 1).await;
        let session = house.restored(json!({ "token": token(&notice) })).await;
        assert!(session["access_token"].is_string(), "{session}");
        house.mail("accounts.factor_removed", ANN, 1).await;
    })
    .await;
}
