//! The hash of a file, and what its sender says that it is: `Content-Digest` (RFC 9530) or `X-Content-SHA256`.

use aws_lc_rs::digest::{Context, SHA1_FOR_LEGACY_USE_ONLY, SHA256, SHA256_OUTPUT_LEN};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use dotmac_platform::routing::RequestHead;

use crate::FilesError;

const CONTENT_DIGEST: &str = "content-digest";
const X_CONTENT_SHA256: &str = "x-content-sha256";

/// A SHA-256.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sha256([u8; SHA256_OUTPUT_LEN]);

impl Sha256 {
    /// In 64 hexadecimal digits of lower case.
    pub(crate) fn hex(self) -> String {
        self.0.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    pub(crate) fn from_hex(text: &str) -> Option<Self> {
        let text = text.as_bytes();
        if text.len() != 2 * SHA256_OUTPUT_LEN {
            return None;
        }
        let mut bytes = [0; SHA256_OUTPUT_LEN];
        for (byte, digits) in bytes.iter_mut().zip(text.chunks(2)) {
            let high = char::from(digits[0]).to_digit(16)?;
            let low = char::from(digits[1]).to_digit(16)?;
            *byte = u8::try_from(high * 16 + low).ok()?;
        }
        Some(Self(bytes))
    }

    fn from_base64(text: &str) -> Option<Self> {
        Some(Self(STANDARD.decode(text).ok()?.try_into().ok()?))
    }
}

/// Hashes a file as it arrives.
pub(crate) struct Hasher(Context);

impl Hasher {
    pub(crate) fn new() -> Self {
        Self(Context::new(&SHA256))
    }

    pub(crate) fn read(&mut self, piece: &[u8]) {
        self.0.update(piece);
    }

    pub(crate) fn finish(self) -> Sha256 {
        let mut bytes = [0; SHA256_OUTPUT_LEN];
        bytes.copy_from_slice(self.0.finish().as_ref());
        Sha256(bytes)
    }
}

/// What the sender of a request says that the body's hash is.
#[derive(Clone, Debug, Default)]
pub(crate) struct Announced(Vec<(&'static str, Sha256)>);

impl Announced {
    /// Reads both headers.
    ///
    /// # Errors
    ///
    /// [`FilesError::Digest`] for one that is not understood, or that only has hashes of other algorithms: to take it for
    /// none would be to say that it was checked.
    pub(crate) fn of(head: &RequestHead) -> Result<Self, FilesError> {
        let mut announced = Vec::new();
        // A list may be in several lines.
        let lines: Option<Vec<_>> = head.headers(CONTENT_DIGEST).collect();
        let lines = lines.ok_or(FilesError::Digest(CONTENT_DIGEST, "must be text"))?;
        if !lines.is_empty() {
            announced.push((CONTENT_DIGEST, content_digest(&lines.join(","))?));
        }
        let once = FilesError::Digest(X_CONTENT_SHA256, "must be a single header of text");
        if let Some(text) = single(head, X_CONTENT_SHA256, once)? {
            let hash = Sha256::from_hex(text.trim());
            let hash = hash.ok_or(FilesError::Digest(
                X_CONTENT_SHA256,
                "has 64 hexadecimal digits",
            ))?;
            announced.push((X_CONTENT_SHA256, hash));
        }
        Ok(Self(announced))
    }

    /// The field `field` says that it is this one.
    pub(crate) fn by(field: &'static str, hash: Sha256) -> Self {
        Self(vec![(field, hash)])
    }

    /// Refuses a request with such a header, of which only a part is a file.
    ///
    /// # Errors
    ///
    /// [`FilesError::Digest`].
    pub(crate) fn refuse(head: &RequestHead) -> Result<(), FilesError> {
        for header in [CONTENT_DIGEST, X_CONTENT_SHA256] {
            if head.headers(header).next().is_some() {
                return Err(FilesError::Digest(
                    header,
                    "is only checked of a file that is the body of its request",
                ));
            }
        }
        Ok(())
    }

    /// Compares with the hash of what has arrived.
    ///
    /// # Errors
    ///
    /// [`FilesError::DigestMismatch`].
    pub(crate) fn check(&self, found: Sha256) -> Result<(), FilesError> {
        match self.0.iter().find(|(_, announced)| *announced != found) {
            Some((header, _)) => Err(FilesError::DigestMismatch { header, found }),
            None => Ok(()),
        }
    }
}

/// The only header of that name. One that is not understood must not be taken for absent.
///
/// # Errors
///
/// `otherwise`: there are several, or it is no text.
fn single<'h>(
    head: &'h RequestHead,
    name: &str,
    otherwise: FilesError,
) -> Result<Option<&'h str>, FilesError> {
    let mut lines = head.headers(name);
    match (lines.next(), lines.next()) {
        (None, _) => Ok(None),
        (Some(Some(line)), None) => Ok(Some(line)),
        _ => Err(otherwise),
    }
}

/// `sha-256=:…:`, possibly among others.
fn content_digest(text: &str) -> Result<Sha256, FilesError> {
    let wrong = |problem| FilesError::Digest(CONTENT_DIGEST, problem);
    let entries = text.split(',').map(|entry| entry.trim().split_once('='));
    let mut found = None;
    for entry in entries {
        let (algorithm, value) = entry.ok_or(wrong("is a list like `sha-256=:…:`"))?;
        if algorithm.trim().eq_ignore_ascii_case("sha-256") {
            let value = value
                .trim()
                .strip_prefix(':')
                .and_then(|it| it.strip_suffix(':'));
            let hash = value.and_then(Sha256::from_base64);
            found = Some(hash.ok_or(wrong("has 32 bytes in base64 between two colons"))?);
        }
    }
    found.ok_or(wrong(
        "has no `sha-256`, which is the algorithm that is checked",
    ))
}

/// What a request says that the hash of its own bytes is: `Upload-Checksum` of tus.
pub(crate) struct Checksum {
    context: Context,
    announced: Vec<u8>,
}

impl Checksum {
    /// Those that are understood, by their names in tus.
    pub(crate) const ALGORITHMS: &'static str = "sha1,sha256";

