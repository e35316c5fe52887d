//! Looking for entries that the sealer has passed over, page by page, so that no query is long.

use diesel::{
    dsl::{exists, not},
    prelude::*,
};
use diesel_async::RunQueryDsl;
use dotmac_db::{Connection, DbError, TenantId, on, types::Moment};

use super::super::{
    EntryId,
    tables::{audit_entry, audit_link, audit_sealer},
};

/// Entries of one reading.
const AT_ONCE: i64 = 5000;

/// Behind which entry a page begins, in the order of their time.
pub(super) type After = (Moment, EntryId);

/// What a page of entries has shown.
pub(super) struct Seen {
    /// Whether one of them has no link, though the sealer has gone on behind it.
    pub(super) is_passed_over: bool,
    /// How many there were.
    pub(super) entries: i64,
    /// The last one, if more may follow.
    pub(super) last: Option<After>,
}

/// Looks at a page of a tenant's entries. For a scope of the system.
pub(super) async fn look(
    c: &mut Connection,
    tenant: TenantId,
    after: Option<After>,
) -> Result<Seen, DbError> {
    // Before the entries: their links are committed with it.
    let place = audit_sealer::table
        .find(1)
        .select((audit_sealer::xid, audit_sealer::position));
    let (xid, position): (i64, i64) = on!(c, |c| place.first(c).await)?;
    let (at, id) = after.unwrap_or_else(first);
    let behind = || {
        let is_next = audit_entry::at.gt(at).or(audit_entry::id.gt(id));
        let is_behind = audit_entry::at.ge(at).and(is_next);
        audit_entry::tenant_id.eq(tenant).and(is_behind)
    };
    let page = audit_entry::table
        .filter(behind())
        .order((audit_entry::at, audit_entry::id))
        .limit(AT_ONCE)
        .select((audit_entry::at, audit_entry::id));
    let page: Vec<After> = on!(c, |c| page.load(c).await)?;
    let entries = i64::try_from(page.len()).unwrap_or(AT_ONCE);
    let Some((to, last)) = page.last().copied() else {
        return Ok(Seen {
            is_passed_over: false,
            entries,
            last: None,
        });
    };
    let is_before = audit_entry::at.lt(to).or(audit_entry::id.le(last));
    let up_to = audit_entry::at.le(to).and(is_before);
    let passed = audit_entry::xid.lt(xid).or(audit_entry::xid
        .eq(xid)
        .and(audit_entry::position.le(position)));
    let link = audit_link::table.filter(audit_link::entry_id.eq(audit_entry::id));
    let passed_over = audit_entry::table
        .filter(behind().and(up_to))
        .filter(passed.and(not(exists(link))));
    let is_passed_over: bool = on!(c, |c| diesel::select(exists(passed_over))
        .get_result(c)
        .await)?;
    Ok(Seen {
        is_passed_over,
        entries,
        last: (entries == AT_ONCE).then_some((to, last)),
    })
}

/// Before all entries.
fn first() -> After {
    let at = chrono::DateTime::<chrono::Utc>::UNIX_EPOCH;
    (at.into(), EntryId::from_uuid(uuid::Uuid::nil()))
}
