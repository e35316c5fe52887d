//! Idempotency keys: which requests that create something were answered, and how.
//!
//! A request claims its key, and its answer is kept in the transaction of its effect: after a crash there are both or
//! neither. Of several requests with one key one gets the claim, on any number of instances, by the unique key of the
//! table. A claim expires, so one of a crashed instance blocks no request for long. Each new holder raises its fence,
//! and only the holder of the newest fence keeps an answer, so a late request changes nothing.
//!
//! The platform has the HTTP part (headers, codes, kept answers).

use std::time::Duration;

use diesel::prelude::*;
use diesel_async::RunQueryDsl;

use super::{
    DbError, OptionalExtension, TenantDb, TenantTx, Tx,
    clock::now,
    on,
    schema::idempotency_key::{self as keys, dsl},
    types::{Id, Moment},
};

/// How long a key is kept, from its first claim.
pub const KEPT: Duration = Duration::from_secs(24 * 60 * 60);

/// The identity of a request with a key within its tenant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyedRequest {
    /// The method and the pattern of its route: `POST /api/v1/notes`.
    pub route: String,
    /// The key that the client gave.
    pub key: String,
    /// A digest of all that makes the request what it is.
    pub fingerprint: Vec<u8>,
}

/// The answer of a request that had its effect.
#[derive(Clone, Debug, Default, PartialEq, Eq, Queryable, Selectable, AsChangeset, Insertable)]
#[diesel(table_name = keys, treat_none_as_null = true)]
pub struct KeptAnswer {
    /// The status.
    pub status: Option<i32>,
    /// The header `Location`.
    pub location: Option<String>,
    /// The header `ETag`.
    pub etag: Option<String>,
    /// The body; `None` if it is not kept.
    pub body: Option<Vec<u8>>,
}

/// The result of a request with a key.
#[derive(Clone, Debug)]
pub enum Claimed {
    /// It is to be carried out.
    Mine(Claim),
    /// It was carried out before, with this answer.
    Answered(KeptAnswer),
    /// Another request with the key is under way.
    InProgress,
    /// The key belongs to another request.
    Mismatch,
}

/// The right to carry a request out, until it ends.
#[derive(Clone, Debug)]
pub struct Claim {
    id: Id<Self>,
    fence: i64,
}

#[derive(Queryable, Selectable)]
#[diesel(table_name = keys)]
struct Row {
    id: Id<Claim>,
    fingerprint: Vec<u8>,
    fence: i64,
    claimed_until: Moment,
    expires_at: Moment,
    #[diesel(embed)]
    answer: KeptAnswer,
}

/// Claims the key of `request` for `lease`.
///
/// # Errors
///
/// [`DbError`]; the request must then not be carried out.
pub async fn claim(
    db: &TenantDb,
    request: KeyedRequest,
    lease: Duration,
) -> Result<Claimed, DbError> {
    let claiming = db.transaction("claim idempotency key", async move |tx| {
        claim_in(tx, &request, lease).await
    });
    claiming.await
}

async fn claim_in(
    tx: &mut TenantTx,
    request: &KeyedRequest,
    lease: Duration,
) -> Result<Claimed, DbError> {
    let (tenant, now, id) = (tx.tenant(), now(tx).await?, Id::new());
    let claimed = (
        keys::fingerprint.eq(&request.fingerprint),
        keys::claimed_until.eq(now + lease),
        keys::expires_at.eq(now + KEPT),
    );
    let first = (
        keys::id.eq(id),
        keys::tenant_id.eq(tenant),
        keys::route.eq(&request.route),
        keys::key.eq(&request.key),
        keys::fence.eq(1),
        claimed,
    );
    let insert = diesel::insert_into(keys::table).values(first);
    let insert = insert.on_conflict_do_nothing();
    if on!(tx, |c| insert.execute(c).await)? == 1 {
        return Ok(Claimed::Mine(Claim { id, fence: 1 }));
    }
    let of_key = dsl::tenant_id
        .eq(tenant)
        .and(dsl::route.eq(&request.route))
        .and(dsl::key.eq(&request.key));
    let row = on!(tx, |c| {
        let query = keys::table.filter(of_key).select(Row::as_select());
        query.first(c).await
    });
    let Some(row) = row.optional()? else {
        return Ok(Claimed::InProgress); // it was released just now
    };
    let is_answered = row.answer.status.is_some();
    if row.expires_at < now || !is_answered && row.claimed_until < now {
        // Guarded by what was seen: of two that try, one changes the row.
        let as_seen = dsl::id.eq(row.id).and(dsl::fence.eq(row.fence));
        let is_over = dsl::status.is_null().or(dsl::expires_at.lt(now));
        let next = row.fence + 1;
        let taken = diesel::update(keys::table.filter(as_seen.and(is_over))).set((
            claimed,
            keys::fence.eq(next),
            KeptAnswer::default(),
        ));
        return Ok(match on!(tx, |c| taken.execute(c).await)? {
            0 => Claimed::InProgress,
            _ => Claimed::Mine(Claim {
                id: row.id,
                fence: next,
            }),
        });
    }
    Ok(if row.fingerprint != request.fingerprint {
        Claimed::Mismatch
    } else if is_answered {
        Claimed::Answered(row.answer)
    } else {
        Claimed::InProgress
    })
}

impl Claim {
    /// Keeps the answer, on the transaction of the effect.
    ///
    /// # Errors
    ///
    /// [`DbError::Conflict`] if the claim has ended and another request has it: the effect must be rolled back.
    pub async fn keep(&self, tx: &mut Tx, answer: KeptAnswer) -> Result<(), DbError> {
        let mine = dsl::id.eq(self.id).and(dsl::fence.eq(self.fence));
        let kept = diesel::update(keys::table.filter(mine)).set(answer);
        match on!(tx, |c| kept.execute(c).await)? {
            0 => Err(DbError::Conflict(diesel::result::Error::NotFound)),
            _ => Ok(()),
        }
    }

    /// Lets another request with the key be carried out, unless this one was answered.
    ///
    /// # Errors
    ///
    /// [`DbError`]; the claim then ends by itself.
    pub async fn release(&self, db: &TenantDb) -> Result<(), DbError> {
        let mine = dsl::id.eq(self.id).and(dsl::fence.eq(self.fence));
        let unanswered = keys::table.filter(mine.and(dsl::status.is_null()));
        let releasing = db.transaction("release idempotency key", async move |tx| {
            on!(tx, |c| diesel::delete(unanswered).execute(c).await)
        });
        releasing.await.map(drop)
    }
}

/// Deletes keys that need not be kept any more, at most `most` of them; how many there were.
///
/// # Errors
///
/// [`DbError`].
pub async fn delete_expired(tx: &mut Tx, most: i64) -> Result<usize, DbError> {
    let now = now(tx).await?;
    let expired = keys::table.filter(dsl::expires_at.lt(now));
    let expired = expired.order(dsl::expires_at).limit(most).select(dsl::id);
    let expired: Vec<Id<Claim>> = on!(tx, |c| expired.load(c).await)?;
    let delete = diesel::delete(keys::table.filter(dsl::id.eq_any(expired)));
    on!(tx, |c| delete.execute(c).await)
}
