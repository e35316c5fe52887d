//! Deliveries: one recipient by one channel, what is known of it, and each attempt.

use diesel::prelude::*;
use diesel_async::RunQueryDsl;
use dotmac_platform::db::{
    Connection, DbError, OptionalExtension as _, TenantId, TenantTx, Tx, insert_all, on,
    types::{Id, Moment},
};
use uuid::Uuid;

use super::{
    notifications::NotificationId,
    schema::{notification_attempt as attempt, notification_delivery as delivery},
};
use crate::channel::{Channel, State};

/// One recipient by one channel; a mark for ids.
pub(crate) enum Delivery {}

pub(crate) type DeliveryId = Id<Delivery>;

#[derive(Clone, Insertable, Queryable, Selectable)]
#[diesel(table_name = delivery, treat_none_as_default_value = false)]
pub(crate) struct DeliveryRow {
    pub(crate) tenant_id: TenantId,
    pub(crate) id: DeliveryId,
    pub(crate) notification_id: NotificationId,
    pub(crate) channel: Channel,
    pub(crate) recipient: String,
    pub(crate) recipient_key: String,
    pub(crate) name: Option<String>,
    pub(crate) user_id: Option<UserId>,
    pub(crate) state: State,
    pub(crate) reason: Option<String>,
    pub(crate) answer: Option<String>,
    pub(crate) attempts: i32,
    pub(crate) sending_since: Option<Moment>,
    pub(crate) next_attempt_at: Option<Moment>,
    pub(crate) unsubscribe_token: Option<String>,
    pub(crate) updated_at: Moment,
}

impl DeliveryRow {
    /// When it was made: its id says so.
    pub(crate) fn created_at(&self) -> Moment {
        let time = self.id.uuid().get_timestamp().map(|it| it.to_unix());
        let (seconds, nanoseconds) = time.unwrap_or_default();
        let seconds = i64::try_from(seconds).unwrap_or_default();
        let time = chrono::DateTime::from_timestamp(seconds, nanoseconds);
        time.unwrap_or_default().into()
    }

    /// The reply code at the begin of an answer.
    pub(crate) fn status(&self) -> Option<i32> {
        let answer = self.answer.as_deref()?;
        let (code, _) = answer.split_once(' ').unwrap_or((answer, ""));
        (code.len() == 3).then(|| code.parse().ok())?
    }
}

/// A user of the directory; a mark for ids.
pub(crate) enum DirectoryUser {}

/// The id of a user, as a column.
pub(crate) type UserId = Id<DirectoryUser>;

/// What became of an attempt, or of a decision.
#[derive(Clone, Debug)]
pub(crate) struct Outcome {
    pub(crate) state: State,
    pub(crate) reason: Option<String>,
    pub(crate) status: Option<i32>,
    pub(crate) answer: Option<String>,
    /// When it is tried again.
    pub(crate) next_attempt_at: Option<Moment>,
}

impl Outcome {
    /// A decision that no answer led to.
    pub(crate) fn decided(state: State, reason: impl Into<String>) -> Self {
        Self {
            state,
            reason: Some(reason.into()),
            status: None,
            answer: None,
            next_attempt_at: None,
        }
    }
}

/// Which deliveries.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Filter {
    pub(crate) state: Option<State>,
    pub(crate) channel: Option<Channel>,
    pub(crate) notification: Option<NotificationId>,
}

/// Stores each, but for those whose recipient the notification has by that channel already.
pub(crate) async fn insert(tx: &mut Tx, rows: Vec<DeliveryRow>) -> Result<(), DbError> {
    insert_all!(tx, delivery::table, rows).map(drop)
}

pub(crate) async fn find(
    tx: &mut TenantTx,
    id: DeliveryId,
) -> Result<Option<DeliveryRow>, DbError> {
    let this_one = (tx.tenant(), id);
    on!(tx, |c| {
        let query = delivery::table.find(this_one);
        query.select(DeliveryRow::as_select()).first(c).await
    })
    .optional()
}

/// Those of `ids`.
pub(crate) async fn all(
    tx: &mut TenantTx,
    ids: Vec<DeliveryId>,
) -> Result<Vec<DeliveryRow>, DbError> {
    let these = delivery::tenant_id
        .eq(tx.tenant())
        .and(delivery::id.eq_any(ids));
    on!(tx, |c| {
        let query = delivery::table.filter(these);
        query.select(DeliveryRow::as_select()).load(c).await
    })
}

