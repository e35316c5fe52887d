//! The dashboard and the rules of `deploy/` speak of metrics that there are, and do what they say.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use reqwest::Method;
use serde_json::{Value, json};

use crate::{
    jobs,
    notes::{NOTES, TOKEN, notes},
    support::{
        Daemon, OpenBao, Postgres, collector::Collector, eventually, prometheus::Prometheus, tool,
    },
};

const RULES: &str = "deploy/prometheus/dotmac.rules.yml";

fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

fn read(name: &str) -> String {
    fs::read_to_string(file(name)).unwrap()
}

/// The metrics that an expression names; what we record ourselves has colons in its name.
fn named(expression: &str) -> BTreeSet<String> {
    const OURS: [&str; 5] = [
        "dotmac_",
        "http_server_",
        "db_client_",
        "process_",
        "tokio_runtime_",
    ];
    let word = |c: char| !(c.is_ascii_alphanumeric() || matches!(c, '_' | ':'));
    expression
        .split(word)
        .filter(|word| OURS.iter().any(|prefix| word.starts_with(prefix)))
        .map(str::to_owned)
        .collect()
}

/// A value of a `key: value` line, or of the lines indented below it.
fn expressions(rules: &str) -> String {
    let lines = rules
        .lines()
        .filter(|line| !line.trim_start().starts_with('#'));
    let without = [
        "summary:",
        "runbook_url:",
        "- name:",
        "- record:",
        "- alert:",
        "labels:",
    ];
    let code = lines.filter(|line| !without.iter().any(|key| line.trim_start().starts_with(key)));
    code.collect::<Vec<_>>().join("\n")
}

/// Every string under a key `expr` or `query`, wherever it is.
fn queries(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                if let (true, Some(text)) =
                    (matches!(&**key, "expr" | "definition"), value.as_str())
                {
                    found.push(text.to_owned());
                }
                queries(value, found);
            }
        }
        Value::Array(list) => list.iter().for_each(|value| queries(value, found)),
        _ => {}
    }
}

/// The servers that [`exercised`] runs with the daemon.
type Servers = (OpenBao, Postgres, Collector);

/// A daemon in which everything that is measured has happened, with all that it talks to.
async fn exercised() -> (Daemon, Servers) {
    let (bao, postgres, collector) =
        tokio::join!(OpenBao::start(), Postgres::start(), Collector::start());
    let endpoint = collector.endpoint();
    let chaos = Daemon::example("chaos").env("DOTMAC_TELEMETRY_OTLP_ENDPOINT", endpoint);
    // Users that must be replaced soon, so that there is a rotation.
    let leased = bao.set_up(&postgres, &[("TTL", "2s"), ("MAX_TTL", "4s")]);
    let chaos = leased
        .iter()
        .fold(chaos, |chaos, (key, value)| chaos.env(key, value));
    let daemon = chaos.spawn().await;
    daemon.until("/ready", 200).await;
    for (method, path) in [
        (Method::GET, "/chaos/ping"),
        (Method::POST, "/chaos/transaction?ms=1"),
        (Method::POST, "/chaos/panic"),
    ] {
        daemon.request(method, path).await;
    }
    eventually("a rotation", || async {
        let series = r#"dotmac_secret_rotations_total{result="applied",secret="database"}"#;
        daemon.metric(series).await
    })
    .await;
    daemon.until("/ready", 200).await;
    (daemon, (bao, postgres, collector))
}

/// A scrape of a program with events, a subscriber and jobs.
async fn events_and_jobs() -> String {
    let daemon = notes()
        .env("DOTMAC_EVENTS_STATUS_INTERVAL", "100ms")
        .env("DOTMAC_JOBS_STATUS_INTERVAL", "100ms")
        .spawn()
        .await;
    daemon.until("/ready", 200).await;
    let note = daemon.client.post(format!("{}{NOTES}", daemon.base));
    let note = note.bearer_auth(TOKEN).json(&json!({ "text": "a" }));
    assert_eq!(note.send().await.unwrap().status(), 201);
    jobs::make_jobs(&daemon, TOKEN).await;
    eventually("events and jobs to be measured", || async {
        let text = daemon.get("/metrics").await.text().await.ok()?;
        let is_there = |name: &str| text.contains(&format!("\n{name}{{"));
        let names = [
            "dotmac_events_emitted_total",
            "dotmac_events_parked",
            "dotmac_jobs_ended_total",
            "dotmac_jobs_occurrences_total",
            "dotmac_jobs_parked",
        ];
        names.into_iter().all(is_there).then_some(text)
    })
    .await
}

