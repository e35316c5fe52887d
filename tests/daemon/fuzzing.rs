//! Requests that schemathesis generates from the OpenAPI document: some of each route, valid and invalid ones. None may
//! be a failure of the server, and each answer is one that the document has.

use std::process::Command;

use serde_json::{Value, json};

use crate::support::{Daemon, Postgres, repository};

/// Requests of each route that are made up.
const EXAMPLES: &str = "3";

/// What is looked at in each answer. Those to a method that a route does not have are no concern of these runs.
const CHECKS: &str = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance,\
    response_headers_conformance";

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
    answers_as_it_names("sqlite:dotmac.db").await;
}

#[tokio::test]
async fn requests_that_are_made_of_the_document_have_the_answers_that_it_names_on_postgres() {
    let postgres = Postgres::start().await;
    answers_as_it_names(&postgres.url()).await;
}

async fn answers_as_it_names(database: &str) {
    let daemon = Daemon::builder()
        .env("DOTMAC_HTTP_REQUEST_TIMEOUT", "30s")
        .env("DOTMAC_DATABASE_URL", database)
        .spawn()
        .await;
    daemon.until("/ready", 200).await;
    let made = Daemon::builder()
        .env("DOTMAC_DATABASE_URL", database)
        .run_in(
            daemon.directory(),
            &[
                "user",
                "create-admin",
                "--email",
                "admin@example.com",
                "--json",
            ],
        )
        .await;
    let line = made.lines.iter().find(|line| line.contains("\"token\""));
    let line = line.unwrap_or_else(|| panic!("exit code {}: {:#?}", made.code, made.lines));
    let made: Value = serde_json::from_str(line).unwrap();
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
        let said = generated(&daemon, Some(token), &[option, &paths]).await;
        if option == "--include-path-regex" {
            assert!(!said.contains(" 0 selected"), "{said}");
        } else {
            // Else requests would have been refused for their credentials alone.
            let url = format!("{}/api/v1/auth/me", daemon.base);
            let me = daemon.client.get(url).bearer_auth(token).send().await;
            assert_eq!(me.unwrap().status(), 200, "{said}");
        }
    }
    generated(&daemon, None, &[]).await;
    assert_eq!(daemon.get("/health").await.status(), 200);
}

/// What the generator says of its requests to the routes that `selected` names, with or without a token.
async fn generated(daemon: &Daemon, token: Option<&str>, selected: &[&str]) -> String {
    let program = repository().join("target/tools/proofs/bin/schemathesis");
    assert!(program.exists(), "schemathesis is missing: run tests/setup");
    let mut command = Command::new(program);
    command
        .args(["--no-color", "run"])
        .arg(format!("{}/openapi.json", daemon.base))
        .args(["--url", &daemon.base])
        .args(["--phases", "fuzzing", "--max-examples", EXAMPLES])
        .args(["--seed", "1", "--generation-deterministic"])
        .args(["--checks", CHECKS])
        .args(selected)
        .args(["--continue-on-failure"])
        .args(["--request-timeout", "30", "--workers", "2"])
        .current_dir(daemon.directory());
    if let Some(token) = token {
        command.args(["--header", &format!("authorization: Bearer {token}")]);
        // A made-up API key or cookie beside it would have each request refused as ambiguous.
        command.args(["--generation-with-security-parameters", "false"]);
    }
    let tested = tokio::task::spawn_blocking(move || command.output().unwrap());
    let tested = tested.await.unwrap();
    let said = String::from_utf8_lossy(&tested.stdout).into_owned();
    assert!(tested.status.success(), "{said}");
    said
}
