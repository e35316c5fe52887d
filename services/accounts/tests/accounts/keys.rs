//! API keys, and the keys that tokens are signed with.

use std::time::Duration;

use dotmac_testkit::{OpenBao, openbao::ROOT_TOKEN};
use reqwest::Method;
use serde_json::{Value, json};

use crate::{ADMIN, House, PASSWORD};

#[tokio::test]
async fn a_key_does_what_its_owner_and_its_scopes_allow_and_ends_when_it_is_revoked() {
    for house in [
        House::on_sqlite(1, &[]).await,
        House::on_postgres(1, &[]).await,
    ] {
        let house = house.in_turns().await;
        let admin = house.admin_session().await.text("access_token");
        let account = house
            .post("/service-accounts", Some(&admin), json!({ "name": "ci" }))
            .await;
        assert_eq!(account.status, 201, "{account:?}");
        let account = account.text("id");
        let reader = json!({ "name": "reader", "permissions": ["accounts.users.read", "accounts.roles.read"] });
        assert_eq!(house.post("/roles", Some(&admin), reader).await.status, 201);
        let bind = json!({ "principal": account, "role": "reader" });
        assert_eq!(
            house
                .post("/role-bindings", Some(&admin), bind)
                .await
                .status,
            201
        );

        let new = |scopes: &[&str]| json!({ "name": "build", "scopes": scopes, "service_account_id": account });
        let made = house
            .post("/api-keys", Some(&admin), new(&["accounts.users.*"]))
            .await;
        assert_eq!(made.status, 201, "{made:?}");
        let (id, key) = (made.text("id"), made.text("key"));
        assert!(key.starts_with(&made.text("prefix")) && key.starts_with("dmk_"));
        let with_header = house
            .send(0, Method::GET, "/users", None, None, &[("x-api-key", &key)])
            .await;
        assert_eq!(with_header.status, 200, "{with_header:?}");
        assert_eq!(house.get("/users", Some(&key)).await.status, 200);
        // Its scopes do not have roles, its owner may not write users, and it makes no keys.
        assert_eq!(
            house.get("/roles", Some(&key)).await.short(),
            (403, "forbidden")
        );
        let user = json!({ "email": "x@example.com" });
        assert_eq!(
            house.post("/users", Some(&key), user).await.short(),
            (403, "forbidden")
        );
        let own = json!({ "name": "more", "scopes": ["accounts.users.read"] });
        assert_eq!(
            house
                .post("/auth/me/api-keys", Some(&key), own)
                .await
                .short(),
            (403, "forbidden")
        );
        assert_eq!(
            house
                .post("/auth/logout", Some(&key), json!({}))
                .await
                .short(),
            (403, "forbidden")
        );
        let me = house.get("/auth/me", Some(&key)).await;
        assert_eq!(
            (&me.body["kind"], &me.body["roles"]),
            (&"service".into(), &json!(["reader"]))
        );

        // Rotated with an overlap both secrets count, without one the new one alone.
        let rotate = |overlap: &str| {
            house.post_owned(
                format!("/api-keys/{id}/rotate"),
                &admin,
                json!({ "overlap": overlap }),
            )
        };
        let second = rotate("1h").await.text("key");
        assert_eq!(
            (
                house.get("/users", Some(&key)).await.status,
                house.get("/users", Some(&second)).await.status
            ),
            (200, 200)
        );
        let third = rotate("0s").await.text("key");
        assert_eq!(house.refused(&key).await.short(), (401, "token_invalid"));
        assert_eq!(house.refused(&second).await.short(), (401, "token_invalid"));
        assert_eq!(house.get("/users", Some(&third)).await.status, 200);

        let found = house.get(&format!("/api-keys/{id}"), Some(&admin)).await;
        assert!(found.body.get("key").is_none());
        let tag = found.text("etag");
        let path = format!("/api-keys/{id}");
        let gone = house
            .send(
                0,
                Method::DELETE,
                &path,
                Some(&admin),
                None,
                &[("if-match", &tag)],
            )
            .await;
        assert_eq!(gone.status, 204, "{gone:?}");
        assert_eq!(house.refused(&third).await.short(), (401, "token_invalid"));

        // A key that was found somewhere is revoked by whoever found it; what is no key is answered the same.
        let lost = house
            .post("/api-keys", Some(&admin), new(&["accounts.users.read"]))
            .await
            .text("key");
        assert_eq!(house.get("/users", Some(&lost)).await.status, 200);
        for reported in ["no key", &lost] {
            let answer = house
                .post("/keys/report", None, json!({ "key": reported }))
                .await;
            assert_eq!((answer.status, answer.body), (202, json!({})));
        }
        assert_eq!(house.refused(&lost).await.short(), (401, "token_invalid"));
        let near = json!({
            "name": "near", "scopes": ["accounts.users.read"], "cidrs": ["192.0.2.0/24", "127.0.0.0/8"],
        });
        let near = house
            .post("/api-keys", Some(&admin), near)
            .await
            .text("key");
        assert_eq!(house.get("/users", Some(&near)).await.status, 200);
        let elsewhere =
            json!({ "name": "far", "scopes": ["accounts.users.read"], "cidrs": ["192.0.2.0/24"] });
        let elsewhere = house
            .post("/api-keys", Some(&admin), elsewhere)
            .await
            .text("key");
        assert!(elsewhere.starts_with("dmp_"));
        assert_eq!(
            house.get("/users", Some(&elsewhere)).await.short(),
            (401, "token_invalid")
        );
    }
}

