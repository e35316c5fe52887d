//! The event log through the daemon: `examples/notes` emits, `examples/tenants` has several tenants.

pub mod faults;

use std::collections::BTreeSet;

use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};

use crate::{
    notes::{NOTES, TOKEN, notes},
    page,
    support::{Daemon, Postgres, daemon::Builder, eventually},
};

const EVENTS: &str = "/api/v1/events";
pub const ONE: &str = "00000000-0000-0000-0000-000000000001";
pub const OTHER: &str = "00000000-0000-0000-0000-000000000002";

/// A client of a daemon with its token.
#[derive(Clone, Copy)]
pub struct Client<'d> {
    pub daemon: &'d Daemon,
    pub token: &'d str,
}

impl Client<'_> {
    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let url = format!("{}{path}", self.daemon.base);
        self.daemon
            .client
            .request(method, url)
            .bearer_auth(self.token)
    }

    pub async fn get(&self, path: &str) -> (u16, Value) {
        served(|| self.request(Method::GET, path)).await
    }

    pub async fn post(&self, path: &str, body: Value) -> (u16, Value) {
        served(|| self.request(Method::POST, path).json(&body)).await
    }

    /// All events that it can see, page by page.
    /// The status of a `DELETE` of what was seen with this tag.
    pub async fn delete(&self, path: &str, tag: Option<&str>) -> u16 {
        let request = self.request(Method::DELETE, path);
        let request = tag
            .into_iter()
            .fold(request, |it, tag| it.header("if-match", tag));
        answer(request).await.0
    }

    async fn events(&self, query: &str) -> Vec<Value> {
        let (mut events, mut cursor) = (Vec::new(), String::new());
        loop {
            let (status, page) = self
                .get(&format!("{EVENTS}?limit=200{query}{cursor}"))
                .await;
            assert_eq!(status, 200, "{page}");
            events.extend(page["items"].as_array().unwrap().iter().cloned());
            match page["next_cursor"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => return events,
            }
        }
    }

    /// The same once it sees so many.
    async fn until(&self, query: &str, count: usize) -> Vec<Value> {
        eventually(&format!("{count} events"), || async {
            let events = self.events(query).await;
            (events.len() == count).then_some(events)
        })
        .await
    }
}

/// The answer once it is none of a database that is away, as a loaded machine may have it for a moment; nothing was done
/// then.
pub async fn served(request: impl Fn() -> RequestBuilder) -> (u16, Value) {
    eventually("an answer", || async {
        let answered = answer(request()).await;
        (answered.0 != 503).then_some(answered)
    })
    .await
}

pub async fn answer(request: RequestBuilder) -> (u16, Value) {
    let answer = request.send().await.unwrap();
    let status = answer.status().as_u16();
    (status, answer.json().await.unwrap_or_default())
}

pub fn tenants(url: &str) -> Builder {
    Daemon::example("tenants").env("DOTMAC_DATABASE_URL", url)
}

/// One or two instances on a database: SQLite has one.
pub async fn instances(builder: impl Fn() -> Builder, url: &str) -> Vec<Daemon> {
    let count = if url.starts_with("sqlite") { 1 } else { 2 };
    let mut daemons = Vec::new();
    for _ in 0..count {
        let daemon = builder().spawn().await;
        daemon.until("/ready", 200).await;
        daemons.push(daemon);
    }
    daemons
}

pub fn problem(answer: &(u16, Value)) -> (u16, &str, &str) {
    let text = |value: &'_ Value| value.as_str().unwrap_or_default().to_owned();
    let field = text(&answer.1["errors"][0]["field"]);
    (
        answer.0,
        answer.1["code"].as_str().unwrap_or_default(),
        field.leak(),
    )
}

