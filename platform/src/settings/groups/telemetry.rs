//! Logs, metrics and traces.

use std::path::PathBuf;
use std::time::Duration;

use url::Url;

use crate::settings::types::{
    Compression, Environment, LogFilter, LogFormat, Protocol, SecretSetting, from_rust_log,
};
use crate::settings::{
    Facts, Fallback, argument, between, computed, fallback, fixed, lasting, translated,
};

/// Turns all signals off, so its sense is the opposite of ours.
const SDK_DISABLED: Fallback = translated("OTEL_SDK_DISABLED", negated);

crate::settings! {
    title: "Telemetry", prefix: "TELEMETRY_";
    /// Logs, metrics and traces, and the OpenTelemetry collector they are sent to.
    pub struct TelemetrySettings {
        /// Which lines are logged: a level (`off`, `error`, `warn`, `info`, `debug`, `trace`), or a
        /// list as `info,actix_web=debug`.
        log_level: LogFilter {
            default: fixed("info"),
            fallbacks: &[translated("RUST_LOG", from_rust_log)],
            live: true,
        }

        /// Lines that each place in the code may log in a second; a separate line reports the number of dropped ones.
        /// The access log is exempt. `0` means no limit.
        log_limit: u32 { default: fixed("100") }

        /// `json` writes one object a line, `pretty` is for reading at a terminal.
        log_format: LogFormat {
            default: computed("`pretty` on a terminal in development, `json` elsewhere", log_format),
        }

        /// URL of the collector, as `http://localhost:4317`. Unset means that nothing is exported.
        otlp_endpoint: Option<Url> { fallbacks: &[fallback("OTEL_EXPORTER_OTLP_ENDPOINT")] }

        /// Protocol of the collector: `http` is protobuf over HTTP.
        otlp_protocol: Protocol {
            default: fixed("grpc"),
            fallbacks: &[translated("OTEL_EXPORTER_OTLP_PROTOCOL", protocol)],
        }

        /// Headers sent with every export, as `authorization=Bearer%20…,x-team=blue`; a comma or a
        /// space in a value is percent-encoded.
        otlp_headers: SecretSetting {
            fallbacks: &[fallback("OTEL_EXPORTER_OTLP_HEADERS")],
            optional: true,
            live: false,
        }

        /// How exports are compressed.
        otlp_compression: Compression {
            default: fixed("none"),
            fallbacks: &[fallback("OTEL_EXPORTER_OTLP_COMPRESSION")],
        }

        /// PEM file of the authorities to trust for an `https://` collector, in place of the
        /// system's.
        otlp_ca_cert: Option<PathBuf> { fallbacks: &[fallback("OTEL_EXPORTER_OTLP_CERTIFICATE")] }

        /// PEM file with the client certificate, for a collector that requires one. Needs
        /// `DOTMAC_TELEMETRY_OTLP_CLIENT_KEY`.
        otlp_client_cert: Option<PathBuf> {
            fallbacks: &[fallback("OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE")],
        }

        /// PEM file with the private key of `DOTMAC_TELEMETRY_OTLP_CLIENT_CERT`.
        otlp_client_key: Option<PathBuf> { fallbacks: &[fallback("OTEL_EXPORTER_OTLP_CLIENT_KEY")] }

        /// Whether traces are exported.
        traces: bool {
            default: fixed("true"),
            fallbacks: &[SDK_DISABLED, translated("OTEL_TRACES_EXPORTER", exporter)],
        }

        /// Whether metrics are exported. `/metrics` is served either way.
        metrics: bool {
            default: fixed("true"),
            fallbacks: &[SDK_DISABLED, translated("OTEL_METRICS_EXPORTER", exporter)],
        }

        /// Whether logs are exported. They are written to the terminal either way.
        logs: bool {
            default: fixed("true"),
            fallbacks: &[SDK_DISABLED, translated("OTEL_LOGS_EXPORTER", exporter)],
        }

        /// Share of the traces that is kept. A caller's trace follows the caller's decision, unless
        /// `DOTMAC_TELEMETRY_SAMPLE_PARENT_BASED` is `false`.
        sample_ratio: f64 {
            default: fixed("1.0"),
            range: between::<f64>("0", "1"),
            fallbacks: &[
                translated("OTEL_TRACES_SAMPLER", sampler),
                argument("OTEL_TRACES_SAMPLER_ARG", "OTEL_TRACES_SAMPLER"),
            ],
        }

        /// Whether a caller's trace is kept if the caller keeps it. Set `false` for callers from the internet, who
        /// could otherwise export every request: then `DOTMAC_TELEMETRY_SAMPLE_RATIO` decides on all traces.
        sample_parent_based: bool {
            default: fixed("true"),
            fallbacks: &[translated("OTEL_TRACES_SAMPLER", parent_based)],
        }

        /// Most spans that wait for export, including those under way. Further ones are dropped and counted; the span
        /// of a request takes some 450 bytes.
        span_queue: usize {
            default: fixed("2048"),
            range: between::<usize>("1", "1000000"),
            fallbacks: &[fallback("OTEL_BSP_MAX_QUEUE_SIZE")],
        }

        /// Most spans in one export; all that wait, if the queue is smaller.
        span_batch: usize {
            default: fixed("512"),
            range: between::<usize>("1", "65536"),
            fallbacks: &[fallback("OTEL_BSP_MAX_EXPORT_BATCH_SIZE")],
        }

        /// Longest time a span waits for its batch.
        span_delay: Duration {
            default: fixed("1s"),
            range: lasting("10ms", "1m"),
            fallbacks: &[translated("OTEL_BSP_SCHEDULE_DELAY", milliseconds)],
        }

        /// Most log records that wait for export, including those under way. Further ones are dropped and counted.
        log_queue: usize {
            default: fixed("2048"),
            range: between::<usize>("1", "1000000"),
            fallbacks: &[fallback("OTEL_BLRP_MAX_QUEUE_SIZE")],
        }

        /// Most log records in one export; all that wait, if the queue is smaller.
        log_batch: usize {
            default: fixed("512"),
            range: between::<usize>("1", "65536"),
            fallbacks: &[fallback("OTEL_BLRP_MAX_EXPORT_BATCH_SIZE")],
        }

        /// Longest time a log record waits for its batch.
        log_delay: Duration {
            default: fixed("1s"),
            range: lasting("10ms", "1m"),
            fallbacks: &[translated("OTEL_BLRP_SCHEDULE_DELAY", milliseconds)],
        }

        /// How often metrics are exported.
        metric_interval: Duration {
            default: fixed("30s"),
            range: lasting("100ms", "1h"),
            fallbacks: &[translated("OTEL_METRIC_EXPORT_INTERVAL", milliseconds)],
        }

        /// Name of this service in traces, metrics and logs.
        service_name: String {
            default: computed("`DOTMAC_APP_NAME`", service_name),
            fallbacks: &[fallback("OTEL_SERVICE_NAME")],
        }

        /// Further attributes of this service, as `team=payments,region=eu`. A comma in a value is
        /// written `%2C`.
        resource_attributes: Vec<(String, String)> {
            fallbacks: &[fallback("OTEL_RESOURCE_ATTRIBUTES")],
        }

        /// Longest time that one export, or the last one at shutdown, may take.
        export_timeout: Duration {
            default: fixed("5s"),
            range: lasting("10ms", "5m"),
            fallbacks: &[translated("OTEL_EXPORTER_OTLP_TIMEOUT", milliseconds)],
        }
    }
}

