//! The check of a module's dependency for `check --connect`, and what it finds.

use futures_util::future::LocalBoxFuture;

type Trying = LocalBoxFuture<'static, Result<Finding, String>>;

/// What a check found, in a sentence: see [`Mount::check_connection`](super::Mount::check_connection) and
/// [`Mount::remark`](super::Mount::remark). A text says that all is well.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    words: String,
    is_weak: bool,
}

impl Finding {
    /// It works, and something that should protect it is missing: `words` say what, and what to do.
    #[must_use]
    pub fn weak(words: impl Into<String>) -> Self {
        Self {
            words: words.into(),
            is_weak: true,
        }
    }

    /// Whether something that should protect it is missing.
    pub(crate) const fn is_weak(&self) -> bool {
        self.is_weak
    }

    pub(crate) fn words(&self) -> &str {
        &self.words
    }
}

impl From<String> for Finding {
    fn from(words: String) -> Self {
        Self {
            words,
            is_weak: false,
        }
    }
}

impl From<&str> for Finding {
    fn from(words: &str) -> Self {
        words.to_owned().into()
    }
}

/// One thing to try: see [`Mount::check_connection`](super::Mount::check_connection).
pub(crate) struct ConnectionCheck {
    what: &'static str,
    begin: Box<dyn FnOnce() -> Trying>,
}

impl ConnectionCheck {
    pub(super) fn new<R, F>(what: &'static str, try_it: impl FnOnce() -> R + 'static) -> Self
    where
        R: Future<Output = Result<F, String>> + 'static,
        F: Into<Finding> + 'static,
    {
        let begin = move || -> Trying {
            let trying = try_it();
            Box::pin(async move {
                let found: Result<Finding, String> = trying.await.map(Into::into);
                found
            })
        };
        Self {
            what,
            begin: Box::new(begin),
        }
    }

    /// What it tries.
    pub(crate) const fn what(&self) -> &'static str {
        self.what
    }

    /// The check.
    pub(crate) fn run(self) -> Trying {
        (self.begin)()
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use std::future::ready;

    use super::*;

    #[tokio::test]
    async fn a_check_says_that_all_is_well_by_a_text_and_what_is_missing_otherwise() {
        let good = ConnectionCheck::new("relay", || ready(Ok("it answers".to_owned())));
        let good = good.run().await.unwrap();
        assert_eq!((good.words(), good.is_weak()), ("it answers", false));
        let weak = ConnectionCheck::new("key", || ready(Ok(Finding::weak("there is none"))));
        assert_eq!(weak.what(), "key");
        let weak = weak.run().await.unwrap();
        assert_eq!((weak.words(), weak.is_weak()), ("there is none", true));
        let failed = ConnectionCheck::new("relay", || ready(Err::<String, _>("away".to_owned())));
        assert_eq!(failed.run().await.unwrap_err(), "away");
    }
}
