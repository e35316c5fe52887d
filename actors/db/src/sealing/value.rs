//! Types that can be sealed, and their serialisation in memory that is wiped.

use std::io;

use secrecy::SecretBox;
use serde::{Serialize, de::DeserializeOwned};
use zeroize::{Zeroize, Zeroizing};

/// A value that can be sealed: text (`str`), bytes (`[u8]`), and any type that serde can write as JSON and `zeroize`
/// can wipe.
pub trait Sealable: Zeroize {
    /// The value as bytes.
    #[doc(hidden)]
    fn written(&self) -> Option<Zeroizing<Vec<u8>>>;

    /// The value from its bytes.
    #[doc(hidden)]
    fn read(bytes: Zeroizing<Vec<u8>>) -> Option<SecretBox<Self>>;
}

impl Sealable for str {
    fn written(&self) -> Option<Zeroizing<Vec<u8>>> {
        Some(Zeroizing::new(self.as_bytes().to_vec()))
    }

    fn read(mut bytes: Zeroizing<Vec<u8>>) -> Option<SecretBox<Self>> {
        match String::from_utf8(std::mem::take(&mut *bytes)) {
            Ok(text) => Some(text.into()),
            Err(error) => {
                error.into_bytes().zeroize();
                None
            }
        }
    }
}

impl Sealable for [u8] {
    fn written(&self) -> Option<Zeroizing<Vec<u8>>> {
        Some(Zeroizing::new(self.to_vec()))
    }

    fn read(mut bytes: Zeroizing<Vec<u8>>) -> Option<SecretBox<Self>> {
        Some(std::mem::take(&mut *bytes).into())
    }
}

impl<T: Serialize + DeserializeOwned + Zeroize> Sealable for T {
    fn written(&self) -> Option<Zeroizing<Vec<u8>>> {
        // Counted first: a buffer that grows would leave copies behind.
        let mut length = Length(0);
        serde_json::to_writer(&mut length, self).ok()?;
        let mut bytes = Zeroizing::new(Vec::with_capacity(length.0));
        serde_json::to_writer(&mut *bytes, self).ok()?;
        Some(bytes)
    }

    fn read(bytes: Zeroizing<Vec<u8>>) -> Option<SecretBox<Self>> {
        let value = serde_json::from_slice(&bytes).ok()?;
        Some(SecretBox::new(Box::new(value)))
    }
}

/// Counts what is written.
struct Length(usize);

impl io::Write for Length {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += bytes.len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
