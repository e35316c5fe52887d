//! The keys of the house: made when there are none, opened once, and read again when they change.
//!
//! A signing key is `next` until `activate_at`, then `active`, `retiring` from the time that its successor is active until
//! `retire_at`, and then gone. All of these are published; the newest active one that this instance can open signs. An
//! instance that cannot open the newest signs on with the one before, which is still accepted everywhere.

use std::{
    collections::{BTreeMap, HashMap},
    io::Write as _,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use arc_swap::ArcSwap;
use aws_lc_rs::hmac;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use dotmac_platform::{
    db::{
        Db, Tx,
        types::{Json, Moment},
    },
    sealing::{ResealError, Resealing, Sealer},
};
use jsonwebtoken::{DecodingKey, EncodingKey, jwk::Jwk};
use secrecy::{ExposeSecret, SecretString};
use zeroize::Zeroizing;

use crate::{
    AccountsError, Act,
    changes::{Change, Changes},
    jwt::{self, NewKey},
    secret_text::random,
    store::{
        factors::TOTP,
        keys::{self as store, HouseKeyId, PRIVATE, SECRET, SecretKeyRow, SigningKeyRow},
    },
};

/// From when a key is published until it signs: verifiers keep the set of keys for 10 min.
const PUBLISHED_BEFORE: Duration = Duration::from_secs(11 * 60);

/// How long a key is accepted after the last token that it signed is over.
const KEPT_AFTER: Duration = Duration::from_secs(10 * 60);

/// How long a key signs.
const REPLACED_AFTER: Duration = Duration::from_secs(90 * 24 * 3600);

/// How often tokens of unknown keys can have the keys read again.
const RELOADED_AFTER: Duration = Duration::from_secs(10);

/// Values that are sealed anew with one transaction.
const RESEALED: u32 = 100;

/// Bytes of the code at the end of a refresh token.
pub(crate) const CODE_BYTES: usize = 16;

/// The way to the keys. Clones share them.
#[derive(Clone)]
pub(crate) struct KeyRing(Arc<Inner>);

struct Inner {
    db: Db,
    sealer: Sealer,
    /// Where a key to seal with is kept in development.
    key_file: Option<PathBuf>,
    access_ttl: Duration,
    changes: Changes,
    now: ArcSwap<Keys>,
    /// One loads at a time; when the last one did.
    loading: tokio::sync::Mutex<Option<Instant>>,
}

/// The keys at one moment.
#[derive(Default)]
pub(crate) struct Keys {
    signing: Vec<Signing>,
    verifying: HashMap<String, DecodingKey>,
    published: Vec<serde_json::Value>,
    secrets: BTreeMap<u8, Zeroizing<Vec<u8>>>,
    /// When the first of them is to be gone.
    next_end: Option<Moment>,
}

struct Signing {
    kid: String,
    activate_at: Moment,
    private: EncodingKey,
}

impl Keys {
    /// A token that says `claims`.
    pub(crate) fn sign(&self, claims: &jwt::Claims) -> Result<String, AccountsError> {
        let now = Moment::now();
        let active = self.signing.iter().rev().find(|key| key.activate_at <= now);
        let Signing { kid, private, .. } = active.ok_or(AccountsError::NoSigningKey)?;
        jwt::sign(kid, private, claims)
    }

    /// The public keys that tokens are checked with, by their ids.
    pub(crate) fn verifying(&self) -> &HashMap<String, DecodingKey> {
        &self.verifying
    }

    /// The public keys as clients get them (RFC 7517).
    pub(crate) fn published(&self) -> &[serde_json::Value] {
        &self.published
    }

    /// The number of the secret that refresh tokens are made with now.
    pub(crate) fn secret_number(&self) -> Option<u8> {
        self.secrets.last_key_value().map(|(number, _)| *number)
    }

    /// The code of a refresh token, made with the secret of that number.
    pub(crate) fn refresh_code(&self, number: u8, parts: &[&[u8]]) -> Option<[u8; CODE_BYTES]> {
        self.code(number, b"dotmac refresh v1", parts)
    }

    /// What failures of an identifier are counted by: the same on all instances, and worthless to a reader of the table.
    pub(crate) fn throttle_key(
        &self,
        scope: &str,
        identifier: &str,
    ) -> Result<Vec<u8>, AccountsError> {
        let (number, _) = self
            .secrets
            .first_key_value()
            .ok_or(AccountsError::NoSigningKey)?;
        let code = self.code(
            *number,
            b"dotmac throttle v1",
            &[scope.as_bytes(), identifier.as_bytes()],
        );
        code.map(|code| code.to_vec())
            .ok_or(AccountsError::NoSigningKey)
    }

    fn code(&self, number: u8, label: &[u8], parts: &[&[u8]]) -> Option<[u8; CODE_BYTES]> {
        let secret = self.secrets.get(&number)?;
        let mut context = hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, secret));
        for part in std::iter::once(&label).chain(parts) {
            // Each with its length, so that none can run into the next.
            context.update(&(part.len() as u64).to_be_bytes());
            context.update(part);
        }
        context.sign().as_ref().first_chunk().copied()
    }

    /// Whether they are the public keys of `other` as well.
    fn verifies_as(&self, other: &Self) -> bool {
        self.verifying.len() == other.verifying.len()
            && self
                .verifying
                .keys()
                .all(|kid| other.verifying.contains_key(kid))
    }

    fn is_complete(&self) -> bool {
        let now = Moment::now();
        self.signing.iter().any(|key| key.activate_at <= now) && !self.secrets.is_empty()
    }
}

