//! Links and codes that are mailed: what each does, who can use it, and that asking for one says nothing.

use reqwest::Method;
use serde_json::{Value, json};

use crate::{ADMIN, Answer, House, PASSWORD};

pub(crate) const ANN: &str = "ann@example.com";
pub(crate) const OTHER_PASSWORD: &str = "eight purple doors on a hill";

/// The cookie of the browser that has asked for a mail.
pub(crate) fn browser(answer: &Answer) -> String {
    let lines = answer.headers.get_all("set-cookie").iter();
    let mut lines = lines.filter_map(|line| line.to_str().ok());
    let line = lines.find(|line| line.starts_with("dotmac_flow=")).unwrap();
    line.split(';').next().unwrap().to_owned()
}

pub(crate) fn token(mail: &Value) -> String {
    let url = mail["data"]["url"].as_str().unwrap();
    url.split("#token=").nth(1).unwrap().to_owned()
}

pub(crate) fn code(mail: &Value) -> String {
    mail["data"]["code"].as_str().unwrap().to_owned()
}

fn field(answer: &Answer) -> (u16, &str, &str) {
    let error = &answer.body["errors"][0];
    let text = |name: &str| error[name].as_str().unwrap_or_default().to_owned();
    (answer.status, text("field").leak(), text("code").leak())
}

impl House {
    pub(crate) async fn post_as(&self, browser: &str, path: &str, body: Value) -> Answer {
        let headers = [("cookie", browser)];
        self.send(0, Method::POST, path, None, Some(body), &headers)
            .await
    }

    /// Asks for another address of the caller; the browser that asked, and the link.
    pub(crate) async fn asked_for_address(&self, access: &str, address: &str) -> (String, Value) {
        let new = json!({ "email": address });
        let asked = self.post("/auth/email/change", Some(access), new).await;
        assert_eq!(asked.status, 202, "{asked:?}");
        let mail = self.mail("accounts.email_change", address, 1).await;
        (browser(&asked), json!({ "token": token(&mail) }))
    }

    /// Proves an address by the link, in the browser that asked for it.
    pub(crate) async fn prove_address(&self, (browser, link): (String, Value)) {
        let path = "/auth/email/verify";
        let proved = self.post_as(&browser, path, link).await;
        assert_eq!(proved.status, 204, "{proved:?}");
    }

    /// A member whose address is not proved.
    pub(crate) async fn ann(&self) -> Answer {
        let admin = self.login(ADMIN, PASSWORD).await.text("access_token");
        self.user(&admin, ANN, &["member"]).await.1
    }
}

#[tokio::test]
async fn a_password_is_set_by_a_link_that_only_the_browser_uses_that_asked_for_it() {
    House::with_mail(&[], async |house| {
        let house = house.in_turns().await;
        let session = house.ann().await;
        let asked = house
            .post("/auth/password/forgot", None, json!({ "email": ANN }))
            .await;
        let unknown = house
            .post(
                "/auth/password/forgot",
                None,
                json!({ "email": "nobody@example.com" }),
            )
            .await;
        assert_eq!((asked.status, unknown.status), (202, 202), "{asked:?}");
        assert_eq!(asked.body, unknown.body);
        let wrong = json!({ "email": "no address" });
        let wrong = house.post("/auth/password/forgot", None, wrong).await;
        assert_eq!(field(&wrong), (422, "email", "email_invalid"));

        let mail = house.mail("accounts.password_reset", ANN, 1).await;
        let mut reset = json!({ "token": token(&mail), "password": OTHER_PASSWORD });
        // Without the cookie of the browser that asked, the code of the mail is needed.
        let without = house
            .post("/auth/password/reset", None, reset.clone())
            .await;
        assert_eq!(field(&without), (422, "code", "code_needed"), "{without:?}");
        reset["code"] = "00000000".into();
        let guessed = house
            .post("/auth/password/reset", None, reset.clone())
            .await;
        assert_eq!(field(&guessed), (422, "code", "code_wrong"), "{guessed:?}");
        reset.as_object_mut().unwrap().remove("code");
        let other_site = [("sec-fetch-site", "cross-site")];
        let other_site = house
            .send(
                0,
                Method::POST,
                "/auth/password/reset",
                None,
                Some(reset.clone()),
                &other_site,
            )
            .await;
        assert_eq!(other_site.short(), (403, "csrf"));
        let set = house
            .post_as(&browser(&asked), "/auth/password/reset", reset.clone())
            .await;
        assert_eq!(set.status, 204, "{set:?}");
        let again = house
            .post_as(&browser(&asked), "/auth/password/reset", reset)
            .await;
        assert_eq!(again.short(), (410, "link_used_or_expired"));

        // It ended what there was, proved the address, and did not sign in.
        let refused = house.refused(&session.text("access_token")).await;
        assert_eq!(refused.short(), (401, "session_ended"));
        let session = house.login(ANN, OTHER_PASSWORD).await;
        assert_eq!(session.body["user"]["email_verified"], true, "{session:?}");
        house.mail("accounts.password_changed", ANN, 1).await;
        assert!(
            house
                .mails()
                .iter()
                .all(|mail| mail["to"] != "nobody@example.com")
        );
    })
    .await;
}

