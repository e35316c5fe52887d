//! Requests that are sent twice with one `Idempotency-Key`.

use reqwest::Method;
use serde_json::json;

use crate::House;

/// The answer is kept in the transaction that makes the thing: a process that ends between the two would make it twice.
#[tokio::test]
async fn the_answer_to_a_repeat_is_kept_in_the_transaction_of_what_was_made() {
    House::on_both(async |house| {
        let admin = house.admin_session().await.text("access_token");
        for (path, table, body) in [
            (
                "/tenants",
                "tenants",
                json!({ "slug": "acme", "name": "Acme" }),
            ),
            ("/roles", "roles", json!({ "name": "own" })),
            ("/users", "users", json!({ "email": "ann@example.com" })),
            (
                "/service-accounts",
                "service_accounts",
                json!({ "name": "ci" }),
            ),
        ] {
            let send = || {
                let headers = [("idempotency-key", "one")];
                let (house, admin, body) = (&house, &admin, Some(body.clone()));
                async move {
                    house
                        .send(0, Method::POST, path, Some(admin), body, &headers)
                        .await
                }
            };
            let made = send().await;
            assert_eq!(made.status, 201, "{path}: {made:?}");
            let again = send().await;
            assert_eq!(again.status, 201, "{path}: {again:?}");
            assert_eq!(again.headers["idempotent-replayed"], "true", "{path}");
            assert_eq!(again.body, made.body, "{path}");
            let Some(postgres) = &house.postgres else {
                continue;
            };
            // The transactions that wrote the two rows last.
            let written = format!(
                "SELECT (SELECT xmin FROM idempotency_key WHERE route LIKE '%{path}')::text \
                 || ' ' || (SELECT xmin FROM {table} WHERE id = '{}')::text",
                made.text("id")
            );
            let written = postgres.query(&written).await;
            let (kept, thing) = written.split_once(' ').unwrap();
            assert_eq!(kept, thing, "{path}");
        }
    })
    .await;
}