#[tokio::test]
async fn tenants_have_events_of_their_own_and_see_no_others_on_both_back_ends() {
    let postgres = Postgres::start().await;
    for url in ["sqlite:dotmac.db".to_owned(), postgres.url()] {
        let daemons = instances(|| tenants(&url), &url).await;
        let (first, last) = (&daemons[0], daemons.last().unwrap());
        let client = |daemon, token| Client { daemon, token };
        let (one, other) = (client(first, ONE), client(last, OTHER));

        let order =
            json!({"type": "custom.order.paid.v1", "subject": "orders/7", "data": {"cents": 4200}});
        let (status, event) = one.post(EVENTS, order).await;
        assert_eq!(status, 201, "{event}");
        let id = event["id"].as_str().unwrap();
        for (field, value) in [
            ("specversion", json!("1.0")),
            ("source", json!("/custom")),
            ("type", json!("custom.order.paid.v1")),
            ("subject", json!("orders/7")),
            ("datacontenttype", json!("application/json")),
            ("data", json!({"cents": 4200})),
            ("tenantid", json!(ONE)),
            ("actor", json!(format!("user:{ONE}"))),
        ] {
            assert_eq!(event[field], value, "{event}");
        }
        other
            .post(EVENTS, json!({"type": "custom.greeting.sent.v1"}))
            .await;

        // Each sees its own, on whichever instance.
        let seen = client(last, ONE).until("", 1).await;
        assert_eq!(seen, std::slice::from_ref(&event));
        let theirs = client(first, OTHER).until("", 1).await;
        assert_eq!(theirs[0]["subject"], "custom.greeting.sent.v1");
        let path = format!("{EVENTS}/{id}");
        assert_eq!(client(last, ONE).get(&path).await, (200, event.clone()));
        for (who, path) in [
            (other, path.as_str()),
            (
                one,
                &format!("{EVENTS}/01a20636-b121-751a-810f-0b072ab9afed"),
            ),
        ] {
            let refused = who.get(path).await;
            assert_eq!(problem(&refused), (404, "event_not_found", ""));
        }
        assert_eq!(first.get(EVENTS).await.status(), 401);

        // Filters, places and pages.
        for n in 0..3 {
            let body = json!({"type": "custom.order.sent.v2", "subject": "orders/7", "data": n});
            assert_eq!(one.post(EVENTS, body).await.0, 201);
        }
        let all = one.until("", 4).await;
        let sequences: Vec<_> = all.iter().map(|it| it["sequence"].as_str()).collect();
        assert!(sequences.is_sorted(), "{sequences:?}");
        for (query, count) in [
            ("&type=custom.order.sent.v2", 3),
            ("&type=custom.order.paid.v1,custom.order.sent.v2", 4),
            ("&type=custom.order.paid.v2", 0),
            ("&subject=orders/7", 4),
            ("&subject=orders/8", 0),
            (
                &format!("&after={}", event["sequence"].as_str().unwrap()),
                3,
            ),
        ] {
            assert_eq!(one.events(query).await.len(), count, "{query}");
        }
        let (_, page) = one.get(&format!("{EVENTS}?limit=3")).await;
        let cursor = page["next_cursor"].as_str().unwrap();
        for by in ["cursor", "after"] {
            let (_, rest) = one.get(&format!("{EVENTS}?{by}={cursor}")).await;
            assert_eq!(rest, json!({ "items": [all[3]], "next_cursor": null }));
            let refused = other.get(&format!("{EVENTS}?{by}={cursor}")).await;
            assert_eq!(problem(&refused), (400, "invalid_cursor", by));
        }
    }
}

