//! Whether a recipient is sent something now: unreachable addresses, unsubscribed recipients, preferences, and quiet
//! hours.

use dotmac_platform::db::{DbError, TenantTx, types::Moment};

use super::quiet_hours::{Quiet, quiet_until};
use crate::{
    channel::{ANY, Channel, TRANSACTIONAL},
    store::{
        deliveries::DeliveryRow,
        notifications::NotificationRow,
        preferences::{self, PreferenceRow},
        quiet_hours,
        suppressions::{self, Recipients, SuppressionRow},
    },
};

/// Reason: the recipient unsubscribed.
pub(crate) const UNSUBSCRIBED: &str = "unsubscribed";
/// Reason: the recipient's mailbox does not exist.
pub(crate) const BOUNCED: &str = "bounced";
/// Reason: the recipient complained about a message.
pub(crate) const COMPLAINED: &str = "complained";
/// Reason: the user does not want it.
const PREFERENCE: &str = "preference";

/// What is decided of a delivery before it is sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Judgement {
    /// It is to be sent.
    Send,
    /// It is not, and the word for why.
    Never(String),
    /// Not before the end of the user's quiet hours.
    Later(Quiet),
}

impl Judgement {
    /// The word for why it is not to be sent at all.
    pub(crate) fn refusal(self) -> Option<String> {
        match self {
            Self::Never(reason) => Some(reason),
            Self::Send | Self::Later(_) => None,
        }
    }
}

/// Judges a delivery of `notification`, now.
pub(crate) async fn judge(
    tx: &mut TenantTx,
    delivery: &DeliveryRow,
    notification: &NotificationRow,
) -> Result<Judgement, DbError> {
    let mut recipient = Recipients::default();
    let key = &delivery.recipient_key;
    recipient.add(delivery.channel, key, &notification.category);
    let suppressions = suppressions::of_recipients(tx, recipient).await?;
    judge_knowing(tx, delivery, notification, &suppressions).await
}

/// The same, where all suppressions of the recipient are known; others among them change nothing.
pub(crate) async fn judge_knowing(
    tx: &mut TenantTx,
    delivery: &DeliveryRow,
    notification: &NotificationRow,
    suppressions: &[SuppressionRow],
) -> Result<Judgement, DbError> {
    let channel = delivery.channel;
    let category = &notification.category;
    let is_transactional = category == TRANSACTIONAL;
    let is_of_it = |it: &&SuppressionRow| {
        it.channel == channel
            && it.recipient_key == delivery.recipient_key
            && (it.category == ANY || it.category == *category)
            && !(is_transactional && it.reason == UNSUBSCRIBED)
    };
    if let Some(suppression) = suppressions.iter().find(is_of_it) {
        return Ok(Judgement::Never(suppression.reason.clone()));
    }
    let Some(user) = delivery.user_id.filter(|_| !is_transactional) else {
        return Ok(Judgement::Send);
    };
    let preferences = preferences::of_user(tx, user).await?;
    if !is_wanted(&preferences, category, channel) {
        return Ok(Judgement::Never(PREFERENCE.to_owned()));
    }
    // What is urgent is sent at any time, and an item in an inbox disturbs no user.
    if notification.is_urgent() || !disturbs(channel) {
        return Ok(Judgement::Send);
    }
    let quiet = quiet_hours::find(tx, user).await?;
    let quiet = quiet.and_then(|it| quiet_until(&it, Moment::now()));
    Ok(quiet.map_or(Judgement::Send, Judgement::Later))
}

/// Whether a message by that channel makes a device ring.
const fn disturbs(channel: Channel) -> bool {
    matches!(channel, Channel::Email | Channel::Sms | Channel::WebPush)
}

/// Whether a user with these preferences wants it: the most particular one counts, a category more than a channel.
fn is_wanted(preferences: &[PreferenceRow], category: &str, channel: Channel) -> bool {
    let channel = channel.as_str();
    let places = [
        (category, channel),
        (category, ANY),
        (ANY, channel),
        (ANY, ANY),
    ];
    let mut found = places.iter().filter_map(|(category, channel)| {
        let mut of_user = preferences.iter();
        of_user.find(|it| it.category == *category && it.channel == *channel)
    });
    found.next().is_none_or(|it| it.enabled)
}

#[cfg(test)]
mod tests {
    use dotmac_platform::db::types::Moment;

    use super::*;

    fn preference(category: &str, channel: &str, enabled: bool) -> PreferenceRow {
        PreferenceRow {
            tenant_id: dotmac_platform::db::TenantId::default(),
            user_id: dotmac_platform::db::types::Id::default(),
            category: category.to_owned(),
            channel: channel.to_owned(),
            enabled,
            updated_at: Moment::now(),
        }
    }

    #[test]
    fn the_most_particular_preference_counts() {
        let all = [
            preference("*", "*", false),
            preference("*", "in_app", true),
            preference("news", "*", true),
            preference("news", "email", false),
        ];
        assert!(!is_wanted(&all, "news", Channel::Email));
        assert!(is_wanted(&all, "news", Channel::InApp));
        assert!(is_wanted(&all, "other", Channel::InApp));
        assert!(!is_wanted(&all, "other", Channel::Email));
        assert!(is_wanted(&[], "other", Channel::Email));
    }
}