    /// Reads the header; `None` without one.
    ///
    /// # Errors
    ///
    /// [`FilesError::UploadHeader`].
    pub(crate) fn of(head: &RequestHead) -> Result<Option<Self>, FilesError> {
        const HEADER: &str = "upload-checksum";
        let wrong = |problem| FilesError::UploadHeader(HEADER, problem);
        let Some(text) = single(head, HEADER, wrong("must be a single header of text"))? else {
            return Ok(None);
        };
        let (algorithm, hash) = text
            .split_once(' ')
            .ok_or(wrong("is an algorithm and a hash in base64"))?;
        let algorithm = match algorithm {
            // What tus wants every server to have; it finds accidents, and no attacks.
            "sha1" => &SHA1_FOR_LEGACY_USE_ONLY,
            "sha256" => &SHA256,
            _ => return Err(wrong("has the algorithm `sha1` or `sha256`")),
        };
        let announced = STANDARD.decode(hash.trim());
        let announced = announced.map_err(|_| wrong("is an algorithm and a hash in base64"))?;
        Ok(Some(Self {
            context: Context::new(algorithm),
            announced,
        }))
    }

    pub(crate) fn read(&mut self, piece: &[u8]) {
        self.context.update(piece);
    }

    /// Compares with what was read.
    ///
    /// # Errors
    ///
    /// [`FilesError::Checksum`].
    pub(crate) fn check(&self) -> Result<(), FilesError> {
        if self.context.clone().finish().as_ref() == self.announced {
            Ok(())
        } else {
            Err(FilesError::Checksum)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_is_read_in_both_notations() {
        let mut hasher = Hasher::new();
        hasher.read(b"he");
        hasher.read(b"llo");
        let hash = hasher.finish();
        let hex = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824";
        assert_eq!(hash.hex(), hex);
        assert_eq!(Sha256::from_hex(&hex.to_uppercase()), Some(hash));
        let text = "sha-512=:YQ==:, sha-256=:LPJNul+wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ=:";
        assert_eq!(content_digest(text).ok(), Some(hash));
        for text in [
            "",
            "sha-256",
            "sha-256=abc",
            "sha-256=:abc:",
            "sha-512=:YQ==:",
            "md5=:YQ==:",
        ] {
            assert!(content_digest(text).is_err(), "{text}");
        }
        for text in [
            "",
            "2cf2",
            &hex[..63],
            &hex.replace('2', "g"),
            "+1".repeat(32).as_str(),
        ] {
            assert_eq!(Sha256::from_hex(text), None, "{text}");
        }
    }
}
