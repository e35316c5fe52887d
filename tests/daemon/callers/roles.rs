//! Every route with a permission, called by a holder of each role that every tenant has.

use serde_json::{Value, json};

use super::{
    house::{Credentials, House, PASSWORD},
    short,
};
use crate::support::Postgres;

/// Whether a role with these patterns has the permission.
fn has(role: &Value, permission: &str) -> bool {
    let is_in = |field: &str| {
        let mut patterns = role[field].as_array().unwrap().iter();
        patterns.any(|pattern| {
            let pattern = pattern.as_str().unwrap();
            match pattern.strip_suffix('*') {
                Some(beginning) => permission.starts_with(beginning),
                None => permission == pattern,
            }
        })
    };
    is_in("permissions") && !is_in("denied")
}

#[tokio::test]
async fn each_role_of_the_system_opens_the_routes_of_its_permissions_on_both_back_ends() {
    let postgres = Postgres::start().await;
    for url in ["sqlite:dotmac.db".to_owned(), postgres.url()] {
        let house = House::open(&url).await;
        let admin = Credentials::Bearer(&house.admin);
        let roles = house.get("/roles?is_system=true", admin).await.1;
        let roles = roles["items"].as_array().unwrap();
        let mut names: Vec<_> = roles
            .iter()
            .map(|it| it["name"].as_str().unwrap())
            .collect();
        names.sort_unstable();
        assert_eq!(names, ["admin", "auditor", "member", "owner"]);
        for role in roles {
            let name = role["name"].as_str().unwrap();
            let email = format!("{name}@example.org");
            let new = json!({ "email": email, "password": PASSWORD, "roles": [name] });
            house.make("/users", new).await;
            let token = house.login(&email).await;
            let caller = Credentials::Bearer(&token);
            let (mut opened, mut refused) = (0, 0);
            for operation in house.guarded() {
                let Some(permission) = &operation.permission else {
                    continue;
                };
                if !has(role, permission) {
                    let answer = house.call(operation, caller).await;
                    assert_eq!(short(&answer), (403, "forbidden"), "{name}: {operation}");
                    refused += 1;
                } else if operation.is_unsafe() {
                    // Upon nothing, so that all is there for the next role.
                    let answer = house.call_upon_nothing(operation, caller).await;
                    let is_let_in = answer.0 < 500 && !matches!(answer.0, 401 | 403);
                    assert!(is_let_in, "{name}: {operation}: {answer:?}");
                    opened += 1;
                } else {
                    // An upload in parts is only there for the one that began it.
                    let expected = match operation.path.ends_with("/tus/{id}") {
                        true => 404,
                        false => operation.found(),
                    };
                    let answer = house.call(operation, caller).await;
                    assert_eq!(answer.0, expected, "{name}: {operation}: {answer:?}");
                    opened += 1;
                }
            }
            // The last two are what a reader of the roles expects.
            let is_as_expected = match name {
                "owner" => opened > 80 && refused == 0,
                "admin" => opened > 80 && (1..5).contains(&refused),
                "member" => opened == 0,
                _ => (1..20).contains(&opened) && refused > 80,
            };
            assert!(is_as_expected, "{name}: {opened} opened, {refused} refused");
        }
    }
}
