//! One life of a worker: a task on the shared threads, from its first run to its end.

use std::{error::Error, future::poll_fn, io, sync::Arc, time::Duration};

use async_task::Task;
use tokio::sync::watch;
use tracing::{Instrument, Span, info_span, warn};

use super::{
    RunError, Schedule, WorkerBody, WorkerContext,
    pulse::{Pulse, WorkerRecord},
    run_queue::TaskOwner,
    runtime::{WorkerRuntime, WorkerRuntimes},
};
use crate::{
    Cause, Lifeline, Reason, Serving,
    life::{
        Exit, Incarnate, Incarnation,
        cell::Cell,
        run_guarded,
        wire::{Notice, Status},
    },
};

const READY: Status = Status::Ready(Serving {
    version: 0,
    source: None,
});

/// The longest text of an error that goes to the log.
const LONGEST_ERROR: usize = 1000;

/// How a worker's lives are built.
pub(crate) struct Blueprint {
    body: Arc<WorkerBody>,
    runtimes: Arc<WorkerRuntimes>,
    record: Arc<WorkerRecord>,
}

impl Blueprint {
    pub(crate) fn new(
        body: WorkerBody,
        runtimes: Arc<WorkerRuntimes>,
        record: Arc<WorkerRecord>,
    ) -> Self {
        Self {
            body: Arc::new(body),
            runtimes,
            record,
        }
    }
}

impl Incarnate for Blueprint {
    fn kind(&self) -> &'static str {
        "worker"
    }

    fn begin(&self, life: Lifeline, span: Span) -> io::Result<Box<dyn Incarnation>> {
        let limit = life.cell().policy.max_leaked_threads;
        let runtime = self.runtimes.current(limit)?;
        let pulse = Arc::new(Pulse::new(life.generation()));
        self.record.begin_life(&pulse);
        let (stop, stopping) = watch::channel(false);
        let context = WorkerContext {
            lifeline: life.clone(),
            pulse: Arc::clone(&pulse),
            stop: stopping,
            asked_for: false,
        };
        let (body, record) = (Arc::clone(&self.body), Arc::clone(&self.record));
        let cell = Arc::clone(life.cell());
        let owner = TaskOwner {
            pulse: Arc::clone(&pulse),
            lifeline: life.clone(),
        };
        let exit = Exit::of(life);
        let task = runtime.spawn(owner, live(exit, body, record, context, span));
        Ok(Box::new(WorkerLife {
            body: Arc::clone(&self.body),
            task: Some(task),
            stop,
            pulse,
            cell,
            runtime,
            runtimes: Arc::clone(&self.runtimes),
        }))
    }
}

/// A running life of a worker.
struct WorkerLife {
    body: Arc<WorkerBody>,
    /// Dropped to end it: then it is not polled again, and a thread of the runtime drops it.
    task: Option<Task<(), TaskOwner>>,
    stop: watch::Sender<bool>,
    pulse: Arc<Pulse>,
    cell: Arc<Cell>,
    runtime: Arc<WorkerRuntime>,
    runtimes: Arc<WorkerRuntimes>,
}

impl WorkerLife {
    fn has_another_runtime(&self) -> bool {
        let limit = self.cell.policy.max_leaked_threads;
        self.runtimes.has_another_than(&self.runtime, limit)
    }
}

impl Incarnation for WorkerLife {
    fn shut_down(&mut self, _: Span) {
        self.stop.send_replace(true);
    }

    fn end(&mut self) {
        self.stop.send_replace(true);
        self.task = None;
    }

    fn hang(&self) -> Option<String> {
        let held = self.pulse.holds_thread_for();
        if held > self.cell.policy.hang_after {
            return Some(format!("it has blocked its thread for {held:?}"));
        }
        if self.runtime.has_stalled(self.cell.policy.hang_after) && !self.has_another_runtime() {
            return Some("the runtime of the workers makes no progress".to_owned());
        }
        let (run, still) = self.pulse.running_for()?;
        if let Some(limit) = self.body.run_limit.filter(|limit| run > *limit) {
            return Some(format!("its run exceeds its limit of {limit:?}"));
        }
        let longest = self.body.progress_within?;
        (still > longest).then(|| format!("its run has made no progress for {still:?}"))
    }

