//! Events about webhooks, for subscribers.

use dotmac_platform::{
    db::types::{Id, Moment},
    events::Event,
};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::store::endpoints::Endpoint;

/// An endpoint was disabled: it gets no deliveries until it is resumed.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub(crate) struct EndpointDisabled {
    /// Its id.
    #[schema(value_type = uuid::Uuid)]
    pub(crate) endpoint: Id<Endpoint>,
    /// Why: `gone` if it answered 410, `failing` if it failed for too long.
    pub(crate) reason: String,
    /// When the first of its failures without a success was.
    pub(crate) failing_since: Option<Moment>,
}

impl Event for EndpointDisabled {
    const TYPE: &'static str = "webhook.endpoint.disabled.v1";

    fn subject(&self) -> String {
        format!("webhooks/{}", self.endpoint)
    }
}
