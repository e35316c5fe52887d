//! `dotmac user why`: what a user may do in each tenant, and which roles and grants give or deny it.

use std::fmt;

use dotmac_platform::{
    access::PermissionSet,
    db::{TenantScope, TenantTx, types::Moment},
};

use super::{Failure, Operator, print};
use crate::{
    AccountsError,
    service::permissions,
    store::{
        ACTIVE,
        bindings::{self, Holder},
        grants,
        roles::{self, RoleGrants},
        tenants::{self, TenantRow},
        users::{self, UserId, UserRow},
    },
};

/// What gives or denies permissions to a user.
struct Source {
    by: String,
    grants: RoleGrants,
    until: Option<Moment>,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.by)?;
        match self.until {
            Some(until) => write!(f, ", until {until}"),
            None => Ok(()),
        }
    }
}

impl Operator {
    pub(super) async fn why(
        &self,
        identifier: &str,
        permission: Option<&str>,
    ) -> Result<(), Failure> {
        if let Some(name) = permission.filter(|name| !is_declared(name)) {
            return Err(Failure::Refused(format!(
                "nothing declares the permission `{name}`; GET /api/v1/permissions has all names"
            )));
        }
        let user = self.find(identifier).await?;
        if !user.is_active() {
            print("the account is disabled: it may do nothing");
        }
        let id = user.id;
        let read = self.db.transaction("read memberships", async move |tx| {
            let mut found = Vec::new();
            for tenant in users::tenants(tx, id).await? {
                found.extend(tenants::find(tx, tenant).await?);
            }
            Ok::<_, AccountsError>(found)
        });
        let memberships = read.await?;
        if memberships.is_empty() {
            print("the account is a member of no tenant: it may do nothing");
        }
        for tenant in memberships {
            self.why_in(&user, &tenant, permission).await?;
        }
        Ok(())
    }

    async fn why_in(
        &self,
        user: &UserRow,
        tenant: &TenantRow,
        permission: Option<&str>,
    ) -> Result<(), Failure> {
        let (slug, id) = (&tenant.slug, user.id);
        if tenant.status != ACTIVE {
            print(format_args!("{slug}: the tenant is disabled"));
            return Ok(());
        }
        let scope = TenantScope::system(tenant.id, "an operator's command");
        let read = self
            .db
            .tenant(&scope)
            .read("read roles", async move |tx| sources(tx, id).await);
        let sources = read.await?;
        let mut all = RoleGrants::default();
        sources.iter().for_each(|source| all.add(&source.grants));
        let may = permissions(tenant.id, &all);
        match permission {
            Some(name) => self.explain(user, slug, name, &may, &sources),
            None => {
                print(format_args!("{slug}: {} permissions", may.names().len()));
                for source in &sources {
                    print(format_args!("  {source}: {}", listed(&source.grants)));
                }
                may.names()
                    .iter()
                    .for_each(|name| print(format_args!("    {name}")));
            }
        }
        Ok(())
    }

    fn explain(
        &self,
        user: &UserRow,
        slug: &str,
        name: &str,
        may: &PermissionSet,
        sources: &[Source],
    ) {
        let is_allowed = user.is_active() && may.has_named(name);
        let word = if is_allowed { "allowed" } else { "not allowed" };
        print(format_args!("{slug}: `{name}` is {word}"));
        let (mut is_given, mut is_denied) = (false, false);
        for source in sources {
            for pattern in naming(&source.grants.allow, name) {
                is_given = true;
                print(format_args!("  `{pattern}` is given by {source}"));
            }
            for pattern in naming(&source.grants.deny, name) {
                is_denied = true;
                print(format_args!("  `{pattern}` is denied by {source}"));
            }
        }
        if !is_given {
            print("  nothing gives it");
        } else if !is_denied && !may.has_named(name) {
            print("  it reaches beyond one tenant, and counts in the tenant `default` alone");
        }
        if is_allowed && name.starts_with("accounts.") {
            let acr = self.settings.admin_acr;
            print(format_args!(
                "  over HTTP it wants an authentication of the last 12 hours with acr {acr}"
            ));
        }
    }
}

/// All roles and grants of the user in the transaction's tenant, as they count now.
async fn sources(tx: &mut TenantTx, user: UserId) -> Result<Vec<Source>, AccountsError> {
    let holder = Holder::User(user);
    let mut sources = Vec::new();
    for binding in bindings::now_of(tx, holder).await? {
        let role = roles::find(tx, binding.role_id).await?;
        let role = role.map(|role| role.name).unwrap_or_default();
        sources.push(Source {
            by: format!("the role `{role}`"),
            grants: roles::grants(tx, binding.role_id).await?,
            until: binding.expires_at,
        });
    }
    for grant in grants::now_of(tx, holder).await? {
        sources.push(Source {
            by: format!("a grant of {}", grant.granted_by),
            grants: RoleGrants {
                allow: vec![grant.permission],
                deny: Vec::new(),
            },
            until: grant.expires_at,
        });
    }
    Ok(sources)
}

/// Whether it is the name of one permission.
fn is_declared(name: &str) -> bool {
    !name.contains('*') && PermissionSet::default().grant(name) > 0
}

/// Those of `patterns` that name the permission.
fn naming<'p>(patterns: &'p [String], name: &'p str) -> impl Iterator<Item = &'p String> {
    patterns.iter().filter(move |pattern| {
        let mut set = PermissionSet::default();
        set.grant(pattern);
        set.has_named(name)
    })
}

/// What a role gives and denies, on a line.
fn listed(grants: &RoleGrants) -> String {
    let given = match grants.allow.as_slice() {
        [] => "nothing".to_owned(),
        names => names.join(", "),
    };
    match grants.deny.as_slice() {
        [] => given,
        names => format!("{given}; denies {}", names.join(", ")),
    }
}
