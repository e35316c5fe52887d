//! What administrators try to get more than they have, each with the answer that is expected.

use reqwest::Method;
use serde_json::{Value, json};

use crate::{Answer, House};

const LACKS: (u16, &str) = (403, "forbidden");

async fn bind(house: &House, token: &str, principal: &str, role: &str) -> Answer {
    let body = json!({ "principal": principal, "role": role });
    house.post("/role-bindings", Some(token), body).await
}

async fn unbind(house: &House, token: &str, id: &str) -> Answer {
    let path = format!("/role-bindings/{id}");
    let (method, token) = (Method::DELETE, Some(token));
    let any = [("if-match", "*")];
    house.send(0, method, &path, token, None, &any).await
}

async fn make_role(house: &House, token: &str, body: Value) -> String {
    let made = house.post("/roles", Some(token), body).await;
    assert_eq!(made.status, 201, "{made:?}");
    made.text("id")
}

#[tokio::test]
async fn a_role_that_denies_neither_disarms_an_owner_nor_opens_the_way_to_one() {
    House::on_both(async |house| {
        let owner = house.admin_session().await;
        let (token, owner_id) = (
            owner.text("access_token"),
            owner.body["user"]["id"].as_str().unwrap().to_owned(),
        );
        let (_, ann) = house.user(&token, "ann@example.com", &["admin"]).await;
        let ann = ann.text("access_token");
        // Whoever lacks one permission makes no role that denies it, be it by its name or among others.
        for denied in ["*", "accounts.*", "accounts.tenants.write"] {
            let role = json!({ "name": "x", "denied": [denied] });
            let answer = house.post("/roles", Some(&ann), role).await;
            assert_eq!(answer.short(), LACKS, "{denied}: {answer:?}");
        }
        // The system's own role denies one thing, which would be the owner's loss.
        let answer = bind(&house, &ann, &owner_id, "admin").await;
        assert_eq!(answer.short(), LACKS, "{answer:?}");
        // Not even an owner takes something from another, who would count as an owner all the same.
        let (bob_id, _) = house.user(&token, "bob@example.com", &["owner"]).await;
        let none = make_role(&house, &token, json!({ "name": "none", "denied": ["*"] })).await;
        for role in ["admin", &none] {
            let answer = bind(&house, &token, &bob_id, role).await;
            assert_eq!(answer.short(), LACKS, "{answer:?}");
        }
        for who in [&owner_id, &bob_id] {
            let path = format!("/users/{who}/reset-link");
            let link = house.post(&path, Some(&ann), json!({})).await;
            assert_eq!(link.short(), LACKS, "{link:?}");
        }

        // What a role denies is given back by whoever takes the role away: those who lack it do not.
        let (cat_id, cat) = house.user(&token, "cat@example.com", &["admin"]).await;
        let held = make_role(
            &house,
            &token,
            json!({ "name": "held", "denied": ["accounts.roles.*", "accounts.tenants.write"] }),
        )
        .await;
        let (dan_id, _) = house.user(&token, "dan@example.com", &["admin"]).await;
        let bound = bind(&house, &token, &dan_id, "held").await;
        assert_eq!(bound.status, 201, "{bound:?}");
        let roles = json!({ "name": "clerk", "permissions": ["accounts.roles.write"] });
        make_role(&house, &token, roles).await;
        let (_, eve) = house.user(&token, "eve@example.com", &["clerk"]).await;
        let eve = eve.text("access_token");
        let answer = unbind(&house, &eve, &bound.text("id")).await;
        assert_eq!(answer.short(), LACKS, "{answer:?}");
        let path = format!("/roles/{held}");
        for (method, body) in [
            (Method::DELETE, None),
            (Method::PATCH, Some(json!({ "denied": [] }))),
            (Method::PATCH, Some(json!({ "name": "other" }))),
        ] {
            let answer = house.send(0, method, &path, Some(&ann), body, &[("if-match", "*")]);
            assert_eq!(answer.await.short(), LACKS);
        }

        // Appointing those who may as much, or less, goes on as before.
        let cat = cat.text("access_token");
        let (fay_id, _) = house.user(&cat, "fay@example.com", &[]).await;
        let bound = bind(&house, &cat, &fay_id, "admin").await;
        assert_eq!(bound.status, 201, "{bound:?}");
        let gone = unbind(&house, &cat, &bound.text("id")).await;
        assert_eq!(gone.status, 204, "{gone:?}");
        let _ = cat_id;
    })
    .await;
}

