//! Compares the documents with the code.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use dotmac_platform::REMEDIES;
use reqwest::Method;
use serde_json::Value;

use crate::{
    notes, page,
    support::{Daemon, OpenBao, PATIENCE, Postgres, eventually, files},
};

/// The names of metrics with the keys of their labels.
type Metrics = BTreeMap<String, BTreeSet<String>>;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(name: &str) -> String {
    fs::read_to_string(root().join(name)).unwrap()
}

/// The part of docs/operations.md below a heading.
fn section(heading: &str) -> String {
    let document = read("docs/operations.md");
    let (_, rest) = document
        .split_once(&format!("\n## {heading}"))
        .unwrap_or_else(|| panic!("docs/operations.md has no section {heading:?}"));
    rest.split("\n## ").next().unwrap().to_owned()
}

/// The words in backticks.
fn quoted(text: &str) -> impl Iterator<Item = String> + '_ {
    text.split('`').skip(1).step_by(2).map(str::to_owned)
}

#[test]
fn every_reason_in_the_code_is_explained_and_no_other() {
    let mut reasons = BTreeSet::new();
    let sources = files(&["actors", "platform/src", "services"], "rs");
    let is_product = |file: &&PathBuf| !file.components().any(|part| part.as_os_str() == "tests");
    for file in sources.iter().filter(is_product) {
        let text = fs::read_to_string(file).unwrap();
        let code = text.split("#[cfg(test)]").next().unwrap_or_default();
        let own = if file.ends_with("supervision/src/state/reason.rs") {
            "Self(\""
        } else {
            "Reason::new(\""
        };
        for line in code.lines().filter(|line| line.contains("const ")) {
            if let Some((_, word)) = line.split_once(own) {
                reasons.insert(word.split('"').next().unwrap().to_owned());
            }
        }
    }
    let explained: BTreeSet<String> = section("Reasons")
        .lines()
        .filter_map(|line| Some(line.strip_prefix("| `")?.split('`').next()?.to_owned()))
        .collect();
    assert!(reasons.len() > 20, "{reasons:?}");
    assert_eq!(explained, reasons);
}

#[test]
fn what_to_do_about_a_reason_is_the_same_in_the_documentation_and_in_dotmac_why() {
    let documented: BTreeMap<String, String> = section("Reasons")
        .lines()
        .filter_map(|line| {
            let (reason, rest) = line.strip_prefix("| `")?.split_once('`')?;
            let remedy = rest.trim_end_matches(" |").rsplit(" | ").next()?;
            Some((reason.to_owned(), remedy.to_owned()))
        })
        .collect();
    let printed: BTreeMap<String, String> = REMEDIES
        .iter()
        .map(|(reason, remedy)| ((*reason).to_owned(), (*remedy).to_owned()))
        .collect();
    assert_eq!(printed.len(), REMEDIES.len(), "a reason stands there twice");
    // Both are written by hand: a new reason needs its row in docs/operations.md and in
    // platform/src/cli/remedies.rs.
    assert_eq!(documented, printed);
    for (reason, remedy) in printed {
        let leads_away = remedy.contains("](") || remedy.contains("docs/");
        assert!(!remedy.is_empty() && !leads_away, "{reason}: {remedy}");
    }
}