#[tokio::test]
async fn a_link_is_over_after_five_wrong_codes_and_once_the_password_is_another() {
    House::with_mail(&[], async |house| {
        let session = house.ann().await;
        let ask = json!({ "email": ANN });
        house
            .post("/auth/password/forgot", None, ask.clone())
            .await;
        let mail = house.mail("accounts.password_reset", ANN, 1).await;
        let reset = |code: String| {
            json!({ "token": token(&mail), "password": OTHER_PASSWORD, "code": code })
        };
        for _ in 0..5 {
            let guessed = house
                .post("/auth/password/reset", None, reset("1234".to_owned()))
                .await;
            assert_eq!(field(&guessed), (422, "code", "code_wrong"), "{guessed:?}");
        }
        let late = house
            .post("/auth/password/reset", None, reset(code(&mail)))
            .await;
        assert_eq!(late.short(), (410, "link_used_or_expired"));

        let asked = house.post("/auth/magic-link", None, ask).await;
        let mail = house.mail("accounts.sign_in", ANN, 1).await;
        let change = json!({ "current": PASSWORD, "new": OTHER_PASSWORD });
        let access = session.text("access_token");
        let changed = house
            .post("/auth/password/change", Some(&access), change)
            .await;
        assert_eq!(changed.status, 204, "{changed:?}");
        let link = json!({ "token": token(&mail) });
        let over = house
            .post_as(&browser(&asked), "/auth/magic-link/confirm", link)
            .await;
        assert_eq!(over.short(), (410, "link_used_or_expired"));
    })
    .await;
}

#[tokio::test]
async fn a_link_or_a_code_signs_in_once_and_passes_the_lock_of_passwords() {
    House::with_mail(&[], async |house| {
        let house = house.in_turns().await;
        house.ann().await;
        house.lock(ANN).await;
        let ask = json!({ "email": ANN });
        let asked = house.post("/auth/magic-link", None, ask.clone()).await;
        assert_eq!(asked.status, 202, "{asked:?}");
        let mail = house.mail("accounts.sign_in", ANN, 1).await;
        let link = json!({ "token": token(&mail), "mode": "token" });
        let session = house
            .post_as(&browser(&asked), "/auth/magic-link/confirm", link.clone())
            .await;
        assert_eq!(
            (session.status, &session.body["acr"]),
            (200, &1.into()),
            "{session:?}"
        );
        assert_eq!(session.body["user"]["email_verified"], true);
        let access = session.text("access_token");
        assert_eq!(house.get("/auth/me", Some(&access)).await.status, 200);
        let again = house
            .post_as(&browser(&asked), "/auth/magic-link/confirm", link)
            .await;
        assert_eq!(again.short(), (410, "link_used_or_expired"));
        // The owner has come, so the failures of others are forgotten.
        assert_eq!(house.login(ANN, PASSWORD).await.status, 200);

        let asked = house.post("/auth/code", None, ask).await;
        assert_eq!(asked.status, 202, "{asked:?}");
        let mail = house.mail("accounts.sign_in_code", ANN, 1).await;
        assert_eq!(code(&mail).len(), 8);
        let confirm = |email: &str, code: &str| {
            let body = json!({ "email": email, "code": code, "mode": "token" });
            let house = &house;
            async move { house.post("/auth/code/confirm", None, body).await }
        };
        for (email, wrong) in [
            (ANN, "00000000"),
            ("nobody@example.com", &*code(&mail)),
            ("no address", "1"),
        ] {
            let refused = confirm(email, wrong).await;
            assert_eq!(refused.short(), (401, "invalid_credentials"), "{email}");
        }
        let session = confirm(ANN, &code(&mail)).await;
        assert_eq!(session.status, 200, "{session:?}");
        let again = confirm(ANN, &code(&mail)).await;
        assert_eq!(again.short(), (401, "invalid_credentials"));
    })
    .await;
}