/// The way round binding a role that denies: to bind one that does not, and to change it.
#[tokio::test]
async fn a_role_that_others_hold_takes_from_none_of_them_who_may_more() {
    House::on_both(async |house| {
        let owner = house.admin_session().await.text("access_token");
        let (bob_id, bob) = house.user(&owner, "bob@example.com", &["owner"]).await;
        let (_, ann) = house.user(&owner, "ann@example.com", &["admin"]).await;
        let ann = ann.text("access_token");
        let harmless = json!({ "name": "x", "permissions": ["accounts.users.read"] });
        let harmless = make_role(&house, &ann, harmless).await;
        let bound = bind(&house, &ann, &bob_id, "x").await;
        assert_eq!(bound.status, 201, "{bound:?}");
        let path = format!("/roles/{harmless}");
        let change = async |token: &str, body: Value| {
            let (body, any) = (Some(body), [("if-match", "*")]);
            let method = Method::PATCH;
            house.send(0, method, &path, Some(token), body, &any).await
        };
        let deny = json!({ "denied": ["accounts.users.*", "accounts.roles.*"] });
        // Not even another owner does it.
        for token in [&ann, &owner] {
            let answer = change(token, deny.clone()).await;
            assert_eq!(answer.short(), LACKS, "{answer:?}");
        }
        let bob = bob.text("access_token");
        assert_eq!(house.get("/users", Some(&bob)).await.status, 200);
        // What takes nothing from its holders goes on as before.
        let more = json!({ "permissions": ["accounts.users.read", "accounts.roles.read"] });
        let changed = change(&ann, more).await;
        assert_eq!(changed.status, 200, "{changed:?}");

        // A clerk of roles takes no permission from those who may more, not even one that it has.
        let clerk = [
            "accounts.roles.write",
            "accounts.roles.read",
            "accounts.users.read",
        ];
        make_role(
            &house,
            &owner,
            json!({ "name": "clerk", "permissions": clerk }),
        )
        .await;
        let (_, eve) = house.user(&owner, "eve@example.com", &["clerk"]).await;
        let eve = eve.text("access_token");
        let wide = ["accounts.api_keys.read"];
        make_role(
            &house,
            &owner,
            json!({ "name": "wide", "permissions": wide }),
        )
        .await;
        let (dan_id, _) = house.user(&owner, "dan@example.com", &["wide"]).await;
        let bound = bind(&house, &eve, &dan_id, "x").await;
        assert_eq!(bound.status, 201, "{bound:?}");
        let answer = unbind(&house, &eve, &bound.text("id")).await;
        assert_eq!(answer.short(), LACKS, "{answer:?}");
        let answer = change(&eve, json!({ "permissions": ["accounts.roles.read"] })).await;
        assert_eq!(answer.short(), LACKS, "{answer:?}");
        let (method, any) = (Method::DELETE, [("if-match", "*")]);
        let answer = house.send(0, method, &path, Some(&eve), None, &any).await;
        assert_eq!(answer.short(), LACKS, "{answer:?}");
    })
    .await;
}

