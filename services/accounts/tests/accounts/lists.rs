//! Lists in both orders and with their filters, the tags of what they hold, and what is deleted by its tag.

use reqwest::Method;
use serde_json::{Value, json};

use crate::{ADMIN, House, PASSWORD};

/// All items of a list, read page by page.
async fn all(house: &House, path: &str, token: &str) -> Vec<Value> {
    let separator = if path.contains('?') { '&' } else { '?' };
    let (mut items, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = house
            .get(&format!("{path}{separator}limit=2{cursor}"), Some(token))
            .await;
        assert_eq!(page.status, 200, "{path}: {page:?}");
        items.extend(page.body["items"].as_array().unwrap().iter().cloned());
        match page.body["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return items,
        }
    }
}

/// The values of a field.
fn values(items: &[Value], field: &str) -> Vec<String> {
    let values = items.iter().map(|item| item[field].as_str());
    values.map(|value| value.unwrap().to_owned()).collect()
}

#[tokio::test]
async fn every_list_comes_in_both_orders_and_a_cursor_is_good_for_one() {
    House::on_both(async |house| {
        let admin = house.admin_session().await.text("access_token");
        for n in 0..3 {
            let (user, _) = house
                .user(&admin, &format!("ann{n}@example.com"), &["member"])
                .await;
            let grant = json!({ "principal": user, "permission": "accounts.users.read" });
            let role = json!({ "name": format!("role {n}") });
            let key = json!({ "name": format!("key {n}"), "scopes": ["accounts.users.read"] });
            let tenant = json!({ "slug": format!("tenant-{n}"), "name": "Tenant" });
            for (path, body) in [
                ("/grants", grant),
                ("/roles", role),
                ("/service-accounts", json!({ "name": format!("ci {n}") })),
                ("/auth/me/api-keys", key),
                ("/tenants", tenant),
            ] {
                let made = house.post(path, Some(&admin), body).await;
                assert_eq!(made.status, 201, "{path}: {made:?}");
            }
            house.login(ADMIN, PASSWORD).await;
        }
        let members = "/tenants/01900000-0000-7000-8000-000000000001/members";
        for (path, column, least) in [
            ("/users", "created_at", 4),
            ("/roles", "created_at", 7),
            ("/role-bindings", "created_at", 4),
            ("/grants", "created_at", 3),
            ("/service-accounts", "created_at", 3),
            ("/api-keys", "created_at", 3),
            ("/auth/me/api-keys", "created_at", 3),
            ("/auth/me/sessions", "last_seen_at", 4),
            ("/auth/me/sessions", "created_at", 4),
            ("/auth/me/factors/passkeys", "created_at", 0),
            ("/tenants", "created_at", 4),
            ("/permissions", "name", 10),
            (members, "joined_at", 4),
        ] {
            let up = all(&house, &format!("{path}?sort={column}"), &admin).await;
            let mut down = all(&house, &format!("{path}?sort=-{column}"), &admin).await;
            assert!(up.len() >= least, "{path}: {up:?}");
            let sorted = values(&up, column);
            assert!(sorted.is_sorted(), "{path}: {sorted:?}");
            down.reverse();
            assert_eq!(up, down, "{path}");
            let counted = format!("{path}?count=true&limit=1");
            let counted = house.get(&counted, Some(&admin)).await.body;
            let total = (&counted["total"], &counted["total_is_exact"]);
            assert_eq!(total, (&json!(up.len()), &json!(true)), "{path}");
            let unknown = house
                .get(&format!("{path}?sort=tenant_id"), Some(&admin))
                .await;
            assert_eq!(unknown.short(), (400, "invalid_query"), "{path}");
            if up.len() < 3 {
                continue;
            }
            let first = house
                .get(&format!("{path}?sort={column}&limit=2"), Some(&admin))
                .await;
            let cursor = first.body["next_cursor"].as_str().unwrap();
            let other = house
                .get(
                    &format!("{path}?sort=-{column}&cursor={cursor}"),
                    Some(&admin),
                )
                .await;
            assert_eq!(other.short(), (400, "invalid_cursor"), "{path}");
        }
        for permission in all(&house, "/permissions", &admin).await {
            let description = permission["description"].as_str().unwrap();
            assert!(description.ends_with('.'), "{permission}");
        }
    })
    .await;
}

