//! What deliveries that are under way at the same time do in the database: together, in one transaction with a statement for all of
//! them, as a database does with commits. Each does it by itself where that fails, or where there is more to it.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use dotmac_platform::{
    db::{Db, DbError, ModuleDb, TenantId, TenantScope, TenantTx, Tx, types::Moment},
    jobs::{JobError, Run, RunLease, hold_all},
};
use futures_util::future::{BoxFuture, join_all};
use tokio::sync::{Mutex as Turn, oneshot};
use tracing::Span;

use super::{
    loaded::{self, Loaded},
    settle::Settled,
};
use crate::{
    channel::State,
    error::NotificationsError,
    events,
    jobs::DeliveryJob,
    metrics,
    service::Service,
    store::{
        deliveries::{DeliveryId, DeliveryRow},
        together::{self as store, AcceptedRow},
    },
};

/// The reason for the scopes of its transactions.
const WHY: &str = "deliver notifications";

/// The most deliveries of one transaction: each may emit an event, of which a transaction takes a hundred.
const MOST: usize = 64;

/// How soon a delivery is tried again whose mark the database did not take.
const AGAIN: Duration = Duration::from_secs(1);

/// What is done together.
#[derive(Default)]
pub(crate) struct Together {
    loads: Batch<(TenantId, DeliveryId), Option<Option<Loaded>>>,
    marks: Batch<Mark, Marked>,
    accepted: Batch<(AcceptedRow, Accepted), bool>,
}

/// Items that wait, and the turn of the caller that does all of them.
struct Batch<I, O> {
    waiting: Mutex<Vec<(I, oneshot::Sender<O>)>>,
    turn: Turn<()>,
}

impl<I, O> Default for Batch<I, O> {
    fn default() -> Self {
        Self {
            waiting: Mutex::default(),
            turn: Turn::default(),
        }
    }
}

impl<I, O> Batch<I, O> {
    /// Has `work` done with `item` and those that wait with it: by this caller, or by one that has the turn before it. `work` gives
    /// an outcome for each item, in their order. `None` if that caller was cancelled: it is unknown then whether it was done.
    async fn run(&self, item: I, work: impl Fn(Vec<I>) -> BoxFuture<'static, Vec<O>>) -> Option<O> {
        let (give, mut taken) = oneshot::channel();
        self.waiting().push((item, give));
        let _turn = self.turn.lock().await;
        loop {
            match taken.try_recv() {
                Ok(outcome) => return Some(outcome),
                Err(oneshot::error::TryRecvError::Closed) => return None,
                Err(oneshot::error::TryRecvError::Empty) => {}
            }
            let (items, callers): (Vec<_>, Vec<_>) = self.next().into_iter().unzip();
            for (caller, outcome) in callers.into_iter().zip(work(items).await) {
                // A caller that is gone needs none.
                drop(caller.send(outcome));
            }
        }
    }

    /// The next items, without those of callers that were cancelled.
    fn next(&self) -> Vec<(I, oneshot::Sender<O>)> {
        let mut waiting = self.waiting();
        waiting.retain(|(_, caller)| !caller.is_closed());
        let most = waiting.len().min(MOST);
        waiting.drain(..most).collect()
    }

