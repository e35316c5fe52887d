//! How long what is mailed or begun is good: for its time and no longer, and that it is deleted then.

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::json;

use crate::{
    ADMIN, House, PASSWORD,
    factors::{code as totp, enrolled, within_a_step},
    mail::{ANN, OTHER_PASSWORD, browser, code, token},
};

const MINUTE: i64 = 60;
const HOUR: i64 = 3600;
const DAY: i64 = 24 * HOUR;

/// Long ago, on both back ends.
const PAST: &str = "2026-11-01 00:00:00.000000";

/// A time as both back ends read it.
fn stored(at: DateTime<Utc>) -> String {
    at.format("%Y-%m-%d %H:%M:%S%.6f").to_string()
}

impl House {
    /// One of the rows is good for that many seconds from now on, less the half minute that a request may take.
    pub(crate) async fn is_good_for(&self, rows: &str, column: &str, seconds: i64) {
        let end = Utc::now() + TimeDelta::seconds(seconds);
        let (from, to) = (stored(end - TimeDelta::seconds(30)), stored(end));
        let found = format!("{rows} {column} BETWEEN '{from}' AND '{to}'");
        assert_eq!(self.rows(&found).await, 1, "{found}");
    }

    async fn age(&self, table: &str, column: &str) {
        self.sql(&format!("UPDATE {table} SET {column} = '{PAST}'"))
            .await;
    }
}

#[tokio::test]
async fn what_is_mailed_is_good_for_its_time() {
    House::with_mail(&[], async |house| {
        let session = house.ann().await;
        let access = session.text("access_token");
        let over = (410, "link_used_or_expired");
        for (path, purpose, seconds, confirm, refused) in [
            (
                "/auth/password/forgot",
                "password_reset",
                30 * MINUTE,
                "/auth/password/reset",
                over,
            ),
            (
                "/auth/email/resend",
                "email_verify",
                DAY,
                "/auth/email/verify",
                over,
            ),
            (
                "/auth/magic-link",
                "sign_in",
                10 * MINUTE,
                "/auth/magic-link/confirm",
                over,
            ),
            (
                "/auth/code",
                "sign_in_code",
                10 * MINUTE,
                "/auth/code/confirm",
                (401, "invalid_credentials"),
            ),
        ] {
            let asked = house.post(path, None, json!({ "email": ANN })).await;
            assert_eq!(asked.status, 202, "{asked:?}");
            let mail = house.mail(&format!("accounts.{purpose}"), ANN, 1).await;
            let unused = "one_time_tokens WHERE used_at IS NULL AND";
            house.is_good_for(unused, "expires_at", seconds).await;
            house.age("one_time_tokens", "expires_at").await;
            let body = match confirm {
                "/auth/code/confirm" => json!({ "email": ANN, "code": code(&mail) }),
                "/auth/password/reset" => {
                    json!({ "token": token(&mail), "password": OTHER_PASSWORD })
                }
                _ => json!({ "token": token(&mail) }),
            };
            let late = house.post_as(&browser(&asked), confirm, body).await;
            assert_eq!(late.short(), refused, "{path}");
            // An address gets three mails an hour.
            house.sql("DELETE FROM login_throttle").await;
        }

        let asked = house.asked_for_address(&access, "ann.lee@example.com");
        let asked = asked.await;
        let unused = "one_time_tokens WHERE used_at IS NULL AND";
        house.is_good_for(unused, "expires_at", DAY).await;
        house.prove_address(asked).await;
        let notice = house.mail("accounts.email_changed", ANN, 1).await;
        house.is_good_for(unused, "expires_at", 7 * DAY).await;
        house.age("one_time_tokens", "expires_at").await;
        let undo = json!({ "token": token(&notice) });
        let late = house.post("/auth/email/undo", None, undo).await;
        assert_eq!(late.short(), over);
    })
    .await;
}

/// Who has not proved the address has no account: neither its name nor its address is taken.
#[tokio::test]
async fn a_registration_that_is_not_proved_holds_nothing_and_ends() {
    let open = [("DOTMAC_ACCOUNTS_REGISTRATION", "open")];
    House::with_mail(&open, async |house| {
        let admin = house.login(ADMIN, PASSWORD).await.text("access_token");
        let register = async |email: &str, username: &str| {
            let body = json!({ "email": email, "username": username, "password": PASSWORD });
            let answer = house.post("/auth/register", None, body).await;
            assert_eq!(answer.status, 202, "{answer:?}");
            answer
        };
        let asked = register(ANN, "ann").await;
        let mail = house.mail("accounts.email_verify", ANN, 1).await;
        house
            .is_good_for("registrations WHERE", "link_until", DAY)
            .await;
        house
            .is_good_for("registrations WHERE", "expires_at", 7 * DAY)
            .await;
        house.age("registrations", "link_until").await;
        let link = json!({ "token": token(&mail) });
        let late = house
            .post_as(&browser(&asked), "/auth/email/verify", link)
            .await;
        assert_eq!(late.short(), (410, "link_used_or_expired"));

        let same = json!({ "email": ANN, "username": "ann" });
        let made = house.post("/users", Some(&admin), same).await;
        assert_eq!(made.status, 201, "{made:?}");
        register("bob@example.com", "bob").await;
        house
            .mail("accounts.email_verify", "bob@example.com", 1)
            .await;
        house.age("registrations", "expires_at").await;
        house.swept("registrations").await;
    })
    .await;
}

