//! Traces as they arrive at the real collector, and what else names them.

use reqwest::Method;

use crate::support::{
    Daemon, OpenBao, Postgres,
    collector::{Collector, Span},
    daemon::Builder,
    eventually,
};

pub const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const CALLER: &str = "00f067aa0ba902b7";

async fn traced(collector: &Collector, protocol: &str) -> Daemon {
    let daemon = exporting(collector, protocol).spawn().await;
    daemon.until("/ready", 200).await;
    daemon
}

fn exporting(collector: &Collector, protocol: &str) -> Builder {
    let port = collector.port(protocol);
    Daemon::example("chaos")
        .env(
            "DOTMAC_TELEMETRY_OTLP_ENDPOINT",
            format!("http://127.0.0.1:{port}"),
        )
        .env("DOTMAC_TELEMETRY_OTLP_PROTOCOL", protocol)
}

async fn send(daemon: &Daemon, method: Method, path: &str, sampled: bool) -> u16 {
    let parent = format!("00-{TRACE}-{CALLER}-0{}", u8::from(sampled));
    let request = daemon
        .client
        .request(method, format!("{}{path}", daemon.base));
    let response = request.header("traceparent", parent).send().await.unwrap();
    response.status().as_u16()
}

pub fn of_the_caller(spans: Vec<Span>) -> Vec<Span> {
    spans
        .into_iter()
        .filter(|span| span.trace == TRACE)
        .collect()
}

#[tokio::test]
async fn a_request_that_touches_the_database_is_one_trace_with_its_lines_and_its_exemplar() {
    for protocol in ["grpc", "http"] {
        let collector = Collector::start().await;
        let daemon = traced(&collector, protocol).await;
        let path = "/chaos/transaction?ms=1";
        assert_eq!(send(&daemon, Method::POST, path, true).await, 200);
        let server = collector.span("POST /chaos/transaction").await;
        assert_eq!(
            (server.trace.as_str(), server.parent.as_str()),
            (TRACE, CALLER)
        );
        assert_eq!(server.kind, "SPAN_KIND_SERVER");
        for attribute in [
            "http.response.status_code: Int(200)",
            "http.route: Str(/chaos/transaction)",
            "http.request.method: Str(POST)",
            "client.address: Str(127.0.0.1)",
            "request_id: Str(",
        ] {
            assert!(
                server.text.contains(attribute),
                "{attribute} in {}",
                server.text
            );
        }
        let spans = of_the_caller(collector.spans());
        // The work in it, and in that the statements.
        let work = spans.iter().find(|span| span.parent == server.id);
        let work = work.unwrap_or_else(|| panic!("{spans:#?}"));
        let statement = |span: &&Span| span.kind == "SPAN_KIND_CLIENT" && span.parent == work.id;
        assert!(spans.iter().any(|span| statement(&span)), "{spans:#?}");
        let path = "/openapi.json?token=sekret";
        assert_eq!(send(&daemon, Method::GET, path, true).await, 200);
        collector.span("GET /openapi.json").await;
        assert!(!collector.text().contains("sekret"));

        // Its line, here and at the collector, and the bucket of its latency name it.
        let line = daemon.logged("POST /chaos/transaction 200").await;
        assert_eq!(line["trace_id"], TRACE, "{line}");
        assert_eq!(line["span_id"], server.id.as_str(), "{line}");
        collector
            .got("Body: Str(POST /chaos/transaction 200)")
            .await;
        let request = daemon.client.get(format!("{}/metrics", daemon.base));
        let request = request.header("accept", "application/openmetrics-text");
        let metrics = request.send().await.unwrap().text().await.unwrap();
        let exemplar = format!("# {{trace_id=\"{TRACE}\"");
        let latency = "http_server_request_duration_seconds_bucket";
        let bucket = |line: &&str| line.starts_with(latency) && line.contains(&exemplar);
        assert!(metrics.lines().any(|line| bucket(&line)), "{metrics}");
    }
}

#[tokio::test]
async fn a_call_to_an_actor_is_a_span_and_a_failed_one_says_why() {
    let collector = Collector::start().await;
    let daemon = traced(&collector, "grpc").await;
    assert_eq!(send(&daemon, Method::POST, "/chaos/panic", true).await, 503);
    let server = collector.span("POST /chaos/panic").await;
    let call = collector.span("call chaos").await;
    assert_eq!((call.trace.as_str(), &call.parent), (TRACE, &server.id));
    assert!(
        call.text.contains("failed before its answer"),
        "{}",
        call.text
    );
    // The failure is an event of the request, with its causes.
    let chain =
        "a component that this request needs is not available: `chaos` failed before its answer";
    assert!(server.text.contains(chain), "{}", server.text);
    for span in [call, server] {
        assert!(span.text.contains("STATUS_CODE_ERROR"), "{}", span.text);
    }
}