impl KeyRing {
    pub(crate) fn new(
        db: Db,
        sealer: Sealer,
        key_file: Option<PathBuf>,
        access_ttl: Duration,
        changes: Changes,
    ) -> Self {
        Self(Arc::new(Inner {
            db,
            sealer,
            key_file,
            access_ttl,
            changes,
            now: ArcSwap::default(),
            loading: tokio::sync::Mutex::default(),
        }))
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
            Err(AccountsError::Sealing(_) | AccountsError::NoSigningKey)
                if !self.0.now.load().verifying.is_empty() =>
            {
                Ok(self.0.now.load_full())
            }
            loaded => loaded,
        }
    }

    /// Whether one of the keys is to be gone by now.
    pub(crate) fn has_retired(&self) -> bool {
        let next_end = self.0.now.load().next_end;
        next_end.is_some_and(|end| end <= Moment::now())
    }

    /// Seals anew what another key than the first one sealed, after a change of the master key.
    ///
    /// # Errors
    ///
    /// [`AccountsError::Db`], and [`AccountsError::Sealing`] without a key.
    pub(crate) async fn reseal(&self) -> Result<(), AccountsError> {
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
            self.add_signing(&mut keys, row);
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
                    tracing::warn!(number, %error, "a key of refresh tokens does not open here")
                }
            }
        }
        Ok(keys)
    }

    fn add_signing(&self, keys: &mut Keys, row: SigningKeyRow) {
        let Ok(jwk) = serde_json::from_value::<Jwk>(row.public_jwk.0.clone()) else {
            tracing::error!(kid = row.kid, "a stored signing key is none");
            return;
        };
        let Ok(public) = DecodingKey::from_jwk(&jwk) else {
            tracing::error!(kid = row.kid, "a stored signing key is none");
            return;
        };
        keys.verifying.insert(row.kid.clone(), public);
        keys.published.push(row.public_jwk.0);
        match self.0.sealer.open(PRIVATE.of(row.id), &row.private_enc) {
            Ok(private) => keys.signing.push(Signing {
                private: EncodingKey::from_ec_der(private.expose_secret()),
                kid: row.kid,
                activate_at: row.activate_at,
            }),
            Err(error) => {
                tracing::warn!(kid = row.kid, %error, "a signing key does not open here; another signs")
            }
        }
    }

    /// Makes what this instance can open none of. Two instances that begin together may each make one; both then count.
    async fn make_missing(&self) -> Result<(), AccountsError> {
        let (sealer, changes) = (self.0.sealer.clone(), self.0.changes.clone());
        let made = self.0.db.transaction("make keys", async move |tx| {
            let now = Moment::now();
            let opens = |row: &SigningKeyRow| {
                row.activate_at <= now && sealer.open(PRIVATE.of(row.id), &row.private_enc).is_ok()
            };
            if !store::signing(tx, now).await?.iter().any(opens) {
                let (_, id) = insert_signing(tx, &sealer, now).await?;
                changes.record(tx, Change::Keys(id)).await?;
            }
            let opens =
                |row: &SecretKeyRow| sealer.open(SECRET.of(row.id), &row.secret_enc).is_ok();
            if !store::secrets(tx).await?.iter().any(opens) {
                let id = insert_secret(tx, &sealer).await?;
                changes.record(tx, Change::Keys(id)).await?;
            }
            Ok::<_, AccountsError>(())
        });
        made.await
    }

    /// Has a new key take the place of the present one, after the time that verifiers need to learn of it. Returns its id.
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get).
    pub(crate) async fn rotate(&self) -> Result<String, AccountsError> {
        self.get().await?;
        let (sealer, changes, access_ttl) = (
            self.0.sealer.clone(),
            self.0.changes.clone(),
            self.0.access_ttl,
        );
        let rotated = self
            .0
            .db
            .transaction("rotate signing key", async move |tx| {
                rotate(tx, &sealer, &changes, access_ttl).await
            });
        let kid = rotated.await?;
        self.load().await?;
        Ok(kid)
    }

    /// Rotates if the newest key has signed for long enough.
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get).
    pub(crate) async fn rotate_if_due(&self) -> Result<(), AccountsError> {
        let keys = self.get().await?;
        let newest = keys.signing.iter().map(|key| key.activate_at).max();
        if newest.is_some_and(|newest| newest + REPLACED_AFTER < Moment::now()) {
            let kid = self.rotate().await?;
            tracing::info!(
                kid,
                "a new signing key is published; it signs in 11 minutes"
            );
        }
        Ok(())
    }

    /// In development the key that values are sealed with may come from a file, which is made if it is not there.
    fn take_development_key(&self) {
        let keyring = self.0.sealer.keyring();
        let (Some(path), true) = (&self.0.key_file, keyring.ids().is_empty()) else {
            return;
        };
        let taken = key_in(path).and_then(|key| keyring.set(&key).map_err(std::io::Error::other));
        if let Err(error) = taken {
            tracing::error!(path = %path.display(), %error, "no key to seal with: the file cannot be used or made");
        }
    }
}

