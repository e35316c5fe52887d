//! Names, fields and limits of the routes, and what operators see of them.

use reqwest::Method;
use serde_json::{Value, json};

use crate::{ADMIN, House, PASSWORD};

#[tokio::test]
async fn what_a_role_gives_is_read_and_set_by_itself_in_the_version_seen() {
    House::on_both(async |house| {
        let admin = house.admin_session().await.text("access_token");
        let new = json!({ "name": "own", "description": "Ours.", "permissions": ["accounts.users.read"] });
        let role = house.post("/roles", Some(&admin), new).await.text("id");
        let path = format!("/roles/{role}/permissions");
        let found = house.get(&path, Some(&admin)).await;
        assert_eq!(found.body["permissions"], json!(["accounts.users.read"]), "{found:?}");
        let tag = found.text("etag");
        assert_eq!(found.headers["etag"].to_str().unwrap(), tag);
        let put = async |body: Value, headers: &[(&str, &str)]| {
            house
                .send(0, Method::PUT, &path, Some(&admin), Some(body), headers)
                .await
        };
        let more = json!({
            "permissions": ["accounts.roles.*", "accounts.users.read"], "denied": ["accounts.roles.write"]
        });
        assert_eq!(put(more.clone(), &[]).await.short(), (428, "precondition_required"));
        let set = put(more.clone(), &[("if-match", &tag)]).await;
        assert_eq!(set.status, 200, "{set:?}");
        assert_eq!(set.body["denied"], json!(["accounts.roles.write"]));
        let late = put(more, &[("if-match", &tag)]).await;
        assert_eq!(late.short(), (412, "precondition_failed"));
        let unknown = json!({ "permissions": ["accounts.userz.read"] });
        let unknown = put(unknown, &[("if-match", "*")]).await;
        assert_eq!(unknown.body["errors"][0]["code"], "unknown_permission");
        let whole = house.get(&format!("/roles/{role}"), Some(&admin)).await;
        assert_eq!(whole.body["description"], "Ours.");
        assert_eq!(whole.body["permissions"], set.body["permissions"]);
    })
    .await;
}

#[tokio::test]
async fn what_a_location_names_is_there_and_lists_of_ones_own_come_in_pages() {
    House::on_both(async |house| {
        let admin = house.admin_session().await.text("access_token");
        let (ann, _) = house.user(&admin, "ann@example.com", &[]).await;
        let own_key = json!({ "name": "mine", "scopes": ["accounts.users.read"] });
        for (path, body) in [
            (
                "/role-bindings",
                json!({ "principal": ann, "role": "member" }),
            ),
            (
                "/grants",
                json!({ "principal": ann, "permission": "accounts.users.read" }),
            ),
            ("/auth/me/api-keys", own_key),
        ] {
            let made = house.post(path, Some(&admin), body).await;
            assert_eq!(made.status, 201, "{path}: {made:?}");
            let location = made.headers["location"].to_str().unwrap();
            let found = house.get(location.strip_prefix("/api/v1").unwrap(), Some(&admin));
            let found = found.await;
            assert_eq!(
                (found.status, &found.body["id"]),
                (200, &made.body["id"]),
                "{path}"
            );
        }
        for _ in 0..3 {
            house.login(ADMIN, PASSWORD).await;
        }
        for (path, least) in [
            ("/auth/me/sessions", 4),
            ("/permissions", 10),
            ("/tenants", 1),
        ] {
            let (mut seen, mut next) = (Vec::new(), String::new());
            loop {
                let page = house
                    .get(&format!("{path}?limit=2{next}"), Some(&admin))
                    .await;
                assert_eq!(page.status, 200, "{path}: {page:?}");
                let items = page.body["items"].as_array().unwrap();
                assert!(items.len() <= 2);
                seen.extend(items.iter().map(ToString::to_string));
                let Some(cursor) = page.body["next_cursor"].as_str() else {
                    break;
                };
                next = format!("&cursor={cursor}");
            }
            let once: std::collections::BTreeSet<_> = seen.iter().collect();
            assert_eq!(once.len(), seen.len(), "{path}: {seen:?}");
            assert!(seen.len() >= least, "{path}: {seen:?}");
            let foreign = house
                .get(&format!("{path}?cursor=AAAA"), Some(&admin))
                .await;
            assert_eq!(foreign.short(), (400, "invalid_cursor"), "{path}");
        }
        let sessions = house.get("/auth/me/sessions", Some(&admin)).await;
        let id = sessions.body["items"][0]["id"].as_str().unwrap();
        let one = house
            .get(&format!("/auth/me/sessions/{id}"), Some(&admin))
            .await;
        assert_eq!((one.status, &one.body["id"]), (200, &json!(id)), "{one:?}");
        let key = house.get("/auth/me/api-keys", Some(&admin)).await;
        let key = &key.body["items"][0];
        let path = format!("/auth/me/api-keys/{}", key["id"].as_str().unwrap());
        let tag = house.get(&path, Some(&admin)).await.text("etag");
        let headers = [("if-match", tag.as_str())];
        let revoked = house
            .send(0, Method::DELETE, &path, Some(&admin), None, &headers)
            .await;
        assert_eq!(revoked.status, 204, "{revoked:?}");
        assert_eq!(house.get(&path, Some(&admin)).await.status, 404);
    })
    .await;
}

