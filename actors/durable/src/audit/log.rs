//! Reading the log. Entries are read by their links, so in the order of commits, and each once it has one.

use std::collections::BTreeMap;

use diesel::prelude::*;
use diesel_async::RunQueryDsl;
use dotmac_db::{
    Connection, DbError, OptionalExtension, TenantId, TenantTx, on, sealing::Sealer, types::Moment,
};

use super::{
    EntryId, Hash, Outcome, StoredEntry,
    personal::{SubjectKeys, decrypt},
    tables::{audit_entry, audit_link, audit_search},
};

/// So many characters of a resource's id are in the index; the migration has the same number.
const SEARCHED: usize = 500;

/// Which entries.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// By this actor: `user:01a2…`.
    pub actor: Option<String>,
    /// Of this act.
    pub action: Option<String>,
    /// About resources of this type;
    pub resource_type: Option<String>,
    /// about the resource with this id.
    pub resource_id: Option<String>,
    /// At or behind this moment.
    pub from: Option<Moment>,
    /// At or before this moment.
    pub to: Option<Moment>,
    /// That came out so.
    pub outcome: Option<Outcome>,
}

impl Filter {
    /// Whether it says anything.
    fn is_of_entries(&self) -> bool {
        let Self {
            actor,
            action,
            resource_type,
            resource_id,
            from,
            to,
            outcome,
        } = self;
        let texts = [actor, action, resource_type, resource_id];
        let is_by_text = texts.into_iter().any(Option::is_some);
        is_by_text || from.is_some() || to.is_some() || outcome.is_some()
    }
}

/// An entry in its chain.
#[derive(Clone, Debug, PartialEq)]
pub struct LinkedEntry {
    /// Its number in the chain of its tenant, counted from 1.
    pub number: i64,
    /// The hash of it and of all before.
    pub hash: Hash,
    /// The entry.
    pub entry: StoredEntry,
    /// What it says of the person that it is about; `None` if it has no such fields, they are erased, or the master key is
    /// not at hand.
    pub personal: Option<BTreeMap<String, String>>,
}

type Row = (i64, Vec<u8>, StoredEntry);

/// At most `limit` entries of the transaction's tenant below number `before`, newest first. Personal fields are read with
/// `sealer`.
///
/// # Errors
///
/// [`DbError`].
pub async fn list(
    tx: &mut TenantTx,
    filter: &Filter,
    before: i64,
    limit: u16,
    sealer: Option<&Sealer>,
) -> Result<Vec<LinkedEntry>, DbError> {
    let tenant = tx.tenant();
    select(tx, tenant, filter, Place::Below(before), limit, sealer).await
}

/// At most `limit` entries of `tenant` behind number `after`, oldest first. For a scope of the system, or of that tenant.
///
/// # Errors
///
/// [`DbError`].
pub async fn follow(
    c: &mut Connection,
    tenant: TenantId,
    filter: &Filter,
    after: i64,
    limit: u16,
    sealer: Option<&Sealer>,
) -> Result<Vec<LinkedEntry>, DbError> {
    select(c, tenant, filter, Place::Behind(after), limit, sealer).await
}

/// The entry with that id, if it is of the transaction's tenant.
///
/// # Errors
///
/// [`DbError`].
pub async fn find(
    tx: &mut TenantTx,
    id: EntryId,
    sealer: Option<&Sealer>,
) -> Result<Option<LinkedEntry>, DbError> {
    let query = audit_link::table
        .inner_join(audit_entry::table.on(audit_entry::id.eq(audit_link::entry_id)))
        .filter(audit_link::entry_id.eq(id))
        .filter(audit_link::tenant_id.eq(tx.tenant()))
        .filter(audit_entry::tenant_id.eq(tx.tenant()));
    let found: Option<Row> = on!(tx, |c| {
        let query = query.select((
            audit_link::number,
            audit_link::hash,
            StoredEntry::as_select(),
        ));
        query.first(c).await
    })
    .optional()?;
    let found = linked(tx, found.into_iter().collect(), sealer).await?;
    Ok(found.into_iter().next())
}

#[derive(Clone, Copy)]
enum Place {
    Below(i64),
    Behind(i64),
}

async fn select(
    c: &mut Connection,
    tenant: TenantId,
    filter: &Filter,
    place: Place,
    limit: u16,
    sealer: Option<&Sealer>,
) -> Result<Vec<LinkedEntry>, DbError> {
    let rows = match filter.is_of_entries() {
        true => by_search(c, tenant, filter, place, limit).await?,
        false => by_links(c, tenant, place, limit).await?,
    };
    linked(c, rows, sealer).await
}

