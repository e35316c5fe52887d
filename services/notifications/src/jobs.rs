//! What is done after a request: handing a delivery to its next hop, and putting items into inboxes at their time.

use std::time::Duration;

use dotmac_platform::{
    db::TenantId,
    jobs::{Job, Rules},
};
use serde::{Deserialize, Serialize};

use crate::store::{deliveries::DeliveryId, notifications::NotificationId};

/// Hands one mail to the relay.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Deliver {
    /// Whose it is: a job that a service enqueued may be the system's.
    pub(crate) tenant: TenantId,
    pub(crate) delivery: DeliveryId,
}

impl Job for Deliver {
    const KIND: &'static str = "notifications.deliver";
    type Output = ();
    const RULES: Rules = Rules {
        // The waits are those of the ladder of mail, which the handler asks for.
        max_attempts: 100,
        slots: 16,
        hang_after: Duration::from_secs(60),
        shown: &["delivery"],
        ..Rules::DEFAULT
    };
}

/// Puts the items of a notification into the inboxes of its users.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Publish {
    pub(crate) notification: NotificationId,
}

impl Job for Publish {
    const KIND: &'static str = "notifications.publish";
    type Output = ();
    const RULES: Rules = Rules {
        slots: 2,
        shown: &["notification"],
        ..Rules::DEFAULT
    };
}
