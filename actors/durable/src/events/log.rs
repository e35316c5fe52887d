//! Reading the log.

use diesel::{dsl::exists, prelude::*, sql_types::Bool};
use diesel_async::RunQueryDsl;
use dotmac_db::{Connection, DbError, OptionalExtension, TenantId, TenantTx, on};

use super::{
    EventId, Position, StoredEvent,
    horizon::{Horizon, horizon},
    tables::{event, event_retention},
};

/// Which events.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Of these types; of all if there is none.
    pub kinds: Vec<String>,
    /// With this subject.
    pub subject: Option<String>,
}

impl Filter {
    /// Events of these types.
    #[must_use]
    pub fn kinds(kinds: &[&str]) -> Self {
        Self {
            kinds: kinds.iter().map(|kind| (*kind).to_owned()).collect(),
            subject: None,
        }
    }
}

/// A stretch of the log.
#[derive(Clone, Debug)]
pub struct Page {
    /// The events, in order.
    pub events: Vec<StoredEvent>,
    /// Where to go on: behind the last event, or behind all that there is if no more fit the filter.
    pub next: Position,
    /// Whether there are events that open transactions hold back.
    pub is_held_back: bool,
    /// The last event that retention has taken away. A reader behind it has missed some.
    pub expired: Position,
    /// The database has given out lower ids of transactions than the log has: it was restored into another cluster.
    pub is_ahead: bool,
}

/// At most `limit` events of the transaction's tenant behind `after`.
///
/// # Errors
///
/// [`DbError`].
pub async fn read(
    tx: &mut TenantTx,
    filter: &Filter,
    after: Position,
    limit: u16,
) -> Result<Page, DbError> {
    let tenant = Some(tx.tenant());
    select(tx, tenant, filter, after, limit).await
}

/// At most `limit` events of all tenants behind `after`. For a scope of the system: on PostgreSQL row-level security
/// shows nothing to work without one.
///
/// # Errors
///
/// [`DbError`].
pub async fn read_all(
    c: &mut Connection,
    filter: &Filter,
    after: Position,
    limit: u16,
) -> Result<Page, DbError> {
    select(c, None, filter, after, limit).await
}

async fn select(
    c: &mut Connection,
    tenant: Option<TenantId>,
    filter: &Filter,
    after: Position,
    limit: u16,
) -> Result<Page, DbError> {
    let horizon = horizon(c).await?;
    let Position { xid, position } = after;
    let of_any_kind = filter.kinds.is_empty().into_sql::<Bool>();
    let of_any_subject = filter.subject.is_none().into_sql::<Bool>();
    let of_any_tenant = tenant.is_none().into_sql::<Bool>();
    let subject = filter.subject.clone().unwrap_or_default();
    let fits = of_any_kind
        .or(event::kind.eq_any(filter.kinds.clone()))
        .and(of_any_subject.or(event::subject.eq(subject)))
        .and(of_any_tenant.or(event::tenant_id.eq(tenant)));
    let behind = event::xid
        .ge(xid)
        .and(event::xid.gt(xid).or(event::position.gt(position)));
    let complete = event::xid
        .lt(horizon.xid)
        .and(event::position.le(horizon.position));
    let query = event::table
        .filter(behind.and(complete).and(fits))
        .order((event::xid, event::position))
        .limit(i64::from(limit));
    let events: Vec<StoredEvent> = on!(c, |c| {
        let query = query.select(StoredEvent::as_select());
        query.load(c).await
    })?;
    let next = match events.last() {
        Some(last) if events.len() >= usize::from(limit) => last.position(),
        last => {
            let passed = last.map_or(after, StoredEvent::position);
            passed.max(newest(c, horizon).await?)
        }
    };
    Ok(Page {
        events,
        next,
        is_held_back: is_held_back(c, horizon).await?,
        expired: expired(c).await?,
        is_ahead: after.xid > horizon.xid,
    })
}

/// The event with that id, if it is of the transaction's tenant.
///
/// # Errors
///
/// [`DbError`].
pub async fn find(tx: &mut TenantTx, id: EventId) -> Result<Option<StoredEvent>, DbError> {
    let is_it = event::tenant_id.eq(tx.tenant()).and(event::id.eq(id));
    let query = event::table.filter(is_it);
    let found = on!(tx, |c| {
        let query = query.select(StoredEvent::as_select());
        query.first(c).await
    });
    found.optional()
}

/// The event at that position, of any tenant.
pub(super) async fn find_at(
    c: &mut Connection,
    place: Position,
) -> Result<Option<StoredEvent>, DbError> {
    let is_it = event::xid
        .eq(place.xid)
        .and(event::position.eq(place.position));
    let query = event::table.filter(is_it);
    let found = on!(c, |c| {
        let query = query.select(StoredEvent::as_select());
        query.first(c).await
    });
    found.optional()
}

/// The last event below `horizon`.
pub(super) async fn newest(c: &mut Connection, horizon: Horizon) -> Result<Position, DbError> {
    let complete = event::xid
        .lt(horizon.xid)
        .and(event::position.le(horizon.position));
    let query = event::table
        .filter(complete)
        .order((event::xid.desc(), event::position.desc()))
        .select((event::xid, event::position));
    let newest: Option<(i64, i64)> = on!(c, |c| query.first(c).await).optional()?;
    Ok(newest.map_or(Position::BEGINNING, at))
}

/// Whether there are events beyond `horizon` already.
pub(super) async fn is_held_back(c: &mut Connection, horizon: Horizon) -> Result<bool, DbError> {
    let beyond = event::table.filter(event::xid.ge(horizon.xid));
    on!(c, |c| diesel::select(exists(beyond)).get_result(c).await)
}

/// The last event that retention has taken away.
pub(super) async fn expired(c: &mut Connection) -> Result<Position, DbError> {
    let query = event_retention::table.select((event_retention::xid, event_retention::position));
    let expired: Option<(i64, i64)> = on!(c, |c| query.first(c).await).optional()?;
    Ok(expired.map_or(Position::BEGINNING, at))
}

pub(super) fn at((xid, position): (i64, i64)) -> Position {
    Position { xid, position }
}