#[tokio::test]
async fn a_key_that_never_ends_takes_a_permission_of_its_own() {
    House::on_both(async |house| {
        let owner = house.admin_session().await.text("access_token");
        let role = json!({
            "name": "keys", "permissions": ["accounts.api_keys.*"], "denied": ["accounts.api_keys.never_expire"]
        });
        assert_eq!(house.post("/roles", Some(&owner), role).await.status, 201);
        let (_, clerk) = house.user(&owner, "ann@example.com", &["keys"]).await;
        let clerk = clerk.text("access_token");
        let make = async |token: &str, expires_at: Value| {
            let new = json!({ "name": "k", "scopes": ["accounts.api_keys.read"], "expires_at": expires_at });
            house.post("/api-keys", Some(token), new).await
        };
        let never = make(&owner, json!("never")).await;
        assert_eq!((never.status, &never.body["expires_at"]), (201, &Value::Null), "{never:?}");
        let refused = make(&clerk, json!("never")).await;
        assert_eq!(refused.short(), (403, "forbidden"), "{refused:?}");
        let usual = make(&clerk, Value::Null).await;
        let end = usual.text("expires_at");
        let key = house.get("/api-keys", Some(&never.text("key"))).await;
        assert_eq!(key.status, 200, "{key:?}");
        for (expires_at, expected) in [
            (json!(end), (201, "")),
            (json!("2099-01-01T00:00:00Z"), (422, "validation")),
            (json!("2020-01-01T00:00:00Z"), (422, "validation")),
            (json!("always"), (400, "")),
            (json!(7), (400, "")),
        ] {
            let made = make(&owner, expires_at.clone()).await;
            let is_right = match expected {
                (400, _) => matches!(made.status, 400 | 422),
                expected => made.short() == expected,
            };
            assert!(is_right, "{expires_at}: {made:?}");
        }
        // Another secret lets it go on, so that takes the permission as well.
        house.sql("UPDATE api_keys SET expires_at = NULL").await;
        let rotate = async |token: &str, id: String| {
            let path = format!("/api-keys/{id}/rotate");
            house.post(&path, Some(token), json!({})).await
        };
        let refused = rotate(&clerk, usual.text("id")).await;
        assert_eq!(refused.short(), (403, "forbidden"), "{refused:?}");
        let rotated = rotate(&owner, never.text("id")).await;
        assert_eq!(rotated.status, 200, "{rotated:?}");
    })
    .await;
}

