//! Values that a module shares with modules mounted before it.

use std::sync::{Arc, OnceLock};

/// A `T` that some module of the program [shares](crate::module::Mount::share), wherever it stands in the list of modules: known
/// once all modules are mounted, so before anything runs. Made by [`Mount::later`](crate::module::Mount::later).
pub struct Later<T>(Arc<OnceLock<T>>);

impl<T> Later<T> {
    /// None yet.
    pub(crate) fn new() -> Self {
        Self(Arc::new(OnceLock::new()))
    }

    /// The shared value; `None` if no module shares a `T`, and while modules are being mounted.
    #[must_use]
    pub fn get(&self) -> Option<&T> {
        self.0.get()
    }

    /// Makes it known; the first one stays.
    pub(crate) fn set(&self, value: T) {
        self.0.get_or_init(|| value);
    }
}

// Not derived, since that would want the same of `T`.
impl<T> Clone for Later<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}
