//! Verifies all chains, again and again.

use std::{collections::HashMap, sync::Arc, time::Duration};

use diesel::prelude::*;
use diesel_async::RunQueryDsl;
use dotmac_db::{Connection, Db, DbError, ModuleDb, TenantId, Tx, on, sealing::Sealer};
use dotmac_supervision::{Schedule, Serving, WorkerContext, WorkerSpec};
use opentelemetry::{global, metrics::Gauge};
use tokio::time::Instant;
use tracing::{error, info};

use super::{
    AUDIT_CHAIN_BROKEN, AUDIT_NOT_SIGNED, Hash, SigningKeys, Verification, Verified, VerifiedPlace,
    progress::{self, Progress},
    tables::audit_chain,
    verify::Step,
};
use crate::outage;

/// Default pause between two verifications of all chains.
pub const VERIFY_EVERY: Duration = Duration::from_secs(600);

/// Chains of one reading.
const CHAINS_AT_ONCE: i64 = 100;
/// Chains whose ends are kept in memory, so that links which are gone are missed.
const MOST_KNOWN: usize = 10_000;
/// How long it waits before it tries again when the database is away.
const RETRY: Duration = Duration::from_secs(1);
/// How long it waits after a round that could not check a signature: the key may come a moment after the start. After each
/// further such round it waits twice as long, up to the usual pause.
const UNCHECKED_RETRY: Duration = Duration::from_secs(1);
/// How often it keeps its place, besides at a stop.
const KEPT_EVERY: Duration = Duration::from_secs(30);

/// The worker that verifies all chains, with a pause of `every`. Each instance does so for itself: one chain
/// that is broken makes it degraded on each. It works half of the time at the most. A round that a stop interrupts, or the end
/// of the process, goes on in the next life, unless it has found a broken chain.
#[must_use]
pub fn verifier(
    name: &'static str,
    db: &ModuleDb,
    signing: Option<Sealer>,
    every: Duration,
) -> WorkerSpec {
    let db = Arc::new(db.system("audit chains of all tenants are verified"));
    let signing = Arc::new(signing);
    let run = move |context| {
        let verifier = Verifier {
            name,
            db: Arc::clone(&db),
            signing: Arc::clone(&signing),
            known: HashMap::new(),
            may_resume: true,
            kept: None,
            broken: global::meter("dotmac.audit")
                .u64_gauge("dotmac.audit.broken")
                .with_description("Broken audit chains in the last verification")
                .build(),
        };
        verifier.run(every, context)
    };
    WorkerSpec::new(name, Schedule::Continuous, run).progress_within(Duration::from_secs(60))
}

struct Verifier {
    name: &'static str,
    db: Arc<Db>,
    signing: Arc<Option<Sealer>>,
    /// The ends of chains as they were verified last.
    known: HashMap<TenantId, (i64, Hash)>,
    /// Whether the next round goes on where one was interrupted.
    may_resume: bool,
    /// When its place was kept last.
    kept: Option<Instant>,
    broken: Gauge<u64>,
}

/// What a round over all chains has found.
#[derive(Default)]
struct Round {
    broken: u64,
    /// Whether a signature could not be checked: no key opened, or chains were signed all the time.
    is_unchecked: bool,
}

impl Verifier {
    async fn run(mut self, every: Duration, context: WorkerContext) -> Result<(), DbError> {
        let mut retry = UNCHECKED_RETRY;
        while !context.is_stopping() {
            context.beat();
            let (serving, lifeline) = (Serving::default(), context.lifeline());
            let wait = match self.round(&context).await {
                Ok(round) => {
                    self.broken.record(round.broken, &[]);
                    match round {
                        Round { broken: 1.., .. } => lifeline.degraded(AUDIT_CHAIN_BROKEN, serving),
                        Round {
                            is_unchecked: true, ..
                        } => lifeline.degraded(AUDIT_NOT_SIGNED, serving),
                        _ => lifeline.ready(serving),
                    }
                    if round.is_unchecked {
                        let wait = retry.min(every);
                        retry = wait.saturating_mul(2);
                        wait
                    } else {
                        retry = UNCHECKED_RETRY;
                        every
                    }
                }
                Err(error) => match outage::reason(&error) {
                    Some(reason) => {
                        lifeline.unavailable(reason);
                        RETRY
                    }
                    None => return Err(error),
                },
            };
            tokio::select! {
                () = context.paused(tokio::time::sleep(wait)) => {}
                () = context.stopping() => {}
            }
        }
        Ok(())
    }

    async fn round(&mut self, context: &WorkerContext) -> Result<Round, DbError> {
        let keys = self.keys().await?;
        let begun = match self.may_resume {
            true => self.begun(&keys).await?,
            false => None,
        };
        // After an error the next round goes on.
        self.may_resume = true;
        let mut round = Round::default();
        if let Some(Progress {
            tenant,
            place: Some(place),
        }) = begun
        {
            self.chain(tenant, Some(place), &keys, &mut round, context)
                .await?;
        }
        let mut after = begun.map(|it| it.tenant);
        while !context.is_stopping() {
            let tenants = chains(&self.db, after).await?;
            let Some(last) = tenants.last() else {
                self.save(None).await?;
                self.may_resume = false;
                break;
            };
            after = Some(*last);
            for tenant in tenants {
                if context.is_stopping() {
                    break;
                }
                self.chain(tenant, None, &keys, &mut round, context).await?;
            }
        }
        Ok(round)
    }

    /// The keys that signatures are checked with, as they are now.
    async fn keys(&self) -> Result<Arc<SigningKeys>, DbError> {
        let signing = Arc::clone(&self.signing);
        let load = async move |c: &mut Connection| SigningKeys::load(c, (*signing).as_ref()).await;
        Ok(Arc::new(self.db.read("load signing keys", load).await?))
    }

