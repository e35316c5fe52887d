//! Who calls, until there are accounts: whoever brings the token is one tenant's user and may do everything.

use dotmac_platform::{
    access::{
        AuthError, AuthRequest, Authenticator, Identity, PermissionSet, Principal, PrincipalKind,
    },
    db::types::{Id, Moment},
    secrets::{ExposeSecret, SecretWatch},
};
use futures_util::future::{LocalBoxFuture, ready};
use subtle::ConstantTimeEq;
use uuid::Uuid;

/// The only tenant, and its only user.
const TENANT: Uuid = Uuid::from_u128(1);
const USER: Uuid = Uuid::from_u128(2);

/// Compares `Authorization: Bearer …` with a secret, as it is at that moment.
pub(crate) struct TokenAuthenticator(SecretWatch);

impl TokenAuthenticator {
    pub(crate) fn new(token: SecretWatch) -> Self {
        Self(token)
    }

    fn check(&self, request: AuthRequest<'_>) -> Result<Option<Principal>, AuthError> {
        let Some(header) = request.headers.get("authorization") else {
            return Ok(None);
        };
        let given = header
            .as_bytes()
            .strip_prefix(b"Bearer ")
            .unwrap_or_default();
        let token = self.0.get();
        let is_right =
            token.is_some_and(|token| token.expose_secret().as_bytes().ct_eq(given).into());
        if !is_right {
            return Err(AuthError::Invalid {
                code: "invalid_token",
            });
        }
        Ok(Some(request.principal(Identity {
            id: USER,
            kind: PrincipalKind::User,
            tenant: Id::from_uuid(TENANT),
            permissions: PermissionSet::all(),
            acr: 1,
            authenticated_at: Moment::now().into(),
            session: None,
        })))
    }
}

impl Authenticator for TokenAuthenticator {
    fn authenticate<'r>(
        &'r self,
        request: AuthRequest<'r>,
    ) -> LocalBoxFuture<'r, Result<Option<Principal>, AuthError>> {
        Box::pin(ready(self.check(request)))
    }
}
