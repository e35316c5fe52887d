//! Claiming, starting and ending jobs.

use std::{
    collections::HashMap,
    panic::AssertUnwindSafe,
    sync::{Arc, PoisonError, atomic::Ordering::SeqCst},
    time::{Duration, Instant},
};

use dotmac_db::DbError;
use dotmac_supervision::{WorkerContext, panic_message};
use futures_util::FutureExt;
use tokio::time::sleep;
use tracing::{Instrument, field, info_span};
use tracing_opentelemetry::OpenTelemetrySpanExt as _;

use super::{
    ends::end_of,
    life::{AGAIN, Fault, Life, MAX_ENDS, Over},
};
use crate::{
    jobs::{
        JobError, JobState,
        claim::{self, Claimed, Room, Wanted},
        due,
        run::RunState,
        settle::End,
    },
    outage::is_passing,
    trace, wake,
};

/// Jobs that run here at a time.
const MAX_RUNNING: usize = 1024;

impl Life {
    /// Claims and starts jobs.
    pub(super) async fn claim(self: &Arc<Self>, context: &WorkerContext) -> Result<Over, Fault> {
        let kinds = self.this.handlers.keys().copied().collect();
        let signal = wake::signal(kinds);
        let mut polled: Option<Instant> = None;
        while !context.is_stopping() {
            let mut wait = self.this.poll.mul_f64(0.8 + 0.4 * fastrand::f64());
            let step = self.step(&mut polled, &mut wait).await;
            let is_stopping = context.is_stopping();
            match step {
                Ok(Some(claimed)) if is_stopping => {
                    // What has not begun is given back at once.
                    for job in claimed {
                        self.give_back(&job).await;
                    }
                    break;
                }
                Ok(Some(claimed)) => {
                    let found = claimed.len();
                    for job in claimed {
                        self.start(job);
                    }
                    if found > 0 {
                        continue;
                    }
                }
                Ok(None) => return Ok(Over::Lost),
                Err(error) if is_passing(&error) => wait = AGAIN,
                Err(error) => return Err(error.into()),
            }
            tokio::select! {
                () = signal.notified() => {}
                () = self.moved.notified() => {}
                () = sleep(wait) => polled = None,
                () = context.stopping() => {}
            }
        }
        Ok(Over::Stopped)
    }

    /// Makes jobs ready that are due, and claims what there is room for; `None` if the incarnation has ended.
    async fn step(
        &self,
        polled: &mut Option<Instant>,
        wait: &mut Duration,
    ) -> Result<Option<Vec<Claimed>>, DbError> {
        let is_poll = polled.is_none_or(|polled| polled.elapsed() >= self.this.poll);
        if is_poll {
            let due = due::make_ready(&self.this.db).await?;
            *polled = Some(Instant::now());
            if let Some(next) = due {
                // A little late rather than a little early.
                *wait = (*wait).min(next + Duration::from_millis(2));
            }
        }
        let (rooms, has_room) = self.rooms();
        if !has_room && !is_poll {
            return Ok(Some(Vec::new()));
        }
        let runs = self.this.runs.all();
        let wanted = Wanted {
            rooms,
            takes_suspect: runs.iter().all(|run| run.crashes == 0),
        };
        let is_full = runs.len() >= MAX_RUNNING || self.unwritten.load(SeqCst) >= MAX_ENDS / 2;
        if is_full || self.held_threads(Duration::ZERO) >= self.threads.count() {
            return Ok(Some(Vec::new()));
        }
        let Some(claims) = claim::claim(&self.this.db, self.me, wanted).await? else {
            return Ok(None);
        };
        *self.turns.lock().unwrap_or_else(PoisonError::into_inner) = claims.turns;
        if claims.is_bounded {
            *wait = (*wait).min(AGAIN);
        }
        Ok(Some(claims.jobs))
    }

    /// What there is room for, and whether that is any in the queues that kinds have by themselves.
    fn rooms(&self) -> (Vec<Room>, bool) {
        let turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
        let mut rooms: Vec<_> = self
            .this
            .handlers
            .values()
            .map(|handler| {
                let of_kind = turns
                    .iter()
                    .filter(|((kind, _), _)| *kind == handler.spec.kind);
                Room {
                    spec: handler.spec,
                    free: HashMap::new(),
                    turns: of_kind
                        .map(|((_, queue), tenant)| (queue.clone(), *tenant))
                        .collect(),
                }
            })
            .collect();
        drop(turns);
        for run in self.this.runs.all() {
            let is_it = |room: &&mut Room| room.spec.kind == run.spec.kind;
            if let Some(room) = rooms.iter_mut().find(is_it) {
                let slots = room.spec.rules.slots;
                let free = room.free.entry(run.queue.clone()).or_insert(slots);
                *free = free.saturating_sub(1);
            }
        }
        let has_room = rooms
            .iter()
            .any(|room| room.free.get(room.spec.rules.queue) != Some(&0));
        (rooms, has_room)
    }

