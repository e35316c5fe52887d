//! Log lines, levels, trace ids and `/metrics`, without a collector.

use std::collections::HashMap;
use std::error::Error;

use opentelemetry::propagation::TextMapPropagator as _;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use tracing::{Level, debug, error, info, info_span, warn};
use tracing_opentelemetry::OpenTelemetrySpanExt as _;

use super::{Config, Outcome, Rig, until};
use crate::{Destinations, LevelChange, Otlp, Protocol, TextFormat, instruments};

#[test]
fn a_line_carries_the_fields_of_its_spans_and_the_callers_trace() -> Outcome {
    let mut rig = Rig::new(&Config::default())?;
    rig.run(|| {
        let span = info_span!(
            "request",
            request_id = "r-1",
            route = "/notes/{id}",
            status = tracing::field::Empty
        );
        let caller = HashMap::from([(
            "traceparent".to_owned(),
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".to_owned(),
        )]);
        assert!(
            span.set_parent(TraceContextPropagator::new().extract(&caller))
                .is_ok()
        );
        let inside = span.enter();
        span.record("status", 200);
        info!(bytes = 12, "answered");
        drop(inside);
        info!(parent: &span, "named its parent");
        info!("outside");
    });
    let lines = rig.json()?;
    let ids: Vec<_> = lines.iter().map(|line| line["trace_id"].as_str()).collect();
    let caller = Some("0af7651916cd43dd8448eb211c80319c");
    assert_eq!((ids[0], ids[2]), (caller, None), "{lines:?}");
    assert_eq!(lines[0]["request_id"], "r-1");
    assert_eq!(lines[0]["status"], 200);
    assert_eq!(lines[0]["bytes"], 12);
    assert_ne!(lines[0]["span_id"], "b7ad6b7169203331");
    assert_eq!(lines[1]["request_id"], "r-1");
    assert_eq!(lines[2].get("request_id"), None);
    Ok(())
}

#[test]
fn a_warning_names_its_request_even_where_the_level_hides_the_span() -> Outcome {
    let mut rig = Rig::new(&Config {
        log_filter: "warn".to_owned(),
        ..Config::default()
    })?;
    rig.run(|| {
        let _span = info_span!("request", request_id = "r-2").entered();
        info!("hidden");
        warn!("shown");
    });
    let lines = rig.json()?;
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert_eq!(lines[0]["request_id"], "r-2");
    assert!(lines[0]["trace_id"].is_string(), "{lines:?}");
    Ok(())
}

#[test]
fn the_level_changes_at_run_time_and_a_wrong_one_changes_nothing() -> Outcome {
    let mut rig = Rig::new(&Config::default())?;
    let telemetry = rig.telemetry.clone();
    rig.run(|| {
        let say = |word: &'static str| debug!(word);
        say("before");
        assert!(telemetry.set_log_filter("debug").is_ok());
        say("louder");
        assert!(telemetry.set_log_filter("dbug").is_err());
        say("still");
        assert!(telemetry.set_log_filter("info").is_ok());
        say("after");
    });
    let words: Vec<_> = rig
        .json()?
        .iter()
        .map(|line| line["word"].clone())
        .collect();
    assert_eq!(words, ["louder", "still"]);
    Ok(())
}

#[test]
fn an_error_shows_its_causes_and_the_sdk_is_silent_unless_named() -> Outcome {
    #[derive(Debug, thiserror::Error)]
    #[error("failed to read secret")]
    struct Outer(#[source] std::io::Error);

    let mut rig = Rig::new(&Config::default())?;
    let telemetry = rig.telemetry.clone();
    rig.run(|| {
        let failure = Outer(std::io::Error::other("connection reset"));
        error!(error = &failure as &dyn Error, "sorry");
        tracing::event!(target: "opentelemetry_sdk", Level::ERROR, "export failed");
        assert!(telemetry.set_log_filter("info,opentelemetry=warn").is_ok());
        tracing::event!(target: "opentelemetry_sdk", Level::ERROR, "asked for");
    });
    let lines = rig.json()?;
    assert_eq!(lines.len(), 2, "{lines:?}");
    assert_eq!(lines[0]["error"], "failed to read secret: connection reset");
    assert_eq!(lines[1]["message"], "asked for");
    Ok(())
}

#[test]
fn code_that_logs_or_panics_while_it_is_logged_does_no_harm() -> Outcome {
    struct Chatty;
    impl std::fmt::Display for Chatty {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            info!("from inside");
            f.write_str("chatty")
        }
    }
    struct Bomb;
    impl std::fmt::Display for Bomb {
        fn fmt(&self, _: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            std::panic::resume_unwind(Box::new("bomb"))
        }
    }

    let mut rig = Rig::new(&Config::default())?;
    rig.run(|| {
        let span =
            info_span!("request", request_id = "r-3", note = tracing::field::Empty).entered();
        span.record("note", tracing::field::display(Chatty));
        info!(value = %Chatty, "outer");
        let bombed = std::panic::catch_unwind(|| info!(value = %Bomb, "never"));
        assert!(bombed.is_err());
        info!("goes on");
    });
    let lines = rig.json()?;
    let last = lines.last().ok_or("no line")?;
    assert_eq!(
        (&last["message"], &last["request_id"], &last["note"]),
        (&"goes on".into(), &"r-3".into(), &"chatty".into())
    );
    assert!(
        lines
            .iter()
            .any(|line| line["message"] == "outer" && line["value"] == "chatty"),
        "{lines:?}"
    );
    Ok(())
}

