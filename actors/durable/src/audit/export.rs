//! What is exported: a chain, or a part of it, as lines of JSON that anybody can verify without the database.
//!
//! | line | what it has |
//! |---|---|
//! | first | `{"export": {"before": HASH, "first": NUMBER, "keys": {ID: PUBLIC KEY}, "tenant_id": ID}}` |
//! | for each entry | `{"entry": {…}, "hash": HASH, "personal": {…} or null}`: `hash` is SHA-256 of the hash before and the canonical JSON (RFC 8785) of `entry`; `personal` is what `entry.personal` says, decrypted |
//! | between them | `{"checkpoint": {…}, "signature": …}`: Ed25519 over the canonical JSON of `checkpoint` |
//! | last | `{"end": {"hash": HASH, "last": NUMBER}}` |

use std::{
    collections::BTreeMap,
    io::{self, BufRead},
    sync::Arc,
};

use diesel::prelude::*;
use diesel_async::RunQueryDsl;
use dotmac_db::{Connection, DbError, OptionalExtension, TenantId, on, sealing::Sealer};
use serde::{Deserialize, Serialize};

use super::{
    Checkpoint, Fault, Filter, Hash, PublicKey, SigningKeyId, SigningKeys,
    chain::Canonical,
    checkpoint,
    log::follow,
    signing::Signed,
    tables::{audit_chain, audit_link},
};

/// Entries of one reading.
const AT_ONCE: u16 = 200;

/// The longest line that is read, in bytes: an entry, its personal fields in hexadecimal digits, and these again.
const LONGEST: u64 = 512 * 1024;

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
    hash: Hash,
    last: i64,
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
        if self.number >= end || entries.len() < usize::from(AT_ONCE) {
            let (hash, last) = (self.hash, self.number);
            Line::End {
                end: End { hash, last },
            }
            .write(&mut text);
            self.is_done = true;
        }
        Ok(Some(text))
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

/// What verifying an export has found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct VerifiedExport {
    /// Whose it is.
    pub tenant: TenantId,
    /// The number of its first entry.
    pub first: i64,
    /// That of the last one; smaller than `first` if it has none.
    pub last: i64,
    /// The hash of that one.
    pub hash: Hash,
    /// The number of the last entry that a signature covers.
    pub signed: Option<i64>,
    /// The public keys of those signatures.
    pub keys: Vec<PublicKey>,
}

/// Why an export is not right.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// It could not be read.
    #[error("line {line} cannot be read")]
    Read {
        /// The line, counted from 1.
        line: usize,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It is not one that was exported.
    #[error("line {line} is not one of an export of the audit log: {problem}")]
    Form {
        /// The line, counted from 1.
        line: usize,
        /// What is wrong.
        problem: String,
    },
    /// It was changed.
    #[error("line {line}, number {number}: {fault}")]
    Broken {
        /// The line, counted from 1.
        line: usize,
        /// The number of the entry.
        number: i64,
        /// What is wrong.
        fault: Fault,
    },
}

/// Verifies what was exported, without the database. With `pinned` only signatures by these public keys count; else those
/// that the export itself names, which shows that it is of one piece, and not whose it is.
///
/// # Errors
///
/// [`ExportError`] names the first line that is not right.
pub fn verify_export(
    mut lines: impl BufRead,
    pinned: &[PublicKey],
) -> Result<VerifiedExport, ExportError> {
    let mut verifier = None;
    let (mut text, mut line) = (String::new(), 0);
    loop {
        text.clear();
        line += 1;
        let read = io::Read::take(&mut lines, LONGEST).read_line(&mut text);
        let read = read.map_err(|source| ExportError::Read { line, source })?;
        if read == 0 {
            let problem = "it ends without its last line".to_owned();
            return Err(ExportError::Form { line, problem });
        }
        let form = |problem: &str| ExportError::Form {
            line,
            problem: problem.to_owned(),
        };
        let parsed: Line<'_> =
            serde_json::from_str(&text).map_err(|error| form(&error.to_string()))?;
        match (parsed, &mut verifier) {
            (Line::Begin { export }, None) => verifier = Some(FileVerifier::new(export, pinned)),
            (Line::Begin { .. }, Some(_)) => return Err(form("it begins twice")),
            (_, None) => return Err(form("it does not begin with `export`")),
            (Line::End { end }, Some(verifier)) => {
                if (end.last, end.hash) != (verifier.found.last, verifier.found.hash) {
                    return Err(verifier.broken(line, Fault::EndMissing));
                }
                return Ok(verifier.found.clone());
            }
            (Line::Entry { entry, hash, .. }, Some(verifier)) => {
                verifier
                    .entry(&entry, hash)
                    .map_err(|fault| verifier.broken(line, fault))?;
            }
            (Line::Checkpoint(checkpoint), Some(verifier)) => {
                verifier
                    .checkpoint(&checkpoint)
                    .map_err(|fault| verifier.broken(line, fault))?;
            }
        }
    }
}

struct FileVerifier {
    keys: SigningKeys,
    found: VerifiedExport,
}

impl FileVerifier {
    fn new(export: Begin, pinned: &[PublicKey]) -> Self {
        let is_trusted = |key: &PublicKey| pinned.is_empty() || pinned.contains(key);
        let keys = export.keys.into_iter();
        Self {
            keys: SigningKeys::pinned(keys.filter(|(_, key)| is_trusted(key)).collect()),
            found: VerifiedExport {
                tenant: export.tenant_id,
                first: export.first,
                last: export.first - 1,
                hash: export.before,
                signed: None,
                keys: Vec::new(),
            },
        }
    }

    fn entry(&mut self, entry: &Canonical<'_>, hash: Hash) -> Result<(), Fault> {
        let found = &mut self.found;
        if entry.number != found.last + 1 {
            return Err(Fault::EntryMissing);
        }
        let is_right = found.hash.then(&entry.text()) == hash;
        if !is_right || entry.tenant_id != found.tenant.to_string() {
            return Err(Fault::Changed);
        }
        (found.last, found.hash) = (entry.number, hash);
        Ok(())
    }

    fn checkpoint(&mut self, checkpoint: &Checkpoint) -> Result<(), Fault> {
        let found = &mut self.found;
        let place = (checkpoint.tenant(), checkpoint.number(), checkpoint.hash());
        if place != (found.tenant, found.last, found.hash) {
            return Err(Fault::Checkpoint);
        }
        match self.keys.check(checkpoint) {
            Signed::Unsigned | Signed::Unchecked => {}
            Signed::Wrong => return Err(Fault::Signature),
            Signed::Right => {
                found.signed = Some(found.last);
                let key = checkpoint.key().and_then(|id| self.keys.public().get(&id));
                let key = key.filter(|key| !found.keys.contains(key));
                found.keys.extend(key.cloned());
            }
        }
        Ok(())
    }

    fn broken(&self, line: usize, fault: Fault) -> ExportError {
        ExportError::Broken {
            line,
            number: self.found.last + 1,
            fault,
        }
    }
}
