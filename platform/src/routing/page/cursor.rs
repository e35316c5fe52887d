//! Cursors: the sort key of the last item of a page, authenticated together with the tenant, the list and its filter. One that
//! was tampered with, or made for another list, is refused (400 `invalid_cursor`).

use std::sync::Arc;

use aws_lc_rs::{constant_time, hmac};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use dotmac_db::TenantId;
use dotmac_secrets::{ExposeSecret, SecretWatch};
use serde::{Serialize, de::DeserializeOwned};

use crate::routing::ProblemType;

/// A longer text is no cursor of ours.
const LONGEST: usize = 1024;

const TAG_BYTES: usize = 16;

pub(in crate::routing) const INVALID: ProblemType =
    ProblemType::new(400, "invalid_cursor", "the cursor is not one of this list");

/// Authenticates cursors: with the program's secret, the same on every instance, or with a key of this process alone.
#[derive(Clone)]
pub(crate) struct CursorKey {
    secret: Option<SecretWatch>,
    own: Arc<[u8; 32]>,
}

impl CursorKey {
    /// Follows the program's secret. Without one the cursors of this process are refused by others, and after a restart.
    ///
    /// # Errors
    ///
    /// The operating system has no random bytes.
    pub(crate) fn new(secret: Option<SecretWatch>) -> Result<Self, getrandom::Error> {
        let mut own = [0; 32];
        // From the system: the first bytes of aws-lc's own generator take it 30 ms, which every start would wait for.
        getrandom::fill(&mut own)?;
        Ok(Self {
            secret,
            own: Arc::new(own),
        })
    }

    /// Derived, so that the secret can have other uses.
    fn key(&self) -> hmac::Key {
        let secret = self.secret.as_ref().and_then(SecretWatch::get);
        let secret = secret
            .as_ref()
            .map_or(self.own.as_slice(), |it| it.expose_secret().as_bytes());
        let secret = hmac::Key::new(hmac::HMAC_SHA256, secret);
        hmac::Key::new(
            hmac::HMAC_SHA256,
            hmac::sign(&secret, b"dotmac cursor v1").as_ref(),
        )
    }

    fn tag(&self, scope: &CursorScope<'_>, position: &[u8]) -> hmac::Tag {
        let mut context = hmac::Context::with_key(&self.key());
        // Each part with its length, so that none can run into the next.
        for part in [
            scope.tenant.uuid().as_bytes().as_slice(),
            scope.list.as_bytes(),
            scope.sort.as_bytes(),
            scope.filter.as_bytes(),
            position,
        ] {
            context.update(&(part.len() as u64).to_be_bytes());
            context.update(part);
        }
        context.sign()
    }

    pub(in crate::routing) fn seal(
        &self,
        scope: &CursorScope<'_>,
        position: &impl Serialize,
    ) -> Option<String> {
        let position = serde_json::to_vec(position).ok()?;
        let tag = self.tag(scope, &position);
        let mut bytes = tag.as_ref()[..TAG_BYTES].to_vec();
        bytes.extend(position);
        Some(URL_SAFE_NO_PAD.encode(bytes))
    }

    pub(in crate::routing) fn open<K: DeserializeOwned>(
        &self,
        scope: &CursorScope<'_>,
        cursor: &str,
    ) -> Option<K> {
        if cursor.len() > LONGEST {
            return None;
        }
        let bytes = URL_SAFE_NO_PAD.decode(cursor).ok()?;
        let (tag, position) = bytes.split_at_checked(TAG_BYTES)?;
        let right = self.tag(scope, position);
        constant_time::verify_slices_are_equal(tag, &right.as_ref()[..TAG_BYTES]).ok()?;
        serde_json::from_slice(position).ok()
    }
}

/// What a cursor is good for: one list of one tenant, filtered and sorted in one way.
#[derive(Clone, Copy, Debug)]
pub struct CursorScope<'a> {
    /// Whose list.
    pub tenant: TenantId,
    /// Which list: `notes`.
    pub list: &'a str,
    /// Its order: the text of a [`Sort`](crate::routing::Sort), or empty if it has only one.
    pub sort: &'a str,
    /// The filter in any notation that is different for different filters; empty without one.
    pub filter: &'a str,
}

impl<'a> CursorScope<'a> {
    /// The list `list` of a tenant, which has one order and no filter.
    #[must_use]
    pub const fn of(tenant: TenantId, list: &'a str) -> Self {
        Self {
            tenant,
            list,
            sort: "",
            filter: "",
        }
    }
}
