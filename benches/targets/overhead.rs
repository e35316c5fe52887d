//! What telemetry costs: the same route with all of it off, with all of it on and exported to the real
//! collector, and with all but traces.
//!
//! The route does next to nothing, so this is the worst case. Collector and clients have one core, the
//! daemon has the other: what is measured is what the daemon spends, as its collector is another machine's
//! in production.

use crate::{
    process::{Measured, pin},
    report::{Report, median},
    support::collector::Collector,
    throughput::wrk_on,
};

const ROUNDS: usize = 9;

/// Through all middleware, with a span and metrics of its own; no probe.
const ROUTE: &str = "/";

/// Cores.
const DAEMON: usize = 0;
const CLIENTS: usize = 1;

pub async fn measure(report: &mut Report) {
    let collector = Collector::quiet().await;
    let endpoint = format!("http://127.0.0.1:{}", collector.grpc);
    let exported = [("DOTMAC_TELEMETRY_OTLP_ENDPOINT", endpoint)];
    let without = ("DOTMAC_TELEMETRY_TRACES", "false".to_owned());
    let traces_off = [exported[0].clone(), without];
    let settings: [&[(&str, String)]; 3] = [&[], &exported, &traces_off];
    let directories = settings.map(|_| tempfile::tempdir().unwrap());
    let daemons: Vec<Measured> = settings
        .iter()
        .zip(&directories)
        .map(|(settings, directory)| Measured::daemon(directory.path(), settings))
        .collect();
    let mut rates = [const { Vec::new() }; 3];
    pin(collector.pid(), CLIENTS);
    for daemon in &daemons {
        daemon.until("/ready");
        pin(daemon.pid(), DAEMON);
        wrk_on(CLIENTS, daemon.port, ROUTE);
    }
    for _ in 0..ROUNDS {
        for (daemon, rates) in daemons.iter().zip(&mut rates) {
            rates.push(wrk_on(CLIENTS, daemon.port, ROUTE));
        }
    }
    let share_lost = lost_share(&daemons[1]);
    let [off, on, traces_off] = rates.map(|mut rates| median(&mut rates));
    for (what, target, rate, least, more) in [
        (
            "throughput, every request traced and exported",
            "less than 10 % lost",
            on,
            0.90,
            format!(", {share_lost:.1} % of spans dropped, queue full"),
        ),
        (
            "throughput, traces off, the rest exported",
            "less than 3 % lost",
            traces_off,
            0.97,
            String::new(),
        ),
    ] {
        let lost = (1.0 - rate / off) * 100.0;
        report.row(
            what,
            target,
            format!("{lost:.1} % lost ({rate:.0}/s){more}"),
            format!("same route, telemetry off: {off:.0}/s"),
            rate / off > least,
        );
    }
}

/// Of the spans that were made, how many did not find room in the queue, in percent.
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
    lost / (lost + sum("dotmac_telemetry_exported_total")) * 100.0
}