#[test]
fn each_limit_that_is_a_setting_is_listed_with_its_default() {
    let settings = read("docs/settings.md");
    let default_of = |key: &str| {
        let row = format!("| `{key}` | ");
        let line = settings.lines().find_map(|line| line.strip_prefix(&row));
        let line = line.unwrap_or_else(|| panic!("docs/settings.md has no {key}"));
        line.split(" | ").next().unwrap().replace(['`', ' '], "")
    };
    let section = section("Under attack");
    let rows = section.lines().filter(|line| line.starts_with("| "));
    let mut listed = BTreeSet::new();
    for row in rows {
        let cells: Vec<&str> = row.split(" | ").collect();
        let [limit, value, ..] = cells[..] else {
            panic!("{row}");
        };
        let keys = quoted(limit).chain(quoted(value));
        for key in keys.filter(|word| word.starts_with("DOTMAC_")) {
            let default = default_of(&key);
            if default != "–" {
                assert!(
                    value.replace(' ', "").contains(&default),
                    "{default}: {row}"
                );
            }
            listed.insert(key);
        }
    }
    let limits = settings.lines().filter_map(|line| {
        let key = line.strip_prefix("| `")?.split('`').next()?;
        let groups = ["DOTMAC_HTTP_", "DOTMAC_DATABASE_", "DOTMAC_EGRESS_"];
        let is_limit = [
            "_TIMEOUT",
            "_LIMIT",
            "_MAX_CONNECTIONS",
            "_KEEP_ALIVE",
            "_PER_ADDRESS",
            "_POOL_SIZE",
            "_PER_HOST",
            "_CONCURRENCY",
        ];
        let is_limit = is_limit.iter().any(|end| key.ends_with(end));
        let is_in_group = groups.iter().any(|start| key.starts_with(start));
        (is_in_group && is_limit).then(|| key.to_owned())
    });
    for key in limits {
        assert!(
            listed.contains(&key),
            "docs/operations.md, \"Under attack\", lacks {key}"
        );
    }
}

/// The rows of the table in docs/operations.md; a row may name several metrics.
fn documented_metrics() -> Metrics {
    let mut documented = Metrics::new();
    for row in section("Metrics").lines() {
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        if let ["", names, labels, _, ""] = cells.as_slice() {
            documented.extend(quoted(names).map(|name| (name, quoted(labels).collect())));
        }
    }
    documented
}

/// The metrics of a scrape.
fn scraped_metrics(scrape: &str) -> Metrics {
    let mut scraped = Metrics::new();
    let mut name = "";
    for line in scrape.lines() {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            name = rest.split(' ').next().unwrap();
            scraped.entry(name.to_owned()).or_default();
        } else if let Some((_, labels)) = line
            .strip_prefix(name)
            .and_then(|series| series.split_once('{'))
        {
            // No value of ours has a quotation mark in it: keys stand before each `="`.
            let keys = labels
                .split("=\"")
                .filter_map(|text| text.rsplit([',', '{']).next());
            let keys = keys.filter(|key| !key.contains(['"', '}']) && *key != "le");
            scraped
                .get_mut(name)
                .unwrap()
                .extend(keys.map(str::to_owned));
        }
    }
    scraped
}