fn log_format(facts: &Facts<'_>) -> String {
    let format = match facts.environment() {
        Environment::Development if facts.terminal() => LogFormat::Pretty,
        _ => LogFormat::Json,
    };
    format.to_string()
}

fn service_name(facts: &Facts<'_>) -> String {
    facts.app_name().to_owned()
}

/// The standard `OTEL_` variables count time in milliseconds and write no unit.
fn milliseconds(text: &str) -> String {
    let text = text.trim();
    if text.bytes().all(|byte| byte.is_ascii_digit()) {
        format!("{text}ms")
    } else {
        text.to_owned()
    }
}

/// By the standard only `true`, in any case, means true; anything else leaves it to the others.
fn negated(text: &str) -> String {
    let disabled = text.trim().eq_ignore_ascii_case("true");
    if disabled { "false" } else { "" }.to_owned()
}

/// `otlp`, `none`, or a list; of the exporters there are we have this one, and `/metrics`.
fn exporter(text: &str) -> String {
    let mut names = text.split(',').map(str::trim);
    names.any(|name| name == "otlp").to_string()
}

/// The samplers that need no argument; the others have theirs in a separate variable.
fn sampler(text: &str) -> String {
    match text.trim() {
        "always_on" | "parentbased_always_on" => "1",
        "always_off" | "parentbased_always_off" => "0",
        "traceidratio" | "parentbased_traceidratio" => "",
        unknown => unknown,
    }
    .to_owned()
}

/// A sampler that is none of the standard's is reported where the ratio is read.
fn parent_based(text: &str) -> String {
    match text.trim() {
        "always_on" | "always_off" | "traceidratio" => "false",
        "parentbased_always_on" | "parentbased_always_off" | "parentbased_traceidratio" => "true",
        _ => "",
    }
    .to_owned()
}

fn protocol(text: &str) -> String {
    let ours = if text == "http/protobuf" {
        "http"
    } else {
        text
    };
    ours.to_owned()
}
