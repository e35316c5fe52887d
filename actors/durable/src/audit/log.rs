//! Reading the log. Entries are read by their links, so in the order of commits, and each once it has one.

use std::collections::BTreeMap;

use chrono::DateTime;
use diesel::{prelude::*, sql_types::Bool};
use diesel_async::RunQueryDsl;
use dotmac_db::{
    Connection, DbError, OptionalExtension, TenantId, TenantTx, on, sealing::Sealer, types::Moment,
};

use super::{
    EntryId, Hash, Outcome, StoredEntry,
    personal::{SubjectKeys, decrypt},
    tables::{audit_entry, audit_link},
};

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
    /// Whether a column is as the filter says, or the filter says nothing.
    macro_rules! fits {
        ($column:expr, $how:ident, $wanted:expr) => {{
            let wanted = $wanted;
            let any = wanted.is_none().into_sql::<Bool>();
            any.or($column.$how(wanted.unwrap_or_default()))
        }};
    }
    let outcome = filter.outcome.map(|it| it.as_str().to_owned());
    let from = filter.from.unwrap_or(Moment::from(DateTime::UNIX_EPOCH));
    let fits = fits!(audit_entry::actor, eq, filter.actor.clone())
        .and(fits!(audit_entry::action, eq, filter.action.clone()))
        .and(fits!(
            audit_entry::resource_type,
            eq,
            filter.resource_type.clone()
        ))
        .and(fits!(
            audit_entry::resource_id,
            eq,
            filter.resource_id.clone()
        ))
        .and(fits!(audit_entry::outcome, eq, outcome))
        .and(audit_entry::at.ge(from))
        .and(audit_entry::at.le(filter.to.unwrap_or(Moment::LAST)));
    let (low, high) = match place {
        Place::Below(before) => (0, before),
        Place::Behind(after) => (after, i64::MAX),
    };
    let of_link = audit_entry::id
        .eq(audit_link::entry_id)
        .and(audit_entry::tenant_id.eq(audit_link::tenant_id));
    let query = audit_link::table
        .inner_join(audit_entry::table.on(of_link))
        .filter(audit_link::tenant_id.eq(tenant))
        .filter(audit_link::number.gt(low).and(audit_link::number.lt(high)))
        .filter(fits)
        .limit(i64::from(limit));
    let rows: Vec<Row> = match place {
        Place::Below(_) => on!(c, |c| {
            let query = query.order(audit_link::number.desc());
            let query = query.select((
                audit_link::number,
                audit_link::hash,
                StoredEntry::as_select(),
            ));
            query.load(c).await
        }),
        Place::Behind(_) => on!(c, |c| {
            let query = query.order(audit_link::number);
            let query = query.select((
                audit_link::number,
                audit_link::hash,
                StoredEntry::as_select(),
            ));
            query.load(c).await
        }),
    }?;
    linked(c, rows, sealer).await
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
