//! A program of several tenants, to see what one has of another's: nothing. The tests look.
//!
//! Whoever brings the id of a tenant as a token is its user and may do everything. Run it, then
//! `curl localhost:8000/api/v1/events -H 'authorization: Bearer 00000000-0000-0000-0000-000000000001'`.

use std::process::ExitCode;

use dotmac_audit::Audit;
use dotmac_events::Events;
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
    let tenant = token.and_then(|token| token.parse().ok());
    let tenant = tenant.ok_or(AuthError::Invalid {
        code: "invalid_token",
    })?;
    Ok(Some(request.principal(Identity {
        id: tenant,
        kind: PrincipalKind::User,
        tenant: Id::from_uuid(tenant),
        permissions: PermissionSet::all(),
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
        .module::<Webhooks>()
        .module::<Smtp>()
        .module::<Notifications>()
        .main()
}
