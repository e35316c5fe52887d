//! Who knew the password of a user for a while, or may act as one for a while: what they keep of it when the user gets more
//! permissions, or when their own end.

use reqwest::Method;
use serde_json::{Value, json};

use crate::{Answer, House, PASSWORD, mail::token};

const VIC: &str = "vic@example.com";
const LACKS: (u16, &str) = (403, "forbidden");

fn within(minutes: i64) -> String {
    let end = chrono::Utc::now() + chrono::TimeDelta::minutes(minutes);
    end.to_rfc3339_opts(chrono::SecondsFormat::Micros, true)
}

impl House {
    async fn role(&self, owner: &str, name: &str, permissions: &[&str], denied: &[&str]) {
        let role = json!({ "name": name, "permissions": permissions, "denied": denied });
        let made = self.post("/roles", Some(owner), role).await;
        assert_eq!(made.status, 201, "{made:?}");
    }

    async fn give(&self, token: &str, principal: &str, role: &str, end: Option<String>) -> Answer {
        let body = json!({ "principal": principal, "role": role, "expires_at": end });
        self.post("/role-bindings", Some(token), body).await
    }

    /// The role for good, and for a minute one that denies everything.
    async fn give_and_deny(&self, token: &str, principal: &str, role: &str) {
        self.role(token, "none", &[], &["*"]).await;
        for (name, end) in [(role, None), ("none", Some(within(60)))] {
            let given = self.give(token, principal, name, end).await;
            assert_eq!(given.status, 201, "{given:?}");
        }
    }

    async fn link_for(&self, token: &str, id: &str) -> Answer {
        let path = format!("/users/{id}/reset-link");
        self.post(&path, Some(token), json!({})).await
    }

    /// Whoever has the link sets the password.
    async fn reset_by(&self, link: &Answer) {
        let body = json!({ "token": link.text("token"), "password": "six white boxes in a row" });
        let reset = self.post("/auth/password/reset", None, body).await;
        assert_eq!(reset.status, 204, "{reset:?}");
    }

    /// A helpdesk that makes accounts; its token and id.
    async fn helper(&self, owner: &str) -> (String, String) {
        self.role(owner, "helpdesk", &["accounts.users.*"], &[])
            .await;
        let (id, helper) = self.user(owner, "helen@example.com", &["helpdesk"]).await;
        (helper.text("access_token"), id)
    }
}

/// A link that undoes a change of address gives the account to whoever had the former one.
#[tokio::test]
async fn who_changed_an_address_before_the_user_came_cannot_change_it_back_into_a_role() {
    House::with_mail(&[], async |house| {
        let owner = house
            .login(crate::ADMIN, PASSWORD)
            .await
            .text("access_token");
        let (helper, _) = house.helper(&owner).await;
        let mine = "helens.own@example.com";
        let (vic, session) = house.user(&helper, mine, &[]).await;
        let session = session.text("access_token");
        let change = json!({ "email": VIC });
        let asked = house
            .post("/auth/email/change", Some(&session), change)
            .await;
        assert_eq!(asked.status, 202, "{asked:?}");
        let mail = house.mail("accounts.email_change", VIC, 1).await;
        let body = json!({ "token": token(&mail), "code": mail["data"]["code"] });
        let changed = house.post("/auth/email/verify", None, body).await;
        assert_eq!(changed.status, 204, "{changed:?}");
        house.mail("accounts.email_changed", mine, 1).await;

        house.reset_by(&house.link_for(&owner, &vic).await).await;
        let refused = house.give(&owner, &vic, "admin", None).await;
        assert_eq!(refused.short(), LACKS, "{refused:?}");
        house
            .sql("UPDATE one_time_tokens SET expires_at = '2026-11-01 00:00:00.000000'")
            .await;
        let given = house.give(&owner, &vic, "admin", None).await;
        assert_eq!(given.status, 201, "{given:?}");
    })
    .await;
}

/// Who sets a password can use it for good.
#[tokio::test]
async fn an_administrator_for_a_time_sets_no_password_of_one_for_good() {
    House::on_both(async |house| {
        let owner = house.admin_session().await.text("access_token");
        let (for_good, _) = house.user(&owner, VIC, &["admin"]).await;
        let (plain, _) = house.user(&owner, "plain@example.com", &[]).await;
        let (id, temp) = house.user(&owner, "temp@example.com", &[]).await;
        let temp = temp.text("access_token");
        let given = house.give(&owner, &id, "admin", Some(within(60))).await;
        assert_eq!(given.status, 201, "{given:?}");
        let refused = house.link_for(&temp, &for_good).await;
        assert_eq!(refused.short(), LACKS, "{refused:?}");
        let link = house.link_for(&temp, &plain).await;
        assert_eq!(link.status, 200, "{link:?}");
        // Nor by a link from before the user had more.
        let kept = json!({ "token": link.text("token"), "password": PASSWORD });
        let given = house.give(&owner, &plain, "admin", None).await;
        assert_eq!(given.status, 201, "{given:?}");
        let gone = house.post("/auth/password/reset", None, kept).await;
        assert_eq!(gone.short(), (410, "link_used_or_expired"), "{gone:?}");
    })
    .await;
}

