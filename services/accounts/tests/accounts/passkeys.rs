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
struct Site {
    house: House,
    browser: Browser,
    url: String,
}

impl Site {
    async fn on_both(test: impl AsyncFn(Self)) {
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

    async fn page(&self) -> Page<'_> {
        let page = self.browser.open(&self.url).await;
        page.evaluate(SCRIPT).await;
        page
    }
}

/// Calls a function of the script above.
async fn call(page: &Page<'_>, function: &str, arguments: &[Value]) -> Value {
    let arguments: Vec<String> = arguments.iter().map(Value::to_string).collect();
    page.evaluate(&format!("{function}({})", arguments.join(", ")))
        .await
}

async fn password_sign_in(page: &Page<'_>) -> Value {
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
async fn held(house: &House, purpose: &str, count: usize) {
    dotmac_testkit::eventually(format!("{count} mails {purpose}"), || async {
        let log = house.instances[0].log();
        let held = log.iter().filter(|line| line["purpose"] == purpose);
        (held.count() == count).then_some(())
    })
    .await;
}

fn code(answer: &Value) -> (u64, &str) {
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
async fn a_passkey_that_comes_to_be_backed_up_stays_good_and_one_whose_counter_goes_back_does_not()
{
    Site::on_both(async |site| {
        let page = site.page().await;
        let authenticator = page.add_authenticator(json!({})).await;
        registered(&page).await;
        let kept = page.passkeys(&authenticator).await.remove(0);
        let by_name = json!({ "identifier": ADMIN });
        for (asked, mediation, is_backed_up) in [
            (json!({}), "optional", true),
            (json!({}), "conditional", false),
            (by_name, "optional", true),
        ] {
            let changed = json!({
                "authenticatorId": authenticator,
                "credentialId": kept["credentialId"],
                "backupEligibility": is_backed_up,
                "backupState": is_backed_up,
            });
            page.call("WebAuthn.setCredentialProperties", changed).await;
            signed_out(&page).await;
            let session = call(&page, "signIn", &[asked, json!(mediation)]).await;
            assert_eq!(session["status"], 200, "{session}");
            let own = page.evaluate("api('GET', '/auth/me/factors')").await;
            let passkey = &own["body"]["passkeys"][0];
            assert_eq!(passkey["backup_eligible"], is_backed_up, "{own}");
            assert_eq!(passkey["backup_state"], is_backed_up, "{own}");
        }

        // As the second factor, and to step up.
        for (path, is_backed_up) in [("/auth/mfa/verify", false), ("/auth/step-up", true)] {
            let changed = json!({
                "authenticatorId": authenticator,
                "credentialId": kept["credentialId"],
                "backupEligibility": is_backed_up,
                "backupState": is_backed_up,
            });
            page.call("WebAuthn.setCredentialProperties", changed).await;
            let answer = match path {
                "/auth/step-up" => "answer('/auth/step-up/options')".to_owned(),
                _ => {
                    signed_out(&page).await;
                    let first = password_sign_in(&page).await;
                    let flow = &first["body"]["mfa"]["flow"];
                    format!("answer('/auth/passkey/options', {{ flow: {flow} }})")
                }
            };
            let method = match path {
                "/auth/step-up" => json!({}),
                _ => json!({ "method": "passkey" }),
            };
            let done = page
                .evaluate(&format!(
                    "{answer}.then(answer => api('POST', '{path}', {{ ...answer, ...{method} }}))"
                ))
                .await;
            assert_eq!(done["status"], 200, "{path}: {done}");
            let own = page.evaluate("api('GET', '/auth/me/factors')").await;
            assert_eq!(
                own["body"]["passkeys"][0]["backup_state"], is_backed_up,
                "{path}: {own}"
            );
        }
        let recorded = "audit_entry WHERE action = 'authn_passkey_backup_changed'";
        assert_eq!(site.house.rows(recorded).await, 5);

        // A copy: the same key, with the counter of long ago.
        let copied = async |count: u32| {
            let gone =
                json!({ "authenticatorId": authenticator, "credentialId": kept["credentialId"] });
            page.call("WebAuthn.removeCredential", gone).await;
            let mut copy = kept.clone();
            copy["signCount"] = count.into();
            let added = json!({ "authenticatorId": authenticator, "credential": copy });
            page.call("WebAuthn.addCredential", added).await;
            signed_out(&page).await;
            call(&page, "signIn", &[json!({})]).await
        };
        let refused = copied(1).await;
        assert_eq!(code(&refused), (401, "invalid_credentials"), "{refused}");
        let recorded = "audit_entry WHERE action = 'authn_passkey_copied'";
        assert_eq!(site.house.rows(recorded).await, 1);
        let session = copied(1000).await;
        assert_eq!(session["status"], 200, "{session}");
    })
    .await;
}

#[tokio::test]
async fn the_last_passkey_of_a_user_without_a_password_stays_and_codes_end_with_the_last_factor() {
    Site::on_both(async |site| {
        let page = site.page().await;
        let authenticator = page.add_authenticator(json!({})).await;
        let first = registered(&page).await;
        let id = first["passkey"]["id"].as_str().unwrap();
        let remove = |id: &str, tag: &Value| {
            format!("api('DELETE', '/auth/me/factors/passkeys/{id}', undefined, {tag})")
        };
        let any = json!("*");
        // The session of the password is too weak to take the passkey away.
        let refused = page.evaluate(&remove(id, &any)).await;
        assert_eq!(code(&refused), (403, "step_up_required"), "{refused}");
        signed_out(&page).await;
        assert_eq!(call(&page, "signIn", &[]).await["status"], 200);
        // A browser does not make a second one on the same authenticator.
        let thrown = page.thrown("await register('again')").await;
        assert_eq!(thrown, "InvalidStateError");
        let other = "01900000-0000-7000-8000-000000000000";
        let unknown = page.evaluate(&remove(other, &any)).await;
        assert_eq!(code(&unknown), (404, "not_found"), "{unknown}");

        site.house.sql("DELETE FROM passwords").await;
        let last = page.evaluate(&remove(id, &any)).await;
        assert_eq!(code(&last), (409, "last_factor"), "{last}");
        let gone = json!({ "authenticatorId": authenticator });
        page.call("WebAuthn.removeVirtualAuthenticator", gone).await;
        page.add_authenticator(json!({ "transport": "usb" })).await;
        let second = call(&page, "register", &[json!("key")]).await;
        assert_eq!(second["status"], 200, "{second}");
        // There are codes already.
        assert_eq!(second["body"]["recovery_codes"], json!([]), "{second}");
        let bare = format!("api('DELETE', '/auth/me/factors/passkeys/{id}')");
        let bare = page.evaluate(&bare).await;
        assert_eq!(code(&bare), (428, "precondition_required"), "{bare}");
        // It has been used since.
        let stale = page.evaluate(&remove(id, &first["passkey"]["etag"])).await;
        assert_eq!(code(&stale), (412, "precondition_failed"), "{stale}");
        let own = page.evaluate("api('GET', '/auth/me/factors')").await;
        let tag = &own["body"]["passkeys"][0]["etag"];
        let removed = page.evaluate(&remove(id, tag)).await;
        assert_eq!(removed["status"], 204, "{removed}");
        let factors = page.evaluate("api('GET', '/auth/me/factors')").await;
        assert_eq!(factors["body"]["recovery_codes_left"], 10, "{factors}");
        assert_eq!(factors["body"]["passkeys"].as_array().unwrap().len(), 1);

        held(&site.house, "accounts.factor_added", 2).await;
        held(&site.house, "accounts.factor_removed", 1).await;
        site.house.command(&["user", "remove-factors", ADMIN]).await;
        held(&site.house, "accounts.factor_removed", 2).await;
        assert_eq!(site.house.rows("passkeys").await, 0);
        assert_eq!(site.house.rows("recovery_codes").await, 0);
    })
    .await;
}

#[tokio::test]
async fn a_passkey_is_asked_for_the_user_to_be_verified_and_for_one_browser_session_and_purpose() {
    Site::on_both(async |site| {
        let page = site.page().await;
        let authenticator = page.add_authenticator(json!({})).await;
        registered(&page).await;
        signed_out(&page).await;
        let house = &site.house;
        // Without the cookie of the browser that asked, the answer is worth nothing.
        let stolen = page.evaluate("answer('/auth/passkey/options', {})").await;
        let body = json!({ "flow": stolen["flow"], "credential": stolen["credential"], "mode": "token" });
        let refused = house.post("/auth/passkey/verify", None, body).await;
        assert_eq!(refused.short(), (410, "link_used_or_expired"));
        // An answer to other options, or what is no answer.
        let other = page
            .evaluate(
                "answer('/auth/passkey/options', {}).then(async answer => {
                    const other = await api('POST', '/auth/passkey/options', {});
                    return api('POST', '/auth/passkey/verify',
                        { flow: other.body.flow, credential: answer.credential, mode: 'cookie' });
                })",
            )
            .await;
        assert_eq!(code(&other), (401, "invalid_credentials"), "{other}");
        let none = page
            .evaluate(
                "api('POST', '/auth/passkey/options', {}).then(begun => api('POST', '/auth/passkey/verify',
                    { flow: begun.body.flow, credential: { id: 'a' }, mode: 'cookie' }))",
            )
            .await;
        assert_eq!(code(&none), (401, "invalid_credentials"), "{none}");
        // An answer to sign in by is none to step up by, and the other way round.
        let session = call(&page, "signIn", &[]).await;
        assert_eq!(session["status"], 200, "{session}");
        let mixed = page
            .evaluate("answer('/auth/passkey/options', {}).then(answer => api('POST', '/auth/step-up', answer))")
            .await;
        assert_eq!(code(&mixed), (410, "link_used_or_expired"), "{mixed}");

        // An authenticator that does not verify its user is not enough.
        let unverified = json!({ "authenticatorId": authenticator, "isUserVerified": false });
        page.call("WebAuthn.setUserVerified", unverified).await;
        signed_out(&page).await;
        assert_eq!(page.thrown("await signIn()").await, "NotAllowedError");
        // Not even if the page does not ask for that.
        let unasked = page
            .evaluate(
                "api('POST', '/auth/passkey/options', {}).then(async begun => {
                    const publicKey = PublicKeyCredential.parseRequestOptionsFromJSON(begun.body.options);
                    publicKey.userVerification = 'discouraged';
                    const credential = await navigator.credentials.get({ publicKey });
                    return api('POST', '/auth/passkey/verify',
                        { flow: begun.body.flow, credential: credential.toJSON(), mode: 'cookie' });
                })",
            )
            .await;
        assert_eq!(code(&unasked), (401, "invalid_credentials"), "{unasked}");

        // An answer that comes too late.
        let verified = json!({ "authenticatorId": authenticator, "isUserVerified": true });
        page.call("WebAuthn.setUserVerified", verified).await;
        let late = page.evaluate("answer('/auth/passkey/options', {})").await;
        house.sql("UPDATE passkey_ceremonies SET expires_at = '2026-11-01 00:00:00.000000'").await;
        let late = page
            .evaluate(&format!("api('POST', '/auth/passkey/verify', {{ ...{late}, mode: 'cookie' }})"))
            .await;
        assert_eq!(code(&late), (410, "link_used_or_expired"), "{late}");

        // Guessed passwords keep nobody out who has a passkey.
        house.lock(ADMIN).await;
        assert_eq!(call(&page, "signIn", &[]).await["status"], 200);

        // A disabled user is let in by nothing.
        signed_out(&page).await;
        house.sql("UPDATE users SET status = 'disabled'").await;
        let disabled = call(&page, "signIn", &[]).await;
        assert_eq!(code(&disabled), (401, "invalid_credentials"), "{disabled}");
    })
    .await;
}

