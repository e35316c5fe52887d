//! Takes a new account into use without failing a query, and lets the former one go.
//!
//! offered -> proved with a real connection -> new connections use it -> idle ones of the former are
//! closed -> busy ones finish -> the former account is dropped. An account that the server refuses
//! changes nothing: it is retried, and at once when another is offered.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use tokio::sync::watch;

use crate::{
    Account, Config, Credentials, Offer, OpenError, Pool, Postgres, Target, connect,
    monitor::{Alarms, ConnectionState},
};
use dotmac_supervision::Reason;

/// First wait before a refused account is tried again; doubles up to [`RETRY_MAX`].
const RETRY_MIN: Duration = Duration::from_millis(250);
const RETRY_MAX: Duration = Duration::from_secs(10);

/// Between two looks for idle connections of a former account; doubles up to [`SWEEP_MAX`].
const SWEEP_MIN: Duration = Duration::from_millis(20);
const SWEEP_MAX: Duration = Duration::from_secs(1);

/// The result of an offer.
pub(crate) enum OfferOutcome {
    /// It is in use.
    Swapped,
    /// The server does not take it; the former one stays in use.
    Refused(OpenError),
    /// There is nothing left to log in with.
    Withdrawn(Reason),
}

/// Follows what is offered to one pool.
pub(crate) struct Rotation {
    server: Postgres,
    config: Config,
    pool: Weak<Pool>,
    offers: watch::Receiver<Offer>,
    refusals: u32,
}

impl Rotation {
    /// Follows the offers for the server of `config`, if it is one.
    pub(crate) fn new(config: &Config, pool: &Arc<Pool>) -> Option<Self> {
        match &config.target {
            Target::Sqlite(_) => None,
            Target::Postgres(server) => Some(Self {
                offers: server.credentials.offers(),
                server: server.clone(),
                config: config.clone(),
                pool: Arc::downgrade(pool),
                refusals: 0,
            }),
        }
    }

    /// Waits for an offer that is not in use, and tries it. Runs on the database's runtime.
    pub(crate) async fn turn(mut self) -> (Self, OfferOutcome) {
        loop {
            let offer = self.offers.borrow_and_update().clone();
            let in_use = self.credentials().in_use();
            match offer {
                Ok(account) if Weak::ptr_eq(&Arc::downgrade(&account), &in_use) => {}
                Ok(account) => {
                    let turn = self.try_account(account).await;
                    return (self, turn);
                }
                Err(reason) if in_use.strong_count() > 0 => {
                    self.credentials().clear();
                    self.let_go(in_use);
                    return (self, OfferOutcome::Withdrawn(reason));
                }
                Err(_) => {}
            }
            // The source lives as long as this: the credentials are shared.
            self.offers.changed().await.ok();
        }
    }

    fn credentials(&self) -> &Credentials {
        &self.server.credentials
    }

    async fn try_account(&mut self, account: Arc<Account>) -> OfferOutcome {
        if let Some(doublings) = self.refusals.checked_sub(1) {
            let longest = RETRY_MIN
                .saturating_mul(2_u32.saturating_pow(doublings))
                .min(RETRY_MAX);
            let wait = longest.mul_f64(0.5 + 0.5 * fastrand::f64());
            // Another offer is worth a try at once.
            if tokio::time::timeout(wait, self.offers.changed())
                .await
                .is_ok()
            {
                self.offers.mark_changed();
                self.refusals = 0;
            }
        }
        let latest = self.credentials().offered().unwrap_or(account);
        // The traffic has not requested this one, so its failure affects no caller.
        let connection_state = ConnectionState::new(&Alarms::default());
        match connect::postgres_as(&latest, &self.server, &self.config, &connection_state).await {
            Ok(_proof) => {
                let former = self.credentials().in_use();
                self.credentials().swap(latest);
                if let Some(pool) = self.pool.upgrade() {
                    // The monitor's own connection is one of the former account's.
                    pool.alarms().look();
                }
                self.let_go(former);
                self.refusals = 0;
                OfferOutcome::Swapped
            }
            Err(problem) => {
                if let Some(observer) = &latest.observer {
                    observer.refused();
                }
                self.refusals = self.refusals.saturating_add(1);
                OfferOutcome::Refused(problem)
            }
        }
    }

    /// Closes what is idle of `former` until its last connection is gone.
    fn let_go(&self, former: Weak<Account>) {
        let pool = self.pool.clone();
        tokio::spawn(async move {
            let mut pause = SWEEP_MIN;
            while former.strong_count() > 0 {
                let Some(pool) = pool.upgrade() else { return };
                pool.drop_unfit();
                drop(pool);
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(SWEEP_MAX);
            }
        });
    }
}
