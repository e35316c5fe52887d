//! Its own program on the platform: it is known by its own name and version, and each of its commands sees each of
//! its modules. None but `serve` starts the daemon.

use crate::{
    notes::notes,
    support::{
        Daemon, Postgres,
        collector::Collector,
        daemon::{Builder, Stopped},
    },
};

fn greeter() -> Builder {
    Daemon::example("greeter")
}

/// Runs `notes` with `arguments`; it must end by itself, with the exit code `code` and without having served.
async fn ends(arguments: &[&str], code: i32) -> Stopped {
    let stopped = notes().run(arguments).await;
    let text = stopped.text();
    assert_eq!(stopped.code, code, "{arguments:?}: {text}");
    assert!(!text.contains("listening on"), "{arguments:?}: {text}");
    stopped
}

#[tokio::test]
async fn a_program_shows_its_own_name_and_version_everywhere() {
    let collector = Collector::start().await;
    let endpoint = collector.endpoint();
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("admin.sock");
    let daemon = greeter()
        .env("DOTMAC_TELEMETRY_OTLP_ENDPOINT", endpoint)
        .env("DOTMAC_ADMIN_SOCKET", socket.display())
        .spawn()
        .await;
    daemon.until("/ready", 200).await;
    for path in ["/", "/health"] {
        let body = daemon.json(path).await.1;
        assert_eq!(
            (&body["name"], &body["version"]),
            (&"greeter".into(), &"1.0.0".into()),
            "{path}"
        );
    }
    let document = daemon.json("/openapi.json").await.1;
    let info = &document["info"];
    assert_eq!(
        (&info["title"], &info["version"]),
        (&"greeter".into(), &"1.0.0".into())
    );
    let build = r#"dotmac_build_info{program="greeter",version="1.0.0"}"#;
    assert_eq!(daemon.metric(build).await, Some(1.0));
    for arguments in [["--version", ""], ["status", "--socket"]] {
        let socket = socket.display().to_string();
        let arguments = match arguments {
            ["status", option] => vec!["status", option, &socket],
            [only, _] => vec![only],
        };
        let shown = greeter().run(&arguments).await.text();
        assert!(shown.starts_with("greeter 1.0.0"), "{shown}");
    }
    assert_eq!(daemon.stop().await.code, 0);
    for attribute in ["service.name: Str(greeter)", "service.version: Str(1.0.0)"] {
        collector.got(attribute).await;
    }
    assert!(!collector.text().contains("dotmac-platform"));
}

#[tokio::test]
async fn the_name_of_a_program_is_the_default_of_its_app_name() {
    let config = greeter().run(&["config", "--format", "env"]).await.text();
    assert!(!config.contains("dotmac-platform"), "{config}");
    let documented = greeter()
        .run(&["config", "--format", "markdown"])
        .await
        .text();
    assert!(
        documented.contains("| `DOTMAC_APP_NAME` | `greeter` |"),
        "{documented}"
    );
    let named = greeter().env("DOTMAC_APP_NAME", "hello").spawn().await;
    let names = [named.json("/").await.1, named.json("/health").await.1];
    assert_eq!(names.map(|body| body["name"].clone()), ["hello", "hello"]);
    assert_eq!(
        named.json("/openapi.json").await.1["info"]["title"],
        "hello"
    );
}

#[tokio::test]
async fn help_and_unknown_words_never_start_the_daemon() {
    for help in [
        &["--help"][..],
        &["help"],
        &["help", "notes"],
        &["serve", "--help"],
        &["migrate", "--help"],
        &["notes", "--help"],
        &["notes", "count", "--help"],
    ] {
        let shown = ends(help, 0).await.text();
        assert!(shown.contains("Usage: notes"), "{help:?}: {shown}");
    }
    for wrong in [
        &["dance"][..],
        &["serve", "now"],
        &["migrate", "sideways"],
        &["notes"],
        &["notes", "dance"],
        &["--dance"],
    ] {
        ends(wrong, 64).await;
    }
}

#[tokio::test]
async fn every_command_sees_every_module() {
    let listed = ends(&["--help"], 0).await.text();
    assert!(
        listed.contains("notes        Short texts with tags"),
        "{listed}"
    );
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let completions = ends(&["completions", shell], 0).await.text();
        assert!(
            completions.contains("How many notes there are") || shell == "bash",
            "{shell}"
        );
        assert!(completions.contains("count"), "{shell}: {completions}");
    }
    let document = ends(&["openapi"], 0).await.text();
    assert!(document.contains("/api/v1/notes/{id}"), "{document}");
    ends(&["check"], 0).await;
    let refused = notes()
        .env("DOTMAC_NOTES_KEEP", "never")
        .run(&["check"])
        .await;
    assert_eq!(refused.code, 78, "{}", refused.text());
    assert!(
        refused.text().contains("DOTMAC_NOTES_KEEP"),
        "{}",
        refused.text()
    );
}

