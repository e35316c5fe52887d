//! The database of a house, read and changed past the program.

use std::future::Future;

use serde_json::json;

use crate::{Answer, House};

/// The tenant that there always is.
const DEFAULT: &str = "01900000-0000-7000-8000-000000000001";

impl House {
    /// Runs statements on the database, past the program.
    pub(crate) async fn sql(&self, statements: &str) {
        match &self.postgres {
            Some(postgres) => drop(postgres.query(statements).await),
            None => {
                let file = self.directory.path().join("house.db");
                dotmac_testkit::sqlite::execute(&file, statements);
            }
        }
    }

    /// How many rows a table has.
    pub(crate) async fn rows(&self, table: &str) -> i64 {
        match &self.postgres {
            Some(postgres) => {
                let query = format!("SELECT count(*) FROM {table}");
                postgres.query(&query).await.trim().parse().unwrap()
            }
            None => {
                let file = self.directory.path().join("house.db");
                dotmac_testkit::sqlite::count(&file, table)
            }
        }
    }

    /// Sends the request while a transaction on PostgreSQL holds all users, as a change of how they sign in does, and has made
    /// that change, which is committed 4 s later.
    pub(crate) async fn while_user_is_held(
        &self,
        change: &str,
        request: impl Future<Output = Answer>,
    ) -> Answer {
        let postgres = self.postgres.as_ref().unwrap();
        let changing = format!(
            "BEGIN; SELECT 1 FROM users FOR NO KEY UPDATE; {change}; SELECT pg_sleep(4); COMMIT"
        );
        let sleeps = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'";
        let requested = async {
            dotmac_testkit::eventually("the change to be under way", || async {
                (postgres.query(sleeps).await == "1").then_some(())
            })
            .await;
            request.await
        };
        tokio::join!(postgres.query(&changing), requested).1
    }

    /// All that the database holds, as text.
    pub(crate) async fn dump(&self) -> String {
        match &self.postgres {
            Some(postgres) => postgres.dump().await,
            None => dotmac_testkit::sqlite::dump(&self.directory.path().join("house.db")),
        }
    }
}

/// What no statement of the program may do, PostgreSQL does not do either: show or write rows of another tenant, or let a row refer
/// to one. The role is one that neither owns the tables nor bypasses their policies.
#[tokio::test]
async fn the_rows_of_each_tenant_are_kept_apart_by_the_database() {
    let house = House::on_postgres(1, &[]).await;
    let admin = house.admin_session().await.text("access_token");
    let acme = json!({ "slug": "acme", "name": "Acme" });
    let acme = house.post("/tenants", Some(&admin), acme).await.text("id");
    house.user(&admin, "ann@example.com", &["member"]).await;
    let key = json!({ "name": "k", "scopes": ["accounts.users.read"] });
    house.post("/api-keys", Some(&admin), key).await;
    let account = json!({ "name": "ci" });
    house.post("/service-accounts", Some(&admin), account).await;
    let grant = "INSERT INTO grants (id, tenant_id, user_id, permission, granted_by, created_at) \
                 SELECT gen_random_uuid(), tenant_id, user_id, 'accounts.users.read', 'a', now() FROM memberships LIMIT 1";
    house.sql(grant).await;

    let postgres = house.postgres.as_ref().unwrap();
    let role = "CREATE ROLE runtime NOSUPERUSER NOBYPASSRLS; \
                GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO runtime";
    postgres.query(role).await;
    let with_tenant = "SELECT string_agg(c.relname, ' ') FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid \
                       WHERE a.attname = 'tenant_id' AND c.relkind IN ('r', 'p') AND NOT c.relispartition";
    let tables = postgres.query(with_tenant).await;
    let of_accounts = [
        "memberships",
        "roles",
        "role_permissions",
        "role_bindings",
        "grants",
        "service_accounts",
        "api_keys",
        "sessions",
        "session_refresh",
    ];
    for table in of_accounts {
        assert!(
            tables.split_whitespace().any(|it| it == table),
            "{table}: {tables}"
        );
        let seen_by = async |tenant: &str| {
            let counted = format!(
                "SET ROLE runtime; SET dotmac.tenant_id = '{tenant}'; SELECT count(*) FROM {table}"
            );
            let counted = postgres.query(&counted).await;
            counted.trim().parse::<u32>().unwrap()
        };
        let (all, own, none) = (
            seen_by("*").await,
            seen_by(DEFAULT).await,
            seen_by("").await,
        );
        let of_others = format!("SELECT count(*) FROM {table} WHERE tenant_id <> '{DEFAULT}'");
        let of_others: u32 = postgres.query(&of_others).await.trim().parse().unwrap();
        assert!(own > 0, "{table}");
        assert_eq!((all, none), (own + of_others, 0), "{table}");
    }
    // Each table with a tenant has a policy that also its owner obeys.
    let without = "SELECT string_agg(c.relname, ' ') FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid \
                   WHERE a.attname = 'tenant_id' AND c.relkind IN ('r', 'p') AND NOT c.relispartition \
                   AND NOT (c.relrowsecurity AND c.relforcerowsecurity)";
    // That of the platform is read and written by the system alone, by the caller and its key.
    assert_eq!(postgres.query(without).await.trim(), "idempotency_key");
    // A row of one tenant refers to none of another: the reference has the tenant too.
    let apart = "SELECT string_agg(f.conname, ' ') FROM pg_constraint f \
                 JOIN pg_attribute a ON a.attrelid = f.conrelid AND a.attname = 'tenant_id' \
                 JOIN pg_attribute b ON b.attrelid = f.confrelid AND b.attname = 'tenant_id' \
                 WHERE f.contype = 'f' AND NOT (a.attnum = ANY (f.conkey) AND b.attnum = ANY (f.confkey)) \
                 AND f.conrelid::regclass::text = ANY (string_to_array($$TABLES$$, ' '))";
    let apart = apart.replace("TABLES", &of_accounts.join(" "));
    assert_eq!(postgres.query(&apart).await.trim(), "");
    let stray = format!(
        "INSERT INTO role_bindings (id, tenant_id, user_id, role_id, granted_by, created_at) \
         SELECT gen_random_uuid(), '{acme}', m.user_id, r.id, 'a', now() FROM memberships m, roles r \
         WHERE m.tenant_id = '{DEFAULT}' AND r.tenant_id = '{DEFAULT}' LIMIT 1"
    );
    let refused = format!(
        "DO $$ BEGIN {stray}; RAISE 'it was stored'; EXCEPTION WHEN foreign_key_violation THEN END $$; SELECT 'refused'"
    );
    assert!(postgres.query(&refused).await.contains("refused"));
}
