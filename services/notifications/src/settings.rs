//! The keys of notifications.

use std::time::Duration;

use dotmac_platform::settings::{Environment, Facts, Rules, computed, fixed, lasting};
use url::Url;

dotmac_platform::settings! {
    title: "Notifications", prefix: "NOTIFICATIONS_", rules: NotificationsSettings::rules;
    /// Mail and the inbox of each user: templates, preferences, suppressions.
    pub struct NotificationsSettings {
        /// Address by which recipients reach this installation: the links by which they unsubscribe begin with it. Needed in
        /// production for mail of any category but `transactional`, with `https`.
        public_url: Option<Url> { default: computed("`http://localhost:8000` outside production", public_url) }

        /// Whether mail is held while there is no relay, to be read at `GET /notifications/outbox`, which shows the links in
        /// it. Refused in production.
        outbox: bool { default: computed("`true` in development and test, `false` elsewhere", outbox) }

        /// How long notifications are kept, with their deliveries and what is in inboxes. Links by which recipients
        /// unsubscribe work as long.
        retention: Duration { default: fixed("90d"), range: lasting("1h", "3650d") }

        /// How often what waits is measured, for metrics and `dotmac why`.
        status_interval: Duration { default: fixed("5s"), range: lasting("100ms", "10m") }
    }
}

impl NotificationsSettings {
    fn rules(&self, rules: &mut Rules<'_>) {
        let in_production = rules.in_production();
        rules.refuse(
            in_production && self.outbox,
            &["outbox"],
            "whoever reads held mail can set the passwords of others",
            "unset it, and set DOTMAC_SMTP_HOST",
        );
        let is_plain = self
            .public_url
            .as_ref()
            .is_some_and(|it| it.scheme() != "https");
        rules.refuse(
            in_production && is_plain,
            &["public_url"],
            "mail programs unsubscribe by https alone (RFC 8058)",
            "use an https:// address",
        );
    }

    /// The link by which the recipient of the delivery with this token unsubscribes.
    pub(crate) fn unsubscribe_url(&self, token: &str) -> Option<String> {
        let base = self.public_url.as_ref()?.as_str().trim_end_matches('/');
        Some(format!("{base}/api/v1/u/{token}"))
    }
}

fn public_url(facts: &Facts<'_>) -> String {
    match facts.environment() {
        Environment::Production => String::new(),
        _ => "http://localhost:8000".to_owned(),
    }
}

fn outbox(facts: &Facts<'_>) -> String {
    let is_held = matches!(
        facts.environment(),
        Environment::Development | Environment::Test
    );
    is_held.to_string()
}

#[cfg(test)]
mod tests {
    use dotmac_platform::settings::docs;

    use super::NotificationsSettings;

    #[test]
    fn the_readme_has_every_key() {
        let readme = concat!(env!("CARGO_MANIFEST_DIR"), "/README.md");
        docs::assert_documented::<NotificationsSettings>("notifications", readme);
    }
}