    fn waiting(&self) -> MutexGuard<'_, Vec<(I, oneshot::Sender<O>)>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Reads a delivery and judges it; `None` if it was deleted.
///
/// # Errors
///
/// [`DbError`].
pub(super) async fn load(
    service: &Service,
    tenant: TenantId,
    id: DeliveryId,
) -> Result<Option<Loaded>, DbError> {
    let load_all = |wanted| Box::pin(load_all(service.db.clone(), wanted)) as BoxFuture<'static, _>;
    let read = service.together.loads.run((tenant, id), load_all).await;
    match read.flatten() {
        Some(loaded) => Ok(loaded),
        None => {
            let db = service.db.tenant(&TenantScope::system(tenant, WHY));
            db.read("load delivery", async move |tx| loaded::load(tx, id).await)
                .await
        }
    }
}

/// Each tenant's by themselves, and all tenants' at the same time; `None` for what could not be read.
async fn load_all(
    db: ModuleDb,
    wanted: Vec<(TenantId, DeliveryId)>,
) -> Vec<Option<Option<Loaded>>> {
    let mut tenants: BTreeMap<TenantId, Vec<DeliveryId>> = BTreeMap::new();
    for (tenant, id) in &wanted {
        tenants.entry(*tenant).or_default().push(*id);
    }
    let reading = tenants.into_iter().map(|(tenant, ids)| {
        let db = db.tenant(&TenantScope::system(tenant, WHY));
        async move {
            let read = async move |tx: &mut TenantTx| loaded::load_all(tx, ids).await;
            let read: Result<_, DbError> = db.read("load deliveries", read).await;
            (tenant, read.ok())
        }
    });
    let mut read: HashMap<_, _> = join_all(reading).await.into_iter().collect();
    let mut given = HashSet::new();
    let found = wanted.into_iter().map(|(tenant, id)| {
        let of_tenant = read.get_mut(&tenant)?.as_mut()?;
        // Two workers of one delivery, of which one is late: the second reads it by itself.
        given.insert(id).then(|| of_tenant.remove(&id))
    });
    found.collect()
}

/// A delivery whose next hop is about to be given what it says.
struct Mark {
    tenant: TenantId,
    delivery: DeliveryId,
    lease: RunLease,
}

#[derive(Clone, Copy)]
enum Marked {
    /// It is marked since then.
    Since(Moment),
    /// It was called off meanwhile, or another worker has it.
    NotWaiting,
    /// The database did not take it, or that is unknown.
    Failed,
}

/// Marks a delivery just before the next hop is given what it says; since when. `None` if it was called off meanwhile, or
/// another worker has it.
///
/// # Errors
///
/// [`JobError::not_yet`] if the database did not take it.
pub(super) async fn mark<J: DeliveryJob>(
    service: &Service,
    run: &Run<J>,
) -> Result<Option<Moment>, JobError> {
    let item = Mark {
        tenant: run.owner(),
        delivery: run.delivery_id(),
        lease: run.lease(),
    };
    let mark_all =
        |items| Box::pin(mark_all(service.db.system(WHY), items)) as BoxFuture<'static, _>;
    match service.together.marks.run(item, mark_all).await {
        Some(Marked::Since(since)) => Ok(Some(since)),
        Some(Marked::NotWaiting) => Ok(None),
        Some(Marked::Failed) | None => {
            let message = "the database did not take the mark of the delivery";
            Err(JobError::not_yet(AGAIN, "database_unavailable", message))
        }
    }
}

async fn mark_all(db: Db, items: Vec<Mark>) -> Vec<Marked> {
    let (since, count) = (Moment::now(), items.len());
    let marking = db.transaction("begin to send", async move |tx: &mut Tx| {
        let leases: Vec<_> = items.iter().map(|it| it.lease).collect();
        let held = hold_all(tx, &leases).await?;
        let ours = items.iter().zip(&held).filter(|(_, is_held)| **is_held);
        let ours: Vec<_> = ours.map(|(it, _)| (it.tenant, it.delivery)).collect();
        let marked = store::begin_sending(tx, &ours, since).await?;
        let marked = items.iter().zip(held).map(|(it, is_held)| {
            match is_held && marked.contains(&it.delivery) {
                true => Marked::Since(since),
                false => Marked::NotWaiting,
            }
        });
        Ok::<Vec<_>, DbError>(marked.collect())
    });
    match marking.await {
        Ok(marked) => marked,
        Err(error) => {
            tracing::debug!(%error, deliveries = count, "deliveries were not marked");
            vec![Marked::Failed; count]
        }
    }
}

/// What the event of a delivery that the next hop took has in it, and the span of its cause.
struct Accepted {
    delivery: DeliveryRow,
    status: Option<i32>,
    span: Span,
}

/// Writes down with others that the next hop took a delivery, if nothing follows from it but its event. `false` if that is to be
/// done by itself: it was not done, or it does no harm to do it again.
pub(super) async fn accept(service: &Service, settled: &Settled) -> bool {
    let Some(row) = plain(settled) else {
        return false;
    };
    let accepted = Accepted {
        delivery: settled.delivery.clone(),
        status: settled.outcome.status,
        span: Span::current(),
    };
    let accept_all =
        |items| Box::pin(accept_all(service.db.system(WHY), items)) as BoxFuture<'static, _>;
    let item = (row, accepted);
    let done = service.together.accepted.run(item, accept_all).await;
    done.unwrap_or_default()
}

/// What is written of a delivery that the next hop took; `None` if there is more to it.
fn plain(it: &Settled) -> Option<AcceptedRow> {
    let is_plain = it.outcome.state == State::Accepted
        && it.called.is_none()
        && it.gone.is_none()
        && !it.is_lasting
        && it.members.is_empty()
        && it.notification.purpose.is_none()
        && !it.notification.is_secret;
    if !is_plain {
        return None;
    }
    Some(AcceptedRow {
        tenant_id: it.delivery.tenant_id,
        id: it.delivery.id,
        since: it.sending_since?,
        attempts: it.delivery.attempts + 1,
        answer: it.outcome.answer.clone(),
        record: serde_json::to_string(it.attempt.as_ref()?).unwrap_or_default(),
    })
}

async fn accept_all(db: Db, items: Vec<(AcceptedRow, Accepted)>) -> Vec<bool> {
    let count = items.len();
    let (rows, accepted): (Vec<_>, Vec<_>) = items.into_iter().unzip();
    let accepting = db.transaction("settle deliveries", async move |tx: &mut Tx| {
        let taken = store::accept(tx, &rows, Moment::now()).await?;
        let mut channels = Vec::new();
        for it in &accepted {
            if !taken.contains(&it.delivery.id) {
                continue; // a report, or another worker, was faster
            }
            // In the trace of its own cause.
            let outcome = (it.status, None);
            it.span
                .in_scope(|| events::emit(tx, &it.delivery, State::Accepted, outcome))?;
            channels.push(it.delivery.channel);
        }
        tx.after_commit(move || {
            for channel in channels {
                metrics::settled(channel, State::Accepted);
            }
        });
        Ok::<(), NotificationsError>(())
    });
    match accepting.await {
        Ok(()) => vec![true; count],
        Err(error) => {
            tracing::debug!(%error, deliveries = count, "deliveries were not settled together");
            vec![false; count]
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    };

    use tokio::sync::Semaphore;

    use super::*;

    #[tokio::test]
    async fn what_waits_meanwhile_is_done_together_and_each_has_its_own_outcome() {
        let batch = Arc::new(Batch::<usize, usize>::default());
        let (gate, batches) = (Arc::new(Semaphore::new(0)), Arc::new(AtomicUsize::new(0)));
        let calls = (0..200).map(|number| {
            let (batch, gate, batches) = (batch.clone(), gate.clone(), batches.clone());
            tokio::spawn(async move {
                let work = |items: Vec<usize>| {
                    let (gate, batches) = (gate.clone(), batches.clone());
                    assert!(items.len() <= MOST);
                    Box::pin(async move {
                        batches.fetch_add(1, SeqCst);
                        drop(gate.acquire().await);
                        items.into_iter().map(|it| it * 2).collect()
                    }) as BoxFuture<'static, _>
                };
                (number, batch.run(number, work).await)
            })
        });
        let calls: Vec<_> = calls.collect();
        while batches.load(SeqCst) == 0 || batch.waiting().len() < 199 {
            tokio::task::yield_now().await;
        }
        gate.close();
        for call in calls {
            let ended = call.await.ok();
            assert!(
                ended.is_some_and(|(number, outcome)| outcome == Some(number * 2)),
                "{ended:?}"
            );
        }
        // The first by itself, then all that waited for it.
        assert_eq!(batches.load(SeqCst), 1 + 199_usize.div_ceil(MOST));
    }

    #[tokio::test]
    async fn a_caller_that_is_cancelled_holds_up_no_other() {
        let batch = Arc::new(Batch::<usize, usize>::default());
        let never = |_: Vec<usize>| Box::pin(std::future::pending()) as BoxFuture<'static, _>;
        let at_once = |items| Box::pin(async move { items }) as BoxFuture<'static, _>;
        let stuck = tokio::time::timeout(Duration::from_millis(1), batch.run(1, never)).await;
        assert!(stuck.is_err());
        assert_eq!(batch.run(2, at_once).await, Some(2));
    }
}
