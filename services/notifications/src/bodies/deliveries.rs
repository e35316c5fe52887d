//! Notifications and deliveries as clients see them.

use dotmac_platform::{db::types::Moment, delivery::Attempt};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use crate::{
    channel::{Channel, State},
    store::{
        attachments::FileId,
        deliveries::{DeliveryId, DeliveryRow, UserId},
        notifications::{NotificationId, NotificationRow},
        templates::TemplateId,
    },
};

/// Which deliveries.
#[derive(Deserialize, IntoParams)]
pub(crate) struct Asked {
    /// Only deliveries in this state: `queued`, `held`, `accepted`, `delivered`, `bounced`, `failed`, `suppressed`, `unknown`,
    /// `cancelled`.
    pub(crate) state: Option<String>,
    /// Only deliveries by this channel: `email`, `in_app`, `webhook`, `web_push`, `sms`.
    pub(crate) channel: Option<String>,
    /// Only deliveries of this notification.
    pub(crate) notification: Option<Uuid>,
}

/// A notification that was accepted to be sent, and nothing more.
#[derive(Serialize, ToSchema)]
#[schema(as = SentNotification)]
pub(crate) struct SentBody {
    /// Its id.
    pub(crate) id: NotificationId,
    /// Its deliveries, in the order of the recipients.
    pub(crate) deliveries: Vec<SentDelivery>,
}

/// A delivery, as it is at first.
#[derive(Serialize, ToSchema)]
pub(crate) struct SentDelivery {
    /// Its id.
    pub(crate) id: DeliveryId,
    /// Its channel.
    pub(crate) channel: Channel,
    /// The recipient: an address, a number, a URL, the id of a user, or of a user's browser.
    pub(crate) recipient: String,
    /// How it is.
    pub(crate) state: State,
}

impl From<&DeliveryRow> for SentDelivery {
    fn from(row: &DeliveryRow) -> Self {
        Self {
            id: row.id,
            channel: row.channel,
            recipient: row.recipient.clone(),
            state: row.state,
        }
    }
}

/// A notification with its deliveries.
#[derive(Serialize, ToSchema)]
#[schema(as = Notification)]
pub(crate) struct NotificationBody {
    id: NotificationId,
    /// What it is about.
    category: String,
    /// What a mail of a service is for: `accounts.password_reset`.
    purpose: Option<String>,
    /// Its template.
    template_id: Option<TemplateId>,
    /// The version of the template.
    template_version: Option<i64>,
    /// Not before that time.
    send_at: Option<Moment>,
    /// Not after that time.
    expires_at: Option<Moment>,
    created_at: Moment,
    /// The files that its mails have attached to them.
    attachments: Vec<FileId>,
    /// Its deliveries.
    deliveries: Vec<DeliveryBody>,
}

impl NotificationBody {
    pub(crate) fn new(
        row: NotificationRow,
        attachments: Vec<FileId>,
        deliveries: Vec<DeliveryRow>,
    ) -> Self {
        Self {
            id: row.id,
            category: row.category,
            purpose: row.purpose,
            template_id: row.template_id,
            template_version: row.template_version,
            send_at: row.send_at,
            expires_at: row.expires_at,
            created_at: row.created_at,
            attachments,
            deliveries: deliveries.into_iter().map(DeliveryBody::from).collect(),
        }
    }
}

/// A delivery.
#[derive(Serialize, ToSchema)]
#[schema(as = Delivery)]
pub(crate) struct DeliveryBody {
    pub(crate) id: DeliveryId,
    /// Its notification.
    notification_id: NotificationId,
    /// Its channel.
    channel: Channel,
    /// The recipient.
    recipient: String,
    /// The user that is, if it is one.
    user_id: Option<UserId>,
    /// What is known of it: what the next hop answered, and nothing beyond.
    state: State,
    /// A word for why: `unsubscribed`, `expired`, `smtp_rcpt_to`.
    reason: Option<String>,
    /// The reply code of the next hop.
    status: Option<i32>,
    /// What the next hop answered last: `250 2.0.0 Ok: queued as 4F1…`.
    answer: Option<String>,
    /// How many attempts there were.
    attempts: i32,
    /// When there is another one.
    next_attempt_at: Option<Moment>,
    created_at: Moment,
    updated_at: Moment,
}

impl From<DeliveryRow> for DeliveryBody {
    fn from(row: DeliveryRow) -> Self {
        let (created_at, status) = (row.created_at(), row.status());
        Self {
            id: row.id,
            notification_id: row.notification_id,
            channel: row.channel,
            recipient: row.recipient,
            user_id: row.user_id,
            state: row.state,
            reason: row.reason,
            status,
            answer: row.answer,
            attempts: row.attempts,
            next_attempt_at: row.next_attempt_at.filter(|_| row.state == State::Queued),
            created_at,
            updated_at: row.updated_at,
        }
    }
}

/// A delivery with its attempts.
#[derive(Serialize, ToSchema)]
pub(crate) struct DeliveryDetail {
    #[serde(flatten)]
    pub(crate) delivery: DeliveryBody,
    /// The delivery that it is sent with, if several become one mail; of the first its own.
    pub(crate) digest_of: Option<DeliveryId>,
    /// Each attempt, the first 200 of them.
    pub(crate) history: Vec<Attempt>,
}