#[tokio::test]
async fn a_rotated_signing_key_is_published_before_it_signs_and_a_revoked_one_ends_its_tokens() {
    let house = House::on_sqlite(2, &[]).await;
    let token = house.admin_session().await.text("access_token");
    let jwks = || house.send(1, Method::GET, "/.well-known/jwks.json", None, None, &[]);
    let first = jwks().await.body["keys"][0]["kid"]
        .as_str()
        .unwrap()
        .to_owned();
    house.command(&["accounts", "keys", "rotate"]).await;
    dotmac_testkit::eventually("the new key to be published", || async {
        (jwks().await.body["keys"].as_array()?.len() == 2).then_some(())
    })
    .await;
    assert_eq!(house.get("/auth/me", Some(&token)).await.status, 200);
    let listed = house.command(&["accounts", "keys", "list"]).await;
    assert!(
        listed.contains("next") && listed.contains("active"),
        "{listed}"
    );
    let lines = house.command(&["accounts", "keys", "list", "--json"]).await;
    let keys: Vec<Value> = lines
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let states: Vec<_> = keys.iter().map(|key| key["state"].as_str()).collect();
    assert_eq!(states, [Some("active"), Some("next")], "{lines}");
    assert_eq!(keys[0]["kid"], first.as_str(), "{lines}");
    for key in &keys {
        let kid = key["kid"].as_str().unwrap();
        let since = key["since"].as_str().unwrap().trim_end_matches('Z');
        assert!(listed.contains(kid) && listed.contains(since), "{lines}");
    }

    // An id may begin with a hyphen, and is no option then.
    let builder = house.builder();
    let unknown = ["accounts", "keys", "revoke", "-Sx"];
    let refused = builder.run_in(house.directory.path(), &unknown).await;
    let text = refused.text();
    assert!(text.contains("no key has the id -Sx"), "{text}");

    house.command(&["accounts", "keys", "revoke", &first]).await;
    for instance in 0..2 {
        assert_eq!(
            house.until_refused(instance, &token).await.short(),
            (401, "token_invalid")
        );
    }
    let again = house.login(crate::ADMIN, crate::PASSWORD).await;
    assert_eq!(
        house
            .get("/auth/me", Some(&again.text("access_token")))
            .await
            .status,
        200
    );
}

