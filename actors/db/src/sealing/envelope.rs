//! Sealing and opening, and the column type of what is sealed.

use std::{fmt, io::Write as _, marker::PhantomData};

use aws_lc_rs::aead::{Aad, NONCE_LEN, Nonce};
use diesel::{
    backend::Backend,
    deserialize::{self, FromSql, FromSqlRow},
    expression::AsExpression,
    pg::Pg,
    serialize::{self, IsNull, Output, ToSql},
    sql_types::Binary,
    sqlite::Sqlite,
};
use secrecy::SecretBox;
use zeroize::Zeroizing;

use super::{KeyId, Keyring, Sealable, SealedPlace, SealingError};

/// The version of the envelope, its first byte.
const VERSION: u8 = 1;

/// Version and key id.
pub(super) const HEAD_BYTES: usize = 1 + KeyId::BYTES;

/// Bytes of the tag of AES-GCM.
const TAG_BYTES: usize = 16;

/// A `T` that is encrypted, in a column of type `Binary`: `BYTEA` on PostgreSQL, `BLOB` on SQLite.
///
/// It opens with a [`Sealer`], at the place that it was sealed for. It cannot be serialized, and `Debug` shows the id of
/// its key.
#[derive(AsExpression, FromSqlRow)]
#[diesel(sql_type = Binary)]
pub struct Sealed<T: ?Sized + 'static>(Vec<u8>, PhantomData<fn() -> T>);

/// Seals and opens. Clones follow the same keys.
#[derive(Clone, Debug)]
pub struct Sealer(Keyring);

impl Sealer {
    /// With the keys of `keyring` as they are at each use.
    #[must_use]
    pub fn new(keyring: Keyring) -> Self {
        Self(keyring)
    }

    /// Encrypts `value` for `place`, with the first key.
    ///
    /// # Errors
    ///
    /// [`SealingError::NoKey`], [`SealingError::WrongType`] if it cannot be written down,
    /// [`SealingError::Encryption`].
    pub fn seal<T: Sealable + ?Sized>(
        &self,
        place: SealedPlace,
        value: &T,
    ) -> Result<Sealed<T>, SealingError> {
        let plain = value.written().ok_or(SealingError::WrongType)?;
        let bytes = self.seal_bytes(place, &plain)?;
        Ok(Sealed(bytes, PhantomData))
    }

    /// Decrypts what was sealed for `place`, with the key that it names.
    ///
    /// # Errors
    ///
    /// [`SealingError::MissingKey`] names the key; [`SealingError::Damaged`] if it was changed or moved;
    /// [`SealingError::NotSealed`], [`SealingError::WrongType`].
    pub fn open<T: Sealable + ?Sized>(
        &self,
        place: SealedPlace,
        sealed: &Sealed<T>,
    ) -> Result<SecretBox<T>, SealingError> {
        let plain = self.open_bytes(place, &sealed.0)?;
        T::read(plain).ok_or(SealingError::WrongType)
    }

    /// The keys that it uses.
    #[must_use]
    pub fn keyring(&self) -> &Keyring {
        &self.0
    }

    pub(super) fn seal_bytes(
        &self,
        place: SealedPlace,
        plain: &[u8],
    ) -> Result<Vec<u8>, SealingError> {
        let keys = self.0.now();
        let origin = self.0.origin();
        let key = keys.first().ok_or(SealingError::NoKey { origin })?;
        let head = head(key.id);
        let data = Aad::from(place.associated_data(&head));
        // With room for the tag: a buffer that grows would leave the plain text behind.
        let mut buffer = Zeroizing::new(Vec::with_capacity(plain.len() + TAG_BYTES));
        buffer.extend_from_slice(plain);
        let nonce = key.cipher.seal_in_place_append_tag(data, &mut *buffer);
        let nonce = nonce.map_err(|_| SealingError::Encryption)?;
        Ok([&head[..], nonce.as_ref(), &buffer[..]].concat())
    }

    pub(super) fn open_bytes(
        &self,
        place: SealedPlace,
        envelope: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>, SealingError> {
        let (head, rest) = envelope
            .split_at_checked(HEAD_BYTES)
            .ok_or(SealingError::NotSealed)?;
        let key_id = key_id(head).ok_or(SealingError::NotSealed)?;
        let (nonce, rest) = rest
            .split_first_chunk::<NONCE_LEN>()
            .ok_or(SealingError::NotSealed)?;
        let column = place.column;
        let keys = self.0.now();
        let key = keys.get(key_id).ok_or(SealingError::MissingKey {
            key: key_id,
            table: column.table,
            column: column.column,
            origin: self.0.origin(),
        })?;
        let mut buffer = Zeroizing::new(rest.to_vec());
        let data = Aad::from(place.associated_data(head));
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let plain = key.cipher.open_in_place(nonce, data, &mut buffer);
        let plain = plain.map_err(|_| SealingError::Damaged {
            table: column.table,
            column: column.column,
        })?;
        // Of its exact length, so that conversions do not move it.
        Ok(Zeroizing::new(plain.to_vec()))
    }
}

/// The begin of every envelope that is sealed with the key `id`.
pub(super) fn head(id: KeyId) -> [u8; HEAD_BYTES] {
    let mut head = [VERSION; HEAD_BYTES];
    head[1..].copy_from_slice(id.as_bytes());
    head
}

/// The key that an envelope with this begin names; `None` if it is no envelope of ours.
pub(super) fn key_id(envelope: &[u8]) -> Option<KeyId> {
    let (version, rest) = envelope.split_first()?;
    let id = rest.first_chunk()?;
    (*version == VERSION).then(|| KeyId::from_bytes(*id))
}

impl<T: ?Sized> Sealed<T> {
    /// The key that it is sealed with; `None` if it is no sealed value.
    #[must_use]
    pub fn key_id(&self) -> Option<KeyId> {
        key_id(&self.0)
    }
}

// Not derived, since that would want the same of `T`.
impl<T: ?Sized> Clone for Sealed<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone(), PhantomData)
    }
}

impl<T: ?Sized> fmt::Debug for Sealed<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.key_id() {
            Some(key) => write!(f, "Sealed(key {key})"),
            None => f.write_str("Sealed(no key)"),
        }
    }
}

impl<T: ?Sized> ToSql<Binary, Pg> for Sealed<T> {
    fn to_sql<'b>(&'b self, out: &mut Output<'b, '_, Pg>) -> serialize::Result {
        out.write_all(&self.0)?;
        Ok(IsNull::No)
    }
}

impl<T: ?Sized> ToSql<Binary, Sqlite> for Sealed<T> {
    fn to_sql<'b>(&'b self, out: &mut Output<'b, '_, Sqlite>) -> serialize::Result {
        out.set_value(self.0.as_slice());
        Ok(IsNull::No)
    }
}

impl<T: ?Sized, DB: Backend> FromSql<Binary, DB> for Sealed<T>
where
    Vec<u8>: FromSql<Binary, DB>,
{
    fn from_sql(bytes: DB::RawValue<'_>) -> deserialize::Result<Self> {
        Ok(Self(Vec::from_sql(bytes)?, PhantomData))
    }
}
