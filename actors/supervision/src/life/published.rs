//! A value that an actor publishes in addition to its mailbox: a pool, a table, anything that callers share.

use std::sync::Arc;

use arc_swap::ArcSwapOption;

use super::wire::{Slot, Withdrawn};

/// A slot that holds the current offer of one actor; empty whenever that actor cannot serve.
///
/// Readers take no lock and wait for nothing. Filled through [`Lifeline::publish`](crate::Lifeline::publish),
/// and emptied by the supervisor the moment its actor fails or says that it is unavailable.
#[derive(Debug)]
pub struct Published<T>(Arc<ArcSwapOption<T>>);

impl<T> Published<T> {
    /// An empty slot.
    #[must_use]
    pub fn new() -> Self {
        Self(Arc::new(ArcSwapOption::empty()))
    }

    /// The current offer. What took it may finish its work with it, also past a restart.
    #[must_use]
    pub fn get(&self) -> Option<Arc<T>> {
        self.0.load_full()
    }

    /// Fills the slot without a supervisor: for tests, and for offers that no life stands behind.
    pub fn offer(&self, value: Arc<T>) {
        self.swap(Some(value));
    }

    /// Puts `value` in; what was there goes out.
    pub(crate) fn swap(&self, value: Option<Arc<T>>) -> Option<Arc<T>> {
        self.0.swap(value)
    }
}

impl<T: Send + Sync + 'static> Slot for Published<T> {
    /// Nothing to do: it opens by the offer itself.
    fn open(&self, _generation: u64) {}

    fn close(&self) -> Option<Withdrawn> {
        self.swap(None).map(|value| Box::new(value) as Withdrawn)
    }

    fn revoke(&self) -> Option<Withdrawn> {
        self.close()
    }
}

impl<T> Default for Published<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> Clone for Published<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}
