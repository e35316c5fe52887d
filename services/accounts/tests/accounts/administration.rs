//! Users, roles, tenants: who may change what, and that another tenant's things are not there.

use reqwest::Method;
use serde_json::{Value, json};

use crate::{Answer, House, PASSWORD};

#[tokio::test]
async fn users_are_made_changed_in_the_version_seen_and_listed_in_pages() {
    House::on_both(async |house| {
        let admin = house.admin_session().await.text("access_token");
        let mut ids = Vec::new();
        for name in ["ann", "bob", "cat"] {
            let new = json!({ "email": format!("{name}@example.com"), "username": name, "roles": ["member"] });
            let made = house.post("/users", Some(&admin), new.clone()).await;
            assert_eq!(made.status, 201, "{made:?}");
            assert_eq!(made.headers["location"], format!("/api/v1/users/{}", made.text("id")));
            assert_eq!(house.post("/users", Some(&admin), new).await.short(), (409, "conflict"));
            ids.push(made.text("id"));
        }
        let path = format!("/users/{}", ids[0]);
        let found = house.get(&path, Some(&admin)).await;
        let tag = found.headers["etag"].to_str().unwrap().to_owned();
        assert_eq!(found.body["etag"], tag);
        let patch = |tag: Option<&str>| {
            let headers: Vec<(&str, &str)> = tag.map(|tag| ("if-match", tag)).into_iter().collect();
            let body = Some(json!({ "full_name": "Ann Lee" }));
            let (house, path, admin) = (&house, &path, &admin);
            let headers: Vec<(String, String)> = headers.iter().map(|(a, b)| (a.to_string(), b.to_string())).collect();
            async move {
                let headers: Vec<_> = headers.iter().map(|(a, b)| (a.as_str(), b.as_str())).collect();
                house.send(0, Method::PATCH, path, Some(admin), body, &headers).await
            }
        };
        assert_eq!(patch(None).await.status, 428);
        let changed = patch(Some(&tag)).await;
        assert_eq!((changed.status, &changed.body["full_name"]), (200, &"Ann Lee".into()));
        assert_eq!(patch(Some(&tag)).await.short(), (412, "precondition_failed"));

        let (mut seen, mut cursor) = (Vec::new(), String::new());
        loop {
            let page = house.get(&format!("/users?limit=2{cursor}"), Some(&admin)).await;
            assert_eq!(page.status, 200, "{page:?}");
            seen.extend(page.body["items"].as_array().unwrap().iter().map(|user| user["email"].clone()));
            match page.body["next_cursor"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => break,
            }
        }
        assert_eq!(seen.len(), 4, "{seen:?}");
    })
    .await;
}

