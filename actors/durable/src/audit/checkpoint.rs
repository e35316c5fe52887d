//! Checkpoints: what the hash of a link was at some moment, signed, and handed out in the log. Someone who may change the
//! whole database can compute a chain anew, but cannot sign it; and what was handed out shows what is not there any more.
//!
//! The signing key (Ed25519) is made with the first checkpoint that can be signed, and kept sealed by the program's master
//! key together with the moment of its making: from then on a checkpoint without a signature counts as wrong. A key that
//! does not open is not trusted, so nobody can put one of their own in its place.

use std::collections::{BTreeMap, BTreeSet};

use aws_lc_rs::{
    rand,
    signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey},
};
use chrono::DateTime;
use diesel::prelude::*;
use diesel_async::RunQueryDsl;
use dotmac_db::{
    Connection, DbError, OptionalExtension, TenantId, TenantTx, Tx, on,
    sealing::{Sealed, SealedColumn, Sealer, SealingError},
    types::{Id, Moment},
};
use secrecy::ExposeSecret;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::{
    Hash,
    chain::{from_hex, to_hex},
    tables::{audit_checkpoint, audit_key},
};
use crate::clock::now;

/// The column of the signing keys, for [`Resealing`](dotmac_db::sealing::Resealing) after a change of the master key.
pub const SIGNING_KEYS: SealedColumn = SealedColumn::new("audit_key", "seed");

const SEED_BYTES: usize = 32;
/// The seed, and the moment of its making in microseconds.
const SEALED_BYTES: usize = SEED_BYTES + 8;

/// A signing key; a mark for ids.
pub enum SigningKey {}

/// The id of a signing key.
pub type SigningKeyId = Id<SigningKey>;

/// What a checkpoint says. Its JSON is what is signed, in the canonical form of RFC 8785.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Statement {
    at: String,
    hash: Hash,
    key: Option<SigningKeyId>,
    number: i64,
    tenant_id: TenantId,
}