/// Who knew the password when a passkey was registered may have registered it.
#[tokio::test]
async fn a_passkey_from_before_keeps_its_user_from_more_than_those_may_who_knew_the_password() {
    Site::on_both(async |site| {
        let house = &site.house;
        let owner = house.login(ADMIN, PASSWORD).await.text("access_token");
        let helpdesk = json!({ "name": "helpdesk", "permissions": ["accounts.users.*"] });
        house.post("/roles", Some(&owner), helpdesk).await;
        let (_, helper) = house.user(&owner, "helen@example.com", &["helpdesk"]).await;
        let helper = helper.text("access_token");
        let (vic, _) = house.user(&helper, "vic@example.com", &[]).await;
        let page = site.page().await;
        page.add_authenticator(json!({})).await;
        let known = [json!("vic@example.com"), json!(PASSWORD)];
        let session = call(&page, "passwordSignIn", &known).await;
        assert_eq!(session["status"], 200, "{session}");
        let added = call(&page, "register", &[json!("helen's")]).await;
        assert_eq!(added["status"], 200, "{added}");

        let path = format!("/users/{vic}/reset-link");
        let link = house.post(&path, Some(&owner), json!({}));
        let reset =
            json!({ "token": link.await.text("token"), "password": "six white boxes in a row" });
        let reset = house.post("/auth/password/reset", None, reset).await;
        assert_eq!(reset.status, 204, "{reset:?}");
        let bind = json!({ "principal": vic, "role": "admin" });
        let refused = house
            .post("/role-bindings", Some(&owner), bind.clone())
            .await;
        assert_eq!(refused.short(), (403, "forbidden"), "{refused:?}");
        // Nor by a role that the user has.
        let role = house
            .post("/roles", Some(&owner), json!({ "name": "own" }))
            .await;
        let own = json!({ "principal": vic, "role": "own" });
        assert_eq!(
            house.post("/role-bindings", Some(&owner), own).await.status,
            201
        );
        let (path, any) = (format!("/roles/{}", role.text("id")), [("if-match", "*")]);
        let more = Some(json!({ "permissions": ["accounts.roles.read"] }));
        let refused = house
            .send(0, reqwest::Method::PATCH, &path, Some(&owner), more, &any)
            .await;
        assert_eq!(refused.short(), (403, "forbidden"), "{refused:?}");
        house
            .command(&["user", "remove-factors", "vic@example.com"])
            .await;
        let given = house.post("/role-bindings", Some(&owner), bind).await;
        assert_eq!(given.status, 201, "{given:?}");
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
