//! A simple authenticator in place of accounts: a caller with a token is a user of the one tenant, with permission to
//! read and write, or to read.

use dotmac_platform::{
    access::{
        AuthError, AuthRequest, Authenticator, Identity, Permission, PermissionSet, Principal,
        PrincipalKind,
    },
    db::types::{Id, Moment},
    secrets::{ExposeSecret, SecretWatch},
};
use futures_util::future::{LocalBoxFuture, ready};
use subtle::ConstantTimeEq;
use uuid::Uuid;

use crate::Read;

/// The only tenant, and its users: one who may do everything, and one who may read.
const TENANT: Uuid = Uuid::from_u128(1);
const USER: Uuid = Uuid::from_u128(2);
const READER: Uuid = Uuid::from_u128(3);

/// Compares `Authorization: Bearer …` with two secrets, as they are at that moment.
pub(crate) struct TokenAuthenticator {
    pub(crate) token: SecretWatch,
    pub(crate) reader_token: SecretWatch,
}

impl TokenAuthenticator {
    fn check(&self, request: AuthRequest<'_>) -> Result<Option<Principal>, AuthError> {
        let Some(header) = request.headers.get("authorization") else {
            return Ok(None);
        };
        let given = header.as_bytes().strip_prefix(b"Bearer ");
        let given = given.unwrap_or_default();
        let (id, permissions) = if is_token(&self.token, given) {
            (USER, PermissionSet::all())
        } else if is_token(&self.reader_token, given) {
            let mut reads = PermissionSet::default();
            reads.grant(Read::SPEC.name);
            (READER, reads)
        } else {
            return Err(AuthError::Invalid {
                code: "invalid_token",
            });
        };
        Ok(Some(request.principal(Identity {
            id,
            kind: PrincipalKind::User,
            tenant: Id::from_uuid(TENANT),
            permissions,
            acr: 1,
            authenticated_at: Moment::now().into(),
            session: None,
        })))
    }
}

/// Whether `given` is the token, in a time that does not depend on how much of it is right.
fn is_token(token: &SecretWatch, given: &[u8]) -> bool {
    let token = token.get();
    token.is_some_and(|token| token.expose_secret().as_bytes().ct_eq(given).into())
}

impl Authenticator for TokenAuthenticator {
    fn authenticate<'r>(
        &'r self,
        request: AuthRequest<'r>,
    ) -> LocalBoxFuture<'r, Result<Option<Principal>, AuthError>> {
        Box::pin(ready(self.check(request)))
    }
}
