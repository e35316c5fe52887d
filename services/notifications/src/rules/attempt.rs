//! What attempts of all channels have in common: the mark before one, and what came of it.

use std::{
    sync::{Arc, LazyLock},
    time::{Duration, Instant},
};

use dotmac_platform::{
    db::{DbError, TenantDb, types::Moment},
    delivery::{Attempt, Ladder},
    jobs::{JobError, Run},
};
use tokio::time::sleep;

use super::{
    lane::Called,
    loaded::Loaded,
    settle::{Settled, settle},
    together,
};
use crate::{
    error::NotificationsError,
    jobs::DeliveryJob,
    metrics,
    service::Service,
    store::{
        deliveries::{self, DeliveryRow, Outcome},
        digests,
        notifications::NotificationRow,
        push::SubscriptionId,
    },
};

/// The waits of a delivery that its next hop does not take: fourteen attempts in some four days, as mail servers do it
/// (RFC 5321, 4.5.4.1), and the first ones soon, for users that wait for a link.
pub(super) static LADDER: LazyLock<Ladder> = LazyLock::new(|| {
    let minutes = [1, 5, 15, 30, 60, 120, 240, 480, 720, 1440, 1440, 1440];
    let minutes = minutes.map(|it| Duration::from_secs(it * 60));
    let mut waits = vec![Duration::from_secs(15)];
    waits.extend(minutes);
    Ladder::new(waits)
});

/// How often a job shows that it goes on while the next hop is awaited.
const BEAT: Duration = Duration::from_secs(5);

/// Tries to write down what a next hop answered, a second after each other.
const SETTLE_TRIES: u32 = 20;

/// Shows that the job goes on while `work` does.
pub(super) async fn beating<J: DeliveryJob, T>(run: &Run<J>, work: impl Future<Output = T>) -> T {
    let mut work = std::pin::pin!(work);
    loop {
        tokio::select! {
            done = &mut work => return done,
            () = sleep(BEAT) => run.beat(),
        }
    }
}

/// Marks a digest of so many members just before the next hop is given what it says; since when. `None` if it was called off
/// meanwhile, or another worker has it.
async fn mark_digest<J: DeliveryJob>(
    db: &TenantDb,
    run: &Arc<Run<J>>,
    members: usize,
) -> Result<Option<Moment>, JobError> {
    let (since, id) = (Moment::now(), run.delivery_id());
    let run = Arc::clone(run);
    let marking = db.transaction("begin to send", async move |tx| {
        run.guard(tx).await?;
        if !deliveries::begin_sending(tx, id, since).await? {
            return Ok(None);
        }
        let marked = digests::begin_sending(tx, id, since).await?;
        match marked == members {
            true => Ok(Some(since)),
            false => Err(MarkError::Changed),
        }
    });
    match marking.await {
        Ok(marked) => Ok(marked),
        // One of them was called off while the mail was made: it is made again.
        Err(MarkError::Changed) => Err(JobError::again_after(
            Duration::ZERO,
            "digest_changed",
            "what is sent together changed meanwhile",
        )),
        Err(MarkError::Db(error)) => Err(error.into()),
    }
}

/// Why a delivery is not marked.
#[derive(Debug, thiserror::Error)]
enum MarkError {
    #[error("what is sent together changed meanwhile")]
    Changed,
    #[error(transparent)]
    Db(#[from] DbError),
}

/// An attempt, until its outcome is written down.
pub(super) struct AttemptUnderWay<J: DeliveryJob> {
    service: Service,
    pub(super) db: TenantDb,
    pub(super) run: Arc<Run<J>>,
    pub(super) began: Instant,
    pub(super) at: Moment,
    pub(super) delivery: DeliveryRow,
    pub(super) notification: NotificationRow,
    members: Vec<DeliveryRow>,
}

/// What came of an attempt.
pub(super) struct Came {
    pub(super) outcome: Outcome,
    pub(super) record: Attempt,
    /// When the next hop was given what it says, if that is marked.
    pub(super) since: Option<Moment>,
    /// Nothing will reach the recipient.
    pub(super) is_lasting: bool,
    /// A browser that takes no messages any more.
    pub(super) gone: Option<SubscriptionId>,
    /// What it means for the lane of its receiver, if that has one.
    pub(super) called: Option<Called>,
}

impl<J: DeliveryJob> AttemptUnderWay<J> {
    pub(super) fn begin(
        service: &Service,
        db: &TenantDb,
        run: &Arc<Run<J>>,
        loaded: &Loaded,
    ) -> Self {
        Self {
            service: service.clone(),
            db: db.clone(),
            run: Arc::clone(run),
            began: Instant::now(),
            at: Moment::now(),
            delivery: loaded.delivery.clone(),
            notification: loaded.notification.clone(),
            members: loaded.members(),
        }
    }

    /// Marks the delivery, and what is sent with it, just before the next hop is given what they say; since when. `None` if it was
    /// called off meanwhile, or another worker has it.
    pub(super) async fn mark(&self) -> Result<Option<Moment>, JobError> {
        match self.members.len() {
            0 => together::mark(&self.service, &self.run).await,
            members => mark_digest(&self.db, &self.run, members).await,
        }
    }

    /// Writes it down. What a next hop has answered must not be forgotten because the database is away for a moment.
    pub(super) async fn settle(self, came: Came) -> Result<(), JobError> {
        metrics::attempted(self.delivery.channel, self.began.elapsed());
        // What a receiver has answered must not be forgotten, nor sent again.
        let is_made = came.since.is_some() || came.called.is_some();
        let settled = Settled {
            delivery: self.delivery,
            notification: self.notification,
            sending_since: came.since,
            outcome: came.outcome,
            attempt: Some(came.record),
            is_lasting: came.is_lasting,
            gone: came.gone,
            called: came.called,
            members: self.members,
        };
        if together::accept(&self.service, &settled).await {
            return Ok(());
        }
        let mut tries = 0;
        loop {
            tries += 1;
            match settle(&self.db, settled.clone()).await {
                Ok(_) => return Ok(()),
                Err(NotificationsError::Db(error))
                    if tries < SETTLE_TRIES && is_made && may_be_mended(&error) =>
                {
                    self.run.beat();
                    sleep(Duration::from_secs(1)).await;
                }
                Err(error) => return Err(of_database(error)),
            }
        }
    }
}

/// What the database did not do because it is away counts as no attempt.
pub(super) fn of_database(error: NotificationsError) -> JobError {
    match error {
        NotificationsError::Db(error) => error.into(),
        error => error.into(),
    }
}

/// Whether another try may write it down; one more of what was written changes nothing.
fn may_be_mended(error: &DbError) -> bool {
    error.retry_after().is_some() || matches!(error, DbError::OutcomeUnknown(_))
}
