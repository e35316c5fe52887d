//! Linking: entries without a link are put behind the end of the chain of their tenant, in the order of their commits.

use std::collections::BTreeMap;

use chrono::NaiveDateTime;
use diesel::{
    dsl::{exists, not, sql},
    prelude::*,
    sql_types::BigInt,
};
use diesel_async::RunQueryDsl;
use dotmac_db::{Connection, DbError, OptionalExtension, Querying, TenantId, Tx, insert_all, on};
use tracing::error;

use super::{
    CHECKPOINT_EVERY, EntryId, Hash, StoredEntry,
    chain::Canonical,
    links::Decodable,
    tables::{audit_chain, audit_entry, audit_link, audit_sealer},
};
use crate::{clock::now, order::oldest_open};

/// Entries of one transaction.
pub(super) const AT_ONCE: usize = 500;
/// No chain has a link with a higher number: one that says so was not written by the program.
const MOST_LINKS: i64 = i64::MAX / 2;

/// Behind which entry the sealer goes on: the number of a transaction, and a position.
pub(super) type Place = (i64, i64);

/// What `$query` makes of the entries without a link behind a place, in order.
macro_rules! waiting {
    ($c:expr, $place:expr, $open:expr, |$query:ident| $made:expr) => {{
        let ((xid, position), open) = ($place, $open);
        let link = audit_link::table.filter(audit_link::entry_id.eq(audit_entry::id));
        let unlinked = audit_entry::table.filter(not(exists(link)));
        let found = match $c.connection() {
            Connection::Postgres(c) => {
                let later = audit_entry::xid
                    .gt(xid)
                    .or(audit_entry::position.gt(position));
                let complete = audit_entry::xid.ge(xid).and(audit_entry::xid.lt(open));
                let $query = unlinked
                    .filter(complete.and(later))
                    .order((audit_entry::xid, audit_entry::position));
                $made.load(&mut **c).await
            }
            // It has one writer, so the order of positions is that of commits.
            Connection::Sqlite(c) => {
                let $query = unlinked
                    .filter(audit_entry::position.gt(position))
                    .order(audit_entry::position);
                $made.load(&mut **c).await
            }
        };
        $c.classified(found)
    }};
}

/// Whether the database gives out lower positions than `place`.
pub(super) async fn is_ahead(c: &mut Connection, (xid, position): Place) -> Result<bool, DbError> {
    let open = oldest_open(c).await?;
    let highest = match c.connection() {
        Connection::Postgres(_) => return Ok(xid > open),
        Connection::Sqlite(c) => {
            let highest =
                "coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'audit_entry'), 0)";
            let query = diesel::select(sql::<BigInt>(highest));
            query.get_result::<i64>(&mut **c).await
        }
    };
    Ok(position > c.classified(highest)?)
}

#[derive(Clone, Insertable)]
#[diesel(table_name = audit_link)]
struct NewLink {
    tenant_id: TenantId,
    number: i64,
    entry_id: EntryId,
    hash: Vec<u8>,
}

/// The end of a chain.
#[derive(Clone, Copy)]
struct End {
    number: i64,
    hash: Hash,
    is_new: bool,
}

/// Links the entries behind a place; how many.
pub(super) async fn link(tx: &mut Tx, place: Place) -> Result<usize, DbError> {
    let (entries, is_cut) = behind(tx, place, AT_ONCE as i64).await?;
    let last = match entries.last() {
        Some(last) => (last.xid, last.position),
        None if is_cut => pass_over(tx, place).await?,
        None => return Ok(0),
    };
    let mut ends = BTreeMap::new();
    let mut links = Vec::with_capacity(entries.len());
    for entry in &entries {
        let end = match ends.get(&entry.tenant) {
            Some(end) => *end,
            None => end_of(tx, entry.tenant).await?,
        };
        if end.number >= MOST_LINKS {
            continue; // it has no link, which `verify` finds
        }
        let number = end.number + 1;
        let hash = end.hash.then(&Canonical::new(number, entry).text());
        let end = End {
            number,
            hash,
            ..end
        };
        ends.insert(entry.tenant, end);
        links.push(NewLink {
            tenant_id: entry.tenant,
            number,
            entry_id: entry.id,
            hash: hash.bytes(),
        });
    }
    insert_all!(tx, audit_link::table, links)?;
    for (tenant, end) in ends {
        move_end(tx, tenant, end).await?;
    }
    let moved = diesel::update(audit_sealer::table.find(1)).set((
        audit_sealer::xid.eq(last.0),
        audit_sealer::position.eq(last.1),
    ));
    on!(tx, |c| moved.execute(c).await)?;
    Ok(entries.len())
}