async fn insert_signing(
    tx: &mut Tx,
    sealer: &Sealer,
    activate_at: Moment,
) -> Result<(String, HouseKeyId), AccountsError> {
    let new = NewKey::generate()?;
    let id = HouseKeyId::new();
    let row = SigningKeyRow {
        id,
        kid: new.kid.clone(),
        alg: "ES256".to_owned(),
        public_jwk: Json(published(&new.jwk)?),
        private_enc: sealer.seal::<[u8]>(PRIVATE.of(id), &new.pkcs8)?,
        created_at: Moment::now(),
        activate_at,
        retire_at: None,
        revoked_at: None,
    };
    store::insert_signing(tx, row).await?;
    Act::success("crypto_key_created", "signing_key", id.uuid()).record(tx);
    Ok((new.kid, id))
}

async fn insert_secret(tx: &mut Tx, sealer: &Sealer) -> Result<HouseKeyId, AccountsError> {
    let id = HouseKeyId::new();
    let row = SecretKeyRow {
        id,
        number: store::next_number(tx).await?,
        secret_enc: sealer.seal::<[u8]>(SECRET.of(id), &*random::<32>()?)?,
        created_at: Moment::now(),
    };
    store::insert_secret(tx, row).await?;
    Act::success("crypto_key_created", "refresh_key", id.uuid()).record(tx);
    Ok(id)
}

async fn rotate(
    tx: &mut Tx,
    sealer: &Sealer,
    changes: &Changes,
    access_ttl: Duration,
) -> Result<String, AccountsError> {
    let now = Moment::now();
    let former = store::signing(tx, now).await?;
    let activate_at = now + PUBLISHED_BEFORE;
    let (kid, id) = insert_signing(tx, sealer, activate_at).await?;
    for key in former {
        store::retire(tx, key.id, activate_at + access_ttl + KEPT_AFTER).await?;
    }
    changes.record(tx, Change::Keys(id)).await?;
    Ok(kid)
}

/// Lets the key of that id count no longer, anywhere. Another is made at once if no other signs.
///
/// # Errors
///
/// [`AccountsError::NotFound`] if there is none.
pub(crate) async fn revoke(tx: &mut Tx, changes: &Changes, kid: &str) -> Result<(), AccountsError> {
    let known = store::signing(tx, Moment::now()).await?;
    let key = known
        .iter()
        .find(|key| key.kid == kid)
        .ok_or(AccountsError::NotFound)?;
    store::revoke(tx, kid.to_owned()).await?;
    changes.record(tx, Change::Keys(key.id)).await?;
    Act::success("crypto_key_revoked", "signing_key", key.id.uuid()).record(tx);
    Ok(())
}

/// A public key as clients get it: what it is for, and nothing of ours.
fn published(jwk: &Jwk) -> Result<serde_json::Value, AccountsError> {
    let mut value = serde_json::to_value(jwk).map_err(|_| AccountsError::Signing)?;
    if let Some(fields) = value.as_object_mut() {
        fields.insert("use".to_owned(), "sig".into());
        fields.insert("alg".to_owned(), "ES256".into());
    }
    Ok(value)
}

/// The key in the file, which only its owner may read; made if there is none.
fn key_in(path: &Path) -> std::io::Result<SecretString> {
    match std::fs::read_to_string(path) {
        Ok(text) => return Ok(SecretString::from(text.trim().to_owned())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
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
            tracing::info!(path = %path.display(), "made a key to seal secrets with, for development");
            Ok(SecretString::from(text.as_str()))
        }
        // Another process was faster.
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(SecretString::from(
            std::fs::read_to_string(path)?.trim().to_owned(),
        )),
        Err(error) => Err(error),
    }
}
