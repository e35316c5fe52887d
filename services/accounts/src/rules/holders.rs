//! What a change of a role, or of its holders, gives to them and takes from them, and whether a caller may do that.

use std::collections::{BTreeMap, BTreeSet};

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
        roles::{self as store, RoleGrants, RoleId, RoleRow},
        service_accounts,
        users::{self, Hold, UserId},
    },
};

/// Different combinations of roles and grants that the holders of one role may have when that role is changed.
const MOST_COMBINATIONS: i64 = 2000;

/// Why an owner gets no role that denies something.
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

/// Whether the caller has everything that a change gives to a holder or takes from it. A role that denies gives nothing, and
/// its removal gives what it denied. A caller takes nothing from a holder that has more permissions than the caller.
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

/// Whether the caller may have changed the roles of `holder`, which could do `before`, to the present ones; until that time, or
/// for good.
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

/// Whether the caller has all of `set` until `end`, or for good without one: a role that expires gives nothing that lasts longer.
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
    // Many holders have the same, which is judged once.
    let all = bindings::combinations(tx, role.id, MOST_COMBINATIONS + 1).await?;
    if i64::try_from(all.len()).is_ok_and(|count| count > MOST_COMBINATIONS) {
        return Err(AccountsError::Forbidden(
            "the holders of this role have too many different roles and grants; create another role and give it to them",
        ));
    }
    let ids: BTreeSet<RoleId> = all.iter().flat_map(|it| it.roles.iter().copied()).collect();
    let known = store::grants_of(tx, ids.into_iter().collect()).await?;
    let owner = store::find_named(tx, OWNER).await?.map(|owner| owner.id);
    let tenant = tx.tenant();
    let mut gains = PermissionSet::default();
    let mut of_makers: BTreeMap<UserId, PermissionSet> = BTreeMap::new();
    for combination in all {
        let direct = RoleGrants {
            allow: combination.permissions,
            deny: Vec::new(),
        };
        let (mut before, mut after) = (direct.clone(), direct);
        for id in &combination.roles {
            // A role without a permission has no row.
            let grants = known.get(id).cloned().unwrap_or_default();
            before.add(&grants);
            after.add(if *id == role.id { new } else { &grants });
        }
        let (before, after) = (permissions(tenant, &before), permissions(tenant, &after));
        check_effect(who, &before, &after)?;
        let is_owner = owner.is_some_and(|owner| combination.roles.contains(&owner));
        if is_owner && !new.deny.is_empty() {
            return Err(AccountsError::Forbidden(OWNER_IS_DENIED));
        }
        if before.covers(&after) {
            continue;
        }
        add(&mut gains, &gained(&before, &after));
        if let Some(maker) = combination.maker {
            add(of_makers.entry(maker).or_default(), &after);
        }
    }
    check_lasting(tx, who, &gains, None).await?;
    for (maker, after) in of_makers {
        check_maker(tx, maker, &after).await?;
    }
    Ok(())
}

/// Adds the permissions of `other` to `set`.
fn add(set: &mut PermissionSet, other: &PermissionSet) {
    for name in other.names() {
        set.grant(name);
    }
}

/// Whether the administrator who set the password of `holder`, or made the link that it was set by, has all of `after`: the
/// administrator may know that password, and can sign in as the holder.
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
