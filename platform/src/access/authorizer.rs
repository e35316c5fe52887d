//! Whether a caller with a permission may use it on one resource: the place for rules by attributes.

use actix_web::{HttpRequest, http::Method};
use futures_util::future::LocalBoxFuture;

use super::{AuthError, PermissionSpec, Principal};

/// Decides about requests whose caller has the permission of the route, for rules by attributes of the caller or the resource.
/// A program has at most one; without one the permission is enough. It can only refuse: a caller without the permission is
/// refused before.
pub trait Authorizer: Send + Sync + 'static {
    /// Whether `principal` may do `action` to `resource`. Called once for each request to a route with a
    /// [`Can`](super::Can), before its body is read.
    ///
    /// # Errors
    ///
    /// [`AuthError::Refused`] if it may not; [`AuthError::Unavailable`] if that cannot be decided now.
    fn authorize<'r>(
        &'r self,
        principal: &'r Principal,
        action: PermissionSpec,
        resource: RequestedResource<'r>,
    ) -> LocalBoxFuture<'r, Result<(), AuthError>>;
}

/// The resource of a request, as an [`Authorizer`] sees it.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct RequestedResource<'r> {
    /// The method of the request.
    pub method: &'r Method,
    /// The pattern of its path: `/api/v1/notes/{id}`.
    pub pattern: &'r str,
    request: &'r HttpRequest,
}

impl<'r> RequestedResource<'r> {
    pub(super) const fn new(
        request: &'r HttpRequest,
        method: &'r Method,
        pattern: &'r str,
    ) -> Self {
        Self {
            method,
            pattern,
            request,
        }
    }

    /// The text of a parameter of the path: `id`.
    #[must_use]
    pub fn parameter(&self, name: &str) -> Option<&'r str> {
        self.request.match_info().get(name)
    }
}
