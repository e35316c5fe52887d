//! Attacks by number: many tries, many addresses, many at once. And what is hostile in a name, a header or a row.

use futures_util::future::join_all;
use reqwest::Method;
use serde_json::{Value, json};

use crate::{ADMIN, Answer, House, PASSWORD};

const WRONG: &str = "a wrong password of some length";

/// Each client says its own address.
const PROXIED: [(&str, &str); 1] = [("DOTMAC_HTTP_TRUSTED_PROXIES", "127.0.0.1")];

fn count(answers: &[Answer], short: (u16, &str)) -> usize {
    answers.iter().filter(|it| it.short() == short).count()
}

/// What of an answer a client can compare, but for what is different in each.
fn comparable(answer: &Answer) -> (u16, Value, Vec<String>) {
    let mut body = answer.body.clone();
    if let Some(body) = body.as_object_mut() {
        body.remove("request_id");
    }
    let names = answer.headers.keys().map(ToString::to_string).collect();
    (answer.status, body, names)
}

impl House {
    /// A try to sign in from that address.
    async fn login_from(&self, address: &str, identifier: &str, password: &str) -> Answer {
        let body = json!({ "identifier": identifier, "password": password, "mode": "token" });
        let headers = [("x-forwarded-for", address)];
        self.send(0, Method::POST, "/auth/login", None, Some(body), &headers)
            .await
    }
}

#[tokio::test]
async fn one_address_is_limited_whatever_identifiers_it_tries_and_others_are_not() {
    let house = House::on_sqlite(1, &PROXIED).await;
    house.administrator().await;
    let names: Vec<String> = (0..60).map(|it| format!("user{it}@example.com")).collect();
    let tries = names
        .iter()
        .map(|name| house.login_from("203.0.113.9", name, WRONG));
    let answers = join_all(tries).await;
    let limited = count(&answers, (429, "rate_limited"));
    // 20 at once, and a few that have come back meanwhile.
    assert!((30..=40).contains(&limited), "{limited}");
    let refused = answers
        .iter()
        .find(|it| it.short() == (429, "rate_limited"));
    let header = |name: &str| {
        let headers = &refused.unwrap().headers;
        headers[name].to_str().unwrap().to_owned()
    };
    let policy = header("ratelimit-policy");
    assert!(policy.starts_with("\"login\";q=10;w=60"), "{policy}");
    let left = header("ratelimit");
    assert!(left.starts_with("\"login\";r=0;t="), "{left}");
    assert!(header("retry-after").parse::<u64>().unwrap() > 0);
    let owner = dotmac_testkit::eventually("the queue to be free", || async {
        let owner = house.login_from("198.51.100.7", ADMIN, PASSWORD).await;
        (owner.status != 503).then_some(owner)
    });
    let owner = owner.await;
    assert_eq!(owner.status, 200, "{owner:?}");
}

#[tokio::test]
async fn ten_thousand_addresses_try_no_more_passwords_of_one_account_than_one_would() {
    let house = House::on_sqlite(1, &PROXIED).await;
    house.administrator().await;
    let (mut judged, mut held, mut busy) = (0, 0, 0);
    let addresses: Vec<String> = (0..10_000)
        .map(|it| format!("10.{}.{}.1", it / 256, it % 256))
        .collect();
    for some in addresses.chunks(250) {
        let tries = some
            .iter()
            .map(|address| house.login_from(address, ADMIN, WRONG));
        for answer in join_all(tries).await {
            match answer.short() {
                (401, "invalid_credentials") => judged += 1,
                (429, "rate_limited") => held += 1,
                // Hashing, or the database, has no place for it.
                (503, "auth_busy" | "auth_unavailable") => busy += 1,
                _ => panic!("{answer:?}"),
            }
        }
    }
    assert_eq!(judged + held + busy, 10_000);
    // Those of the first moment that were hashed together, and one after each wait.
    assert!(judged < 100, "{judged} passwords were tried");
    assert!(held > 7_000, "{held} were held, {busy} found no place");
    let right = house.login_from("192.0.2.77", ADMIN, PASSWORD).await;
    assert_eq!(right.short(), (429, "rate_limited"), "{right:?}");
    house.command(&["user", "unlock", ADMIN]).await;
    let right = house.login_from("192.0.2.77", ADMIN, PASSWORD).await;
    assert_eq!(right.status, 200, "{right:?}");
}

