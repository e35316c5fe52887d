//! What is done after a request: handing a delivery to its next hop, and putting items into inboxes at their time.

use std::time::Duration;

use dotmac_platform::{
    db::TenantId,
    jobs::{Job, Rules},
};
use serde::{Deserialize, Serialize};

use crate::store::{deliveries::DeliveryId, notifications::NotificationId};

/// A job that hands one delivery to its next hop.
pub(crate) trait DeliveryJob: Job<Output = ()> {
    /// Whose it is: a job that a service enqueued may be the system's.
    fn owner(&self) -> TenantId;
    /// What is handed over.
    fn delivery_id(&self) -> DeliveryId;
}

/// Hands one mail to the relay.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Deliver {
    pub(crate) tenant: TenantId,
    pub(crate) delivery: DeliveryId,
    /// Whether others may be sent with it.
    #[serde(default)]
    pub(crate) is_digest: bool,
}

impl Deliver {
    /// Of one mail by itself.
    pub(crate) const fn of(tenant: TenantId, delivery: DeliveryId) -> Self {
        Self {
            tenant,
            delivery,
            is_digest: false,
        }
    }
}

impl Job for Deliver {
    const KIND: &'static str = "notifications.deliver";
    type Output = ();
    const RULES: Rules = rules(16);
}

impl DeliveryJob for Deliver {
    fn owner(&self) -> TenantId {
        self.tenant
    }

    fn delivery_id(&self) -> DeliveryId {
        self.delivery
    }
}

/// Those of all jobs of deliveries.
const fn rules(slots: u32) -> Rules {
    Rules {
        // The waits are those of the ladder of deliveries, which the handler asks for.
        max_attempts: 100,
        slots,
        hang_after: Duration::from_secs(60),
        shown: &["delivery"],
        ..Rules::DEFAULT
    }
}

/// The jobs of the other channels. Each channel has its own, with slots of its own, so that none waits for another's next hop.
macro_rules! deliveries {
    ($($(#[doc = $doc:literal])+ $name:ident = $kind:literal, $slots:literal;)+) => {$(
        $(#[doc = $doc])+
        #[derive(Clone, Debug, Serialize, Deserialize)]
        pub(crate) struct $name {
            pub(crate) tenant: TenantId,
            pub(crate) delivery: DeliveryId,
        }

        impl Job for $name {
            const KIND: &'static str = $kind;
            type Output = ();
            const RULES: Rules = rules($slots);
        }

        impl DeliveryJob for $name {
            fn owner(&self) -> TenantId {
                self.tenant
            }

            fn delivery_id(&self) -> DeliveryId {
                self.delivery
            }
        }
    )+};
}

deliveries! {
    /// Hands one text message to the provider.
    SendText = "notifications.text", 8;
    /// Hands one push message to the push service of a browser.
    SendPush = "notifications.push", 16;
    /// Sends one notification to a URL. The lane of its receiver says how many are called at once.
    CallUrl = "notifications.call", 64;
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
