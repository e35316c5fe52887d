//! A lease in the database: of all instances of a program, one holds it at a time.
//!
//! Each change of hands raises the lease's `fence`. What the holder writes elsewhere can carry that number, so that a
//! holder which was stopped, and does not know yet that another has taken over, changes nothing (Kleppmann, "How to do
//! distributed locking", 2016). Time is the database server's, so clocks of instances may differ.
//!
//! For work that is to be done now and then, the lease also remembers when it is due again, so that a restart does not
//! repeat it and any instance goes on where another ended.

use std::{sync::Arc, time::Duration};

use diesel::prelude::*;
use diesel_async::RunQueryDsl;

use super::{Db, DbError, OptionalExtension, clock::now, on, schema::lease, types::Moment};

/// A lease by name, and who wants it.
#[derive(Clone)]
pub struct Lease {
    db: Db,
    name: &'static str,
    holder: Arc<str>,
    ttl: Duration,
}

/// A lease that is held until it expires, is renewed or is given back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held {
    /// Grows with each change of hands, from 1.
    pub fence: i64,
}

impl Lease {
    /// The lease `name` for the instance `holder`, who keeps it for `ttl` after each time that it is taken.
    #[must_use]
    pub fn new(db: Db, name: &'static str, holder: impl Into<Arc<str>>, ttl: Duration) -> Self {
        Self {
            db,
            name,
            holder: holder.into(),
            ttl,
        }
    }

    /// How long it is held each time.
    #[must_use]
    pub fn ttl(&self) -> Duration {
        self.ttl
    }

    /// Takes it, or keeps it for longer; `None` while another instance holds it.
    ///
    /// # Errors
    ///
    /// [`DbError`]: it is not known whether it is held, so act as if it were not.
    pub async fn take(&self) -> Result<Option<Held>, DbError> {
        self.take_if(false).await
    }

    /// The same, but `None` also while [`give_back`](Self::give_back) has left it not due.
    ///
    /// # Errors
    ///
    /// As [`take`](Self::take).
    pub async fn take_if_due(&self) -> Result<Option<Held>, DbError> {
        self.take_if(true).await
    }

    async fn take_if(&self, due: bool) -> Result<Option<Held>, DbError> {
        let (name, holder, ttl) = (self.name, self.holder.to_string(), self.ttl);
        let taking = self.db.transaction("take lease", async move |tx| {
            let now = now(tx).await?;
            let expires = now + ttl;
            let first = (
                lease::name.eq(name),
                lease::holder.eq(&holder),
                lease::fence.eq(1),
                lease::expires_at.eq(expires),
                lease::due_at.eq(now),
            );
            let insert = diesel::insert_into(lease::table).values(first);
            let insert = insert.on_conflict(lease::name).do_nothing();
            if on!(tx, |c| insert.execute(c).await)? == 1 {
                return Ok(Some(Held { fence: 1 }));
            }
            // One statement each, guarded by what it expects: of two that try, one changes a row.
            let wanted = || {
                let latest = if due { now } else { Moment::LAST };
                lease::table
                    .filter(lease::name.eq(name))
                    .filter(lease::due_at.le(latest))
            };
            let mine = wanted().filter(lease::holder.eq(&holder));
            let kept = diesel::update(mine).set(lease::expires_at.eq(expires));
            if on!(tx, |c| kept.execute(c).await)? == 0 {
                let free = wanted().filter(lease::expires_at.lt(now));
                let taken = diesel::update(free).set((
                    lease::holder.eq(&holder),
                    lease::fence.eq(lease::fence + 1),
                    lease::expires_at.eq(expires),
                ));
                if on!(tx, |c| taken.execute(c).await)? == 0 {
                    return Ok(None);
                }
            }
            let fence = lease::table.find(name).select(lease::fence);
            let fence: Option<i64> = on!(tx, |c| fence.first(c).await).optional()?;
            Ok(fence.map(|fence| Held { fence }))
        });
        taking.await
    }

    /// Gives it back, if `held` is still how it is held: another instance need not wait for its end. With `next` it is
    /// not [due](Self::take_if_due) before that time is over.
    ///
    /// # Errors
    ///
    /// [`DbError`]; it then ends by itself.
    pub async fn give_back(&self, held: Held, next: Option<Duration>) -> Result<(), DbError> {
        let (name, holder) = (self.name, self.holder.to_string());
        let giving = self.db.transaction("give back lease", async move |tx| {
            let now = now(tx).await?;
            let mine = lease::name
                .eq(name)
                .and(lease::holder.eq(&holder))
                .and(lease::fence.eq(held.fence));
            let mine = lease::table.filter(mine);
            let over = lease::expires_at.eq(now - Duration::from_secs(1));
            match next {
                None => on!(tx, |c| diesel::update(mine).set(over).execute(c).await),
                Some(next) => on!(tx, |c| diesel::update(mine)
                    .set((over, lease::due_at.eq(now + next)))
                    .execute(c)
                    .await),
            }
            .map(drop)
        });
        giving.await
    }
}
