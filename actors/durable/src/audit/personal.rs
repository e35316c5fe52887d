//! Personal fields: encrypted with a key of their person, so that they can be erased while the chain stays
//! valid, which covers the ciphertext.
//!
//! A key is made with the first entry about a person of a tenant, and is kept sealed by the program's master key. Once it is
//! taken away no field that was encrypted with it can be read any more; entries that follow get a new key.

use std::collections::{BTreeMap, HashMap, hash_map::Entry as Cached};

use aws_lc_rs::{
    aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey},
    rand,
};
use diesel::prelude::*;
use diesel_async::RunQueryDsl;
use dotmac_db::{
    Connection, DbError, OptionalExtension, TenantId, TenantTx, Tx, on,
    sealing::{Sealed, SealedColumn, Sealer, SealingError},
    types::Id,
};
use secrecy::ExposeSecret;
use zeroize::Zeroizing;

use super::{
    Audit as _, Audited, Entry, EntryId, StoredEntry, SubjectId, entry::Personal,
    tables::audit_subject,
};

/// The column of the keys, for [`Resealing`](dotmac_db::sealing::Resealing) after a change of the master key.
pub const SUBJECT_KEYS: SealedColumn = SealedColumn::new("audit_subject", "key");

/// What erasing is recorded as: a word of the OWASP vocabulary.
pub const ERASE: &str = "sensitive_delete";
/// The type of the resource that it is about.
const RESOURCE: &str = "audit.subject";

const KEY_BYTES: usize = 32;

/// A row of the table of keys; a mark for ids.
pub(super) enum KeyRow {}

/// Takes the key of a person away, so that the personal fields of all entries about that person in the tenant cannot be read
/// any more, and records that. Whether there was a key.
///
/// The entries stay, with the person's id. What a backup of the database or a file that was exported holds stays as well.
///
/// # Errors
///
/// [`DbError`].
pub async fn erase(tx: &mut TenantTx, subject: SubjectId) -> Result<Audited<bool>, DbError> {
    let key = audit_subject::tenant_id
        .eq(tx.tenant())
        .and(audit_subject::subject.eq(subject));
    let key = audit_subject::table.filter(key);
    let erased = on!(tx, |c| diesel::delete(key).execute(c).await)?;
    let recorded = tx.audit(Entry::new(ERASE, RESOURCE, subject.to_string()))?;
    Ok(recorded.of(erased > 0))
}

/// The key of a person.
pub(super) struct SubjectKey(RandomizedNonceKey);

/// The keys that a transaction has used.
pub(super) type SubjectKeys = HashMap<(TenantId, SubjectId), SubjectKey>;

/// What keeps personal fields from being encrypted.
pub(super) enum NotEncrypted {
    Db(DbError),
    Sealing(SealingError),
}

impl From<DbError> for NotEncrypted {
    fn from(error: DbError) -> Self {
        Self::Db(error)
    }
}

impl From<SealingError> for NotEncrypted {
    fn from(error: SealingError) -> Self {
        Self::Sealing(error)
    }
}

/// Encrypts personal fields of an entry.
pub(super) async fn encrypt(
    tx: &mut Tx,
    keys: &mut SubjectKeys,
    (tenant, id): (TenantId, EntryId),
    personal: &Personal,
) -> Result<Vec<u8>, NotEncrypted> {
    let subject = personal.subject;
    let key = match keys.entry((tenant, subject)) {
        Cached::Occupied(known) => known.into_mut(),
        Cached::Vacant(place) => place.insert(key_of(tx, &personal.sealer, tenant, subject).await?),
    };
    let fields = serde_json::to_vec(&personal.fields).map_err(|_| SealingError::WrongType)?;
    let mut buffer = Zeroizing::new(Vec::with_capacity(fields.len() + AES_256_GCM.tag_len()));
    buffer.extend_from_slice(&Zeroizing::new(fields));
    let data = Aad::from(associated_data(tenant, id, subject));
    let nonce = key.0.seal_in_place_append_tag(data, &mut *buffer);
    let nonce = nonce.map_err(|_| SealingError::Encryption)?;
    Ok([nonce.as_ref(), &buffer[..]].concat())
}