#[tokio::test]
async fn lists_have_those_items_that_their_filters_name() {
    House::on_both(async |house| {
        let admin = house.admin_session().await.text("access_token");
        let (ann, _) = house.user(&admin, "ann@example.com", &["member"]).await;
        let (bob, _) = house.user(&admin, "bob@example.com", &["auditor"]).await;
        let account = json!({ "name": "ci" });
        let account = house.post("/service-accounts", Some(&admin), account).await;
        let account = account.text("id");
        for (principal, permission) in [
            (&ann, "accounts.users.read"),
            (&bob, "accounts.users.read"),
            (&account, "accounts.roles.read"),
        ] {
            let grant = json!({ "principal": principal, "permission": permission });
            let given = house.post("/grants", Some(&admin), grant).await;
            assert_eq!(given.status, 201, "{given:?}");
        }
        let mine = json!({ "name": "mine", "scopes": ["accounts.users.read"] });
        let of_account = json!({
            "name": "its", "scopes": ["accounts.roles.read"], "service_account_id": account
        });
        for key in [mine, of_account] {
            let made = house.post("/api-keys", Some(&admin), key).await;
            assert_eq!(made.status, 201, "{made:?}");
        }
        let me = house.get("/auth/me", Some(&admin)).await.text("id");
        let disabled = house
            .post(&format!("/users/{bob}/disable"), Some(&admin), json!({}))
            .await;
        assert_eq!(disabled.status, 204, "{disabled:?}");
        let roles = all(&house, "/roles", &admin).await;
        let role = |name: &str| {
            let role = roles.iter().find(|role| role["name"] == name).unwrap();
            role["id"].as_str().unwrap().to_owned()
        };

        let (member, auditor) = (role("member"), role("auditor"));
        for (path, field, expected) in [
            ("/users?status=disabled".to_owned(), "id", vec![&bob]),
            ("/users?email=ANN@example.com".to_owned(), "id", vec![&ann]),
            (format!("/users?role={member}"), "id", vec![&ann]),
            (
                format!("/users?role={auditor}&status=active"),
                "id",
                Vec::new(),
            ),
            (
                format!("/role-bindings?principal={ann}"),
                "role",
                vec![&member],
            ),
            (
                format!("/role-bindings?role={auditor}"),
                "principal",
                vec![&bob],
            ),
            (
                "/grants?permission=accounts.users.read".to_owned(),
                "principal",
                vec![&ann, &bob],
            ),
            (
                format!("/grants?principal={account}"),
                "principal",
                vec![&account],
            ),
            (
                format!("/api-keys?service_account_id={account}"),
                "service_account_id",
                vec![&account],
            ),
            (format!("/api-keys?user_id={me}"), "user_id", vec![&me]),
            (format!("/api-keys?user_id={ann}"), "user_id", Vec::new()),
            (
                "/service-accounts?status=active".to_owned(),
                "id",
                vec![&account],
            ),
            (
                "/service-accounts?status=disabled".to_owned(),
                "id",
                Vec::new(),
            ),
            ("/roles?is_system=false".to_owned(), "id", Vec::new()),
        ] {
            let found = values(&all(&house, &path, &admin).await, field);
            let expected: Vec<String> = expected.into_iter().cloned().collect();
            assert_eq!(found, expected, "{path}");
        }
        for path in [
            "/users?status=gone",
            "/users?email=nobody",
            "/users?role=member",
            "/grants?principal=ann",
            "/role-bindings?role=member",
            "/service-accounts?status=",
            "/roles?is_system=perhaps",
            "/grants?state=active",
        ] {
            let refused = house.get(path, Some(&admin)).await;
            assert_eq!(refused.short(), (400, "invalid_query"), "{path}");
        }
        let both = format!("/api-keys?user_id={ann}&service_account_id={account}");
        let refused = house.get(&both, Some(&admin)).await;
        assert_eq!(refused.short(), (400, "invalid_query"), "{refused:?}");
    })
    .await;
}

