//! What a passkey is no longer good for, or not alone: copies, unverified users, the last one, and one of another time.

use serde_json::{Value, json};

use crate::{
    ADMIN, PASSWORD,
    passkeys::{Site, call, code, held, password_sign_in, registered, signed_out},
};

#[tokio::test]
async fn a_passkey_that_comes_to_be_backed_up_stays_good_and_one_whose_counter_goes_back_does_not()
{
    Site::on_both(async |site| {
        let page = site.page().await;
        let authenticator = page.add_authenticator(json!({})).await;
        registered(&page).await;
        let kept = page.passkeys(&authenticator).await.remove(0);
        let back_up = async |is_backed_up: bool| {
            let changed = json!({
                "authenticatorId": authenticator,
                "credentialId": kept["credentialId"],
                "backupEligibility": is_backed_up,
                "backupState": is_backed_up,
            });
            page.call("WebAuthn.setCredentialProperties", changed).await;
        };
        let by_name = json!({ "identifier": ADMIN });
        for (asked, mediation, is_backed_up) in [
            (json!({}), "optional", true),
            (json!({}), "conditional", false),
            (by_name, "optional", true),
        ] {
            back_up(is_backed_up).await;
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
            back_up(is_backed_up).await;
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
