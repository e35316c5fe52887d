//! After a change of keys: moves what is stored to the first key, and counts what is left by key.
//!
//! A worker drives it, batch by batch, each its own transaction; it may stop at any point and begin again. A value
//! that is changed meanwhile is left as it is then. What does not open is left too, counted and logged by its row.

use std::collections::BTreeMap;

use diesel::{QueryableByName, sql_query, sql_types::BigInt};
use diesel_async::RunQueryDsl;
use tracing::warn;
use uuid::Uuid;

use super::{
    KeyId, SealedColumn, Sealer, SealingError,
    envelope::{head, key_id},
};
use crate::{
    Db, DbError, on,
    types::{Id, sql},
};

/// The most that one batch moves.
const MOST: u32 = 1000;

/// A way through one column, a batch at a time.
///
/// ```no_run
/// # use dotmac_db::{Db, sealing::{ResealError, Resealing, SealedColumn, Sealer}};
/// # async fn example(db: &Db, sealer: &Sealer) -> Result<(), ResealError> {
/// const SECRET: SealedColumn = SealedColumn::new("endpoint", "secret");
/// let mut resealing = Resealing::new(SECRET);
/// while !resealing.step(db, sealer, 100).await?.is_done {} // a worker shows progress here
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Resealing {
    column: SealedColumn,
    /// The row of the last value that was checked.
    after: Uuid,
}

/// The result of one batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Resealed {
    /// Values that are sealed with the first key now.
    pub moved: u64,
    /// Values that do not open, and are as they were.
    pub failed: u64,
    /// Whether the end of the column was reached. The next batch begins at the first row again.
    pub is_done: bool,
}

/// Why a batch was not done; nothing of it was.
#[derive(Debug, thiserror::Error)]
pub enum ResealError {
    /// The database did not do it.
    #[error(transparent)]
    Db(#[from] DbError),
    /// There is no key to seal with.
    #[error(transparent)]
    Sealing(#[from] SealingError),
}

#[derive(Clone, QueryableByName)]
struct Row {
    #[diesel(sql_type = sql::Uuid)]
    id: Id<()>,
    #[diesel(sql_type = sql::Binary)]
    value: Vec<u8>,
}

#[derive(QueryableByName)]
struct Counted {
    #[diesel(sql_type = sql::Binary)]
    head: Vec<u8>,
    #[diesel(sql_type = BigInt)]
    counted: i64,
}

impl Resealing {
    /// From the first row of `column` on.
    #[must_use]
    pub const fn new(column: SealedColumn) -> Self {
        Self {
            column,
            after: Uuid::nil(),
        }
    }

    /// Moves up to `most` values, 1000 at the most, to the first key of `sealer`. `db` must see the rows of all tenants:
    /// [`ModuleDb::system`](crate::ModuleDb::system).
    ///
    /// # Errors
    ///
    /// [`ResealError`]; the same batch can be tried again.
    pub async fn step(
        &mut self,
        db: &Db,
        sealer: &Sealer,
        most: u32,
    ) -> Result<Resealed, ResealError> {
        let (column, after) = (self.column, Id::<()>::from_uuid(self.after));
        let most = most.clamp(1, MOST);
        let origin = sealer.keyring().origin();
        let Some(first) = sealer.keyring().ids().into_iter().next() else {
            return Err(SealingError::NoKey { origin }.into());
        };
        let sealer = sealer.clone();
        let batch = db.transaction("seal values anew", async move |tx| {
            let rows = rows(tx, column, first, after, most).await?;
            let (mut moved, mut failed) = (0, 0);
            for row in &rows {
                match resealed(&sealer, column, row) {
                    Ok(value) => moved += replace(tx, column, row, value).await?,
                    Err(SealingError::NoKey { origin }) => {
                        return Err(SealingError::NoKey { origin }.into());
                    }
                    Err(error) => {
                        failed += 1;
                        warn!(
                            table = column.table,
                            column = column.column,
                            row = %row.id,
                            "a value was not resealed: {error}"
                        );
                    }
                }
            }
            let is_done = rows.len() < usize::try_from(most).unwrap_or(usize::MAX);
            let last = rows.last().map(|row| row.id.uuid());
            let outcome = Resealed {
                moved,
                failed,
                is_done,
            };
            Ok::<_, ResealError>((outcome, last))
        });
        let (outcome, last) = batch.await?;
        self.after = match outcome.is_done {
            true => Uuid::nil(),
            false => last.unwrap_or_default(),
        };
        Ok(outcome)
    }
}

fn resealed(sealer: &Sealer, column: SealedColumn, row: &Row) -> Result<Vec<u8>, SealingError> {
    let plain = sealer.open_bytes(column.of(row.id), &row.value)?;
    sealer.seal_bytes(column.of(row.id), &plain)
}

/// Values of other keys than `first`, in the order of their rows.
async fn rows(
    tx: &mut crate::Tx,
    column: SealedColumn,
    first: KeyId,
    after: Id<()>,
    most: u32,
) -> Result<Vec<Row>, DbError> {
    let SealedColumn { table, column, id } = column;
    let length = head(first).len();
    let text = format!(
        "SELECT {id} AS id, {column} AS value FROM {table} \
         WHERE {column} IS NOT NULL AND substr({column}, 1, {length}) <> $1 AND {id} > $2 \
         ORDER BY {id} LIMIT $3"
    );
    on!(tx, |c| {
        let query = sql_query(text)
            .bind::<sql::Binary, _>(head(first).to_vec())
            .bind::<sql::Uuid, _>(after)
            .bind::<BigInt, _>(i64::from(most));
        query.load(c).await
    })
}

/// Puts `value` into the row, if what was read is still there; how many rows were changed.
async fn replace(
    tx: &mut crate::Tx,
    column: SealedColumn,
    row: &Row,
    value: Vec<u8>,
) -> Result<u64, DbError> {
    let SealedColumn { table, column, id } = column;
    let text = format!("UPDATE {table} SET {column} = $1 WHERE {id} = $2 AND {column} = $3");
    let row = row.clone();
    let changed = on!(tx, |c| {
        let query = sql_query(text)
            .bind::<sql::Binary, _>(value)
            .bind::<sql::Uuid, _>(row.id)
            .bind::<sql::Binary, _>(row.value);
        query.execute(c).await
    });
    changed.map(|changed| changed as u64)
}

/// How many values of `column` are sealed with which key; `None` stands for what is no envelope of ours.
///
/// A key that is not in it seals nothing there. Once that holds for every sealed column, and every instance has the new
/// key in the first place, the key can be removed. It reads the whole column. `db` must see the rows of all tenants.
///
/// # Errors
///
/// [`DbError`].
pub async fn count(db: &Db, column: SealedColumn) -> Result<BTreeMap<Option<KeyId>, u64>, DbError> {
    let SealedColumn { table, column, .. } = column;
    let length = super::envelope::HEAD_BYTES;
    let text = format!(
        "SELECT substr({column}, 1, {length}) AS head, COUNT(*) AS counted FROM {table} \
         WHERE {column} IS NOT NULL GROUP BY 1"
    );
    let counting = db.read("count sealed values", async move |connection| {
        on!(connection, |c| sql_query(text).load::<Counted>(c).await)
    });
    let mut counts = BTreeMap::new();
    for Counted { head, counted } in counting.await? {
        let counted = u64::try_from(counted).unwrap_or_default();
        *counts.entry(key_id(&head)).or_default() += counted;
    }
    Ok(counts)
}