#[tokio::test]
async fn roles_grants_and_sessions_have_tags_by_which_they_are_deleted() {
    House::on_both(async |house| {
        let admin = house.admin_session().await.text("access_token");
        let (ann, _) = house.user(&admin, "ann@example.com", &[]).await;
        let role = json!({ "principal": ann, "role": "member" });
        let grant = json!({ "principal": ann, "permission": "accounts.users.read" });
        house.login(ADMIN, PASSWORD).await;
        let sessions = all(&house, "/auth/me/sessions", &admin).await;
        let other = sessions
            .iter()
            .find(|session| session["is_current"] == false)
            .unwrap();
        let other = other["id"].as_str().unwrap();
        let bound = house.post("/role-bindings", Some(&admin), role).await;
        let given = house.post("/grants", Some(&admin), grant).await;
        for made in [&bound, &given] {
            let header = made.headers["etag"].to_str().unwrap();
            assert_eq!((made.status, header), (201, made.text("etag").as_str()));
        }
        for path in [
            format!("/role-bindings/{}", bound.text("id")),
            format!("/grants/{}", given.text("id")),
            format!("/auth/me/sessions/{other}"),
        ] {
            let found = house.get(&path, Some(&admin)).await;
            let tag = found.text("etag");
            assert_eq!(found.headers["etag"].to_str().unwrap(), tag, "{path}");
            let known = [("if-none-match", tag.as_str())];
            let same = house
                .send(0, Method::GET, &path, Some(&admin), None, &known)
                .await;
            assert_eq!(same.status, 304, "{path}: {same:?}");
            let delete = async |headers: &[(&str, &str)]| {
                house
                    .send(0, Method::DELETE, &path, Some(&admin), None, headers)
                    .await
            };
            assert_eq!(
                delete(&[]).await.short(),
                (428, "precondition_required"),
                "{path}"
            );
            assert_eq!(
                delete(&[("if-match", "\"7\"")]).await.short(),
                (412, "precondition_failed"),
                "{path}"
            );
            let deleted = delete(&[("if-match", &tag)]).await;
            assert_eq!(deleted.status, 204, "{path}: {deleted:?}");
            assert_eq!(delete(&[("if-match", "*")]).await.status, 404, "{path}");
        }
    })
    .await;
}

#[tokio::test]
async fn a_member_is_removed_in_the_version_that_was_seen() {
    House::on_both(async |house| {
        let admin = house.admin_session().await.text("access_token");
        let (ann, session) = house.user(&admin, "ann@example.com", &["member"]).await;
        let members = "/tenants/01900000-0000-7000-8000-000000000001/members";
        let tag = async || {
            let listed = all(&house, members, &admin).await;
            let found = listed.iter().find(|member| member["user_id"] == *ann);
            found.unwrap()["etag"].as_str().unwrap().to_owned()
        };
        let path = format!("{members}/{ann}");
        let delete = async |headers: &[(&str, &str)]| {
            house
                .send(0, Method::DELETE, &path, Some(&admin), None, headers)
                .await
        };
        let stale = tag().await;
        let (user, name) = (format!("/users/{ann}"), json!({ "full_name": "Ann" }));
        let seen = [("if-match", &*stale)];
        let renamed = house.send(0, Method::PATCH, &user, Some(&admin), Some(name), &seen);
        assert_eq!(renamed.await.status, 200);
        assert_eq!(delete(&[]).await.short(), (428, "precondition_required"));
        assert_eq!(delete(&seen).await.short(), (412, "precondition_failed"));
        let tag = tag().await;
        let removed = delete(&[("if-match", &tag)]).await;
        assert_eq!(removed.status, 204, "{removed:?}");
        assert_eq!(
            delete(&[("if-match", &tag)]).await.short(),
            (404, "not_found")
        );
        let token = session.text("access_token");
        assert_eq!(house.get("/auth/me", Some(&token)).await.status, 401);
    })
    .await;
}

