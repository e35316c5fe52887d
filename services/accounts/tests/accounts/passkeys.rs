//! Passkeys in a real browser, whose authenticators are made up: registered, used to sign in, as a second factor and to step up,
//! and taken away.

use serde_json::{Value, json};

use dotmac_testkit::{Browser, browser::Page, free_port};

use crate::{ADMIN, House, PASSWORD};

/// What a page does with passkeys, as the account pages of a product would.
pub(crate) const SCRIPT: &str = r#"
window.api = async (method, path, body, tag) => {
    const headers = body === undefined ? {} : { 'content-type': 'application/json' };
    if (tag !== undefined) headers['if-match'] = tag;
    const answer = await fetch('/api/v1' + path, { method, headers, body: body && JSON.stringify(body) });
    const text = await answer.text();
    return { status: answer.status, body: text ? JSON.parse(text) : null };
};
window.register = async label => {
    const begun = await api('POST', '/auth/me/factors/passkeys');
    if (begun.status !== 200) return begun;
    const publicKey = PublicKeyCredential.parseCreationOptionsFromJSON(begun.body.options);
    const credential = await navigator.credentials.create({ publicKey });
    window.registration = { flow: begun.body.flow, credential: credential.toJSON(), label };
    return api('POST', '/auth/me/factors/passkeys/confirm', window.registration);
};
window.answer = async (path, asked, mediation) => {
    const begun = await api('POST', path, asked);
    if (begun.status !== 200) return begun;
    const publicKey = PublicKeyCredential.parseRequestOptionsFromJSON(begun.body.options);
    const credential = await navigator.credentials.get({ publicKey, mediation });
    return { flow: begun.body.flow, credential: credential.toJSON() };
};
window.signIn = async (asked = {}, mediation = 'optional') => {
    const answer = await window.answer('/auth/passkey/options', asked, mediation);
    if (!answer.credential) return answer;
    window.assertion = { ...answer, mode: 'cookie' };
    return api('POST', '/auth/passkey/verify', window.assertion);
};
window.passwordSignIn = (identifier, password) =>
    api('POST', '/auth/login', { identifier, password, mode: 'cookie' });
// Where a browser suggests passkeys.
document.body.innerHTML = '<input autocomplete="username webauthn">';
true
"#;

/// A house at a host name, and a browser on one of its pages.
pub(crate) struct Site {
    pub(crate) house: House,
    browser: Browser,
    url: String,
}

impl Site {
    pub(crate) async fn on_both(test: impl AsyncFn(Self)) {
        for is_postgres in [false, true] {
            let port = free_port().to_string();
            let settings = [("DOTMAC_PORT", port.as_str())];
            let house = match is_postgres {
                false => House::on_sqlite(1, &settings).await,
                true => House::on_postgres(1, &settings).await,
            };
            house.administrator().await;
            let site = Self {
                house,
                browser: Browser::start(),
                url: format!("http://localhost:{port}/account/sign-in"),
            };
            test(site).await;
        }
    }

    pub(crate) async fn page(&self) -> Page<'_> {
        let page = self.browser.open(&self.url).await;
        page.evaluate(SCRIPT).await;
        page
    }
}

/// Calls a function of the script above.
pub(crate) async fn call(page: &Page<'_>, function: &str, arguments: &[Value]) -> Value {
    let arguments: Vec<String> = arguments.iter().map(Value::to_string).collect();
    page.evaluate(&format!("{function}({})", arguments.join(", ")))
        .await
}

pub(crate) async fn password_sign_in(page: &Page<'_>) -> Value {
    call(page, "passwordSignIn", &[json!(ADMIN), json!(PASSWORD)]).await
}

/// Signs in by the password and registers a passkey; its answer.
pub(crate) async fn registered(page: &Page<'_>) -> Value {
    let session = password_sign_in(page).await;
    assert_eq!(session["status"], 200, "{session}");
    let added = call(page, "register", &[json!("laptop")]).await;
    assert_eq!(added["status"], 200, "{added}");
    added["body"].clone()
}

pub(crate) async fn me(page: &Page<'_>) -> Value {
    page.evaluate("api('GET', '/auth/me')").await
}

/// The browser forgets that it is signed in.
pub(crate) async fn signed_out(page: &Page<'_>) {
    page.call("Network.clearBrowserCookies", json!({})).await;
    assert_eq!(me(page).await["status"], 401);
}

