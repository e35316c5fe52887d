//! Computing a chain again, page by page, and comparing it with its checkpoints and the register.

use std::{sync::Arc, time::Duration};

use diesel::{
    dsl::{exists, max, not},
    prelude::*,
};
use diesel_async::RunQueryDsl;
use dotmac_db::{Connection, Db, DbError, OptionalExtension, TenantId, on, types::Moment};

use super::{
    Broken, Checkpoint, EntryId, Fault, Hash, SigningKeys, Verified, checkpoint, links,
    range::numbers_between,
    register::Register,
    signing::Signed,
    tables::{audit_chain, audit_checkpoint, audit_entry, audit_link, audit_sealer},
};

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
    with_register: bool,
    before: Before,
    found: Verified,
}

/// The checkpoint before the next one.
#[derive(Clone, Copy, Debug)]
enum Before {
    /// It was not read.
    Unread,
    /// There is none.
    None,
    /// It has this digest, and a signature or not.
    Is { digest: Hash, is_signed: bool },
}

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
            with_register: true,
            before: Before::None,
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

    /// Without comparing all chains with the register, for a caller that has done so.
    #[must_use]
    pub fn without_register(self) -> Self {
        Self {
            with_register: false,
            ..self
        }
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
        let checked = match self.page(c).await? {
            Ok(false) => return Ok(false),
            Ok(true) => self.beyond_links(c).await?,
            Err(broken) => Err(broken),
        };
        self.found.broken = checked.err();
        Ok(true)
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
        let page = links::page(c, self.tenant, before, self.upper).await?;
        let is_last = page.is_last;
        let up_to = page.last().unwrap_or(before);
        let checkpoints = checkpoint::between(c, self.tenant, before, up_to).await?;
        if let Err(broken) = self.compare(&chain, page, checkpoints) {
            return Ok(Err(broken));
        }
        if is_last && self.upper == i64::MAX && self.found.last < chain.newest(self.known) {
            return Ok(Err(self.broken(None, Fault::EndMissing)));
        }
        self.found.is_complete = is_last;
        let is_enough = self.found.last - self.found.first >= self.most;
        Ok(Ok(is_last || is_enough))
    }

    /// Checks what links do not show: entries without one, and what was signed of all chains.
    async fn beyond_links(&mut self, c: &mut Connection) -> Result<Result<(), Broken>, DbError> {
        if is_passed_over(c, self.tenant).await? {
            return Ok(Err(self.broken(None, Fault::EntryNotLinked)));
        }
        if self.with_register {
            match Register::load(c, &self.keys).await? {
                Register::None | Register::Right(_) => {}
                Register::Unchecked => self.found.is_unchecked = true,
                Register::Wrong => return Ok(Err(self.broken(None, Fault::Register))),
            }
        }
        Ok(Ok(()))
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
            self.before = Before::Unread;
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
        let left = Checkpoint::from(left);
        // What it names as the one before it is gone.
        self.before = Before::Unread;
        if let Err(fault) = self.count(&left) {
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
        page: links::Page,
        checkpoints: Vec<checkpoint::Row>,
    ) -> Result<(), Broken> {
        let mut checkpoints = checkpoints.into_iter().map(Checkpoint::from).peekable();
        let from = (self.found.last, self.found.hash);
        let known = [Some((chain.number, chain.hash)), self.known];
        let on_link = |number, right| {
            let mut known = known.into_iter().flatten();
            if known.any(|(at, hash)| at == number && hash != right) {
                return Err(Fault::Checkpoint);
            }
            while let Some(checkpoint) = checkpoints.next_if(|it| it.number() <= number) {
                if checkpoint.hash() != right {
                    return Err(Fault::Checkpoint);
                }
                self.count(&checkpoint)?;
            }
            (self.found.last, self.found.hash) = (number, right);
            Ok(())
        };
        page.compute(from, on_link).map(drop)
    }

    /// What a checkpoint is worth, whose hash is right.
    fn count(&mut self, checkpoint: &Checkpoint) -> Result<(), Fault> {
        let is_next = match self.before {
            Before::Unread => true,
            Before::None => checkpoint.previous().is_none(),
            Before::Is { digest, .. } => checkpoint.previous() == Some(digest),
        };
        let is_signed = match self.keys.check(checkpoint) {
            Signed::Right => {
                self.found.signed = Some(checkpoint.number());
                true
            }
            Signed::Unchecked => {
                self.found.is_unchecked = true;
                true
            }
            Signed::Unsigned => false,
            Signed::Wrong => return Err(Fault::Signature),
        };
        // Since there is a key, all are signed.
        let was_signed = matches!(
            self.before,
            Before::Is {
                is_signed: true,
                ..
            }
        );
        if was_signed && !is_signed {
            return Err(Fault::Signature);
        }
        if !is_next {
            return Err(Fault::CheckpointMissing);
        }
        let digest = checkpoint.checkpoint.digest();
        self.before = Before::Is { digest, is_signed };
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

/// Whether a tenant has an entry without a link, though the sealer has gone on behind it. For a scope of the system.
async fn is_passed_over(c: &mut Connection, tenant: TenantId) -> Result<bool, DbError> {
    let place = audit_sealer::table
        .find(1)
        .select((audit_sealer::xid, audit_sealer::position));
    let (xid, position): (i64, i64) = on!(c, |c| place.first(c).await)?;
    let passed = audit_entry::xid.lt(xid).or(audit_entry::xid
        .eq(xid)
        .and(audit_entry::position.le(position)));
    let link = audit_link::table.filter(audit_link::entry_id.eq(audit_entry::id));
    let entries = audit_entry::table
        .filter(audit_entry::tenant_id.eq(tenant))
        .filter(passed.and(not(exists(link))));
    on!(c, |c| diesel::select(exists(entries)).get_result(c).await)
}
