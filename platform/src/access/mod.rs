//! Who calls, and what that caller may do: principals, permissions, and the guards that routes begin with.
//!
//! An [`Authenticator`] turns a request into a [`Principal`]. A handler's first argument is a [`Guard`]:
//! [`Public`], [`Authenticated`] or [`Can`]. The guard runs before anything else of the request is read, so a
//! caller that may not call learns nothing about the body it sent. An [`Authorizer`] may refuse what a permission allows.
//!
//! Only an authenticator makes a principal, by the [`AuthRequest`] that it was asked about, and only a principal
//! gives a way to the rows of its tenant without saying why. A handler has neither: it gets the principal of
//! its own request by its guard.

mod authenticator;
mod authorizer;
mod guard;
mod permission;
mod principal;
mod scheme;

pub(crate) use authenticator::Authentication;
pub use authenticator::{AuthError, AuthRequest, Authenticator, GuardedRoute};
pub use authorizer::{Authorizer, RequestedResource};
pub use guard::{Authenticated, Can, Guard, Public};
pub use permission::{MAX_PERMISSIONS, Permission, PermissionSet, PermissionSpec};
pub use principal::{Identity, Principal, PrincipalKind};
pub use scheme::CredentialScheme;
