//! Whether the time of an answer says that an account exists: requests of several kinds in turn, compared by the sum of
//! their ranks (Mann and Whitney).

use std::{
    sync::atomic::{AtomicU32, Ordering::Relaxed},
    time::{Duration, Instant},
};

use futures_util::future::join_all;
use serde_json::{Value, json};
use uuid::Uuid;

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

/// What a request has in its body.
#[derive(Clone, Copy)]
enum Form {
    /// An address and a password.
    Password,
    /// A user name and a password.
    NamedPassword,
    /// An address as `identifier`.
    Identifier,
    /// An address as `email`.
    Email,
    /// An address, and a password for a new account.
    Registration,
    /// An address, and a code that nobody was sent.
    Code,
}

impl Form {
    fn body(self, kind: &str, number: usize) -> Value {
        let (name, email) = (
            format!("{kind}{number}"),
            format!("{kind}{number}@example.com"),
        );
        let password = match kind {
            "off" => PASSWORD,
            _ => "a wrong password of some length",
        };
        match self {
            Self::Password => {
                json!({ "identifier": email, "password": password, "mode": "token" })
            }
            Self::NamedPassword => {
                json!({ "identifier": name, "password": password, "mode": "token" })
            }
            Self::Identifier => json!({ "identifier": email }),
            Self::Email => json!({ "email": email }),
            Self::Registration => json!({ "email": email, "password": PASSWORD }),
            Self::Code => json!({ "email": email, "code": "12345678", "mode": "token" }),
        }
    }
}

