//! What a change of a role, or of its holders, gives to them and takes from them, and whether a caller may do that.

use std::collections::{BTreeMap, BTreeSet, btree_map::Entry};

use dotmac_platform::{
    access::{PermissionSet, Principal},
    db::{
        TenantTx,
        types::{Id, Moment},
    },
};

use super::{
    roles::{LACKS, OWNER, covered},
    standing::Standing,
};
use crate::{
    AccountsError,
    service::permissions,
    store::{
        bindings::{self, Holder},
        grants,
        roles::{self as store, RoleGrants, RoleId, RoleRow},
        service_accounts,
        users::{self, Hold, UserId},
    },
};

/// What is said of a role that denies, of which an owner would lose something.
pub(super) const OWNER_IS_DENIED: &str = "an owner has all permissions; remove that role first";

/// What `holder` may do now. It is held until the end of the transaction: its roles are changed by one at a time, and no link
/// for the password of a user is made or used meanwhile.
pub(super) async fn powers(
    tx: &mut TenantTx,
    holder: Holder,
) -> Result<PermissionSet, AccountsError> {
    match holder {
        Holder::User(id) => {
            users::hold(tx, id, Hold::Alone).await?;
            users::hold_member(tx, id).await?;
        }
        Holder::Service(id) => service_accounts::hold(tx, id).await?,
    }
    let grants = bindings::grants_of(tx, holder).await?;
    Ok(permissions(tx.tenant(), &grants))
}

/// Whether everything that a change gives to a holder or takes from it is theirs. A role that denies gives nothing, and
/// whoever takes it away gives what it denied. Nothing is taken from those who may do more than they.
///
/// # Errors
///
/// [`AccountsError::Forbidden`].
fn check_effect(
    who: &Principal,
    before: &PermissionSet,
    after: &PermissionSet,
) -> Result<(), AccountsError> {
    let mut names = before.names().into_iter().chain(after.names());
    let is_lacked = |name: &str| {
        before.has_named(name) != after.has_named(name) && !who.permissions.has_named(name)
    };
    if names.any(is_lacked) {
        return Err(AccountsError::Forbidden(LACKS));
    }
    if !after.covers(before) {
        covered(who, before)?;
    }
    Ok(())
}

/// Whether they may have changed the roles of `holder`, which could do `before`, to what they are now; until that time, or for
/// good.
///
/// # Errors
///
/// [`AccountsError::Forbidden`].
pub(super) async fn check_holder(
    tx: &mut TenantTx,
    who: &Principal,
    holder: Holder,
    before: &PermissionSet,
    until: Option<Moment>,
) -> Result<(), AccountsError> {
    let after = powers(tx, holder).await?;
    check_effect(who, before, &after)?;
    if before.covers(&after) {
        return Ok(());
    }
    check_lasting(tx, who, &gained(before, &after), until).await?;
    check_password(tx, holder, &after).await
}

/// What is in `after` and not in `before`.
fn gained(before: &PermissionSet, after: &PermissionSet) -> PermissionSet {
    let mut gained = PermissionSet::default();
    for name in after.names() {
        if !before.has_named(name) {
            gained.grant(name);
        }
    }
    gained
}

/// Whether they have all of `set` until `end`, or for good without one: a role that ends gives nothing that lasts longer.
///
/// # Errors
///
/// [`AccountsError::Forbidden`].
pub(super) async fn check_lasting(
    tx: &mut TenantTx,
    who: &Principal,
    set: &PermissionSet,
    end: Option<Moment>,
) -> Result<(), AccountsError> {
    let (tenant, holder) = (tx.tenant(), Holder::User(Id::from_uuid(who.id)));
    let end = end.unwrap_or(Moment::LAST);
    let grants = bindings::grants_at(tx, tenant, holder, end).await?;
    let lasting = permissions(tenant, &grants).intersection(&who.permissions);
    if lasting.covers(set) {
        Ok(())
    } else {
        Err(AccountsError::Forbidden(
            "your own role ends before what you give; set an earlier `expires_at`",
        ))
    }
}

