//! What others learn of notifications. An event has ids, words and counts, and never an address or what a message says.

use dotmac_platform::{
    db::Tx,
    events::{EmitError, Event, emit_for},
    module::Manifest,
};
use serde::Serialize;
use utoipa::ToSchema;

use crate::{
    channel::{Channel, State},
    store::{
        deliveries::{DeliveryId, DeliveryRow, UserId},
        notifications::NotificationId,
        suppressions::SuppressionId,
    },
};

/// A notification was accepted to be sent.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct NotificationCreated {
    /// The notification.
    pub(crate) notification_id: NotificationId,
    /// What it is about: `transactional`, or a category of the tenant.
    pub(crate) category: String,
    /// How many deliveries it has.
    pub(crate) deliveries: usize,
}

impl Event for NotificationCreated {
    const TYPE: &'static str = "notification.created.v1";

    fn subject(&self) -> String {
        format!("notifications/{}", self.notification_id)
    }
}

/// A recipient is sent nothing any more: they unsubscribed, or cannot be reached.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct RecipientSuppressed {
    /// The suppression.
    pub(crate) suppression_id: SuppressionId,
    /// The channel.
    pub(crate) channel: Channel,
    /// The category, `*` for all.
    pub(crate) category: String,
    /// `unsubscribed`, `bounced` or `complained`.
    pub(crate) reason: String,
}

impl Event for RecipientSuppressed {
    const TYPE: &'static str = "notification.suppressed.v1";

    fn subject(&self) -> String {
        format!("suppressions/{}", self.suppression_id)
    }
}

/// The events of a delivery: `Type = "delivery.thing.v1"`.
macro_rules! of_deliveries {
    ($($(#[doc = $doc:literal])+ $event:ident = $kind:literal, $state:ident;)+) => {
        $(
            $(#[doc = $doc])+
            #[derive(Clone, Debug, Serialize, ToSchema)]
            pub(crate) struct $event {
                /// The delivery.
                delivery_id: DeliveryId,
                /// Its notification.
                notification_id: NotificationId,
                /// Its channel.
                channel: Channel,
                /// The user it is for, if it is for one.
                user_id: Option<UserId>,
                /// The reply code of the next hop, if it answered.
                status: Option<i32>,
                /// The word for why.
                reason: Option<String>,
            }

            impl Event for $event {
                const TYPE: &'static str = $kind;

                fn subject(&self) -> String {
                    format!("deliveries/{}", self.delivery_id)
                }
            }
        )+

        /// Emits what became of `delivery`, if that is worth an event, on a transaction of its tenant or of the system.
        pub(crate) fn emit(
            tx: &mut Tx,
            delivery: &DeliveryRow,
            state: State,
            (status, reason): (Option<i32>, Option<String>),
        ) -> Result<(), EmitError> {
            match state {
                $(State::$state => drop(emit_for(tx, delivery.tenant_id, &$event {
                    delivery_id: delivery.id,
                    notification_id: delivery.notification_id,
                    channel: delivery.channel,
                    user_id: delivery.user_id,
                    status,
                    reason,
                })?),)+
                State::Queued | State::Held | State::Cancelled => {}
            }
            Ok(())
        }

        /// Adds all events to what the module emits.
        pub(crate) fn declare(manifest: Manifest) -> Manifest {
            manifest
                .emits::<NotificationCreated>()
                .emits::<RecipientSuppressed>()
                $(.emits::<$event>())+
        }
    };
}

of_deliveries! {
    /// The next hop has taken responsibility for a delivery.
    DeliveryAccepted = "delivery.accepted.v1", Accepted;
    /// A delivery is where its recipient finds it.
    DeliveryDelivered = "delivery.delivered.v1", Delivered;
    /// The next hop says that there is no such recipient.
    DeliveryBounced = "delivery.bounced.v1", Bounced;
    /// A delivery was refused, or all attempts are used up.
    DeliveryFailed = "delivery.failed.v1", Failed;
    /// The recipient does not want it, or cannot be reached.
    DeliverySuppressed = "delivery.suppressed.v1", Suppressed;
    /// The connection was lost before the next hop answered.
    DeliveryUnknown = "delivery.unknown.v1", Unknown;
}
