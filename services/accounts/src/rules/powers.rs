//! What a principal may do in a tenant, now and later: what denies it something may end before what gives it.

use dotmac_platform::{
    access::PermissionSet,
    db::{Connection, DbError, TenantId},
};

use crate::{
    service::permissions,
    store::{
        bindings::{self, Holder},
        roles::RoleGrants,
    },
};

/// What a principal may do. Others judge it by both: whoever can act as the principal now can do so later.
#[derive(Clone, Copy, Debug)]
pub(super) struct Powers {
    pub(super) now: PermissionSet,
    /// Now, or at some time from now on, if no one changes anything.
    pub(super) ever: PermissionSet,
}

impl Powers {
    /// Those of `holder`.
    ///
    /// # Errors
    ///
    /// [`DbError`].
    pub(super) async fn of(
        c: &mut Connection,
        tenant: TenantId,
        holder: Holder,
    ) -> Result<Self, DbError> {
        let (now, later) = bindings::grants_from_now_on(c, tenant, holder).await?;
        Ok(Self::new(tenant, &now, &later))
    }

    /// Of one that has `now`, and each of `later` once.
    pub(super) fn new(tenant: TenantId, now: &RoleGrants, later: &[RoleGrants]) -> Self {
        let now = permissions(tenant, now);
        let mut ever = PermissionSet::default();
        add(&mut ever, &now);
        for later in later {
            add(&mut ever, &permissions(tenant, later));
        }
        Self { now, ever }
    }

    pub(super) fn covers(&self, other: &Self) -> bool {
        self.now.covers(&other.now) && self.ever.covers(&other.ever)
    }

    /// What is in these and was not in `before`.
    pub(super) fn gained_since(&self, before: &Self) -> PermissionSet {
        let mut gained = PermissionSet::default();
        for (before, after) in [(&before.now, &self.now), (&before.ever, &self.ever)] {
            for name in after.names() {
                if !before.has_named(name) {
                    gained.grant(name);
                }
            }
        }
        gained
    }
}

/// Adds the permissions of `other` to `set`.
pub(super) fn add(set: &mut PermissionSet, other: &PermissionSet) {
    for name in other.names() {
        set.grant(name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::tenants::DEFAULT;

    #[test]
    fn what_is_denied_for_a_time_counts_as_had_later() {
        for permission in crate::PERMISSIONS {
            permission.declare();
        }
        let grants = |allow: &[&str], deny: &[&str]| {
            let names = |names: &[&str]| names.iter().map(|it| (*it).to_owned()).collect();
            RoleGrants {
                allow: names(allow),
                deny: names(deny),
            }
        };
        let (read, write) = ("accounts.users.read", "accounts.users.write");
        let both = grants(&[read, write], &[]);
        let denied = Powers::new(
            DEFAULT,
            &grants(&[read, write], &[write]),
            std::slice::from_ref(&both),
        );
        assert!(!denied.now.has_named(write) && denied.ever.has_named(write));
        let free = Powers::new(DEFAULT, &both, &[]);
        assert!(free.covers(&denied) && !denied.covers(&free));
        assert_eq!(free.gained_since(&denied).names(), [write]);
        assert!(denied.gained_since(&free).names().is_empty());
    }
}
