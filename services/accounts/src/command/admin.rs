//! What only an operator may do: create the first administrator, and disable users with any permissions.

use dotmac_platform::{
    audit::Audited,
    db::{AcrossTx, TenantScope, TenantTx, types::Moment},
    events::Emit as _,
};

use super::Failure;
use crate::{
    AccountsError,
    audit::{Act, USER_CREATED, USER_DISABLED, USER_ENABLED},
    changes::{Change, Changes},
    events::{self, UserCreated, UserDisabled, UserEnabled},
    names::Identifier,
    rules::{
        api_keys, held, passwords, roles, sessions,
        users::{self as rules, NewUser},
    },
    secret_text::MintedPair,
    store::{
        self, bindings, tenants,
        users::{self, Hold, UserId, UserRow},
    },
};

/// Lets the user in or not; the tenants that are without an active owner then, which an operator may want.
pub(super) async fn set_enabled(
    tx: &mut AcrossTx<'_>,
    changes: &Changes,
    id: UserId,
    is_enabled: bool,
) -> Result<Audited<Vec<String>>, AccountsError> {
    let system = tx.system().await?;
    users::hold(system, id, Hold::Alone).await?;
    let mut ownerless = Vec::new();
    if is_enabled {
        users::set_status(system, id, store::ACTIVE).await?;
        events::emit_of_user(system, id, &UserEnabled { user: id }).await?;
        changes.record(system, Change::User(id)).await?;
        let act = Act::on_user(USER_ENABLED, id);
        return Ok(act.record_of(system, id).await?.of(ownerless));
    }
    users::set_status(system, id, store::DISABLED).await?;
    let act = Act::on_user(USER_DISABLED, id);
    let recorded = act.record_of(system, id).await?;
    events::emit_of_user(system, id, &UserDisabled { user: id }).await?;
    for tenant in users::tenants(tx.system().await?, id).await? {
        let scope = TenantScope::system(tenant, "an operator's command");
        let kept = roles::keeps_owner_without(tx.tenant(&scope).await?, id, None).await;
        if let Err(AccountsError::LastOwner) = kept {
            let found = tenants::find(tx.system().await?, tenant).await?;
            ownerless.extend(found.map(|tenant| tenant.slug));
        } else {
            kept?;
        }
    }
    let system = tx.system().await?;
    api_keys::revoke_personal(system, changes, id).await?;
    sessions::end_all(system, changes, id, None, "user_disabled").await?;
    Ok(recorded.of(ownerless))
}

/// An owner of the tenant `default`. One who has no password yet gets another link.
pub(super) async fn create_admin(
    tx: &mut AcrossTx<'_>,
    changes: &Changes,
    email: String,
) -> Result<Audited<(UserRow, MintedPair, Moment)>, Failure> {
    let new = NewUser {
        email: email.clone(),
        ..NewUser::default()
    };
    let new = rules::row(new, tenants::DEFAULT)?;
    let scope = TenantScope::system(tenants::DEFAULT, "an operator makes an administrator");
    let tx = tx.tenant(&scope).await?;
    roles::seed(tx).await?;
    let user = match users::find_by(tx, &Identifier::read(&email)).await? {
        None => {
            users::insert(tx, &new).await?;
            Act::on_user(USER_CREATED, new.id).record(tx)?.of(());
            tx.emit(&UserCreated { user: new.id })
                .map_err(AccountsError::from)?;
            new
        }
        Some(user) => adopted(tx, user, &email).await?,
    };
    users::join(tx, tenants::DEFAULT, user.id).await?;
    let owner = roles::named(tx, roles::OWNER).await?;
    if !bindings::has_role(tx, user.id, owner.id).await? {
        held::give_role_by_operator(tx, changes, user.id, &owner).await?;
    }
    let issued = passwords::reset_link(tx, &user, None).await?;
    Ok(issued.map(|(minted, expires_at)| (user, minted, expires_at)))
}

/// An account of the tenant `default` whose user has not come yet. It is held, so that it gets no password and no other link
/// meanwhile. An account that another tenant manages is never adopted: its administrators would become the administrator.
async fn adopted(tx: &mut TenantTx, user: UserRow, email: &str) -> Result<UserRow, Failure> {
    users::hold(tx, user.id, Hold::Alone).await?;
    let refused = |problem| Err(Failure::Refused(problem));
    if let Some(manager) = user.managed_by.filter(|tenant| *tenant != tenants::DEFAULT) {
        let manager = tenants::find(tx, manager).await?;
        let slug = manager.map(|tenant| tenant.slug).unwrap_or_default();
        return refused(format!(
            "the tenant `{slug}` manages the account of `{email}`; use another address"
        ));
    }
    if user.deleted_at.is_some() {
        return refused(format!(
            "the account of `{email}` was deleted, and its address stays taken; use another address"
        ));
    }
    let has_password = users::password(tx, user.id).await?.is_some();
    if has_password || !user.is_active() || user.managed_by.is_none() {
        return refused(format!(
            "`{email}` has an account already; `user reset-link` prints a link for it"
        ));
    }
    Ok(user)
}