/// What an entry says of the person that it is about; `None` if the key is erased, is not at hand, or does not fit.
pub(super) async fn decrypt(
    c: &mut Connection,
    keys: &mut SubjectKeys,
    sealer: &Sealer,
    entry: &StoredEntry,
) -> Result<Option<BTreeMap<String, String>>, DbError> {
    let (Some(subject), Some(encrypted)) = (entry.subject, &entry.personal) else {
        return Ok(None);
    };
    let key = match keys.entry((entry.tenant, subject)) {
        Cached::Occupied(known) => known.into_mut(),
        Cached::Vacant(place) => {
            let found = find(c, entry.tenant, subject).await?;
            let key = found.and_then(|(id, sealed)| opened(sealer, id, &sealed).ok());
            let Some(key) = key else { return Ok(None) };
            place.insert(key)
        }
    };
    let opened = || {
        let (nonce, rest) = encrypted.split_first_chunk::<NONCE_LEN>()?;
        let mut buffer = Zeroizing::new(rest.to_vec());
        let data = Aad::from(associated_data(entry.tenant, entry.id, subject));
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let plain = key.0.open_in_place(nonce, data, &mut buffer).ok()?;
        serde_json::from_slice(plain).ok()
    };
    Ok(opened())
}

/// Binds the fields to their entry.
fn associated_data(tenant: TenantId, id: EntryId, subject: SubjectId) -> [u8; 48] {
    let mut data = [0; 48];
    for (part, id) in data
        .chunks_exact_mut(16)
        .zip([tenant.uuid(), id.uuid(), subject.uuid()])
    {
        part.copy_from_slice(id.as_bytes());
    }
    data
}

async fn key_of(
    tx: &mut Tx,
    sealer: &Sealer,
    tenant: TenantId,
    subject: SubjectId,
) -> Result<SubjectKey, NotEncrypted> {
    if let Some((id, sealed)) = find(tx, tenant, subject).await? {
        return Ok(opened(sealer, id, &sealed)?);
    }
    let (id, mut key) = (Id::<KeyRow>::new(), Zeroizing::new([0; KEY_BYTES]));
    rand::fill(&mut *key).map_err(|_| SealingError::Encryption)?;
    let sealed: Sealed<[u8]> = sealer.seal(SUBJECT_KEYS.of(id), &key[..])?;
    let row = (
        audit_subject::id.eq(id),
        audit_subject::tenant_id.eq(tenant),
        audit_subject::subject.eq(subject),
        audit_subject::key.eq(sealed),
    );
    let insert = diesel::insert_into(audit_subject::table).values(row);
    let insert = insert
        .on_conflict((audit_subject::tenant_id, audit_subject::subject))
        .do_nothing();
    if on!(tx, |c| insert.execute(c).await)? == 1 {
        return SubjectKey::new(&key[..]).ok_or(NotEncrypted::Sealing(SealingError::Encryption));
    }
    // Another transaction has made one meanwhile.
    let (id, sealed) = find(tx, tenant, subject)
        .await?
        .ok_or(SealingError::Encryption)?;
    Ok(opened(sealer, id, &sealed)?)
}

async fn find(
    c: &mut Connection,
    tenant: TenantId,
    subject: SubjectId,
) -> Result<Option<(Id<KeyRow>, Sealed<[u8]>)>, DbError> {
    let key = audit_subject::tenant_id
        .eq(tenant)
        .and(audit_subject::subject.eq(subject));
    let query = audit_subject::table.filter(key);
    let query = query.select((audit_subject::id, audit_subject::key));
    on!(c, |c| query.first(c).await).optional()
}

fn opened(
    sealer: &Sealer,
    id: Id<KeyRow>,
    sealed: &Sealed<[u8]>,
) -> Result<SubjectKey, SealingError> {
    let key = sealer.open(SUBJECT_KEYS.of(id), sealed)?;
    SubjectKey::new(key.expose_secret()).ok_or(SealingError::WrongType)
}

impl SubjectKey {
    fn new(key: &[u8]) -> Option<Self> {
        RandomizedNonceKey::new(&AES_256_GCM, key).ok().map(Self)
    }
}
