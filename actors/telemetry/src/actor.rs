//! The actor that connects telemetry to its collector, and reports its state.
//!
//! It owns the exporters, not the queues: its faults never slow down code that logs or ends a span. A collector that is
//! away makes it `degraded`, never unready, and costs two log lines: one when it begins, one when it ends.

use std::time::{Duration, Instant};

use actix::{
    Actor, ActorContext as _, ActorFutureExt as _, AsyncContext as _, Context, WrapFuture as _,
};
use secrecy::SecretString;
use tracing::{error, info, warn};

use super::{
    Destinations, Otlp, Telemetry,
    error::TelemetryError,
    otlp::Attachment,
    tally::Failure,
    watch::{ExportFault, Watch},
};
use dotmac_causes::Chain;
use dotmac_supervision::{Lifeline, Reason, Serving, SupervisedActor};

/// The collector does not answer within the export time-out.
pub const NO_ANSWER: Reason = Reason::new("no_answer");
/// The collector answers, and refuses what it is sent.
pub const REJECTED: Reason = Reason::new("rejected");
/// The collector asks for a pause.
pub const RATE_LIMITED: Reason = Reason::new("rate_limited");
/// The collector's certificate is not to be trusted, or ours not by it.
pub const TLS_FAILED: Reason = Reason::new("tls_failed");
/// The exporters cannot be built from the settings.
pub const MISCONFIGURED: Reason = Reason::new("misconfigured");

/// The system has no thread left for the exporters.
pub const NO_RESOURCES: Reason = Reason::new("no_resources");

/// How often the tallies are checked.
const LOOK: Duration = Duration::from_secs(1);

/// How often a collector in trouble is tried when nothing else is sent to it.
const RETRY: Duration = Duration::from_secs(5);

/// A hint about a collector that closes the connection after the handshake.
const HUNG_UP: &str =
    "it closed the connection after the TLS handshake; does it require a client certificate?";

const LOCAL: Serving = Serving::from("local");
const EXPORTING: Serving = Serving::from("otlp");

/// Plugs the exporters in when it starts, flushes and leaves them in place when it is stopped,
/// unplugs them when it fails.
#[derive(Debug)]
pub struct TelemetryActor {
    lifeline: Lifeline,
    telemetry: Telemetry,
    headers: Vec<(String, SecretString)>,
    export: Option<Export>,
}

/// The export while the actor runs.
#[derive(Debug)]
struct Export {
    otlp: Destinations,
    attachment: Attachment,
    watch: Watch,
    trouble: Option<Since>,
    tried: Instant,
}

/// A trouble that has been reported.
#[derive(Debug)]
struct Since {
    at: Instant,
    lost_before: u64,
    reason: Reason,
    endpoint: String,
}

impl TelemetryActor {
    /// One incarnation; builds and connects nothing yet.
    #[must_use]
    pub fn new(lifeline: Lifeline, telemetry: Telemetry) -> Self {
        Self {
            lifeline,
            telemetry,
            headers: Vec::new(),
            export: None,
        }
    }

    /// Sends these headers too with every export: those that were not known at
    /// [`install`](super::install), because they are secrets that had to be fetched first. A signal
    /// with headers of its own is sent with those alone.
    #[must_use]
    pub fn with_headers(mut self, headers: Vec<(String, SecretString)>) -> Self {
        self.headers = headers;
        self
    }

    fn begin_export(&mut self, mut otlp: Destinations) {
        otlp.add_headers(&self.headers);
        let pipelines = &self.telemetry.0.pipelines;
        let attachment = match pipelines.outlets.attach(&otlp) {
            Ok(attachment) => attachment,
            Err(failure) => {
                let exhausted = matches!(failure, TelemetryError::Runtime(_));
                let reason = if exhausted {
                    NO_RESOURCES
                } else {
                    MISCONFIGURED
                };
                return self.lifeline.fail(reason, Chain(&failure));
            }
        };
        let watch = Watch::begin(&pipelines.outlets);
        // In the background: a collector that is down is noticed at the next look and does not
        // delay any start.
        pipelines.outlets.probe();
        self.export = Some(Export {
            otlp,
            attachment,
            watch,
            trouble: None,
            tried: Instant::now(),
        });
        self.lifeline.ready(EXPORTING);
    }

