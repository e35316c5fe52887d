//! `/metrics`: right in both formats, and of constant size for any requests.

use std::{
    collections::BTreeSet,
    io::{Read, Write},
    net::TcpStream,
    time::Duration,
};

use reqwest::Method;

use crate::support::{
    Daemon,
    collector::Collector,
    daemon::JOURNALED,
    eventually,
    prometheus::{Prometheus, objections},
};

const OPENMETRICS: &str = "application/openmetrics-text";
const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

/// Attackers at once, and how many requests each sends: 10^5 in all.
const ATTACKERS: usize = 4;
const EACH: usize = 25_000;

async fn scrape(daemon: &Daemon, accept: &str) -> (String, String) {
    let request = daemon.client.get(format!("{}/metrics", daemon.base));
    let response = request.header("accept", accept).send().await.unwrap();
    let kind = response.headers()["content-type"]
        .to_str()
        .unwrap()
        .to_owned();
    (kind, response.text().await.unwrap())
}

/// OpenMetrics in the words of the older format, which is all that `promtool check metrics` reads:
/// without exemplars and units, its own word for what has no type, and a counter's family named as its samples.
fn as_prometheus(open: &str) -> String {
    let counters: Vec<&str> = open
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE ")?.strip_suffix(" counter"))
        .collect();
    let mut text = String::new();
    for line in open
        .lines()
        .filter(|line| !line.starts_with("# UNIT") && *line != "# EOF")
    {
        let mut words: Vec<&str> = line.splitn(4, ' ').collect();
        let total = format!("{}_total", words.get(2).unwrap_or(&""));
        if line.starts_with("# ") && counters.contains(&words[2]) {
            words[2] = &total;
        }
        if line.starts_with("# TYPE ") && words[3] == "unknown" {
            words[3] = "untyped";
        }
        let line = words.join(" ");
        text.push_str(line.split(" # {").next().unwrap());
        text.push('\n');
    }
    text
}

/// The series of a line: all before its value.
fn series_of(line: &str) -> &str {
    let end = line
        .rfind("} ")
        .map_or_else(|| line.find(' '), |end| Some(end + 1));
    &line[..end.unwrap_or(line.len())]
}

/// The name and type of each family.
fn families(text: &str) -> BTreeSet<&str> {
    text.lines()
        .filter_map(|line| line.strip_prefix("# TYPE "))
        .collect()
}

#[tokio::test]
async fn promtool_has_no_objection_to_either_format() {
    let daemon = Daemon::example("greeter").spawn().await;
    daemon.until("/ready", 200).await;
    daemon.traced("/api/v1/greet/Ada", TRACE).await;
    assert_eq!(daemon.get("/nowhere").await.status(), 404);
    let (kind, text) = scrape(&daemon, "text/plain").await;
    assert_eq!(kind, "text/plain; version=0.0.4; charset=utf-8");
    assert_eq!(objections(&text), "");
    let (kind, open) = scrape(&daemon, OPENMETRICS).await;
    assert_eq!(
        kind,
        "application/openmetrics-text; version=1.0.0; charset=utf-8"
    );
    let open = as_prometheus(&open);
    assert_eq!(objections(&open), "", "{open}");
    // A request is measured once its answer is on its way, so a family may begin between two scrapes; none ends.
    let (_, later) = scrape(&daemon, "text/plain").await;
    let (text, open, later) = (families(&text), families(&open), families(&later));
    assert!(text.is_subset(&open), "{:?}", text.difference(&open));
    assert!(open.is_subset(&later), "{:?}", open.difference(&later));
}

#[tokio::test]
async fn a_real_prometheus_takes_the_callers_trace_as_the_exemplar_of_its_latency() {
    let daemon = Daemon::example("greeter").spawn().await;
    daemon.until("/ready", 200).await;
    daemon.traced("/api/v1/greet/Ada", TRACE).await;
    let target = daemon.base.trim_start_matches("http://");
    let prometheus = Prometheus::scraping(target, &[]).await;
    prometheus.query("up == 1").await;
    let expression =
        "http_server_request_duration_seconds_bucket{http_route='/api/v1/greet/{name}'}";
    let exemplars = eventually("an exemplar", || async {
        let query = [("query", expression), ("start", "0"), ("end", "4102444800")];
        let found = prometheus.get("query_exemplars", &query).await?;
        (!found.as_array()?.is_empty()).then_some(found)
    })
    .await;
    assert_eq!(
        exemplars[0]["exemplars"][0]["labels"]["trace_id"], TRACE,
        "{exemplars}"
    );
    let busy = prometheus
        .query("tokio_runtime_busy_seconds_total{runtime='http'} > 0")
        .await;
    assert_eq!(busy.len(), 1);
}