#[test]
fn the_metrics_text_has_the_promised_names() -> Outcome {
    let build_info = vec![("commit".to_owned(), "abc123".to_owned())];
    let rig = Rig::new(&Config {
        service_version: "1.2.3".to_owned(),
        build_info,
        ..Config::default()
    })?;
    let meter = rig.telemetry.meter();
    let label = opentelemetry::KeyValue::new("actor", "db");
    meter
        .f64_histogram(instruments::ACTOR_CALL_DURATION)
        .with_unit("s")
        .build()
        .record(0.000_02, std::slice::from_ref(&label));
    meter
        .f64_histogram("http.server.request.duration")
        .with_unit("s")
        .build()
        .record(0.2, &[]);
    meter
        .u64_counter(instruments::ACTOR_RESTARTS)
        .build()
        .add(1, &[label]);
    let text = rig.telemetry.scrape().render(TextFormat::Prometheus)?;
    for line in [
        "dotmac_build_info{commit=\"abc123\",version=\"1.2.3\"} 1",
        "dotmac_actor_restarts_total{actor=\"db\"} 1",
        "dotmac_actor_call_duration_seconds_bucket{actor=\"db\",le=\"0.000025\"} 1",
        "http_server_request_duration_seconds_bucket{le=\"0.25\"} 1",
        "http_server_request_duration_seconds_bucket{le=\"0.1\"} 0",
        "dotmac_telemetry_exported_total{signal=\"traces\"} 0",
        "dotmac_telemetry_dropped_total{reason=\"queue_full\",signal=\"logs\"} 0",
        "dotmac_telemetry_queued{signal=\"logs\"} 0",
        "dotmac_telemetry_last_success_seconds{signal=\"metrics\"} 0",
    ] {
        assert!(
            text.lines().any(|given| given == line),
            "{line} is not in\n{text}"
        );
    }
    for name in [
        "cpu_seconds_total",
        "start_time_seconds",
        "resident_memory_bytes",
        "virtual_memory_bytes",
        "threads",
        "open_fds",
        "max_fds",
    ] {
        let found = text
            .lines()
            .any(|line| line.starts_with(&format!("process_{name} ")));
        assert!(
            found || !cfg!(target_os = "linux"),
            "process_{name} is not in\n{text}"
        );
    }
    assert!(!text.contains("otel_scope"), "{text}");
    Ok(())
}

#[test]
fn a_slow_value_has_its_sampled_trace_as_an_exemplar_and_an_unsampled_one_has_none() -> Outcome {
    let endpoint = "http://127.0.0.1:1".to_owned();
    let otlp = Otlp::new(endpoint, Protocol::Grpc, std::time::Duration::from_secs(1));
    let rig = Rig::new(&Config {
        otlp: Destinations::one(otlp),
        ..Config::default()
    })?;
    let meter = rig.telemetry.meter();
    let seconds = meter.f64_histogram("test.duration");
    let seconds = seconds
        .with_unit("s")
        .with_description("Said \"so\".")
        .build();
    let label = opentelemetry::KeyValue::new("test.route", "/a\"b");
    let trace = rig.run(|| {
        seconds.record(0.03, &[]);
        let _span = info_span!("request").entered();
        seconds.record(0.3, std::slice::from_ref(&label));
        seconds.record(99.0, std::slice::from_ref(&label));
        let context = tracing::Span::current().context();
        let id = opentelemetry::trace::TraceContextExt::span(&context)
            .span_context()
            .trace_id();
        id.to_string()
    });
    let text = rig.telemetry.scrape().render(TextFormat::OpenMetrics)?;
    let line = |start: &str| {
        text.lines()
            .find(|line| line.starts_with(start))
            .unwrap_or_default()
    };
    let exemplar = format!("# {{trace_id=\"{trace}\",span_id=");
    let labelled = "test_duration_seconds_bucket{test_route=\"/a\\\"b\",le=";
    let slow = line(&format!("{labelled}\"0.5\"}} 1 "));
    assert!(
        slow.contains(&exemplar) && slow.contains("} 0.3 "),
        "{slow:?} in\n{text}"
    );
    let slowest = line(&format!("{labelled}\"+Inf\"}} 2 "));
    assert!(slowest.contains("} 99 "), "{slowest:?} in\n{text}");
    assert_eq!(
        line("test_duration_seconds_bucket{le=\"0.05\"}"),
        "test_duration_seconds_bucket{le=\"0.05\"} 1"
    );
    for whole in [
        "# UNIT test_duration_seconds seconds",
        "# HELP test_duration_seconds Said \\\"so\\\".",
        "# TYPE process_cpu_seconds counter",
        "# EOF",
    ] {
        assert!(
            text.lines().any(|line| line == whole),
            "{whole} is not in\n{text}"
        );
    }
    assert!(text.ends_with("# EOF\n"));
    Ok(())
}