#[tokio::test]
async fn a_service_account_with_denied_permissions_gives_no_key_to_callers_who_lack_them() {
    House::on_both(async |house| {
        let admin = house.admin_session().await.text("access_token");
        let account = house.post("/service-accounts", Some(&admin), json!({ "name": "ci" }));
        let account = account.await.text("id");
        let bound = bind(&house, &admin, &account, "owner").await;
        assert_eq!(bound.status, 201, "{bound:?}");
        let key = json!({ "name": "all", "scopes": ["*"], "service_account_id": account });
        let key = house.post("/api-keys", Some(&admin), key).await;
        assert_eq!(key.status, 201, "{key:?}");
        let rotate = format!("/api-keys/{}/rotate", key.text("id"));

        let (_, ann) = house.user(&admin, "ann@example.com", &["admin"]).await;
        let ann = ann.text("access_token");
        let rotated = house.post(&rotate, Some(&ann), json!({})).await;
        assert_eq!(rotated.short(), LACKS, "{rotated:?}");
        // Nor once the account has no roles any more: it may get them back, and the key counts for `*`.
        let gone = unbind(&house, &admin, &bound.text("id")).await;
        assert_eq!(gone.status, 204, "{gone:?}");
        let rotated = house.post(&rotate, Some(&ann), json!({})).await;
        assert_eq!(rotated.short(), LACKS, "{rotated:?}");
        assert_eq!(
            house.post(&rotate, Some(&admin), json!({})).await.status,
            200
        );
    })
    .await;
}

#[tokio::test]
async fn the_owner_of_another_tenant_is_neither_taken_over_nor_removed() {
    House::on_both(async |house| {
        let admin = house.admin_session().await.text("access_token");
        // Both are administrators of the tenant that manages their accounts; one owns another tenant.
        let (_, ann) = house.user(&admin, "ann@example.com", &["admin"]).await;
        let (bob_id, bob) = house.user(&admin, "bob@example.com", &["admin"]).await;
        let tenant = json!({ "slug": "acme", "name": "Acme" });
        let bob = bob.text("access_token");
        let tenant = house.post("/tenants", Some(&bob), tenant).await;
        assert_eq!(tenant.status, 201, "{tenant:?}");

        let act = |token: String, action: &'static str| {
            let path = format!("/users/{bob_id}/{action}");
            let house = &house;
            async move { house.post(&path, Some(&token), json!({})).await }
        };
        let ann = ann.text("access_token");
        for action in ["reset-link", "disable", "enable", "sign-out", "unlock"] {
            let answer = act(ann.clone(), action).await;
            assert_eq!(answer.short(), LACKS, "{action}: {answer:?}");
        }
        let disabled = act(admin.clone(), "disable").await;
        assert_eq!(disabled.short(), (409, "last_owner"), "{disabled:?}");
        let path = format!("/users/{bob_id}");
        let (method, any) = (Method::DELETE, [("if-match", "*")]);
        let deleted = house.send(0, method, &path, Some(&admin), None, &any).await;
        assert_eq!(deleted.short(), (409, "last_owner"), "{deleted:?}");
        // The owner of the tenant that manages the account helps its user in again.
        let link = act(admin.clone(), "reset-link").await;
        assert_eq!(
            (link.status, &link.headers["cache-control"]),
            (200, &"no-store".parse().unwrap())
        );

        // Signed out is signed out in every tenant.
        let switch = json!({ "tenant_id": tenant.text("id") });
        let elsewhere = house.post("/auth/switch-tenant", Some(&bob), switch).await;
        assert_eq!(elsewhere.status, 200, "{elsewhere:?}");
        let elsewhere = elsewhere.text("access_token");
        assert_eq!(house.get("/auth/me", Some(&elsewhere)).await.status, 200);
        assert_eq!(act(admin.clone(), "sign-out").await.status, 204);
        let me = house.get("/auth/me", Some(&elsewhere)).await;
        assert_eq!(me.short(), (401, "session_ended"), "{me:?}");
    })
    .await;
}