impl House {
    /// Makes the sweep due; every instance looks often whether it is.
    async fn due(&self) {
        let due = format!("UPDATE lease SET due_at = '{PAST}' WHERE name = 'accounts.sweep'");
        self.sql(&due).await;
    }

    /// Has what is over deleted, and waits until the table is empty.
    async fn swept(&self, table: &str) {
        self.due().await;
        dotmac_testkit::eventually(format!("{table} to be empty"), || async {
            (self.rows(table).await == 0).then_some(())
        })
        .await;
    }
}

#[tokio::test]
async fn a_second_step_and_a_ceremony_are_good_for_five_minutes() {
    House::on_both(async |house| {
        let (_, secret, _) = enrolled(&house).await;
        let first = house.login(ADMIN, PASSWORD).await;
        let flow = first.body["mfa"]["flow"].clone();
        let unused = "sign_in_flows WHERE";
        house.is_good_for(unused, "expires_at", 5 * MINUTE).await;
        house.age("sign_in_flows", "expires_at").await;
        within_a_step().await;
        let second = json!({ "flow": flow, "method": "totp", "code": totp(&secret, 0) });
        let late = house.post("/auth/mfa/verify", None, second).await;
        assert_eq!(late.short(), (410, "link_used_or_expired"));

        let begun = house.post("/auth/passkey/options", None, json!({})).await;
        assert_eq!(begun.status, 200, "{begun:?}");
        let unused = "passkey_ceremonies WHERE";
        house.is_good_for(unused, "expires_at", 5 * MINUTE).await;
    })
    .await;
}

#[tokio::test]
async fn what_is_over_is_deleted() {
    House::on_both(async |house| {
        let session = house.admin_session().await;
        let admin = session.text("access_token");
        let (ann_id, _) = house.user(&admin, "ann@example.com", &[]).await;
        let path = format!("/users/{ann_id}/reset-link");
        house.post(&path, Some(&admin), json!({})).await;
        house.post("/auth/passkey/options", None, json!({})).await;
        house.login("nobody@example.com", PASSWORD).await;
        let cookie = json!({ "identifier": ADMIN, "password": PASSWORD, "mode": "cookie" });
        house.post("/auth/login", None, cookie).await;
        let grant = json!({
            "principal": ann_id, "permission": "accounts.users.read", "expires_at": "2099-01-01T00:00:00Z"
        });
        let given = house.post("/grants", Some(&admin), grant).await;
        assert_eq!(given.status, 201, "{given:?}");
        let flow = format!(
            "INSERT INTO sign_in_flows (id, public_id, user_id, hash, data, tries, expires_at) \
             VALUES ('{ann_id}', 'p', '{ann_id}', '\\x00', '{{}}', 0, '{PAST}')"
        );
        house.sql(&flow).await;
        for (table, column) in [
            ("one_time_tokens", "expires_at"),
            ("grants", "expires_at"),
            ("passkey_ceremonies", "expires_at"),
            ("login_throttle", "window_start"),
            ("devices", "last_seen"),
        ] {
            assert!(house.rows(table).await > 0, "{table}");
            house.sql(&format!("UPDATE {table} SET {column} = '2001-01-01 00:00:00'")).await;
        }
        house
            .sql(
                "UPDATE sessions SET ended_at = '2001-01-01 00:00:00', expires_at = '2001-01-01 00:00:00' \
                 WHERE user_id <> (SELECT user_id FROM role_bindings LIMIT 1); \
                 UPDATE accounts_changes SET at = '2001-01-01 00:00:00'",
            )
            .await;
        for table in [
            "one_time_tokens",
            "grants",
            "passkey_ceremonies",
            "sign_in_flows",
            "login_throttle",
            "devices",
            // The last one gives the next its number.
            "accounts_changes WHERE seq < (SELECT max(seq) FROM accounts_changes)",
        ] {
            house.swept(table).await;
        }
        // Those of the administrator go on.
        assert_eq!(house.rows("sessions").await, 2);
    })
    .await;
}

/// A key is known everywhere before it signs, is kept until all that it signed is over, and is replaced after 90 days.
#[tokio::test]
async fn signing_keys_are_published_kept_and_replaced_at_their_times() {
    House::on_both(async |house| {
        house.admin_session().await;
        house.command(&["accounts", "keys", "rotate"]).await;
        let (next, former) = (
            "signing_keys WHERE retire_at IS NULL AND",
            "signing_keys WHERE retire_at IS NOT NULL AND",
        );
        // JWKS are kept for ten minutes.
        house.is_good_for(next, "activate_at", 11 * MINUTE).await;
        // The longest access token that it signs, and ten minutes.
        let kept = (11 + 15 + 10) * MINUTE;
        house.is_good_for(former, "retire_at", kept).await;
        let of_age = async |days: i64| {
            let (then, now) = (
                stored(Utc::now() - TimeDelta::days(days)),
                stored(Utc::now()),
            );
            house
                .sql(&format!(
                    "UPDATE signing_keys SET activate_at = '{then}'; \
                     INSERT INTO accounts_changes (kind, subject, at) \
                     SELECT 'keys', id, '{now}' FROM signing_keys LIMIT 1"
                ))
                .await;
        };
        of_age(89).await;
        // A sweep is over once it has deleted this.
        house.login("nobody@example.com", PASSWORD).await;
        house.age("login_throttle", "window_start").await;
        house.swept("login_throttle").await;
        assert_eq!(house.rows("signing_keys").await, 2);
        of_age(91).await;
        dotmac_testkit::eventually("another key", || async {
            house.due().await;
            (house.rows("signing_keys").await == 3).then_some(())
        })
        .await;
    })
    .await;
}
