//! How the collector is reached, and what becomes of it all when it is in trouble.

use std::{
    path::Path,
    sync::atomic::{AtomicBool, Ordering::SeqCst},
    time::{Duration, Instant},
};

use reqwest::Method;

use crate::support::{
    Daemon, OpenBao,
    collector::Collector,
    daemon::Builder,
    eventually,
    fakes::{FakeAnswer, FakeCollector},
    openbao::ROOT_TOKEN,
    tls::TlsFront,
};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

/// A daemon that exports to `endpoint`, with little patience.
fn exporting(endpoint: &str, protocol: &str) -> Builder {
    Daemon::example("chaos")
        .env("DOTMAC_TELEMETRY_OTLP_ENDPOINT", endpoint)
        .env("DOTMAC_TELEMETRY_OTLP_PROTOCOL", protocol)
        .env("DOTMAC_TELEMETRY_EXPORT_TIMEOUT", "2s")
        .env("DOTMAC_TELEMETRY_METRIC_INTERVAL", "500ms")
}

fn to_fake(fake: &FakeCollector) -> Builder {
    exporting(&format!("http://127.0.0.1:{}", fake.port), "http")
}

async fn make_spans(daemon: &Daemon, count: u32) {
    let path = format!("/chaos/spans?count={count}");
    assert_eq!(daemon.request(Method::POST, &path).await.status(), 200);
}

fn trusting(builder: Builder, ca: &Path) -> Builder {
    builder.env("DOTMAC_TELEMETRY_OTLP_CA_CERT", ca.display())
}

/// The lines about trouble with the collector, by their messages.
fn trouble(daemon: &Daemon) -> Vec<String> {
    let log = daemon.log();
    let messages = log.iter().filter_map(|line| line["message"].as_str());
    messages
        .filter(|message| message.starts_with("telemetry "))
        .map(str::to_owned)
        .collect()
}

const BEGINS: &str = "telemetry cannot be exported; retrying";
const ENDS: &str = "telemetry is exported again";

#[tokio::test]
async fn by_tls_with_an_authority_of_our_own_and_gzip_it_arrives_over_both_protocols() {
    for protocol in ["grpc", "http"] {
        let collector = Collector::start().await;
        let front = TlsFront::before(collector.port(protocol)).await;
        let endpoint = format!("https://localhost:{}", front.port);
        let daemon = trusting(exporting(&endpoint, protocol), &front.ca)
            .env("DOTMAC_TELEMETRY_OTLP_COMPRESSION", "gzip")
            .spawn()
            .await;
        daemon.until("/ready", 200).await;
        daemon.traced("/", TRACE).await;
        for text in [TRACE, "dotmac.ready", "listening on"] {
            collector.got(text).await;
        }
        daemon.until_component("telemetry", "ready", None).await;
        assert_eq!(daemon.stop().await.code, 0);

        let distrusting = trusting(exporting(&endpoint, protocol), &front.other_ca());
        let daemon = distrusting.spawn().await;
        daemon
            .until_component("telemetry", "degraded", Some("tls_failed"))
            .await;
        let line = daemon.logged(BEGINS).await;
        let error = line["error"].as_str().unwrap();
        assert!(error.contains("certificate"), "{error}");
    }
}

#[tokio::test]
async fn a_collector_that_requires_a_client_certificate_gets_it_and_a_wrong_one_is_reported() {
    for protocol in ["grpc", "http"] {
        let collector = Collector::start().await;
        let front = TlsFront::asking_before(collector.port(protocol)).await;
        let endpoint = format!("https://localhost:{}", front.port);
        let shown = |name: &str| {
            trusting(exporting(&endpoint, protocol), &front.ca)
                .env(
                    "OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE",
                    front.file(&format!("{name}.crt")).display(),
                )
                .env(
                    "OTEL_EXPORTER_OTLP_CLIENT_KEY",
                    front.file(&format!("{name}.key")).display(),
                )
        };
        let daemon = shown("client").spawn().await;
        daemon.until("/ready", 200).await;
        daemon.traced("/", TRACE).await;
        for text in [TRACE, "dotmac.ready", "listening on"] {
            collector.got(text).await;
        }
        daemon.until_component("telemetry", "ready", None).await;

        // One of another authority, and none at all.
        let nothing = trusting(exporting(&endpoint, protocol), &front.ca);
        for refused in [shown("stranger"), nothing] {
            let daemon = refused.spawn().await;
            let line = daemon.logged(BEGINS).await;
            assert_eq!(line["reason"], "tls_failed", "{line}");
            // The collector's answer or, if it was lost, the meaning of that.
            let error = line["error"].as_str().unwrap();
            let reported = ["UnknownCA", "certificate", "CertificateRequired"];
            assert!(reported.iter().any(|word| error.contains(word)), "{error}");
        }
    }
}

