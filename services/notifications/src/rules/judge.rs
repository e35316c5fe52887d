//! Whether a recipient is sent something now: what is known to be unreachable, who unsubscribed, and what users prefer.

use dotmac_platform::db::{DbError, TenantTx};

use crate::{
    channel::{ANY, Channel, TRANSACTIONAL},
    store::{
        deliveries::DeliveryRow,
        preferences::{self, PreferenceRow},
        suppressions,
    },
};

/// Why a recipient gets nothing who unsubscribed.
pub(crate) const UNSUBSCRIBED: &str = "unsubscribed";
/// Why a recipient gets nothing whose mailbox is not there.
pub(crate) const BOUNCED: &str = "bounced";
/// Why a user gets nothing who does not want it.
const PREFERENCE: &str = "preference";

/// A word for why the recipient is sent nothing of that category; `None` if it is to be sent.
pub(crate) async fn judge(
    tx: &mut TenantTx,
    delivery: &DeliveryRow,
    category: &str,
) -> Result<Option<String>, DbError> {
    let (channel, key) = (delivery.channel, delivery.recipient_key.clone());
    let known = suppressions::of_recipient(tx, channel, key, category.to_owned()).await?;
    let is_transactional = category == TRANSACTIONAL;
    let found = known
        .into_iter()
        .find(|it| !is_transactional || it.reason != UNSUBSCRIBED);
    if let Some(suppression) = found {
        return Ok(Some(suppression.reason));
    }
    let Some(user) = delivery.user_id.filter(|_| !is_transactional) else {
        return Ok(None);
    };
    let preferences = preferences::of_user(tx, user).await?;
    let is_wanted = is_wanted(&preferences, category, channel);
    Ok((!is_wanted).then(|| PREFERENCE.to_owned()))
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
