//! What is exported: a chain, or a part of it, as lines of JSON that can be verified without the database.
//!
//! | line | what it has |
//! |---|---|
//! | first | `{"export": {"before": HASH, "first": NUMBER, "keys": {ID: PUBLIC KEY}, "tenant_id": ID}}` |
//! | for each entry | `{"entry": {…}, "hash": HASH, "personal": {…} or null}`: `hash` is SHA-256 of the hash before and the canonical JSON (RFC 8785) of `entry`; `personal` is what `entry.personal` says, decrypted |
//! | between them | `{"checkpoint": {…}, "signature": …}`: Ed25519 over the canonical JSON of `checkpoint` |
//! | last | `{"end": {"file": HASH, "hash": HASH, "key": ID or null, "last": NUMBER}, "signature": …}`: `file` is SHA-256 of all lines before, as they are written; Ed25519 over the canonical JSON of `end`, or null without a key |
//!
//! So the last line covers all of the file, the decrypted fields and the first line too; nothing is behind it.

mod verify;

use std::{collections::BTreeMap, sync::Arc};

use diesel::prelude::*;
use diesel_async::RunQueryDsl;
use dotmac_db::{Connection, DbError, OptionalExtension, TenantId, on, sealing::Sealer};
use serde::{Deserialize, Serialize};

pub use verify::{ExportError, VerifiedExport, verify_export};

use super::{
    Checkpoint, Filter, Hash, PublicKey, SigningKeyId, SigningKeys,
    chain::{Canonical, Hashing, to_hex},
    checkpoint,
    log::follow,
    signing::Signing,
    tables::{audit_chain, audit_link},
};

/// Entries of one reading.
const AT_ONCE: u16 = 200;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Begin {
    before: Hash,
    first: i64,
    keys: BTreeMap<SigningKeyId, PublicKey>,
    tenant_id: TenantId,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct End {
    file: Hash,
    hash: Hash,
    key: Option<SigningKeyId>,
    last: i64,
}

impl End {
    /// What is signed. It consists of texts and a number, so it can always be written.
    fn text(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }
}

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Line<'l> {
    Begin {
        export: Begin,
    },
    Entry {
        entry: Box<Canonical<'l>>,
        hash: Hash,
        personal: Option<BTreeMap<String, String>>,
    },
    Checkpoint(Checkpoint),
    End {
        end: End,
        signature: Option<String>,
    },
}

impl Line<'_> {
    /// It consists of texts and numbers, so it can always be written.
    fn write(&self, out: &mut String) {
        out.push_str(&serde_json::to_string(self).unwrap_or_default());
        out.push('\n');
    }
}

/// An export under way: text comes in pieces, each read by itself, so that no transaction is long.
#[derive(Clone)]
pub struct Export {
    tenant: TenantId,
    keys: Arc<SigningKeys>,
    sealer: Option<Sealer>,
    first: i64,
    /// The last number of the export.
    last: Option<i64>,
    /// That of the last entry that was written.
    number: i64,
    hash: Hash,
    /// That of all lines.
    file: Hashing,
    is_done: bool,
}

impl Export {
    /// Of the links from number `first` on, of all of them by default, up to `last` or to the end as it is at the beginning.
    /// Personal fields are decrypted with `sealer`, and public keys are those that it opens.
    #[must_use]
    pub fn new(
        tenant: TenantId,
        keys: Arc<SigningKeys>,
        sealer: Option<Sealer>,
        (first, last): (i64, Option<i64>),
    ) -> Self {
        Self {
            tenant,
            keys,
            sealer,
            first,
            last,
            number: 0,
            hash: Hash::default(),
            file: Hashing::new(),
            is_done: false,
        }
    }

    /// The next piece of text; `None` behind the last one.
    ///
    /// # Errors
    ///
    /// [`DbError`].
    pub async fn next(&mut self, c: &mut Connection) -> Result<Option<String>, DbError> {
        if self.is_done {
            return Ok(None);
        }
        let mut text = String::new();
        let end = match self.last.filter(|_| self.number > 0) {
            Some(last) => last,
            None => self.begin(c, &mut text).await?,
        };
        let behind = self.number;
        let sealer = self.sealer.as_ref();
        let all = Filter::default();
        let entries = follow(c, self.tenant, &all, behind, AT_ONCE, sealer).await?;
        let up_to = entries.last().map_or(behind, |it| it.number).min(end);
        let checkpoints = checkpoint::between(c, self.tenant, behind, up_to).await?;
        let mut checkpoints = checkpoints.into_iter().map(Checkpoint::from).peekable();
        for it in entries.iter().take_while(|it| it.number <= end) {
            Line::Entry {
                entry: Box::new(Canonical::new(it.number, &it.entry)),
                hash: it.hash,
                personal: it.personal.clone(),
            }
            .write(&mut text);
            (self.number, self.hash) = (it.number, it.hash);
            while let Some(checkpoint) = checkpoints.next_if(|at| at.number() <= it.number) {
                Line::Checkpoint(checkpoint).write(&mut text);
            }
        }
        self.file.update(text.as_bytes());
        if self.number >= end || entries.len() < usize::from(AT_ONCE) {
            self.end(c, &mut text).await?;
        }
        Ok(Some(text))
    }

    /// Writes the last line.
    async fn end(&mut self, c: &mut Connection, text: &mut String) -> Result<(), DbError> {
        let signing = Signing::load_made(c, self.sealer.as_ref()).await?;
        let end = End {
            file: self.file.finish(),
            hash: self.hash,
            key: signing.key(),
            last: self.number,
        };
        let signature = signing.sign(&end.text()).as_deref().map(to_hex);
        Line::End { end, signature }.write(text);
        self.is_done = true;
        Ok(())
    }

    /// Writes the first line; up to which number it goes.
    async fn begin(&mut self, c: &mut Connection, text: &mut String) -> Result<i64, DbError> {
        let query = audit_chain::table
            .find(self.tenant)
            .select((audit_chain::start, audit_chain::number));
        let found: Option<(i64, i64)> = on!(c, |c| query.first(c).await).optional()?;
        let (start, number) = found.unwrap_or_default();
        self.first = self.first.clamp(start + 1, number + 1);
        let end = self.last.map_or(number, |last| last.min(number));
        self.last = Some(end);
        let before = self.first - 1;
        let link = audit_link::table
            .find((self.tenant, before))
            .select(audit_link::hash);
        let hash: Option<Vec<u8>> = on!(c, |c| link.first(c).await).optional()?;
        let hash = match hash {
            Some(hash) => Hash::from_bytes(&hash).unwrap_or_default(),
            // Retention has left the checkpoint of that link.
            None => {
                let left = checkpoint::between(c, self.tenant, before - 1, before).await?;
                left.into_iter()
                    .next()
                    .map_or_else(Hash::default, |left| Checkpoint::from(left).hash())
            }
        };
        (self.number, self.hash) = (before, hash);
        Line::Begin {
            export: Begin {
                before: hash,
                first: self.first,
                keys: self.keys.public().clone(),
                tenant_id: self.tenant,
            },
        }
        .write(text);
        Ok(end)
    }
}