#[tokio::test]
async fn a_client_certificate_without_its_key_is_refused_at_the_start() {
    let stopped = exporting("https://localhost:4317", "grpc")
        .env("DOTMAC_TELEMETRY_OTLP_CLIENT_CERT", "/nowhere/client.pem")
        .run(&[])
        .await;
    assert_eq!(stopped.code, 78);
    let said = stopped.text();
    let mistake = "DOTMAC_TELEMETRY_OTLP_CLIENT_CERT (environment): a certificate and its key";
    assert!(said.contains(mistake), "{said}");
}

#[tokio::test]
async fn a_certificate_file_that_cannot_be_used_is_refused_at_the_start() {
    let stopped = exporting("https://localhost:4317", "grpc")
        .env("DOTMAC_TELEMETRY_OTLP_CA_CERT", "/nowhere/ca.pem")
        .run(&[])
        .await;
    assert_eq!(stopped.code, 78);
    assert!(
        stopped.text().contains("/nowhere/ca.pem"),
        "{}",
        stopped.text()
    );
}

#[tokio::test]
async fn headers_are_sent_with_every_export_and_shown_nowhere() {
    let fake = FakeCollector::start(FakeAnswer::Taken);
    let daemon = to_fake(&fake)
        .env(
            "OTEL_EXPORTER_OTLP_HEADERS",
            "authorization=Bearer%20other,x-other=1",
        )
        .env(
            "DOTMAC_TELEMETRY_OTLP_HEADERS",
            "authorization=Bearer%20sekret,x-team=blue",
        )
        .env("DOTMAC_TELEMETRY_OTLP_COMPRESSION", "gzip")
        .env("DOTMAC_TELEMETRY_LOG_LEVEL", "trace")
        .spawn()
        .await;
    daemon.until("/ready", 200).await;
    let heads = eventually("a log record and a span to be sent", || async {
        let heads = fake.heads();
        let sent = |path| heads.iter().any(|head: &String| head.contains(path));
        (sent("/v1/logs") && sent("/v1/metrics") && sent("/v1/traces")).then_some(heads)
    })
    .await;
    for head in heads {
        for wanted in ["authorization: bearer sekret\r\n", "x-team: blue\r\n"] {
            assert!(head.contains(wanted), "{head}");
        }
        assert!(head.contains("content-encoding: gzip"), "{head}");
        assert!(
            !head.contains("x-other") && !head.contains("bearer other"),
            "{head}"
        );
    }
    assert!(!daemon.stop().await.text().contains("sekret"));
}

