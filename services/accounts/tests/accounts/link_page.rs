//! The page that links of mails lead to, as it is sent and in a real browser.

use dotmac_testkit::{Browser, free_port};
use serde_json::{Value, json};

use crate::{
    ADMIN, House, PASSWORD,
    mail::token,
    passkeys::{SCRIPT, me, registered, signed_out},
};

#[tokio::test]
async fn the_page_of_a_link_loads_nothing_foreign_and_uses_nothing_up() {
    let house = House::on_sqlite(1, &[]).await;
    let made = house
        .command(&["user", "create-admin", "--email", ADMIN, "--json"])
        .await;
    let made: Value = made
        .lines()
        .find_map(|line| serde_json::from_str(line).ok())
        .unwrap();
    let url = made["url"].as_str().unwrap();
    let path = url.split("//").nth(1).unwrap().split_once('/').unwrap().1;
    let daemon = &house.instances[0];
    for _ in 0..2 {
        let page = daemon.get(&format!("/{path}")).await;
        assert_eq!(page.status().as_u16(), 200, "{url}");
        assert_eq!(page.headers()["referrer-policy"], "no-referrer");
        let policy = page.headers()["content-security-policy"].to_str().unwrap();
        assert!(policy.starts_with("default-src 'none'; script-src 'self'"));
        let page = page.text().await.unwrap();
        assert!(page.contains("assets/link.js") && !page.contains("<style"));
        // A limit of the field would cut what is pasted, without a word: the server refuses what is too long.
        let field = page.split("id=\"password\"").nth(1).unwrap();
        let field = field.split('>').next().unwrap();
        assert!(!field.contains("maxlength"), "{field}");
        for wanted in ["type=\"password\"", "autocomplete=\"new-password\""] {
            assert!(field.contains(wanted), "{field}");
        }
    }
    let script = daemon.get("/account/assets/link.js").await;
    let kind = script.headers()["content-type"]
        .to_str()
        .unwrap()
        .to_owned();
    assert!(kind.starts_with("text/javascript"), "{kind}");
    let script = script.text().await.unwrap();
    assert!(!script.contains("paste"), "{script}");
    assert_eq!(daemon.get("/account/other").await.status().as_u16(), 404);
    let reset = json!({ "token": made["token"], "password": PASSWORD });
    let set = house.post("/auth/password/reset", None, reset).await;
    assert_eq!(set.status, 204, "{set:?}");
}

/// A user with passkeys alone, who has no recovery code left, gets in by a mail too.
#[tokio::test]
async fn the_page_of_a_link_takes_a_passkey_as_its_second_step() {
    let port = free_port().to_string();
    House::with_mail(&[("DOTMAC_PORT", &port)], async |house| {
        let browser = Browser::start();
        let site = format!("http://localhost:{port}/account");
        let page = browser.open(&format!("{site}/verify")).await;
        page.evaluate(SCRIPT).await;
        page.add_authenticator(json!({})).await;
        registered(&page).await;
        house.sql("DELETE FROM recovery_codes").await;
        signed_out(&page).await;

        let asked = json!({ "email": ADMIN });
        let asked = page
            .evaluate(&format!("api('POST', '/auth/magic-link', {asked})"))
            .await;
        assert_eq!(asked["status"], 202, "{asked}");
        let mail = house.mail("accounts.sign_in", ADMIN, 1).await;
        let url = format!("{site}/sign-in#token={}", token(&mail));
        page.evaluate(&format!("location.href = {url:?}; true"))
            .await;
        let text = async |id: &str| {
            let script = format!("document.getElementById({id:?})?.textContent ?? ''");
            page.evaluate(&script).await.as_str().unwrap().to_owned()
        };
        let until = async |id: &'static str, expected: &'static str| {
            dotmac_testkit::eventually(expected, || async {
                (text(id).await == expected).then_some(())
            })
            .await;
        };
        until("title", "Sign in").await;
        let press = async |id: &str| {
            page.evaluate(&format!("document.getElementById({id:?}).click()"))
                .await
        };
        press("button").await;
        until("result", "To go on, use your passkey.").await;
        let hidden =
            "['code-row', 'button', 'passkey'].map(id => document.getElementById(id).hidden)";
        assert_eq!(page.evaluate(hidden).await, json!([true, true, false]));
        press("passkey").await;
        until("result", "You are signed in.").await;
        page.evaluate(SCRIPT).await;
        assert_eq!(me(&page).await["body"]["acr"], 2);
    })
    .await;
}