/// Whose password it is counts as long as the role does.
#[tokio::test]
async fn who_set_a_password_must_have_what_the_user_gets_for_as_long() {
    House::on_both(async |house| {
        let owner = house.admin_session().await.text("access_token");
        let (helper, id) = house.helper(&owner).await;
        let (vic, _) = house.user(&helper, VIC, &[]).await;
        let refused = house.give(&owner, &vic, "admin", None).await;
        assert_eq!(refused.short(), LACKS, "{refused:?}");
        let given = house.give(&owner, &id, "admin", Some(within(60))).await;
        assert_eq!(given.status, 201, "{given:?}");
        for end in [None, Some(within(90))] {
            let refused = house.give(&owner, &vic, "admin", end).await;
            assert_eq!(refused.short(), LACKS, "{refused:?}");
        }
        let given = house.give(&owner, &vic, "admin", Some(within(30))).await;
        assert_eq!(given.status, 201, "{given:?}");
    })
    .await;
}

/// Once it has ended the user may do all that again.
#[tokio::test]
async fn a_denial_that_ends_opens_no_user_to_those_who_may_less() {
    House::on_both(async |house| {
        let owner = house.admin_session().await.text("access_token");
        let (helper, _) = house.helper(&owner).await;
        house.role(&owner, "none", &[], &["*"]).await;
        let (vic, _) = house.user(&owner, VIC, &["admin"]).await;
        let denied = house.give(&owner, &vic, "none", Some(within(60))).await;
        assert_eq!(denied.status, 201, "{denied:?}");
        let refused = house.link_for(&helper, &vic).await;
        assert_eq!(refused.short(), LACKS, "{refused:?}");
        let path = format!("/users/{vic}/disable");
        let refused = house.post(&path, Some(&helper), json!({})).await;
        assert_eq!(refused.short(), LACKS, "{refused:?}");
        // Nor is a role given meanwhile to a user whose password somebody else knows.
        let (bob, _) = house.user(&helper, "bob@example.com", &[]).await;
        let denied = house.give(&owner, &bob, "none", Some(within(60))).await;
        assert_eq!(denied.status, 201, "{denied:?}");
        let refused = house.give(&owner, &bob, "admin", None).await;
        assert_eq!(refused.short(), LACKS, "{refused:?}");
    })
    .await;
}

/// The same where the role that the user has is changed.
#[tokio::test]
async fn a_denial_that_ends_hides_nothing_that_a_changed_role_gives() {
    House::on_both(async |house| {
        let owner = house.admin_session().await.text("access_token");
        let (helper, _) = house.helper(&owner).await;
        let own = json!({ "name": "own" });
        let role = house.post("/roles", Some(&owner), own).await.text("id");
        let (bob, _) = house.user(&helper, "bob@example.com", &[]).await;
        house.give_and_deny(&owner, &bob, "own").await;
        let path = format!("/roles/{role}");
        let change = async |permissions: &[&str]| {
            let body = Some(json!({ "permissions": permissions }));
            let any = [("if-match", "*")];
            house
                .send(0, Method::PATCH, &path, Some(&owner), body, &any)
                .await
        };
        // Whoever made the account has this one, and not that one.
        let changed = change(&["accounts.users.read"]).await;
        assert_eq!(changed.status, 200, "{changed:?}");
        let refused = change(&["accounts.roles.write"]).await;
        assert_eq!(refused.short(), LACKS, "{refused:?}");
    })
    .await;
}

/// A key goes on when the denial has ended.
#[tokio::test]
async fn a_denial_that_ends_opens_no_service_account_to_those_who_may_less() {
    House::on_both(async |house| {
        let owner = house.admin_session().await.text("access_token");
        house
            .role(&owner, "clerk", &["accounts.api_keys.*"], &[])
            .await;
        let (_, clerk) = house.user(&owner, "clerk@example.com", &["clerk"]).await;
        let clerk = clerk.text("access_token");
        let account = house.post("/service-accounts", Some(&owner), json!({ "name": "ci" }));
        let account = account.await.text("id");
        house.give_and_deny(&owner, &account, "admin").await;
        let key = json!({ "name": "k", "scopes": ["*"], "service_account_id": account });
        let refused = house.post("/api-keys", Some(&clerk), key).await;
        assert_eq!(refused.short(), LACKS, "{refused:?}");
    })
    .await;
}

/// What lets a user in is deleted with the user; the address stays taken.
#[tokio::test]
async fn nothing_that_lets_in_is_kept_of_a_deleted_user() {
    House::on_both(async |house| {
        let owner = house.admin_session().await.text("access_token");
        let (id, _) = house.user(&owner, VIC, &[]).await;
        house.link_for(&owner, &id).await;
        let path = format!("/users/{id}");
        let any = [("if-match", "*")];
        let body: Option<Value> = None;
        let gone = house.send(0, Method::DELETE, &path, Some(&owner), body, &any);
        assert_eq!(gone.await.status, 204);
        for table in ["passwords", "devices", "one_time_tokens"] {
            let rows = format!("{table} WHERE user_id = '{id}'");
            assert_eq!(house.rows(&rows).await, 0, "{table}");
        }
        let arguments = ["user", "create-admin", "--email", VIC];
        let refused = house
            .builder()
            .run_in(house.directory.path(), &arguments)
            .await;
        assert!(refused.text().contains("was deleted"), "{}", refused.text());
    })
    .await;
}
