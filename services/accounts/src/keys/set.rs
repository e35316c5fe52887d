//! The keys of the program at one moment: those that sign, those that verify, and what codes are computed with.

use std::collections::{BTreeMap, HashMap, HashSet};

use aws_lc_rs::hmac;
use dotmac_platform::db::types::Moment;
use jsonwebtoken::{DecodingKey, EncodingKey};
use zeroize::Zeroizing;

use crate::{AccountsError, jwt};

/// Bytes of the code at the end of a refresh token.
pub(crate) const CODE_BYTES: usize = 16;

/// The keys at one moment.
#[derive(Default)]
pub(crate) struct Keys {
    pub(super) signing: Vec<Signing>,
    /// Those whose private part this instance cannot open.
    pub(super) unusable: HashSet<String>,
    pub(super) verifying: HashMap<String, DecodingKey>,
    pub(super) published: Vec<serde_json::Value>,
    pub(super) secrets: BTreeMap<u8, Zeroizing<Vec<u8>>>,
    /// When the first of them is to be gone.
    pub(super) next_end: Option<Moment>,
}

/// A key that signs, from its time on.
pub(super) struct Signing {
    pub(super) kid: String,
    pub(super) activate_at: Moment,
    pub(super) private: EncodingKey,
}

impl Keys {
    /// A token that says `claims`.
    pub(crate) fn sign(&self, claims: &jwt::Claims) -> Result<String, AccountsError> {
        let now = Moment::now();
        let active = self.signing.iter().rev().find(|key| key.activate_at <= now);
        let Signing { kid, private, .. } = active.ok_or(AccountsError::NoSigningKey)?;
        jwt::sign(kid, private, claims)
    }

    /// The public keys that tokens are checked with, by their ids.
    pub(crate) fn verifying(&self) -> &HashMap<String, DecodingKey> {
        &self.verifying
    }

    /// The public keys as clients get them (RFC 7517).
    pub(crate) fn published(&self) -> &[serde_json::Value] {
        &self.published
    }

    /// The number of the secret that refresh tokens are made with now.
    pub(crate) fn secret_number(&self) -> Option<u8> {
        self.secrets.last_key_value().map(|(number, _)| *number)
    }

    /// The code of a refresh token, made with the secret of that number.
    pub(crate) fn refresh_code(&self, number: u8, parts: &[&[u8]]) -> Option<[u8; CODE_BYTES]> {
        self.code(number, b"dotmac refresh v1", parts)
    }

    /// What failures of an identifier are counted by: the same on all instances, and worthless to a reader of the table.
    pub(crate) fn throttle_key(
        &self,
        scope: &str,
        identifier: &str,
    ) -> Result<Vec<u8>, AccountsError> {
        let (number, _) = self
            .secrets
            .first_key_value()
            .ok_or(AccountsError::NoSigningKey)?;
        let code = self.code(
            *number,
            b"dotmac throttle v1",
            &[scope.as_bytes(), identifier.as_bytes()],
        );
        code.map(|code| code.to_vec())
            .ok_or(AccountsError::NoSigningKey)
    }

    /// What is stored of the code of a mail, which is short: worthless without a key that is not in the database in the clear.
    /// `place` is the row that it is of.
    pub(crate) fn mail_code(&self, place: &str, code: &str) -> Result<Vec<u8>, AccountsError> {
        let (number, _) = self
            .secrets
            .first_key_value()
            .ok_or(AccountsError::NoSigningKey)?;
        let parts = [place.as_bytes(), code.as_bytes()];
        let code = self.code(*number, b"dotmac mail v1", &parts);
        code.map(|code| code.to_vec())
            .ok_or(AccountsError::NoSigningKey)
    }

    fn code(&self, number: u8, label: &[u8], parts: &[&[u8]]) -> Option<[u8; CODE_BYTES]> {
        let secret = self.secrets.get(&number)?;
        let mut context = hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, secret));
        for part in std::iter::once(&label).chain(parts) {
            // Each with its length, so that none can run into the next.
            context.update(&(part.len() as u64).to_be_bytes());
            context.update(part);
        }
        context.sign().as_ref().first_chunk().copied()
    }

    /// Whether they are the public keys of `other` as well.
    pub(super) fn verifies_as(&self, other: &Self) -> bool {
        self.verifying.len() == other.verifying.len()
            && self
                .verifying
                .keys()
                .all(|kid| other.verifying.contains_key(kid))
    }

    pub(super) fn is_complete(&self) -> bool {
        let now = Moment::now();
        self.signing.iter().any(|key| key.activate_at <= now) && !self.secrets.is_empty()
    }
}
