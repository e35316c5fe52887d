//! Lanes of receivers: each URL has its own, so that a slow one delays nothing but itself, and one that fails is left alone and
//! probed. All instances have one lane of a receiver together.
//!
//! A call that finds no room gives its place among the jobs back, and comes again when it is expected to have its turn.

use std::{sync::Arc, time::Duration};

use chrono::{DateTime, Utc};
use dotmac_platform::{
    db::{DbError, TenantDb, TenantTx, types::Moment},
    delivery::{Lane, LaneRules, database_now},
    jobs::{JobError, Run},
};
use url::Url;

use crate::{
    jobs::DeliveryJob,
    next_hop,
    store::{
        deliveries::{self, DeliveryRow},
        lanes::{self, CallRow, LaneRow},
    },
};

/// How lanes are treated. A receiver is never given up: its deliveries are, by their ladder, or as they become too old.
const RULES: LaneRules = LaneRules {
    give_up: Duration::MAX,
    ..LaneRules::DEFAULT
};

/// A delivery that has waited for longer is given up once its receiver has failed for longer: only probes are attempts, and the
/// others would wait until the tenant has no room for more.
const GIVE_UP: Duration = LaneRules::DEFAULT.give_up;

/// Calls that are under way to one host and port at once, whatever the URLs: as many as the guarded client has under way,
/// so that none holds a place among the jobs while it waits there.
const MOST_TO_HOST: u32 = 8;

/// How long a call counts that its instance did not end: a little longer than one may take.
const CALL: Duration = next_hop::TIME.saturating_add(Duration::from_secs(5));

/// Between two turns of calls that found no room: as long as the calls under way have taken so far, shared by the lane's width,
/// within these bounds. So those that wait for a receiver that hangs ask seldom.
const STEP: Duration = Duration::from_millis(10);
const LONGEST_STEP: Duration = Duration::from_secs(1);

/// The longest wait for a turn, once the receiver is not held any more.
const LONGEST_TURN: Duration = Duration::from_secs(600);

/// What a call that was made means for the lane of its receiver.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Called {
    pub(crate) took: Duration,
    pub(crate) ended: CallEnd,
}

/// How a call ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CallEnd {
    /// The receiver took it.
    Taken,
    /// It did not; of 429 and 503: for how long it wants to be left alone.
    Refused(Option<Duration>),
    /// It was not asked.
    Untried,
}

/// Takes a place in the lane of the delivery's receiver; `false` if the delivery, which was to be made from `due` on, is given
/// up.
///
/// # Errors
///
/// [`JobError::not_yet`] if there is none; the delivery says why it waits then.
pub(super) async fn enter<J: DeliveryJob>(
    db: &TenantDb,
    run: &Arc<Run<J>>,
    delivery: &DeliveryRow,
    due: Moment,
) -> Result<bool, JobError> {
    let (run, delivery) = (Arc::clone(run), delivery.clone());
    let entering = db.transaction("enter lane", async move |tx| {
        run.guard(tx).await?;
        take_place(tx, &delivery, due).await
    });
    let entered: Result<Entered, DbError> = entering.await;
    match entered? {
        Entered::Placed => Ok(true),
        Entered::GivenUp => Ok(false),
        Entered::Later(it) => Err(JobError::not_yet(
            it.lasts,
            it.reason,
            "the receiver takes no other call now",
        )),
    }
}

/// Whether there is a place.
#[derive(Clone, Copy, Debug)]
enum Entered {
    Placed,
    Later(Wait),
    /// There is none, and it is not waited for any more.
    GivenUp,
}

/// Why there is no place, and when there may be one.
#[derive(Clone, Copy, Debug)]
struct Wait {
    lasts: Duration,
    reason: &'static str,
}

async fn take_place(
    tx: &mut TenantTx,
    delivery: &DeliveryRow,
    due: Moment,
) -> Result<Entered, DbError> {
    let now = database_now(tx).await?;
    let receiver = &delivery.recipient_key;
    let mut row = lanes::lock(tx, receiver.clone(), now).await?;
    let host = host_of(receiver);
    let calls = lanes::under_way(tx, delivery.id, (receiver, host.clone()), now).await?;
    let room = row.lane().room(&RULES, calls.to_receiver, now);
    if room > 0 && calls.to_host < MOST_TO_HOST {
        let row = CallRow {
            tenant_id: tx.tenant(),
            delivery_id: delivery.id,
            receiver: receiver.clone(),
            host,
            ends_at: now + CALL,
        };
        lanes::enter(tx, row).await?;
        return Ok(Entered::Placed);
    }
    if is_given_up(&row.lane(), due, now) {
        return Ok(Entered::GivenUp);
    }
    let oldest = calls
        .first_ends_at
        .map_or(Duration::ZERO, |at| CALL.saturating_sub(between(now, at)));
    let wait = turn(&mut row, oldest, now);
    lanes::write(tx, row, now).await?;
    deliveries::postpone(tx, delivery.id, wait.reason, now + wait.lasts).await?;
    Ok(Entered::Later(wait))
}

