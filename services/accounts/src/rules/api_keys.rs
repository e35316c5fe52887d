//! API keys: their text is shown once, and only its hash is stored.

use std::{collections::BTreeMap, time::Duration};

use aws_lc_rs::constant_time;
use dotmac_platform::{
    access::{PermissionSet, Principal},
    audit::Audited,
    db::{
        TenantId, TenantTx, Tx,
        types::{Id, Json, Moment},
    },
    events::Emit as _,
};
use secrecy::SecretString;

use super::{holders, mail::notices, roles, service_accounts};
use crate::{
    AccountsError, NeverExpireApiKeys,
    audit::{
        API_KEY_CREATED, API_KEY_REPORTED, API_KEY_REVOKED, API_KEY_ROTATED, API_KEYS_REVOKED, Act,
        Action, Resource,
    },
    changes::{Change, Changes},
    events::{self, ApiKeyCreated, ApiKeyRevoked, ApiKeyRotated, ApiKeysRevoked},
    secret_text::{self, MintedPair, Prefix},
    service::{self, Service},
    store::{
        api_keys::{self as store, ApiKeyId, ApiKeyRow, KeyRules},
        bindings::Holder,
        service_accounts as service_account_store, tenants,
        users::{self, UserId},
    },
};

/// The default lifetime of a key, and the longest.
const GOOD_FOR: Duration = Duration::from_secs(90 * 24 * 3600);
const LONGEST: Duration = Duration::from_secs(366 * 24 * 3600);

/// Keys of one owner that are not revoked.
const MOST: i64 = 100;

/// The longest time that the former secret of a rotated key still counts.
pub(crate) const LONGEST_OVERLAP: Duration = Duration::from_secs(7 * 24 * 3600);

/// A key to be.
pub(crate) struct NewKey {
    pub(crate) holder: Holder,
    pub(crate) name: String,
    pub(crate) rules: KeyRules,
    pub(crate) expiry: Expiry,
}

/// When a key ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Expiry {
    /// After the default lifetime.
    Usual,
    At(Moment),
    /// Requires a permission of its own.
    Never,
}

impl Expiry {
    /// The end, as `who` may have it.
    fn end(self, who: &Principal, now: Moment) -> Result<Option<Moment>, AccountsError> {
        match self {
            Self::Usual => Ok(Some(now + GOOD_FOR)),
            Self::At(at) if at > now && at <= now + LONGEST => Ok(Some(at)),
            Self::At(_) => {
                let rule = "is in the future and at most a year away, or `never`";
                Err(AccountsError::field("expires_at", "expiry_invalid", rule))
            }
            Self::Never => may_never_end(who).map(|()| None),
        }
    }
}

/// Whether the caller may have a key that never ends.
fn may_never_end(who: &Principal) -> Result<(), AccountsError> {
    if who.may::<NeverExpireApiKeys>() {
        return Ok(());
    }
    Err(AccountsError::Forbidden(
        "a key that never ends takes the permission `accounts.api_keys.never_expire`",
    ))
}

/// Makes a key; its text is returned and stored nowhere.
pub(crate) async fn create(
    tx: &mut TenantTx,
    who: &Principal,
    new: NewKey,
) -> Result<Audited<(ApiKeyRow, SecretString)>, AccountsError> {
    roles::exists(tx, new.holder).await?;
    may_manage(tx, who, new.holder).await?;
    check_scopes(who, &new.rules)?;
    let now = Moment::now();
    let expires_at = new.expiry.end(who, now)?;
    check_end(tx, who, new.holder, &new.rules, expires_at).await?;
    // Its keys are counted, and created by one at a time.
    match new.holder {
        Holder::User(id) => users::hold_member(tx, id).await?,
        Holder::Service(id) => service_account_store::hold(tx, id).await?,
    }
    if store::count_of(tx, new.holder).await? >= MOST {
        return Err(AccountsError::Forbidden(
            "the owner has reached the limit of keys",
        ));
    }
    let MintedPair {
        text,
        public_id,
        hash,
    } = secret_text::mint_pair(prefix(new.holder))?;
    let row = ApiKeyRow {
        id: Id::new(),
        public_id,
        tenant_id: tx.tenant(),
        user_id: new.holder.user(),
        service_account_id: new.holder.service(),
        name: new.name,
        hash,
        next_hash: None,
        hash_until: None,
        rules: Json(KeyRules {
            // By name: a pattern would give what a later version declares, which its maker may lack.
            scopes: scopes(&new.rules)
                .names()
                .into_iter()
                .map(str::to_owned)
                .collect(),
            ..new.rules
        }),
        version: 1,
        created_at: now,
        expires_at,
        last_used_at: None,
        next_last_used_at: None,
        revoked_at: None,
    };
    store::insert(tx, &row).await?;
    tx.emit(&ApiKeyCreated {
        api_key: row.id.uuid(),
        owner: events::owner(&row),
    })?;
    Ok(act(API_KEY_CREATED, &row).record(tx)?.of((row, text)))
}