#[tokio::test]
async fn callers_cannot_grant_what_they_lack_or_change_their_own_roles_and_an_owner_stays() {
    House::on_both(async |house| {
        let owner = house.admin_session().await;
        let (token, owner_id) = (owner.text("access_token"), owner.body["user"]["id"].clone());
        let role =
            json!({ "name": "helpdesk", "permissions": ["accounts.users.*", "accounts.roles.*"] });
        let role = house.post("/roles", Some(&token), role).await;
        assert_eq!(role.status, 201, "{role:?}");
        let (ann_id, ann) = house.user(&token, "ann@example.com", &["helpdesk"]).await;
        let (bob_id, _) = house.user(&token, "bob@example.com", &[]).await;
        let ann = ann.text("access_token");

        let post = |path: &'static str, body: Value| house.post(path, Some(&ann), body);
        let bind = |principal: &str, role: &str| json!({ "principal": principal, "role": role });
        for (path, body) in [
            ("/role-bindings", bind(&bob_id, "owner")),
            ("/role-bindings", bind(&ann_id, "helpdesk")),
            (
                "/roles",
                json!({ "name": "more", "permissions": ["accounts.api_keys.write"] }),
            ),
            ("/roles", json!({ "name": "all", "permissions": ["*"] })),
            (
                "/users",
                json!({ "email": "x@example.com", "roles": ["admin"] }),
            ),
        ] {
            let answer = post(path, body).await;
            assert_eq!(answer.short(), (403, "forbidden"), "{path}: {answer:?}");
        }
        assert_eq!(
            post("/role-bindings", bind(&bob_id, "helpdesk"))
                .await
                .status,
            201
        );
        let unknown = json!({ "name": "typo", "permissions": ["accounts.user.read"] });
        assert_eq!(
            post("/roles", unknown).await.body["errors"][0]["code"],
            "unknown_permission"
        );
        // Who may less takes over nobody who may more.
        for action in ["disable", "reset-link", "sign-out", "unlock"] {
            let path = format!("/users/{}/{action}", owner_id.as_str().unwrap());
            assert_eq!(
                house.post(&path, Some(&ann), json!({})).await.short(),
                (403, "forbidden"),
                "{action}"
            );
        }

        // The last owner stays; with a second one the first may go.
        let (cat_id, cat) = house.user(&token, "cat@example.com", &["owner"]).await;
        let cat = cat.text("access_token");
        let bindings = house.get("/role-bindings?limit=200", Some(&token)).await;
        let is_of = |id: &Value| {
            let items = bindings.body["items"].as_array().unwrap();
            items.iter().find(|it| it["principal"] == *id).unwrap()["id"]
                .as_str()
                .unwrap()
                .to_owned()
        };
        let unbind = |token: String, id: String| {
            let house = &house;
            async move {
                let (path, any) = (format!("/role-bindings/{id}"), [("if-match", "*")]);
                house
                    .send(0, Method::DELETE, &path, Some(&token), None, &any)
                    .await
            }
        };
        let (of_cat, of_owner) = (is_of(&Value::from(cat_id.clone())), is_of(&owner_id));
        assert_eq!(
            unbind(token.clone(), of_owner.clone()).await.short(),
            (403, "forbidden")
        );
        assert_eq!(unbind(cat.clone(), of_owner).await.status, 204);
        assert_eq!(
            house.get("/users", Some(&token)).await.short(),
            (403, "forbidden")
        );
        let all = json!({ "name": "all", "permissions": ["*"] });
        assert_eq!(house.post("/roles", Some(&cat), all).await.status, 201);
        let (_, dan) = house.user(&cat, "dan@example.com", &["all"]).await;
        let dan = dan.text("access_token");
        assert_eq!(
            unbind(cat, of_cat.clone()).await.short(),
            (403, "forbidden")
        );
        assert_eq!(
            unbind(dan.clone(), of_cat).await.short(),
            (409, "last_owner")
        );
        let disable = house
            .post(&format!("/users/{cat_id}/disable"), Some(&dan), json!({}))
            .await;
        assert_eq!(disable.short(), (409, "last_owner"));
    })
    .await;
}

