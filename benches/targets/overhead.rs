//! What telemetry costs: the same route with all of it off, with all of it on and exported to the real
//! collector, and with all but traces.

use crate::{
    process::Measured,
    report::{Report, median},
    support::collector::Collector,
    throughput::wrk,
};

const ROUNDS: usize = 5;

/// Through all middleware, with a span and metrics of its own; no probe.
const ROUTE: &str = "/";

pub async fn measure(report: &mut Report) {
    let collector = Collector::start().await;
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
    for daemon in &daemons {
        daemon.until("/ready");
        wrk(daemon.port, ROUTE);
    }
    for _ in 0..ROUNDS {
        for (daemon, rates) in daemons.iter().zip(&mut rates) {
            rates.push(wrk(daemon.port, ROUTE));
        }
    }
    let [off, on, traces_off] = rates.map(|mut rates| median(&mut rates));
    for (what, target, rate, least) in [
        (
            "throughput, every request traced and exported",
            "less than 10 % lost",
            on,
            0.90,
        ),
        (
            "throughput, traces off, the rest exported",
            "less than 3 % lost",
            traces_off,
            0.97,
        ),
    ] {
        let lost = (1.0 - rate / off) * 100.0;
        report.row(
            what,
            target,
            format!("{lost:.1} % lost ({rate:.0}/s)"),
            format!("same route, telemetry off: {off:.0}/s"),
            rate / off > least,
        );
    }
}