impl Statement {
    /// It consists of texts and a number, so it can always be written.
    pub(super) fn text(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
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

/// Signs checkpoints.
pub(super) struct Signer {
    id: SigningKeyId,
    pair: Ed25519KeyPair,
}

/// How checkpoints are made.
pub(super) enum Signing {
    /// With a signature.
    By(Box<Signer>),
    /// Without: there is no key, and never was one.
    Unsigned,
    /// Not at all: there is a key, and it is not at hand.
    Not(SealingError),
}

impl Signing {
    /// With the key that there is; one is made if `sealer` has a master key and there is none.
    pub(super) async fn load(tx: &mut Tx, sealer: Option<&Sealer>) -> Result<Self, DbError> {
        let query = audit_key::table
            .order(audit_key::id.desc())
            .select((audit_key::id, audit_key::seed));
        let newest: Option<(SigningKeyId, Sealed<[u8]>)> =
            on!(tx, |c| query.first(c).await).optional()?;
        match (newest, sealer) {
            (None, None) => Ok(Self::Unsigned),
            (None, Some(sealer)) => match Signer::make(tx, sealer).await? {
                Err(SealingError::NoKey { .. }) => Ok(Self::Unsigned),
                Err(error) => Ok(Self::Not(error)),
                Ok(signer) => Ok(Self::By(Box::new(signer))),
            },
            (Some(_), None) => Ok(Self::Not(SealingError::NoKey {
                origin: "a master key",
            })),
            (Some((id, seed)), Some(sealer)) => Ok(match opened(sealer, id, &seed) {
                Ok((pair, _)) => Self::By(Box::new(Signer { id, pair })),
                Err(error) => Self::Not(error),
            }),
        }
    }

    /// Writes the checkpoint of a link; `None` if none can be made.
    pub(super) async fn check(
        &self,
        tx: &mut Tx,
        tenant_id: TenantId,
        (number, hash): (i64, Hash),
        at: Moment,
    ) -> Result<Option<Checkpoint>, DbError> {
        let signer = match self {
            Self::By(signer) => Some(signer),
            Self::Unsigned => None,
            Self::Not(_) => return Ok(None),
        };
        let statement = Statement {
            at: at.to_string(),
            hash,
            key: signer.map(|it| it.id),
            number,
            tenant_id,
        };
        let signature = signer.map(|it| it.pair.sign(statement.text().as_bytes()));
        let signature = signature.map(|it| it.as_ref().to_vec());
        let text = signature.as_deref().map(to_hex);
        let row = (
            audit_checkpoint::tenant_id.eq(tenant_id),
            audit_checkpoint::number.eq(number),
            audit_checkpoint::hash.eq(hash.0.to_vec()),
            audit_checkpoint::at.eq(at),
            audit_checkpoint::key_id.eq(statement.key),
            audit_checkpoint::signature.eq(signature),
        );
        let insert = diesel::insert_into(audit_checkpoint::table).values(row);
        on!(tx, |c| insert.execute(c).await)?;
        Ok(Some(Checkpoint {
            checkpoint: statement,
            signature: text,
        }))
    }
}

impl Signer {
    async fn make(tx: &mut Tx, sealer: &Sealer) -> Result<Result<Self, SealingError>, DbError> {
        let made = DateTime::from(now(tx).await?).timestamp_micros();
        let id = SigningKeyId::new();
        let mut bytes = Zeroizing::new([0; SEALED_BYTES]);
        let (seed, since) = bytes.split_at_mut(SEED_BYTES);
        since.copy_from_slice(&made.to_be_bytes());
        if rand::fill(seed).is_err() {
            return Ok(Err(SealingError::Encryption));
        }
        let Ok(pair) = Ed25519KeyPair::from_seed_unchecked(seed) else {
            return Ok(Err(SealingError::Encryption));
        };
        let sealed: Sealed<[u8]> = match sealer.seal(SIGNING_KEYS.of(id), &bytes[..]) {
            Ok(sealed) => sealed,
            Err(error) => return Ok(Err(error)),
        };
        let row = (audit_key::id.eq(id), audit_key::seed.eq(sealed));
        let insert = diesel::insert_into(audit_key::table).values(row);
        on!(tx, |c| insert.execute(c).await)?;
        Ok(Ok(Self { id, pair }))
    }
}

/// A key pair, and the moment of its making in microseconds.
fn opened(
    sealer: &Sealer,
    id: SigningKeyId,
    sealed: &Sealed<[u8]>,
) -> Result<(Ed25519KeyPair, i64), SealingError> {
    let bytes = sealer.open(SIGNING_KEYS.of(id), sealed)?;
    let parts = bytes.expose_secret().split_at_checked(SEED_BYTES);
    let (seed, since) = parts.ok_or(SealingError::WrongType)?;
    let since = since.try_into().map_err(|_| SealingError::WrongType)?;
    let pair = Ed25519KeyPair::from_seed_unchecked(seed).map_err(|_| SealingError::WrongType)?;
    Ok((pair, i64::from_be_bytes(since)))
}

/// A public key that signatures are checked with, in 64 hexadecimal digits.
pub type PublicKey = String;

/// What signatures of checkpoints are checked with.
#[derive(Clone, Debug, Default)]
pub struct SigningKeys {
    trusted: BTreeMap<SigningKeyId, PublicKey>,
    /// Keys that are there and do not open, as the master key is not at hand.
    unopened: BTreeSet<SigningKeyId>,
    /// When the first of the trusted ones was made.
    since: Option<Moment>,
}

/// What a signature is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Signed {
    Right,
    /// There is none, and there was no key.
    Unsigned,
    /// The key is not at hand.
    Unchecked,
    Wrong,
}

impl SigningKeys {
    /// The keys that `sealer` opens.
    ///
    /// # Errors
    ///
    /// [`DbError`].
    pub async fn load(c: &mut Connection, sealer: Option<&Sealer>) -> Result<Self, DbError> {
        let query = audit_key::table.select((audit_key::id, audit_key::seed));
        let rows: Vec<(SigningKeyId, Sealed<[u8]>)> = on!(c, |c| query.load(c).await)?;
        let mut keys = Self::default();
        for (id, seed) in rows {
            let opened = sealer.map(|sealer| opened(sealer, id, &seed));
            match opened {
                Some(Ok((pair, since))) => {
                    let since = DateTime::from_timestamp_micros(since).map(Moment::from);
                    keys.since = [keys.since, since].into_iter().flatten().min();
                    keys.trusted.insert(id, to_hex(pair.public_key().as_ref()));
                }
                None | Some(Err(SealingError::NoKey { .. } | SealingError::MissingKey { .. })) => {
                    keys.unopened.insert(id);
                }
                // It is not one that was put there by the sealer.
                Some(Err(_)) => {}
            }
        }
        Ok(keys)
    }

    /// Those with these public keys, each with its id: for what was exported.
    #[must_use]
    pub fn pinned(keys: BTreeMap<SigningKeyId, PublicKey>) -> Self {
        Self {
            trusted: keys,
            ..Self::default()
        }
    }

    /// The public keys by their ids.
    #[must_use]
    pub fn public(&self) -> &BTreeMap<SigningKeyId, PublicKey> {
        &self.trusted
    }

    pub(super) fn check(&self, checkpoint: &Checkpoint, at: Option<Moment>) -> Signed {
        let (Some(key), Some(signature)) = (checkpoint.key(), &checkpoint.signature) else {
            let must_be_signed = self.since.zip(at).is_some_and(|(since, at)| since <= at);
            return match must_be_signed {
                true => Signed::Wrong,
                false => Signed::Unsigned,
            };
        };
        let Some(public) = self.trusted.get(&key) else {
            return match self.unopened.contains(&key) {
                true => Signed::Unchecked,
                false => Signed::Wrong,
            };
        };
        let (Some(public), Some(signature)) = (from_hex(public), from_hex(signature)) else {
            return Signed::Wrong;
        };
        let public = UnparsedPublicKey::new(&ED25519, public);
        let text = checkpoint.checkpoint.text();
        match public.verify(text.as_bytes(), &signature) {
            Ok(()) => Signed::Right,
            Err(_) => Signed::Wrong,
        }
    }
}
