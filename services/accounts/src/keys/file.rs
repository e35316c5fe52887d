//! The key that values are sealed with in development, kept in a file.

use std::{io::Write as _, os::unix::fs::OpenOptionsExt as _, path::Path};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use secrecy::SecretString;
use zeroize::Zeroizing;

use crate::secret_text::random;

/// The key in the file; `None` if there is no file.
pub(super) fn stored_key(path: &Path) -> std::io::Result<Option<SecretString>> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(Some(SecretString::from(text.trim().to_owned()))),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// The key in the file, which only its owner may read; made if there is none.
pub(super) fn key_in(path: &Path) -> std::io::Result<SecretString> {
    if let Some(key) = stored_key(path)? {
        return Ok(key);
    }
    let bytes = random::<32>().map_err(|_| std::io::Error::other("no random bytes"))?;
    let text = Zeroizing::new(STANDARD.encode(*bytes));
    let opened = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path);
    match opened {
        Ok(mut file) => {
            file.write_all(text.as_bytes())?;
            file.sync_all()?;
            tracing::info!(path = %path.display(), "created a sealing key for development");
            Ok(SecretString::from(text.as_str()))
        }
        // Another process was faster.
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(SecretString::from(
            std::fs::read_to_string(path)?.trim().to_owned(),
        )),
        Err(error) => Err(error),
    }
}
