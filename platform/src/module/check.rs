//! The check of a module's dependency for `check --connect`.

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

    /// The name of a check, and the check.
    pub(crate) fn run(self) -> (&'static str, Trying) {
        (self.what, (self.begin)())
    }
}
