//! What comes of attempts: the delivery's next place on the ladder, the endpoint's lane, and the end of an endpoint that is gone or has
//! failed for days; all in one transaction.

use std::{collections::HashMap, sync::Arc, time::Duration};

use dotmac_platform::{
    db::{AcrossTx, Db, TenantScope, types::Moment},
    delivery::{self, Ladder, LaneRules, Standing},
};

use super::attempt::{Ended, Verdict};
use crate::{
    WebhooksError, metrics,
    rules::endpoints,
    store::{
        attempts::{self, AttemptRow},
        claims::Claimed,
        endpoints::EndpointId,
        lanes::{self, LaneRow},
        leases::{self, Settled},
        states::DeliveryState,
    },
};

/// How soon it is tried again what could not be tried.
const UNTRIED: Duration = Duration::from_secs(5);

/// What became of the deliveries whose leases were still held.
#[derive(Default)]
struct Outcome {
    delivered: usize,
    failed: usize,
    /// Ended after the lease was lost.
    late: usize,
    disabled: Vec<(EndpointId, &'static str)>,
}

/// Writes down what has ended, and gives back what was not sent, all in one transaction.
pub(super) async fn settle(
    db: &Db,
    ladder: &Arc<Ladder>,
    rules: LaneRules,
    (ended, returned): (Vec<Arc<Ended>>, Vec<Claimed>),
) -> Result<(), WebhooksError> {
    let ladder = Arc::clone(ladder);
    let settle =
        async move |tx: AcrossTx<'_>| write(tx, (&ladder, &rules), (ended, returned)).await;
    let outcome: Outcome = db.transaction_across("settle webhooks", settle).await?;
    metrics::settled(outcome.delivered, outcome.failed, outcome.late);
    for (endpoint, reason) in outcome.disabled {
        metrics::disabled(reason);
        tracing::warn!(%endpoint, reason, "disabled a webhook endpoint");
    }
    Ok(())
}

async fn write(
    mut tx: AcrossTx<'_>,
    (ladder, rules): (&Ladder, &LaneRules),
    (ended, returned): (Vec<Arc<Ended>>, Vec<Claimed>),
) -> Result<Outcome, WebhooksError> {
    let system = tx.system().await?;
    if !returned.is_empty() {
        leases::return_unsent(system, &returned).await?;
    }
    if ended.is_empty() {
        return Ok(Outcome::default());
    }
    let now = delivery::database_now(system).await?;
    let mut ids: Vec<_> = ended.iter().map(|it| it.claimed.endpoint_id).collect();
    ids.sort_unstable();
    ids.dedup();
    let mut lanes = lanes::lock(system, ids).await?;
    let settled: Vec<_> = ended
        .iter()
        .map(|it| (it.claimed.clone(), follow_up(ladder, it, now)))
        .collect();
    let held = leases::settle(system, &settled, now).await?;
    let mut outcome = Outcome::default();
    let mut attempts = Vec::new();
    let mut given_up: HashMap<EndpointId, &'static str> = HashMap::new();
    for (it, (claimed, settled)) in ended.into_iter().zip(settled) {
        if !held.contains(&(claimed.id, claimed.lease)) {
            outcome.late += 1;
            continue;
        }
        match settled.state {
            DeliveryState::Delivered => outcome.delivered += 1,
            DeliveryState::Failed => outcome.failed += 1,
            DeliveryState::Pending | DeliveryState::Sending => {}
        }
        if let Some(row) = lanes.get_mut(&claimed.endpoint_id)
            && let Some(reason) = book(row, rules, &it, now)
        {
            given_up.insert(claimed.endpoint_id, reason);
        }
        let place = (claimed.tenant_id, claimed.id);
        let row = AttemptRow::new(
            place,
            claimed.endpoint_id,
            claimed.attempts,
            it.attempt.clone(),
        );
        attempts.push(row);
    }
    attempts::insert(system, attempts).await?;
    lanes::write(system, lanes.values()).await?;
    for (endpoint, reason) in given_up {
        let Some(row) = lanes.get(&endpoint) else {
            continue;
        };
        let since = row.lane().failing_since;
        let scope = TenantScope::system(row.tenant_id, "disable a webhook endpoint");
        let tx = tx.tenant(&scope).await?;
        if endpoints::disable(tx, endpoint, reason, since).await? {
            outcome.disabled.push((endpoint, reason));
        }
    }
    Ok(outcome)
}

/// What becomes of the delivery.
fn follow_up(ladder: &Ladder, ended: &Ended, now: Moment) -> Settled {
    let tries = ended.claimed.tries;
    let (state, wait, tries) = match ended.verdict {
        Verdict::Delivered => (DeliveryState::Delivered, Duration::ZERO, tries),
        Verdict::Never | Verdict::Gone => (DeliveryState::Failed, Duration::ZERO, tries),
        Verdict::Untried => (DeliveryState::Pending, UNTRIED, tries - 1),
        Verdict::Again(asked) => {
            let number = u32::try_from(tries).unwrap_or(1);
            match ladder.wait(number, asked) {
                Some(wait) => (DeliveryState::Pending, wait, tries),
                None => (DeliveryState::Failed, Duration::ZERO, tries),
            }
        }
    };
    Settled {
        state,
        due_at: now + wait,
        tries,
        status: ended.attempt.status,
        error: ended.attempt.error.clone(),
    }
}

/// Writes an attempt into the lane; why the endpoint is to be disabled, if it is.
fn book(row: &mut LaneRow, rules: &LaneRules, ended: &Ended, now: Moment) -> Option<&'static str> {
    let mut lane = row.lane();
    let standing = match ended.verdict {
        Verdict::Untried => return None,
        Verdict::Delivered => {
            lane.succeeded(rules, ended.took);
            row.last_success_at = Some(now);
            Standing::Open
        }
        Verdict::Again(_) | Verdict::Never | Verdict::Gone => {
            row.last_failure_at = Some(now);
            lane.failed(rules, ended.took, ended.asked, now)
        }
    };
    row.set(lane);
    match (ended.verdict, standing) {
        (Verdict::Gone, _) => Some("gone"),
        (_, Standing::GivenUp) => Some("failing"),
        _ => None,
    }
}
