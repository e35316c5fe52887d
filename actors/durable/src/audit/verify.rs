//! Computing a chain again, page by page, and comparing it with its checkpoints.

use std::{sync::Arc, time::Duration};

use diesel::{dsl::max, prelude::*};
use diesel_async::RunQueryDsl;
use dotmac_db::{Connection, Db, DbError, OptionalExtension, TenantId, on, types::Moment};

use super::{
    Broken, Checkpoint, EntryId, Fault, Hash, SigningKeys, StoredEntry, Verified,
    chain::Canonical,
    checkpoint::{self, Signed},
    tables::{audit_chain, audit_checkpoint, audit_entry, audit_link},
};

/// Links of one reading.
const AT_ONCE: i64 = 1000;

/// What is younger than this is never taken away by retention.
pub const MIN_RETENTION: Duration = Duration::from_secs(90 * 24 * 60 * 60);

/// Computes the chain of a tenant again.
#[derive(Clone, Debug)]
pub struct Verification {
    tenant: TenantId,
    keys: Arc<SigningKeys>,
    now: Moment,
    from: Option<Moment>,
    to: Option<Moment>,
    most: i64,
    known: Option<(i64, Hash)>,
    upper: i64,
    is_begun: bool,
    found: Verified,
}

type Row = (i64, EntryId, Vec<u8>, Option<StoredEntry>);

impl Verification {
    /// The whole chain of `tenant`, with signatures checked by `keys`.
    #[must_use]
    pub fn new(tenant: TenantId, keys: Arc<SigningKeys>) -> Self {
        Self {
            tenant,
            keys,
            now: Moment::now(),
            from: None,
            to: None,
            most: i64::MAX,
            known: None,
            upper: i64::MAX,
            is_begun: false,
            found: Verified {
                first: 1,
                last: 0,
                hash: Hash::default(),
                signed: None,
                is_unchecked: false,
                is_complete: false,
                broken: None,
            },
        }
    }

    /// Only from the first entry at or behind `from` to the last one at or before `to`.
    #[must_use]
    pub fn between(self, from: Option<Moment>, to: Option<Moment>) -> Self {
        Self { from, to, ..self }
    }

    /// Not many more links than these.
    #[must_use]
    pub fn most(self, most: i64) -> Self {
        Self { most, ..self }
    }

    /// The chain must have the link with that number and hash, unless retention has taken it away.
    #[must_use]
    pub fn known(self, known: Option<(i64, Hash)>) -> Self {
        Self { known, ..self }
    }

    /// As if it were `now`.
    #[must_use]
    pub fn at(self, now: Moment) -> Self {
        Self { now, ..self }
    }

    /// Does it all; `on_page` is called between pages. What looks broken is checked once more: retention may have taken
    /// links away meanwhile. `db` has the scope of the system.
    ///
    /// # Errors
    ///
    /// [`DbError`].
    pub async fn run(self, db: &Db, on_page: impl Fn()) -> Result<Verified, DbError> {
        let found = self.clone().once(db, &on_page).await?;
        match found.broken {
            None => Ok(found),
            Some(_) => self.once(db, &on_page).await,
        }
    }

    async fn once(mut self, db: &Db, on_page: &impl Fn()) -> Result<Verified, DbError> {
        loop {
            let step = async move |c: &mut Connection| {
                let is_done = self.step(c).await?;
                Ok::<_, DbError>((self, is_done))
            };
            let (further, is_done) = db.read("verify audit chain", step).await?;
            if is_done {
                return Ok(further.found);
            }
            self = further;
            on_page();
        }
    }

    /// Checks a page of links; whether that was the last.
    async fn step(&mut self, c: &mut Connection) -> Result<bool, DbError> {
        match self.page(c).await? {
            Ok(is_done) => Ok(is_done),
            Err(broken) => {
                self.found.broken = Some(broken);
                Ok(true)
            }
        }
    }

    async fn page(&mut self, c: &mut Connection) -> Result<Result<bool, Broken>, DbError> {
        // Before the links, so that these are not behind it.
        let chain = Chain::find(c, self.tenant).await?;
        if !self.is_begun && !self.begin(c).await? {
            self.found.is_complete = true;
            return Ok(Ok(true));
        }
        if self.found.last < chain.start {
            match self.behind_retention(c, chain.start).await? {
                Ok(()) => {}
                Err(fault) => return Ok(Err(self.broken(None, fault))),
            }
        }
        let before = self.found.last;
        let rows = links(c, self.tenant, before, self.upper).await?;
        let is_last = rows.len() < usize::try_from(AT_ONCE).unwrap_or(usize::MAX);
        let up_to = rows.last().map_or(before, |(number, ..)| *number);
        let checkpoints = checkpoint::between(c, self.tenant, before, up_to).await?;
        let checked = self.compare(&chain, rows, checkpoints);
        if let Err(broken) = checked {
            return Ok(Err(broken));
        }
        if is_last && self.upper == i64::MAX && self.found.last < chain.newest(self.known) {
            return Ok(Err(self.broken(None, Fault::EndMissing)));
        }
        self.found.is_complete = is_last;
        let is_enough = self.found.last - self.found.first >= self.most;
        Ok(Ok(is_last || is_enough))
    }