#[tokio::test]
async fn an_operator_learns_why_a_user_may_or_may_not() {
    House::on_both(async |house| {
        let admin = house.admin_session().await.text("access_token");
        let role = json!({
            "name": "clerk", "permissions": ["accounts.users.*"], "denied": ["accounts.users.write"]
        });
        assert_eq!(house.post("/roles", Some(&admin), role).await.status, 201);
        let (ann, _) = house.user(&admin, "ann@example.com", &["member", "clerk"]).await;
        let grant = json!({
            "principal": ann, "permission": "accounts.roles.read", "expires_at": "2099-01-01T00:00:00Z"
        });
        let granted = house.post("/grants", Some(&admin), grant).await;
        assert_eq!(granted.status, 201, "{granted:?}");
        let why = async |permission: &str| {
            let arguments = ["user", "why", "ann@example.com", "--permission", permission];
            house.command(&arguments).await
        };
        for (permission, expected) in [
            (
                "accounts.users.read",
                "default: `accounts.users.read` is allowed\n  `accounts.users.*` is given by the role `clerk`",
            ),
            (
                "accounts.users.write",
                "default: `accounts.users.write` is not allowed\n  `accounts.users.*` is given by the role `clerk`\n  \
                 `accounts.users.write` is denied by the role `clerk`",
            ),
            (
                "accounts.api_keys.write",
                "default: `accounts.api_keys.write` is not allowed\n  nothing gives it",
            ),
        ] {
            let said = why(permission).await;
            assert!(said.contains(expected), "{permission}: {said}");
        }
        let said = why("accounts.roles.read").await;
        assert!(said.contains("is given by a grant of user:"), "{said}");
        assert!(said.contains(", until 2099-01-01"), "{said}");
        let all = house.command(&["user", "why", "ann@example.com"]).await;
        assert!(all.contains("default: 2 permissions"), "{all}");
        assert!(all.contains("the role `clerk`: accounts.users.*; denies accounts.users.write"), "{all}");
        house.command(&["user", "disable", "ann@example.com"]).await;
        let said = why("accounts.users.read").await;
        assert!(said.contains("the account is disabled"), "{said}");
        assert!(said.contains("`accounts.users.read` is not allowed"), "{said}");

        let unknown = house
            .builder()
            .run_in(
                house.directory.path(),
                &["user", "why", ADMIN, "--permission", "accounts.userz.read"],
            )
            .await;
        assert_eq!(unknown.code, 1, "{}", unknown.text());
        assert!(unknown.text().contains("nothing declares"), "{}", unknown.text());
    })
    .await;
}

#[tokio::test]
async fn check_names_the_pepper_by_its_id_and_refuses_what_is_none() {
    let one = "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=";
    let two = "AgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgI=";
    let house = House::on_sqlite(0, &[]).await;
    let check = async |pepper: Option<String>, connect: bool| {
        let mut builder = house.builder();
        if let Some(pepper) = &pepper {
            builder = builder.env("DOTMAC_ACCOUNTS_PEPPER", pepper);
        }
        let arguments: &[&str] = if connect {
            &["check", "--connect"]
        } else {
            &["check"]
        };
        builder.run_in(house.directory.path(), arguments).await
    };
    let none = check(None, false).await;
    assert_eq!(none.code, 0, "{}", none.text());
    assert!(
        none.text().contains("warning: accounts pepper: none"),
        "{}",
        none.text()
    );
    // It is weak, which is no failure, and is said once.
    let none = check(None, true).await;
    assert_eq!(none.code, 0, "{}", none.text());
    let text = none.text();
    let lines: Vec<&str> = text
        .lines()
        .filter(|line| line.contains("accounts pepper"))
        .collect();
    assert_eq!(lines.len(), 1, "{text}");
    assert!(lines[0].starts_with("weak    accounts pepper "), "{text}");
    assert!(lines[0].contains("none: a stolen table"), "{text}");
    let both = check(Some(format!("{two}, {one}")), false).await;
    assert_eq!(both.code, 0, "{}", both.text());
    let text = both.text();
    assert!(!text.contains(one) && !text.contains(two), "{text}");
    let line = text
        .lines()
        .find(|line| line.starts_with("accounts pepper: "));
    let ids: Vec<&str> = line.unwrap().split('`').skip(1).step_by(2).collect();
    assert_eq!(ids.len(), 2, "{text}");
    let connected = check(Some(two.to_owned()), true).await;
    let said = format!("passwords are hashed with the key `{}`", ids[0]);
    let connected = connected.text();
    assert_eq!(
        connected.matches("accounts pepper").count(),
        1,
        "{connected}"
    );
    assert!(connected.contains(&said), "{connected}");
    for wrong in ["not a key!", "AQEB", &format!("{one},{one}x")] {
        let refused = check(Some(wrong.to_owned()), false).await;
        assert_eq!(refused.code, 78, "{}", refused.text());
        let text = refused.text();
        assert!(text.contains("DOTMAC_ACCOUNTS_PEPPER"), "{text}");
        assert!(!text.contains(wrong), "{text}");
    }
}