#[tokio::test]
async fn another_tenants_things_are_not_there() {
    House::on_both(async |house| {
        let admin = house.admin_session().await.text("access_token");
        let (ann, _) = house.user(&admin, "ann@example.com", &["member"]).await;
        let role = house.post("/roles", Some(&admin), json!({ "name": "own" })).await.text("id");
        let account = house.post("/service-accounts", Some(&admin), json!({ "name": "ci" })).await.text("id");
        let key = json!({ "name": "key", "scopes": ["accounts.users.read"], "service_account_id": account });
        let key = house.post("/api-keys", Some(&admin), key).await.text("id");
        let bindings = house.get("/role-bindings", Some(&admin)).await;
        let binding = bindings.body["items"][0]["id"].as_str().unwrap().to_owned();

        let tenant = json!({ "slug": "acme", "name": "Acme" });
        let tenant = house.post("/tenants", Some(&admin), tenant).await;
        assert_eq!(tenant.status, 201, "{tenant:?}");
        let switch = json!({ "tenant_id": tenant.text("id") });
        let session = house.post("/auth/switch-tenant", Some(&admin), switch).await;
        assert_eq!((session.status, &session.body["user"]["tenant"]["slug"]), (200, &"acme".into()));
        assert_eq!(house.get("/auth/me", Some(&admin)).await.short(), (401, "session_ended"));
        let other = session.text("access_token");

        let nowhere = "01900000-0000-7000-8000-0000000000ff";
        let default = "01900000-0000-7000-8000-000000000001";
        let send = |method: Method, path: String| {
            let (house, other) = (&house, &other);
            async move {
                let body = (method == Method::PATCH || method == Method::POST).then(|| json!({}));
                house.send(0, method, &path, Some(other), body, &[("if-match", "*")]).await
            }
        };
        let same = |one: &Answer, other: &Answer| (one.status, one.body["detail"].clone()) == (other.status, other.body["detail"].clone());
        for (method, path, id) in [
            (Method::GET, "/users/{}", &ann),
            (Method::PATCH, "/users/{}", &ann),
            (Method::DELETE, "/users/{}", &ann),
            (Method::POST, "/users/{}/disable", &ann),
            (Method::POST, "/users/{}/enable", &ann),
            (Method::POST, "/users/{}/unlock", &ann),
            (Method::POST, "/users/{}/sign-out", &ann),
            (Method::POST, "/users/{}/reset-link", &ann),
            (Method::GET, "/roles/{}", &role),
            (Method::PATCH, "/roles/{}", &role),
            (Method::DELETE, "/roles/{}", &role),
            (Method::DELETE, "/role-bindings/{}", &binding),
            (Method::GET, "/service-accounts/{}", &account),
            (Method::PATCH, "/service-accounts/{}", &account),
            (Method::DELETE, "/service-accounts/{}", &account),
            (Method::GET, "/api-keys/{}", &key),
            (Method::DELETE, "/api-keys/{}", &key),
            (Method::POST, "/api-keys/{}/rotate", &key),
            (Method::GET, "/tenants/{}", &default.to_owned()),
            (Method::PATCH, "/tenants/{}", &default.to_owned()),
            (Method::GET, "/tenants/{}/members", &default.to_owned()),
        ] {
            let theirs = send(method.clone(), path.replace("{}", id)).await;
            let unknown = send(method.clone(), path.replace("{}", nowhere)).await;
            assert_eq!(theirs.short(), (404, "not_found"), "{method} {path}: {theirs:?}");
            assert!(same(&theirs, &unknown), "{method} {path}");
        }
        for path in ["/users", "/role-bindings"] {
            let list = house.get(path, Some(&other)).await;
            assert_eq!(list.body["items"].as_array().map(Vec::len), Some(1), "{path}: {list:?}");
        }
        for path in ["/service-accounts", "/api-keys"] {
            assert_eq!(house.get(path, Some(&other)).await.body["items"], json!([]), "{path}");
        }
        // Its owner may do everything in it, and nothing beyond it.
        let beyond = house.post("/tenants", Some(&other), json!({ "slug": "more", "name": "More" })).await;
        assert_eq!(beyond.short(), (403, "forbidden"), "{beyond:?}");
        let all = json!({ "name": "all", "permissions": ["*"] });
        assert_eq!(house.post("/roles", Some(&other), all).await.status, 201);
        // Nor can anything of theirs be bound here.
        let bind = json!({ "principal": ann, "role": "member" });
        assert_eq!(house.post("/role-bindings", Some(&other), bind).await.short(), (404, "not_found"));
        assert_eq!(house.login("ann@example.com", PASSWORD).await.status, 200);
    })
    .await;
}

