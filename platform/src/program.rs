//! A program as all of its commands know it.

use std::sync::Arc;

use crate::{about::About, access::Authenticator, module::Registered, settings::Catalogue};

/// The description of a program for its commands. Built by [`Platform`](crate::Platform).
#[derive(Clone)]
pub(crate) struct Program {
    pub(crate) about: About,
    pub(crate) modules: Vec<Registered>,
    /// Every key that it has.
    pub(crate) catalogue: Catalogue,
    pub(crate) authenticator: Option<Arc<dyn Authenticator>>,
}