#[tokio::test]
async fn an_actors_handler_runs_in_the_trace_and_the_request_of_its_caller() {
    let collector = Collector::start().await;
    let daemon = exporting(&collector, "grpc")
        .env("DOTMAC_TELEMETRY_LOG_LEVEL", "debug")
        .spawn()
        .await;
    daemon.until("/ready", 200).await;
    assert_eq!(send(&daemon, Method::GET, "/chaos/ping", true).await, 200);
    assert_eq!(send(&daemon, Method::GET, "/chaos/wait", true).await, 200);
    for (route, said) in [("ping", "answering a ping"), ("wait", "waited long enough")] {
        let server = collector.span(&format!("GET /chaos/{route}")).await;
        let line = daemon.logged(said).await;
        assert_eq!(line["trace_id"], TRACE, "{line}");
        assert_eq!(line["actor.name"], "chaos", "{line}");
        let access = daemon.logged(&format!("GET /chaos/{route} 200")).await;
        assert_eq!(line["request_id"], access["request_id"], "{line}");
        assert!(access["request_id"].is_string(), "{access}");
        // The span of the line is the call, on another thread than the request.
        let spans = of_the_caller(collector.spans());
        let call = spans
            .iter()
            .find(|span| line["span_id"] == span.id.as_str());
        let call = call.unwrap_or_else(|| panic!("{line} in {spans:#?}"));
        assert_eq!(call.name, "call chaos");
        assert!(ancestors(&spans, call).contains(&server.id), "{spans:#?}");
    }
    let made = collector.span("take a while").await;
    let spans = of_the_caller(collector.spans());
    let call = spans.iter().find(|span| span.id == made.parent);
    assert_eq!(call.map(|call| call.name.as_str()), Some("call chaos"));
}

/// Ids of the spans that `span` is in, from the inside out.
pub fn ancestors(spans: &[Span], span: &Span) -> Vec<String> {
    let parent = |id: &String| {
        let above = spans.iter().find(|span| span.id == *id)?;
        Some(above.parent.clone())
    };
    std::iter::successors(Some(span.parent.clone()), parent).collect()
}

#[tokio::test]
async fn a_start_and_a_stop_are_one_trace_each_with_their_phases_and_components() {
    let collector = Collector::start().await;
    let daemon = traced(&collector, "grpc").await;
    for _ in 0..5 {
        daemon.get("/health").await;
        daemon.get("/metrics").await;
    }
    let startup = collector.span("startup").await;
    assert_eq!(daemon.stop().await.code, 0);
    let shutdown = collector.span("shutdown").await;
    let spans = collector.spans();
    let below = |root: &Span, name: &str| {
        let named = spans.iter().filter(|span| span.name == name);
        named
            .filter(|span| span.trace == root.trace)
            .cloned()
            .collect::<Vec<_>>()
    };
    for phase in ["open listeners", "set up components", "set up http"] {
        assert_eq!(below(&startup, phase)[0].parent, startup.id, "{phase}");
    }
    for phase in ["drain", "finish requests", "stop components"] {
        assert_eq!(below(&shutdown, phase)[0].parent, shutdown.id, "{phase}");
    }
    let (starts, stops) = (
        below(&startup, "start component"),
        below(&shutdown, "stop component"),
    );
    for component in ["secrets", "db", "telemetry", "chaos"] {
        let named = |span: &&Span| span.text.contains(&format!("component: Str({component})"));
        let start = starts
            .iter()
            .find(named)
            .unwrap_or_else(|| panic!("{starts:#?}"));
        assert!(
            start.nanos <= startup.nanos,
            "{start:?} is longer than {startup:?}"
        );
        assert!(
            stops.iter().any(|span| named(&span)),
            "{component} in {stops:#?}"
        );
    }
    let requests = spans.iter().filter(|span| span.kind == "SPAN_KIND_SERVER");
    assert_eq!(requests.count(), 0, "probes and scrapes make no span");
}

#[tokio::test]
async fn a_caller_that_does_not_sample_is_followed() {
    let collector = Collector::start().await;
    let daemon = traced(&collector, "grpc").await;
    assert_eq!(send(&daemon, Method::GET, "/chaos/ping", false).await, 200);
    assert_eq!(
        daemon.logged("GET /chaos/ping 200").await["trace_id"],
        TRACE
    );
    assert_eq!(daemon.stop().await.code, 0);
    collector.span("shutdown").await;
    assert!(of_the_caller(collector.spans()).is_empty());
}

