//! The keys: read from text, followed while the process runs, wiped when they are replaced.

use std::{fmt, str::FromStr, sync::Arc};

use arc_swap::ArcSwap;
use aws_lc_rs::{
    aead::{AES_256_GCM, RandomizedNonceKey},
    constant_time, hmac,
};
use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD},
};
use secrecy::{ExposeSecret, SecretString};
use zeroize::Zeroizing;

/// Bytes of a master key.
const KEY_BYTES: usize = 32;

/// Keys at once: one in use, and those that are on their way in or out.
const MOST_KEYS: usize = 16;

/// The id of the key that sealed a value: derived from the key, and reveals nothing of it. Shown as 16 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyId([u8; Self::BYTES]);

impl KeyId {
    /// How long it is in an envelope.
    pub(super) const BYTES: usize = 8;

    pub(super) const fn from_bytes(bytes: [u8; Self::BYTES]) -> Self {
        Self(bytes)
    }

    pub(super) const fn as_bytes(&self) -> &[u8; Self::BYTES] {
        &self.0
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for KeyId {
    type Err = KeysError;

    fn from_str(text: &str) -> Result<Self, KeysError> {
        let bits = u64::from_str_radix(text, 16).ok();
        let bits = bits.filter(|_| text.len() == 2 * Self::BYTES);
        bits.map(|bits| Self(bits.to_be_bytes()))
            .ok_or(KeysError::NoKeyId)
    }
}

/// Why a text is not a list of keys. Does not repeat it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeysError {
    /// It holds nothing.
    #[error("it holds no key")]
    Empty,
    /// An item is not a key.
    #[error("key {0} is not 32 bytes in base64")]
    NotAKey(usize),
    /// An item is the same byte again and again.
    #[error("key {0} is not random")]
    NotRandom(usize),
    /// Two items are the same.
    #[error("key {0} is listed twice")]
    Twice(usize),
    /// There are too many.
    #[error("it holds more than {MOST_KEYS} keys")]
    TooMany,
    /// It is no id of a key.
    #[error("it is not the id of a key, 16 hexadecimal digits")]
    NoKeyId,
}

/// One key, ready for use.
pub(super) struct Key {
    pub(super) id: KeyId,
    /// Wipes itself.
    pub(super) cipher: RandomizedNonceKey,
}

/// The keys at one moment: the first seals, all open.
pub(super) struct Keys(Vec<Key>);

impl Keys {
    /// # Errors
    ///
    /// [`KeysError`] says which of them is wrong, counted from 1.
    fn parse(text: &SecretString) -> Result<Self, KeysError> {
        let items = text.expose_secret().split([',', ' ', '\n', '\r', '\t']);
        let mut masters: Vec<Zeroizing<Vec<u8>>> = Vec::new();
        let mut keys = Vec::new();
        for (index, item) in items.filter(|item| !item.is_empty()).enumerate() {
            let number = index + 1;
            if number > MOST_KEYS {
                return Err(KeysError::TooMany);
            }
            let master = decoded(item).ok_or(KeysError::NotAKey(number))?;
            if master.iter().all(|byte| *byte == master[0]) {
                return Err(KeysError::NotRandom(number));
            }
            let is_same = |other: &Zeroizing<Vec<u8>>| {
                constant_time::verify_slices_are_equal(other, &master).is_ok()
            };
            if masters.iter().any(is_same) {
                return Err(KeysError::Twice(number));
            }
            keys.push(Key::derive(&master).ok_or(KeysError::NotAKey(number))?);
            masters.push(master);
        }
        match keys.is_empty() {
            true => Err(KeysError::Empty),
            false => Ok(Self(keys)),
        }
    }

    pub(super) fn first(&self) -> Option<&Key> {
        self.0.first()
    }

    pub(super) fn get(&self, id: KeyId) -> Option<&Key> {
        self.0.iter().find(|key| key.id == id)
    }
}

impl Key {
    fn derive(master: &[u8]) -> Option<Self> {
        let master = hmac::Key::new(hmac::HMAC_SHA256, master);
        let id = hmac::sign(&master, b"dotmac key id v1");
        let id = id.as_ref().first_chunk().copied()?;
        // A tag is not wiped, so it is turned into bytes that are.
        let derived = hmac::sign(&master, b"dotmac sealing v1");
        let derived = Zeroizing::new(derived.as_ref().to_vec());
        Some(Self {
            id: KeyId(id),
            cipher: RandomizedNonceKey::new(&AES_256_GCM, &derived).ok()?,
        })
    }
}

fn decoded(item: &str) -> Option<Zeroizing<Vec<u8>>> {
    [&STANDARD, &STANDARD_NO_PAD, &URL_SAFE, &URL_SAFE_NO_PAD]
        .into_iter()
        .find_map(|engine| engine.decode(item).ok())
        .map(Zeroizing::new)
        .filter(|bytes| bytes.len() == KEY_BYTES)
}

/// The keys as they are now. Clones are the same, and follow each change.
#[derive(Clone)]
pub struct Keyring {
    keys: Arc<ArcSwap<Keys>>,
    origin: &'static str,
}

impl Keyring {
    /// Without a key so far. `origin` is the setting that they come from, for messages.
    #[must_use]
    pub fn new(origin: &'static str) -> Self {
        Self {
            keys: Arc::new(ArcSwap::from_pointee(Keys(Vec::new()))),
            origin,
        }
    }

    /// Takes the keys in `text` in place of the former: one or more, separated by commas or white space, each 32 bytes
    /// in base64. The first seals, all open.
    ///
    /// # Errors
    ///
    /// [`KeysError`]; the former keys stay.
    pub fn set(&self, text: &SecretString) -> Result<(), KeysError> {
        self.keys.store(Arc::new(Keys::parse(text)?));
        Ok(())
    }

    /// Whether `text` is what [`set`](Self::set) takes.
    ///
    /// # Errors
    ///
    /// [`KeysError`] if not.
    pub fn check(text: &SecretString) -> Result<(), KeysError> {
        Keys::parse(text).map(drop)
    }

    /// The ids of the keys, the one that seals first.
    #[must_use]
    pub fn ids(&self) -> Vec<KeyId> {
        self.now().0.iter().map(|key| key.id).collect()
    }

    pub(super) fn now(&self) -> Arc<Keys> {
        self.keys.load_full()
    }

    pub(super) const fn origin(&self) -> &'static str {
        self.origin
    }
}

/// The ids alone.
impl fmt::Debug for Keyring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Keyring").field(&self.ids()).finish()
    }
}
