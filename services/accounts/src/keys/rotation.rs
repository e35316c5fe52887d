//! The life of the program's keys: made when there are none, replaced when they are due, revoked at once.

use std::time::Duration;

use dotmac_platform::{
    audit::Audited,
    db::{
        Tx,
        types::{Json, Moment},
    },
    sealing::Sealer,
};

use super::{KeyRing, vault};
use crate::{
    AccountsError,
    audit::{Act, CRYPTO_KEY_CREATED, CRYPTO_KEY_REVOKED, Resource},
    changes::{Change, Changes},
    jwt::NewKey,
    secret_text::random,
    settings::TokenAlg,
    store::keys::{self as store, HouseKeyId, PRIVATE, SECRET, SecretKeyRow, SigningKeyRow},
};

/// From when a key is published until it signs: verifiers keep the set of keys for 10 min.
const PUBLISHED_BEFORE: Duration = Duration::from_secs(11 * 60);

/// How long a key is accepted after the last token that it signed is over.
const KEPT_AFTER: Duration = Duration::from_secs(10 * 60);

/// How long a key signs.
const REPLACED_AFTER: Duration = Duration::from_secs(90 * 24 * 3600);

impl KeyRing {
    /// Makes what this instance can open none of. Two instances that begin together may each make one; both then count.
    pub(super) async fn make_missing(&self) -> Result<(), AccountsError> {
        let now = Moment::now();
        let present = self.0.now.load_full();
        let signs = present.signing.iter().any(|key| key.activate_at <= now);
        // Before the transaction, since it may be kept in Vault.
        let new = match signs {
            true => None,
            false => Some(self.new_signing().await?),
        };
        let unusable = present.unusable.clone();
        let (sealer, changes) = (self.0.sealer.clone(), self.0.changes.clone());
        let made = self.0.db.transaction("make keys", async move |tx| {
            // Now, not before: another instance may have made one while this one waited.
            let now = Moment::now();
            if let Some(new) = new {
                let is_usable =
                    |row: &SigningKeyRow| row.activate_at <= now && !unusable.contains(&row.kid);
                if !store::signing(tx, now).await?.iter().any(is_usable) {
                    let (_, id) = insert_signing(tx, &sealer, new, now).await?;
                    changes.record(tx, Change::Keys(id)).await?;
                }
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

    /// A new signing key, whose private part is in Vault already if it is to be there.
    async fn new_signing(&self) -> Result<NewSigning, AccountsError> {
        let key = NewKey::generate(self.0.alg)?;
        let in_vault = match &self.0.vault {
            Some(vault) => vault::keep(vault, &key).await?,
            None => false,
        };
        Ok(NewSigning { key, in_vault })
    }

    /// Has a new key take the place of the present one, after the time that verifiers need to learn of it. Returns its id.
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get).
    pub(crate) async fn rotate(&self) -> Result<String, AccountsError> {
        self.get().await?;
        let new = self.new_signing().await?;
        let (sealer, changes, access_ttl) = (
            self.0.sealer.clone(),
            self.0.changes.clone(),
            self.0.access_ttl,
        );
        let rotated = self
            .0
            .db
            .transaction("rotate signing key", async move |tx| {
                rotate(tx, &sealer, &changes, access_ttl, new).await
            });
        let kid = rotated.await?;
        self.load().await?;
        Ok(kid)
    }

    /// Rotates if the newest key has signed for long enough, or is of another algorithm than keys are to be.
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get).
    pub(crate) async fn rotate_if_due(&self) -> Result<(), AccountsError> {
        let keys = self.get().await?;
        let newest = keys.signing.iter().max_by_key(|key| key.activate_at);
        let is_due = newest.is_some_and(|newest| {
            newest.activate_at + REPLACED_AFTER < Moment::now()
                || TokenAlg::of(newest.private.family()) != Some(self.0.alg)
        });
        if is_due {
            let kid = self.rotate().await?;
            tracing::info!(
                kid,
                "a new signing key is published; it signs in 11 minutes"
            );
        }
        Ok(())
    }
}

/// A key that no row has yet.
struct NewSigning {
    key: NewKey,
    in_vault: bool,
}

async fn insert_signing(
    tx: &mut Tx,
    sealer: &Sealer,
    NewSigning { key: new, in_vault }: NewSigning,
    activate_at: Moment,
) -> Result<(String, HouseKeyId), AccountsError> {
    let private: &[u8] = if in_vault { &[] } else { &new.pkcs8 };
    let id = HouseKeyId::new();
    let row = SigningKeyRow {
        id,
        kid: new.kid.clone(),
        alg: new.alg.name().to_owned(),
        public_jwk: Json(published(&new)?),
        private_enc: sealer.seal::<[u8]>(PRIVATE.of(id), private)?,
        in_vault,
        created_at: Moment::now(),
        activate_at,
        retire_at: None,
        revoked_at: None,
    };
    store::insert_signing(tx, row).await?;
    let act = Act::done(CRYPTO_KEY_CREATED, Resource::SigningKey, id.uuid());
    act.detail("kid", new.kid.clone()).record(tx)?.of(());
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
    let act = Act::done(CRYPTO_KEY_CREATED, Resource::RefreshKey, id.uuid());
    act.record(tx)?.of(());
    Ok(id)
}

async fn rotate(
    tx: &mut Tx,
    sealer: &Sealer,
    changes: &Changes,
    access_ttl: Duration,
    new: NewSigning,
) -> Result<String, AccountsError> {
    let now = Moment::now();
    let former = store::signing(tx, now).await?;
    let activate_at = now + PUBLISHED_BEFORE;
    let (kid, id) = insert_signing(tx, sealer, new, activate_at).await?;
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
pub(crate) async fn revoke(
    tx: &mut Tx,
    changes: &Changes,
    kid: &str,
) -> Result<Audited<()>, AccountsError> {
    let known = store::signing(tx, Moment::now()).await?;
    let key = known
        .iter()
        .find(|key| key.kid == kid)
        .ok_or(AccountsError::NotFound)?;
    store::revoke(tx, kid.to_owned()).await?;
    changes.record(tx, Change::Keys(key.id)).await?;
    let act = Act::done(CRYPTO_KEY_REVOKED, Resource::SigningKey, key.id.uuid());
    Ok(act.detail("kid", kid).record(tx)?.of(()))
}

/// A public key as clients get it, without private fields.
fn published(new: &NewKey) -> Result<serde_json::Value, AccountsError> {
    let mut value = serde_json::to_value(&new.jwk).map_err(|_| AccountsError::Signing)?;
    if let Some(fields) = value.as_object_mut() {
        fields.insert("use".to_owned(), "sig".into());
        fields.insert("alg".to_owned(), new.alg.name().into());
    }
    Ok(value)
}