#[tokio::test]
async fn an_account_that_a_customer_manages_administers_nothing_beyond_its_tenant() {
    House::on_both(async |house| {
        let admin = house.admin_session().await.text("access_token");
        let tenant = json!({ "slug": "acme", "name": "Acme" });
        let tenant = house.post("/tenants", Some(&admin), tenant).await.text("id");
        let switch = json!({ "tenant_id": tenant });
        let customer = house.post("/auth/switch-tenant", Some(&admin), switch).await;
        let customer = customer.text("access_token");
        // The customer takes an address of the operators before they do.
        let email = "next.operator@example.com";
        let squatted = json!({ "email": email });
        let squatted = house.post("/users", Some(&customer), squatted).await;
        assert_eq!(squatted.status, 201, "{squatted:?}");
        let id = squatted.text("id");
        let made = house
            .builder()
            .run_in(house.directory.path(), &["user", "create-admin", "--email", email])
            .await;
        let refusal = "the tenant `acme` manages the account";
        assert!(made.code != 0 && made.text().contains(refusal), "{}", made.text());

        // However such an account came to administer the installation, its own tenant neither takes it over nor stops it.
        let default = "01900000-0000-7000-8000-000000000001";
        let at = "2026-11-01 00:00:00.000000";
        house
            .sql(&format!(
                "INSERT INTO memberships (tenant_id, user_id, status, joined_at) \
                 VALUES ('{default}', '{id}', 'active', '{at}'); \
                 INSERT INTO role_bindings (id, tenant_id, user_id, role_id, granted_by, created_at) \
                 SELECT '01900000-0000-7000-8000-0000000000aa', '{default}', '{id}', id, 'test', '{at}' \
                 FROM roles WHERE tenant_id = '{default}' AND name = 'owner';"
            ))
            .await;
        for action in ["reset-link", "disable", "enable", "sign-out", "unlock"] {
            let path = format!("/users/{id}/{action}");
            let answer = house.post(&path, Some(&customer), json!({})).await;
            assert_eq!(answer.short(), LACKS, "{action}: {answer:?}");
        }
        let (path, any) = (format!("/users/{id}"), [("if-match", "*")]);
        let deleted = house.send(0, Method::DELETE, &path, Some(&customer), None, &any);
        assert_eq!(deleted.await.short(), LACKS);
    })
    .await;
}

/// A helpdesk makes accounts and links, and is none of those that its users become.
#[tokio::test]
async fn who_made_an_account_or_a_link_for_it_is_not_what_it_becomes() {
    House::on_both(async |house| {
        let owner = house.admin_session().await.text("access_token");
        let helpdesk = json!({ "name": "helpdesk", "permissions": ["accounts.users.*"] });
        make_role(&house, &owner, helpdesk).await;
        let (_, helen) = house.user(&owner, "helen@example.com", &["helpdesk"]).await;
        let helen = helen.text("access_token");
        let link = async |token: &str, id: &str| {
            let path = format!("/users/{id}/reset-link");
            let link = house.post(&path, Some(token), json!({})).await;
            assert_eq!(link.status, 200, "{link:?}");
            link.text("token")
        };
        let reset = async |token: &str, password: &str| {
            let body = json!({ "token": token, "password": password });
            house.post("/auth/password/reset", None, body).await
        };

        // A password that helen knows: by having set it, by her link, or by having been there first.
        let (bob, _) = house.user(&helen, "bob@example.com", &[]).await;
        let refused = bind(&house, &owner, &bob, "admin").await;
        assert_eq!(refused.short(), LACKS, "{refused:?}");
        let by_helen = link(&helen, &bob).await;
        let known = "nine purple boxes in a row";
        assert_eq!(reset(&by_helen, known).await.status, 204);
        let session = house.login("bob@example.com", known).await;
        let change = json!({ "current": known, "new": "ten orange boxes in a row" });
        let session = session.text("access_token");
        let changed = house
            .post("/auth/password/change", Some(&session), change)
            .await;
        assert_eq!(changed.status, 204, "{changed:?}");
        let refused = bind(&house, &owner, &bob, "admin").await;
        assert_eq!(refused.short(), LACKS, "{refused:?}");
        // Nor by a role that bob has already.
        let plain = make_role(&house, &owner, json!({ "name": "plain" })).await;
        let bound = bind(&house, &owner, &bob, "plain").await;
        assert_eq!(bound.status, 201, "{bound:?}");
        let (path, any) = (format!("/roles/{plain}"), [("if-match", "*")]);
        let more = Some(json!({ "permissions": ["accounts.roles.write"] }));
        let refused = house
            .send(0, Method::PATCH, &path, Some(&owner), more, &any)
            .await;
        assert_eq!(refused.short(), LACKS, "{refused:?}");
        // By a link of who may give the role it is bob's.
        let by_owner = link(&owner, &bob).await;
        assert_eq!(
            reset(&by_owner, "six white boxes in a row").await.status,
            204
        );
        let bound = bind(&house, &owner, &bob, "admin").await;
        assert_eq!(bound.status, 201, "{bound:?}");

        // A link that was made before the role was given is worth nothing afterwards.
        let cat = json!({ "email": "cat@example.com" });
        let cat = house.post("/users", Some(&helen), cat).await.text("id");
        let kept = link(&helen, &cat).await;
        let bound = bind(&house, &owner, &cat, "admin").await;
        assert_eq!(bound.status, 201, "{bound:?}");
        let gone = reset(&kept, known).await;
        assert_eq!(gone.short(), (410, "link_used_or_expired"), "{gone:?}");
        let by_owner = link(&owner, &cat).await;
        assert_eq!(reset(&by_owner, known).await.status, 204);
    })
    .await;
}

