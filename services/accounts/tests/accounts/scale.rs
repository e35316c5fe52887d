//! Many users and sessions: what is asked for each request reads by an index, however many rows there are.

use reqwest::Method;
use serde_json::json;

use crate::{ADMIN, House, PASSWORD};

/// Users and sessions for each, in the tenant `default`.
const MANY: &str = "
    INSERT INTO users (id, email, email_normal, status, managed_by, version, created_at, updated_at)
    SELECT gen_random_uuid(), 'many' || n || '@example.com', 'many' || n || '@example.com', 'active',
           '01900000-0000-7000-8000-000000000001', 1, now(), now()
    FROM generate_series(1, 20000) n;
    INSERT INTO memberships (tenant_id, user_id, status, joined_at)
    SELECT managed_by, id, 'active', now() FROM users WHERE email LIKE 'many%';
    INSERT INTO passwords (user_id, phc, changed_at)
    SELECT id, 'none', now() FROM users WHERE email LIKE 'many%';
    INSERT INTO sessions (id, tenant_id, user_id, kind, token_hash, acr, amr, auth_time, client, created_at,
                          last_seen_at, idle_until, expires_at)
    SELECT gen_random_uuid(), managed_by, id, 'token', NULL, 1, 'pwd', now(), '{}', now(), now(),
           now() + interval '7 days', now() + interval '30 days'
    FROM users, generate_series(1, 5) WHERE email LIKE 'many%';
    INSERT INTO session_refresh (session_id, tenant_id, salt, generation, confirmed_gen, rotated_at, lost_replays)
    SELECT id, tenant_id, '\\x00', 1, 0, now(), 0 FROM sessions;
    INSERT INTO devices (id, user_id, secret_hash, first_seen, last_seen)
    SELECT gen_random_uuid(), id, sha256(id::text::bytea), now(), now() FROM users WHERE email LIKE 'many%';
    INSERT INTO api_keys (id, public_id, tenant_id, user_id, name, hash, rules, version, created_at)
    SELECT gen_random_uuid(), 'k' || id, managed_by, id, 'k', '\\x00', '{\"scopes\":[],\"cidrs\":[]}', 1, now()
    FROM users WHERE email LIKE 'many%';
    INSERT INTO role_bindings (id, tenant_id, user_id, role_id, granted_by, created_at)
    SELECT gen_random_uuid(), u.managed_by, u.id, r.id, 'operator', now()
    FROM users u JOIN roles r ON r.name = 'member' WHERE u.email LIKE 'many%';
    INSERT INTO login_throttle (key_hmac, failures, window_start, until)
    SELECT sha256(n::text::bytea), 1, now(), now() FROM generate_series(1, 20000) n";

/// Tables that grow with users and sessions.
const LARGE: &str = "'users', 'memberships', 'passwords', 'sessions', 'session_refresh', 'devices', 'api_keys', \
    'role_bindings', 'login_throttle'";

/// A role with many holders is judged by one query, by the combinations that its holders have.
#[tokio::test]
async fn a_role_of_many_holders_is_changed_by_those_who_may_and_not_by_others() {
    let house = House::on_postgres(1, &[]).await;
    let owner = house.admin_session().await.text("access_token");
    for statement in MANY.split(';').take(2) {
        house.sql(statement).await;
    }
    let new = json!({ "name": "many", "permissions": ["accounts.users.read"] });
    let role = house.post("/roles", Some(&owner), new).await;
    let bound = format!(
        "INSERT INTO role_bindings (id, tenant_id, user_id, role_id, granted_by, created_at) \
         SELECT gen_random_uuid(), managed_by, id, '{}', 'operator', now() FROM users WHERE email LIKE 'many%'",
        role.text("id")
    );
    house.sql(&bound).await;
    let helper =
        json!({ "name": "helper", "permissions": ["accounts.roles.*", "accounts.users.read"] });
    let made = house.post("/roles", Some(&owner), helper).await;
    assert_eq!(made.status, 201, "{made:?}");
    let (_, ann) = house.user(&owner, "ann@example.com", &["helper"]).await;
    let ann = ann.text("access_token");
    let path = format!("/roles/{}", role.text("id"));
    let change = async |token: &str, permissions: &[&str]| {
        let body = Some(json!({ "permissions": permissions }));
        let any = [("if-match", "*")];
        house
            .send(0, Method::PATCH, &path, Some(token), body, &any)
            .await
    };
    let began = std::time::Instant::now();
    let more = change(&ann, &["accounts.users.read", "accounts.roles.read"]).await;
    assert_eq!(more.status, 200, "{more:?}");
    assert!(began.elapsed().as_secs() < 5, "{:?}", began.elapsed());
    // One of them may do more than ann, who takes nothing from that one.
    let one = "INSERT INTO grants (id, tenant_id, user_id, permission, granted_by, created_at) \
        SELECT gen_random_uuid(), managed_by, id, 'accounts.api_keys.write', 'operator', now() \
        FROM users WHERE email = 'many7@example.com'";
    house.sql(one).await;
    let less = change(&ann, &["accounts.users.read"]).await;
    assert_eq!(less.short(), (403, "forbidden"), "{less:?}");
    let less = change(&owner, &["accounts.users.read"]).await;
    assert_eq!(less.status, 200, "{less:?}");
}

