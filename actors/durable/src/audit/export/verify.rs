//! Verifying a file that was exported, without the database.

use std::io::{self, BufRead};

use dotmac_db::TenantId;
use serde::Serialize;

use super::{
    super::{Checkpoint, Fault, Hash, PublicKey, SigningKeys, signing::Signed},
    Begin, Canonical, End, Hashing, Line,
};

/// The longest line that is read, in bytes: an entry, its personal fields in hexadecimal digits, and these again.
const LONGEST: u64 = 512 * 1024;

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
    /// The public key by which the file as a whole is signed, its decrypted fields too; `None` if it is not.
    pub file_key: Option<PublicKey>,
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
    #[error("line {line} is not a line of an audit export: {problem}")]
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
    /// Its lines are not those that were written before the last one.
    #[error("line {line}: the lines before it were changed after the export")]
    File {
        /// The last line, counted from 1.
        line: usize,
    },
    /// The file as a whole is not signed by a key that was given.
    #[error("line {line}: the file is not signed by a given key")]
    Unsigned {
        /// The last line, counted from 1.
        line: usize,
    },
}

/// Verifies what was exported, without the database. With `pinned` only signatures by these public keys count, and the file
/// must have one of them; else those count that the export itself names, which shows that it is of one piece, and not whose
/// it is.
///
/// # Errors
///
/// [`ExportError`] names the first line that is not right.
pub fn verify_export(
    mut lines: impl BufRead,
    pinned: &[PublicKey],
) -> Result<VerifiedExport, ExportError> {
    let mut verifier = None;
    let (mut text, mut line, mut file) = (String::new(), 0, Hashing::new());
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
        let before = file.finish();
        file.update(text.as_bytes());
        match (parsed, &mut verifier) {
            (Line::Begin { export }, None) => verifier = Some(FileVerifier::new(export, pinned)),
            (Line::Begin { .. }, Some(_)) => return Err(form("it begins twice")),
            (_, None) => return Err(form("it does not begin with `export`")),
            (Line::End { end, signature }, Some(verifier)) => {
                if (end.last, end.hash) != (verifier.found.last, verifier.found.hash) {
                    return Err(verifier.broken(line, Fault::EndMissing));
                }
                if end.file != before {
                    return Err(ExportError::File { line });
                }
                let is_right = verifier.end(&end, signature.as_deref());
                is_right.map_err(|fault| verifier.broken(line, fault))?;
                let mut written = String::new();
                Line::End { end, signature }.write(&mut written);
                if text != written {
                    return Err(form("its last line has unsigned content"));
                }
                if !pinned.is_empty() && verifier.found.file_key.is_none() {
                    return Err(ExportError::Unsigned { line });
                }
                let rest = lines.fill_buf();
                let rest = rest.map_err(|source| ExportError::Read { line, source })?;
                return match rest.is_empty() {
                    true => Ok(verifier.found.clone()),
                    false => Err(form("its last line is followed by others")),
                };
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
                file_key: None,
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

    /// What the last line says of the whole file.
    fn end(&mut self, end: &End, signature: Option<&str>) -> Result<(), Fault> {
        let (key, signature) = match (end.key, signature) {
            (None, None) => return Ok(()),
            (Some(key), Some(signature)) => (key, signature),
            _ => return Err(Fault::Signature),
        };
        match self.keys.check_text(key, &end.text(), signature) {
            Signed::Right => {
                self.found.file_key = self.keys.public().get(&key).cloned();
                Ok(())
            }
            _ => Err(Fault::Signature),
        }
    }

    fn broken(&self, line: usize, fault: Fault) -> ExportError {
        ExportError::Broken {
            line,
            number: self.found.last + 1,
            fault,
        }
    }
}
