//! What `check --connect` tries of what a module depends on.

use futures_util::future::LocalBoxFuture;

type Trying = LocalBoxFuture<'static, Result<String, String>>;

/// One thing to try: see [`Mount::check_connection`](super::Mount::check_connection).
pub(crate) struct ConnectionCheck {
    what: &'static str,
    begin: Box<dyn FnOnce() -> Trying>,
}

impl ConnectionCheck {
    pub(super) fn new<R>(what: &'static str, try_it: impl FnOnce() -> R + 'static) -> Self
    where
        R: Future<Output = Result<String, String>> + 'static,
    {
        Self {
            what,
            begin: Box::new(|| Box::pin(try_it())),
        }
    }

    /// What is tried, and the try.
    pub(crate) fn run(self) -> (&'static str, Trying) {
        (self.what, (self.begin)())
    }
}
