//! Permissions that principals have without a role.

use reqwest::Method;
use serde_json::json;

use crate::House;

#[tokio::test]
async fn a_permission_is_given_without_a_role_until_a_time_and_taken_away_at_once() {
    House::on_both(async |house| {
        let house = house.in_turns().await;
        let (owner, any) = (
            house.admin_session().await.text("access_token"),
            [("if-match", "*")],
        );
        let (ann_id, ann) = house.user(&owner, "ann@example.com", &[]).await;
        let ann = ann.text("access_token");
        assert_eq!(
            house.get("/users", Some(&ann)).await.short(),
            (403, "forbidden")
        );
        let grant = |permission: &str, expires_at: Option<&str>| {
            json!({ "principal": ann_id, "permission": permission, "expires_at": expires_at })
        };
        let given = house
            .post(
                "/grants",
                Some(&owner),
                grant("accounts.users.read", Some("2099-01-01T00:00:00Z")),
            )
            .await;
        assert_eq!(given.status, 201, "{given:?}");
        assert_eq!(
            given.headers["location"],
            format!("/api/v1/grants/{}", given.text("id"))
        );
        dotmac_testkit::eventually("the permission to count", || async {
            let users = house.get("/users", Some(&ann)).await;
            (users.status == 200).then_some(())
        })
        .await;
        for (permission, expires_at, expected) in [
            ("accounts.users.read", None, (409, "conflict")),
            ("accounts.users.*", None, (422, "validation")),
            ("accounts.typo.read", None, (422, "validation")),
            (
                "accounts.roles.read",
                Some("2001-01-01T00:00:00Z"),
                (422, "validation"),
            ),
        ] {
            let refused = house
                .post("/grants", Some(&owner), grant(permission, expires_at))
                .await;
            assert_eq!(refused.short(), expected, "{permission}: {refused:?}");
        }

        // Nobody gives what they lack, or to themselves, or for longer than they have it.
        let helper = json!({ "name": "helper", "permissions": ["accounts.roles.*", "accounts.users.read"] });
        let helper = house.post("/roles", Some(&owner), helper).await;
        assert_eq!(helper.status, 201, "{helper:?}");
        let (bob_id, bob) = house.user(&owner, "bob@example.com", &["helper"]).await;
        let bob = bob.text("access_token");
        for (principal, permission) in [
            (&ann_id, "accounts.api_keys.write"),
            (&bob_id, "accounts.users.read"),
        ] {
            let body = json!({ "principal": principal, "permission": permission });
            let refused = house.post("/grants", Some(&bob), body).await;
            assert_eq!(refused.short(), (403, "forbidden"), "{permission}");
        }
        let listed = house.get("/grants", Some(&bob)).await;
        assert_eq!(listed.body["items"][0]["id"], given.body["id"], "{listed:?}");

        // A role that denies it takes it away, whatever gives it.
        let denies = json!({ "name": "denies", "denied": ["accounts.users.read"] });
        let denies = house.post("/roles", Some(&owner), denies).await;
        assert_eq!(denies.status, 201, "{denies:?}");
        let bind = json!({ "principal": ann_id, "role": "denies" });
        let bound = house.post("/role-bindings", Some(&owner), bind).await;
        assert_eq!(bound.status, 201, "{bound:?}");
        dotmac_testkit::eventually("the denial to count", || async {
            let users = house.get("/users", Some(&ann)).await;
            (users.status == 403).then_some(())
        })
        .await;
        let path = format!("/role-bindings/{}", bound.text("id"));
        let unbound = house
            .send(0, Method::DELETE, &path, Some(&owner), None, &any)
            .await;
        assert_eq!(unbound.status, 204, "{unbound:?}");

        let path = format!("/grants/{}", given.text("id"));
        let taken = house
            .send(0, Method::DELETE, &path, Some(&owner), None, &any)
            .await;
        assert_eq!(taken.status, 204, "{taken:?}");
        dotmac_testkit::eventually("the permission to be gone", || async {
            let users = house.get("/users", Some(&ann)).await;
            (users.status == 403).then_some(())
        })
        .await;
    })
    .await;
}