/// Whether both the receiver has failed and the delivery has waited for too long.
fn is_given_up(lane: &Lane, due: Moment, now: Moment) -> bool {
    let is_over = |since| between(since, now) > GIVE_UP;
    lane.is_probed(&RULES) && lane.failing_since.is_some_and(is_over) && is_over(due)
}

/// The turn of a call that found no room: behind those that found none before it, and not while the receiver is held. The
/// oldest of those under way has taken so long by now.
fn turn(row: &mut LaneRow, oldest: Duration, now: Moment) -> Wait {
    let lane = row.lane();
    let held = lane.held_until.filter(|until| *until > now);
    let step = match held.is_some() || lane.is_probed(&RULES) {
        true => LONGEST_STEP,
        false => (oldest / RULES.most).clamp(STEP, LONGEST_STEP),
    };
    let begin = held.unwrap_or(now);
    let last = begin + LONGEST_TURN;
    let at = (row.turn_at.map_or(begin, |at| at.max(begin)) + step).min(last);
    row.turn_at = Some(at);
    // Those that do not fit into the longest wait do not come all at once.
    let at = match at == last {
        true => begin + LONGEST_TURN.mul_f64(0.5 + 0.5 * fastrand::f64()),
        false => at,
    };
    Wait {
        lasts: between(now, at),
        reason: match held {
            Some(_) => "receiver_held",
            None => "receiver_busy",
        },
    }
}

/// Writes down what a call means for its lane, and gives the place back.
pub(super) async fn leave(
    tx: &mut TenantTx,
    delivery: &DeliveryRow,
    called: Called,
) -> Result<(), DbError> {
    let now = database_now(tx).await?;
    let mut row = lanes::lock(tx, delivery.recipient_key.clone(), now).await?;
    lanes::leave(tx, delivery.id).await?;
    let mut lane = row.lane();
    match called.ended {
        CallEnd::Untried => return Ok(()),
        CallEnd::Taken => lane.succeeded(&RULES, called.took),
        CallEnd::Refused(asked) => {
            lane.failed(&RULES, called.took, asked, now);
        }
    }
    row.set(lane);
    if lane.failures == 0 && lane.narrowed == 0 {
        row.turn_at = None;
    }
    lanes::write(tx, row, now).await
}

/// How long it is from one moment to another; nothing if that is over.
fn between(from: Moment, to: Moment) -> Duration {
    let (from, to) = (DateTime::<Utc>::from(from), DateTime::<Utc>::from(to));
    (to - from).to_std().unwrap_or_default()
}

/// Host and port of a URL that was checked when the notification was accepted.
fn host_of(url: &str) -> String {
    let parsed = Url::parse(url).ok();
    let host = parsed.as_ref().and_then(|it| {
        let port = it.port_or_known_default().unwrap_or_default();
        Some(format!("{}:{port}", it.host_str()?))
    });
    host.unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_waited_for_days_is_given_up_if_its_receiver_has_failed_for_days() {
        let day = Duration::from_secs(24 * 3600);
        let begin = Moment::now();
        let now = begin + day * 10;
        for (failures, failing_since, due, expected) in [
            (10, Some(begin), begin, true),
            (10, Some(begin), begin + day * 6, false),
            (10, Some(begin + day * 6), begin, false),
            (9, Some(begin), begin, false),
            (0, None, begin, false),
        ] {
            let lane = Lane {
                failures,
                failing_since,
                ..Lane::default()
            };
            let found = is_given_up(&lane, due, now);
            assert_eq!(found, expected, "{lane:?}, {due:?}");
        }
    }

    #[test]
    fn urls_of_one_server_have_one_host() {
        for (url, host) in [
            ("https://a.example/x?y=1", "a.example:443"),
            ("https://a.example:443/", "a.example:443"),
            ("http://a.example:8080/", "a.example:8080"),
            ("http://[::1]/", "[::1]:80"),
            ("no url", ""),
        ] {
            assert_eq!(host_of(url), host, "{url}");
        }
    }
}
