//! The acts that take a mail, a second factor, many failures or an operator.

use std::{collections::BTreeSet, fs};

use reqwest::Method;
use serde_json::{Value, json};

use super::{House, OTHER_PASSWORD, PASSWORD, daemon, open, text};
use crate::{
    events::{Client, answer},
    support::{Daemon, Postgres, eventually, repository, sqlite},
    totp::{code, within_a_step},
};

const BOB: &str = "bob@example.com";
const TENANT: &str = "01900000-0000-7000-8000-000000000001";

/// Acts that take the authenticator of a browser: services/accounts/tests/accounts/passkey_refusals.rs produces them.
const OF_PASSKEYS: [&str; 2] = ["authn_passkey_backup_changed", "authn_passkey_copied"];

/// The acts that the module declares.
pub(super) async fn declared_acts() -> BTreeSet<String> {
    let listed = Daemon::builder().run(&["audit", "actions"]).await;
    let lines = listed.lines.iter();
    let acts = lines.filter(|line| line.contains("  (accounts)  "));
    let acts = acts.filter_map(|line| line.split_whitespace().next());
    acts.map(str::to_owned).collect()
}

impl House<'_> {
    /// Posts without credentials; the status.
    async fn anonymous(&self, path: &str, body: Value) -> (u16, Value) {
        let client = Client {
            daemon: self.daemon,
            token: "",
        };
        open(&client, path, body).await
    }

    async fn taken(&self, path: &str, body: Value) -> Value {
        let (status, answer) = self.anonymous(path, body).await;
        assert!(status < 300, "{path}: {status} {answer}");
        answer
    }

    async fn session(&self, password: &str) -> Value {
        let body = json!({ "identifier": BOB, "password": password, "mode": "token" });
        self.taken("/auth/login", body).await
    }

    /// The token of the newest mail for that purpose, and its code if it has one.
    async fn mailed(&self, purpose: &str, to: &str) -> Value {
        let text = eventually(&format!("a mail {purpose} to {to}"), || async {
            let (_, held) = self.admin().get("/api/v1/notifications/outbox").await;
            let mut mails = held["items"].as_array()?.iter();
            let mail = mails.find(|mail| mail["purpose"] == purpose && mail["to"] == to)?;
            mail["text"].as_str().map(str::to_owned)
        })
        .await;
        let after = |mark: &str| {
            let rest = text.split(mark).nth(1)?;
            rest.split_whitespace().next().map(str::to_owned)
        };
        let mut given = json!({ "token": after("#token=") });
        if let Some(code) = after("Code: ") {
            given["code"] = code.into();
        }
        given
    }

    /// Does all of it as bob, an administrator and an operator; what is expected of it: act, resource, actor, outcome.
    pub(super) async fn do_others(
        &self,
        url: &str,
        postgres: &Postgres,
    ) -> Vec<(&'static str, String, String, &'static str)> {
        let new = json!({ "email": BOB, "password": PASSWORD, "roles": ["admin"] });
        let id = text(&self.post("/users", new).await, "id");
        let session = self.session(PASSWORD).await;
        let token = text(&session, "access_token");
        let bob = Client {
            daemon: self.daemon,
            token: &token,
        };
        let key = json!({ "name": "mine", "scopes": ["accounts.users.read"] });
        let (status, key) = bob.post("/api/v1/auth/me/api-keys", key).await;
        assert_eq!(status, 201, "{key}");

        let stolen = self.session(PASSWORD).await;
        let refresh = json!({ "refresh_token": stolen["refresh_token"] });
        self.taken("/auth/refresh", refresh.clone()).await;
        assert_eq!(self.anonymous("/auth/refresh", refresh).await.0, 401);

        let ask = json!({ "email": BOB });
        self.taken("/auth/code", ask.clone()).await;
        self.mailed("accounts.sign_in_code", BOB).await;
        let wrong = json!({ "email": BOB, "code": "0", "mode": "token" });
        assert_eq!(self.anonymous("/auth/code/confirm", wrong).await.0, 401);
        self.taken("/auth/email/resend", ask).await;
        let link = self.mailed("accounts.email_verify", BOB).await;
        self.taken("/auth/email/verify", link).await;
        let other = json!({ "email": "rob@example.com" });
        let (status, asked) = bob.post("/api/v1/auth/email/change", other).await;
        assert_eq!(status, 202, "{asked}");
        let link = self
            .mailed("accounts.email_change", "rob@example.com")
            .await;
        self.taken("/auth/email/verify", link).await;
        let link = self.mailed("accounts.email_changed", BOB).await;
        self.taken("/auth/email/undo", link).await;
        let mut link = self.mailed("accounts.password_reset", BOB).await;
        link["password"] = OTHER_PASSWORD.into();
        self.taken("/auth/password/reset", link).await;

        self.use_factor().await;
        let lock = json!({ "identifier": BOB, "password": "wrong", "mode": "token" });
        for failures in [0, 99] {
            let failed = format!(
                "UPDATE login_throttle SET failures = {failures}, until = '2026-11-01 00:00:00.000000'"
            );
            match url.starts_with("sqlite") {
                true => sqlite::execute(&self.daemon.directory().join("dotmac.db"), &failed),
                false => drop(postgres.query(&failed).await),
            }
            let (status, refused) = self.anonymous("/auth/login", lock.clone()).await;
            assert_eq!(status, 401, "{refused}");
        }

        self.patch(
            &format!("/tenants/{TENANT}"),
            "*",
            json!({ "name": "House" }),
        )
        .await;
        let account = self
            .post("/service-accounts", json!({ "name": "r2" }))
            .await;
        let account = text(&account, "id");
        let path = format!("/service-accounts/{account}");
        self.patch(&path, "*", json!({ "name": "r3" })).await;
        let found = json!({ "name": "lost", "scopes": ["accounts.users.read"] });
        let found = self.post("/api-keys", found).await;
        self.taken("/keys/report", json!({ "key": found["key"] }))
            .await;
        self.delete(&format!("/tenants/{TENANT}/members/{id}"), "*")
            .await;

        let (of_bob, me) = (format!("accounts.user/{id}"), format!("user:{id}"));
        let admin = format!("user:{}", self.admin_id);
        let system = "system:check credentials".to_owned();
        let of = |kind: &str, id: &str| format!("accounts.{kind}/{id}");
        let mut expected: Vec<_> = [
            ("authn_login_lock", &system, "failure"),
            ("authn_login_first_factor", &me, "success"),
            ("authn_mfa_fail", &system, "failure"),
            ("authn_link_mailed", &system, "success"),
            ("authn_link_fail", &system, "failure"),
            ("authn_tenant_switch", &me, "success"),
            ("email_verified", &me, "success"),
            ("email_changed", &me, "success"),
            ("email_change_undone", &me, "success"),
            ("api_keys_revoked", &me, "success"),
            ("authn_factor_added", &me, "success"),
            ("authn_recovery_codes_renewed", &me, "success"),
            ("authn_recovery_codes_deleted", &me, "success"),
            ("authn_factor_removed", &me, "success"),
            ("user_exported", &me, "success"),
            ("membership_removed", &admin, "success"),
        ]
        .map(|(act, actor, outcome)| (act, of_bob.clone(), actor.clone(), outcome))
        .into();
        let reused = of("session", &text(&stolen, "session_id"));
        let reported = of("api_key", &text(&found, "id"));
        expected.extend([
            (
                "authn_token_reuse",
                reused.clone(),
                system.clone(),
                "failure",
            ),
            ("session_ended", reused, system.clone(), "success"),
            ("api_key_reported", reported, system, "success"),
            (
                "tenant_updated",
                of("tenant", TENANT),
                admin.clone(),
                "success",
            ),
            (
                "service_account_updated",
                of("service_account", &account),
                admin,
                "success",
            ),
        ]);
        expected
    }

    /// What bob does with an app and the session that it gives.
    async fn use_factor(&self) {
        let weak = self.session(OTHER_PASSWORD).await;
        let weak = Client {
            daemon: self.daemon,
            token: weak["access_token"].as_str().unwrap(),
        };
        let path = "/api/v1/auth/me/factors/totp";
        let (status, app) = weak.post(path, json!({})).await;
        assert_eq!(status, 200, "{app}");
        let secret = text(&app, "secret");
        within_a_step().await;
        let (status, added) = weak.post(path, json!({ "code": code(&secret, -1) })).await;
        assert_eq!(status, 200, "{added}");
        let first = self.session(OTHER_PASSWORD).await;
        let verify =
            |code: String| json!({ "flow": first["mfa"]["flow"], "method": "totp", "code": code });
        let wrong = self.anonymous("/auth/mfa/verify", verify("1".to_owned()));
        assert_eq!(wrong.await.0, 401);
        let strong = self
            .taken("/auth/mfa/verify", verify(code(&secret, 0)))
            .await;
        let switch = json!({ "tenant_id": TENANT });
        let token = strong["access_token"].as_str().unwrap();
        let strong = Client {
            daemon: self.daemon,
            token,
        };
        let switched = strong.post("/api/v1/auth/switch-tenant", switch).await;
        assert_eq!(switched.0, 200, "{}", switched.1);
        let strong = Client {
            daemon: self.daemon,
            token: switched.1["access_token"].as_str().unwrap(),
        };
        for (method, path) in [
            (Method::POST, "/api/v1/auth/me/factors/recovery-codes"),
            (Method::DELETE, "/api/v1/auth/me/factors/recovery-codes"),
            (Method::GET, "/api/v1/auth/me/export"),
            (Method::DELETE, path),
        ] {
            let request = strong.request(method, path).header("if-match", "*");
            let (status, done) = answer(request).await;
            assert!(status < 300, "{path}: {status} {done}");
        }
    }

    /// Each act that the module declares is recorded, once a signing key is revoked, which ends all tokens. A new act is to be
    /// produced in these tests too.
    pub(super) async fn produced_all(&self, url: &str, postgres: &Postgres) {
        let (_, keys) = self.daemon.json("/.well-known/jwks.json").await;
        let kid = keys["keys"][0]["kid"].as_str().unwrap();
        let revoke = ["accounts", "keys", "revoke", kid];
        let done = daemon(url).run_in(self.daemon.directory(), &revoke).await;
        assert_eq!(done.code, 0, "{}", done.text());

        let passkeys = "services/accounts/tests/accounts/passkey_refusals.rs";
        let passkeys = fs::read_to_string(repository().join(passkeys)).unwrap();
        for act in declared_acts().await {
            let is_of = format!("action = '{act}'");
            let recorded = format!("audit_entry WHERE {is_of}");
            let is_produced = if OF_PASSKEYS.contains(&act.as_str()) {
                passkeys.contains(&is_of)
            } else if url.starts_with("sqlite") {
                sqlite::count(&self.daemon.directory().join("dotmac.db"), &recorded) > 0
            } else {
                let count = format!("SELECT count(*) FROM {recorded}");
                postgres.query(&count).await != "0"
            };
            assert!(is_produced, "no test produces {act}");
        }
    }
}