#[tokio::test]
async fn an_account_is_registered_once_its_address_is_proved() {
    let open = [("DOTMAC_ACCOUNTS_REGISTRATION", "open")];
    House::with_mail(&open, async |house| {
        let house = house.in_turns().await;
        let register = |email: &str| {
            let body = json!({ "email": email, "password": PASSWORD, "full_name": "Ann Lee" });
            let house = &house;
            async move { house.post("/auth/register", None, body).await }
        };
        let (new, known) = (register(ANN).await, register(ADMIN).await);
        assert_eq!((new.status, known.status), (202, 202), "{new:?}");
        assert_eq!(new.body, known.body);
        house.mail("accounts.have_account", ADMIN, 1).await;
        let mail = house.mail("accounts.email_verify", ANN, 1).await;
        // There is no account before, and what others wrote is in no mail.
        assert_eq!(
            house.login(ANN, PASSWORD).await.short(),
            (401, "invalid_credentials")
        );
        assert_eq!(mail["data"]["name"], ANN);
        let link = json!({ "token": token(&mail) });
        let without = house.post("/auth/email/verify", None, link.clone()).await;
        assert_eq!(field(&without), (422, "code", "code_needed"));
        let verified = house
            .post_as(&browser(&new), "/auth/email/verify", link.clone())
            .await;
        assert_eq!(verified.status, 204, "{verified:?}");
        let again = house
            .post_as(&browser(&new), "/auth/email/verify", link)
            .await;
        assert_eq!(again.short(), (410, "link_used_or_expired"));
        let session = house.login(ANN, PASSWORD).await;
        assert_eq!(session.body["user"]["email_verified"], true, "{session:?}");
        let me = house
            .get("/auth/me", Some(&session.text("access_token")))
            .await;
        assert_eq!(me.body["roles"], json!(["member"]), "{me:?}");

        // In another browser the password may be that of an attacker: the account has none.
        register("bob@example.com").await;
        let mail = house
            .mail("accounts.email_verify", "bob@example.com", 1)
            .await;
        let link = json!({ "token": token(&mail), "code": code(&mail) });
        let verified = house.post("/auth/email/verify", None, link).await;
        assert_eq!(verified.status, 204, "{verified:?}");
        assert_eq!(
            house.login("bob@example.com", PASSWORD).await.short(),
            (401, "invalid_credentials")
        );

        let weak = json!({ "email": "cat@example.com", "password": "passwordpassword" });
        let weak = house.post("/auth/register", None, weak).await;
        assert_eq!(field(&weak), (422, "password", "password_common"));
    })
    .await;
}

#[tokio::test]
async fn who_is_invited_registers_and_others_get_no_mail() {
    let invite = [("DOTMAC_ACCOUNTS_REGISTRATION", "invite")];
    House::with_mail(&invite, async |house| {
        let admin = house.login(ADMIN, PASSWORD).await.text("access_token");
        let invited = json!({ "email": ANN });
        let invited = house.post("/users", Some(&admin), invited).await;
        assert_eq!(invited.status, 201, "{invited:?}");
        for email in [ANN, "eve@example.com"] {
            let registered = json!({ "email": email });
            let registered = house.post("/auth/register", None, registered).await;
            assert_eq!(registered.status, 202, "{registered:?}");
        }
        let mail = house.mail("accounts.password_reset", ANN, 1).await;
        let reset = json!({ "token": token(&mail), "password": PASSWORD, "code": code(&mail) });
        let set = house.post("/auth/password/reset", None, reset).await;
        assert_eq!(set.status, 204, "{set:?}");
        assert_eq!(house.login(ANN, PASSWORD).await.status, 200);
        let mails = house.mails();
        assert!(mails.iter().all(|mail| mail["to"] != "eve@example.com"));
    })
    .await;
}