#[tokio::test]
async fn what_is_no_event_or_no_query_is_refused_by_name() {
    let daemon = Daemon::example("tenants").spawn().await;
    daemon.until("/ready", 200).await;
    let client = Client {
        daemon: &daemon,
        token: ONE,
    };
    for (query, code, field) in [
        ("?sort=-time", "invalid_query", "sort"),
        ("?kind=note.added.v1", "invalid_query", "kind"),
        ("?type=note.added", "invalid_query", "type"),
        ("?type=", "invalid_query", "type"),
        ("?subject=", "invalid_query", "subject"),
        ("?limit=0", "invalid_query", "limit"),
        ("?limit=201", "invalid_query", "limit"),
        ("?limit=many", "invalid_query", "limit"),
        ("?after=yesterday", "invalid_cursor", "after"),
        ("/nonsense", "invalid_path", "id"),
    ] {
        let refused = client.get(&format!("{EVENTS}{query}")).await;
        assert_eq!(problem(&refused), (400, code, field), "{query} {refused:?}");
    }
    let large = "x".repeat(64 * 1024);
    for (body, status, code, field) in [
        (json!({"type": "note.added.v1"}), 422, "validation", "type"),
        (json!({"type": "custom.paid"}), 422, "validation", "type"),
        (
            json!({"type": "custom.a.v1", "subject": ""}),
            422,
            "validation",
            "subject",
        ),
        (
            json!({"type": "custom.a.v1", "subject": "a\nb"}),
            422,
            "validation",
            "subject",
        ),
        (
            json!({"type": "custom.a.v1", "data": large}),
            413,
            "event_too_large",
            "data",
        ),
        (
            json!({"type": "custom.a.v1", "payload": 1}),
            400,
            "unknown_fields",
            "payload",
        ),
        (json!({"data": 1}), 400, "invalid_body", "type"),
    ] {
        let refused = client.post(EVENTS, body).await;
        assert_eq!(problem(&refused), (status, code, field), "{refused:?}");
    }
    let both = client
        .post(EVENTS, json!({"type": "", "subject": ""}))
        .await;
    assert_eq!(
        both.1["errors"].as_array().map(Vec::len),
        Some(2),
        "{both:?}"
    );

    // Once, however often it is sent.
    let once = |data: i32| {
        let request = client.request(Method::POST, EVENTS);
        let body = json!({"type": "custom.a.v1", "data": data});
        answer(request.header("idempotency-key", "k").json(&body))
    };
    let (first, again, other) = (once(1).await, once(1).await, once(2).await);
    assert_eq!((first.0, &first), (201, &again));
    assert_eq!(problem(&other).1, "idempotency_mismatch");
    client.until("", 1).await;
}

async fn add(client: Client<'_>, text: &str, tags: &[&str]) -> (u16, Value) {
    client
        .post(NOTES, json!({ "text": text, "tags": tags }))
        .await
}

/// How often each tag was given, as the notes' subscriber has counted it.
async fn tags(client: Client<'_>) -> Value {
    let (status, tags) = client.get(&format!("{NOTES}/tags")).await;
    assert_eq!(status, 200, "{tags}");
    tags["items"].clone()
}

