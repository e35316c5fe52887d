//! A subscriber of a module, while its rules are being given.

use dotmac_db::ModuleDb;
use dotmac_supervision::WorkerHandle;

use super::{Assembly, ComponentBuilder, Mount, MountError};
use crate::events::{Retries, Start, Subscriber};

/// A subscriber to be: see [`Mount::subscribe`].
#[must_use = "nothing is added before `add`"]
pub struct SubscriptionBuilder<'a> {
    assembly: &'a mut Assembly,
    db: ModuleDb,
    module: &'static str,
    is_required: bool,
    subscriber: Subscriber,
}

impl<'a> SubscriptionBuilder<'a> {
    pub(super) fn new(on: &'a mut Mount<'_>, subscriber: Subscriber) -> Self {
        Self {
            db: on.db.clone(),
            module: on.module,
            is_required: on.is_required,
            assembly: on.assembly,
            subscriber,
        }
    }

    /// Where it begins if it has no cursor yet; with the oldest event that is kept unless said otherwise.
    pub fn start(self, start: Start) -> Self {
        Self {
            subscriber: self.subscriber.start(start),
            ..self
        }
    }

    /// How often it tries an event at which it fails.
    pub fn retries(self, retries: Retries) -> Self {
        Self {
            subscriber: self.subscriber.retries(retries),
            ..self
        }
    }

    /// Without it the program is not ready; overrides the module's manifest.
    pub fn required(self) -> Self {
        Self {
            is_required: true,
            ..self
        }
    }

    /// Without it the program is degraded; overrides the module's manifest.
    pub fn optional(self) -> Self {
        Self {
            is_required: false,
            ..self
        }
    }

    /// Adds the subscriber. It starts when the database is ready.
    ///
    /// # Errors
    ///
    /// [`MountError`]: its name is taken.
    pub fn add(self) -> Result<WorkerHandle, MountError> {
        let Self {
            assembly,
            db,
            module,
            is_required,
            subscriber,
        } = self;
        let (name, kinds) = (subscriber.name(), subscriber.kinds());
        let spec = subscriber.worker(&db).needs(assembly.db_actor.to_start());
        let handle = ComponentBuilder::new(assembly, (module, is_required), Ok(spec)).add()?;
        assembly.events.subscribe(module, name, kinds);
        Ok(handle)
    }
}