/// What the text of a key of `holder` begins with.
pub(crate) const fn prefix(holder: Holder) -> Prefix {
    match holder {
        Holder::User(_) => Prefix::PersonalKey,
        Holder::Service(_) => Prefix::ServiceKey,
    }
}

/// A key that is not revoked; with `of`, one of that user.
///
/// # Errors
///
/// [`AccountsError::NotFound`].
pub(crate) async fn find(
    tx: &mut TenantTx,
    id: ApiKeyId,
    of: Option<UserId>,
) -> Result<ApiKeyRow, AccountsError> {
    let row = store::find(tx, id)
        .await?
        .filter(|row| row.revoked_at.is_none());
    let row = row.filter(|row| of.is_none_or(|of| row.user_id == Some(of)));
    row.ok_or(AccountsError::NotFound)
}

/// Revokes a key, at once and everywhere.
pub(crate) async fn revoke(
    tx: &mut TenantTx,
    changes: &Changes,
    who: &Principal,
    row: &ApiKeyRow,
) -> Result<Audited<()>, AccountsError> {
    service::person(who)?;
    let holder = row.holder().ok_or(AccountsError::NotFound)?;
    if holder.uuid() != who.id {
        // A caller does not revoke the keys of a principal with more permissions.
        roles::covers_holder(tx, who, holder).await?;
        check_scopes(who, &row.rules.0)?;
    }
    revoke_any(tx, changes, row).await
}

/// Revokes the personal keys of the user in all tenants: an attacker who had the account may have made one.
pub(crate) async fn revoke_personal(
    tx: &mut Tx,
    changes: &Changes,
    user: UserId,
) -> Result<(), AccountsError> {
    // One entry and one event for each tenant: a user may have more keys than a transaction may have of these.
    let mut of_tenants: BTreeMap<TenantId, usize> = BTreeMap::new();
    for row in store::personal(tx, user).await? {
        if store::revoke(tx, row.id).await? > 0 {
            changes.record(tx, Change::ApiKey(row.id)).await?;
            *of_tenants.entry(row.tenant_id).or_default() += 1;
        }
    }
    for (tenant, keys) in of_tenants {
        let act = Act::on_user(API_KEYS_REVOKED, user).detail("keys", keys.to_string());
        act.record_in(tx, tenant)?.of(());
        events::emit_in(tx, tenant, &ApiKeysRevoked { user })?;
    }
    Ok(())
}

/// Revokes a key that counts; `NotFound` if another request was faster.
async fn revoke_any(
    tx: &mut Tx,
    changes: &Changes,
    row: &ApiKeyRow,
) -> Result<Audited<()>, AccountsError> {
    let id = row.id;
    if store::revoke(tx, id).await? == 0 {
        return Err(AccountsError::NotFound);
    }
    changes.record(tx, Change::ApiKey(id)).await?;
    let revoked = ApiKeyRevoked {
        api_key: id.uuid(),
        owner: events::owner(row),
    };
    events::emit_in(tx, row.tenant_id, &revoked)?;
    Ok(act(API_KEY_REVOKED, row)
        .record_in(tx, row.tenant_id)?
        .of(()))
}

/// An act upon a key.
fn act(action: Action, row: &ApiKeyRow) -> Act {
    let owner = row.holder().map(|holder| holder.uuid());
    let owner = owner.unwrap_or_default().to_string();
    Act::done(action, Resource::ApiKey, row.id.uuid()).detail("owner", owner)
}

