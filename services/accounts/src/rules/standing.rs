//! Whether an administrator has all permissions of a user, in every tenant. An administrator without them must not become that
//! user, stop it, or let it in.

use dotmac_platform::{
    access::{PermissionSet, Principal},
    db::{Connection, DbError, TenantId, types::Moment},
};

use super::powers::Powers;
use crate::{
    WriteUsers,
    service::permissions,
    store::{
        bindings::{self, Holder},
        roles::RoleGrants,
        tenants::DEFAULT,
        users::{self, UserId, UserRow},
    },
};

/// What an administrator may do in the tenant that it acts in.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Standing {
    tenant: TenantId,
    permissions: PermissionSet,
}

impl Standing {
    /// That of a caller.
    pub(crate) fn of(who: &Principal) -> Self {
        Self {
            tenant: who.tenant,
            permissions: who.permissions,
        }
    }

    /// That of a user in the tenant as it is now: none once the user is disabled, or no member any more.
    ///
    /// # Errors
    ///
    /// [`DbError`].
    pub(crate) async fn of_user(
        c: &mut Connection,
        tenant: TenantId,
        id: UserId,
    ) -> Result<Self, DbError> {
        let user = users::find(c, id).await?.filter(UserRow::is_active);
        let grants = match user {
            Some(_) if users::is_member(c, tenant, id).await? => {
                bindings::grants_in(c, tenant, Holder::User(id)).await?
            }
            _ => RoleGrants::default(),
        };
        Ok(Self {
            tenant,
            permissions: permissions(tenant, &grants),
        })
    }

    /// The same, of what the user has until that time, or for good: by a password that it knows it can act for longer than it has
    /// its role.
    ///
    /// # Errors
    ///
    /// [`DbError`].
    pub(crate) async fn lasting(
        c: &mut Connection,
        tenant: TenantId,
        id: UserId,
        until: Option<Moment>,
    ) -> Result<Self, DbError> {
        let now = Self::of_user(c, tenant, id).await?;
        let until = until.unwrap_or(Moment::LAST);
        let grants = bindings::grants_at(c, tenant, Holder::User(id), until).await?;
        let permissions = permissions(tenant, &grants).intersection(&now.permissions);
        Ok(Self {
            tenant,
            permissions,
        })
    }

    /// Whether it may make links for users at all.
    pub(crate) fn may_write_users(&self) -> bool {
        self.permissions.has::<WriteUsers>()
    }

    /// Whether it has all of `set`, which counts in its own tenant.
    pub(crate) fn covers(&self, set: &PermissionSet) -> bool {
        self.permissions.covers(set)
    }

    /// Whether it covers what the user may do in every tenant, now and once some of what gives and denies has ended. The same
    /// permission in another tenant is another one, so there the user must have none, unless the administrator may do everything in
    /// the tenant of the operators.
    ///
    /// `c` must see the rows of all tenants.
    ///
    /// # Errors
    ///
    /// [`DbError`].
    pub(crate) async fn covers_user(
        &self,
        c: &mut Connection,
        id: UserId,
    ) -> Result<bool, DbError> {
        for tenant in users::tenants(c, id).await? {
            let theirs = Powers::of(c, tenant, Holder::User(id)).await?.ever;
            let is_covered = if tenant == self.tenant {
                self.covers(&theirs)
            } else {
                PermissionSet::default().covers(&theirs) || self.is_of_operators()
            };
            if !is_covered {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Whether it may do everything there is, which only owners of the tenant `default` may.
    fn is_of_operators(&self) -> bool {
        self.tenant == DEFAULT && self.covers(&PermissionSet::all())
    }
}