#[tokio::test]
async fn every_metric_is_explained_with_its_labels_and_no_other() {
    let daemon = Daemon::example("greeter").spawn().await;
    daemon.until("/ready", 200).await;
    // Something to measure: a route, a call to an actor, an error.
    assert_eq!(daemon.get("/api/v1/greet/Ada").await.status(), 200);
    assert_eq!(
        daemon
            .request(Method::POST, "/api/v1/greet/Ada")
            .await
            .status(),
        405
    );
    // Some things are measured a moment later than they happen.
    let documented = documented_metrics();
    let (leases, notes, accounts, webhooks, notifications, stored) = tokio::join!(
        metrics_of_leases(),
        metrics_of_notes(),
        metrics_of_accounts(),
        metrics_of_webhooks(),
        metrics_of_notifications(),
        metrics_of_files()
    );
    let workers = metrics_of_workers().await;
    let begun = Instant::now();
    let mut scraped = Metrics::new();
    while scraped != documented && begun.elapsed() < PATIENCE {
        let text = daemon.get("/metrics").await.text().await.unwrap();
        scraped = scraped_metrics(&text);
        scraped.extend(leases.clone());
        scraped.extend(workers.clone());
        scraped.extend(notes.clone());
        scraped.extend(accounts.clone());
        scraped.extend(webhooks.clone());
        scraped.extend(notifications.clone());
        scraped.extend(stored.clone());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(documented, scraped);
}

/// Metrics that exist only with leased credentials.
async fn metrics_of_leases() -> Metrics {
    let (bao, postgres) = tokio::join!(OpenBao::start(), Postgres::start());
    let settings = bao.set_up(&postgres, &[]);
    let mut builder = Daemon::builder();
    for (key, value) in settings {
        builder = builder.env(&key, value);
    }
    let daemon = builder.spawn().await;
    daemon.until("/ready", 200).await;
    eventually("the first rotation to be counted", || async {
        let text = daemon.get("/metrics").await.text().await.unwrap();
        let mut scraped = scraped_metrics(&text);
        scraped.retain(|name, _| name.starts_with("dotmac_secret_"));
        (scraped.len() > 1).then_some(scraped)
    })
    .await
}

/// Metrics that exist only with a worker.
async fn metrics_of_workers() -> Metrics {
    let daemon = Daemon::example("chaos").spawn().await;
    daemon.until("/ready", 200).await;
    let text = daemon.get("/metrics").await.text().await.unwrap();
    let mut scraped = scraped_metrics(&text);
    scraped.retain(|name, _| name.starts_with("dotmac_worker_"));
    scraped
}

/// Metrics that exist only with accounts.
async fn metrics_of_accounts() -> Metrics {
    let mut scraped = scraped_metrics(&crate::accounts::measured().await);
    scraped.retain(|name, _| name.starts_with("dotmac_accounts_"));
    scraped
}

/// Metrics that exist only with webhooks, and so with outgoing calls.
async fn metrics_of_webhooks() -> Metrics {
    let mut scraped = scraped_metrics(&crate::webhooks::measured().await);
    let areas = ["dotmac_webhooks_", "dotmac_egress_"];
    scraped.retain(|name, _| areas.iter().any(|area| name.starts_with(area)));
    scraped
}

/// Metrics that exist only with mail.
async fn metrics_of_notifications() -> Metrics {
    let mut scraped = scraped_metrics(&crate::notifications::measured().await);
    scraped.retain(|name, _| name.starts_with("dotmac_notifications_"));
    scraped
}

/// Metrics that exist only with files.
async fn metrics_of_files() -> Metrics {
    let mut scraped = scraped_metrics(&crate::files::measured().await);
    scraped.retain(|name, _| name.starts_with("dotmac_files_"));
    scraped
}

/// Metrics that exist only with system code on rows of tenants, and with events, a subscriber, jobs and acts,
/// as in the notes.
async fn metrics_of_notes() -> Metrics {
    let daemon = crate::notes::notes()
        .env("DOTMAC_EVENTS_STATUS_INTERVAL", "100ms")
        .env("DOTMAC_JOBS_STATUS_INTERVAL", "100ms")
        .env("DOTMAC_AUDIT_STATUS_INTERVAL", "100ms")
        .spawn()
        .await;
    daemon.until("/ready", 200).await;
    let notes = format!("{}{}", daemon.base, crate::notes::NOTES);
    let note = daemon.client.post(notes).bearer_auth(crate::notes::TOKEN);
    let added = note.json(&serde_json::json!({ "text": "a" })).send().await;
    assert_eq!(added.unwrap().status(), 201);
    crate::jobs::make_jobs(&daemon, crate::notes::TOKEN).await;
    eventually("scopes, events, jobs and acts to be counted", || async {
        let text = daemon.get("/metrics").await.text().await.ok()?;
        let mut scraped = scraped_metrics(&text);
        scraped.retain(|name, _| {
            let areas = ["dotmac_events_", "dotmac_jobs_", "dotmac_audit_"];
            name == "dotmac_database_system_scopes_total"
                || areas.iter().any(|area| name.starts_with(area))
        });
        // Of the audit log there is one for all tenants.
        let labelled = scraped
            .iter()
            .filter(|(name, _)| !name.starts_with("dotmac_audit_"));
        let has_labels = labelled.fold(true, |all, (_, labels)| all && !labels.is_empty());
        (scraped.len() == 22 && has_labels).then_some(scraped)
    })
    .await
}

#[test]
fn every_exit_code_is_explained_and_no_other() {
    let source = read("platform/src/exit.rs");
    let codes: BTreeSet<String> = source
        .lines()
        .filter_map(|line| line.split_once(" => ")?.1.strip_suffix(','))
        .map(str::to_owned)
        .collect();
    let explained: BTreeSet<String> = section("Exit codes")
        .lines()
        .filter_map(|line| line.strip_prefix("| ")?.split(" |").next())
        .filter(|code| code.chars().all(|letter| letter.is_ascii_digit()))
        .map(str::to_owned)
        .collect();
    assert!(codes.len() > 5, "{codes:?}");
    assert_eq!(explained, codes);
}

#[test]
fn every_dependency_has_its_reason() {
    let manifest = read("Cargo.toml");
    let table = manifest.split("[workspace.dependencies]").nth(1).unwrap();
    let table = table.split("\n[").next().unwrap();
    let named: BTreeSet<String> = quoted(&read("docs/DEPENDENCIES.md")).collect();
    for line in table.lines() {
        if let Some((name, _)) = line.split_once(" = ")
            && !name.starts_with("dotmac-")
        {
            assert!(
                named.contains(name),
                "`{name}` is not in docs/DEPENDENCIES.md"
            );
        }
    }
}

#[test]
fn every_link_leads_to_a_file() {
    let mut documents = files(&["docs", "deploy", "migrations"], "md");
    documents
        .extend(["README.md", "CONTRIBUTING.md", "CHANGELOG.md"].map(|name| root().join(name)));
    for document in documents {
        let text = fs::read_to_string(&document).unwrap();
        for target in text
            .split("](")
            .skip(1)
            .filter_map(|rest| rest.split([')', '#']).next())
        {
            if !target.is_empty() && !target.contains("://") {
                let file = document.parent().unwrap().join(target);
                assert!(file.exists(), "{} links to {target}", document.display());
            }
        }
    }
}

#[test]
fn the_example_that_the_readme_praises_is_as_short_as_it_says() {
    let greeter = read("examples/greeter.rs");
    assert!(greeter.lines().count() < 40, "{}", greeter.lines().count());
    let readme = read("README.md");
    assert!(
        greeter.contains(first_code(&readme)),
        "the README shows another `main`"
    );
}

#[test]
fn the_page_on_testing_shows_a_test_that_runs_and_every_module_of_the_testkit() {
    let page = read("docs/testing.md");
    let notes = read("examples/notes/tests/notes.rs");
    assert!(
        notes.contains(first_code(&page)),
        "the page shows another test"
    );
    let testkit = read("testkit/src/lib.rs");
    let modules = testkit
        .lines()
        .filter_map(|line| line.strip_prefix("pub mod ")?.strip_suffix(';'));
    let listed = page
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split('`').next());
    assert_eq!(listed.collect::<BTreeSet<_>>(), modules.collect());
}