/// Waits until so many mails for that purpose were held.
pub(crate) async fn held(house: &House, purpose: &str, count: usize) {
    dotmac_testkit::eventually(format!("{count} mails {purpose}"), || async {
        let log = house.instances[0].log();
        let held = log.iter().filter(|line| line["purpose"] == purpose);
        (held.count() == count).then_some(())
    })
    .await;
}

pub(crate) fn code(answer: &Value) -> (u64, &str) {
    let code = answer["body"]["code"].as_str().unwrap_or_default();
    (answer["status"].as_u64().unwrap(), code)
}

#[tokio::test]
async fn a_passkey_signs_in_with_and_without_a_name_and_is_good_for_one_answer() {
    Site::on_both(async |site| {
        let page = site.page().await;
        let authenticator = page.add_authenticator(json!({})).await;
        let added = registered(&page).await;
        let codes = added["recovery_codes"].as_array().unwrap();
        assert_eq!(codes.len(), 10, "{added}");
        let passkey = &added["passkey"];
        assert_eq!(passkey["label"], "laptop");
        assert_eq!(passkey["discoverable"], true, "{passkey}");
        assert_eq!(passkey["backup_eligible"], false, "{passkey}");
        let kept = page.passkeys(&authenticator).await;
        assert_eq!(kept.len(), 1);
        assert_eq!(kept[0]["rpId"], "localhost");
        // The session in which it was registered goes on, as strong as it was.
        assert_eq!(me(&page).await["body"]["acr"], 1);
        // The same registration is good once.
        let path = json!("/auth/me/factors/passkeys/confirm");
        let again = page
            .evaluate(&format!("api('POST', {path}, window.registration)"))
            .await;
        // Now the passkey is the factor that must be shown to add another.
        assert_eq!(code(&again), (403, "step_up_required"), "{again}");

        for asked in [
            json!({}),
            json!({ "identifier": ADMIN }),
            json!({ "identifier": ADMIN.to_uppercase() }),
        ] {
            signed_out(&page).await;
            let session = call(&page, "signIn", std::slice::from_ref(&asked)).await;
            assert_eq!(session["status"], 200, "{asked}: {session}");
            assert_eq!(session["body"]["acr"], 2, "{session}");
            assert_eq!(session["body"]["user"]["email"], ADMIN);
            let again = page
                .evaluate("api('POST', '/auth/passkey/verify', window.assertion)")
                .await;
            assert_eq!(code(&again), (410, "link_used_or_expired"), "{again}");
        }
        let me = me(&page).await;
        assert_eq!(me["body"]["acr"], 2, "{me}");
        let own = page
            .evaluate("api('GET', '/auth/me/factors/passkeys')")
            .await;
        assert!(own["body"]["items"][0]["last_used_at"].is_string(), "{own}");
        let dump = site.house.dump().await;
        for planted in codes {
            assert!(!dump.contains(planted.as_str().unwrap()));
        }
    })
    .await;
}

#[tokio::test]
async fn a_browser_suggests_the_passkey_as_one_types_a_name() {
    Site::on_both(async |site| {
        let page = site.page().await;
        page.add_authenticator(json!({})).await;
        registered(&page).await;
        signed_out(&page).await;
        let can = "PublicKeyCredential.isConditionalMediationAvailable()";
        assert_eq!(page.evaluate(can).await, true);
        let session = call(&page, "signIn", &[json!({}), json!("conditional")]).await;
        assert_eq!(session["status"], 200, "{session}");
        assert_eq!(session["body"]["acr"], 2, "{session}");
    })
    .await;
}