/// Nothing is free before it is erased: else the next one to have the address would get the mails, and the links, of the former.
#[tokio::test]
async fn the_address_and_the_name_of_a_deleted_user_stay_taken() {
    House::on_both(async |house| {
        let admin = house.admin_session().await.text("access_token");
        let ann = json!({ "email": "ann@example.com", "username": "ann" });
        let made = house.post("/users", Some(&admin), ann).await;
        let path = format!("/users/{}", made.text("id"));
        let any = [("if-match", "*")];
        let gone = house.send(0, Method::DELETE, &path, Some(&admin), None, &any);
        assert_eq!(gone.await.status, 204);
        assert_eq!(house.get(&path, Some(&admin)).await.status, 404);
        for same in [
            json!({ "email": "Ann@Example.com" }),
            json!({ "email": "other@example.com", "username": "ann" }),
        ] {
            let again = house.post("/users", Some(&admin), same).await;
            assert_eq!(again.short(), (409, "conflict"), "{again:?}");
        }
    })
    .await;
}

#[tokio::test]
async fn users_change_their_own_profile_and_nothing_else_of_it() {
    House::on_both(async |house| {
        let admin = house.admin_session().await.text("access_token");
        let (_, ann) = house.user(&admin, "ann@example.com", &[]).await;
        let token = ann.text("access_token");
        let any = [("if-match", "*")];
        let patch = async |body: Value| {
            let body = Some(body);
            house
                .send(0, Method::PATCH, "/auth/me", Some(&token), body, &any)
                .await
        };
        let changed = patch(json!({ "full_name": "Ann Lee", "locale": "de-AT" })).await;
        assert_eq!(changed.status, 200, "{changed:?}");
        let me = house.get("/auth/me", Some(&token)).await;
        assert_eq!(
            (&me.body["full_name"], &me.body["locale"]),
            (&"Ann Lee".into(), &"de-AT".into())
        );
        for field in ["email", "status", "roles", "acr"] {
            let refused = patch(json!({ field: "x" })).await;
            assert_eq!(refused.short(), (400, "unknown_fields"), "{field}");
        }
    })
    .await;
}

/// What a caller may do is remembered with the session.
#[tokio::test]
async fn a_permission_is_checked_without_the_database() {
    House::on_both(async |house| {
        let admin = house.admin_session().await.text("access_token");
        let lookups = async |source: &str| {
            let daemon = &house.instances[0];
            let series = format!("dotmac_accounts_lookups_total{{source=\"{source}\"}}");
            daemon.metric(&series).await.unwrap_or_default()
        };
        assert_eq!(house.get("/roles", Some(&admin)).await.status, 200);
        let before = (lookups("database").await, lookups("memory").await);
        for _ in 0..20 {
            assert_eq!(house.get("/roles", Some(&admin)).await.status, 200);
        }
        let after = (lookups("database").await, lookups("memory").await);
        assert_eq!(after, (before.0, before.1 + 20.0));
    })
    .await;
}

#[tokio::test]
async fn disabling_a_user_ends_sessions_on_every_instance() {
    let house = House::on_postgres(2, &[]).await;
    let admin = house.admin_session().await.text("access_token");
    let (id, ann) = house.user(&admin, "ann@example.com", &["member"]).await;
    let token = ann.text("access_token");
    assert_eq!(
        house
            .send(1, Method::GET, "/auth/me", Some(&token), None, &[])
            .await
            .status,
        200
    );
    assert_eq!(
        house
            .post(&format!("/users/{id}/disable"), Some(&admin), json!({}))
            .await
            .status,
        204
    );
    assert_eq!(
        house.get("/auth/me", Some(&token)).await.short(),
        (401, "session_ended")
    );
    assert_eq!(
        house.until_refused(1, &token).await.short(),
        (401, "session_ended")
    );

    // A role that is given counts on the other instance as well.
    let enabled = house
        .post(&format!("/users/{id}/enable"), Some(&admin), json!({}))
        .await;
    assert_eq!(enabled.status, 204, "{enabled:?}");
    let token = house
        .login("ann@example.com", PASSWORD)
        .await
        .text("access_token");
    let list = || house.send(1, Method::GET, "/users", Some(&token), None, &[]);
    assert_eq!(list().await.short(), (403, "forbidden"));
    let bind = json!({ "principal": id, "role": "admin" });
    assert_eq!(
        house
            .post("/role-bindings", Some(&admin), bind)
            .await
            .status,
        201
    );
    dotmac_testkit::eventually("the role to count", || async {
        (list().await.status == 200).then_some(())
    })
    .await;

    // From the command line too.
    house
        .command(&["user", "sign-out", "ann@example.com"])
        .await;
    for instance in 0..2 {
        let refused = house.until_refused(instance, &token).await;
        assert_eq!(refused.short(), (401, "session_ended"));
    }
    let token = house
        .login("ann@example.com", PASSWORD)
        .await
        .text("access_token");
    house.command(&["user", "disable", "ann@example.com"]).await;
    for instance in 0..2 {
        assert_eq!(
            house.until_refused(instance, &token).await.short(),
            (401, "session_ended")
        );
    }
}