/// Gives the key another secret; the former stays valid for `overlap`.
pub(crate) async fn rotate(
    tx: &mut TenantTx,
    changes: &Changes,
    who: &Principal,
    row: &ApiKeyRow,
    overlap: Duration,
) -> Result<Audited<SecretString>, AccountsError> {
    let holder = row.holder().ok_or(AccountsError::NotFound)?;
    may_manage(tx, who, holder).await?;
    if row.expires_at.is_none() {
        may_never_end(who)?;
    }
    // Its owner may get roles later, so what counts is what the key could do then.
    check_scopes(who, &row.rules.0)?;
    check_end(tx, who, holder, &row.rules.0, row.expires_at).await?;
    // The public part stays, so both texts find the row.
    let minted = secret_text::mint_secret_of(prefix(holder), &row.public_id)?;
    if store::rotate(tx, row, minted.hash, Moment::now() + overlap).await? == 0 {
        return Err(AccountsError::Conflict);
    }
    changes.record(tx, Change::ApiKey(row.id)).await?;
    tx.emit(&ApiKeyRotated {
        api_key: row.id.uuid(),
        owner: events::owner(row),
    })?;
    Ok(act(API_KEY_ROTATED, row).record(tx)?.of(minted.text))
}

/// Whether the text may be a key's. What is none costs no query.
pub(crate) fn is_well_formed(text: &str) -> bool {
    [Prefix::ServiceKey, Prefix::PersonalKey]
        .into_iter()
        .any(|prefix| secret_text::read_pair(prefix, text).is_some())
}

/// Revokes the key whose text was found somewhere, and mails its owner; nothing for what is no key.
pub(crate) async fn report(
    tx: &mut Tx,
    service: &Service,
    text: &str,
) -> Result<(), AccountsError> {
    for prefix in [Prefix::ServiceKey, Prefix::PersonalKey] {
        let Some(given) = secret_text::read_pair(prefix, text) else {
            continue;
        };
        let Some(row) = store::find_public(tx, given.public_id).await? else {
            continue;
        };
        // A secret that was replaced for good is worth nothing, and must not end the one that took its place.
        let has_former =
            row.next_hash.is_none() || row.hash_until.is_some_and(|until| until > Moment::now());
        let hashes = [
            Some(&row.hash).filter(|_| has_former),
            row.next_hash.as_ref(),
        ];
        let is_right = hashes
            .into_iter()
            .flatten()
            .any(|hash| constant_time::verify_slices_are_equal(hash, &given.hash).is_ok());
        if is_right && row.revoked_at.is_none() {
            match revoke_any(tx, &service.changes, &row).await {
                // Another report was faster.
                Err(AccountsError::NotFound) => continue,
                revoked => revoked?,
            };
            let reported = act(API_KEY_REPORTED, &row);
            reported.record_in(tx, row.tenant_id)?.of(());
            notices::key_reported(tx, service, &row).await?;
        }
    }
    Ok(())
}

/// Whether the caller has all permissions that the key may ever have.
fn check_scopes(who: &Principal, rules: &KeyRules) -> Result<(), AccountsError> {
    roles::covered(who, &scopes(rules))
}

/// Whether the caller has them until the key ends. A personal key needs no such check: it does what its owner may.
async fn check_end(
    tx: &mut TenantTx,
    who: &Principal,
    holder: Holder,
    rules: &KeyRules,
    end: Option<Moment>,
) -> Result<(), AccountsError> {
    match holder {
        Holder::User(_) => Ok(()),
        Holder::Service(_) => holders::check_lasting(tx, who, &scopes(rules), end).await,
    }
}

fn scopes(rules: &KeyRules) -> PermissionSet {
    let mut scopes = PermissionSet::default();
    for scope in &rules.scopes {
        scopes.grant(scope);
    }
    scopes
}

/// Whether the caller may create or change keys of `holder`: itself, or a service account that may do no more than the caller.
/// Where the tenant requires a second factor the caller must have shown it, since a key has none.
async fn may_manage(
    tx: &mut TenantTx,
    who: &Principal,
    holder: Holder,
) -> Result<(), AccountsError> {
    service::person(who)?;
    let tenant = tx.tenant();
    let tenant = tenants::find(tx, tenant).await?;
    if tenant.is_some_and(|it| it.mfa_required) {
        service::authenticated_now(who, 2)?;
    }
    match holder {
        Holder::User(id) if id.uuid() == who.id => Ok(()),
        Holder::User(_) => Err(AccountsError::Forbidden(
            "only its owner may use a personal key",
        )),
        Holder::Service(id) => service_accounts::may_change(tx, who, id).await,
    }
}
