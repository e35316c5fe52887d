//! The service from outside: the real program on both back ends, and without its database.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use dotmac_testkit::{Daemon, Postgres, daemon::Builder, eventually};
use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};

/// The program with the database at `url`.
fn notes(url: &str) -> Builder {
    Daemon::program(env!("CARGO_BIN_EXE_notes").into())
        .env("DOTMAC_DATABASE_URL", url)
        .env("DOTMAC_NOTES_TOKEN", "correct-horse")
}

fn request(to: &Daemon, method: Method, path: &str) -> RequestBuilder {
    let url = format!("{}/api/v1/notes{path}", to.base);
    to.client.request(method, url).bearer_auth("correct-horse")
}

/// Status and JSON of the answer.
async fn answer(request: RequestBuilder) -> (u16, Value) {
    let answer = request.send().await.unwrap();
    let status = answer.status().as_u16();
    (status, answer.json().await.unwrap_or_default())
}

async fn tour(daemon: &Daemon) {
    let add = |note: Value| answer(request(daemon, Method::POST, "").json(&note));
    let get = |path: &str| answer(request(daemon, Method::GET, path));
    daemon.until("/ready", 200).await;

    let (status, note) = add(json!({ "text": "Buy milk", "tags": ["home", "home", "a"] })).await;
    assert_eq!((status, &note["tags"]), (201, &json!(["a", "home"])));
    let path = format!("/{}", note["id"].as_str().unwrap());
    assert_eq!(get(&path).await, (200, note.clone()));
    let all = json!({ "items": [note], "next_cursor": null });
    assert_eq!(get("").await, (200, all));
    assert_eq!(get("?sort=text").await.1["code"], "invalid_query");

    let (status, problem) = add(json!({ "text": "x".repeat(21) })).await;
    assert_eq!((status, &problem["code"]), (422, &"note_too_long".into()));
    assert_eq!(daemon.get("/api/v1/notes").await.status(), 401);

    let deleted = answer(request(daemon, Method::DELETE, &path)).await;
    assert_eq!((deleted.0, get(&path).await.0), (204, 404));
    add(json!({ "text": "old soon" })).await;
    eventually("the worker to delete it", || async {
        (get("").await.1["items"] == json!([])).then_some(())
    })
    .await;
}

#[tokio::test]
async fn notes_are_kept_found_deleted_and_swept_on_both_back_ends() {
    let postgres = Postgres::start().await;
    for url in ["sqlite:dotmac.db", &postgres.url()] {
        let notes = notes(url)
            .env("DOTMAC_NOTES_MAX_LENGTH", 20)
            .env("DOTMAC_NOTES_KEEP", "10s")
            .env("DOTMAC_NOTES_SWEEP_INTERVAL", "200ms");
        tour(&notes.spawn().await).await;
    }
}

#[tokio::test]
async fn an_outage_of_the_database_fails_requests_at_once_and_ends_with_it() {
    let mut postgres = Postgres::start().await;
    let daemon = notes(&postgres.url()).spawn().await;
    daemon.until("/ready", 200).await;

    postgres.kill().await;
    daemon.until_component("db", "unavailable", None).await;
    let (status, problem) = answer(request(&daemon, Method::GET, "")).await;
    assert_eq!(status, 503, "{problem}");
    assert_eq!(daemon.get("/health").await.status(), 200);

    postgres.restart().await;
    daemon.until("/ready", 200).await;
    assert_eq!(answer(request(&daemon, Method::GET, "")).await.0, 200);
    assert_eq!(daemon.stop().await.code, 0);
}