/// Whoever had the account for a moment may have made a key.
#[tokio::test]
async fn keys_of_a_user_end_with_the_password_that_is_set_or_changed_and_while_the_user_is_disabled()
 {
    House::on_both(async |house| {
        let house = house.in_turns().await;
        let admin = house.admin_session().await.text("access_token");
        let read = json!({ "name": "reader", "permissions": ["accounts.users.read"] });
        assert_eq!(house.post("/roles", Some(&admin), read).await.status, 201);
        let (ann, _) = house.user(&admin, "ann@example.com", &["reader"]).await;
        let mut password = PASSWORD.to_owned();
        let key = async |password: &str| {
            let session = house.login("ann@example.com", password).await;
            let session = session.text("access_token");
            let key = json!({ "name": "mine", "scopes": ["accounts.users.read"] });
            let key = house.post("/auth/me/api-keys", Some(&session), key).await;
            assert_eq!(key.status, 201, "{key:?}");
            let key = key.text("key");
            assert_eq!(house.get("/users", Some(&key)).await.status, 200);
            (session, key)
        };
        let is_refused = async |key: &str| {
            let answer = house.refused(key).await;
            assert_eq!(answer.short(), (401, "token_invalid"), "{answer:?}");
        };

        // Other sessions go on if that is wished.
        let (session, kept) = key(&password).await;
        let other = house.login("ann@example.com", &password).await.text("access_token");
        let change = json!({
            "current": password, "new": "six blue boxes in a row", "end_others": false, "revoke_keys": false,
        });
        let changed = house.post("/auth/password/change", Some(&session), change);
        assert_eq!(changed.await.status, 204);
        password = "six blue boxes in a row".to_owned();
        assert_eq!(house.get("/auth/me", Some(&other)).await.status, 200);
        for (new, revoke_keys) in [
            ("two green boxes in a row", false),
            ("ten red boxes in a row", true),
        ] {
            let change = json!({ "current": password, "new": new, "revoke_keys": revoke_keys });
            let changed = house
                .post("/auth/password/change", Some(&session), change)
                .await;
            assert_eq!(changed.status, 204, "{changed:?}");
            password = new.to_owned();
            if revoke_keys {
                is_refused(&kept).await;
            } else {
                assert_eq!(house.get("/users", Some(&kept)).await.status, 200);
            }
        }
        let (session, by_default) = key(&password).await;
        let change = json!({ "current": password, "new": PASSWORD });
        let changed = house
            .post("/auth/password/change", Some(&session), change)
            .await;
        assert_eq!(changed.status, 204, "{changed:?}");
        is_refused(&by_default).await;

        let (_, reset) = key(PASSWORD).await;
        let path = format!("/users/{ann}/reset-link");
        let link = house
            .post(&path, Some(&admin), json!({}))
            .await
            .text("token");
        let body = json!({ "token": link, "password": PASSWORD });
        let done = house.post("/auth/password/reset", None, body).await;
        assert_eq!(done.status, 204, "{done:?}");
        is_refused(&reset).await;

        let (_, disabled) = key(PASSWORD).await;
        for action in ["disable", "enable"] {
            let path = format!("/users/{ann}/{action}");
            let done = house.post(&path, Some(&admin), json!({})).await;
            assert_eq!(done.status, 204, "{action}: {done:?}");
            is_refused(&disabled).await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_pepper_hashes_and_its_successor_takes_over_at_the_next_sign_in() {
    let one = "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=";
    let both =
        "AgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgI=,AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=";
    let other = "AgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgI=";
    let mut house = House::on_sqlite(1, &[]).await;
    house.administrator().await;
    assert!(!house.dump().await.contains("keyid="));
    for (pepper, expected) in [
        (one, (200, "")),
        (both, (200, "")),
        (other, (200, "")),
        (one, (503, "auth_unavailable")),
    ] {
        house.instances.pop().unwrap().stop().await;
        house
            .settings
            .retain(|(key, _)| *key != "DOTMAC_ACCOUNTS_PEPPER");
        house
            .settings
            .push(("DOTMAC_ACCOUNTS_PEPPER", pepper.to_owned()));
        house.spawn(1).await;
        let session = house.login(ADMIN, PASSWORD).await;
        assert_eq!(session.short(), expected, "{session:?}");
    }
    assert!(house.dump().await.contains("keyid="));
}

/// The ids of the published keys.
async fn kids(house: &House) -> Vec<String> {
    let jwks = house.get("/.well-known/jwks.json", None).await;
    let keys = jwks.body["keys"].as_array().unwrap().iter();
    keys.map(|key| key["kid"].as_str().unwrap().to_owned())
        .collect()
}

#[tokio::test]
async fn private_signing_keys_are_in_vault_for_all_instances_and_not_in_the_database() {
    let bao = OpenBao::start().await;
    let address = bao.address();
    let vault = [
        ("DOTMAC_VAULT_ADDR", address.as_str()),
        ("DOTMAC_VAULT_TOKEN", ROOT_TOKEN),
    ];
    for house in [
        House::on_sqlite(2, &vault).await,
        House::on_postgres(2, &vault).await,
    ] {
        let token = house.admin_session().await.text("access_token");
        for instance in 0..2 {
            let me = house.send(instance, Method::GET, "/auth/me", Some(&token), None, &[]);
            assert_eq!(me.await.status, 200);
        }
        let first = kids(&house).await;
        house.command(&["accounts", "keys", "rotate"]).await;
        let both = dotmac_testkit::eventually("the new key to be published", || async {
            let kids = kids(&house).await;
            (kids.len() == first.len() + 1).then_some(kids)
        })
        .await;
        for kid in &both {
            let path = format!("secret/data/accounts/signing/{kid}");
            let kept = bao.call(Method::GET, &path, json!(null)).await;
            let key = kept["data"]["data"]["key"].as_str().unwrap().to_owned();
            assert!(key.len() > 100, "{kept}");
            assert!(!house.dump().await.contains(&key));
        }
        let in_vault = i64::try_from(both.len()).unwrap();
        assert_eq!(house.rows("signing_keys WHERE in_vault").await, in_vault);
    }
}

#[tokio::test]
async fn where_vault_does_not_allow_to_write_private_signing_keys_are_sealed_as_without_it() {
    let bao = OpenBao::start().await;
    let policy = r#"path "secret/data/*" { capabilities = ["read"] }"#;
    let policy = json!({ "policy": policy });
    bao.call(Method::PUT, "sys/policies/acl/reader", policy)
        .await;
    let token = json!({ "policies": ["reader"] });
    let token = bao.call(Method::POST, "auth/token/create", token).await;
    let token = token["auth"]["client_token"].as_str().unwrap().to_owned();
    let address = bao.address();
    let vault = [
        ("DOTMAC_VAULT_ADDR", address.as_str()),
        ("DOTMAC_VAULT_TOKEN", token.as_str()),
    ];
    let house = House::on_sqlite(1, &vault).await;
    let token = house.admin_session().await.text("access_token");
    assert_eq!(house.get("/auth/me", Some(&token)).await.status, 200);
    assert_eq!(house.rows("signing_keys WHERE in_vault").await, 0);
    let said = house.instances[0]
        .logged("the private signing key is sealed in the database")
        .await;
    let advice = said["error"].as_str().unwrap();
    assert!(advice.contains("capabilities = [\"create\"]"), "{advice}");
}

/// An instance that starts then can open no private key, and needs none to judge tokens.
#[tokio::test]
async fn while_vault_is_away_an_instance_that_starts_checks_tokens_by_the_public_keys() {
    let mut bao = OpenBao::start().await;
    let house = House::with_vault(&bao).await;
    let token = house.admin_session().await.text("access_token");
    bao.kill();
    let other = house.builder().spawn().await;
    let me = async |token: &str| {
        let url = format!("{}/api/v1/auth/me", other.base);
        let answer = other.client.get(url).bearer_auth(token).send().await;
        answer.unwrap().status().as_u16()
    };
    dotmac_testkit::eventually("the token to be accepted", || async {
        (me(&token).await == 200).then_some(())
    })
    .await;
    // {"alg":"ES256","typ":"at+jwt","kid":"x"}
    let head = "eyJhbGciOiJFUzI1NiIsInR5cCI6ImF0K2p3dCIsImtpZCI6IngifQ";
    let of_unknown_key = format!("{head}.{}", token.split_once('.').unwrap().1);
    let reads = || {
        let said = "a signing key cannot be opened on this instance";
        let lines = other.lines();
        lines.iter().filter(|line| line.contains(said)).count()
    };
    let before = reads();
    dotmac_testkit::eventually("the keys to be read again", || async {
        tokio::time::sleep(Duration::from_millis(500)).await;
        assert_eq!(me(&of_unknown_key).await, 401);
        (reads() > before).then_some(())
    })
    .await;
    assert_eq!(me(&token).await, 200);
}
