//! A program of several tenants, to see what one has of another's: nothing. The tests look.
//!
//! A caller with the id of a tenant as its token is a user of it and may do everything; with `!files.*` behind the id,
//! everything but that. Run it, then
//! `curl localhost:8000/api/v1/events -H 'authorization: Bearer 00000000-0000-0000-0000-000000000001'`.

use std::process::ExitCode;

use dotmac_audit::Audit;
use dotmac_events::Events;
use dotmac_files::Files;
use dotmac_jobs::Jobs;
use dotmac_notifications::{Notifications, Smtp};
use dotmac_platform::{
    Platform,
    access::{
        AuthError, AuthRequest, Authenticator, Identity, PermissionSet, Principal, PrincipalKind,
    },
    db::types::{Id, Moment},
};
use dotmac_webhooks::Webhooks;
use futures_util::future::{LocalBoxFuture, ready};

struct TenantAuthenticator;

fn principal(request: AuthRequest<'_>) -> Result<Option<Principal>, AuthError> {
    let Some(header) = request.headers.get("authorization") else {
        return Ok(None);
    };
    let token = header
        .to_str()
        .ok()
        .and_then(|it| it.strip_prefix("Bearer "));
    let token = token.map(|token| token.split_once('!').unwrap_or((token, "")));
    let tenant = token.and_then(|(tenant, _)| tenant.parse().ok());
    let tenant = tenant.ok_or(AuthError::Invalid {
        code: "invalid_token",
    })?;
    let mut permissions = PermissionSet::all();
    if let Some((_, denied)) = token.filter(|(_, denied)| !denied.is_empty()) {
        permissions.deny(denied);
    }
    Ok(Some(request.principal(Identity {
        id: tenant,
        kind: PrincipalKind::User,
        tenant: Id::from_uuid(tenant),
        permissions,
        acr: 1,
        authenticated_at: Moment::now().into(),
        session: None,
    })))
}

impl Authenticator for TenantAuthenticator {
    fn authenticate<'r>(
        &'r self,
        request: AuthRequest<'r>,
    ) -> LocalBoxFuture<'r, Result<Option<Principal>, AuthError>> {
        Box::pin(ready(principal(request)))
    }
}

fn main() -> ExitCode {
    Platform::new("tenants", env!("CARGO_PKG_VERSION"))
        .authenticator(TenantAuthenticator)
        .module::<Events>()
        .module::<Jobs>()
        .module::<Audit>()
        .module::<Files>()
        .module::<Webhooks>()
        .module::<Smtp>()
        .module::<Notifications>()
        .main()
}