    fn look(&mut self) {
        self.telemetry.0.limiter.report();
        let Some(export) = &mut self.export else {
            return;
        };
        match (export.watch.trouble(), &export.trouble) {
            (Some(trouble), None) => {
                let reason = export.reason(&trouble);
                export.warn(&trouble, reason);
                self.lifeline.degraded(reason, EXPORTING);
            }
            // From "unreachable" to "rejected" and the like: the state changes, the log has its
            // line already.
            (Some(trouble), Some(since)) if since.reason != export.reason(&trouble) => {
                let reason = export.reason(&trouble);
                self.lifeline.degraded(reason, EXPORTING);
                if let Some(since) = &mut export.trouble {
                    since.reason = reason;
                }
            }
            (None, Some(since)) => {
                let (lost, lasted_ms) = (
                    export.watch.lost() - since.lost_before,
                    millis(since.at.elapsed()),
                );
                info!(
                    endpoint = since.endpoint,
                    lost, lasted_ms, "telemetry is exported again"
                );
                export.trouble = None;
                self.lifeline.ready(EXPORTING);
            }
            _ => {}
        }
        let again = match &export.trouble {
            Some(_) => export.tried.elapsed() >= RETRY,
            None => export.watch.has_missed_an_answer(),
        };
        if again {
            export.tried = Instant::now();
            self.telemetry.0.pipelines.outlets.probe();
        }
    }
}

impl Export {
    fn reason(&self, trouble: &ExportFault) -> Reason {
        let otlp = self.otlp.of(trouble.signal);
        let hung_up = trouble.failure.is_hang_up() && otlp.is_some_and(Otlp::is_encrypted);
        match &trouble.failure {
            Failure::Timeout => NO_ANSWER,
            Failure::Throttled(_) => RATE_LIMITED,
            failure if failure.is_tls() || hung_up => TLS_FAILED,
            failure if failure.is_refusal() => REJECTED,
            Failure::Export(_) => Reason::UNREACHABLE,
        }
    }

    fn warn(&mut self, trouble: &ExportFault, reason: Reason) {
        let otlp = self.otlp.of(trouble.signal);
        let (endpoint, timeout) = otlp
            .map(|otlp| (otlp.public_endpoint(), otlp.export_timeout))
            .unwrap_or_default();
        let error = match &trouble.failure {
            Failure::Timeout => format!("no answer within {timeout:?}"),
            Failure::Export(text) if reason == TLS_FAILED && !trouble.failure.is_tls() => {
                format!("{text}: {HUNG_UP}")
            }
            Failure::Throttled(text) | Failure::Export(text) => text.clone(),
        };
        warn!(
            endpoint,
            signal = trouble.signal.as_str(),
            reason = reason.as_str(),
            error,
            "telemetry cannot be exported; retrying"
        );
        self.trouble = Some(Since {
            at: Instant::now(),
            lost_before: self.watch.lost(),
            reason,
            endpoint,
        });
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

impl Actor for TelemetryActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.run_interval(LOOK, |actor, _| actor.look());
        let otlp = self.telemetry.0.otlp.clone();
        match otlp.longest_export() {
            Some(_) => self.begin_export(otlp),
            None => self.lifeline.ready(LOCAL),
        }
    }
}

impl SupervisedActor for TelemetryActor {
    fn shutdown(&mut self, ctx: &mut Self::Context) {
        let Some(export) = &mut self.export else {
            return ctx.stop();
        };
        // Later log lines, including those of the stop of later components, are for
        // the flush at the very end.
        export.attachment.leave();
        let limit = export.otlp.longest_export().unwrap_or_default();
        let telemetry = self.telemetry.clone();
        // Flushing blocks; the exporters' runtime has threads for that.
        let flush = export
            .attachment
            .runtime()
            .handle()
            .spawn_blocking(move || telemetry.flush(limit));
        let done = flush.into_actor(self).map(|outcome, _, ctx| {
            if let Err(failure) = outcome {
                error!(
                    error = &failure as &dyn std::error::Error,
                    "the flush of telemetry ended early"
                );
            }
            ctx.stop();
        });
        ctx.spawn(done);
    }
}
