//! The first argument of every handler: who may call it.

use std::{marker::PhantomData, ops::Deref};

use actix_web::{FromRequest, HttpRequest, dev::Payload};
use futures_util::future::LocalBoxFuture;

use super::{Authentication, Permission, PermissionSpec, Principal, authenticator::unauthorized};
use crate::http::Problem;

/// Says who may call a route. A handler whose first argument is no guard does not mount.
pub trait Guard: FromRequest<Error = Problem> + 'static {
    /// The permission that it asks for.
    const PERMISSION: Option<PermissionSpec> = None;
    /// Whether it lets in callers that have not proved who they are.
    const IS_PUBLIC: bool = false;

    /// Who calls, if that has been proved.
    fn principal(&self) -> Option<&Principal> {
        None
    }
}

/// Any client may call.
#[derive(Clone, Copy, Debug)]
pub struct Public;

/// Any authenticated caller. Derefs to the [`Principal`].
#[derive(Clone, Debug)]
pub struct Authenticated(Principal);

/// Principals with the permission `P` may call. Derefs to the [`Principal`].
#[derive(Clone, Debug)]
pub struct Can<P>(Principal, PhantomData<fn() -> P>);

impl Guard for Public {
    const IS_PUBLIC: bool = true;
}

impl Guard for Authenticated {
    fn principal(&self) -> Option<&Principal> {
        Some(self)
    }
}

impl<P: Permission> Guard for Can<P> {
    const PERMISSION: Option<PermissionSpec> = Some(P::SPEC);

    fn principal(&self) -> Option<&Principal> {
        Some(self)
    }
}

impl Deref for Authenticated {
    type Target = Principal;

    fn deref(&self) -> &Principal {
        &self.0
    }
}

impl<P> Deref for Can<P> {
    type Target = Principal;

    fn deref(&self) -> &Principal {
        &self.0
    }
}

impl FromRequest for Public {
    type Error = Problem;
    type Future = std::future::Ready<Result<Self, Problem>>;

    fn from_request(_: &HttpRequest, _: &mut Payload) -> Self::Future {
        std::future::ready(Ok(Self))
    }
}

impl FromRequest for Authenticated {
    type Error = Problem;
    type Future = LocalBoxFuture<'static, Result<Self, Problem>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let request = request.clone();
        Box::pin(async move { principal(&request).await.map(Self) })
    }
}

impl<P: Permission> FromRequest for Can<P> {
    type Error = Problem;
    type Future = LocalBoxFuture<'static, Result<Self, Problem>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let request = request.clone();
        Box::pin(async move {
            let principal = principal(&request).await?;
            if !principal.may::<P>() {
                return Err(Problem::forbidden("the caller lacks the permission")
                    .code("forbidden")
                    .field_error("permission", P::SPEC.name));
            }
            if let Some(authentication) = request.app_data::<Authentication>() {
                authentication.confirm(&principal, P::SPEC)?;
                authentication
                    .authorize(&principal, P::SPEC, &request)
                    .await?;
            }
            Ok(Self(principal, PhantomData))
        })
    }
}

/// The caller, who must be known.
async fn principal(request: &HttpRequest) -> Result<Principal, Problem> {
    let found = match request.app_data::<Authentication>() {
        Some(authentication) => authentication.principal(request).await?,
        None => None,
    };
    found.ok_or_else(|| unauthorized("credentials are required", ""))
}
