//! What handlers, the sender and the workers share.

use std::{
    collections::HashSet,
    ops::Deref,
    sync::{Arc, PoisonError, RwLock},
};

use dotmac_platform::{db::ModuleDb, egress::Egress, events::EventCatalogue, sealing::Sealer};

use crate::{WebhooksSettings, store::endpoints::EndpointId};

/// Clones share it.
#[derive(Clone)]
pub(crate) struct Service(Arc<Inner>);

pub(crate) struct Inner {
    pub(crate) db: ModuleDb,
    pub(crate) settings: WebhooksSettings,
    pub(crate) sealer: Sealer,
    pub(crate) egress: Egress,
    pub(crate) catalogue: EventCatalogue,
}

impl Service {
    pub(crate) fn new(inner: Inner) -> Self {
        Self(Arc::new(inner))
    }
}

impl Deref for Service {
    type Target = Inner;

    fn deref(&self) -> &Inner {
        &self.0
    }
}

/// Endpoints for which as many deliveries wait as may. Measured every few seconds, so the bound is kept to what comes in that
/// time. Clones share it.
#[derive(Clone, Default)]
pub(crate) struct Full(Arc<RwLock<HashSet<EndpointId>>>);

impl Full {
    pub(crate) fn set(&self, endpoints: impl IntoIterator<Item = EndpointId>) {
        let endpoints = endpoints.into_iter().collect();
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = endpoints;
    }

    pub(crate) fn holds(&self, endpoint: EndpointId) -> bool {
        let full = self.0.read().unwrap_or_else(PoisonError::into_inner);
        full.contains(&endpoint)
    }
}