#[tokio::test]
async fn what_is_given_by_a_role_that_ends_does_not_outlast_it() {
    House::on_both(async |house| {
        let owner = house.admin_session().await.text("access_token");
        let (temp_id, temp) = house.user(&owner, "temp@example.com", &[]).await;
        let temp = temp.text("access_token");
        let within = |minutes: i64| {
            let end = chrono::Utc::now() + chrono::TimeDelta::minutes(minutes);
            end.to_rfc3339_opts(chrono::SecondsFormat::Micros, true)
        };
        let give = async |token: &str, principal: &str, role: &str, end: Option<String>| {
            let body = json!({ "principal": principal, "role": role, "expires_at": end });
            house.post("/role-bindings", Some(token), body).await
        };
        let given = give(&owner, &temp_id, "admin", Some(within(60))).await;
        assert_eq!(given.status, 201, "{given:?}");

        let other = json!({ "email": "other@example.com", "password": crate::PASSWORD });
        let other = house.post("/users", Some(&temp), other).await.text("id");
        let lasting = json!({ "email": "x@example.com", "roles": ["admin"] });
        let lasting = house.post("/users", Some(&temp), lasting).await;
        assert_eq!(lasting.short(), LACKS, "{lasting:?}");
        for end in [None, Some(within(90))] {
            let refused = give(&temp, &other, "admin", end).await;
            assert_eq!(refused.short(), LACKS, "{refused:?}");
        }
        let given = give(&temp, &other, "admin", Some(within(30))).await;
        assert_eq!(given.status, 201, "{given:?}");

        // Nor by a role that is changed afterwards, or by a key that goes on.
        let role = make_role(&house, &temp, json!({ "name": "x" })).await;
        let (_, plain) = house.user(&owner, "plain@example.com", &["x"]).await;
        drop(plain);
        let (path, any) = (format!("/roles/{role}"), [("if-match", "*")]);
        let more = Some(json!({ "permissions": ["accounts.users.read"] }));
        let (method, token) = (Method::PATCH, Some(temp.as_str()));
        let refused = house.send(0, method, &path, token, more, &any).await;
        assert_eq!(refused.short(), LACKS, "{refused:?}");
        let account = house.post("/service-accounts", Some(&temp), json!({ "name": "ci" }));
        let account = account.await.text("id");
        for (end, status) in [(None, 403), (Some(within(30)), 201)] {
            let key = json!({
                "name": "key", "scopes": ["accounts.users.read"],
                "service_account_id": account, "expires_at": end,
            });
            let key = house.post("/api-keys", Some(&temp), key).await;
            assert_eq!(key.status, status, "{key:?}");
        }
    })
    .await;
}