#[tokio::test]
async fn an_address_is_changed_once_the_new_one_is_proved_and_put_back_by_the_former_one() {
    House::with_mail(&[], async |house| {
        let house = house.in_turns().await;
        let session = house.ann().await;
        let access = session.text("access_token");
        let asked = house.asked_for_address(&access, "ann.lee@example.com");
        let asked = asked.await;
        house.prove_address(asked).await;
        let me = house.get("/auth/me", Some(&access)).await;
        assert_eq!(
            (&me.body["email"], &me.body["email_verified"]),
            (&"ann.lee@example.com".into(), &true.into()),
            "{me:?}"
        );
        assert_eq!(
            house.login("ann.lee@example.com", PASSWORD).await.status,
            200
        );

        let notice = house.mail("accounts.email_changed", ANN, 1).await;
        let undo = json!({ "token": token(&notice) });
        let undone = house.post("/auth/email/undo", None, undo.clone()).await;
        assert_eq!(undone.status, 204, "{undone:?}");
        let refused = house.refused(&access).await;
        assert_eq!(refused.short(), (401, "session_ended"));
        // The password is known to whoever changed the address.
        assert_eq!(
            house.login(ANN, PASSWORD).await.short(),
            (401, "invalid_credentials")
        );
        let mail = house.mail("accounts.password_reset", ANN, 1).await;
        let reset =
            json!({ "token": token(&mail), "password": OTHER_PASSWORD, "code": code(&mail) });
        let set = house.post("/auth/password/reset", None, reset).await;
        assert_eq!(set.status, 204, "{set:?}");
        assert_eq!(house.login(ANN, OTHER_PASSWORD).await.status, 200);
        let again = house.post("/auth/email/undo", None, undo).await;
        assert_eq!(again.short(), (410, "link_used_or_expired"));
    })
    .await;
}

#[tokio::test]
async fn an_address_gets_three_mails_an_hour_and_notices_all_the_same() {
    let grace = [("DOTMAC_ACCOUNTS_REFRESH_GRACE", "0s")];
    House::with_mail(&grace, async |house| {
        let session = house.ann().await;
        for _ in 0..5 {
            let ask = json!({ "email": ANN });
            let asked = house.post("/auth/code", None, ask).await;
            assert_eq!(asked.status, 202, "{asked:?}");
        }
        let refresh = json!({ "refresh_token": session.text("refresh_token") });
        let first = house.post("/auth/refresh", None, refresh.clone()).await;
        assert_eq!(first.status, 200, "{first:?}");
        let again = house.post("/auth/refresh", None, refresh).await;
        assert_eq!(again.short(), (401, "refresh_reused"));
        house.mail("accounts.refresh_reused", ANN, 1).await;
        // All that were asked for are answered by now, or will be: what comes later has come after them.
        house
            .post("/auth/password/forgot", None, json!({ "email": ADMIN }))
            .await;
        house.mail("accounts.password_reset", ADMIN, 1).await;
        house.mail("accounts.sign_in_code", ANN, 3).await;
    })
    .await;
}

#[tokio::test]
async fn without_a_module_for_mail_it_is_held_and_logged_without_the_link() {
    let house = House::on_sqlite(1, &[]).await;
    house.administrator().await;
    let ask = json!({ "email": ADMIN });
    let asked = house.post("/auth/password/forgot", None, ask).await;
    assert_eq!(asked.status, 202, "{asked:?}");
    let line = house.instances[0].logged("mail held").await;
    assert_eq!(line["purpose"], "accounts.password_changed", "{line}");
    dotmac_testkit::eventually("the mail to be held", || async {
        let log = house.instances[0].log();
        log.iter()
            .any(|line| line["purpose"] == "accounts.password_reset")
            .then_some(())
    })
    .await;
    let log = house.instances[0].lines().join("\n");
    assert!(!log.contains("dmo_") && !log.contains(ADMIN), "{log}");
    let register = json!({ "email": "ann@example.com" });
    let closed = house.post("/auth/register", None, register).await;
    assert_eq!(closed.short(), (403, "registration_closed"));
}
