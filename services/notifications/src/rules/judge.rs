//! Whether a recipient is sent something now: what is known to be unreachable, who unsubscribed, what users prefer, and when
//! they are not to be disturbed.

use dotmac_platform::db::{DbError, TenantTx, types::Moment};

use super::quiet_hours::{Quiet, quiet_until};
use crate::{
    channel::{ANY, Channel, TRANSACTIONAL},
    store::{
        deliveries::DeliveryRow,
        notifications::NotificationRow,
        preferences::{self, PreferenceRow},
        quiet_hours, suppressions,
    },
};

/// Why a recipient gets nothing who unsubscribed.
pub(crate) const UNSUBSCRIBED: &str = "unsubscribed";
/// Why a recipient gets nothing whose mailbox is not there.
pub(crate) const BOUNCED: &str = "bounced";
/// Why a recipient gets nothing who complained of a message.
pub(crate) const COMPLAINED: &str = "complained";
/// Why a user gets nothing who does not want it.
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
    let (channel, key) = (delivery.channel, delivery.recipient_key.clone());
    let category = &notification.category;
    let known = suppressions::of_recipient(tx, channel, key, category.clone()).await?;
    let is_transactional = category == TRANSACTIONAL;
    let found = known
        .into_iter()
        .find(|it| !is_transactional || it.reason != UNSUBSCRIBED);
    if let Some(suppression) = found {
        return Ok(Judgement::Never(suppression.reason));
    }
    let Some(user) = delivery.user_id.filter(|_| !is_transactional) else {
        return Ok(Judgement::Send);
    };
    let preferences = preferences::of_user(tx, user).await?;
    if !is_wanted(&preferences, category, channel) {
        return Ok(Judgement::Never(PREFERENCE.to_owned()));
    }
    // What is urgent is sent at any time, and what is in an inbox disturbs nobody.
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