#[tokio::test]
async fn of_fifty_requests_at_once_one_does_it() {
    House::on_both(async |house| {
        let session = house.admin_session().await;
        let token = session.text("access_token");
        let admin = token.as_str();
        let fifty = async |path: &str, body: Value| {
            let all = (0..50).map(|_| house.post(path, Some(admin), body.clone()));
            join_all(all).await
        };
        let ann = json!({ "email": "ann@example.com" });
        let made = fifty("/users", ann).await;
        let conflicts = count(&made, (409, "conflict"));
        assert_eq!((count(&made, (201, "")), conflicts), (1, 49), "{made:?}");
        let ann = made.iter().find(|it| it.status == 201).unwrap().text("id");

        let bind = json!({ "principal": ann, "role": "member" });
        let bound = fifty("/role-bindings", bind).await;
        let conflicts = count(&bound, (409, "conflict"));
        assert_eq!((count(&bound, (201, "")), conflicts), (1, 49), "{bound:?}");

        let role = json!({ "name": "own" });
        let role = house.post("/roles", Some(admin), role).await;
        let path = format!("/roles/{}", role.text("id"));
        let tag = role.text("etag");
        let headers = [("if-match", tag.as_str())];
        let delete = |_| house.send(0, Method::DELETE, &path, Some(admin), None, &headers);
        let deleted = join_all((0..50).map(delete)).await;
        assert_eq!(count(&deleted, (204, "")), 1, "{deleted:?}");
        assert!(
            deleted
                .iter()
                .all(|it| matches!(it.status, 204 | 404 | 412))
        );

        // Tabs that refresh at once get the same successor, and nobody is signed out.
        let refresh = json!({ "refresh_token": session.text("refresh_token") });
        let renewed = fifty("/auth/refresh", refresh).await;
        let next = renewed[0].text("refresh_token");
        for answer in &renewed {
            assert_eq!(answer.text("refresh_token"), next, "{answer:?}");
        }

        // With one key one request makes something, and all get its answer or are asked to come again.
        let once = json!({ "name": "ci" });
        let headers = [("idempotency-key", "one-and-only")];
        let make = |_| {
            let (path, body) = ("/service-accounts", Some(once.clone()));
            house.send(0, Method::POST, path, Some(admin), body, &headers)
        };
        let made = join_all((0..50).map(make)).await;
        let ids: std::collections::BTreeSet<String> = made
            .iter()
            .filter(|it| it.status == 201)
            .map(|it| it.text("id"))
            .collect();
        assert_eq!(ids.len(), 1, "{made:?}");
        assert!(made.iter().all(|it| matches!(it.status, 201 | 409)));
    })
    .await;
}

#[tokio::test]
async fn owners_who_remove_each_other_at_once_leave_one() {
    House::on_both(async |house| {
        let one = house.admin_session().await.text("access_token");
        let (_, two) = house.user(&one, "two@example.com", &["owner"]).await;
        let two = two.text("access_token");
        let bindings = house.get("/role-bindings", Some(&one)).await;
        let items = bindings.body["items"].as_array().unwrap().clone();
        let me = async |token: &str| house.get("/auth/me", Some(token)).await.text("id");
        let of = |user: &str| {
            let binding = items.iter().find(|it| it["principal"] == user).unwrap();
            format!("/role-bindings/{}", binding["id"].as_str().unwrap())
        };
        let (of_one, of_two) = (of(&me(&one).await), of(&me(&two).await));
        let remove = |number: usize| {
            let (path, token) = match number % 2 {
                0 => (&of_two, &one),
                _ => (&of_one, &two),
            };
            house.send(
                0,
                Method::DELETE,
                path,
                Some(token),
                None,
                &[("if-match", "*")],
            )
        };
        let removed = join_all((0..50).map(remove)).await;
        assert_eq!(count(&removed, (204, "")), 1, "{removed:?}");
        let owners = house.command(&["user", "list"]).await;
        assert!(owners.contains(ADMIN), "{owners}");
        let mut left = 0;
        for token in [&one, &two] {
            let me = house.get("/auth/me", Some(token)).await;
            left += usize::from(me.body["roles"] == json!(["owner"]));
        }
        assert_eq!(left, 1);
    })
    .await;
}