/// Whether a role's holders may get `new` in place of what it gives and denies now, each with the other roles that it has.
/// The role's row must be held, so that it gets no further holder meanwhile.
///
/// # Errors
///
/// [`AccountsError::Forbidden`].
pub(super) async fn check_role(
    tx: &mut TenantTx,
    who: &Principal,
    role: &RoleRow,
    new: &RoleGrants,
) -> Result<(), AccountsError> {
    let mut roles_of: BTreeMap<Holder, BTreeSet<RoleId>> = BTreeMap::new();
    for (holder, bound) in bindings::all_now(tx).await? {
        roles_of.entry(holder).or_default().insert(bound);
    }
    let mut direct_of: BTreeMap<Holder, BTreeSet<String>> = BTreeMap::new();
    for (holder, permission) in grants::all_now(tx).await? {
        direct_of.entry(holder).or_default().insert(permission);
    }
    let none = BTreeSet::new();
    let has = |holder: &Holder| {
        let set = roles_of.get(holder)?;
        Some((set, direct_of.get(holder).unwrap_or(&none)))
    };
    // Many have the same roles, which are judged once.
    let all: BTreeSet<_> = roles_of.keys().filter_map(has).collect();
    let of_role = all.into_iter().filter(|(set, _)| set.contains(&role.id));
    let mut growing = BTreeMap::new();
    let owner = store::find_named(tx, OWNER).await?.map(|owner| owner.id);
    let mut known: BTreeMap<RoleId, RoleGrants> = BTreeMap::new();
    for (set, direct) in of_role {
        let direct_grants = RoleGrants {
            allow: direct.iter().cloned().collect(),
            deny: Vec::new(),
        };
        let (mut before, mut after) = (direct_grants.clone(), direct_grants);
        for id in set {
            let grants = &*match known.entry(*id) {
                Entry::Occupied(known) => known.into_mut(),
                Entry::Vacant(unknown) => unknown.insert(store::grants(tx, *id).await?),
            };
            before.add(grants);
            after.add(if *id == role.id { new } else { grants });
        }
        let tenant = tx.tenant();
        let (before, after) = (permissions(tenant, &before), permissions(tenant, &after));
        check_effect(who, &before, &after)?;
        if !before.covers(&after) {
            check_lasting(tx, who, &gained(&before, &after), None).await?;
            growing.insert((set, direct), after);
        }
        let is_owner = owner.is_some_and(|owner| set.contains(&owner));
        if is_owner && !new.deny.is_empty() {
            return Err(AccountsError::Forbidden(OWNER_IS_DENIED));
        }
    }
    for (user, maker) in bindings::set_passwords(tx, role.id).await? {
        let after = has(&Holder::User(user)).and_then(|it| growing.get(&it));
        if let (Some(after), Some(maker)) = (after, maker) {
            check_maker(tx, maker, after).await?;
        }
    }
    Ok(())
}

/// Whether the administrator who set the password of `holder`, or made the link that it was set by, may all of `after`: it may
/// know that password still, and be the holder.
///
/// # Errors
///
/// [`AccountsError::Forbidden`].
async fn check_password(
    tx: &mut TenantTx,
    holder: Holder,
    after: &PermissionSet,
) -> Result<(), AccountsError> {
    let Holder::User(id) = holder else {
        return Ok(());
    };
    let tenant = tx.tenant();
    let user = users::find(tx, id).await?;
    // How the users of another tenant sign in is for that tenant to judge.
    if user.is_none_or(|user| user.managed_by != Some(tenant)) {
        return Ok(());
    }
    match users::password(tx, id).await?.and_then(|row| row.set_by) {
        Some(maker) => check_maker(tx, maker, after).await,
        None => Ok(()),
    }
}

async fn check_maker(
    tx: &mut TenantTx,
    maker: UserId,
    after: &PermissionSet,
) -> Result<(), AccountsError> {
    let tenant = tx.tenant();
    if Standing::of_user(tx, tenant, maker).await?.covers(after) {
        Ok(())
    } else {
        Err(AccountsError::Forbidden(
            "an administrator with fewer permissions set this user's password, or made the link for it; make a link yourself, and give the role once the user has used it",
        ))
    }
}
