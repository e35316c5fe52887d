//! A worker of which one runs at a time: the run goes on while a lease in the database is held.

use std::{error::Error, time::Duration};

use dotmac_db::{Held, Lease};
use dotmac_supervision::{Schedule, Serving, WorkerContext};

type RunError = Box<dyn Error + Send + Sync>;

/// A holder that ended without giving its lease back is followed by another after this long, or after one and a half
/// intervals if that is more.
const SHORTEST: Duration = Duration::from_secs(15);

/// The lease went to another instance during a run: this one stood still for too long.
#[derive(Debug, thiserror::Error)]
#[error("the lease went to another instance during a run")]
struct LeaseLost;

/// For how long the lease of a worker is held each time. Longer than the interval of a periodic one, so that instances
/// do not take turns.
pub(super) fn ttl(schedule: Schedule) -> Duration {
    match schedule {
        Schedule::Continuous => SHORTEST,
        Schedule::Every(interval) => SHORTEST.max(interval.saturating_mul(3) / 2),
    }
}

/// One run: of the function if the lease is held, else a look whether it has become free. A continuous worker waits for
/// its turn instead.
pub(super) async fn run<F, R, E>(
    lease: Lease,
    schedule: Schedule,
    context: WorkerContext,
    function: F,
) -> Result<(), RunError>
where
    F: Fn(WorkerContext, Held) -> R,
    R: Future<Output = Result<(), E>>,
    E: Into<RunError>,
{
    let held = loop {
        if let Some(held) = lease.take().await? {
            break held;
        }
        say(&context, "standby");
        if schedule != Schedule::Continuous {
            return Ok(());
        }
        tokio::select! {
            () = context.paused(tokio::time::sleep(lease.ttl() / 3)) => {}
            () = context.stopping() => return Ok(()),
        }
    };
    say(&context, "leader");
    let ended = tokio::select! {
        ended = function(context.clone(), held) => ended.map_err(Into::into),
        lost = keep(&lease, held) => Err(lost),
    };
    if context.is_stopping() {
        lease.give_back().await?;
    }
    ended
}

/// Keeps the lease, for as long as that succeeds.
async fn keep(lease: &Lease, held: Held) -> RunError {
    loop {
        tokio::time::sleep(lease.ttl() / 3).await;
        match lease.take().await {
            Ok(Some(still)) if still == held => {}
            Ok(_) => return LeaseLost.into(),
            Err(error) => return error.into(),
        }
    }
}

fn say(context: &WorkerContext, source: &'static str) {
    context.lifeline().ready(Serving {
        source: Some(source),
        ..Serving::default()
    });
}