/// At most `limit` entries without a link behind a place, below the oldest transaction that may still add some; and whether
/// the next one has a value that is not of its column.
pub(super) async fn behind(
    c: &mut Connection,
    place: Place,
    limit: i64,
) -> Result<(Vec<StoredEntry>, bool), DbError> {
    let open = oldest_open(c).await?;
    let mut found = Decodable::up_to(limit);
    while let Some(limit) = found.limit() {
        found.take(waiting!(c, place, open, |query| query
            .select(StoredEntry::as_select())
            .limit(limit)))?;
    }
    Ok(found.into_parts())
}

/// When the transactions of at most `limit` entries without a link behind a place began, and their numbers.
pub(super) async fn unlinked(
    c: &mut Connection,
    place: Place,
    limit: i64,
) -> Result<Vec<(i64, NaiveDateTime)>, DbError> {
    waiting!(c, place, i64::MAX, |query| query
        .select((audit_entry::xid, audit_entry::at))
        .limit(limit))
}

/// The place of the first entry behind a place, which is not linked since it cannot be read; `verify` finds it.
async fn pass_over(tx: &mut Tx, place: Place) -> Result<Place, DbError> {
    let open = oldest_open(tx).await?;
    let c: &mut Connection = tx;
    let found: Vec<Place> = waiting!(c, place, open, |query| query
        .select((audit_entry::xid, audit_entry::position))
        .limit(1))?;
    error!("an audit entry has a value that the program never writes; it is not linked");
    Ok(found.into_iter().next().unwrap_or(place))
}

async fn end_of(tx: &mut Tx, tenant: TenantId) -> Result<End, DbError> {
    let query = audit_chain::table
        .find(tenant)
        .select((audit_chain::number, audit_chain::hash));
    let chain: Option<(i64, Vec<u8>)> = on!(tx, |c| query.first(c).await).optional()?;
    let is_new = chain.is_none();
    let query = audit_link::table
        .filter(audit_link::tenant_id.eq(tenant))
        .order(audit_link::number.desc())
        .select((audit_link::number, audit_link::hash));
    let link: Option<(i64, Vec<u8>)> = on!(tx, |c| query.first(c).await).optional()?;
    // They are the same, unless one was changed; then no number is used twice, and `verify` finds what is missing.
    let last = chain
        .into_iter()
        .chain(link)
        .max_by_key(|(number, _)| *number);
    let (number, hash) = last.unwrap_or_default();
    // A hash that is none is found by `verify`; the chain goes on with the hash of nothing.
    let hash = Hash::from_bytes(&hash).unwrap_or_default();
    Ok(End {
        number,
        hash,
        is_new,
    })
}

async fn move_end(tx: &mut Tx, tenant: TenantId, end: End) -> Result<(), DbError> {
    let end_of_chain = (
        audit_chain::number.eq(end.number),
        audit_chain::hash.eq(end.hash.bytes()),
    );
    if !end.is_new {
        let moved = diesel::update(audit_chain::table.find(tenant)).set(end_of_chain);
        return on!(tx, |c| moved.execute(c).await).map(drop);
    }
    // The first checkpoint is due at once.
    let checked_at = now(tx).await? - CHECKPOINT_EVERY;
    let row = (
        audit_chain::tenant_id.eq(tenant),
        audit_chain::start.eq(0),
        audit_chain::checked.eq(0),
        audit_chain::checked_at.eq(checked_at),
        end_of_chain,
    );
    let insert = diesel::insert_into(audit_chain::table).values(row);
    on!(tx, |c| insert.execute(c).await).map(drop)
}