    fn look_after_threads(&self) {
        self.runtime.look_after(self.cell.policy.heartbeat);
    }

    fn must_move(&self) -> bool {
        self.runtime.has_stalled(self.cell.policy.hang_after) && self.has_another_runtime()
    }

    fn extend_deadlines(&self, by: Duration) {
        self.pulse.extend_deadlines(by);
        self.runtime.extend_deadlines();
    }
}

/// The whole of one life.
async fn live(
    mut exit: Exit,
    body: Arc<WorkerBody>,
    record: Arc<WorkerRecord>,
    context: WorkerContext,
    span: Span,
) {
    let ended = run_guarded(body.runs(&record, &context), span).await;
    exit.cause = match ended {
        None => Some(Cause::Panic),
        Some(result) if context.is_stopping() => {
            if let Err(error) = result {
                let (name, error) = (exit.life.name(), text(&*error));
                warn!(
                    actor.name = name,
                    error, "worker `{name}` was stopped, and its cleanup failed"
                );
            }
            None
        }
        Some(Ok(())) => Some(Cause::Stop),
        Some(Err(error)) => {
            let text = text(&*error);
            exit.life.end(match body.reason_upstream(&*error) {
                Some(reason) => Notice::GaveUp(reason, text),
                None if body.schedule == Schedule::Continuous => Notice::Failed(text),
                None => Notice::RunFailed(text),
            });
            Some(Cause::Error)
        }
    };
}

impl WorkerBody {
    /// Runs as the schedule says, until asked to stop or the first error.
    async fn runs(&self, record: &WorkerRecord, context: &WorkerContext) -> Result<(), RunError> {
        let interval = match self.schedule {
            Schedule::Continuous => return self.run(context, true).await,
            Schedule::Every(interval) => interval,
        };
        let life = context.lifeline();
        // Until a run has gone well, what ended the former life still holds.
        let fault = life.recovers_from();
        if let Some(reason) = fault {
            life.report_by_default(Status::Recovering(reason));
        }
        let mut context = context.clone();
        while !context.is_stopping() {
            let span = info_span!(
                parent: None,
                "run",
                otel.name = %format_args!("run {}", life.name()),
                actor.name = life.name(),
            );
            self.run(&context, fault.is_none()).instrument(span).await?;
            record.note_success();
            life.report_by_default(READY);
            context.asked_for = tokio::select! {
                () = context.stopping() => false,
                () = self.wake.notified() => true,
                () = tokio::time::sleep(interval.mul_f64(1.0 + fastrand::f64() / 10.0)) => false,
            };
        }
        Ok(())
    }

    /// One run; `is_well` if the worker counts as ready from its beginning on.
    async fn run(&self, context: &WorkerContext, is_well: bool) -> Result<(), RunError> {
        context.pulse.begin_run();
        let mut run = (self.function)(context.clone());
        let mut begins = true;
        let result = poll_fn(|cx| {
            let polled = run.as_mut().poll(cx);
            // Only now, so that what it reports before it first waits comes first.
            if std::mem::take(&mut begins) && is_well && polled.is_pending() {
                context.lifeline().report_by_default(READY);
            }
            polled
        })
        .await;
        context.pulse.end_run();
        result
    }

    fn reason_upstream(&self, error: &(dyn Error + 'static)) -> Option<Reason> {
        self.upstream.as_ref()?(error)
    }
}

/// An error with what caused it.
fn text(error: &(dyn Error + 'static)) -> String {
    let mut text = dotmac_causes::chain(error);
    let end = (0..=LONGEST_ERROR)
        .rev()
        .find(|&end| text.is_char_boundary(end));
    text.truncate(end.unwrap_or_default());
    text
}
