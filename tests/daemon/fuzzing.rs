//! Requests that schemathesis generates from the OpenAPI document: some of each route, valid and invalid ones. None may
//! be a failure of the server, and each answer is one that the document has.

use std::process::Command;

use serde_json::{Value, json};

use crate::{
    accounts::run,
    support::{Daemon, repository},
};

/// Requests of each route that are made up.
const EXAMPLES: &str = "3";

/// Routes that can end the session of their caller: each has a run and a session of its own. The generator learns ids from
/// answers, so what ends a session by its id, or by that of its user, is one of them.
const ENDING: [&str; 5] = [
    "/auth/logout$",
    "/auth/logout-all$",
    "/auth/me/sessions/",
    "/auth/switch-tenant$",
    "/sign-out$",
];

#[tokio::test]
async fn requests_that_are_made_of_the_document_have_the_answers_that_it_names() {
    let daemon = Daemon::builder()
        .env("DOTMAC_HTTP_REQUEST_TIMEOUT", "30s")
        .spawn()
        .await;
    daemon.until("/ready", 200).await;
    let made = run(
        "dotmac user create-admin --email admin@example.com --json",
        daemon.directory(),
    );
    let made: Value = serde_json::from_str(&made).unwrap();
    let password = "seven green boxes in a row";
    let post = async |path: &str, body: Value| {
        let url = format!("{}/api/v1{path}", daemon.base);
        daemon.client.post(url).json(&body).send().await.unwrap()
    };
    let reset = json!({ "token": made["token"], "password": password });
    assert_eq!(post("/auth/password/reset", reset).await.status(), 204);
    let login = json!({ "identifier": "admin@example.com", "password": password, "mode": "token" });
    let others = ("--exclude-path-regex", ENDING.join("|"));
    let only = ENDING.map(|path| ("--include-path-regex", path.to_owned()));
    let runs = std::iter::once(others).chain(only);
    for (option, paths) in runs {
        let session = post("/auth/login", login.clone()).await;
        let session: Value = session.json().await.unwrap();
        let token = session["access_token"].as_str().unwrap();
        let said = generated(&daemon, token, &[option, &paths]).await;
        if option == "--include-path-regex" {
            assert!(!said.contains(" 0 selected"), "{said}");
        } else {
            // Else requests would have been refused for their credentials alone.
            let url = format!("{}/api/v1/auth/me", daemon.base);
            let me = daemon.client.get(url).bearer_auth(token).send().await;
            assert_eq!(me.unwrap().status(), 200, "{said}");
        }
    }
    assert_eq!(daemon.get("/health").await.status(), 200);
}

/// What the generator says of its requests to the routes that `selected` names.
async fn generated(daemon: &Daemon, token: &str, selected: &[&str]) -> String {
    let program = repository().join("target/tools/proofs/bin/schemathesis");
    assert!(program.exists(), "schemathesis is missing: run tests/setup");
    let mut command = Command::new(program);
    command
        .args(["--no-color", "run"])
        .arg(format!("{}/openapi.json", daemon.base))
        .args(["--url", &daemon.base])
        .arg("--header")
        .arg(format!("authorization: Bearer {token}"))
        .args(["--phases", "fuzzing", "--max-examples", EXAMPLES])
        .args(["--seed", "1", "--generation-deterministic"])
        .args(["--checks", "not_a_server_error,status_code_conformance"])
        .args(selected)
        .args(["--continue-on-failure"])
        .args(["--request-timeout", "30", "--workers", "2"])
        .current_dir(daemon.directory());
    let tested = tokio::task::spawn_blocking(move || command.output().unwrap());
    let tested = tested.await.unwrap();
    let said = String::from_utf8_lossy(&tested.stdout).into_owned();
    assert!(tested.status.success(), "{said}");
    said
}
