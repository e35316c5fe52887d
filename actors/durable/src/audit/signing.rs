//! The keys that checkpoints and the register are signed with (Ed25519).
//!
//! A key is made with the first signature, and kept sealed by the program's master key. One that does not open is not
//! trusted, so a key that was put into the database by another hand signs nothing and proves nothing.

use std::collections::{BTreeMap, BTreeSet};

use aws_lc_rs::{
    rand,
    signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey},
};
use diesel::prelude::*;
use diesel_async::RunQueryDsl;
use dotmac_db::{
    Connection, DbError, Tx, on,
    sealing::{Sealed, SealedColumn, Sealer, SealingError},
    types::Id,
};
use secrecy::ExposeSecret;
use zeroize::Zeroizing;

use super::{
    Checkpoint,
    chain::{from_hex, to_hex},
    tables::audit_key,
};

/// The column of the signing keys, for [`Resealing`](dotmac_db::sealing::Resealing) after a change of the master key.
pub const SIGNING_KEYS: SealedColumn = SealedColumn::new("audit_key", "seed");

const SEED_BYTES: usize = 32;

/// A signing key; a mark for ids.
pub enum SigningKey {}

/// The id of a signing key.
pub type SigningKeyId = Id<SigningKey>;

/// How checkpoints are made.
pub(super) enum Signing {
    /// With a signature.
    By {
        id: SigningKeyId,
        pair: Box<Ed25519KeyPair>,
    },
    /// Without: there is no key, and never was one.
    Unsigned,
    /// Not at all: there is a key, and none opens.
    Not(SealingError),
}

impl Signing {
    /// With the newest key that opens; one is made if `sealer` has a master key and there is none.
    pub(super) async fn load(tx: &mut Tx, sealer: Option<&Sealer>) -> Result<Self, DbError> {
        let mut keys = stored(tx).await?;
        keys.sort_by_key(|(id, _)| std::cmp::Reverse(*id));
        let Some(sealer) = sealer else {
            return Ok(match keys.is_empty() {
                true => Self::Unsigned,
                false => Self::Not(SealingError::NoKey {
                    origin: "a master key",
                }),
            });
        };
        let mut refused = None;
        for (id, seed) in keys {
            match opened(sealer, id, &seed) {
                Ok(pair) => {
                    let pair = Box::new(pair);
                    return Ok(Self::By { id, pair });
                }
                Err(error) => refused = refused.or(Some(error)),
            }
        }
        match refused {
            Some(error) => Ok(Self::Not(error)),
            None => Self::make(tx, sealer).await,
        }
    }

    async fn make(tx: &mut Tx, sealer: &Sealer) -> Result<Self, DbError> {
        let id = SigningKeyId::new();
        let (pair, sealed) = match new_key(sealer, id) {
            Ok(made) => made,
            Err(SealingError::NoKey { .. }) => return Ok(Self::Unsigned),
            Err(error) => return Ok(Self::Not(error)),
        };
        let row = (audit_key::id.eq(id), audit_key::seed.eq(sealed));
        let insert = diesel::insert_into(audit_key::table).values(row);
        on!(tx, |c| insert.execute(c).await)?;
        let pair = Box::new(pair);
        Ok(Self::By { id, pair })
    }

    /// With the newest key that opens; nothing is signed if none does, and no key is made.
    pub(super) async fn load_made(
        c: &mut Connection,
        sealer: Option<&Sealer>,
    ) -> Result<Self, DbError> {
        let mut keys = stored(c).await?;
        keys.sort_by_key(|(id, _)| std::cmp::Reverse(*id));
        let by = |(id, seed): (SigningKeyId, SealedSeed)| {
            let pair = Box::new(opened(sealer?, id, &seed).ok()?);
            Some(Self::By { id, pair })
        };
        Ok(keys.into_iter().find_map(by).unwrap_or(Self::Unsigned))
    }

