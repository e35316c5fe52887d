//! The pepper: a key without which a stolen table of hashes is worth nothing, since it is not in the database.
//!
//! Several are a list, with commas between: the first hashes, all verify. A hash names its pepper, so one that is not in the
//! list any more cannot be checked. It is hashed again with the first one at the next sign-in.
//!
//! `check` names peppers by their ids, as hashes do: `keyid=…`.

use std::sync::Arc;

use aws_lc_rs::digest;
use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, STANDARD_NO_PAD},
};
use dotmac_platform::{module::Finding, settings::SecretSetting};
use secrecy::{ExposeSecret, SecretString};
use zeroize::Zeroizing;

use crate::AccountsError;

/// Bytes of a pepper, as of the hash.
const BYTES: usize = 32;

/// Bytes of the id by which a hash names its pepper.
const ID: usize = 4;

/// The peppers that there are, followed live.
#[derive(Clone)]
pub(crate) struct Peppers(Arc<dyn Fn() -> Option<SecretString> + Send + Sync>);

/// One of them.
pub(super) struct Pepper {
    pub(super) id: [u8; ID],
    pub(super) key: Zeroizing<Vec<u8>>,
}

impl Peppers {
    /// Of the list that `text` gives at each moment.
    pub(crate) fn new(text: impl Fn() -> Option<SecretString> + Send + Sync + 'static) -> Self {
        Self(Arc::new(text))
    }

    #[cfg(test)]
    pub(crate) fn fixed(text: Option<&str>) -> Self {
        let text = text.map(SecretString::from);
        Self::new(move || text.clone())
    }

    /// What there is, for `check --connect`.
    ///
    /// # Errors
    ///
    /// What is wrong with it, and what to do.
    pub(crate) fn checked(&self) -> Result<Finding, String> {
        let peppers = self.now().map_err(|_| {
            format!(
                "DOTMAC_ACCOUNTS_PEPPER is {MALFORMED}: make one with `openssl rand -base64 32`"
            )
        })?;
        Ok(match described(&peppers) {
            Some(words) => words.into(),
            None => Finding::weak(format!(
                "{NONE}; set DOTMAC_ACCOUNTS_PEPPER, or put `accounts/pepper` into Vault"
            )),
        })
    }

    /// Those of this moment, the one that hashes first.
    ///
    /// # Errors
    ///
    /// [`AccountsError::PepperNotUsable`].
    pub(super) fn now(&self) -> Result<Vec<Pepper>, AccountsError> {
        match (self.0)() {
            Some(text) => read(&text),
            None => Ok(Vec::new()),
        }
    }
}

/// The message about a text that is no list of peppers.
pub(crate) const MALFORMED: &str = "no list of keys of 32 bytes in base64, with commas between";

const NONE: &str = "none: a stolen table of hashes can be attacked";

/// Whether the pepper of the settings is written out and is no list of keys.
pub(crate) fn is_malformed(setting: &SecretSetting) -> bool {
    setting.literal().is_some_and(|text| read(text).is_err())
}

/// What `check` can say of the pepper without asking Vault.
pub(crate) fn described_setting(setting: &SecretSetting, has_vault: bool) -> Finding {
    let written = setting.literal().and_then(|text| read(text).ok());
    if let Some(words) = written.and_then(|peppers| described(&peppers)) {
        return words.into();
    }
    match setting.reference() {
        Some(reference) => format!("in Vault, at {reference}; `check --connect` reads it").into(),
        None if has_vault => {
            "not set; looked for in Vault at `accounts/pepper`: `check --connect` says whether it is there".into()
        }
        None => Finding::weak(format!("{NONE}; set DOTMAC_ACCOUNTS_PEPPER")),
    }
}

/// The list that a text has.
fn read(text: &SecretString) -> Result<Vec<Pepper>, AccountsError> {
    let keys = text.expose_secret().split(',').map(str::trim);
    let keys = keys.filter(|key| !key.is_empty()).map(Pepper::read);
    keys.collect()
}

/// The ids of peppers, if there is one.
fn described(peppers: &[Pepper]) -> Option<String> {
    let ids: Vec<String> = peppers.iter().map(Pepper::shown_id).collect();
    let (first, others) = ids.split_first()?;
    Some(match others {
        [] => format!("passwords are hashed with the key `{first}`"),
        others => format!(
            "passwords are hashed with the key `{first}`, and verified with `{}` as well",
            others.join("`, `")
        ),
    })
}

impl Pepper {
    /// Its id as hashes have it.
    fn shown_id(&self) -> String {
        STANDARD_NO_PAD.encode(self.id)
    }

    fn read(text: &str) -> Result<Self, AccountsError> {
        let key = STANDARD.decode(text).map(Zeroizing::new);
        let key = key.map_err(|_| AccountsError::PepperNotUsable)?;
        if key.len() != BYTES {
            return Err(AccountsError::PepperNotUsable);
        }
        // Of its own hash, so that it says nothing about the key.
        let named = Zeroizing::new([b"dotmac pepper id".as_slice(), &key].concat());
        let digest = digest::digest(&digest::SHA256, &named);
        let id = digest.as_ref().first_chunk();
        Ok(Self {
            id: *id.ok_or(AccountsError::PepperNotUsable)?,
            key,
        })
    }
}

#[cfg(test)]
#[expect(clippy::expect_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    #[test]
    fn the_first_of_a_list_hashes_and_what_is_no_key_is_refused() {
        let (one, other) = (STANDARD.encode([1; 32]), STANDARD.encode([2; 32]));
        let both = Peppers::fixed(Some(&format!("{one}, {other}")));
        let both = both.now().expect("two keys");
        let alone = Peppers::fixed(Some(&one)).now().expect("one key");
        assert_eq!((both.len(), both[0].id), (2, alone[0].id));
        assert_ne!(both[0].id, both[1].id);
        let (first, second) = (both[0].shown_id(), both[1].shown_id());
        let words = described(&both).expect("two keys");
        assert!(words.contains(&first) && words.contains(&second), "{words}");
        assert!(!words.contains(&one) && !words.contains(&other), "{words}");
        assert!(Peppers::fixed(None).now().expect("none").is_empty());
        for wrong in ["pepper", &STANDARD.encode([1; 16])] {
            assert!(Peppers::fixed(Some(wrong)).now().is_err(), "{wrong}");
        }
    }
}
