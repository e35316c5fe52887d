//! Random faults of every kind, one after another, while probes are asked and rows are written.
//!
//! Requirements: `/ready` never answers ready for longer than two seconds while a required part is
//! broken, `/health` never fails, no acknowledged write is lost, and memory, descriptors and threads
//! stay flat. `DOTMAC_BENCH_FAULTS` sets how many faults (300), `DOTMAC_BENCH_SEED` which.

mod bed;
mod ledger;
pub mod program;
mod watch;

use std::time::Duration;

use self::{bed::Bed, ledger::Ledger, watch::Watch};
use crate::report::Report;

/// The kinds of faults.
#[derive(Clone, Copy, Debug)]
enum Fault {
    ActorPanics,
    ActorStops,
    ActorHangs,
    HandlerPanics,
    ClientLeaves,
    ConnectionsEnd,
    DatabaseDies,
    DatabaseFreezes,
    DatabaseRefusesWrites,
    VaultDies,
    VaultFreezes,
    VaultSeals,
    CollectorFreezes,
}

impl Fault {
    /// Out of a hundred draws: those within the process are quick, so there are more of them.
    const WEIGHTS: [(Self, u32); 13] = [
        (Self::ActorPanics, 20),
        (Self::ActorStops, 15),
        (Self::ActorHangs, 10),
        (Self::HandlerPanics, 10),
        (Self::ClientLeaves, 10),
        (Self::ConnectionsEnd, 10),
        (Self::DatabaseDies, 4),
        (Self::DatabaseFreezes, 4),
        (Self::DatabaseRefusesWrites, 4),
        (Self::VaultDies, 3),
        (Self::VaultFreezes, 3),
        (Self::VaultSeals, 3),
        (Self::CollectorFreezes, 4),
    ];

    fn draw(random: &mut fastrand::Rng) -> Self {
        let mut left = random.u32(0..Self::WEIGHTS.iter().map(|(_, weight)| weight).sum());
        for (fault, weight) in Self::WEIGHTS {
            if left < weight {
                return fault;
            }
            left -= weight;
        }
        Self::ActorPanics
    }
}

pub async fn measure(report: &mut Report) {
    let count = number("DOTMAC_BENCH_FAULTS").unwrap_or(300);
    let seed = number("DOTMAC_BENCH_SEED").unwrap_or_else(|| fastrand::u64(..));
    println!("{count} random faults, DOTMAC_BENCH_SEED={seed}");
    let mut random = fastrand::Rng::with_seed(seed);

    let mut bed = Bed::start().await;
    let watch = Watch::begin(bed.platform.port);
    let ledger = Ledger::begin(bed.platform.port);
    let mut settled = bed.usage().await;
    for n in 1..=count {
        let fault = Fault::draw(&mut random);
        let time = Duration::from_millis(random.u64(100..4500));
        bed.suffer(fault, time, &watch).await;
        bed.recovers(fault).await;
        if n == count.div_ceil(10) {
            settled = bed.usage().await;
        }
    }
    let (written, lost) = ledger.end(&bed.postgres).await;
    let seen = watch.end();
    let usage = bed.usage().await;

    report.row(
        "random faults: probes that said ready 2 s into an outage, or not live; acknowledged writes lost",
        "none",
        format!(
            "{} and {} of {} probes, {lost} of {written} writes, in {count} faults",
            seen.falsely_ready, seen.not_live, seen.probes
        ),
        format!("a constant 200: wrong for {:.0} s", seen.broken.as_secs_f64()),
        seen.falsely_ready == 0 && seen.not_live == 0 && lost == 0,
    );
    report.row(
        "random faults: memory, descriptors, threads",
        "flat",
        usage.to_string(),
        format!("after a tenth of them: {settled}"),
        usage.is_flat_since(&settled),
    );
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}