#[tokio::test]
async fn migrations_of_modules_are_run_and_shown_without_the_daemon() {
    let postgres = Postgres::start().await;
    let directory = tempfile::tempdir().unwrap();
    let file = format!("sqlite:{}", directory.path().join("notes.db").display());
    for url in [file, postgres.url()] {
        let run = async |builder: Builder, arguments: &[&str], code| {
            let stopped = builder
                .env("DOTMAC_DATABASE_URL", &url)
                .run(arguments)
                .await;
            assert_eq!(stopped.code, code, "{arguments:?}: {}", stopped.text());
            stopped.text()
        };
        let status = run(notes(), &["migrate", "status"], 1).await;
        assert!(status.contains("notes: 0 applied, 2 pending"), "{status}");
        let up = run(notes(), &["migrate", "up"], 0).await;
        assert!(up.contains("notes: 2 applied, 0 pending"), "{up}");
        run(notes(), &["migrate", "status"], 0).await;
        assert_eq!(run(notes(), &["notes", "count"], 0).await.trim(), "0");
        // A program without the module leaves its tables alone.
        let other = run(Daemon::builder(), &["migrate", "up"], 0).await;
        assert!(
            other.contains("notes: 2 applied, not part of this program"),
            "{other}"
        );
        let off = notes().env("DOTMAC_NOTES_ENABLED", "false");
        run(off, &["migrate", "status"], 0).await;
    }
}

#[tokio::test]
async fn a_module_that_is_off_is_mentioned_wherever_an_operator_looks() {
    let daemon = notes()
        .env("DOTMAC_NOTES_ENABLED", "false")
        .env("DOTMAC_ADMIN_SOCKET", "admin.sock")
        .spawn()
        .await;
    daemon.until("/ready", 200).await;
    let line = daemon.logged("module `notes` is switched off").await;
    assert_eq!(line["key"], "DOTMAC_NOTES_ENABLED", "{line}");
    for (command, says) in [
        ("status", "notes off DOTMAC_NOTES_ENABLED=false"),
        (
            "why",
            "module `notes` is switched off: DOTMAC_NOTES_ENABLED=false",
        ),
        (
            "check",
            "module `notes` is switched off: DOTMAC_NOTES_ENABLED=false",
        ),
        ("config", "DOTMAC_NOTES_ENABLED false"),
    ] {
        let said = notes()
            .env("DOTMAC_NOTES_ENABLED", "false")
            .env("DOTMAC_ADMIN_SOCKET", "admin.sock")
            .run_in(daemon.directory(), &[command])
            .await;
        assert_eq!(said.code, 0, "{}", said.text());
        // The columns are as wide as the longest name.
        let text = said.text();
        let words: Vec<&str> = text.split_whitespace().collect();
        assert!(words.join(" ").contains(says), "{command}: {text}");
    }
    assert_eq!(daemon.get("/api/v1/notes").await.status(), 404);
}

#[tokio::test]
async fn what_keeps_a_command_of_a_module_from_its_work_is_said_with_its_cause() {
    let postgres = Postgres::start().await;
    let on = |builder: Builder| builder.env("DOTMAC_DATABASE_URL", postgres.url());
    let before = on(notes()).run(&["notes", "count"]).await;
    assert_eq!(before.code, 69, "{}", before.text());
    let remedy = "the schema is not up to date: run `migrate up`, or start the daemon";
    assert!(before.text().contains(remedy), "{}", before.text());
    assert_eq!(on(notes()).run(&["migrate", "up"]).await.code, 0);
    assert_eq!(on(notes()).run(&["notes", "count"]).await.code, 0);
    postgres.query("DROP TABLE note CASCADE").await;
    let failed = on(notes()).run(&["notes", "count"]).await;
    assert_eq!(failed.code, 69, "{}", failed.text());
    let cause = "relation \"note\" does not exist";
    assert!(failed.text().contains(cause), "{}", failed.text());
}

#[tokio::test]
async fn a_command_that_panics_ends_with_70_and_names_its_module() {
    let stopped = Daemon::example("chaos").run(&["chaos", "panic"]).await;
    let text = stopped.text();
    assert_eq!(stopped.code, 70, "{text}");
    let said = "the command `chaos` panicked: asked to panic";
    assert!(text.contains(said), "{text}");
}

#[tokio::test]
async fn without_an_authenticator_a_guarded_route_answers_401() {
    // Accounts are the authenticator of the daemon.
    let daemon = Daemon::builder().without(&["accounts"]).spawn().await;
    daemon.until("/ready", 200).await;
    for (token, code) in [
        (None, "unauthenticated"),
        (Some("anything"), "unauthenticated"),
    ] {
        let request = daemon.client.get(format!("{}/api/v1/events", daemon.base));
        let request = token
            .into_iter()
            .fold(request, |request, token| request.bearer_auth(token));
        let answer = request.send().await.unwrap();
        assert_eq!(answer.status(), 401, "{token:?}");
        assert!(
            answer.headers().contains_key("www-authenticate"),
            "{token:?}"
        );
        let problem: serde_json::Value = answer.json().await.unwrap();
        assert_eq!(problem["code"], code, "{token:?}: {problem}");
    }
}
