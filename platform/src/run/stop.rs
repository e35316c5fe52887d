//! The stop: readiness off, drain, finish what is in flight, actors in reverse order, telemetry last;
//! all of it under one deadline, which a thread outside every runtime enforces.

use std::time::{Duration, Instant};

use actix_web::dev::ServerHandle;
use dotmac_supervision::{ChildStop, StopReport, SupervisorHandle};
use dotmac_telemetry::Telemetry;
use tracing::{Instrument, info, info_span, warn};

use super::deadline::Deadline;
use crate::settings::Settings;

/// The parts to stop, and the time limit.
pub(super) struct Stop<'a> {
    pub(super) settings: &'a Settings,
    pub(super) server: &'a ServerHandle,
    pub(super) supervisor: &'a SupervisorHandle,
    pub(super) telemetry: &'a Telemetry,
    pub(super) deadline: Deadline,
}

/// The report of a stop: time of each phase, and the actors that were late.
#[derive(Debug, Default)]
struct Report {
    drain: Duration,
    http: Duration,
    actors: Duration,
    late: Vec<&'static str>,
}

impl Stop<'_> {
    /// Stops everything. With `drain` off, the delay for load balancers is skipped.
    pub(super) async fn run(self, why: &str, drain: bool) {
        // One trace up to the flush, which has to carry it.
        let shutdown = info_span!(parent: None, "shutdown", reason = why);
        let stops = self.phases(why, drain).instrument(shutdown).await;

        self.deadline.enter("telemetry");
        // On a thread: a flush waits for exporters that need this one's runtime to turn.
        let (telemetry, left) = (self.telemetry.clone(), self.deadline.left());
        // The component has flushed already when it stopped; both share one time.
        let flushed = stops.iter().find(|child| child.name == "telemetry");
        let spent = flushed.map_or(Duration::ZERO, |child| child.took);
        let share = self.settings.telemetry.export_timeout.saturating_sub(spent);
        let limit = left.mul_f64(0.8).min(share);
        tokio::task::spawn_blocking(move || telemetry.flush(limit))
            .await
            .ok();
    }

    /// All but the last phase; how the components stopped.
    async fn phases(&self, why: &str, drain: bool) -> Vec<ChildStop> {
        let total = self.settings.shutdown.timeout;
        let mut report = Report::default();
        super::notify::stopping();
        info!(
            reason = why,
            timeout_ms = total.as_millis() as u64,
            "stopping"
        );

        self.deadline.enter("drain");
        let started = Instant::now();
        self.supervisor.drain_for_stop();
        if drain {
            tokio::time::sleep(self.settings.shutdown.drain_delay)
                .instrument(info_span!("drain"))
                .await;
        }
        report.drain = started.elapsed();

        self.deadline.enter("http");
        let started = Instant::now();
        let finished = self.finish_requests();
        if !finished.instrument(info_span!("finish requests")).await {
            report.late.push("http");
        }
        report.http = started.elapsed();

        self.deadline.enter("actors");
        let started = Instant::now();
        let halt = self.supervisor.halt();
        let StopReport { children } = halt.instrument(info_span!("stop components")).await;
        report.late.extend(
            children
                .iter()
                .filter(|child| child.abandoned)
                .map(|child| child.name),
        );
        report.actors = started.elapsed();
        report.say(self.deadline.began, why, &children);
        children
    }

    /// Stops accepting and waits for what is in flight, leaving the actors their share of the deadline.
    /// `false` if requests had to be cut.
    async fn finish_requests(&self) -> bool {
        let policy = &self.settings.supervision;
        let total = self.settings.shutdown.timeout;
        let share = (policy.stop_timeout + self.settings.telemetry.export_timeout).min(total / 3);
        let left = self.deadline.left().saturating_sub(share);
        let finished = tokio::time::timeout(left, self.server.stop(true))
            .await
            .is_ok();
        if !finished {
            // The server's own limit ends it soon; waiting for that would take the actors' share.
            drop(self.server.stop(false));
        }
        finished
    }
}

impl Report {
    fn say(&self, began: Instant, why: &str, children: &[ChildStop]) {
        let actors: Vec<String> = children
            .iter()
            .map(|child| format!("{} {} ms", child.name, child.took.as_millis()))
            .collect();
        let (drain_ms, http_ms, actors_ms) = (
            self.drain.as_millis() as u64,
            self.http.as_millis() as u64,
            self.actors.as_millis() as u64,
        );
        let (total_ms, actors, late) = (
            began.elapsed().as_millis() as u64,
            actors.join(", "),
            self.late.join(", "),
        );
        if late.is_empty() {
            info!(
                reason = why,
                total_ms, drain_ms, http_ms, actors_ms, actors, "stopped"
            );
        } else {
            warn!(
                reason = why,
                total_ms,
                drain_ms,
                http_ms,
                actors_ms,
                actors,
                late,
                "stopped, but {late} did not end in time"
            );
        }
    }
}
