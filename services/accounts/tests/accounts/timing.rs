//! Whether the time of an answer says that an account exists: requests of several kinds in turn, compared by the sum of
//! their ranks (Mann and Whitney).

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use serde_json::json;

use crate::{House, PASSWORD};

/// Answers of each kind.
const SAMPLES: usize = 24;

/// Failures of one identifier that are free.
const FREE: usize = 4;

/// How far the sum of ranks of two samples of the same distribution is from its mean, in standard deviations: beyond it by
/// chance in one of 15,000.
const FAR: f64 = 4.0;

/// The deviation of the sum of ranks of `a` within both.
fn deviation(a: &[Duration], b: &[Duration]) -> f64 {
    let mut all: Vec<(Duration, bool)> = a.iter().map(|it| (*it, true)).collect();
    all.extend(b.iter().map(|it| (*it, false)));
    all.sort();
    let ranks = all.iter().zip(1_u32..);
    let sum: f64 = ranks
        .filter(|((_, is_of_a), _)| *is_of_a)
        .map(|(_, rank)| f64::from(rank))
        .sum();
    let (n, m) = (a.len() as f64, b.len() as f64);
    let mean = n * (n + m + 1.0) / 2.0;
    (sum - mean) / (n * m * (n + m + 1.0) / 12.0).sqrt()
}

#[test]
fn samples_that_differ_are_found_and_those_that_do_not_are_not() {
    let times = |from: u64, step: u64| -> Vec<Duration> {
        (0..24)
            .map(|it| Duration::from_micros(from + it * step))
            .collect()
    };
    assert!(deviation(&times(1000, 20), &times(1005, 20)).abs() < 1.0);
    assert!(deviation(&times(1000, 20), &times(1400, 20)).abs() > FAR);
}

/// Fails if one of the kinds is slower or faster than the first by more than chance.
fn compare(what: &str, kinds: &[(&str, Vec<Duration>)]) {
    let (first, expected) = &kinds[0];
    for (kind, times) in &kinds[1..] {
        let found = deviation(times, expected);
        assert!(
            found.abs() < FAR,
            "{what}: `{kind}` differs from `{first}` by {found:.1} deviations: {times:?} {expected:?}"
        );
    }
}

/// Routes that anybody can call with an identifier: what they answer for each kind of it.
const ROUTES: [(&str, u16, &[&str]); 6] = [
    ("/auth/login", 401, &["unknown", "right", "off", "none"]),
    ("/auth/password/forgot", 202, &["unknown", "right", "off"]),
    ("/auth/email/resend", 202, &["unknown", "right", "off"]),
    ("/auth/magic-link", 202, &["unknown", "right", "off"]),
    ("/auth/code", 202, &["unknown", "right", "off"]),
    ("/auth/passkey/options", 200, &["unknown", "right", "off"]),
];

#[tokio::test]
async fn the_time_of_an_answer_does_not_say_whether_an_account_exists_on_both_back_ends() {
    let settings = [("DOTMAC_HTTP_TRUSTED_PROXIES", "127.0.0.1")];
    for house in [
        House::on_sqlite(1, &settings).await,
        House::on_postgres(1, &settings).await,
    ] {
        let admin = house.admin_session().await.text("access_token");
        for number in 0..SAMPLES / FREE {
            for (kind, password) in [
                ("right", Some(PASSWORD)),
                ("off", Some(PASSWORD)),
                ("none", None),
            ] {
                let email = format!("{kind}{number}@example.com");
                let new = json!({ "email": email, "password": password });
                let made = house.post("/users", Some(&admin), new).await;
                assert_eq!(made.status, 201, "{made:?}");
                if kind == "off" {
                    let path = format!("/users/{}/disable", made.text("id"));
                    house.post(&path, Some(&admin), json!({})).await;
                }
            }
        }
        // The requests to one route follow each other. Those to others are under way meanwhile, of whatever kind.
        let house = &house;
        let routes = ROUTES.iter().zip(10_u8..);
        join_all(routes.map(async |(route, network)| ask(house, network, *route).await)).await;
    }
}

/// Asks a route about identifiers of all kinds, and compares how long it takes.
async fn ask(house: &House, network: u8, (path, status, kinds): (&str, u16, &[&str])) {
    let mut times: Vec<_> = kinds.iter().map(|kind| (*kind, Vec::new())).collect();
    let mut requests = 0_u32;
    for number in 0..SAMPLES {
        // In another order each time.
        times.rotate_left(1);
        for (kind, times) in &mut times {
            let identifier = format!("{kind}{}@example.com", number / FREE);
            let password = match *kind {
                "off" => PASSWORD,
                _ => "a wrong password of some length",
            };
            let body = match path {
                "/auth/login" => {
                    json!({ "identifier": identifier, "password": password, "mode": "token" })
                }
                "/auth/passkey/options" => json!({ "identifier": identifier }),
                _ => json!({ "email": identifier }),
            };
            // Each request comes from its own network, so that none is limited.
            requests += 1;
            let from = format!("{network}.{}.{}.1", requests / 256, requests % 256);
            let url = format!("{}/api/v1{path}", house.instances[0].base);
            let request = house.instances[0].client.post(url).json(&body);
            let began = Instant::now();
            let answer = request.header("x-forwarded-for", from).send();
            let answer = answer.await.unwrap();
            let (found, text) = (answer.status(), answer.text().await.unwrap());
            times.push(began.elapsed());
            assert_eq!(found, status, "{path} {body}: {text}");
        }
    }
    compare(path, &times);
    // What is refused takes as long as what is let in: a password is hashed, and there is a floor.
    if path == "/auth/login" {
        let floor = Duration::from_millis(400);
        let soonest = times.iter().flat_map(|(_, times)| times).min().unwrap();
        assert!(*soonest >= floor, "{soonest:?}");
    }
}
