//! Variables of others' standards, such as `OTEL_*`, that are taken for our own keys.

use std::time::Duration;

use secrecy::ExposeSecret;

use super::{mistake, right};
use crate::settings::{Compression, Export, Protocol};

#[test]
fn standard_variables_of_opentelemetry_are_translated() {
    let settings = right(&[
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:4318"),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf"),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "2500"),
        ("OTEL_METRIC_EXPORT_INTERVAL", "15000"),
        ("OTEL_BSP_MAX_QUEUE_SIZE", "8192"),
        ("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "1024"),
        ("OTEL_BSP_SCHEDULE_DELAY", "5000"),
        ("OTEL_BLRP_MAX_QUEUE_SIZE", "100"),
        ("OTEL_BLRP_MAX_EXPORT_BATCH_SIZE", "10"),
        ("OTEL_BLRP_SCHEDULE_DELAY", "200"),
        ("OTEL_RESOURCE_ATTRIBUTES", "team=a%2Cb, region=eu"),
        ("OTEL_SDK_DISABLED", "true"),
        ("OTEL_SERVICE_NAME", "shop"),
        ("RUST_LOG", "warn,hyper"),
    ]);
    let telemetry = settings.telemetry;
    assert_eq!(telemetry.otlp_protocol, Protocol::Http);
    assert_eq!(telemetry.export_timeout.as_millis(), 2500);
    assert_eq!(telemetry.metric_interval.as_secs(), 15);
    let queue = |size, batch, delay: Duration| (size, batch, delay.as_millis());
    assert_eq!(
        queue(
            telemetry.span_queue,
            telemetry.span_batch,
            telemetry.span_delay
        ),
        (8192, 1024, 5000)
    );
    assert_eq!(
        queue(
            telemetry.log_queue,
            telemetry.log_batch,
            telemetry.log_delay
        ),
        (100, 10, 200)
    );
    let attribute = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    assert_eq!(
        telemetry.resource_attributes,
        [attribute("team", "a,b"), attribute("region", "eu")]
    );
    assert!(!telemetry.traces && !telemetry.metrics && !telemetry.logs);
    assert_eq!(telemetry.service_name, "shop");
    assert_eq!(&*telemetry.log_level, "warn,hyper=trace");
}

#[test]
fn the_standards_samplers_and_exporters_are_understood() {
    let ratio = |given: &[(&str, &str)]| right(given).telemetry.sample_ratio;
    let sampler = "OTEL_TRACES_SAMPLER";
    assert_eq!(ratio(&[(sampler, "parentbased_always_off")]), 0.0);
    assert_eq!(
        ratio(&[(sampler, "always_on"), ("OTEL_TRACES_SAMPLER_ARG", "0.1")]),
        1.0
    );
    let by_ratio = [
        (sampler, "parentbased_traceidratio"),
        ("OTEL_TRACES_SAMPLER_ARG", "0.25"),
    ];
    assert_eq!(ratio(&by_ratio), 0.25);
    let without_sampler = right(&[("OTEL_TRACES_SAMPLER_ARG", "0.25")]);
    assert_eq!(without_sampler.telemetry.sample_ratio, 1.0);
    assert_eq!(without_sampler.unread(), ["OTEL_TRACES_SAMPLER_ARG"]);

    let parent_based = |name: &str| right(&[(sampler, name)]).telemetry.sample_parent_based;
    for name in ["always_on", "always_off", "traceidratio"] {
        assert!(!parent_based(name), "{name}");
        assert!(parent_based(&format!("parentbased_{name}")), "{name}");
    }
    assert!(right(&[]).telemetry.sample_parent_based);
    assert!(mistake(&[(sampler, "xray")]).contains("fallback OTEL_TRACES_SAMPLER"));

    let telemetry = right(&[
        ("OTEL_TRACES_EXPORTER", "none"),
        ("OTEL_METRICS_EXPORTER", "otlp,prometheus"),
        ("OTEL_SDK_DISABLED", "false"),
    ])
    .telemetry;
    assert_eq!(
        (telemetry.traces, telemetry.metrics, telemetry.logs),
        (false, true, true)
    );
}

#[test]
fn a_standard_variable_that_nothing_reads_is_named() {
    let settings = right(&[
        ("OTEL_PROPAGATORS", "b3"),
        ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://elsewhere"),
        ("OTEL_EXPORTER_OTLP_TRACES_INSECURE", "true"),
        ("OTEL_SERVICE_NAME", "shop"),
        ("OTEL_SPAN_EVENT_COUNT_LIMIT", "7"),
    ]);
    assert_eq!(
        settings.unread(),
        ["OTEL_EXPORTER_OTLP_TRACES_INSECURE", "OTEL_PROPAGATORS"]
    );
}

#[test]
fn a_variable_for_one_signal_wins_over_the_one_for_all() {
    let settings = right(&[
        ("DOTMAC_TELEMETRY_OTLP_ENDPOINT", "http://collector:4317"),
        ("DOTMAC_TELEMETRY_OTLP_HEADERS", "x-for=all"),
        (
            "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
            "http://traces:4318/in",
        ),
        ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "http/protobuf"),
        ("OTEL_EXPORTER_OTLP_TRACES_HEADERS", "x-for=traces"),
        ("OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", "1500"),
        ("OTEL_EXPORTER_OTLP_LOGS_COMPRESSION", "gzip"),
        ("OTEL_EXPORTER_OTLP_LOGS_CERTIFICATE", "/logs/ca.pem"),
    ]);
    assert!(settings.unread().is_empty(), "{:?}", settings.unread());
    let shown = |export: &Export| {
        let of = &export.settings;
        let endpoint = of.otlp_endpoint.as_ref().map(ToString::to_string);
        let headers = of.otlp_headers.literal().map(ExposeSecret::expose_secret);
        (
            endpoint.unwrap(),
            export.has_own_endpoint,
            of.otlp_protocol,
            headers.unwrap().to_owned(),
            of.export_timeout.as_millis(),
            of.otlp_compression,
        )
    };
    let all = |compression| {
        let (endpoint, headers) = ("http://collector:4317/".to_owned(), "x-for=all".to_owned());
        (endpoint, false, Protocol::Grpc, headers, 5000, compression)
    };
    let traces = "http://traces:4318/in".to_owned();
    assert_eq!(
        shown(&settings.exports.traces),
        (
            traces,
            true,
            Protocol::Http,
            "x-for=traces".to_owned(),
            1500,
            Compression::None
        )
    );
    assert_eq!(shown(&settings.exports.metrics), all(Compression::None));
    assert_eq!(shown(&settings.exports.logs), all(Compression::Gzip));
    let ca = settings.exports.logs.settings.otlp_ca_cert;
    assert_eq!(ca, Some("/logs/ca.pem".into()));
    assert!(settings.telemetry.otlp_ca_cert.is_none());
}

#[test]
fn a_wrong_variable_for_one_signal_is_named() {
    let reported = mistake(&[("OTEL_EXPORTER_OTLP_LOGS_TIMEOUT", "soon")]);
    assert!(
        reported.contains("fallback OTEL_EXPORTER_OTLP_LOGS_TIMEOUT"),
        "{reported}"
    );
    let headers = "OTEL_EXPORTER_OTLP_TRACES_HEADERS";
    let reported = mistake(&[(headers, "vault:otlp#headers")]);
    assert!(reported.contains("cannot come from Vault"), "{reported}");
    assert!(mistake(&[(headers, "sekret")]).contains("name=value"));
}