#[tokio::test]
async fn hostile_hashes_in_a_row_let_nobody_in_and_cost_nothing() {
    House::on_both(async |house| {
        house.administrator().await;
        let (salt, out) = ("A".repeat(22), "A".repeat(43));
        for phc in [
            format!("$argon2id$v=19$m=4194304,t=2,p=1${salt}${out}"),
            format!("$argon2id$v=19$m=4294967295,t=1,p=1${salt}${out}"),
            format!("$argon2id$v=19$m=65536,t=4294967295,p=1${salt}${out}"),
            format!("$argon2id$v=19$m=65536,t=1,p=16777215${salt}${out}"),
            format!("$argon2i$v=19$m=19456,t=2,p=1${salt}${out}"),
            format!("$argon2id$v=19$m=19456,t=2,p=1${salt}$"),
            format!("$argon2id$v=19$m=19456,t=2,p=1${}${out}", "A".repeat(5000)),
            "$2b$12$abcdefghijklmnopqrstuuABCDEFGHIJKLMNOPQRSTUVWXYZ01234".to_owned(),
            "$argon2id$".to_owned(),
            String::new(),
            PASSWORD.to_owned(),
        ] {
            house
                .sql(&format!("UPDATE passwords SET phc = '{phc}'"))
                .await;
            house.sql("DELETE FROM login_throttle").await;
            let began = std::time::Instant::now();
            let answer = house.login(ADMIN, PASSWORD).await;
            assert_eq!(answer.short(), (401, "invalid_credentials"), "{phc}");
            assert!(
                began.elapsed().as_secs() < 5,
                "{phc}: {:?}",
                began.elapsed()
            );
        }
        assert_eq!(house.get("/auth/me", None).await.status, 401);
    })
    .await;
}

#[tokio::test]
async fn names_that_look_alike_are_refused_or_the_same() {
    House::on_both(async |house| {
        let admin = house.admin_session().await.text("access_token");
        let make = async |email: &str, username: Option<&str>| {
            let new = json!({ "email": email, "username": username });
            house.post("/users", Some(&admin), new).await
        };
        let ann = make("ann@b\u{fc}cher.example", Some("ann.lee")).await;
        assert_eq!(ann.status, 201, "{ann:?}");
        for username in [
            "\u{430}nn.lee",
            "ann.l\u{435}e",
            "\u{ff41}nn.lee",
            "ann\u{200d}.lee",
            "\u{202e}eel.nna",
            "ann.lee\0",
            "Ann.Lee",
            "admin",
            "ann@lee",
        ] {
            let other = make("bob@example.com", Some(username)).await;
            assert!(matches!(other.status, 400 | 422), "{username:?}: {other:?}");
        }
        for email in [
            "ANN@b\u{fc}cher.example",
            " ann@b\u{fc}cher.example ",
            "ann@bu\u{308}cher.example",
            "ann@xn--bcher-kva.example",
            "ann@B\u{dc}CHER.example",
        ] {
            let other = make(email, None).await;
            assert_eq!(other.short(), (409, "conflict"), "{email:?}: {other:?}");
        }
        for email in [
            "\u{430}nn@example.com",
            "ann\u{200b}@example.com",
            "ann@exam\u{202e}ple.com",
            "ann@example.com\u{feff}",
            "ann@@example.com",
            "ann@example.com,eve@example.com",
        ] {
            let other = make(email, None).await;
            assert_eq!(other.status, 422, "{email:?}: {other:?}");
        }
        // A letter that is typed in two ways is one, and one that only looks the same is not.
        let (composed, decomposed) = (
            "z\u{e9}bres verts en rang 7",
            "ze\u{301}bres verts en rang 7",
        );
        let new = json!({ "email": "zoe@example.com", "password": composed });
        let zoe = house.post("/users", Some(&admin), new).await;
        assert_eq!(zoe.status, 201, "{zoe:?}");
        let session = house.login("zoe@example.com", decomposed).await;
        assert_eq!(session.status, 200, "{session:?}");
        let other = house.login("zo\u{435}@example.com", composed).await;
        assert_eq!(other.short(), (401, "invalid_credentials"));
    })
    .await;
}