/// The delivery whose link to unsubscribe, and whose sender's address, has this token, of any tenant.
pub(crate) async fn find_by_token(
    tx: &mut Connection,
    token: String,
) -> Result<Option<DeliveryRow>, DbError> {
    let query = delivery::table.filter(delivery::unsubscribe_token.eq(token));
    on!(tx, |c| query
        .select(DeliveryRow::as_select())
        .first(c)
        .await)
    .optional()
}

/// The delivery of that id, of any tenant.
pub(crate) async fn find_anywhere(
    tx: &mut Connection,
    id: DeliveryId,
) -> Result<Option<DeliveryRow>, DbError> {
    let query = delivery::table.filter(delivery::id.eq(id));
    on!(tx, |c| query
        .select(DeliveryRow::as_select())
        .first(c)
        .await)
    .optional()
}

/// Writes down what is known of a delivery that the next hop had taken, or may have, if it is in one of these states; how
/// many deliveries that were.
pub(crate) async fn report(
    tx: &mut TenantTx,
    id: DeliveryId,
    from: Vec<State>,
    outcome: Outcome,
) -> Result<usize, DbError> {
    let taken = delivery::tenant_id
        .eq(tx.tenant())
        .and(delivery::id.eq(id))
        .and(delivery::state.eq_any(from));
    let update = diesel::update(delivery::table.filter(taken)).set((
        delivery::state.eq(outcome.state),
        delivery::reason.eq(outcome.reason),
        delivery::answer.eq(outcome.answer),
        delivery::sending_since.eq(None::<Moment>),
        delivery::updated_at.eq(Moment::now()),
    ));
    on!(tx, |c| update.execute(c).await)
}

/// All of a notification, in the order of their making.
pub(crate) async fn of_notification(
    tx: &mut TenantTx,
    id: NotificationId,
) -> Result<Vec<DeliveryRow>, DbError> {
    let these = delivery::tenant_id
        .eq(tx.tenant())
        .and(delivery::notification_id.eq(id));
    on!(tx, |c| {
        let query = delivery::table.filter(these).order(delivery::id.asc());
        query.select(DeliveryRow::as_select()).load(c).await
    })
}

/// At most `limit` of the tenant, the newest first, those before `after`.
pub(crate) async fn page(
    tx: &mut TenantTx,
    filter: Filter,
    after: Option<DeliveryId>,
    limit: i64,
) -> Result<Vec<DeliveryRow>, DbError> {
    let of_tenant = delivery::tenant_id.eq(tx.tenant());
    on!(tx, |c| {
        let mut page = delivery::table
            .filter(of_tenant)
            .order(delivery::id.desc())
            .limit(limit)
            .into_boxed();
        if let Some(after) = after {
            page = page.filter(delivery::id.lt(after));
        }
        if let Some(state) = filter.state {
            page = page.filter(delivery::state.eq(state));
        }
        if let Some(channel) = filter.channel {
            page = page.filter(delivery::channel.eq(channel));
        }
        if let Some(notification) = filter.notification {
            page = page.filter(delivery::notification_id.eq(notification));
        }
        page.select(DeliveryRow::as_select()).load(c).await
    })
}

/// Writes down that a relay is about to be given the content. `false` if the delivery does not wait any more, or a relay was
/// given it before: then it must not be sent.
pub(crate) async fn begin_sending(
    tx: &mut TenantTx,
    id: DeliveryId,
    now: Moment,
) -> Result<bool, DbError> {
    let waits = delivery::tenant_id
        .eq(tx.tenant())
        .and(delivery::id.eq(id))
        .and(delivery::state.eq(State::Queued))
        .and(delivery::sending_since.is_null());
    let update = diesel::update(delivery::table.filter(waits)).set((
        delivery::sending_since.eq(now),
        delivery::updated_at.eq(now),
    ));
    on!(tx, |c| update.execute(c).await).map(|rows| rows == 1)
}

/// Writes down what came of it, if it still is in `from` and a relay was given it when `sending_since` says; how many
/// deliveries that were. `attempts` is the number of attempts so far.
pub(crate) async fn settle(
    tx: &mut TenantTx,
    id: DeliveryId,
    (from, sending_since): (Vec<State>, Option<Moment>),
    attempts: i32,
    outcome: Outcome,
) -> Result<usize, DbError> {
    let this_one = delivery::tenant_id
        .eq(tx.tenant())
        .and(delivery::id.eq(id))
        .and(delivery::state.eq_any(from));
    // An unknown outcome stays marked; a known one is not under way any more.
    let sending = sending_since.filter(|_| outcome.state == State::Unknown);
    let set = (
        delivery::state.eq(outcome.state),
        delivery::reason.eq(outcome.reason),
        delivery::answer.eq(outcome.answer),
        delivery::next_attempt_at.eq(outcome.next_attempt_at),
        delivery::attempts.eq(attempts),
        delivery::sending_since.eq(sending),
        delivery::updated_at.eq(Moment::now()),
    );
    match sending_since {
        Some(since) => {
            let this_one = this_one.and(delivery::sending_since.eq(since));
            let update = diesel::update(delivery::table.filter(this_one)).set(set);
            on!(tx, |c| update.execute(c).await)
        }
        None => {
            let this_one = this_one.and(delivery::sending_since.is_null());
            let update = diesel::update(delivery::table.filter(this_one)).set(set);
            on!(tx, |c| update.execute(c).await)
        }
    }
}