/// A route that anybody can call with an identifier, how it answers, and the kinds of identifiers that it is called with.
type Route = (&'static str, Form, u16, &'static [&'static str]);

/// `unknown` is nobody's. A user has a password (`right`), is disabled besides (`off`), or has none (`none`).
const ROUTES: [Route; 9] = [
    (
        "/auth/login",
        Form::Password,
        401,
        &["unknown", "right", "off", "none"],
    ),
    (
        "/auth/login",
        Form::NamedPassword,
        401,
        &["unknown", "right"],
    ),
    (
        "/auth/register",
        Form::Registration,
        202,
        &["unknown", "right"],
    ),
    (
        "/auth/password/forgot",
        Form::Email,
        202,
        &["unknown", "right", "off"],
    ),
    (
        "/auth/email/resend",
        Form::Email,
        202,
        &["unknown", "right", "off"],
    ),
    (
        "/auth/magic-link",
        Form::Email,
        202,
        &["unknown", "right", "off"],
    ),
    ("/auth/code", Form::Email, 202, &["unknown", "right", "off"]),
    ("/auth/code/confirm", Form::Code, 401, &["unknown", "right"]),
    (
        "/auth/passkey/options",
        Form::Identifier,
        200,
        &["unknown", "right", "off"],
    ),
];

const SETTINGS: [(&str, &str); 2] = [
    ("DOTMAC_HTTP_TRUSTED_PROXIES", "127.0.0.1"),
    ("DOTMAC_ACCOUNTS_REGISTRATION", "open"),
];

#[tokio::test]
async fn the_time_of_an_answer_does_not_say_whether_an_account_exists() {
    say_nothing_by_time(&House::on_sqlite(1, &SETTINGS).await).await;
}

#[tokio::test]
async fn the_time_of_an_answer_does_not_say_whether_an_account_exists_on_postgres() {
    say_nothing_by_time(&House::on_postgres(1, &SETTINGS).await).await;
}

async fn say_nothing_by_time(house: &House) {
    let admin = house.admin_session().await.text("access_token");
    for number in 0..SAMPLES / FREE {
        for (kind, password) in [
            ("right", Some(PASSWORD)),
            ("off", Some(PASSWORD)),
            ("none", None),
        ] {
            let name = format!("{kind}{number}");
            let new = json!({
                "email": format!("{name}@example.com"), "username": name, "password": password,
            });
            let made = house.post("/users", Some(&admin), new).await;
            assert_eq!(made.status, 201, "{made:?}");
            if kind == "off" {
                let path = format!("/users/{}/disable", made.text("id"));
                house.post(&path, Some(&admin), json!({})).await;
            }
        }
    }
    let locked = json!({ "email": "right100@example.com", "password": PASSWORD });
    let made = house.post("/users", Some(&admin), locked).await;
    assert_eq!(made.status, 201, "{made:?}");
    // The requests to one route follow each other. Those to others are under way meanwhile, of whatever kind.
    let routes = ROUTES.iter().zip(10_u8..);
    let routes = join_all(routes.map(async |(route, network)| ask(house, network, *route).await));
    tokio::join!(routes, ask_the_locked(house));
    ask_for_ids(house, &admin).await;
}

/// Asks a route about identifiers of all kinds, and compares how long it takes.
async fn ask(house: &House, network: u8, (path, form, status, kinds): Route) {
    let mut times: Vec<_> = kinds.iter().map(|kind| (*kind, Vec::new())).collect();
    let mut requests = 0_u32;
    for number in 0..SAMPLES {
        // In another order each time.
        times.rotate_left(1);
        for (kind, times) in &mut times {
            requests += 1;
            // Each request comes from its own network, so that none is limited.
            let from = format!("{network}.{}.{}.1", requests / 256, requests % 256);
            let (found, took) = timed(house, path, &from, form.body(kind, number / FREE)).await;
            assert_eq!(found, status, "{path} {kind}");
            times.push(took);
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

/// Sends a request that comes from a network; its status, and how long it took. While the threads that hash have other work, it is
/// sent again.
async fn timed(house: &House, path: &str, from: &str, body: Value) -> (u16, Duration) {
    let url = format!("{}/api/v1{path}", house.instances[0].base);
    dotmac_testkit::eventually("an answer", || async {
        let request = house.instances[0].client.post(&url).json(&body);
        let began = Instant::now();
        let answer = request.header("x-forwarded-for", from).send();
        let answer = answer.await.unwrap();
        let status = answer.status().as_u16();
        answer.bytes().await.unwrap();
        (status != 503).then(|| (status, began.elapsed()))
    })
    .await
}

/// Asks to sign in while an identifier has to wait for it, whether there is a user or not.
async fn ask_the_locked(house: &House) {
    let requests = AtomicU32::new(0);
    let ask = async |kind: &str| {
        let number = requests.fetch_add(1, Relaxed);
        let from = format!("30.{}.{}.1", number / 256, number % 256);
        timed(house, "/auth/login", &from, Form::Password.body(kind, 100)).await
    };
    let mut times = ["unknown", "right"].map(|kind| (kind, Vec::new()));
    while times.iter().any(|(_, times)| times.len() < SAMPLES) {
        // Whoever has not to wait fails once more, until the wait is long enough for all samples.
        // What is sent first is answered first: in another order each time.
        times.reverse();
        let answers = join_all(times.iter().map(|(kind, _)| ask(kind))).await;
        for ((kind, times), (status, took)) in times.iter_mut().zip(answers) {
            match status {
                429 => times.push(took),
                status => {
                    assert_eq!(status, 401, "{kind}");
                    times.clear();
                }
            }
        }
    }
    compare("a locked identifier", &times);
}

/// Asks for things by ids that another tenant has, and by ids that nothing has.
async fn ask_for_ids(house: &House, admin: &str) {
    let user = "/users?email=right0@example.com";
    let user = house.get(user, Some(admin)).await.body["items"][0]["id"].clone();
    let role = json!({ "name": "a_role", "permissions": [] });
    let role = house.post("/roles", Some(admin), role).await.text("id");
    let tenant = json!({ "slug": "acme", "name": "Acme" });
    let tenant = house.post("/tenants", Some(admin), tenant).await.text("id");
    let switched = json!({ "tenant_id": tenant });
    let switched = house.post("/auth/switch-tenant", Some(admin), switched);
    let owner = switched.await.text("access_token");
    for (path, foreign) in [("/users", user.as_str().unwrap()), ("/roles", &role)] {
        let ids = [
            ("unknown", &*Uuid::now_v7().to_string()),
            ("foreign", foreign),
        ];
        let mut times = ids.map(|(kind, _)| (kind, Vec::new()));
        for _ in 0..SAMPLES {
            for ((_, times), (_, id)) in times.iter_mut().zip(ids) {
                let began = Instant::now();
                let answer = house.get(&format!("{path}/{id}"), Some(&owner)).await;
                times.push(began.elapsed());
                assert_eq!(answer.short(), (404, "not_found"), "{answer:?}");
            }
        }
        compare(path, &times);
    }
}