#[tokio::test]
async fn headers_and_fields_inject_nothing() {
    House::with_mail(&[("DOTMAC_ACCOUNTS_REGISTRATION", "open")], async |house| {
        // A link leads to the public address, whatever host the request names.
        let ask = json!({ "email": ADMIN });
        let forged = [
            ("host", "evil.example"),
            ("x-forwarded-host", "evil.example"),
            ("forwarded", "host=evil.example"),
        ];
        let path = "/auth/password/forgot";
        let asked = house
            .send(0, Method::POST, path, None, Some(ask), &forged)
            .await;
        assert_eq!(asked.status, 202, "{asked:?}");
        let mail = house.mail("accounts.password_reset", ADMIN, 1).await;
        assert!(!mail.to_string().contains("evil.example"), "{mail}");

        let broken = "Ann\r\nBcc: eve@example.com";
        let admin = house.login(ADMIN, PASSWORD).await.text("access_token");
        for (path, body) in [
            (
                "/auth/register",
                json!({ "email": "a@example.com\r\nBcc: eve@example.com" }),
            ),
            (
                "/auth/register",
                json!({ "email": "a@example.com", "full_name": broken }),
            ),
            (
                "/auth/magic-link",
                json!({ "email": "a@example.com\nBcc: eve@example.com" }),
            ),
            (
                "/auth/login",
                json!({
                    "identifier": ADMIN, "password": PASSWORD, "mode": "cookie", "device_name": broken
                }),
            ),
            ("/users", json!({ "email": "b@example.com", "full_name": broken })),
            ("/service-accounts", json!({ "name": broken })),
            (
                "/api-keys",
                json!({ "name": broken, "scopes": ["accounts.users.read"] }),
            ),
        ] {
            let answer = house.post(path, Some(&admin).filter(|_| !path.starts_with("/auth")).map(String::as_str), body).await;
            assert_eq!(answer.short(), (422, "validation"), "{path}: {answer:?}");
            assert!(!answer.headers.contains_key("bcc"), "{path}");
        }
        let text = serde_json::to_string(&house.mails()).unwrap();
        assert!(!text.contains("eve@example.com"), "{text}");
    })
    .await;
}

#[tokio::test]
async fn asking_for_mails_and_registering_are_answered_with_the_same_bytes() {
    let settings = [("DOTMAC_ACCOUNTS_REGISTRATION", "open")];
    House::with_mail(&settings, async |house| {
        for path in [
            "/auth/password/forgot",
            "/auth/magic-link",
            "/auth/code",
            "/auth/email/resend",
            "/auth/register",
        ] {
            let known = house.post(path, None, json!({ "email": ADMIN })).await;
            let unknown = json!({ "email": "nobody@example.com" });
            let unknown = house.post(path, None, unknown).await;
            assert_eq!(known.status, 202, "{path}: {known:?}");
            assert_eq!(comparable(&known), comparable(&unknown), "{path}");
        }
        let wrong = async |email: &str| {
            let body = json!({ "email": email, "code": "00000000", "mode": "token" });
            house.post("/auth/code/confirm", None, body).await
        };
        let (known, unknown) = (wrong(ADMIN).await, wrong("nobody@example.com").await);
        assert_eq!(known.short(), (401, "invalid_credentials"));
        assert_eq!(comparable(&known), comparable(&unknown));
        let key = async |key: &str| {
            house
                .post("/keys/report", None, json!({ "key": key }))
                .await
        };
        let session = house.login(ADMIN, PASSWORD).await.text("access_token");
        let new = json!({ "name": "mine", "scopes": ["accounts.users.read"] });
        let made = house.post("/auth/me/api-keys", Some(&session), new).await;
        let (real, none) = (key(&made.text("key")).await, key("dmp_none").await);
        assert_eq!(comparable(&real), comparable(&none));
        let me = house.get("/auth/me", Some(&made.text("key"))).await;
        assert_eq!(me.short(), (401, "token_invalid"), "{me:?}");
        let mail = house.mail("accounts.api_key_reported", ADMIN, 1).await;
        // Its name is what whoever made it has chosen.
        let named = format!("dmp_{}", mail["data"]["key"].as_str().unwrap());
        assert_eq!(named, made.text("prefix"), "{mail}");
    })
    .await;
}