    /// The key that signs, if there is one.
    pub(super) fn key(&self) -> Option<SigningKeyId> {
        match self {
            Self::By { id, .. } => Some(*id),
            Self::Unsigned | Self::Not(_) => None,
        }
    }

    /// The signature of a text; `None` without a key.
    pub(super) fn sign(&self, text: &str) -> Option<Vec<u8>> {
        match self {
            Self::By { pair, .. } => Some(pair.sign(text.as_bytes()).as_ref().to_vec()),
            Self::Unsigned | Self::Not(_) => None,
        }
    }
}

type SealedSeed = Sealed<[u8]>;

fn new_key(
    sealer: &Sealer,
    id: SigningKeyId,
) -> Result<(Ed25519KeyPair, SealedSeed), SealingError> {
    let mut seed = Zeroizing::new([0; SEED_BYTES]);
    rand::fill(&mut seed[..]).map_err(|_| SealingError::Encryption)?;
    let pair = Ed25519KeyPair::from_seed_unchecked(&seed[..]);
    let pair = pair.map_err(|_| SealingError::Encryption)?;
    Ok((pair, sealer.seal(SIGNING_KEYS.of(id), &seed[..])?))
}

fn opened(
    sealer: &Sealer,
    id: SigningKeyId,
    sealed: &SealedSeed,
) -> Result<Ed25519KeyPair, SealingError> {
    let seed = sealer.open(SIGNING_KEYS.of(id), sealed)?;
    let pair = Ed25519KeyPair::from_seed_unchecked(seed.expose_secret());
    pair.map_err(|_| SealingError::WrongType)
}

async fn stored(c: &mut Connection) -> Result<Vec<(SigningKeyId, SealedSeed)>, DbError> {
    let query = audit_key::table.select((audit_key::id, audit_key::seed));
    on!(c, |c| query.load(c).await)
}

/// A public key that signatures are checked with, in 64 hexadecimal digits.
pub type PublicKey = String;

/// What signatures are checked with.
#[derive(Clone, Debug, Default)]
pub struct SigningKeys {
    trusted: BTreeMap<SigningKeyId, PublicKey>,
    /// Keys that are there and do not open, as the master key is not at hand.
    unopened: BTreeSet<SigningKeyId>,
}

/// What a signature is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Signed {
    Right,
    /// There is none.
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
        let mut keys = Self::default();
        for (id, seed) in stored(c).await? {
            let opened = sealer.map(|sealer| opened(sealer, id, &seed));
            match opened {
                Some(Ok(pair)) => {
                    keys.trusted.insert(id, to_hex(pair.public_key().as_ref()));
                }
                None | Some(Err(SealingError::NoKey { .. } | SealingError::MissingKey { .. })) => {
                    keys.unopened.insert(id);
                }
                // It is not one that was put there by the sealer.
                Some(Err(_)) => {}
            }
        }
        // The sealer makes no second key: once one opens, another that does not is none of its own.
        if !keys.trusted.is_empty() {
            keys.unopened.clear();
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

    /// Whether the database has no key at all.
    pub(super) fn is_empty(&self) -> bool {
        self.trusted.is_empty() && self.unopened.is_empty()
    }

    pub(super) fn check(&self, checkpoint: &Checkpoint) -> Signed {
        match (checkpoint.key(), &checkpoint.signature) {
            (None, None) => Signed::Unsigned,
            (Some(key), Some(signature)) => {
                self.check_text(key, &checkpoint.checkpoint.text(), signature)
            }
            _ => Signed::Wrong,
        }
    }

    /// What a signature of `text`, in hexadecimal digits, is worth.
    pub(super) fn check_text(&self, key: SigningKeyId, text: &str, signature: &str) -> Signed {
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
        match public.verify(text.as_bytes(), &signature) {
            Ok(()) => Signed::Right,
            Err(_) => Signed::Wrong,
        }
    }
}