#[tokio::test]
async fn each_signal_may_go_to_a_collector_of_its_own() {
    let (traces, logs) = tokio::join!(Collector::start(), Collector::start());
    let metrics = FakeCollector::start(FakeAnswer::Taken);
    let daemon = exporting(&format!("http://127.0.0.1:{}", logs.grpc), "grpc")
        .env(
            "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
            format!("http://127.0.0.1:{}/v1/traces", traces.http),
        )
        .env("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "http/protobuf")
        .env(
            "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT",
            format!("http://127.0.0.1:{}/as/it/is", metrics.port),
        )
        .env("OTEL_EXPORTER_OTLP_METRICS_PROTOCOL", "http/protobuf")
        .env("OTEL_EXPORTER_OTLP_METRICS_HEADERS", "x-for=metrics")
        .spawn()
        .await;
    daemon.until("/ready", 200).await;
    daemon.traced("/", TRACE).await;
    traces.got(&format!("Trace ID       : {TRACE}")).await;
    logs.got("listening on").await;
    let head = eventually("an export of metrics", || async {
        metrics.heads().into_iter().next()
    })
    .await;
    assert!(head.starts_with("post /as/it/is http"), "{head}");
    assert!(head.contains("x-for: metrics\r\n"), "{head}");
    daemon.until_component("telemetry", "ready", None).await;
    assert_eq!(daemon.stop().await.code, 0);
    traces.span("shutdown").await;
    // Neither got what was the other's.
    let (traces, logs) = (traces.text(), logs.text());
    assert!(logs.contains("ResourceLog"), "{logs}");
    assert!(!traces.contains("ResourceLog"), "{traces}");
    assert!(!logs.contains("ResourceSpan"), "{logs}");
    for other in [traces, logs] {
        assert!(!other.contains("dotmac.ready"), "{other}");
    }
}

#[tokio::test]
async fn headers_may_be_kept_in_vault() {
    let vault = OpenBao::start().await;
    vault
        .write("otlp/headers", "value", "authorization=Bearer%20from-vault")
        .await;
    let fake = FakeCollector::start(FakeAnswer::Taken);
    let daemon = to_fake(&fake)
        .env("DOTMAC_TELEMETRY_OTLP_HEADERS", "vault:otlp/headers")
        .env("VAULT_ADDR", vault.address())
        .env("VAULT_TOKEN", ROOT_TOKEN)
        .spawn()
        .await;
    daemon.until_component("telemetry", "ready", None).await;
    eventually("an export with the header", || async {
        let sent = |head: &String| head.contains("authorization: bearer from-vault");
        fake.heads().iter().any(sent).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_pause_that_the_collector_asks_for_is_kept_and_costs_two_lines_in_all() {
    let fake = FakeCollector::start(FakeAnswer::Pause(6));
    let daemon = to_fake(&fake).spawn().await;
    daemon
        .until_component("telemetry", "degraded", Some("rate_limited"))
        .await;
    // Each signal was refused once, and then left alone.
    let paused = Instant::now();
    eventually("every signal to have been refused", || async {
        let heads = fake.heads();
        let sent = |path| heads.iter().any(|head: &String| head.contains(path));
        (sent("/v1/logs") && sent("/v1/metrics") && sent("/v1/traces")).then_some(())
    })
    .await;
    let refused = fake.heads().len();
    fake.say(FakeAnswer::Taken);
    eventually("requests while the pause lasts", || async {
        assert_eq!(daemon.get("/").await.status(), 200);
        (paused.elapsed() > Duration::from_secs(2)).then_some(())
    })
    .await;
    assert_eq!(fake.heads().len(), refused, "{:?}", fake.heads());
    daemon.until_component("telemetry", "ready", None).await;
    let dropped = "dotmac_telemetry_dropped_total{reason=\"throttled\",signal=\"metrics\"}";
    assert!(daemon.metric(dropped).await.unwrap() > 0.0);
    daemon.logged(ENDS).await;
    assert_eq!(trouble(&daemon), [BEGINS, ENDS]);
}

#[tokio::test]
async fn a_collector_that_comes_and_goes_is_logged_once_each_time() {
    let mut collector = Collector::start().await;
    let endpoint = collector.endpoint();
    let daemon = exporting(&endpoint, "grpc").spawn().await;
    daemon.until_component("telemetry", "ready", None).await;
    collector.stop();
    daemon
        .until_component("telemetry", "degraded", Some("unreachable"))
        .await;
    collector.restart().await;
    daemon.until_component("telemetry", "ready", None).await;
    let line = daemon.logged(ENDS).await;
    assert_eq!(trouble(&daemon), [BEGINS, ENDS]);
    assert!(
        line["lost"].as_u64().is_some() && line["lasted_ms"].as_u64().unwrap() > 0,
        "{line}"
    );
}

#[tokio::test]
async fn a_collector_that_hangs_is_reported_after_one_export_even_if_none_follows() {
    let collector = Collector::start().await;
    let endpoint = collector.endpoint();
    let daemon = exporting(&endpoint, "grpc")
        .env("DOTMAC_TELEMETRY_EXPORT_TIMEOUT", "500ms")
        .env("DOTMAC_TELEMETRY_METRIC_INTERVAL", "1h")
        .spawn()
        .await;
    daemon.until_component("telemetry", "ready", None).await;
    eventually("what is said at the start to be exported", || async {
        let queued = async |signal| {
            let name = format!("dotmac_telemetry_queued{{signal=\"{signal}\"}}");
            daemon.metric(&name).await
        };
        let left = (queued("traces").await, queued("logs").await);
        (left == (Some(0.0), Some(0.0))).then_some(())
    })
    .await;
    collector.freeze();
    assert_eq!(daemon.get("/").await.status(), 200);
    daemon
        .until_component("telemetry", "degraded", Some("no_answer"))
        .await;
    collector.thaw();
    daemon.until_component("telemetry", "ready", None).await;
    daemon.logged(ENDS).await;
    assert_eq!(trouble(&daemon), [BEGINS, ENDS]);
}

#[tokio::test]
async fn a_slow_collector_slows_no_request_and_what_does_not_fit_is_counted() {
    let fake = FakeCollector::start(FakeAnswer::Slowly(Duration::from_millis(1800)));
    let daemon = to_fake(&fake).spawn().await;
    daemon.until("/ready", 200).await;
    let full = "dotmac_telemetry_dropped_total{reason=\"queue_full\",signal=\"traces\"}";
    make_spans(&daemon, 10_000).await;
    assert!(daemon.metric(full).await.unwrap() > 0.0);
    let mut slowest = Duration::ZERO;
    for _ in 0..1000 {
        let begun = Instant::now();
        assert_eq!(daemon.get("/").await.status(), 200);
        slowest = slowest.max(begun.elapsed());
    }
    // No request waited for an answer of the collector.
    assert!(slowest < Duration::from_millis(1800), "{slowest:?}");
    let queued = "dotmac_telemetry_queued{signal=\"traces\"}";
    assert!(daemon.metric(queued).await.unwrap() <= 2048.0);
    let stopped = daemon.stop().await;
    assert!(stopped.took < Duration::from_secs(8), "{:?}", stopped.took);
}

#[tokio::test]
async fn an_hour_without_a_collector_costs_no_memory_no_request_and_two_lines() {
    // The volume of a hundred requests a second in an hour.
    const SPANS: u32 = 360_000;
    const AT_ONCE: u32 = 10_000;
    const MIB: f64 = 1024.0 * 1024.0;
    let mut collector = Collector::start().await;
    let endpoint = collector.endpoint();
    let daemon = exporting(&endpoint, "grpc").spawn().await;
    daemon.until("/ready", 200).await;
    let make = async |spans: u32| {
        for _ in 0..spans / AT_ONCE {
            make_spans(&daemon, AT_ONCE).await;
        }
    };
    let memory = async || {
        daemon
            .metric("process_resident_memory_bytes")
            .await
            .unwrap()
    };

    collector.stop();
    daemon
        .until_component("telemetry", "degraded", Some("unreachable"))
        .await;
    // The queue is full and every path has been taken before memory is measured.
    make(4 * AT_ONCE).await;
    let before = memory().await;
    let made = AtomicBool::new(false);
    let making = async {
        make(SPANS).await;
        made.store(true, SeqCst);
    };
    let asking = async {
        let mut answered = 0;
        while !made.load(SeqCst) {
            assert_eq!(daemon.get("/chaos/ping").await.status(), 200);
            answered += 1;
        }
        answered
    };
    let ((), answered) = tokio::join!(making, asking);
    assert!(answered > 0);
    let grown = memory().await - before;
    // Kept, they would be well over 100 MiB.
    assert!(grown < 16.0 * MIB, "{} MiB more", grown / MIB);
    let queued = "dotmac_telemetry_queued{signal=\"traces\"}";
    assert!(daemon.metric(queued).await.unwrap() <= 2048.0);

    collector.restart().await;
    daemon.until_component("telemetry", "ready", None).await;
    daemon.logged(ENDS).await;
    assert_eq!(trouble(&daemon), [BEGINS, ENDS]);
    let lost = daemon.logged(ENDS).await["lost"].as_u64().unwrap();
    assert!(lost > u64::from(SPANS) - 2 * 2048, "{lost}");
}