/// The first Rust code of a document.
fn first_code(document: &str) -> &str {
    let from = document.split("```rust\n").nth(1).unwrap();
    from.split("```").next().unwrap()
}

#[tokio::test]
async fn the_tours_of_the_readme_are_as_they_say() {
    let program = |name: &str| match name {
        "dotmac" => Daemon::builder(),
        example => Daemon::example(example),
    };
    for (heading, outputs) in [("A tour", 5), ("A tour of what breaks", 5)] {
        let compared = page::tour("README.md", heading, program).await;
        assert_eq!(compared, outputs, "{heading}");
    }
}

/// All references in a document that lead nowhere in it.
fn dangling(document: &Value) -> Vec<&str> {
    let (mut pending, mut dangling) = (vec![document], Vec::new());
    while let Some(part) = pending.pop() {
        match part {
            Value::Object(fields) => {
                let reference = fields.get("$ref").and_then(Value::as_str);
                let is_there = |it: &&str| document.pointer(it.trim_start_matches('#')).is_none();
                dangling.extend(reference.filter(is_there));
                pending.extend(fields.values());
            }
            Value::Array(items) => pending.extend(items),
            _ => {}
        }
    }
    dangling
}

#[tokio::test]
async fn every_reference_in_the_documents_of_a_program_leads_somewhere() {
    let program = |name| match name {
        "dotmac" => Daemon::builder(),
        "notes" => notes::notes(),
        example => Daemon::example(example),
    };
    for name in ["dotmac", "notes", "chaos", "greeter", "signer", "tenants"] {
        for command in ["openapi", "asyncapi"] {
            let shown = program(name).run(&[command]).await;
            let document: Value = serde_json::from_str(&shown.text()).unwrap();
            assert!(
                document["components"]["schemas"].is_object(),
                "{name} {command}"
            );
            assert_eq!(dangling(&document), [""; 0], "{name} {command}");
        }
    }
}