#[tokio::test]
async fn without_the_database_no_caller_is_admitted() {
    let mut house = House::on_postgres(1, &[]).await;
    let session = house.admin_session().await;
    let (token, refresh) = (session.text("access_token"), session.text("refresh_token"));
    assert_eq!(house.get("/auth/me", Some(&token)).await.status, 200);
    house.postgres.as_mut().unwrap().kill().await;
    // For 5 s what is remembered counts; a route that needs nothing else shows it.
    dotmac_testkit::eventually("credentials to be refused", || async {
        let answer = house.get("/auth/me/permissions", Some(&token)).await;
        (answer.short() == (503, "auth_unavailable")).then_some(())
    })
    .await;
    // A sign-in and a refresh say no more than that.
    let login = house.login(crate::ADMIN, PASSWORD).await;
    assert_eq!(login.short(), (503, "auth_unavailable"), "{login:?}");
    let renewal = house.post("/auth/refresh", None, json!({ "refresh_token": refresh }));
    let renewal = renewal.await;
    assert_eq!(renewal.short(), (503, "auth_unavailable"), "{renewal:?}");
    house.postgres.as_mut().unwrap().restart().await;
    dotmac_testkit::eventually("credentials to be checked again", || async {
        let answer = house.get("/auth/me/permissions", Some(&token)).await;
        (answer.status == 200).then_some(())
    })
    .await;
}

#[tokio::test]
async fn an_operator_who_disables_the_last_owner_gets_a_warning() {
    House::on_both(async |house| {
        house.administrator().await;
        let run = async |action: &str| {
            let arguments = ["user", action, crate::ADMIN];
            let ended = house
                .builder()
                .run_in(house.directory.path(), &arguments)
                .await;
            assert_eq!(ended.code, 0, "{action}: {}", ended.text());
            ended.text()
        };
        let told = "the tenant `default` has no other active owner";
        assert!(run("disable").await.contains(told));
        assert!(!run("enable").await.contains(told));
        assert_eq!(house.login(crate::ADMIN, PASSWORD).await.status, 200);
    })
    .await;
}

/// It shows what costs no transaction: a flood of it would hold SQLite's only writer.
#[tokio::test]
async fn texts_that_are_no_secrets_are_refused_without_the_database() {
    let mut house = House::on_postgres(1, &[]).await;
    house.admin_session().await;
    house.postgres.as_mut().unwrap().kill().await;
    for (path, body, expected) in [
        (
            "/auth/refresh",
            json!({ "refresh_token": "dmr_x" }),
            (401, "token_invalid"),
        ),
        (
            "/auth/password/reset",
            json!({ "token": "dmo_x", "password": PASSWORD }),
            (410, "link_used_or_expired"),
        ),
        ("/keys/report", json!({ "key": "dmk_x" }), (202, "")),
    ] {
        let answer = house.post(path, None, body).await;
        assert_eq!(answer.short(), expected, "{path}: {answer:?}");
    }
}