#[tokio::test]
async fn a_role_that_has_expired_is_given_again_and_none_is_given_that_has_expired() {
    House::on_both(async |house| {
        let admin = house.admin_session().await.text("access_token");
        let (ann, _) = house.user(&admin, "ann@example.com", &[]).await;
        let give = async |expires_at: Option<&str>| {
            let role = json!({ "principal": ann, "role": "member", "expires_at": expires_at });
            house.post("/role-bindings", Some(&admin), role).await
        };
        let past = give(Some("2001-01-01T00:00:00Z")).await;
        assert_eq!(past.short(), (422, "validation"), "{past:?}");
        assert_eq!(past.body["errors"][0]["field"], "expires_at");
        let first = give(Some("2099-01-01T00:00:00Z")).await;
        assert_eq!(first.status, 201, "{first:?}");
        assert_eq!(give(None).await.short(), (409, "conflict"));
        house
            .sql(
                "UPDATE role_bindings SET expires_at = '2001-01-01 00:00:00' WHERE expires_at IS NOT NULL",
            )
            .await;
        let again = give(None).await;
        assert_eq!(again.status, 201, "{again:?}");
        let of_ann = format!("/role-bindings?principal={ann}");
        let bindings = all(&house, &of_ann, &admin).await;
        assert_eq!(values(&bindings, "id"), [again.text("id")]);
    })
    .await;
}

#[tokio::test]
async fn an_export_has_all_that_is_kept_about_a_user_and_no_secret() {
    House::on_both(async |house| {
        let admin = house.admin_session().await.text("access_token");
        let (ann, session) = house.user(&admin, "ann@example.com", &["member"]).await;
        let (token, refresh) = (session.text("access_token"), session.text("refresh_token"));
        let grant = json!({ "principal": ann, "permission": "accounts.users.read" });
        let given = house.post("/grants", Some(&admin), grant).await;
        assert_eq!(given.status, 201, "{given:?}");
        let (key, made) = dotmac_testkit::eventually("the grant to count", || async {
            let key = json!({ "name": "mine", "scopes": ["accounts.users.read"] });
            let made = house.post("/auth/me/api-keys", Some(&token), key).await;
            (made.status == 201).then(|| (made.text("key"), made.text("id")))
        })
        .await;
        let exported = house.get("/auth/me/export", Some(&token)).await;
        assert_eq!(exported.status, 200, "{exported:?}");
        let body = &exported.body;
        assert_eq!(body["user"]["email"], "ann@example.com", "{body}");
        assert_eq!(body["user"]["has_password"], true);
        assert_eq!(body["memberships"][0]["slug"], "default");
        assert_eq!(body["memberships"][0]["roles"], json!(["member"]));
        assert_eq!(
            body["memberships"][0]["grants"],
            json!(["accounts.users.read"])
        );
        assert_eq!(body["sessions"][0]["id"], session.body["session_id"]);
        assert_eq!(body["api_keys"][0]["id"], made);
        let by_key = house.get("/auth/me/export", Some(&key)).await;
        assert_eq!(by_key.short(), (403, "forbidden"), "{by_key:?}");

        let printed = house.command(&["user", "export", &ann]).await;
        let printed: Value = serde_json::from_str(&printed).unwrap();
        assert_eq!(printed["user"], body["user"]);
        assert_eq!(printed["api_keys"], body["api_keys"]);
        for text in [exported.body.to_string(), printed.to_string()] {
            for secret in [&key[16..], &refresh, &token, "$argon2id", PASSWORD] {
                assert!(!text.contains(secret), "{secret}: {text}");
            }
        }
        // A session of long ago does not read it: one that was not used yet, so that nothing is remembered of it.
        let late = house
            .login("ann@example.com", PASSWORD)
            .await
            .text("access_token");
        house
            .sql("UPDATE sessions SET auth_time = '2026-11-01 00:00:00.000000'")
            .await;
        let late = house.get("/auth/me/export", Some(&late)).await;
        assert_eq!(late.short(), (403, "step_up_required"), "{late:?}");
    })
    .await;
}
