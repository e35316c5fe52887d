//! A relay of events to another system, as a component of a module.

use std::sync::Arc;

use dotmac_supervision::WorkerBody;

use super::{ComponentBuilder, Mount};
use crate::events::{Broker, relay};

impl Mount<'_> {
    /// A worker that passes all events of the program on to `broker`, in their order and at least once each. Of all instances
    /// one does at a time. It starts when the database is ready, and begins with the oldest event that is kept; `dotmac events`
    /// shows how far it is, and rewinds it. Nothing is added before [`ComponentBuilder::add`](ComponentBuilder).
    pub fn relay<B: Broker>(&mut self, name: &str, broker: B) -> ComponentBuilder<'_, WorkerBody> {
        let (name, owner) = (self.component(name), self.owner());
        let instance = Arc::clone(&self.assembly.instance);
        let spec = relay(name, &self.db, instance, broker);
        let spec = spec.needs(self.assembly.db_actor.to_start());
        ComponentBuilder::new(self.assembly, owner, Ok(spec))
    }
}
