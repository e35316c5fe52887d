//! Links with their entries: read page by page, and computed again.

use diesel::prelude::*;
use diesel_async::RunQueryDsl;
use dotmac_db::{Connection, DbError, TenantId, on};

use super::{
    Broken, EntryId, Fault, Hash, StoredEntry,
    chain::Canonical,
    log::searched,
    tables::{audit_entry, audit_link, audit_search},
};

/// Links of one reading.
pub(super) const AT_ONCE: i64 = 1000;

type Row = (
    i64,
    EntryId,
    Vec<u8>,
    Option<StoredEntry>,
    Option<SearchRow>,
);

/// What an entry is searched by.
#[derive(Queryable, Selectable)]
#[diesel(table_name = audit_search)]
struct SearchRow {
    actor: String,
    action: String,
    resource_type: String,
    resource_id: String,
}

impl SearchRow {
    /// Whether it is that of `entry`.
    fn fits(&self, entry: &StoredEntry) -> bool {
        let texts = [&self.actor, &self.action, &self.resource_type];
        texts == [&entry.actor, &entry.action, &entry.resource_type]
            && self.resource_id == searched(&entry.resource_id)
    }
}

/// Some links of a chain, in order.
pub(super) struct Page {
    rows: Vec<Row>,
    /// The link behind them, or its entry, has a value that is not one of its column.
    is_cut: bool,
    /// Whether there are no further links.
    pub(super) is_last: bool,
}

/// At most [`AT_ONCE`] links of a tenant with numbers from `after` + 1 to `up_to`.
pub(super) async fn page(
    c: &mut Connection,
    tenant: TenantId,
    after: i64,
    up_to: i64,
) -> Result<Page, DbError> {
    let mut found = Decodable::up_to(AT_ONCE);
    while let Some(limit) = found.limit() {
        found.take(read(c, tenant, after, up_to, limit).await)?;
    }
    let (rows, is_cut) = found.into_parts();
    let is_last = !is_cut && (rows.len() as i64) < AT_ONCE;
    Ok(Page {
        rows,
        is_cut,
        is_last,
    })
}

/// Finds the rows before one with a value that is not of its column: such a row fails the reading of all, so fewer are read
/// until that succeeds.
pub(super) struct Decodable<T> {
    rows: Vec<T>,
    /// How many rows to read next, if any.
    limit: Option<i64>,
    /// So many were too many.
    bad: Option<i64>,
}

impl<T> Decodable<T> {
    pub(super) fn up_to(limit: i64) -> Self {
        Self {
            rows: Vec::new(),
            limit: Some(limit),
            bad: None,
        }
    }

    /// How many rows are to be read next; `None` at the end.
    pub(super) fn limit(&self) -> Option<i64> {
        self.limit
    }

    /// Takes what reading so many gave.
    pub(super) fn take(&mut self, read: Result<Vec<T>, DbError>) -> Result<(), DbError> {
        match read {
            Ok(rows) => self.rows = rows,
            Err(error) if is_undecodable(&error) => self.bad = self.limit,
            Err(error) => return Err(error),
        }
        let good = self.rows.len() as i64;
        self.limit = match self.bad {
            Some(bad) if bad > good + 1 => Some(good + (bad - good) / 2),
            _ => None,
        };
        Ok(())
    }

    /// The rows, and whether one that cannot be decoded is behind them.
    pub(super) fn into_parts(self) -> (Vec<T>, bool) {
        (self.rows, self.bad.is_some())
    }
}

/// Whether the database has a value that is not one of its column, which nothing in the program writes.
fn is_undecodable(error: &DbError) -> bool {
    matches!(
        error,
        DbError::Query(diesel::result::Error::DeserializationError(_))
    )
}

async fn read(
    c: &mut Connection,
    tenant: TenantId,
    after: i64,
    up_to: i64,
    limit: i64,
) -> Result<Vec<Row>, DbError> {
    let of_link = audit_entry::id
        .eq(audit_link::entry_id)
        .and(audit_entry::tenant_id.eq(audit_link::tenant_id));
    let which = audit_link::tenant_id
        .eq(tenant)
        .and(audit_link::number.gt(after))
        .and(audit_link::number.le(up_to));
    let of_search = audit_search::tenant_id
        .eq(audit_link::tenant_id)
        .and(audit_search::number.eq(audit_link::number));
    let query = audit_link::table
        .left_join(audit_entry::table.on(of_link))
        .left_join(audit_search::table.on(of_search))
        .filter(which)
        .order(audit_link::number)
        .limit(limit);
    on!(c, |c| {
        let query = query.select((
            audit_link::number,
            audit_link::entry_id,
            audit_link::hash,
            Option::<StoredEntry>::as_select(),
            Option::<SearchRow>::as_select(),
        ));
        query.load(c).await
    })
}

impl Page {
    /// The number of the last link of the page.
    pub(super) fn last(&self) -> Option<i64> {
        self.rows.last().map(|(number, ..)| *number)
    }

    /// Computes the links again behind the link with that number and hash; `on_link` is called for each that is right.
    pub(super) fn compute(
        self,
        (mut last, mut hash): (i64, Hash),
        mut on_link: impl FnMut(i64, Hash) -> Result<(), Fault>,
    ) -> Result<(i64, Hash), Broken> {
        for (number, id, stored, entry, search) in self.rows {
            let broken = |entry, fault| Broken {
                number: last + 1,
                entry,
                fault,
            };
            if number != last + 1 {
                return Err(broken(None, Fault::LinkMissing));
            }
            let Some(entry) = entry else {
                return Err(broken(Some(id), Fault::EntryMissing));
            };
            let right = hash.then(&Canonical::new(number, &entry).text());
            if Hash::from_bytes(&stored) != Some(right) {
                return Err(broken(Some(id), Fault::Changed));
            }
            if !search.is_some_and(|search| search.fits(&entry)) {
                return Err(broken(Some(id), Fault::Search));
            }
            on_link(number, right).map_err(|fault| broken(Some(id), fault))?;
            (last, hash) = (number, right);
        }
        match self.is_cut {
            false => Ok((last, hash)),
            true => Err(Broken {
                number: last + 1,
                entry: None,
                fault: Fault::Changed,
            }),
        }
    }
}