#[tokio::test]
async fn a_note_has_its_event_and_what_follows_and_one_that_is_refused_has_none() {
    let postgres = Postgres::start().await;
    for url in ["sqlite:dotmac.db".to_owned(), postgres.url()] {
        let notes = || {
            notes()
                .env("DOTMAC_DATABASE_URL", &url)
                .env("DOTMAC_NOTES_MAX_LENGTH", 20)
        };
        let daemons = instances(notes, &url).await;
        let clients: Vec<_> = daemons
            .iter()
            .map(|daemon| Client {
                daemon,
                token: TOKEN,
            })
            .collect();
        let (first, last) = (clients[0], *clients.last().unwrap());
        let mut added = BTreeSet::new();
        for n in 0..6 {
            let (status, note) = add(clients[n % clients.len()], "Buy milk", &["home", "a"]).await;
            assert_eq!(status, 201, "{note}");
            added.insert(note["id"].as_str().unwrap().to_owned());
            let refused = add(clients[n % clients.len()], &"x".repeat(21), &["home"]).await;
            assert_eq!(refused.0, 422, "{refused:?}");
        }
        let events = last.until("&type=note.added.v1", 6).await;
        let noted: BTreeSet<_> = events
            .iter()
            .map(|it| it["data"]["note"].as_str().unwrap().to_owned())
            .collect();
        assert_eq!(noted, added);
        assert!(
            events.iter().all(|it| it["source"] == "/note"),
            "{events:?}"
        );
        let counted =
            |count: u32| json!([{"tag": "a", "notes": count}, {"tag": "home", "notes": count}]);
        eventually("the subscriber to count", || async {
            (tags(first).await == counted(6)).then_some(())
        })
        .await;

        // Sent back it counts everything once more.
        let path = format!("{EVENTS}/subscribers/notes.tags/rewind");
        let (status, sent) = first.post(&path, json!({ "to": "beginning" })).await;
        assert_eq!(
            (status, &sent["name"]),
            (200, &json!("notes.tags")),
            "{sent}"
        );
        eventually("the subscriber to count again", || async {
            (tags(last).await == counted(12)).then_some(())
        })
        .await;
        let behind = json!({ "to": events[4]["sequence"] });
        assert_eq!(last.post(&path, behind).await.0, 200);
        eventually("the subscriber to count the last one", || async {
            (tags(last).await == counted(13)).then_some(())
        })
        .await;
        let wrong = first.post(&path, json!({ "to": "yesterday" })).await;
        assert_eq!(problem(&wrong), (422, "validation", "to"));
        let later = first
            .post(&path, json!({ "to": "2999-01-01T00:00:00Z" }))
            .await;
        assert_eq!(problem(&later), (422, "validation", "to"));
        let wrong = first.get(&format!("{EVENTS}?after=1")).await;
        assert_eq!(problem(&wrong), (400, "invalid_cursor", "after"));
        let retry = path.replace("/rewind", "/retry");
        assert_eq!(first.post(&retry, json!({})).await.0, 200);
        let nobody = format!("{EVENTS}/subscribers/nobody/rewind");
        let wrong = first.post(&nobody, json!({ "to": "beginning" })).await;
        assert_eq!(problem(&wrong), (404, "subscriber_not_found", ""));

        let (_, shown) = last.get(&format!("{EVENTS}/subscribers")).await;
        let shown = &shown["items"][0];
        for (field, value) in [
            ("name", json!("notes.tags")),
            ("module", json!("notes")),
            ("types", json!(["note.added.v1"])),
            ("state", json!("running")),
            ("held", json!(0)),
            ("parked", json!(0)),
        ] {
            assert_eq!(shown[field], value, "{shown}");
        }
    }
}

/// As retention leaves the log once it has deleted the first two events.
#[tokio::test]
async fn a_reader_that_has_missed_events_gets_410_and_no_list_with_a_gap() {
    let postgres = Postgres::start().await;
    let url = postgres.url();
    let daemons = instances(|| tenants(&url), &url).await;
    let client = |daemon, token| Client { daemon, token };
    let (one, other) = (client(&daemons[0], ONE), client(&daemons[1], ONE));
    for n in 0..4 {
        let body = json!({"type": "custom.order.sent.v2", "data": n});
        assert_eq!(one.post(EVENTS, body).await.0, 201);
    }
    let all = other.until("", 4).await;
    let sequence = |n: usize| all[n]["sequence"].as_str().unwrap();
    let second = all[1]["id"].as_str().unwrap();
    for sql in [
        format!(
            "UPDATE event_retention SET (xid, position) = (SELECT xid, position FROM event WHERE id = '{second}')"
        ),
        "DELETE FROM event USING event_retention AS gone \
         WHERE (event.xid, event.position) <= (gone.xid, gone.position)"
            .to_owned(),
    ] {
        postgres.query(&sql).await;
    }
    for client in [one, other] {
        let behind = format!("{EVENTS}?after={}", sequence(0));
        let refused = client.get(&behind).await;
        assert_eq!(
            problem(&refused),
            (410, "events_expired", ""),
            "{refused:?}"
        );
        // Nothing is missing behind the last one that was deleted, nor without `after`.
        for query in [format!("&after={}", sequence(1)), String::new()] {
            assert_eq!(client.events(&query).await, all[2..], "{query}");
        }
    }
    for daemon in daemons {
        assert_eq!(daemon.stop().await.code, 0);
    }
}

#[tokio::test]
async fn the_tour_of_the_page_is_as_it_says() {
    let page = "docs/services/events.md";
    let compared = page::tour(page, "A tour in ten minutes", |_| notes()).await;
    assert!(compared >= 11, "{compared}");
}
