//! Checkpoints: what the hash of a link was at some moment, signed, and handed out in the log. Each names the hash of the
//! one before it, so none can be removed or put in between. A writer of the whole database can compute a chain again,
//! but cannot sign it; and checkpoints outside of the database show deleted entries.

use diesel::prelude::*;
use diesel_async::RunQueryDsl;
use dotmac_db::{
    Connection, DbError, OptionalExtension, TenantId, TenantTx, Tx, on, types::Moment,
};
use serde::{Deserialize, Serialize};

use super::{Hash, SigningKeyId, chain::to_hex, signing::Signing, tables::audit_checkpoint};

/// What a checkpoint says. Its JSON is what is signed, in the canonical form of RFC 8785.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Statement {
    at: String,
    hash: Hash,
    key: Option<SigningKeyId>,
    number: i64,
    /// The hash of the statement of the checkpoint before it, if there was one.
    previous: Option<Hash>,
    tenant_id: TenantId,
}

impl Statement {
    /// It consists of texts and a number, so it can always be written.
    pub(super) fn text(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }

    /// What the next checkpoint names as its `previous`: SHA-256 of the canonical JSON.
    pub(super) fn digest(&self) -> Hash {
        Hash::of([self.text().as_bytes()])
    }
}

/// A checkpoint of a chain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Checkpoint {
    /// What it says.
    pub checkpoint: Statement,
    /// The signature of the canonical JSON of that, in 128 hexadecimal digits; `None` without a key.
    pub signature: Option<String>,
}

impl Checkpoint {
    /// The number of the link.
    #[must_use]
    pub fn number(&self) -> i64 {
        self.checkpoint.number
    }

    /// The hash of the link.
    #[must_use]
    pub fn hash(&self) -> Hash {
        self.checkpoint.hash
    }

    /// The hash of the statement of the checkpoint before it: SHA-256 of its canonical JSON.
    #[must_use]
    pub fn previous(&self) -> Option<Hash> {
        self.checkpoint.previous
    }

    /// When it was made.
    #[must_use]
    pub fn at(&self) -> &str {
        &self.checkpoint.at
    }

    /// The key that it is signed with.
    #[must_use]
    pub fn key(&self) -> Option<SigningKeyId> {
        self.checkpoint.key
    }

    /// Whose chain it is of.
    #[must_use]
    pub fn tenant(&self) -> TenantId {
        self.checkpoint.tenant_id
    }
}

#[derive(Queryable, Selectable)]
#[diesel(table_name = audit_checkpoint)]
pub(super) struct Row {
    tenant_id: TenantId,
    number: i64,
    hash: Vec<u8>,
    previous: Option<Vec<u8>>,
    pub(super) at: Moment,
    key_id: Option<SigningKeyId>,
    signature: Option<Vec<u8>>,
}

impl From<Row> for Checkpoint {
    fn from(row: Row) -> Self {
        Self {
            checkpoint: Statement {
                at: row.at.to_string(),
                // A hash that is none is that of no link.
                hash: Hash::from_bytes(&row.hash).unwrap_or_default(),
                key: row.key_id,
                number: row.number,
                previous: row
                    .previous
                    .map(|it| Hash::from_bytes(&it).unwrap_or_default()),
                tenant_id: row.tenant_id,
            },
            signature: row.signature.as_deref().map(to_hex),
        }
    }
}

/// At most `limit` checkpoints of the transaction's tenant below number `before`, newest first.
///
/// # Errors
///
/// [`DbError`].
pub async fn checkpoints(
    tx: &mut TenantTx,
    before: i64,
    limit: u16,
) -> Result<Vec<Checkpoint>, DbError> {
    let which = audit_checkpoint::tenant_id
        .eq(tx.tenant())
        .and(audit_checkpoint::number.lt(before));
    let query = audit_checkpoint::table
        .filter(which)
        .order(audit_checkpoint::number.desc())
        .limit(i64::from(limit));
    let rows: Vec<Row> = on!(tx, |c| {
        let query = query.select(Row::as_select());
        query.load(c).await
    })?;
    Ok(rows.into_iter().map(Into::into).collect())
}

/// The checkpoints of a tenant with numbers from `after` + 1 to `last`, oldest first.
pub(super) async fn between(
    c: &mut Connection,
    tenant: TenantId,
    after: i64,
    last: i64,
) -> Result<Vec<Row>, DbError> {
    let which = audit_checkpoint::tenant_id
        .eq(tenant)
        .and(audit_checkpoint::number.gt(after))
        .and(audit_checkpoint::number.le(last));
    let query = audit_checkpoint::table
        .filter(which)
        .order(audit_checkpoint::number);
    on!(c, |c| {
        let query = query.select(Row::as_select());
        query.load(c).await
    })
}

/// The newest checkpoint of a tenant.
pub(super) async fn newest(
    c: &mut Connection,
    tenant: TenantId,
) -> Result<Option<Checkpoint>, DbError> {
    let query = audit_checkpoint::table
        .filter(audit_checkpoint::tenant_id.eq(tenant))
        .order(audit_checkpoint::number.desc());
    let found: Option<Row> = on!(c, |c| {
        let query = query.select(Row::as_select());
        query.first(c).await
    })
    .optional()?;
    Ok(found.map(Into::into))
}

/// Writes the checkpoint of a link, behind the one whose digest is `previous`. A caller has proved that the link is right.
pub(super) async fn write(
    tx: &mut Tx,
    signing: &Signing,
    tenant_id: TenantId,
    (number, hash, previous): (i64, Hash, Option<Hash>),
    at: Moment,
) -> Result<Checkpoint, DbError> {
    let statement = Statement {
        at: at.to_string(),
        hash,
        key: signing.key(),
        number,
        previous,
        tenant_id,
    };
    let signature = signing.sign(&statement.text());
    let text = signature.as_deref().map(to_hex);
    let row = (
        audit_checkpoint::tenant_id.eq(tenant_id),
        audit_checkpoint::number.eq(number),
        audit_checkpoint::hash.eq(hash.bytes()),
        audit_checkpoint::previous.eq(previous.map(Hash::bytes)),
        audit_checkpoint::at.eq(at),
        audit_checkpoint::key_id.eq(statement.key),
        audit_checkpoint::signature.eq(signature),
    );
    let insert = diesel::insert_into(audit_checkpoint::table).values(row);
    on!(tx, |c| insert.execute(c).await)?;
    Ok(Checkpoint {
        checkpoint: statement,
        signature: text,
    })
}