    fn start(self: &Arc<Self>, job: Claimed) {
        let Some(handler) = self.this.handlers.get(&*job.kind).cloned() else {
            return; // only kinds with a handler are claimed
        };
        let run = Arc::new(RunState::new(handler.spec, &job));
        self.this.runs.lock().insert(job.lease.id, Arc::clone(&run));
        let span = info_span!(
            parent: None, "job", otel.name = handler.spec.kind, otel.kind = "consumer",
            otel.status_code = field::Empty, job.id = %job.lease.id, job.attempt = job.attempt,
            job.queue = job.queue,
        );
        if let Some(cause) = job.traceparent.as_deref().and_then(trace::context) {
            span.set_parent(cause).ok();
        }
        let (life, state, entered) = (Arc::clone(self), Arc::clone(&run), span.clone());
        let task = async move {
            let work = async { handler.call(job.args, Arc::clone(&state)).await };
            let outcome = AssertUnwindSafe(work).catch_unwind().await;
            let outcome = outcome.unwrap_or_else(|panic| Err(panicked(&*panic)));
            if outcome.is_err() {
                entered.record("otel.status_code", "ERROR");
            }
            life.finish(&state, outcome).await;
        };
        if let Some(task) = self.threads.spawn(task.instrument(span)) {
            run.task.get_or_init(|| task);
        }
    }

    /// Ends an attempt, unless something else has already.
    async fn finish(&self, run: &RunState, outcome: Result<Option<String>, JobError>) {
        let is_written = run.is_completed();
        if run.end() && !is_written {
            self.unwritten.fetch_add(1, SeqCst);
            let end = end_of(run, outcome);
            // Closed only when the incarnation is over, and its leases with it.
            self.ends.send(end).await.ok();
        }
        self.this.runs.remove(run);
        self.moved.notify_one();
    }

    /// Ends an attempt whose task goes on or hangs; false if there is no place for it now.
    pub(super) fn give_up(&self, run: &RunState, error: JobError) -> bool {
        let Ok(place) = self.ends.try_reserve() else {
            return false;
        };
        if !run.end() {
            return true;
        }
        run.abort();
        if let Some(task) = run.task.get() {
            let mut given_up = self.given_up.lock().unwrap_or_else(PoisonError::into_inner);
            given_up.push((task.clone(), Instant::now()));
        }
        self.unwritten.fetch_add(1, SeqCst);
        place.send(end_of(run, Err(error)));
        self.this.runs.remove(run);
        self.moved.notify_one();
        true
    }

    /// Gives back a job that was claimed and not begun: no attempt counts.
    async fn give_back(&self, job: &Claimed) {
        let end = End {
            lease: job.lease,
            kind: None,
            state: JobState::Ready,
            wait: None,
            is_uncounted: true,
            crashes: None,
            result: None,
            failure: None,
            progress: None,
        };
        self.unwritten.fetch_add(1, SeqCst);
        self.ends.send(end).await.ok();
    }

    /// Lets running jobs end, and gives back those that do not.
    pub(super) async fn drain(&self) -> Result<Over, Fault> {
        for run in self.this.runs.all() {
            run.stop();
        }
        let until_still = async {
            while !self.is_still() {
                self.moved.notified().await;
            }
        };
        if tokio::time::timeout(self.this.drain, until_still)
            .await
            .is_err()
        {
            for run in self.this.runs.all() {
                let message = "the instance that ran the job stopped before it was done";
                while !self.give_up(&run, JobError::of_system("stopped", message)) {
                    sleep(AGAIN).await;
                }
            }
            while !self.is_still() {
                self.moved.notified().await;
            }
        }
        Ok(Over::Stopped)
    }

    fn is_still(&self) -> bool {
        self.this.runs.lock().is_empty() && self.unwritten.load(SeqCst) == 0
    }
}

fn panicked(panic: &(dyn std::any::Any + Send)) -> JobError {
    JobError::of_system("panicked", panic_message(panic).to_owned())
}
