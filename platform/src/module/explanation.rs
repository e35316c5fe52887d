//! A module's explanation of its work for `why`.

use std::sync::Arc;

/// Sentences about the work of one module, as they are at the moment of the question.
#[derive(Clone)]
pub(crate) struct Explanation {
    pub(crate) module: &'static str,
    explain: Arc<dyn Fn() -> Vec<String> + Send + Sync>,
}

impl Explanation {
    pub(super) fn new(
        module: &'static str,
        explain: impl Fn() -> Vec<String> + Send + Sync + 'static,
    ) -> Self {
        Self {
            module,
            explain: Arc::new(explain),
        }
    }

    /// The sentences.
    pub(crate) fn sentences(&self) -> Vec<String> {
        (self.explain)()
    }
}