#[tokio::test]
async fn no_request_reads_a_whole_table_of_users_or_sessions() {
    let mut house = House::on_postgres(1, &[]).await;
    house.administrator().await;
    for statement in MANY.split(';') {
        house.sql(statement).await;
    }
    house.sql("ANALYZE").await;
    let postgres = house.postgres.as_ref().unwrap();
    let rows = postgres.query("SELECT count(*) FROM sessions").await;
    assert!(rows.trim().parse::<u32>().unwrap() >= 100_000, "{rows}");
    let scans = format!(
        "SELECT string_agg(relname || ' ' || seq_scan, ', ' ORDER BY relname) FROM pg_stat_user_tables \
         WHERE relname IN ({LARGE})"
    );
    // What was counted before: what made the rows, and the look at them.
    house.instances.pop().unwrap().stop().await;
    house.sql("SELECT pg_stat_reset()").await;
    house.spawn(1).await;

    let session = house.login(ADMIN, PASSWORD).await;
    assert_eq!(session.status, 200, "{session:?}");
    let unknown = house.login("nobody@example.com", PASSWORD).await;
    assert_eq!(unknown.short(), (401, "invalid_credentials"));
    let refresh = json!({ "refresh_token": session.text("refresh_token") });
    let session = house.post("/auth/refresh", None, refresh).await;
    let token = session.text("access_token");
    let admin = Some(token.as_str());
    for path in [
        "/auth/me",
        "/auth/me/sessions",
        "/auth/me/api-keys",
        "/auth/me/factors",
        "/users?limit=50",
        "/users?status=active&limit=50",
        "/role-bindings?limit=50",
        "/api-keys?limit=50",
        "/tenants",
        "/tenants/01900000-0000-7000-8000-000000000001/members?limit=50",
    ] {
        let mut page = house.get(path, admin).await;
        assert_eq!(page.status, 200, "{path}: {page:?}");
        if let Some(cursor) = page.body["next_cursor"].as_str() {
            let separator = if path.contains('?') { '&' } else { '?' };
            let path = format!("{path}{separator}cursor={cursor}");
            page = house.get(&path, admin).await;
            assert_eq!(page.status, 200, "{path}: {page:?}");
        }
    }
    let new = json!({ "email": "ann@example.com", "roles": ["member"] });
    let ann = house.post("/users", admin, new).await;
    assert_eq!(ann.status, 201, "{ann:?}");
    let path = format!("/users/{}", ann.text("id"));
    for action in ["disable", "enable", "unlock", "sign-out", "reset-link"] {
        let done = house
            .post(&format!("{path}/{action}"), admin, json!({}))
            .await;
        assert!(done.status < 300, "{action}: {done:?}");
    }
    let deleted = house
        .send(0, Method::DELETE, &path, admin, None, &[("if-match", "*")])
        .await;
    assert_eq!(deleted.status, 204, "{deleted:?}");
    let out = house.post("/auth/logout", admin, json!({})).await;
    assert_eq!(out.status, 204, "{out:?}");

    // A connection that ends has its reads counted.
    house.instances.pop().unwrap().stop().await;
    let postgres = house.postgres.as_ref().unwrap();
    let counted = dotmac_testkit::eventually("the reads to be counted", || async {
        let used = "SELECT sum(idx_scan) FROM pg_stat_user_tables WHERE relname = 'sessions'";
        let used: f64 = postgres.query(used).await.trim().parse().unwrap_or(0.0);
        (used > 5.0).then_some(())
    });
    counted.await;
    let scans = postgres.query(&scans).await;
    for table in scans.trim().split(", ") {
        let (name, count) = table.split_once(' ').unwrap();
        assert_eq!(count, "0", "`{name}` was read as a whole: {scans}");
    }
}
