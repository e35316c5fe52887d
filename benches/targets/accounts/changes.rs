//! How soon an instance goes by a change that was made elsewhere, and how long it trusts its memory without the database.

use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::json;

use super::{Bed, USED, of};
use crate::{
    process::Measured,
    report::{Report, ms, percentile, us},
};

/// What is measured on a back end.
struct Measurement {
    /// Changes of each kind.
    times: usize,
    ended: &'static str,
    role: &'static str,
    target: &'static str,
    within: Duration,
}

/// It notifies instances.
const ON_POSTGRES: Measurement = Measurement {
    times: 100,
    ended: "a session that ended on one instance is refused by another, PostgreSQL",
    role: "a role that is given or taken on one instance counts on another, PostgreSQL",
    target: "p99 under 50 ms",
    within: Duration::from_millis(50),
};

/// Each instance looks once a second.
const ON_SQLITE: Measurement = Measurement {
    times: 20,
    ended: "a session that ended on one instance is refused by another, SQLite",
    role: "a role that is given or taken on one instance counts on another, SQLite",
    target: "p99 under 1 s",
    within: Duration::from_secs(1),
};

/// How `instance` answers a token at one of the routes.
async fn status(bed: &Bed, instance: &Measured, path: &str, token: &str) -> u16 {
    let url = format!("http://127.0.0.1:{}/api/v1/routed/{path}", instance.port);
    let answer = bed.client.get(url).bearer_auth(token).send().await;
    answer.unwrap().status().as_u16()
}

/// How long after the answer to a change on one instance another instance goes by it: a sign-out, and a role that is given and
/// taken.
pub async fn elsewhere(report: &mut Report, bed: &Bed, admin: &str, user: &str) {
    let measurement = match &bed.server {
        Some(_) => ON_POSTGRES,
        None => ON_SQLITE,
    };
    let other = bed.another();
    let there = async |path: &str, token: &str| status(bed, &other, path, token).await;
    let (mut ends, mut requests) = (Vec::new(), Vec::new());
    for number in 0..measurement.times {
        let token = of(&bed.admin(3000 + number).await, "access_token");
        assert_eq!(there("own", &token).await, 200);
        let began = Instant::now();
        assert_eq!(there("own", &token).await, 200);
        requests.push(began.elapsed());
        let out = bed.change(Method::POST, "/auth/logout", &token, json!({}));
        assert_eq!(out.await.0, 204);
        let began = Instant::now();
        while there("own", &token).await == 200 {}
        ends.push(began.elapsed());
    }

    let (signed_in, session) = bed.sign_in(user, 4000).await;
    assert_eq!(signed_in, 200, "{session}");
    let token = of(&session, "access_token");
    let role = json!({ "name": "thing_user", "permissions": [USED] });
    let (made, role) = bed.change(Method::POST, "/roles", admin, role).await;
    assert_eq!(made, 201, "{role}");
    let mut roles = Vec::new();
    for _ in 0..measurement.times / 2 {
        let binding = json!({ "principal": session["user"]["id"], "role": role["id"] });
        let given = bed.change(Method::POST, "/role-bindings", admin, binding);
        let (made, given) = given.await;
        assert_eq!(made, 201, "{given}");
        let began = Instant::now();
        while there("used", &token).await != 200 {}
        roles.push(began.elapsed());
        let path = format!("/role-bindings/{}", of(&given, "id"));
        let taken = bed.change(Method::DELETE, &path, admin, json!({})).await;
        assert_eq!(taken.0, 204, "{taken:?}");
        let began = Instant::now();
        while there("used", &token).await == 200 {}
        roles.push(began.elapsed());
    }
    let request = percentile(&mut requests, 0.5);
    for (what, times) in [
        (measurement.ended, &mut ends),
        (measurement.role, &mut roles),
    ] {
        let (middle, last) = (percentile(times, 0.5), percentile(times, 0.99));
        report.row(
            what,
            measurement.target,
            format!("p50 {}, p99 {}", ms(middle), ms(last)),
            format!("a request there: {}", us(request)),
            last < measurement.within,
        );
    }
}

/// For how long a token counts once the database is gone: what is remembered must not outlive a change that nobody can read.
pub async fn without_database(report: &mut Report, bed: &mut Bed) {
    let token = of(&bed.admin(6000).await, "access_token");
    assert_eq!(status(bed, &bed.platform, "own", &token).await, 200);
    let Some(server) = &mut bed.server else {
        return;
    };
    server.kill().await;
    let began = Instant::now();
    let answer = loop {
        let answer = status(bed, &bed.platform, "own", &token).await;
        if answer != 200 {
            break answer;
        }
    };
    let took = began.elapsed();
    report.row(
        "a token that was seen before, once the database is gone",
        "counts for at most 5 s, then 503",
        format!("{answer} after {}", ms(took)),
        "a signed token alone: until it expires, after 15 min".to_owned(),
        took <= Duration::from_secs(5) && answer == 503,
    );
}
