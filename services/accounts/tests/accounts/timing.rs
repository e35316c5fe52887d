//! Whether the time of an answer says that an account exists: requests of several kinds in turn, compared by the sum of
//! their ranks (Mann and Whitney).

use std::time::{Duration, Instant};

use serde_json::{Value, json};

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

#[tokio::test]
async fn the_time_of_an_answer_does_not_say_whether_an_account_exists() {
    let settings = [("DOTMAC_HTTP_TRUSTED_PROXIES", "127.0.0.1")];
    let house = House::on_sqlite(1, &settings).await;
    let admin = house.admin_session().await.text("access_token");
    for number in 0..SAMPLES / FREE {
        for (kind, password) in [
            ("right", Some(PASSWORD)),
            ("off", Some(PASSWORD)),
            ("none", None),
        ] {
            let email = format!("{kind}{number}@example.com");
            let made = house
                .post(
                    "/users",
                    Some(&admin),
                    json!({ "email": email, "password": password }),
                )
                .await;
            assert_eq!(made.status, 201, "{made:?}");
            if kind == "off" {
                let path = format!("/users/{}/disable", made.text("id"));
                house.post(&path, Some(&admin), json!({})).await;
            }
        }
    }
    // Each request comes from its own network, so that none is limited.
    let mut network = 0_u32;
    let mut timed = async |path: &str, body: Value, status: u16| {
        network += 1;
        let from = format!("10.{}.{}.1", network / 256, network % 256);
        let url = format!("{}/api/v1{path}", house.instances[0].base);
        let request = house.instances[0].client.post(url).json(&body);
        let began = Instant::now();
        let answer = request
            .header("x-forwarded-for", from)
            .send()
            .await
            .unwrap();
        let (found, text) = (answer.status(), answer.text().await.unwrap());
        let took = began.elapsed();
        assert_eq!(found, status, "{path} {body}: {text}");
        took
    };

    let mut sign_ins = ["unknown", "right", "off", "none"].map(|kind| (kind, Vec::new()));
    let mut mails = ["unknown", "right", "off"].map(|kind| (kind, Vec::new()));
    for number in 0..SAMPLES {
        let user = number / FREE;
        // In another order each time.
        sign_ins.rotate_left(1);
        for (kind, times) in &mut sign_ins {
            let identifier = format!("{kind}{user}@example.com");
            let password = match *kind {
                "off" => PASSWORD,
                _ => "a wrong password of some length",
            };
            let body = json!({ "identifier": identifier, "password": password, "mode": "token" });
            times.push(timed("/auth/login", body, 401).await);
        }
        mails.rotate_left(1);
        for (kind, times) in &mut mails {
            let body = json!({ "email": format!("{kind}{user}@example.com") });
            times.push(timed("/auth/password/forgot", body, 202).await);
        }
    }
    compare("sign-in", &sign_ins);
    compare("forgotten password", &mails);
    for (kind, times) in &sign_ins {
        let soonest = times.iter().min().unwrap();
        assert!(
            *soonest >= Duration::from_millis(400),
            "{kind}: {soonest:?}"
        );
    }
}
