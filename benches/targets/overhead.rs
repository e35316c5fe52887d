//! The cost of telemetry: the same route with all of it off, with all of it on and exported to the real
//! collector, and with all but traces.
//!
//! The route does next to nothing, so this is the worst case. Collector and clients have one core, the
//! daemon has the other: what is measured is what the daemon spends, as its collector is another machine's
//! in production. There are so many connections that the daemon has something to do while the collector
//! keeps the clients from running: with 64 they are all answered before that ends, and the daemon waits for
//! 5 % of the time. Each round starts new daemons, since two of the same differ by 2 % as long as they live.

use crate::{
    process::{Measured, pin},
    report::{Report, median},
    support::collector::Collector,
    throughput::{LASTS, wrk_on},
};

const ROUNDS: usize = 9;

/// Through all middleware, with a span and metrics of its own; no probe.
const ROUTE: &str = "/";

/// Cores.
const DAEMON: usize = 0;
const CLIENTS: usize = 1;

const CONNECTIONS: usize = 256;

/// The results of the rounds for one kind of daemon.
#[derive(Default)]
struct Rounds {
    /// Requests a second.
    rates: Vec<f64>,
    /// The core time of a request, in microseconds.
    costs: Vec<f64>,
    /// Spans lost in the worst of them, in percent.
    lost: f64,
}

pub async fn measure(report: &mut Report) {
    let collector = Collector::quiet().await;
    pin(collector.pid(), CLIENTS);
    let endpoint = collector.endpoint();
    let exported = ("DOTMAC_TELEMETRY_OTLP_ENDPOINT", endpoint);
    let without = ("DOTMAC_TELEMETRY_TRACES", "false".to_owned());
    let mut kinds = [
        (vec![], Rounds::default()),
        (vec![exported.clone()], Rounds::default()),
        (vec![exported, without], Rounds::default()),
    ];
    for _ in 0..ROUNDS {
        for (settings, rounds) in &mut kinds {
            rounds.another(settings);
        }
    }
    let [off, on, traces_off] = kinds.map(|(_, rounds)| rounds);
    let share_lost = on.lost;
    let (off, off_cost) = off.medians();
    for (what, rounds, more) in [
        (
            "cost of telemetry, every request traced and exported",
            on,
            format!(", {share_lost:.1} % of spans dropped, queue full"),
        ),
        (
            "cost of telemetry, traces off, the rest exported",
            traces_off,
            String::new(),
        ),
    ] {
        let (rate, cost) = rounds.medians();
        let lost = (1.0 - rate / off) * 100.0;
        let added = cost - off_cost;
        report.row(
            what,
            "under 5 µs of a core a request",
            format!(
                "{added:.1} µs of a core a request, {lost:.1} % fewer requests ({rate:.0}/s){more}"
            ),
            format!("same route, telemetry off: {off:.0}/s, {off_cost:.1} µs"),
            added < 5.0,
        );
    }
}

impl Rounds {
    /// Starts a daemon, warms it up, and measures it.
    fn another(&mut self, settings: &[(&str, String)]) {
        let directory = tempfile::tempdir().unwrap();
        let daemon = Measured::daemon(directory.path(), settings);
        daemon.until("/ready");
        pin(daemon.pid(), DAEMON);
        let rate = || wrk_on(CLIENTS, CONNECTIONS, daemon.port, ROUTE);
        rate();
        let before = daemon.cpu_time();
        let rate = rate();
        let spent = daemon.cpu_time() - before;
        self.rates.push(rate);
        self.costs
            .push(spent.as_micros() as f64 / (rate * LASTS.as_secs_f64()));
        self.lost = self.lost.max(lost_share(&daemon));
    }

    fn medians(mut self) -> (f64, f64) {
        (median(&mut self.rates), median(&mut self.costs))
    }
}

/// Of the spans that a daemon made, how many did not find room in the queue, in percent.
fn lost_share(daemon: &Measured) -> f64 {
    let (_, text) = daemon.get("/metrics").unwrap();
    let sum = |name: &str| -> f64 {
        let of_traces = |line: &&str| line.starts_with(name) && line.contains("traces");
        let values = text.lines().filter(of_traces);
        values
            .map(|line| line.rsplit_once(' ').unwrap().1.parse::<f64>().unwrap())
            .sum()
    };
    let lost = sum("dotmac_telemetry_dropped_total");
    lost / (lost + sum("dotmac_telemetry_exported_total")).max(1.0) * 100.0
}
