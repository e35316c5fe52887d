//! The service from outside: the real program on both back ends.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use dotmac_testkit::{Daemon, Postgres, eventually};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

/// A request with the right token; status and JSON of the answer.
async fn ask(
    daemon: &Daemon,
    method: Method,
    path: &str,
    body: Option<Value>,
) -> (StatusCode, Value) {
    let request = daemon
        .client
        .request(method, format!("{}/api/v1/notes{path}", daemon.base))
        .bearer_auth("correct-horse");
    let request = match &body {
        Some(body) => request.json(body),
        None => request,
    };
    let answer = request.send().await.unwrap();
    (answer.status(), answer.json().await.unwrap_or_default())
}

async fn tour(daemon: &Daemon) {
    daemon.until("/ready", 200).await;
    let new = json!({ "text": "Buy milk", "tags": ["home", "home", "a"] });
    let (status, note) = ask(daemon, Method::POST, "", Some(new)).await;
    assert_eq!(
        (status, &note["tags"]),
        (StatusCode::CREATED, &json!(["a", "home"]))
    );
    let path = format!("/{}", note["id"].as_str().unwrap());
    assert_eq!(
        ask(daemon, Method::GET, &path, None).await,
        (StatusCode::OK, note.clone())
    );
    assert_eq!(ask(daemon, Method::GET, "", None).await.1, json!([note]));

    let (status, problem) = ask(
        daemon,
        Method::POST,
        "",
        Some(json!({ "text": "x".repeat(21) })),
    )
    .await;
    assert_eq!(
        (status.as_u16(), problem["code"].as_str()),
        (422, Some("note_too_long"))
    );
    assert_eq!(daemon.get("/api/v1/notes").await.status(), 401);

    assert_eq!(
        ask(daemon, Method::DELETE, &path, None).await.0,
        StatusCode::NO_CONTENT
    );
    assert_eq!(
        ask(daemon, Method::GET, &path, None).await.0,
        StatusCode::NOT_FOUND
    );
    ask(
        daemon,
        Method::POST,
        "",
        Some(json!({ "text": "old soon" })),
    )
    .await;
    eventually("the worker to delete it", || async {
        (ask(daemon, Method::GET, "", None).await.1 == json!([])).then_some(())
    })
    .await;
}

#[tokio::test]
async fn notes_are_kept_found_deleted_and_swept_on_both_back_ends() {
    let postgres = Postgres::start().await;
    for url in ["sqlite:dotmac.db".to_owned(), postgres.url()] {
        let daemon = Daemon::program(env!("CARGO_BIN_EXE_notes").into())
            .env("DOTMAC_DATABASE_URL", url)
            .env("DOTMAC_NOTES_TOKEN", "correct-horse")
            .env("DOTMAC_NOTES_MAX_LENGTH", 20)
            .env("DOTMAC_NOTES_KEEP", "10s")
            .env("DOTMAC_NOTES_SWEEP_INTERVAL", "200ms");
        tour(&daemon.spawn().await).await;
    }
}