#[tokio::test]
async fn a_passkey_is_the_second_factor_after_a_password_and_steps_up() {
    Site::on_both(async |site| {
        let page = site.page().await;
        page.add_authenticator(json!({})).await;
        let codes = registered(&page).await["recovery_codes"].clone();
        signed_out(&page).await;

        let first = password_sign_in(&page).await;
        let methods = json!(["passkey", "recovery_code"]);
        assert_eq!(first["body"]["mfa"]["methods"], methods, "{first}");
        let verify = format!(
            "answer('/auth/passkey/options', {{ flow: {0} }}).then(answer => api('POST', '/auth/mfa/verify', \
             {{ ...answer, method: 'passkey' }}))",
            first["body"]["mfa"]["flow"]
        );
        let session = page.evaluate(&verify).await;
        assert_eq!(session["status"], 200, "{session}");
        assert_eq!(session["body"]["acr"], 2, "{session}");
        // A session that is strong, and no longer young, steps up by the passkey alone. Before its first use, so that nothing
        // is remembered of it.
        site.house
            .sql("UPDATE sessions SET auth_time = '2026-11-01 00:00:00.000000'")
            .await;
        let over = json!({ "flow": first["body"]["mfa"]["flow"] });
        let over = site.house.post("/auth/passkey/options", None, over).await;
        assert_eq!(over.short(), (410, "link_used_or_expired"), "{over:?}");
        let refused = page
            .evaluate("api('POST', '/auth/me/factors/passkeys')")
            .await;
        assert_eq!(code(&refused), (403, "step_up_required"), "{refused}");
        let password = page
            .evaluate(&format!("api('POST', '/auth/step-up', {{ password: {PASSWORD:?} }})"))
            .await;
        assert_eq!(code(&password), (403, "step_up_required"), "{password}");
        let stepped = page
            .evaluate("answer('/auth/step-up/options').then(answer => api('POST', '/auth/step-up', answer))")
            .await;
        assert_eq!(stepped["status"], 200, "{stepped}");
        assert_eq!(stepped["body"]["acr"], 2, "{stepped}");
        let another = page
            .evaluate("api('POST', '/auth/me/factors/passkeys')")
            .await;
        assert_eq!(another["status"], 200, "{another}");

        // On the day on which the passkey is lost.
        let first = site.house.login(ADMIN, PASSWORD).await;
        let flow = first.body["mfa"]["flow"].as_str().unwrap();
        let body = json!({ "flow": flow, "method": "recovery_code", "code": codes[0] });
        let recovered = site.house.post("/auth/mfa/verify", None, body).await;
        assert_eq!(recovered.status, 200, "{recovered:?}");
        // Options for a flow that was never begun, and for a user without a passkey.
        let gone = json!({ "flow": flow });
        let gone = site.house.post("/auth/passkey/options", None, gone).await;
        assert_eq!(gone.short(), (410, "link_used_or_expired"));
    })
    .await;
}

#[tokio::test]
async fn identifiers_without_a_passkey_are_answered_as_if_they_had_one() {
    House::on_both(async |house| {
        house.administrator().await;
        let asked = async |identifier: &str| {
            let body = json!({ "identifier": identifier });
            let answer = house.post("/auth/passkey/options", None, body).await;
            // At an address of numbers there are none: the house is at `localhost` unless it is set otherwise.
            assert_eq!(answer.status, 200, "{answer:?}");
            answer.body["options"].clone()
        };
        let mut ids = Vec::new();
        for identifier in [ADMIN, "nobody@example.com", "not an identifier"] {
            let first = asked(identifier).await;
            let second = asked(identifier).await;
            assert_ne!(first["challenge"], second["challenge"]);
            assert_eq!(first["allowCredentials"], second["allowCredentials"]);
            let listed = first["allowCredentials"].as_array().unwrap();
            assert_eq!(listed.len(), 1, "{first}");
            assert_eq!(listed[0]["transports"], json!(["hybrid", "internal"]));
            ids.push(listed[0]["id"].clone());
        }
        ids.dedup();
        assert_eq!(ids.len(), 3, "{ids:?}");
        let both = json!({ "identifier": ADMIN, "flow": "dmf_a" });
        let both = house.post("/auth/passkey/options", None, both).await;
        assert_eq!((both.status, both.code()), (422, "validation"), "{both:?}");
    })
    .await;
}

#[tokio::test]
async fn one_answer_signs_in_once_however_often_it_comes_at_once() {
    Site::on_both(async |site| {
        let page = site.page().await;
        page.add_authenticator(json!({})).await;
        registered(&page).await;
        signed_out(&page).await;
        let at_once = page
            .evaluate(
                "answer('/auth/passkey/options', {}).then(answer => Promise.all([1, 2, 3, 4, 5].map(() =>
                    api('POST', '/auth/passkey/verify', { ...answer, mode: 'cookie' }))))",
            )
            .await;
        let answers = at_once.as_array().unwrap();
        let signed_in = answers.iter().filter(|it| it["status"] == 200).count();
        assert_eq!(signed_in, 1, "{at_once}");
    })
    .await;
}