#[tokio::test]
async fn a_caller_is_not_followed_where_a_sampler_of_our_own_is_asked_for() {
    let collector = Collector::start().await;
    let cases = [
        ("always_off", true, "/"),
        ("always_on", false, "/chaos/ping"),
    ];
    for (sampler, sampled, path) in cases {
        let daemon = exporting(&collector, "grpc").env("OTEL_TRACES_SAMPLER", sampler);
        let daemon = daemon.spawn().await;
        daemon.until("/ready", 200).await;
        assert_eq!(send(&daemon, Method::GET, path, sampled).await, 200);
        assert_eq!(daemon.stop().await.code, 0);
    }
    collector.span("GET /chaos/ping").await;
    let mut kept = of_the_caller(collector.spans());
    kept.retain(|span| span.kind == "SPAN_KIND_SERVER");
    let names: Vec<_> = kept.iter().map(|span| &span.name).collect();
    assert_eq!(names, ["GET /chaos/ping"]);
}

#[tokio::test]
async fn metrics_and_traces_of_an_embedding_program_join_the_platforms() {
    let collector = Collector::start().await;
    let daemon = traced(&collector, "grpc").await;
    assert_eq!(send(&daemon, Method::GET, "/chaos/ping", true).await, 200);
    let server = collector.span("GET /chaos/ping").await;
    let own = collector.span("ask for the generation").await;
    assert_eq!((own.trace.as_str(), &own.parent), (TRACE, &server.id));
    assert_eq!(collector.span("call chaos").await.parent, own.id);
    assert_eq!(daemon.metric("chaos_pings_total").await, Some(1.0));
    assert_eq!(daemon.stop().await.code, 0);
    collector.got("chaos.pings").await;
}

#[tokio::test]
async fn a_request_to_vault_is_a_client_span_of_what_caused_it_and_brings_its_trace_along() {
    let (collector, mut bao, postgres) =
        tokio::join!(Collector::start(), OpenBao::start(), Postgres::start());
    bao.audit_traceparent().await;
    let mut builder = exporting(&collector, "grpc");
    for (key, value) in bao.set_up(&postgres, &[("TTL", "2s"), ("MAX_TTL", "3s")]) {
        builder = builder.env(&key, value);
    }
    let daemon = builder.spawn().await;
    daemon.until("/ready", 200).await;

    // The start: login and first account are in its trace, below the component that wanted them.
    let startup = collector.span("startup").await;
    let spans = collector.spans();
    let login = "POST /v1/auth/approle/login";
    let issue = "GET /v1/{mount}/creds/{role}";
    for (name, path) in [
        (login, "auth/approle/login"),
        (issue, "database/creds/dotmac"),
    ] {
        let sent = spans.iter().find(|span| span.name == name);
        let sent = sent.unwrap_or_else(|| panic!("{name} in {spans:#?}"));
        assert_eq!(
            (sent.kind.as_str(), &sent.trace),
            ("SPAN_KIND_CLIENT", &startup.trace)
        );
        let above = ancestors(&spans, sent);
        let component = spans
            .iter()
            .find(|span| span.name == "start component" && above.contains(&span.id))
            .unwrap_or_else(|| panic!("{sent:#?} in {spans:#?}"));
        assert!(component.text.contains("component: Str(secrets)"));
        let port = format!("server.port: Int({})", bao.port);
        for attribute in [
            "http.response.status_code: Int(200)",
            "server.address: Str(127.0.0.1)",
            &port,
        ] {
            assert!(
                sent.text.contains(attribute),
                "{attribute} in {}",
                sent.text
            );
        }
        let parent = format!("00-{}-{}-01", sent.trace, sent.id);
        let came = bao.traceparents(path);
        assert!(came.contains(&parent), "{parent} in {came:?}");
    }

    // A rotation is its own trace.
    let rotated = eventually("a rotation's trace", || async {
        let mut spans = collector.spans().into_iter();
        spans.find(|span| span.name == issue && span.trace != startup.trace)
    })
    .await;
    let parent = format!("00-{}-{}-01", rotated.trace, rotated.id);
    let came = bao.traceparents("database/creds/dotmac");
    assert!(came.contains(&parent), "{parent} in {came:?}");
    let root = eventually("the root of the rotation", || async {
        let mut spans = collector.spans().into_iter();
        spans.find(|span| span.id == rotated.parent)
    })
    .await;
    assert_eq!(root.name, "keep credentials");
    assert!(root.parent.is_empty(), "{root:?}");

    // A server that is gone is the span's error.
    bao.kill();
    let failed = eventually("a request that failed", || async {
        let mut spans = collector.spans().into_iter();
        spans.find(|span| span.text.contains("error.type: Str(connection)"))
    })
    .await;
    assert!(failed.text.contains("STATUS_CODE_ERROR"), "{}", failed.text);
    assert_eq!(failed.kind, "SPAN_KIND_CLIENT");
}
