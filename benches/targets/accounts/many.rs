//! A million sessions of 100,000 users: how long the queries of accounts take among them.

use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::{Value, json};

use super::{ADMIN, Bed};
use crate::{
    report::{Report, ms, percentile},
    support::Postgres,
};

const USERS: u32 = 100_000;
const SESSIONS_EACH: u32 = 10;
/// Requests of each kind, all of them fewer than one principal has in a minute.
const TIMES: usize = 60;
/// Sessions of which the instance does not know.
const NEW_SESSIONS: usize = 30;
/// What is slow on a machine of which the load takes a part.
const SLOW: Duration = Duration::from_millis(50);

/// Puts them in, past the program.
async fn fill(server: &Postgres) {
    let users = format!(
        "INSERT INTO users (id, email, email_normal, status, managed_by, version, created_at, updated_at) \
         SELECT gen_random_uuid(), 'many' || n || '@example.com', 'many' || n || '@example.com', 'active', \
                '01900000-0000-7000-8000-000000000001', 1, now(), now() FROM generate_series(1, {USERS}) n"
    );
    let members = "INSERT INTO memberships (tenant_id, user_id, status, joined_at) \
         SELECT managed_by, id, 'active', now() FROM users WHERE email LIKE 'many%'";
    let sessions = format!(
        "INSERT INTO sessions (id, tenant_id, user_id, kind, acr, amr, auth_time, client, created_at, last_seen_at, \
                               idle_until, expires_at) \
         SELECT gen_random_uuid(), managed_by, id, 'token', 1, 'pwd', now(), '{{}}', now(), now(), \
                now() + interval '7 days', now() + interval '30 days' \
         FROM users, generate_series(1, {SESSIONS_EACH}) WHERE email LIKE 'many%'"
    );
    let refresh = "INSERT INTO session_refresh (session_id, tenant_id, salt, generation, confirmed_gen, rotated_at, \
                                                lost_replays) \
         SELECT id, tenant_id, '\\x00', 1, 0, now(), 0 FROM sessions WHERE acr = 1 AND amr = 'pwd' \
         ON CONFLICT DO NOTHING";
    for statement in [&users, members, &sessions, refresh, "ANALYZE"] {
        server.query(statement).await;
    }
    let count = server.query("SELECT count(*) FROM sessions").await;
    assert!(
        count.trim().parse::<u32>().unwrap() >= USERS * SESSIONS_EACH,
        "{count}"
    );
}

/// How long each of many requests takes, the 99th of a hundred.
async fn p99_of(bed: &Bed, method: Method, path: &str, token: &str) -> Duration {
    let mut times = Vec::new();
    for _ in 0..TIMES {
        let url = format!("http://127.0.0.1:{}/api/v1{path}", bed.platform.port);
        let began = Instant::now();
        let request = bed.client.request(method.clone(), url).bearer_auth(token);
        let answer = request.send().await.unwrap();
        assert_eq!(answer.status(), 200, "{path}");
        answer.bytes().await.unwrap();
        times.push(began.elapsed());
    }
    percentile(&mut times, 0.99)
}

/// Measures them, last: the rows stay.
pub async fn measure(report: &mut Report, bed: &Bed, token: &str, session: Value) {
    let Some(server) = &bed.server else {
        return;
    };
    fill(server).await;
    let owner = "SELECT id FROM roles WHERE name = 'owner' LIMIT 1";
    let owners = format!("/users?role={}&limit=50", server.query(owner).await.trim());
    let mut worst = Vec::new();
    for path in [
        "/users?limit=50",
        "/users?status=active&limit=50",
        "/users?status=disabled&limit=50",
        "/users?email=many77777@example.com",
        &owners,
        "/auth/me/sessions",
        "/role-bindings?limit=50",
        "/tenants/01900000-0000-7000-8000-000000000001/members?limit=50",
    ] {
        worst.push((path, p99_of(bed, Method::GET, path, token).await));
    }
    let mut times = Vec::new();
    for number in 0..NEW_SESSIONS {
        let (status, session) = bed.sign_in(ADMIN, 5000 + number).await;
        assert_eq!(status, 200, "{session}");
        times.push(bed.asked(session["access_token"].as_str().unwrap()).await);
    }
    worst.push((
        "the first request of a session",
        percentile(&mut times, 0.99),
    ));
    // A refresh reads and writes a session among all others.
    let (mut times, mut session) = (Vec::new(), session);
    for number in 0..50 {
        let body = json!({ "refresh_token": session["refresh_token"] });
        let began = Instant::now();
        let (status, renewed) = bed.post("/auth/refresh", number, body).await;
        assert_eq!(status, 200, "{renewed}");
        times.push(began.elapsed());
        session = renewed;
    }
    worst.push(("/auth/refresh", percentile(&mut times, 0.99)));
    let slowest = worst.iter().max_by_key(|(_, time)| *time).unwrap();
    report.row(
        "p99 of the slowest request of accounts, 100,000 users and 1,000,000 sessions, PostgreSQL",
        "under 50 ms",
        format!("{} (`{}`)", ms(slowest.1), slowest.0),
        worst
            .iter()
            .map(|(path, time)| format!("`{path}`: {}", ms(*time)))
            .collect::<Vec<_>>()
            .join(", "),
        slowest.1 < SLOW,
    );
}
