//! A worker of which one runs at a time: its function runs while a lease in the database is held.
//!
//! Of a periodic one, every instance looks often whether a run is due; the one that gets the lease does it. When the next
//! run is due is kept with the lease, so the period goes on through restarts, and an instance that is killed during a run
//! is replaced as soon as its lease has expired.

use std::{
    error::Error,
    time::{Duration, Instant},
};

use dotmac_db::{Held, Lease};
use dotmac_supervision::{SHORTEST_RUN_LIMIT, Schedule, Serving, WorkerContext, WorkerSpec};

use super::{Assembly, WorkerError, component, failure::classified};

type RunError = Box<dyn Error + Send + Sync>;

/// For how long the lease is held each time: a holder that ended without giving it back is followed by another then.
const TTL: Duration = Duration::from_secs(15);

/// The lease was not renewed in time, or went to another instance: this one stood still for too long, or did not reach
/// the database.
#[derive(Debug, thiserror::Error)]
#[error("the lease was lost during a run")]
struct LeaseLost;

/// The specification of a worker of which one runs at a time; `name` is also that of its lease.
pub(super) fn worker<F, R, E>(
    assembly: &Assembly,
    name: &'static str,
    schedule: Schedule,
    function: F,
) -> WorkerSpec
where
    F: Fn(WorkerContext, Held) -> R + Clone + Send + Sync + 'static,
    R: Future<Output = Result<(), E>> + Send + 'static,
    E: WorkerError + 'static,
{
    let lease = assembly.lease(name, TTL);
    // How often an instance looks whether a run is due.
    let looking = match schedule {
        Schedule::Continuous => Schedule::Continuous,
        Schedule::Every(interval) => Schedule::Every(interval.min(TTL)),
    };
    let spec = component::worker(assembly, name, looking, move |context| {
        run(lease.clone(), schedule, context, function.clone())
    });
    match schedule {
        Schedule::Continuous => spec,
        Schedule::Every(interval) => spec.run_limit(interval.max(SHORTEST_RUN_LIMIT)),
    }
}

/// One look, and the run if it is this instance's turn. A continuous worker waits for its turn.
async fn run<F, R, E>(
    lease: Lease,
    schedule: Schedule,
    context: WorkerContext,
    function: F,
) -> Result<(), RunError>
where
    F: Fn(WorkerContext, Held) -> R,
    R: Future<Output = Result<(), E>>,
    E: WorkerError,
{
    let (held, next) = match schedule {
        Schedule::Every(interval) => {
            let taken = if context.was_asked_for() {
                lease.take().await
            } else {
                lease.take_if_due().await
            };
            let Some(held) = taken.map_err(classified)? else {
                say(&context, "standby");
                return Ok(());
            };
            (held, Some(interval))
        }
        Schedule::Continuous => match turn(&lease, &context).await? {
            Some(held) => (held, None),
            None => return Ok(()),
        },
    };
    say(&context, "leader");
    let ended = tokio::select! {
        ended = function(context.clone(), held) => ended.map_err(classified),
        () = until_lost(&lease, held) => return Err(LeaseLost.into()),
    };
    // After a fault the next try is not put off; any instance may make it.
    let next = next.filter(|_| ended.is_ok() && !context.is_stopping());
    let given_back = lease.give_back(held, next).await;
    ended.and(given_back.map_err(classified))
}

/// Waits for the lease; `None` if the worker is asked to stop before.
async fn turn(lease: &Lease, context: &WorkerContext) -> Result<Option<Held>, RunError> {
    loop {
        if let Some(held) = lease.take().await.map_err(classified)? {
            return Ok(Some(held));
        }
        say(context, "standby");
        tokio::select! {
            () = context.paused(tokio::time::sleep(TTL / 3)) => {}
            () = context.stopping() => return Ok(None),
        }
    }
}

/// Keeps the lease, and returns when it is lost. A renewal that fails is tried again for as long as the lease lasts.
async fn until_lost(lease: &Lease, held: Held) {
    let mut renewed = Instant::now();
    loop {
        tokio::time::sleep(TTL / 5).await;
        let asked = Instant::now();
        match tokio::time::timeout(TTL / 3, lease.take()).await {
            Ok(Ok(Some(still))) if still == held => renewed = asked,
            Ok(Ok(_)) => return,
            Ok(Err(error)) => tracing::debug!(%error, "the lease was not renewed"),
            Err(_) => tracing::debug!("the lease was not renewed in time"),
        }
        // A fifth is left for the run to end at its next `.await`.
        if renewed.elapsed() > TTL * 4 / 5 {
            return;
        }
    }
}

fn say(context: &WorkerContext, source: &'static str) {
    context.lifeline().ready(Serving {
        source: Some(source),
        ..Serving::default()
    });
}
