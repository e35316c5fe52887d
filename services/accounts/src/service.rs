//! What handlers, the authenticator and the workers share.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
    ops::Deref,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use dotmac_platform::{
    access::{AuthError, PermissionSet, Principal, PrincipalKind},
    db::{Db, ModuleDb, TenantId, types::Moment},
    http::Problem,
    mail::Mailer,
    routing::PreconditionFailed,
};

use crate::{
    AccountsError, AccountsSettings,
    audit::Sampler,
    changes::Changes,
    keys::KeyRing,
    password::Hasher,
    store::{api_keys::ApiKeyId, roles::RoleGrants, tenants::DEFAULT},
};

/// Keys whose use is remembered until it is stored.
const MOST_USES: usize = 4096;

/// Clones share it.
#[derive(Clone)]
pub(crate) struct Service(Arc<Inner>);

pub(crate) struct Inner {
    /// For work of a tenant.
    pub(crate) db: ModuleDb,
    /// For what has no tenant yet: signing in, checking credentials.
    pub(crate) open_db: Db,
    pub(crate) settings: AccountsSettings,
    pub(crate) keys: KeyRing,
    pub(crate) hasher: Hasher,
    pub(crate) changes: Changes,
    pub(crate) uses: Uses,
    /// Which failures of sign-ins are recorded.
    pub(crate) failures: Sampler,
    pub(crate) mailer: Mailer,
}

impl Service {
    pub(crate) fn new(inner: Inner) -> Self {
        Self(Arc::new(inner))
    }
}

impl Deref for Service {
    type Target = Inner;

    fn deref(&self) -> &Inner {
        &self.0
    }
}

/// When API keys were used, by key and by which of its secrets; stored once a minute.
#[derive(Default)]
pub(crate) struct Uses(Mutex<HashMap<(ApiKeyId, bool), Moment>>);

impl Uses {
    /// Beyond the bound a use is not remembered: the time of the last use is shown, and no rule depends on it.
    pub(crate) fn note(&self, key: ApiKeyId, is_next: bool) {
        let mut uses = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if uses.len() < MOST_USES || uses.contains_key(&(key, is_next)) {
            uses.insert((key, is_next), Moment::now());
        }
    }

    pub(crate) fn take(&self) -> Vec<(ApiKeyId, bool, Moment)> {
        let mut uses = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        uses.drain()
            .map(|((key, is_next), at)| (key, is_next, at))
            .collect()
    }
}

/// What roles of a tenant give and deny, as a set. The tenant `default` is that of those who operate the installation.
pub(crate) fn permissions(tenant: TenantId, grants: &RoleGrants) -> PermissionSet {
    let mut set = PermissionSet::default();
    for name in &grants.allow {
        set.grant(name);
    }
    for name in &grants.deny {
        set.deny(name);
    }
    if tenant != DEFAULT {
        set.deny_those_of_operators();
    }
    set
}

/// Refuses API keys: a key that leaks must not create another one.
pub(crate) fn person(who: &Principal) -> Result<(), AccountsError> {
    match who.kind {
        PrincipalKind::User => Ok(()),
        PrincipalKind::Service | PrincipalKind::Key => Err(AccountsError::Forbidden(
            "an API key may not do this; sign in",
        )),
    }
}

/// How old the authentication of an administrator may be.
pub(crate) const ADMIN_AGE: Duration = Duration::from_secs(12 * 3600);

/// How old it may be for what opens the way to more, or stops others: keys, roles, passwords of others and links that set them,
/// status, deletion and sessions of others, memberships, tenants.
const STEP_UP_AGE: Duration = Duration::from_secs(15 * 60);

impl Inner {
    /// The way to the rows of all tenants for what the caller asks for: the actor of its acts and events is the caller.
    pub(crate) fn asked_by(&self, who: &Principal) -> Db {
        self.open_db.asked_by(&who.scope())
    }

    /// Whether the caller was authenticated just now, and strongly enough.
    ///
    /// # Errors
    ///
    /// 403 `step_up_required`.
    pub(crate) fn stepped_up(&self, who: &Principal) -> Result<(), AccountsError> {
        authenticated_now(who, self.settings.admin_acr)
    }

    /// The same of a person; a key is refused, since it is asked for no authentication.
    ///
    /// # Errors
    ///
    /// 403 `step_up_required`, or [`AccountsError::Forbidden`].
    pub(crate) fn stepped_up_person(&self, who: &Principal) -> Result<(), AccountsError> {
        person(who)?;
        self.stepped_up(who)
    }
}

/// Whether the caller was authenticated just now, with `acr` at the least.
///
/// # Errors
///
/// As [`step_up_required`].
pub(crate) fn authenticated_now(who: &Principal, acr: u8) -> Result<(), AccountsError> {
    strong(who, acr, STEP_UP_AGE).map_err(|_| step_up_required(acr))
}

/// 403 `step_up_required`: an authentication of just now is needed, with `acr` at the least.
pub(crate) fn step_up_required(acr: u8) -> AccountsError {
    let max_age = STEP_UP_AGE;
    Problem::from(AuthError::StepUp { acr, max_age }).into()
}

/// Whether a person was authenticated with `acr` at the least, and no longer ago than `max_age`. What an API key may do was
/// decided when it was created, by a person who was.
///
/// # Errors
///
/// [`AuthError::StepUp`].
pub(crate) fn strong(who: &Principal, acr: u8, max_age: Duration) -> Result<(), AuthError> {
    let authenticated_at: Moment = who.authenticated_at.into();
    let is_strong = who.acr >= acr && authenticated_at + max_age > Moment::now();
    if is_strong || who.kind != PrincipalKind::User {
        Ok(())
    } else {
        Err(AuthError::StepUp { acr, max_age })
    }
}

/// Whether a row was changed in the version that its client has seen.
///
/// # Errors
///
/// 412 if another request was faster.
pub(crate) fn changed(rows: usize) -> Result<(), AccountsError> {
    match rows {
        0 => Err(PreconditionFailed.into()),
        _ => Ok(()),
    }
}

/// What is counted as one client: an IPv4 address, or an IPv6 network of 64 bits.
pub(crate) fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
        }
        address => address,
    }
}
