//! Computing a chain again, page by page, and comparing it with its checkpoints and the register.

mod ending;
mod place;
mod unlinked;

use std::{sync::Arc, time::Duration};

use diesel::prelude::*;
use diesel_async::RunQueryDsl;
use dotmac_db::{Connection, Db, DbError, OptionalExtension, TenantId, on, types::Moment};

use super::{
    Broken, Checkpoint, EntryId, Fault, Hash, SigningKeys, Verified, checkpoint, links,
    range::numbers_between, register::Register, signing::Signed, tables::audit_link,
};
pub use place::VerifiedPlace;

use ending::Ending;
use place::{Before, Part};

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
    /// Links and entries that were read.
    read: i64,
    place: VerifiedPlace,
    found: Verified,
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
            read: 0,
            place: VerifiedPlace {
                number: 0,
                hash: Hash::default(),
                before: Before::None,
                part: Part::Links,
            },
            found: Verified {
                first: 1,
                last: 0,
                hash: Hash::default(),
                signed: None,
                is_unchecked: false,
                further: None,
                broken: None,
            },
        }
    }

    /// Goes on where [another](Verified::further) has stopped, of the same chain and the same moments.
    #[must_use]
    pub fn from_place(self, place: VerifiedPlace) -> Self {
        let mut further = Self { place, ..self };
        further.note();
        further.found.first = place.number + 1;
        further
    }

    /// Where it is.
    pub(super) fn place(&self) -> VerifiedPlace {
        self.place
    }

    /// Only from the first entry at or behind `from` to the last one at or before `to`.
    #[must_use]
    pub fn between(self, from: Option<Moment>, to: Option<Moment>) -> Self {
        Self { from, to, ..self }
    }

    /// Not many more links and entries than these are read: the rest is [further](Verified::further).
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
        let (first, mut step) = (self.clone(), self.next(db).await?);
        let mut is_again = false;
        loop {
            match step {
                Step::Done(found) if found.broken.is_some() && !is_again => {
                    is_again = true;
                    step = first.next(db).await?;
                }
                Step::Done(found) => return Ok(*found),
                Step::Further(further) => {
                    on_page();
                    step = further.next(db).await?;
                }
            }
        }
    }

    /// Checks a page. After an error the same can be done again: all that was checked before is kept.
    ///
    /// # Errors
    ///
    /// [`DbError`].
    pub(super) async fn next(&self, db: &Db) -> Result<Step, DbError> {
        let mut further = self.clone();
        let step = async move |c: &mut Connection| {
            let is_done = further.step(c).await?;
            Ok::<_, DbError>(match is_done {
                true => Step::Done(Box::new(further.found)),
                false => Step::Further(Box::new(further)),
            })
        };
        db.read("verify audit chain", step).await
    }

    /// Checks a page; whether that was the last.
    async fn step(&mut self, c: &mut Connection) -> Result<bool, DbError> {
        let checked = match self.place.part {
            Part::Links => self.page(c).await?,
            Part::Entries(after) => self.entries(c, after).await?,
        };
        let is_over = match checked {
            Ok(is_over) => is_over,
            Err(broken) => {
                self.found.broken = Some(broken);
                return Ok(true);
            }
        };
        let is_done = is_over || self.read >= self.most;
        if is_done {
            self.found.further = (!is_over).then_some(self.place);
            self.found.broken = self.register(c).await?.err();
        }
        Ok(is_done)
    }

    /// Checks a page of links; whether all is checked.
    async fn page(&mut self, c: &mut Connection) -> Result<Result<bool, Broken>, DbError> {
        // Before the links, so that these are not behind it.
        let ending = Ending::find(c, self.tenant, self.known).await?;
        if !self.is_begun && !self.begin(c).await? {
            return Ok(self.end_of_links(c, &ending).await?.map(|()| false));
        }
        if self.place.number < ending.start {
            match self.behind_retention(c, ending.start).await? {
                Ok(()) => {}
                Err(fault) => return Ok(Err(self.broken(None, fault))),
            }
        }
        let before = self.place.number;
        let page = links::page(c, self.tenant, before, self.upper).await?;
        let is_last = page.is_last;
        let up_to = page.last().unwrap_or(before);
        let checkpoints = checkpoint::between(c, self.tenant, before, up_to).await?;
        if let Err(broken) = self.compare(&ending, page, checkpoints) {
            return Ok(Err(broken));
        }
        self.read += self.place.number - before;
        if !is_last {
            return Ok(Ok(false));
        }
        Ok(self.end_of_links(c, &ending).await?.map(|()| false))
    }

    /// Goes on with the entries once the chain has the end that it must have, be it behind what was asked for.
    async fn end_of_links(
        &mut self,
        c: &mut Connection,
        ending: &Ending,
    ) -> Result<Result<(), Broken>, DbError> {
        self.place.part = Part::Entries(None);
        let last = match self.upper {
            i64::MAX if self.place.number >= ending.newest() => return Ok(Ok(())),
            _ => ending.last_link(c).await?.max(self.place.number),
        };
        Ok(match last < ending.newest() {
            true => Err(Broken {
                number: last + 1,
                entry: None,
                fault: Fault::EndMissing,
            }),
            false => Ok(()),
        })
    }

    /// Checks a page of entries, of which links show none that has no link; whether all is checked.
    async fn entries(
        &mut self,
        c: &mut Connection,
        after: Option<unlinked::After>,
    ) -> Result<Result<bool, Broken>, DbError> {
        let seen = unlinked::look(c, self.tenant, after).await?;
        if seen.is_passed_over {
            return Ok(Err(self.broken(None, Fault::EntryNotLinked)));
        }
        self.read += seen.entries;
        self.place.part = Part::Entries(seen.last);
        Ok(Ok(seen.last.is_none()))
    }

    /// Checks what was signed of all chains.
    async fn register(&mut self, c: &mut Connection) -> Result<Result<(), Broken>, DbError> {
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
            // None of them can be missing but behind the last one.
            self.upper = 0;
            return Ok(false);
        };
        self.upper = upper.unwrap_or(i64::MAX);
        if self.from.is_none() || self.place.number >= lower {
            return Ok(true);
        }
        let query = audit_link::table
            .find((self.tenant, lower - 1))
            .select(audit_link::hash);
        let before: Option<Vec<u8>> = on!(c, |c| query.first(c).await).optional()?;
        if let Some(before) = before {
            self.place.hash = Hash::from_bytes(&before).unwrap_or_default();
            self.place.number = lower - 1;
            self.place.before = Before::Unread;
            self.note();
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
        let left = Checkpoint::from(left);
        // What it names as the one before it is gone.
        self.place.before = Before::Unread;
        if let Err(fault) = self.count(&left) {
            return Ok(Err(fault));
        }
        self.place.number = start;
        self.place.hash = left.hash();
        self.note();
        self.found.first = start + 1;
        Ok(Ok(()))
    }

    /// What was found goes as far as the place.
    fn note(&mut self) {
        (self.found.last, self.found.hash) = (self.place.number, self.place.hash);
    }

    fn compare(
        &mut self,
        ending: &Ending,
        page: links::Page,
        checkpoints: Vec<checkpoint::Row>,
    ) -> Result<(), Broken> {
        let mut checkpoints = checkpoints.into_iter().map(Checkpoint::from).peekable();
        let from = (self.place.number, self.place.hash);
        let known = [Some((ending.number, ending.hash)), self.known];
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
            (self.place.number, self.place.hash) = (number, right);
            self.note();
            Ok(())
        };
        page.compute(from, on_link).map(drop)
    }

    /// What a checkpoint is worth, whose hash is right.
    fn count(&mut self, checkpoint: &Checkpoint) -> Result<(), Fault> {
        let is_next = match self.place.before {
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
            self.place.before,
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
        self.place.before = Before::Is { digest, is_signed };
        Ok(())
    }

    fn broken(&self, entry: Option<EntryId>, fault: Fault) -> Broken {
        Broken {
            number: self.place.number + 1,
            entry,
            fault,
        }
    }
}

/// What a page has come to.
pub(super) enum Step {
    Done(Box<Verified>),
    Further(Box<Verification>),
}
