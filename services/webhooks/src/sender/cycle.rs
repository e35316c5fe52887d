//! What the sender does in the database, all of it at once every few milliseconds: writes down what has ended, keeps leases,
//! claims what there is room for. Attempts go on meanwhile.

use std::{collections::HashMap, sync::Arc, time::Instant};

use dotmac_platform::{
    db::{Connection, Db, DbError, Tx},
    delivery::{self, Ladder, LaneRules},
};

use super::{
    LEASE,
    attempt::Ended,
    parcel::{self, Parcel},
    settle,
};
use crate::{
    WebhooksError, metrics,
    store::{
        claims::{self, Claimed, Look, Wanted, WorkerId},
        endpoints::EndpointId,
        leases,
    },
};

/// What cycles are done with. Clones are the same.
#[derive(Clone)]
pub(super) struct Cycles {
    pub(super) db: Db,
    pub(super) me: WorkerId,
    pub(super) ladder: Arc<Ladder>,
    pub(super) rules: LaneRules,
}

/// What there is to do.
#[derive(Default)]
pub(super) struct Work {
    /// Attempts to be written down.
    pub(super) ended: Vec<Arc<Ended>>,
    /// Deliveries to be given back that were not sent.
    pub(super) returned: Vec<Claimed>,
    /// Whose leases are to be renewed, if they are; those of others that have expired are taken back then.
    pub(super) kept: Option<Vec<Claimed>>,
    /// What is to be claimed.
    pub(super) ask: Option<Ask>,
}

/// What there is room for.
#[derive(Clone)]
pub(super) struct Ask {
    pub(super) most: u32,
    pub(super) ahead: Arc<HashMap<EndpointId, u32>>,
    /// How many more may be claimed ahead, of all endpoints together.
    pub(super) ahead_in_all: u32,
    /// Behind which endpoint the claim begins.
    pub(super) turn: EndpointId,
    /// Whether to look first if there is anything: most of the time there is not.
    pub(super) looks: bool,
}

/// What was done.
#[derive(Default)]
pub(super) struct Done {
    /// What was not done, and why.
    pub(super) left: Work,
    pub(super) error: Option<WebhooksError>,
    /// Whether leases were kept.
    pub(super) has_kept: bool,
    /// What was claimed, if something was to be.
    pub(super) got: Option<Got>,
}

/// What was claimed.
#[derive(Default)]
pub(super) struct Got {
    pub(super) parcels: Vec<Parcel>,
    /// Before they were claimed.
    pub(super) began: Option<Instant>,
    pub(super) widths: HashMap<EndpointId, u32>,
    /// Behind which endpoint the next claim begins.
    pub(super) turn: Option<EndpointId>,
}

impl Cycles {
    /// Does the work, up to the first that cannot be done.
    pub(super) async fn run(self, mut work: Work) -> Done {
        let mut done = Done::default();
        if let Err(error) = self.work(&mut work, &mut done).await {
            done.error = Some(error);
        }
        done.left = work;
        done
    }

    async fn work(&self, work: &mut Work, done: &mut Done) -> Result<(), WebhooksError> {
        self.settle(work).await?;
        if let Some(mine) = work.kept.take() {
            self.keep_leases(mine).await?;
            done.has_kept = true;
        }
        if let Some(ask) = work.ask.take() {
            done.got = Some(self.claim(ask).await?);
        }
        Ok(())
    }

    /// Writes down what has ended, and takes it out of `work` once that is done. What was written down although its answer was
    /// lost is late the second time.
    pub(super) async fn settle(&self, work: &mut Work) -> Result<(), WebhooksError> {
        if work.ended.is_empty() && work.returned.is_empty() {
            return Ok(());
        }
        let to_settle = (work.ended.clone(), work.returned.clone());
        settle::settle(&self.db, &self.ladder, self.rules, to_settle).await?;
        work.ended.clear();
        work.returned.clear();
        Ok(())
    }

    /// Claims what there is room for.
    async fn claim(&self, ask: Ask) -> Result<Got, WebhooksError> {
        if ask.looks && !self.look().await?.has_pending {
            return Ok(Got::default());
        }
        let (worker, rules) = (self.me, self.rules);
        let claim = async move |tx: &mut Tx| {
            // Their leases, and how fresh they are, count from here; the wait for a connection does not.
            let began = Instant::now();
            let now = delivery::database_now(tx).await?;
            let wanted = Wanted {
                worker,
                most: ask.most,
                ahead: Arc::clone(&ask.ahead),
                ahead_in_all: ask.ahead_in_all,
                turn: ask.turn,
                rules,
                now,
                leased_until: now + LEASE,
            };
            let claims = claims::claim(tx, wanted).await?;
            let parcels = parcel::load(tx, claims.deliveries, now).await?;
            Ok::<_, DbError>(Got {
                parcels,
                began: Some(began),
                widths: claims.widths,
                turn: claims.turn,
            })
        };
        Ok(self.db.transaction("claim webhooks", claim).await?)
    }

    /// Without a transaction that writes.
    async fn look(&self) -> Result<Look, DbError> {
        let look = async |c: &mut Connection| claims::look(c).await;
        self.db.read("look for webhooks", look).await
    }

    /// Renews the leases of what is under way, and takes back what other instances did not end.
    async fn keep_leases(&self, mine: Vec<Claimed>) -> Result<(), WebhooksError> {
        if mine.is_empty() && !self.look().await?.has_expired {
            return Ok(());
        }
        // Interrupted attempts do not count on the ladder: they have a limit of their own.
        let most = i32::try_from(self.ladder.attempts()).unwrap_or(i32::MAX);
        let most = most.saturating_mul(2);
        let keep = async move |tx: &mut Tx| {
            let now = delivery::database_now(tx).await?;
            if !mine.is_empty() {
                leases::renew(tx, &mine, now + LEASE).await?;
            }
            leases::take_back(tx, now, most).await
        };
        let taken: Result<usize, DbError> = self.db.transaction("keep leases", keep).await;
        let taken = taken?;
        if taken > 0 {
            metrics::interrupted(taken);
            tracing::warn!(
                deliveries = taken,
                "took over webhook deliveries of an instance that did not end them"
            );
        }
        Ok(())
    }
}