#[tokio::test]
async fn signing_out_clears_what_the_site_left_behind() {
    let house = House::on_sqlite(1, &[]).await;
    let token = house.admin_session().await.text("access_token");
    for path in ["/auth/logout", "/auth/logout-all"] {
        let token = match path {
            "/auth/logout" => token.clone(),
            _ => house.login(ADMIN, PASSWORD).await.text("access_token"),
        };
        let out = house.post(path, Some(&token), json!({})).await;
        assert_eq!(out.status, 204, "{out:?}");
        assert_eq!(
            out.headers["clear-site-data"], "\"cookies\",\"storage\"",
            "{path}"
        );
    }
}

#[tokio::test]
async fn the_document_lists_the_ways_to_bring_credentials() {
    let house = House::on_sqlite(1, &[]).await;
    let url = format!("{}/openapi.json", house.instances[0].base);
    let document: Value = reqwest::get(url).await.unwrap().json().await.unwrap();
    let schemes = document["components"]["securitySchemes"]
        .as_object()
        .unwrap();
    let said = |name: &str| {
        let scheme = &schemes[name];
        ["type", "scheme", "in", "name"].map(|field| scheme[field].as_str().unwrap_or_default())
    };
    assert_eq!(schemes.len(), 3, "{schemes:?}");
    assert_eq!(said("credentials"), ["http", "bearer", "", ""]);
    assert_eq!(said("api_key"), ["apiKey", "", "header", "X-API-Key"]);
    assert_eq!(
        said("session"),
        ["apiKey", "", "cookie", "__Host-dotmac_session"]
    );
    let security = |path: &str, method: &str| {
        document["paths"][format!("/api/v1{path}")][method]["security"].clone()
    };
    // Each by itself, the first one for clients that know only one.
    let any = json!([{ "credentials": [] }, { "api_key": [] }, { "session": [] }]);
    assert_eq!(security("/users", "get"), any);
    assert_eq!(security("/auth/me", "get"), any);
    assert_eq!(security("/auth/login", "post"), json!([{}]));
}

/// What a guard can answer is in the document, and what a route cannot answer is not.
#[tokio::test]
async fn the_document_lists_the_problems_of_each_route() {
    let house = House::on_sqlite(1, &[]).await;
    let url = format!("{}/openapi.json", house.instances[0].base);
    let document: Value = reqwest::get(url).await.unwrap().json().await.unwrap();
    let codes = |path: &str, method: &str, status: &str| -> Vec<String> {
        let responses = &document["paths"][format!("/api/v1{path}")][method]["responses"];
        let text = responses[status]["description"]
            .as_str()
            .unwrap_or_default();
        // `code`: its sentence.
        let pieces: Vec<&str> = text.split('`').collect();
        let codes = pieces.windows(2).skip(1).step_by(2);
        codes
            .filter(|it| it[1].starts_with(": "))
            .map(|it| it[0].to_owned())
            .collect()
    };
    let of_guard = [
        "unauthenticated",
        "token_invalid",
        "token_expired",
        "session_ended",
    ];
    for (path, method) in [
        ("/users", "get"),
        ("/users", "post"),
        ("/auth/me", "get"),
        ("/roles/{id}", "delete"),
    ] {
        assert_eq!(codes(path, method, "401"), of_guard, "{method} {path}");
    }
    let of_tenant = ["mfa_enrolment_required", "step_up_required"];
    assert_eq!(
        codes("/users", "get", "403"),
        [&["forbidden"], &of_tenant[..]].concat()
    );
    assert_eq!(
        codes("/users", "post", "403"),
        [&["forbidden", "csrf"], &of_tenant[..]].concat()
    );
    assert_eq!(codes("/auth/login", "post", "401"), ["invalid_credentials"]);
    assert_eq!(
        codes("/auth/refresh", "post", "401"),
        ["token_invalid", "session_ended", "refresh_reused"]
    );
    assert!(codes("/users", "get", "404").is_empty());
    assert_eq!(codes("/users/{id}", "get", "404"), ["not_found"]);
    assert_eq!(
        codes("/auth/register", "post", "403"),
        ["csrf", "registration_closed"]
    );
    let me = house.get("/auth/me", None).await;
    assert_eq!(me.short(), (401, "unauthenticated"));
}