#[test]
fn evidence_is_in_the_log_at_any_level() -> Outcome {
    for level in ["warn", "off", "dotmac::evidence=off"] {
        let mut rig = Rig::new(&Config {
            log_filter: level.to_owned(),
            ..Config::default()
        })?;
        rig.run(|| {
            info!("nothing special");
            info!(target: dotmac_supervision::EVIDENCE, "evidence");
        });
        let lines = rig.json()?;
        let messages: Vec<_> = lines.iter().map(|line| &line["message"]).collect();
        assert_eq!(messages, ["evidence"], "{level}");
    }
    Ok(())
}

#[test]
fn one_place_that_floods_is_cut_short_and_the_rest_is_counted() -> Outcome {
    let mut rig = Rig::new(&Config {
        log_limit: 10,
        ..Config::default()
    })?;
    let telemetry = rig.telemetry.clone();
    rig.run(|| {
        for round in 0..1000 {
            info!(round, "flood");
            if round == 500 {
                info!("somebody else");
            }
            info!(target: "dotmac::access", "access");
            info!(target: dotmac_supervision::EVIDENCE, "evidence");
        }
    });
    let reported = |rig: &mut Rig| -> Outcome<u64> {
        let lines = rig.json()?;
        Ok(lines
            .iter()
            .filter_map(|line| line["suppressed"].as_u64())
            .sum())
    };
    until("the report of the suppressed lines", || {
        rig.run(|| telemetry.0.limiter.report());
        reported(&mut rig).is_ok_and(|lines| lines > 0)
    })?;
    let lines = rig.json()?;
    let count = |message: &str| {
        lines
            .iter()
            .filter(|line| line["message"] == message)
            .count()
    };
    assert_eq!((count("somebody else"), count("access")), (1, 1000));
    assert_eq!(count("evidence"), 1000);
    // At most two seconds began while it lasted.
    assert!(
        count("flood") >= 10 && count("flood") < 1000,
        "{}",
        count("flood")
    );
    assert_eq!(reported(&mut rig)? + count("flood") as u64, 1000);
    Ok(())
}

#[test]
fn a_level_is_changed_for_a_time_and_for_a_target_and_goes_back_by_itself() -> Outcome {
    let mut rig = Rig::new(&Config::default())?;
    let telemetry = rig.telemetry.clone();
    let change = |level: &str, target: Option<&str>, millis: Option<u64>| {
        telemetry.change_log_level(LevelChange {
            level: level.to_owned(),
            target: target.map(str::to_owned),
            lasting: millis.map(std::time::Duration::from_millis),
        })
    };
    rig.run(|| {
        let say = |word: &'static str| {
            debug!(target: "one::inner", word);
            debug!(target: "other", word);
        };
        assert!(change("debug", Some("one"), None).is_ok_and(|now| now == "info,one=debug"));
        say("one");
        assert!(change("warn", None, Some(300)).is_ok_and(|now| now == "warn,one=debug"));
        info!(word = "hidden");
        // The settings are read again: what the operator wants stays.
        assert!(telemetry.set_log_filter("error").is_ok());
        assert_eq!(telemetry.log_filter(), "warn,one=debug");
        for (level, target) in [
            ("loud", Some("one")),
            ("debug", Some("o ne")),
            ("dbug", None),
        ] {
            assert!(change(level, target, None).is_err(), "{level} {target:?}");
        }
    });
    until("the level to go back", || {
        telemetry.log_filter() == "error,one=debug"
    })?;
    let words: Vec<_> = rig
        .json()?
        .iter()
        .map(|line| line["word"].clone())
        .collect();
    assert_eq!(words, ["one"]);
    Ok(())
}
