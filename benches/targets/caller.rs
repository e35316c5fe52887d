//! A caller who may do everything, of one tenant: platforms that are measured take every request for theirs.

use dotmac_platform::{
    access::{
        AuthError, AuthRequest, Authenticator, Identity, PermissionSet, Principal, PrincipalKind,
    },
    db::types::{Id, Moment},
};
use futures_util::future::{LocalBoxFuture, ready};
use uuid::Uuid;

/// Takes every request for that of one user.
pub struct OneCaller;

impl Authenticator for OneCaller {
    fn authenticate<'r>(
        &'r self,
        request: AuthRequest<'r>,
    ) -> LocalBoxFuture<'r, Result<Option<Principal>, AuthError>> {
        let one = Uuid::from_u128(1);
        let principal = request.principal(Identity {
            id: one,
            kind: PrincipalKind::User,
            tenant: Id::from_uuid(one),
            permissions: PermissionSet::all(),
            acr: 1,
            authenticated_at: Moment::now().into(),
            session: None,
        });
        Box::pin(ready(Ok(Some(principal))))
    }
}
