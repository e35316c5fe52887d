//! The messages of [`SecretsActor`](super::SecretsActor).

use std::collections::BTreeMap;

use actix::Message;
use secrecy::SecretString;

use super::{Expected, SecretPath, SecretReference, SecretsError, Wanted};

/// Asks for one secret by its place, beyond those that the process is configured with. May be
/// repeated at will. The copy is at most one refresh interval old.
///
/// # Errors
///
/// [`SecretsError`] says what failed; asking again later is safe.
#[derive(Clone, Debug, Message)]
#[rtype(result = "Result<SecretString, SecretsError>")]
pub struct GetSecret {
    /// Which secret, and which field of it.
    pub reference: SecretReference,
}

/// Writes all fields of one secret, in the place of those that there are; answers the new version, `None` in KV v1. What
/// [`GetSecret`] answers from then on is what was written.
///
/// # Errors
///
/// As [`Vault::write`](super::Vault::write). After [`SecretsError::UnderWay`] it may be written or not: read it before it is written
/// again, or write with [`Expected::Version`].
#[derive(Clone, Debug, Message)]
#[rtype(result = "Result<Option<u64>, SecretsError>")]
pub struct PutSecret {
    /// Which secret, below the mount.
    pub path: SecretPath,
    /// All of its fields.
    pub fields: BTreeMap<String, SecretString>,
    /// Which version it takes the place of.
    pub expected: Expected,
}

/// Reads everything again now; for SIGHUP. Idempotent: a call during a read shares the next one, so that the answer
/// reflects the state of Vault at the time of the call. Answers the settings whose secret differs from what was served
/// before, in alphabetical order.
///
/// # Errors
///
/// The first [`SecretsError`] among what could not be read. The former value stays in use there; what
/// could be read is published all the same.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "Result<Vec<String>, SecretsError>")]
pub struct RefreshNow;

/// Replaces what is wanted, after a reload of the settings, and reads everything again as
/// [`RefreshNow`] does. It outlives this life of the actor. May be repeated at will.
///
/// # Errors
///
/// As [`RefreshNow`].
#[derive(Clone, Debug, Message)]
#[rtype(result = "Result<Vec<String>, SecretsError>")]
pub struct Want {
    /// All secrets of the process and where each comes from.
    pub wanted: Vec<Wanted>,
}
