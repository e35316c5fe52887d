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

/// Routes that would end the session that the others need.
const NOT_CALLED: &str = "/auth/logout";

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
    let session: Value = post("/auth/login", login).await.json().await.unwrap();
    let token = session["access_token"].as_str().unwrap();

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
        .args(["--exclude-path-regex", NOT_CALLED, "--continue-on-failure"])
        .args(["--request-timeout", "30", "--workers", "2"])
        .current_dir(daemon.directory());
    let tested = tokio::task::spawn_blocking(move || command.output().unwrap());
    let tested = tested.await.unwrap();
    let said = String::from_utf8_lossy(&tested.stdout);
    assert!(tested.status.success(), "{said}");
    assert_eq!(daemon.get("/health").await.status(), 200);
}