#[tokio::test]
async fn every_metric_that_a_view_names_is_in_a_real_scrape() {
    let (daemon, _servers) = exercised().await;
    let scrape = daemon.get("/metrics").await.text().await.unwrap()
        + &events_and_jobs().await
        + &crate::accounts::measured().await
        + &crate::webhooks::measured().await
        + &crate::notifications::measured().await
        + &crate::files::measured().await;
    let samples: BTreeSet<&str> = scrape
        .lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| line.split(['{', ' ']).next())
        .collect();
    let dashboard: Value = serde_json::from_str(&read("deploy/grafana/dotmac.json")).unwrap();
    let mut asked = vec![expressions(&read(RULES))];
    queries(&dashboard, &mut asked);
    assert!(asked.len() > 30, "{asked:?}");
    let names: BTreeSet<String> = asked.iter().flat_map(|text| named(text)).collect();
    let missing: Vec<&String> = names
        .iter()
        .filter(|name| !samples.contains(name.as_str()))
        .collect();
    assert!(missing.is_empty(), "{missing:?} are not in\n{scrape}");
}

/// Has promtool check the rules; it has no objection.
pub fn promtool(arguments: &[&str]) {
    let output = Command::new(tool("promtool"))
        .current_dir(file("deploy/prometheus"))
        .args(arguments)
        .output()
        .unwrap();
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    assert!(output.status.success(), "{said}");
}

#[test]
fn the_rules_do_what_their_tests_say() {
    promtool(&["check", "rules", "dotmac.rules.yml"]);
    promtool(&["test", "rules", "dotmac.rules.test.yml"]);
}

#[test]
fn every_alert_has_a_test_and_its_runbook_is_there() {
    let (rules, tests) = (read(RULES), read("deploy/prometheus/dotmac.rules.test.yml"));
    let operations = read("docs/operations.md");
    let alerts: Vec<&str> = rules
        .lines()
        .filter_map(|line| line.trim().strip_prefix("- alert: "))
        .collect();
    assert!(alerts.len() > 8, "{alerts:?}");
    for alert in &alerts {
        assert!(tests.contains(alert), "{alert} has no test");
        let link = format!("docs/operations.md#{}\n", alert.to_lowercase());
        assert!(rules.contains(&link), "{alert} has no link to its runbook");
        let heading = format!("\n### {alert}\n");
        assert!(operations.contains(&heading), "{alert} has no runbook");
    }
    let runbooks = operations
        .lines()
        .filter(|line| line.starts_with("### Dotmac"));
    assert_eq!(runbooks.count(), alerts.len());
}

#[tokio::test]
async fn a_real_prometheus_scrapes_it_and_evaluates_the_rules() {
    let (daemon, _servers) = exercised().await;
    let target = daemon.base.trim_start_matches("http://");
    let prometheus = Prometheus::scraping(target, &[&file(RULES)]).await;
    for expression in [
        "dotmac:http_requests:rate5m",
        "dotmac:http_workers_busy:ratio5m",
        "dotmac:actor_call_duration_seconds:p99_5m",
        "dotmac:db_operation_duration_seconds:p99_5m",
    ] {
        prometheus.query(expression).await;
    }
    let rules = eventually("every rule to be evaluated", || async {
        let groups = prometheus.get("rules", &[]).await?;
        let groups = groups["groups"].as_array()?.clone();
        let rules: Vec<Value> = groups
            .iter()
            .flat_map(|group| group["rules"].as_array().cloned().unwrap_or_default())
            .collect();
        let evaluated = rules.iter().all(|rule| rule["health"] != "unknown");
        (evaluated && !rules.is_empty()).then_some(rules)
    })
    .await;
    for rule in rules {
        assert_eq!(rule["health"], "ok", "{rule}");
    }
}
