//! The keys of the program: made when there are none, opened once, and read again when they change.
//!
//! A signing key is `next` until `activate_at`, then `active`, `retiring` from the time that its successor is active until
//! `retire_at`, and then gone. All of these are published; the newest active one that this instance can open signs. An
//! instance that cannot open the newest signs on with the one before, which is still accepted everywhere.

mod file;
mod rotation;
mod set;
mod vault;

use std::{
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use arc_swap::ArcSwap;
use dotmac_platform::{
    db::{Db, types::Moment},
    module::ModuleVault,
    sealing::{ResealError, Resealing, Sealer},
};
use jsonwebtoken::{DecodingKey, jwk::Jwk};
use secrecy::ExposeSecret;
use zeroize::Zeroizing;

pub(crate) use rotation::revoke;
pub(crate) use set::{CODE_BYTES, Keys};

use crate::{
    AccountsError,
    changes::Changes,
    settings::TokenAlg,
    store::{
        factors::TOTP,
        keys::{self as store, PRIVATE, SECRET, SigningKeyRow},
    },
};
use file::{key_in, stored_key};
use set::Signing;

/// How often tokens of unknown keys can have the keys read again.
const RELOADED_AFTER: Duration = Duration::from_secs(10);

/// Values that one transaction reseals.
const RESEALED: u32 = 100;

/// The way to the keys. Clones share them.
#[derive(Clone)]
pub(crate) struct KeyRing(Arc<Inner>);

struct Inner {
    db: Db,
    sealer: Sealer,
    /// Where private signing keys are kept, if it is there.
    vault: Option<ModuleVault>,
    /// Where a key to seal with is kept in development.
    key_file: Option<PathBuf>,
    access_ttl: Duration,
    /// What new keys are for.
    alg: TokenAlg,
    changes: Changes,
    now: ArcSwap<Keys>,
    /// One loads at a time; when the last one did.
    loading: tokio::sync::Mutex<Option<Instant>>,
}

impl KeyRing {
    /// With the key to seal with that is in the file already, so that it is there before anything needs it: the audit log
    /// begins to verify its signatures with the start.
    pub(crate) fn new(
        db: Db,
        sealer: Sealer,
        vault: Option<ModuleVault>,
        key_file: Option<PathBuf>,
        (access_ttl, alg): (Duration, TokenAlg),
        changes: Changes,
    ) -> Self {
        let ring = Self(Arc::new(Inner {
            db,
            sealer,
            vault,
            key_file,
            access_ttl,
            alg,
            changes,
            now: ArcSwap::default(),
            loading: tokio::sync::Mutex::default(),
        }));
        // None is made: `check` comes here too.
        ring.take_stored_key();
        ring
    }

    /// The keys, read from the database if they were not yet; made there if there are none.
    ///
    /// # Errors
    ///
    /// [`AccountsError::Db`], and [`AccountsError::Sealing`] without a key to seal with.
    pub(crate) async fn get(&self) -> Result<Arc<Keys>, AccountsError> {
        let now = self.0.now.load_full();
        if now.is_complete() {
            return Ok(now);
        }
        self.load().await
    }

    /// What seals the secrets of users; of use once there are [keys](Self::get).
    pub(crate) fn sealer(&self) -> &Sealer {
        &self.0.sealer
    }

    /// The keys as they are in the database at this moment.
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get).
    pub(crate) async fn load(&self) -> Result<Arc<Keys>, AccountsError> {
        let mut loaded = self.0.loading.lock().await;
        *loaded = Some(Instant::now());
        self.take_development_key();
        // What was read counts at once, complete or not: a key that was revoked is not in it.
        let keys = self.put(self.read().await?);
        if keys.is_complete() {
            return Ok(keys);
        }
        self.make_missing().await?;
        let keys = self.put(self.read().await?);
        if keys.is_complete() {
            Ok(keys)
        } else {
            Err(AccountsError::NoSigningKey)
        }
    }

    fn put(&self, keys: Keys) -> Arc<Keys> {
        let keys = Arc::new(keys);
        let former = self.0.now.swap(Arc::clone(&keys));
        if !former.verifies_as(&keys) {
            // A token may have been checked with the former keys just now.
            self.0.changes.forget_tokens();
        }
        keys
    }

    /// The public keys, by which tokens are checked: also on an instance that can open none of the private ones. Read again
    /// unless `are_trusted`.
    ///
    /// # Errors
    ///
    /// [`AccountsError::Db`], and what [`get`](Self::get) says if there are none.
    pub(crate) async fn to_verify(&self, are_trusted: bool) -> Result<Arc<Keys>, AccountsError> {
        let now = self.0.now.load_full();
        if are_trusted && !now.verifying.is_empty() {
            return Ok(now);
        }
        match self.load().await {
            Err(
                AccountsError::Sealing(_) | AccountsError::Vault(_) | AccountsError::NoSigningKey,
            ) if !self.0.now.load().verifying.is_empty() => Ok(self.0.now.load_full()),
            loaded => loaded,
        }
    }

    /// Whether one of the keys is to be gone by now.
    pub(crate) fn has_retired(&self) -> bool {
        let next_end = self.0.now.load().next_end;
        next_end.is_some_and(|end| end <= Moment::now())
    }

    /// Reseals what another key than the first one sealed, after a change of the master key.
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get).
    pub(crate) async fn reseal(&self) -> Result<(), AccountsError> {
        // In development the key to seal with may have to be made first.
        self.get().await?;
        for column in [PRIVATE, SECRET, TOTP] {
            let mut resealing = Resealing::new(column);
            loop {
                let step = resealing.step(&self.0.db, &self.0.sealer, RESEALED).await;
                let step = step.map_err(|error| match error {
                    ResealError::Db(error) => AccountsError::Db(error),
                    ResealError::Sealing(error) => AccountsError::Sealing(error),
                })?;
                if step.is_done {
                    break;
                }
            }
        }
        Ok(())
    }

    /// The keys, read again unless they were a moment ago: for a token of a key that is not known here, which another
    /// instance may have made just now.
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get).
    pub(crate) async fn get_newer(&self) -> Result<Arc<Keys>, AccountsError> {
        let loaded = *self.0.loading.lock().await;
        let is_new = loaded.is_some_and(|at| at.elapsed() < RELOADED_AFTER);
        self.to_verify(is_new).await
    }

    async fn read(&self) -> Result<Keys, AccountsError> {
        let (signing, secrets) = self
            .0
            .db
            .read("read keys", async |c| {
                let signing = store::signing(c, Moment::now()).await?;
                Ok::<_, AccountsError>((signing, store::secrets(c).await?))
            })
            .await?;
        let mut keys = Keys {
            next_end: signing.iter().filter_map(|row| row.retire_at).min(),
            ..Keys::default()
        };
        for row in signing {
            self.add_signing(&mut keys, row).await;
        }
        for row in secrets {
            let Ok(number) = u8::try_from(row.number) else {
                continue;
            };
            match self.0.sealer.open(SECRET.of(row.id), &row.secret_enc) {
                Ok(secret) => {
                    let secret = Zeroizing::new(secret.expose_secret().to_vec());
                    keys.secrets.insert(number, secret);
                }
                Err(error) => {
                    tracing::warn!(number, %error, "a key of refresh tokens cannot be opened with the master key of this instance")
                }
            }
        }
        Ok(keys)
    }

    async fn add_signing(&self, keys: &mut Keys, row: SigningKeyRow) {
        let Ok(jwk) = serde_json::from_value::<Jwk>(row.public_jwk.0.clone()) else {
            tracing::error!(kid = row.kid, "a stored signing key is malformed");
            return;
        };
        let Ok(public) = DecodingKey::from_jwk(&jwk) else {
            tracing::error!(kid = row.kid, "a stored signing key is malformed");
            return;
        };
        let Some(alg) = TokenAlg::of(public.family()) else {
            tracing::error!(kid = row.kid, "a stored signing key is malformed");
            return;
        };
        keys.verifying.insert(row.kid.clone(), public);
        keys.published.push(row.public_jwk.0.clone());
        match self.private(&row).await {
            Ok(private) => keys.signing.push(Signing {
                private: alg.private_key(&private),
                kid: row.kid,
                activate_at: row.activate_at,
            }),
            Err(error) => {
                let error = dotmac_causes::chain(&error);
                tracing::warn!(
                    kid = row.kid,
                    error,
                    "a signing key cannot be opened on this instance; another one signs"
                );
                keys.unusable.insert(row.kid);
            }
        }
    }

    /// The private part of a key, from where it lies.
    async fn private(&self, row: &SigningKeyRow) -> Result<Zeroizing<Vec<u8>>, AccountsError> {
        if !row.in_vault {
            let private = self.0.sealer.open(PRIVATE.of(row.id), &row.private_enc)?;
            return Ok(Zeroizing::new(private.expose_secret().to_vec()));
        }
        let vault = self.0.vault.as_ref().ok_or(AccountsError::NoVault)?;
        vault::read(vault, &row.kid).await
    }

    /// In development the key that values are sealed with may come from a file, which is made if it is not there.
    fn take_development_key(&self) {
        let keyring = self.0.sealer.keyring();
        let (Some(path), true) = (&self.0.key_file, keyring.ids().is_empty()) else {
            return;
        };
        let taken = key_in(path).and_then(|key| keyring.set(&key).map_err(std::io::Error::other));
        if let Err(error) = taken {
            tracing::error!(path = %path.display(), %error, "no sealing key: the file cannot be used or created");
        }
    }

    /// The same of a file that is there; what is wrong with it is reported by the first use.
    fn take_stored_key(&self) {
        let keyring = self.0.sealer.keyring();
        let (Some(path), true) = (&self.0.key_file, keyring.ids().is_empty()) else {
            return;
        };
        if let Ok(Some(key)) = stored_key(path) {
            keyring.set(&key).ok();
        }
    }
}