/// Writes down why a delivery that waits is not tried before `until`.
pub(crate) async fn postpone(
    tx: &mut TenantTx,
    id: DeliveryId,
    reason: &str,
    until: Moment,
) -> Result<(), DbError> {
    let waits = delivery::tenant_id
        .eq(tx.tenant())
        .and(delivery::id.eq(id))
        .and(delivery::state.eq(State::Queued));
    let update = diesel::update(delivery::table.filter(waits)).set((
        delivery::reason.eq(Some(reason.to_owned())),
        delivery::next_attempt_at.eq(Some(until)),
        delivery::updated_at.eq(Moment::now()),
    ));
    on!(tx, |c| update.execute(c).await).map(drop)
}

/// Lets it wait for a first attempt again, whatever came of those before; how many deliveries that were.
pub(crate) async fn requeue(
    tx: &mut TenantTx,
    id: DeliveryId,
    from: State,
) -> Result<usize, DbError> {
    let this_one = delivery::tenant_id
        .eq(tx.tenant())
        .and(delivery::id.eq(id))
        .and(delivery::state.eq(from));
    let now = Moment::now();
    let update = diesel::update(delivery::table.filter(this_one)).set((
        delivery::state.eq(State::Queued),
        delivery::reason.eq(None::<String>),
        delivery::sending_since.eq(None::<Moment>),
        delivery::next_attempt_at.eq(Some(now)),
        delivery::updated_at.eq(now),
    ));
    on!(tx, |c| update.execute(c).await)
}

/// Whether all deliveries of a notification are in a state that no attempt follows, and none is unknown.
pub(crate) async fn are_over(tx: &mut TenantTx, id: NotificationId) -> Result<bool, DbError> {
    let open = delivery::tenant_id
        .eq(tx.tenant())
        .and(delivery::notification_id.eq(id))
        .and(delivery::state.eq_any(vec![State::Queued, State::Held, State::Unknown]));
    let query = delivery::table.filter(open).count();
    let open: i64 = on!(tx, |c| query.get_result(c).await)?;
    Ok(open == 0)
}

/// Keeps what there is to know of an attempt, as JSON.
pub(crate) async fn insert_attempt(
    tx: &mut TenantTx,
    id: DeliveryId,
    number: i32,
    record: String,
) -> Result<(), DbError> {
    let row = (
        attempt::tenant_id.eq(tx.tenant()),
        attempt::delivery_id.eq(id),
        attempt::number.eq(number),
        attempt::record.eq(record),
    );
    let insert = diesel::insert_into(attempt::table).values(row);
    let insert = insert
        .on_conflict((attempt::tenant_id, attempt::delivery_id, attempt::number))
        .do_nothing();
    on!(tx, |c| insert.execute(c).await).map(drop)
}

/// All attempts of a delivery, the first of them first, as JSON.
pub(crate) async fn attempts(tx: &mut TenantTx, id: DeliveryId) -> Result<Vec<String>, DbError> {
    let these = attempt::tenant_id
        .eq(tx.tenant())
        .and(attempt::delivery_id.eq(id));
    let query = attempt::table
        .filter(these)
        .order(attempt::number.asc())
        .limit(200)
        .select(attempt::record);
    on!(tx, |c| query.load(c).await)
}

/// By channel: how many wait, and since when the one that has been due the longest is.
pub(crate) async fn queued(
    tx: &mut Connection,
) -> Result<Vec<(Channel, i64, Option<Moment>)>, DbError> {
    let query = delivery::table
        .filter(delivery::state.eq(State::Queued))
        .group_by(delivery::channel)
        .select((
            delivery::channel,
            diesel::dsl::count_star(),
            diesel::dsl::min(delivery::next_attempt_at),
        ));
    on!(tx, |c| query.load(c).await)
}

/// The id of a user as the directory has it.
pub(crate) fn user_id(id: Uuid) -> UserId {
    Id::from_uuid(id)
}