#[tokio::test]
async fn a_role_counts_until_it_ends_and_no_longer() {
    House::on_both(async |house| {
        let owner = house.admin_session().await.text("access_token");
        let (id, ann) = house.user(&owner, "ann@example.com", &[]).await;
        let ann = ann.text("access_token");
        let end = chrono::Utc::now() + chrono::TimeDelta::seconds(10);
        let body = json!({
            "principal": id, "role": "admin",
            "expires_at": end.to_rfc3339_opts(chrono::SecondsFormat::Micros, true),
        });
        let given = house.post("/role-bindings", Some(&owner), body).await;
        assert_eq!(given.status, 201, "{given:?}");
        assert_eq!(house.get("/users", Some(&ann)).await.status, 200);
        dotmac_testkit::eventually("the role to count no longer", || async {
            (house.get("/users", Some(&ann)).await.status == 403).then_some(())
        })
        .await;
        let late = chrono::Utc::now() - end;
        assert!(late < chrono::TimeDelta::seconds(45), "{late}");
    })
    .await;
}

#[tokio::test]
async fn a_clerk_of_keys_revokes_no_key_of_those_who_may_more_and_a_key_has_the_names_of_its_scopes()
 {
    House::on_both(async |house| {
        let owner = house.admin_session().await.text("access_token");
        let key = json!({ "name": "mine", "scopes": ["accounts.users.*"] });
        let key = house.post("/auth/me/api-keys", Some(&owner), key).await;
        let clerk = json!({ "name": "clerk", "permissions": ["accounts.api_keys.*"] });
        make_role(&house, &owner, clerk).await;
        let (_, eve) = house.user(&owner, "eve@example.com", &["clerk"]).await;
        let eve = eve.text("access_token");
        let (path, any) = (format!("/api-keys/{}", key.text("id")), [("if-match", "*")]);
        let found = house.get(&path, Some(&eve)).await;
        let names = json!(["accounts.users.read", "accounts.users.write"]);
        assert_eq!(found.body["scopes"], names, "{found:?}");
        for (token, expected) in [(&eve, 403), (&owner, 204)] {
            let (method, token) = (Method::DELETE, Some(token.as_str()));
            let answer = house.send(0, method, &path, token, None, &any).await;
            assert_eq!(answer.status, expected, "{answer:?}");
        }
    })
    .await;
}

#[tokio::test]
async fn a_permanently_replaced_secret_does_not_end_its_successor() {
    House::on_both(async |house| {
        let admin = house.admin_session().await.text("access_token");
        let key = json!({ "name": "mine", "scopes": ["accounts.users.read"] });
        let key = house.post("/auth/me/api-keys", Some(&admin), key).await;
        let (path, former) = (
            format!("/auth/me/api-keys/{}/rotate", key.text("id")),
            key.text("key"),
        );
        let rotated = house
            .post(&path, Some(&admin), json!({ "overlap": "0s" }))
            .await;
        let present = rotated.text("key");
        let report = async |key: &str| {
            let answer = house
                .post("/keys/report", None, json!({ "key": key }))
                .await;
            assert_eq!(answer.status, 202, "{answer:?}");
        };
        report(&former).await;
        assert_eq!(house.get("/users", Some(&present)).await.status, 200);
        report(&present).await;
        let refused = house.get("/users", Some(&present)).await;
        assert_eq!(refused.short(), (401, "token_invalid"), "{refused:?}");
    })
    .await;
}