/// All entries, in the order of their links.
async fn by_links(
    c: &mut Connection,
    tenant: TenantId,
    place: Place,
    limit: u16,
) -> Result<Vec<Row>, DbError> {
    let of_link = audit_entry::id
        .eq(audit_link::entry_id)
        .and(audit_entry::tenant_id.eq(audit_link::tenant_id));
    let query = audit_link::table
        .inner_join(audit_entry::table.on(of_link))
        .filter(audit_link::tenant_id.eq(tenant))
        .limit(i64::from(limit));
    on!(c, |c| {
        let query = query.select((
            audit_link::number,
            audit_link::hash,
            StoredEntry::as_select(),
        ));
        let query = query.into_boxed();
        let query = match place {
            Place::Below(before) => query
                .filter(audit_link::number.lt(before))
                .order(audit_link::number.desc()),
            Place::Behind(after) => query
                .filter(audit_link::number.gt(after))
                .order(audit_link::number),
        };
        query.load(c).await
    })
}

/// Those that fit, in the order of their links: each column of [`audit_search`] has an index in this order.
async fn by_search(
    c: &mut Connection,
    tenant: TenantId,
    filter: &Filter,
    place: Place,
    limit: u16,
) -> Result<Vec<Row>, DbError> {
    on!(c, |c| {
        let of_search = audit_link::tenant_id
            .eq(audit_search::tenant_id)
            .and(audit_link::number.eq(audit_search::number));
        let of_link = audit_entry::id
            .eq(audit_link::entry_id)
            .and(audit_entry::tenant_id.eq(audit_link::tenant_id));
        let query = audit_search::table
            .inner_join(audit_link::table.on(of_search))
            .inner_join(audit_entry::table.on(of_link))
            .filter(audit_search::tenant_id.eq(tenant))
            .limit(i64::from(limit))
            .select((
                audit_link::number,
                audit_link::hash,
                StoredEntry::as_select(),
            ));
        let mut query = query.into_boxed();
        if let Some(actor) = &filter.actor {
            query = query.filter(audit_search::actor.eq(actor));
        }
        if let Some(action) = &filter.action {
            query = query.filter(audit_search::action.eq(action));
        }
        if let Some(resource_type) = &filter.resource_type {
            query = query.filter(audit_search::resource_type.eq(resource_type));
        }
        if let Some(resource_id) = &filter.resource_id {
            query = query
                .filter(audit_search::resource_id.eq(searched(resource_id)))
                .filter(audit_entry::resource_id.eq(resource_id));
        }
        if let Some(outcome) = filter.outcome {
            query = query.filter(audit_entry::outcome.eq(outcome.as_str()));
        }
        if let Some(from) = filter.from {
            query = query.filter(audit_entry::at.ge(from));
        }
        if let Some(to) = filter.to {
            query = query.filter(audit_entry::at.le(to));
        }
        query = match place {
            Place::Below(before) => query
                .filter(audit_search::number.lt(before))
                .order(audit_search::number.desc()),
            Place::Behind(after) => query
                .filter(audit_search::number.gt(after))
                .order(audit_search::number),
        };
        query.load(c).await
    })
}

/// The part of a resource's id that it is searched by.
pub(super) fn searched(resource_id: &str) -> &str {
    let mut ends = resource_id.char_indices().map(|(at, _)| at);
    match ends.nth(SEARCHED) {
        Some(end) => &resource_id[..end],
        None => resource_id,
    }
}

async fn linked(
    c: &mut Connection,
    rows: Vec<Row>,
    sealer: Option<&Sealer>,
) -> Result<Vec<LinkedEntry>, DbError> {
    let (mut keys, mut entries) = (SubjectKeys::new(), Vec::with_capacity(rows.len()));
    for (number, hash, entry) in rows {
        let personal = match sealer {
            Some(sealer) => decrypt(c, &mut keys, sealer, &entry).await?,
            None => None,
        };
        entries.push(LinkedEntry {
            number,
            // One that is none is found by `verify`.
            hash: Hash::from_bytes(&hash).unwrap_or_default(),
            entry,
            personal,
        });
    }
    Ok(entries)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_searched_by_its_first_characters() {
        let long = "ß".repeat(SEARCHED + 1);
        for (id, expected) in [
            ("", ""),
            ("7", "7"),
            (&long, &long[..2 * SEARCHED]),
            (&long[2..], &long[2..]),
        ] {
            assert_eq!(searched(id), expected);
        }
    }
}
