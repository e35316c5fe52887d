//! Which numbers the entries between two moments have.

use diesel::prelude::*;
use diesel_async::RunQueryDsl;
use dotmac_db::{Connection, DbError, OptionalExtension, TenantId, on, types::Moment};

use super::tables::{audit_entry, audit_link};

/// The number of the first link of an entry at or behind `from`, and that of the last one at or before `to`, if that is
/// given; `None` if there is no such entry.
///
/// # Errors
///
/// [`DbError`].
pub async fn numbers_between(
    c: &mut Connection,
    tenant: TenantId,
    from: Option<Moment>,
    to: Option<Moment>,
) -> Result<Option<(i64, Option<i64>)>, DbError> {
    let lower = match from {
        Some(from) => number_at(c, tenant, from, Direction::Behind).await?,
        None => Some(1),
    };
    let upper = match to {
        Some(to) => number_at(c, tenant, to, Direction::Before).await?,
        None => None,
    };
    Ok(match (lower, upper) {
        (Some(_), None) if to.is_some() => None,
        (Some(lower), upper) => Some((lower, upper)),
        (None, _) => None,
    })
}

#[derive(Clone, Copy)]
enum Direction {
    Behind,
    Before,
}

/// The number of the first link of an entry at `at` or behind, or of the last one at `at` or before.
async fn number_at(
    c: &mut Connection,
    tenant: TenantId,
    at: Moment,
    direction: Direction,
) -> Result<Option<i64>, DbError> {
    let of_link = audit_link::entry_id
        .eq(audit_entry::id)
        .and(audit_link::tenant_id.eq(audit_entry::tenant_id));
    let entries = audit_entry::table
        .inner_join(audit_link::table.on(of_link))
        .filter(audit_entry::tenant_id.eq(tenant));
    match direction {
        Direction::Behind => {
            let query = entries
                .filter(audit_entry::at.ge(at))
                .order((audit_entry::at, audit_link::number))
                .select(audit_link::number);
            on!(c, |c| query.first(c).await).optional()
        }
        Direction::Before => {
            let query = entries
                .filter(audit_entry::at.le(at))
                .order((audit_entry::at.desc(), audit_link::number.desc()))
                .select(audit_link::number);
            on!(c, |c| query.first(c).await).optional()
        }
    }
}