    /// Where a round was interrupted.
    async fn begun(&self, keys: &Arc<SigningKeys>) -> Result<Option<Progress>, DbError> {
        let (name, keys) = (self.name, Arc::clone(keys));
        let load = async move |c: &mut Connection| progress::load(c, name, &keys).await;
        let begun = self.db.read("load place of verifier", load).await?;
        if let Some(Progress { tenant, .. }) = begun {
            info!(tenant = %tenant, "the verification of audit chains continues with tenant {tenant}");
        }
        Ok(begun)
    }

    /// Keeps the place, from time to time or if this `is_last`. Faults of this round are not stored, so after a fault
    /// the next life begins again.
    async fn keep(&mut self, progress: Progress, round: &Round, is_last: bool) {
        let is_due = is_last || self.kept.is_none_or(|at| at.elapsed() >= KEPT_EVERY);
        if is_due {
            let is_clean = round.broken == 0 && !round.is_unchecked;
            // If the database is away, the place before is as good.
            self.save(is_clean.then_some(progress)).await.ok();
            self.kept = Some(Instant::now());
        }
    }

    async fn save(&self, progress: Option<Progress>) -> Result<(), DbError> {
        let (name, signing) = (self.name, Arc::clone(&self.signing));
        let save =
            async move |tx: &mut Tx| progress::save(tx, name, (*signing).as_ref(), progress).await;
        self.db.transaction("keep place of verifier", save).await
    }

    /// Verifies the chain of a tenant, from `place` if given, and adds what it finds to the round.
    async fn chain(
        &mut self,
        tenant: TenantId,
        place: Option<VerifiedPlace>,
        keys: &Arc<SigningKeys>,
        round: &mut Round,
        context: &WorkerContext,
    ) -> Result<(), DbError> {
        let began = Instant::now();
        let Some(found) = self.verify(tenant, place, keys, round, context).await? else {
            return Ok(());
        };
        round.is_unchecked |= found.is_unchecked;
        if let Some(broken) = &found.broken {
            round.broken += 1;
            context
                .lifeline()
                .degraded(AUDIT_CHAIN_BROKEN, Serving::default());
            error!(
                tenant = %tenant,
                number = broken.number,
                entry = broken.entry.map(|it| it.to_string()),
                fault = broken.fault.as_str(),
                "the audit chain of tenant {tenant} is {broken}"
            );
        }
        let done = Progress {
            tenant,
            place: None,
        };
        let is_last = context.is_stopping() || found.broken.is_some();
        self.keep(done, round, is_last).await;
        tokio::time::sleep(began.elapsed()).await;
        Ok(())
    }

    /// Verifies a chain, however long it takes: when the database is away meanwhile, it goes on where it was. `None` if the
    /// worker is to stop before the end.
    async fn verify(
        &mut self,
        tenant: TenantId,
        place: Option<VerifiedPlace>,
        keys: &Arc<SigningKeys>,
        round: &Round,
        context: &WorkerContext,
    ) -> Result<Option<Verified>, DbError> {
        let known = self.known.get(&tenant).copied();
        let first = Verification::new(tenant, Arc::clone(keys)).known(known);
        let (mut is_again, mut is_away) = (false, false);
        let mut at = match place {
            Some(place) => first.from_place(place),
            None => first,
        };
        let found = loop {
            let progress = Progress {
                tenant,
                place: Some(at.place()),
            };
            self.keep(progress, round, context.is_stopping()).await;
            if context.is_stopping() {
                return Ok(None);
            }
            context.beat();
            let step = match at.next(&self.db).await {
                Ok(step) => step,
                Err(error) => {
                    let Some(reason) = outage::reason(&error) else {
                        return Err(error);
                    };
                    context.lifeline().unavailable(reason);
                    is_away = true;
                    context.paused(tokio::time::sleep(RETRY)).await;
                    continue;
                }
            };
            if std::mem::take(&mut is_away) {
                match round.broken {
                    0 => context.lifeline().ready(Serving::default()),
                    _ => context
                        .lifeline()
                        .degraded(AUDIT_CHAIN_BROKEN, Serving::default()),
                }
            }
            match step {
                Step::Further(further) => at = *further,
                // Once more: retention may have taken links away meanwhile, or the sealer may have made its first key.
                Step::Done(found) if found.broken.is_some() && !is_again => {
                    let keys = self.keys().await?;
                    (at, is_again) = (Verification::new(tenant, keys).known(known), true);
                }
                Step::Done(found) => break *found,
            }
        };
        let has_room = known.is_some() || self.known.len() < MOST_KNOWN;
        if found.broken.is_none() && has_room {
            self.known.insert(tenant, (found.last, found.hash));
        }
        Ok(Some(found))
    }
}

/// At most 101 tenants that have a chain, in the order of their ids, behind `after`; the system first, whether it has one or
/// not. None behind the last one. `db` has the scope of the system.
///
/// # Errors
///
/// [`DbError`].
pub async fn chains(db: &Db, after: Option<TenantId>) -> Result<Vec<TenantId>, DbError> {
    let list = async move |c: &mut Connection| {
        // Every id is behind the nil one, but for that itself, which is the system's.
        let after = after.unwrap_or(super::SYSTEM);
        let query = audit_chain::table
            .filter(audit_chain::tenant_id.gt(after))
            .order(audit_chain::tenant_id)
            .limit(CHAINS_AT_ONCE)
            .select(audit_chain::tenant_id);
        on!(c, |c| query.load(c).await)
    };
    let mut found: Vec<TenantId> = db.read("list audit chains", list).await?;
    if after.is_none() {
        found.insert(0, super::SYSTEM);
    }
    Ok(found)
}
