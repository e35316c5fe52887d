//! What goes on while jobs run: progress is written down, schedules are followed, the instance shows that it is
//! alive, and looks whether jobs hang and whether other instances are gone.

use std::{
    sync::{Arc, PoisonError},
    time::{Duration, Instant},
};

use dotmac_db::{DbError, Tx};
use dotmac_supervision::WorkerContext;
use tokio::time::sleep;
use tracing::error;

use super::life::{AGAIN, Fault, Life, Over};
use crate::{
    clock::now,
    jobs::{
        JobError,
        liveness::{self, BEAT, GIVE_UP, LOST},
        progress, schedules,
    },
    outage::is_passing,
};

/// How often it looks whether jobs hang.
const WATCH: Duration = Duration::from_millis(250);
/// How often progress is written down.
const PROGRESS: Duration = Duration::from_millis(500);
/// How often it looks for instances that have crashed.
const RESCUE: Duration = Duration::from_secs(2);
/// A job that does not end this long after its cancellation is given up.
const CANCEL: Duration = Duration::from_secs(10);
/// A task that was given up, and does not end within this time, holds its thread.
const STUCK: Duration = Duration::from_secs(5);

impl Life {
    /// Shows that the instance is alive, hears of cancellations, and takes over from instances that are not.
    pub(super) async fn show_life(&self) -> Result<Over, Fault> {
        let (mut steady_since, mut looked) = (Instant::now(), Instant::now());
        loop {
            let asked = Instant::now();
            let mut held: Vec<_> = self.this.runs.lock().keys().copied().collect();
            held.extend(self.ahead.lock().ids());
            match liveness::beat(&self.this.db, self.me, held).await {
                Ok(None) => return Ok(Over::Lost),
                Ok(Some(beat)) => {
                    // After an outage that all have met, the others need time to show that they are alive.
                    if self.note_beat(asked) > 3 * BEAT {
                        steady_since = asked;
                    }
                    for (id, lease) in beat.cancelled {
                        let run = self.this.runs.lock().get(&id).cloned();
                        if let Some(run) = run.filter(|run| run.lease.number == lease) {
                            run.cancel();
                        }
                        let waiting = self.ahead.lock().take_one(id, lease);
                        if let Some(job) = waiting {
                            self.give_back(&job).await;
                        }
                    }
                }
                Err(error) if is_passing(&error) => {}
                Err(error) => return Err(error.into()),
            }
            if steady_since.elapsed() >= LOST && looked.elapsed() >= RESCUE {
                looked = Instant::now();
                match liveness::rescue(&self.this.db).await {
                    Ok(0) => {}
                    Ok(_) => self.moved.notify_one(),
                    Err(error) if is_passing(&error) => {}
                    Err(error) => return Err(error.into()),
                }
            }
            sleep(BEAT.saturating_sub(asked.elapsed())).await;
        }
    }

    /// Notes that it showed that it is alive; how long after the time before.
    fn note_beat(&self, asked: Instant) -> Duration {
        let mut last = self.beat.lock().unwrap_or_else(PoisonError::into_inner);
        let before = std::mem::replace(&mut *last, asked);
        asked.duration_since(before)
    }

    /// Looks whether jobs hang, and whether this instance still counts as alive.
    pub(super) async fn watch(self: &Arc<Self>, context: &WorkerContext) -> Result<Over, Fault> {
        loop {
            sleep(WATCH).await;
            context.beat();
            let beat = *self.beat.lock().unwrap_or_else(PoisonError::into_inner);
            if beat.elapsed() > GIVE_UP {
                return Ok(Over::Lost);
            }
            for run in self.this.runs.all() {
                let hang_after = run.spec.rules.hang_after;
                let (kind, id) = (run.spec.kind, run.lease.id);
                if run
                    .cancelled_at
                    .get()
                    .is_some_and(|at| at.elapsed() > CANCEL)
                {
                    self.give_up(&run, JobError::cancelled());
                } else if run.silent() > hang_after && !run.is_over() {
                    error!(job.kind = kind, job.id = %id, "job `{kind}` made no progress for {hang_after:?}; it is \
                        abandoned");
                    let message = format!("no progress for {hang_after:?}");
                    self.give_up(&run, JobError::of_system("hung", message));
                }
            }
            self.give_back_late();
            let stuck = self.held_threads(STUCK);
            if stuck >= self.threads.count() {
                return Err(Fault::Blocked(stuck));
            }
        }
    }

    /// How many tasks that were given up that long ago have not ended.
    pub(super) fn held_threads(&self, since: Duration) -> usize {
        let mut given_up = self.given_up.lock().unwrap_or_else(PoisonError::into_inner);
        given_up.retain(|(task, _)| !task.is_finished());
        let held = given_up.iter().filter(|(_, at)| at.elapsed() >= since);
        held.count()
    }

    /// Enqueues the jobs of schedules that are due.
    pub(super) async fn follow_schedules(&self) -> Fault {
        let handlers = self.this.handlers.values();
        let kinds = handlers.map(|it| (it.spec.kind, it.spec)).collect();
        loop {
            match schedules::tick(&self.this.tenants, &kinds).await {
                Ok(wait) => sleep(wait).await,
                Err(error) if is_passing(&error) => sleep(AGAIN).await,
                Err(error) => return error.into(),
            }
        }
    }

    /// Writes down how far jobs have come.
    pub(super) async fn write_progress(&self) -> Fault {
        loop {
            sleep(PROGRESS).await;
            let runs = self.this.runs.all();
            let come = runs
                .iter()
                .filter_map(|run| Some((run.lease, run.take_progress()?)));
            let come: Vec<_> = come.collect();
            if come.is_empty() {
                continue;
            }
            let write = async move |tx: &mut Tx| {
                let now = now(tx).await?;
                for (lease, progress) in come {
                    progress::write(tx, lease, progress, now).await?;
                }
                Ok::<_, DbError>(())
            };
            match self.this.db.transaction("note progress", write).await {
                Ok(()) => {}
                Err(error) if is_passing(&error) => {}
                Err(error) => return error.into(),
            }
        }
    }
}
