//! Who calls, and what that caller may do: principals, permissions, and the guards that routes begin with.
//!
//! An [`Authenticator`] turns a request into a [`Principal`]. A handler's first argument is a [`Guard`]:
//! [`Public`], [`Authenticated`] or [`Can`]. The guard runs before anything else of the request is read, so a
//! caller that may not call learns nothing about the body it sent.

mod authenticator;
mod guard;
mod permission;
mod principal;

pub(crate) use authenticator::Authentication;
pub use authenticator::{AuthError, AuthRequest, Authenticator};
pub use guard::{Authenticated, Can, Guard, Public};
pub use permission::{MAX_PERMISSIONS, Permission, PermissionSet, PermissionSpec};
pub use principal::{Principal, PrincipalKind};
