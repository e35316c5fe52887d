//! What a change of a role, or of its holders, gives to them and takes from them, and whether a caller may do that.

use std::collections::{BTreeMap, BTreeSet};

use dotmac_platform::{
    access::{PermissionSet, Principal},
    db::{
        TenantId, TenantTx,
        types::{Id, Moment},
    },
};

use super::{
    powers::{Powers, add},
    roles::{LACKS, OWNER, covered},
    standing::Standing,
};
use crate::{
    AccountsError,
    service::permissions,
    store::{
        bindings::{self, Combination, Holder},
        roles::{self as store, RoleGrants, RoleId, RoleRow},
        service_accounts,
        users::{self, Hold, UserId},
    },
};

/// Different combinations of roles and grants that the holders of one role may have when that role is changed.
const MOST_COMBINATIONS: i64 = 2000;

/// Why an owner gets no role that denies something.
pub(super) const OWNER_IS_DENIED: &str = "an owner has all permissions; remove that role first";

/// What `holder` may do. It is held until the end of the transaction: its roles are changed by one at a time, and no link
/// for the password of a user is made or used meanwhile.
pub(super) async fn powers(tx: &mut TenantTx, holder: Holder) -> Result<Powers, AccountsError> {
    match holder {
        Holder::User(id) => {
            users::hold(tx, id, Hold::Alone).await?;
            users::hold_member(tx, id).await?;
        }
        Holder::Service(id) => service_accounts::hold(tx, id).await?,
    }
    let tenant = tx.tenant();
    Ok(Powers::of(tx, tenant, holder).await?)
}

/// Whether the caller has everything that a change gives to a holder or takes from it, now or later. A role that denies gives
/// nothing, and its removal gives what it denied. A caller takes nothing from a holder that has more permissions than the caller.
///
/// # Errors
///
/// [`AccountsError::Forbidden`].
fn check_effect(who: &Principal, before: &Powers, after: &Powers) -> Result<(), AccountsError> {
    for (before, after) in [(&before.now, &after.now), (&before.ever, &after.ever)] {
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
    before: &Powers,
    until: Option<Moment>,
) -> Result<(), AccountsError> {
    let after = powers(tx, holder).await?;
    check_effect(who, before, &after)?;
    if before.covers(&after) {
        return Ok(());
    }
    check_lasting(tx, who, &after.gained_since(before), until).await?;
    check_makers(tx, holder, &after.ever, until).await
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
    let ids: BTreeSet<RoleId> = all.iter().flat_map(Combination::roles).collect();
    let known = store::grants_of(tx, ids.into_iter().collect()).await?;
    let mut changed = known.clone();
    changed.insert(role.id, new.clone());
    let owner = store::find_named(tx, OWNER).await?.map(|owner| owner.id);
    let tenant = tx.tenant();
    let mut gains = PermissionSet::default();
    let mut of_makers: BTreeMap<UserId, PermissionSet> = BTreeMap::new();
    for combination in all {
        let before = combined(tenant, &combination, &known);
        let after = combined(tenant, &combination, &changed);
        check_effect(who, &before, &after)?;
        let is_owner = owner.is_some_and(|owner| combination.roles().any(|id| id == owner));
        if is_owner && !new.deny.is_empty() {
            return Err(AccountsError::Forbidden(OWNER_IS_DENIED));
        }
        if before.covers(&after) {
            continue;
        }
        add(&mut gains, &after.gained_since(&before));
        for maker in combination.makers {
            add(of_makers.entry(maker).or_default(), &after.ever);
        }
    }
    check_lasting(tx, who, &gains, None).await?;
    for (maker, after) in of_makers {
        check_maker(tx, maker, &after, None).await?;
    }
    Ok(())
}

/// What a holder of these roles may do, with what `known` gives and denies by each. The order in which the temporary roles end
/// is not known: for later, each is taken together with the lasting ones only, so that what one denies hides nothing that
/// another gives.
fn combined(
    tenant: TenantId,
    combination: &Combination,
    known: &BTreeMap<RoleId, RoleGrants>,
) -> Powers {
    let with = |base: &RoleGrants, roles: &[RoleId]| {
        let mut sum = base.clone();
        // A role without a permission has no row.
        roles
            .iter()
            .filter_map(|id| known.get(id))
            .for_each(|grants| sum.add(grants));
        sum
    };
    let direct = RoleGrants {
        allow: combination.permissions.clone(),
        deny: Vec::new(),
    };
    let lasting = with(&direct, &combination.lasting);
    let now = with(&lasting, &combination.temporary);
    let alone = combination.temporary.iter();
    let mut later: Vec<RoleGrants> = alone.map(|id| with(&lasting, &[*id])).collect();
    later.push(lasting);
    Powers::new(tenant, &now, &later)
}

/// Whether each [administrator](users::makers) who can sign in as the holder has all of `after`, until that time or for good.
///
/// # Errors
///
/// [`AccountsError::Forbidden`].
async fn check_makers(
    tx: &mut TenantTx,
    holder: Holder,
    after: &PermissionSet,
    until: Option<Moment>,
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
    for maker in users::makers(tx, id).await? {
        check_maker(tx, maker, after, until).await?;
    }
    Ok(())
}

async fn check_maker(
    tx: &mut TenantTx,
    maker: UserId,
    after: &PermissionSet,
    until: Option<Moment>,
) -> Result<(), AccountsError> {
    let tenant = tx.tenant();
    let maker = Standing::lasting(tx, tenant, maker, until).await?;
    if maker.covers(after) {
        Ok(())
    } else {
        Err(AccountsError::Forbidden(
            "an administrator with fewer permissions set this user's password, or made the link for it; make a link yourself, and give the role once the user has used it; a passkey from before must be removed, and a link that undoes a change of address from before must be over (7 days)",
        ))
    }
}