    /// Finds the links that were asked for; false if there are none.
    async fn begin(&mut self, c: &mut Connection) -> Result<bool, DbError> {
        self.is_begun = true;
        let between = numbers_between(c, self.tenant, self.from, self.to).await?;
        let Some((lower, upper)) = between else {
            return Ok(false);
        };
        self.upper = upper.unwrap_or(i64::MAX);
        if self.from.is_none() {
            return Ok(true);
        }
        let query = audit_link::table
            .find((self.tenant, lower - 1))
            .select(audit_link::hash);
        let before: Option<Vec<u8>> = on!(c, |c| query.first(c).await).optional()?;
        if let Some(before) = before {
            self.found.hash = Hash::from_bytes(&before).unwrap_or_default();
            self.found.last = lower - 1;
            self.found.first = lower;
        }
        Ok(lower <= self.upper)
    }

    /// Goes on behind what retention has taken away: it leaves the checkpoint of the last link that is gone.
    async fn behind_retention(
        &mut self,
        c: &mut Connection,
        start: i64,
    ) -> Result<Result<(), Fault>, DbError> {
        let left = checkpoint::between(c, self.tenant, start - 1, start).await?;
        let Some(left) = left.into_iter().next() else {
            return Ok(Err(Fault::BeginningMissing));
        };
        if left.at + MIN_RETENTION > self.now {
            return Ok(Err(Fault::BeginningMissing));
        }
        let at = left.at;
        let left = Checkpoint::from(left);
        if let Err(fault) = self.count(&left, at) {
            return Ok(Err(fault));
        }
        self.found.last = start;
        self.found.first = start + 1;
        self.found.hash = left.hash();
        Ok(Ok(()))
    }

    fn compare(
        &mut self,
        chain: &Chain,
        rows: Vec<Row>,
        checkpoints: Vec<checkpoint::Row>,
    ) -> Result<(), Broken> {
        let mut checkpoints = checkpoints
            .into_iter()
            .map(|row| (row.at, Checkpoint::from(row)))
            .peekable();
        for (number, id, hash, entry) in rows {
            if number != self.found.last + 1 {
                return Err(self.broken(None, Fault::LinkMissing));
            }
            let Some(entry) = entry else {
                return Err(self.broken(Some(id), Fault::EntryMissing));
            };
            let right = self.found.hash.then(&Canonical::new(number, &entry).text());
            if Hash::from_bytes(&hash) != Some(right) {
                return Err(self.broken(Some(id), Fault::Changed));
            }
            let is_known = |(at, hash): (i64, Hash)| at != number || hash == right;
            if !is_known((chain.number, chain.hash)) || !self.known.is_none_or(is_known) {
                return Err(self.broken(Some(id), Fault::Checkpoint));
            }
            while let Some((at, checkpoint)) = checkpoints.next_if(|(_, it)| it.number() <= number)
            {
                if checkpoint.hash() != right {
                    return Err(self.broken(Some(id), Fault::Checkpoint));
                }
                if let Err(fault) = self.count(&checkpoint, at) {
                    return Err(self.broken(Some(id), fault));
                }
            }
            self.found.last = number;
            self.found.hash = right;
        }
        Ok(())
    }

    /// What a checkpoint is worth, whose hash is right.
    fn count(&mut self, checkpoint: &Checkpoint, at: Moment) -> Result<(), Fault> {
        match self.keys.check(checkpoint, Some(at)) {
            Signed::Right => self.found.signed = Some(checkpoint.number()),
            Signed::Unsigned => {}
            Signed::Unchecked => self.found.is_unchecked = true,
            Signed::Wrong => return Err(Fault::Signature),
        }
        Ok(())
    }

    fn broken(&self, entry: Option<EntryId>, fault: Fault) -> Broken {
        Broken {
            number: self.found.last + 1,
            entry,
            fault,
        }
    }
}

/// What is written down of a chain beside its links.
struct Chain {
    start: i64,
    number: i64,
    hash: Hash,
    /// The number of the newest checkpoint.
    checked: i64,
}

impl Chain {
    async fn find(c: &mut Connection, tenant: TenantId) -> Result<Self, DbError> {
        let query = audit_chain::table.find(tenant).select((
            audit_chain::start,
            audit_chain::number,
            audit_chain::hash,
        ));
        let found: Option<(i64, i64, Vec<u8>)> = on!(c, |c| query.first(c).await).optional()?;
        let (start, number, hash) = found.unwrap_or_default();
        let newest = audit_checkpoint::table
            .filter(audit_checkpoint::tenant_id.eq(tenant))
            .select(max(audit_checkpoint::number));
        let checked: Option<i64> = on!(c, |c| newest.get_result(c).await)?;
        Ok(Self {
            start,
            number,
            hash: Hash::from_bytes(&hash).unwrap_or_default(),
            checked: checked.unwrap_or_default(),
        })
    }

    /// The number that the chain must reach.
    fn newest(&self, known: Option<(i64, Hash)>) -> i64 {
        let known = known.map_or(0, |(number, _)| number);
        self.number.max(self.checked).max(known)
    }
}

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

async fn links(
    c: &mut Connection,
    tenant: TenantId,
    after: i64,
    up_to: i64,
) -> Result<Vec<Row>, DbError> {
    let of_link = audit_entry::id
        .eq(audit_link::entry_id)
        .and(audit_entry::tenant_id.eq(audit_link::tenant_id));
    let which = audit_link::tenant_id
        .eq(tenant)
        .and(audit_link::number.gt(after))
        .and(audit_link::number.le(up_to));
    let query = audit_link::table
        .left_join(audit_entry::table.on(of_link))
        .filter(which)
        .order(audit_link::number)
        .limit(AT_ONCE);
    on!(c, |c| {
        let query = query.select((
            audit_link::number,
            audit_link::entry_id,
            audit_link::hash,
            Option::<StoredEntry>::as_select(),
        ));
        query.load(c).await
    })
}
