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

use super::{
    ends::end_of,
    life::{AGAIN, Fault, Life, MAX_ENDS, Over},
};
use crate::{
    jobs::{
        JobError, JobState, KindSpec,
        claim::{self, Claimed, Known, Room, Wanted},
        due,
        run::RunState,
        settle::End,
    },
    outage::is_passing,
    trace, wake,
};

/// Jobs that run here at a time, or are claimed ahead.
const MAX_HELD: usize = 1024;
/// How soon it is asked whether a look is over.
const LOOKING: Duration = Duration::from_millis(20);

impl Life {
    /// Claims and starts jobs.
    pub(super) async fn claim(self: &Arc<Self>, context: &WorkerContext) -> Result<Over, Fault> {
        let kinds = self.this.handlers.keys().copied().collect();
        let signal = wake::signal(kinds);
        let mut polled: Option<Instant> = None;
        while !context.is_stopping() {
            let mut wait = self.this.poll.mul_f64(0.8 + 0.4 * fastrand::f64());
            let step = self.step(&mut polled, &mut wait).await;
            match step {
                Ok(Some(claimed)) => {
                    let found = claimed.len();
                    self.add(claimed);
                    if found > 0 && !context.is_stopping() {
                        self.start_all();
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
        // What has not begun is given back at once.
        let waiting = self.ahead.lock().close();
        for job in waiting {
            self.give_back(&job).await;
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
        let (waiting, have_suspect) = {
            let waiting = self.ahead.lock();
            (waiting.len(), waiting.have_suspect())
        };
        let held = runs.len() + waiting;
        let takes_suspect = !have_suspect && runs.iter().all(|run| run.crashes == 0);
        let is_full = held >= MAX_HELD || self.unwritten.load(SeqCst) >= MAX_ENDS / 2;
        if is_full || self.are_threads_held() {
            return Ok(Some(Vec::new()));
        }
        let known = self.known(&rooms, wait)?;
        let wanted = Wanted {
            rooms,
            takes_suspect,
            known,
        };
        let Some(claims) = claim::claim(&self.this.db, self.me, wanted).await? else {
            return Ok(None);
        };
        if claims.is_bounded {
            *wait = (*wait).min(AGAIN);
        }
        let put_off = [claims.known.put_off(), claims.known.arrivals_put_off()];
        for put_off in put_off.into_iter().flatten() {
            *wait = (*wait).min(put_off);
        }
        *self.known.lock().unwrap_or_else(PoisonError::into_inner) = claims.known;
        Ok(Some(claims.jobs))
    }

    /// What is known of the queues. If looking through them takes long, the next look is begun here when it is due, and what
    /// it found is taken when it is over: it goes on in the meantime, in a task of the database's.
    fn known(&self, rooms: &[Room], wait: &mut Duration) -> Result<Known, DbError> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let mut looking = self.looking.lock().unwrap_or_else(PoisonError::into_inner);
        if looking.is_none() && known.is_slow() && known.put_off().is_none() {
            let (db, rooms, before) = (self.this.db.clone(), rooms.to_vec(), known.clone());
            *looking = Some(Box::pin(async move {
                claim::look_through(&db, rooms, before).await
            }));
        }
        match looking.as_mut().map(|look| look.now_or_never()) {
            None => {}
            Some(None) => *wait = (*wait).min(LOOKING),
            Some(Some(looked)) => {
                *looking = None;
                *known = looked?;
            }
        }
        Ok(known.clone())
    }

    /// What there is room for, and whether that is any in the queues that kinds have by themselves.
    fn rooms(&self) -> (Vec<Room>, bool) {
        let handlers = self.this.handlers.values();
        let mut rooms: Vec<_> = handlers
            .map(|handler| Room {
                spec: handler.spec,
                free: HashMap::new(),
                elsewhere: handler.spec.rules.slots + self.ahead.depth(&handler.spec),
            })
            .collect();
        let mut held: HashMap<(&'static str, String), (u32, u32)> = HashMap::new();
        for run in self.this.runs.all() {
            held.entry((run.spec.kind, run.queue.clone()))
                .or_default()
                .0 += 1;
        }
        for (spec, queue, waiting) in self.ahead.lock().counts() {
            let waiting = u32::try_from(waiting).unwrap_or(u32::MAX);
            held.entry((spec.kind, queue)).or_default().1 = waiting;
        }
        for ((kind, queue), (running, waiting)) in held {
            let Some(room) = rooms.iter_mut().find(|room| room.spec.kind == kind) else {
                continue;
            };
            let depth = room.elsewhere.saturating_sub(room.spec.rules.slots);
            // Not one by one: when half of what is claimed ahead has begun.
            let has_enough = running + waiting >= room.spec.rules.slots && waiting > depth / 2;
            let free = if has_enough {
                0
            } else {
                room.elsewhere.saturating_sub(running + waiting)
            };
            room.free.insert(queue, free);
        }
        let has_room = rooms
            .iter()
            .any(|room| room.free.get(room.spec.rules.queue) != Some(&0));
        (rooms, has_room)
    }

    /// Has jobs wait that were claimed, in their order.
    fn add(&self, claimed: Vec<Claimed>) {
        let mut waiting = self.ahead.lock();
        for job in claimed {
            // Only kinds with a handler are claimed.
            if let Some(handler) = self.this.handlers.get(&*job.kind) {
                waiting.add(handler.spec, job);
            }
        }
    }

    /// Has jobs begin that wait, as far as there are slots.
    fn start_all(self: &Arc<Self>) {
        let lanes = self.ahead.lock().counts();
        for (spec, queue, _) in lanes {
            self.start_next(&spec, &queue);
        }
    }

    /// The same for one kind and queue.
    fn start_next(self: &Arc<Self>, spec: &KindSpec, queue: &str) {
        // They would wait for a thread, and count as hung.
        if self.are_threads_held() {
            return;
        }
        let mut waiting = self.ahead.lock();
        let slots = usize::try_from(spec.rules.slots).unwrap_or(usize::MAX);
        for _ in self.this.runs.count(spec.kind, queue)..slots {
            let Some(job) = waiting.next(spec.kind, queue) else {
                break;
            };
            self.start(job);
        }
    }

    /// Whether tasks that were given up hold all threads.
    fn are_threads_held(&self) -> bool {
        self.held_threads(Duration::ZERO) >= self.threads.count()
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
        if let Some(cause) = &job.traceparent {
            trace::follow(&span, cause);
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
    async fn finish(self: &Arc<Self>, run: &RunState, outcome: Result<Option<String>, JobError>) {
        self.ahead.note(run.spec.kind, run.started.elapsed());
        let is_written = run.is_completed();
        if run.end() && !is_written {
            self.unwritten.fetch_add(1, SeqCst);
            let end = end_of(run, outcome);
            // Closed only when the incarnation is over, and its leases with it.
            self.ends.send(end).await.ok();
        }
        self.leave_slot(run);
    }

    /// Has the next job take the slot of `run`.
    fn leave_slot(self: &Arc<Self>, run: &RunState) {
        self.this.runs.remove(run);
        self.start_next(&run.spec, &run.queue);
        let mut waiting = self.ahead.lock();
        let left = waiting.count(run.spec.kind, &run.queue);
        let depth = usize::try_from(self.ahead.depth(&run.spec)).unwrap_or(usize::MAX);
        if waiting.is_closed() || left <= depth / 2 {
            self.moved.notify_one();
        }
    }

    /// Ends an attempt whose task goes on or hangs; false if there is no place for it now.
    pub(super) fn give_up(self: &Arc<Self>, run: &RunState, error: JobError) -> bool {
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
        self.leave_slot(run);
        true
    }

    /// Gives back a job that was claimed and not begun: no attempt counts.
    pub(super) async fn give_back(&self, job: &Claimed) {
        self.unwritten.fetch_add(1, SeqCst);
        self.ends.send(unbegun(job)).await.ok();
    }

    /// Gives back what was claimed ahead and has not got a slot in time, as far as there is a place for it now.
    pub(super) fn give_back_late(&self) {
        while let Ok(place) = self.ends.try_reserve() {
            let Some(job) = self.ahead.lock().take_late() else {
                break;
            };
            self.ahead.note_late(&job.kind);
            self.unwritten.fetch_add(1, SeqCst);
            place.send(unbegun(&job));
        }
    }

    /// Lets running jobs end, and gives back those that do not.
    pub(super) async fn drain(self: &Arc<Self>) -> Result<Over, Fault> {
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
                let message = "the instance that ran the job stopped before its end";
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

/// The end of a job that did not begin: it is ready as before, or cancelled if that was asked for.
fn unbegun(job: &Claimed) -> End {
    End {
        is_uncounted: true,
        ..End::new(job.lease, job.attempt, JobState::Ready)
    }
}

fn panicked(panic: &(dyn std::any::Any + Send)) -> JobError {
    JobError::of_system("panicked", panic_message(panic).to_owned())
}
