//! One incarnation of the worker that runs jobs: it claims, runs, watches and ends them, until it is asked to stop or has
//! lost its leases.

use std::{
    sync::{Arc, Mutex, PoisonError, atomic::AtomicUsize},
    time::{Duration, Instant},
};

use dotmac_db::DbError;
use dotmac_supervision::{Serving, WorkerContext};
use futures_util::future::BoxFuture;
use tokio::{
    sync::{Notify, mpsc},
    task::AbortHandle,
    time::sleep,
};
use tracing::warn;

use super::{Running, ahead::Ahead, threads::Threads};
use crate::{
    jobs::{
        claim::Known,
        liveness::{self, Why, WorkerId},
        settle::End,
    },
    outage, wake,
};

/// Ends that wait for it.
pub(super) const MAX_ENDS: usize = 1024;
/// How soon it tries again what the database did not do.
pub(super) const AGAIN: Duration = Duration::from_millis(250);

/// Handlers hold all the threads that jobs run on.
#[derive(Debug, thiserror::Error)]
pub(super) enum Fault {
    #[error(transparent)]
    Database(#[from] DbError),
    #[error("{0} abandoned jobs block their threads; move blocking work to `spawn_blocking`")]
    Blocked(usize),
    #[error("cannot start the threads for jobs")]
    Threads(#[from] std::io::Error),
}

/// How an incarnation ended.
pub(super) enum Over {
    Stopped,
    /// Others have its jobs by now, or will.
    Lost,
}

pub(super) async fn run(
    this: Arc<Running>,
    context: WorkerContext,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    while !context.is_stopping() {
        context.beat();
        match live(&this, &context).await {
            Ok(Over::Stopped) => break,
            Ok(Over::Lost) => {
                warn!("this instance could not renew its leases; its jobs go to other instances");
            }
            Err(fault) => {
                let reason = match &fault {
                    Fault::Database(error) => outage::reason(error),
                    _ => None,
                };
                let Some(reason) = reason else {
                    return Err(fault.into());
                };
                context.lifeline().unavailable(reason);
                tokio::select! {
                    () = sleep(AGAIN) => {}
                    () = context.stopping() => {}
                }
            }
        }
    }
    Ok(())
}

/// A look through all queues.
pub(super) type Looking = BoxFuture<'static, Result<Known, DbError>>;

/// One incarnation.
pub(super) struct Life {
    pub(super) this: Arc<Running>,
    pub(super) me: WorkerId,
    pub(super) threads: Threads,
    pub(super) ends: mpsc::Sender<End>,
    /// Ends that are not written yet.
    pub(super) unwritten: AtomicUsize,
    /// A slot is free, or an end is written.
    pub(super) moved: Notify,
    /// When it last showed that it is alive.
    pub(super) beat: Mutex<Instant>,
    /// What the last claim knew.
    pub(super) known: Mutex<Known>,
    /// A scan of all queues under way in parallel with the claims.
    pub(super) looking: Mutex<Option<Looking>>,
    pub(super) ahead: Ahead,
    /// Tasks that were given up.
    pub(super) given_up: Mutex<Vec<(AbortHandle, Instant)>>,
}

async fn live(this: &Arc<Running>, context: &WorkerContext) -> Result<Over, Fault> {
    let former = this
        .former
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .take();
    if let Some(former) = former {
        let ended = liveness::end(&this.db, former, Why::Stopped).await;
        if ended.is_err() {
            note_former(this, former);
        }
        ended?;
    }
    let me = WorkerId::new();
    note_former(this, me);
    liveness::begin(&this.db, me).await?;
    let (sender, receiver) = mpsc::channel(MAX_ENDS);
    let life = Arc::new(Life {
        this: Arc::clone(this),
        me,
        threads: Threads::start()?,
        ends: sender,
        unwritten: AtomicUsize::new(0),
        moved: Notify::new(),
        beat: Mutex::new(Instant::now()),
        known: Mutex::default(),
        looking: Mutex::default(),
        ahead: Ahead::new(this.handlers.keys().copied()),
        given_up: Mutex::default(),
    });
    let _abort = AbortAll(Arc::clone(&life));
    context.lifeline().ready(Serving::default());
    let work = async {
        match life.claim(context).await? {
            Over::Lost => Ok(Over::Lost),
            Over::Stopped => life.drain().await,
        }
    };
    let over = tokio::select! {
        over = work => over?,
        over = life.show_life() => over?,
        over = life.watch(context) => over?,
        fault = life.write_progress() => return Err(fault),
        fault = life.write_ends(receiver) => return Err(fault),
        fault = life.follow_schedules() => return Err(fault),
        never = wake::exchange(&this.db) => match never {},
    };
    if let Over::Stopped = over {
        liveness::end(&this.db, me, Why::Stopped).await?;
        this.former
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
    }
    Ok(over)
}

fn note_former(this: &Running, me: WorkerId) {
    let mut former = this.former.lock().unwrap_or_else(PoisonError::into_inner);
    *former = Some(me);
}

/// Ends what still runs when an incarnation ends, however that is; nothing begins after it.
struct AbortAll(Arc<Life>);

impl Drop for AbortAll {
    fn drop(&mut self) {
        self.0.ahead.lock().close();
        for (_, run) in self.0.this.runs.lock().drain() {
            run.end();
            run.abort();
        }
    }
}
