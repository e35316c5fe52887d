//! Secrets at rest: values that are encrypted before they reach the database, and open only where they were put.
//!
//! A [`Sealer`] holds the keys. A [`SealedColumn`] says which column a value is for; together with the id of the row it
//! is authenticated with the value, so that one which is copied to another row, column or table does not open. What
//! is stored is a [`Sealed`], whose type says what is in it; what comes out is a `SecretBox`, which is wiped when it is
//! dropped and shows nothing in `Debug`.
//!
//! ```
//! use dotmac_db::{sealing::{Sealed, SealedColumn, Sealer, SealingError}, types::Id};
//! use secrecy::{ExposeSecret, SecretString};
//!
//! struct Endpoint;
//! /// The secret that deliveries are signed with.
//! const SECRET: SealedColumn = SealedColumn::new("endpoint", "secret");
//!
//! fn keep_and_use(sealer: &Sealer, id: Id<Endpoint>, secret: &SecretString) -> Result<(), SealingError> {
//!     let sealed: Sealed<str> = sealer.seal(SECRET.of(id), secret.expose_secret())?;
//!     // … insert `sealed` into a column of type `Binary`, read it again, and then:
//!     let secret: SecretString = sealer.open(SECRET.of(id), &sealed)?;
//!     Ok(())
//! }
//! ```
//!
//! After a change of keys [`Resealing`] moves what is stored to the first of them, batch by batch, and [`count`] proves
//! when a key is no longer needed.
//!
//! # The envelope
//!
//! One byte of version (1), 8 of key id, 12 of nonce, the ciphertext, 16 of tag; AES-256-GCM. The key of the cipher is
//! `HMAC-SHA-256(master key, "dotmac sealing v1")`, the id the first 8 bytes of `HMAC-SHA-256(master key, "dotmac key id
//! v1")`. Authenticated along with it: version and key id, then table, column and row, each with its length. Nonces are
//! random, so that a key is good for 2^32 values (NIST SP 800-38D, 8.3); change it before.

mod column;
mod envelope;
mod error;
mod key;
mod resealing;
#[cfg(test)]
mod tests;
mod value;

pub use column::{SealedColumn, SealedPlace};
pub use envelope::{Sealed, Sealer};
pub use error::SealingError;
pub use key::{KeyId, Keyring, KeysError};
pub use resealing::{ResealError, Resealed, Resealing, count};
pub use value::Sealable;