/// Sends requests with a new method, path, query, Host and ids each.
fn attack(address: &str, attacker: usize) {
    let mut stream = TcpStream::connect(address).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(30)))
        .unwrap();
    let mut answers = stream.try_clone().unwrap();
    let last = format!("x-request-id: last-{attacker}\r\n");
    let reader = std::thread::spawn(move || {
        let (mut seen, mut buffer) = (Vec::new(), [0; 65_536]);
        while !String::from_utf8_lossy(&seen).contains(&last) {
            let read = answers.read(&mut buffer).unwrap_or_else(|error| {
                let end = &seen[seen.len().saturating_sub(400)..];
                panic!("{error}; read so far: {}", String::from_utf8_lossy(end))
            });
            assert!(read > 0, "hung up");
            let keep = seen.len().saturating_sub(200);
            seen.drain(..keep);
            seen.extend_from_slice(&buffer[..read]);
        }
    });
    for index in 0..EACH {
        let name = format!("{attacker}-{index}");
        let method = if index % 2 == 0 {
            format!("M{name}")
        } else {
            "GET".to_owned()
        };
        let id = if index + 1 == EACH {
            format!("last-{attacker}")
        } else {
            name.clone()
        };
        let request = format!(
            "{method} /p{name}/{name}?q={name} HTTP/1.1\r\nhost: h{name}.example\r\nx-request-id: {id}\r\nuser-agent: {name}\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).unwrap();
    }
    reader.join().unwrap();
}

#[tokio::test]
async fn a_hundred_thousand_paths_hosts_and_methods_make_a_constant_number_of_series() {
    let daemon = Daemon::builder()
        .env("DOTMAC_TELEMETRY_LOG_LEVEL", "info,dotmac::access=off")
        .spawn()
        .await;
    daemon.until("/ready", 200).await;
    // One of each kind of request, so that its series are there.
    for method in ["GET", "INVENTED"] {
        let method = reqwest::Method::from_bytes(method.as_bytes()).unwrap();
        assert_eq!(daemon.request(method, "/nowhere").await.status(), 404);
    }
    // The journal's first work, so that the database's are there too.
    eventually("the journal to be written", || async {
        daemon.metric(JOURNALED).await
    })
    .await;
    // The same of the first entry of the audit log.
    eventually("the audit log to be signed", || async {
        daemon.metric("dotmac_audit_checkpoints_total").await
    })
    .await;
    eventually("the audit log to be verified", || async {
        daemon.metric("dotmac_audit_broken").await
    })
    .await;
    // Without those of the database, which the platform's own workers query for the first time meanwhile.
    let is_counted = |line: &&str| {
        let others = ["#", "db_client_", "dotmac_database_", "dotmac_events_"];
        !others.iter().any(|other| line.starts_with(other))
    };
    let series = |text: &str| -> BTreeSet<String> {
        let names = text.lines().filter(is_counted).map(series_of);
        names.map(str::to_owned).collect()
    };
    let before = series(&scrape(&daemon, OPENMETRICS).await.1);
    let address = daemon.base.trim_start_matches("http://").to_owned();
    let attackers: Vec<_> = (0..ATTACKERS)
        .map(|attacker| {
            let address = address.clone();
            tokio::task::spawn_blocking(move || attack(&address, attacker))
        })
        .collect();
    for attacker in attackers {
        attacker.await.unwrap();
    }
    let text = scrape(&daemon, OPENMETRICS).await.1;
    let counted = "http_server_request_duration_seconds_count{error_type=\"404\",http_request_method=\"_OTHER\"";
    assert!(text.contains(counted), "{text}");
    let after = series(&text);
    let added: Vec<_> = after.difference(&before).collect();
    assert!(added.is_empty(), "{added:?}");
}

#[tokio::test]
async fn every_runtime_is_measured_here_and_at_the_collector() {
    let collector = Collector::start().await;
    let endpoint = collector.endpoint();
    let daemon = Daemon::example("chaos")
        .env("DOTMAC_TELEMETRY_OTLP_ENDPOINT", endpoint)
        .env("DOTMAC_TELEMETRY_METRIC_INTERVAL", "500ms")
        .spawn()
        .await;
    daemon.until("/ready", 200).await;
    for runtime in ["main", "http", "actors", "database", "export"] {
        for figure in ["workers", "busy_seconds_total"] {
            let series = format!("tokio_runtime_{figure}{{runtime=\"{runtime}\"}}");
            eventually(&format!("{series} to be above 0"), || async {
                (daemon.metric(&series).await? > 0.0).then_some(())
            })
            .await;
        }
        collector.got(&format!("runtime: Str({runtime})")).await;
    }
    // One thread for each actor, also after a restart of one of them.
    let actors = r#"tokio_runtime_workers{runtime="actors"}"#;
    let before = daemon.metric(actors).await;
    assert_eq!(before, Some(4.0));
    daemon.request(Method::POST, "/chaos/panic").await;
    eventually("the next life", || async {
        let generation = daemon.get("/chaos/ping").await.text().await.ok()?;
        generation.contains("\"generation\":2").then_some(())
    })
    .await;
    eventually("the former thread to be gone", || async {
        (daemon.metric(actors).await == before).then_some(())
    })
    .await;
}
