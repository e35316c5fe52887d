//! The keys of notifications.

use std::time::Duration;

use dotmac_platform::settings::{
    ByteSize, Environment, Facts, Rules, SecretSetting, between, computed, fixed, lasting, sized,
};
use url::Url;

use crate::next_hop::SmsProvider;

dotmac_platform::settings! {
    title: "Notifications", prefix: "NOTIFICATIONS_", rules: NotificationsSettings::rules;
    /// Mail and the inbox of each user: templates, preferences, suppressions.
    pub struct NotificationsSettings {
        /// Address by which recipients reach this installation, the start of links for unsubscribing. Needed in
        /// production for mail of any category but `transactional`, with `https`.
        public_url: Option<Url> { default: computed("`http://localhost` with the port of `DOTMAC_PORT` outside production", public_url) }

        /// Whether mail is held while no relay is set. `GET /notifications/outbox` shows it with its links. Refused in
        /// production.
        outbox: bool { default: computed("`true` in development and test, `false` elsewhere", outbox) }

        /// How long notifications are kept, with their deliveries and items of inboxes. Links for unsubscribing work
        /// for the same time.
        retention: Duration { default: fixed("90d"), range: lasting("1h", "3650d") }

        /// Private key of VAPID, that identifies the sender to push services: 32 bytes, base64url, as `dotmac
        /// notifications push-key` and other tools for web push make it. Browsers subscribe for one key: after a change
        /// they must subscribe again. Without it there are no push messages.
        push_key: SecretSetting { vault: "notifications/push_key", optional: true }

        /// Contact of the operator for push services, as `mailto:ops@example.com` or an `https` address. Some push
        /// services require it.
        push_contact: Option<String> {}

        /// Provider of text messages: `twilio`, or `http` for a gateway that gets signed calls. Without it there are
        /// none.
        sms_provider: Option<SmsProvider> {}

        /// Address of the gateway, or of a server with Twilio's API; `https://api.twilio.com` for Twilio.
        sms_url: Option<Url> {}

        /// Twilio's account, `AC…`.
        sms_account: Option<String> {}

        /// Sender of text messages, a number or a name.
        sms_from: Option<String> {}

        /// Twilio's token, or for a gateway the secret that signs calls: `whsec_…`.
        sms_secret: SecretSetting { vault: "notifications/sms_secret", optional: true }

        /// Private key that signs calls of URLs, `whsk_…`, created by `dotmac notifications webhook-key`. Without it
        /// there is no channel `webhook`.
        webhook_key: SecretSetting { vault: "notifications/webhook_key", optional: true }

        /// Secret with which relays sign what they report at `POST /notifications/reports`: bounces, complaints, delays. `whsec_…`,
        /// as for webhooks. Without it no report is taken there.
        report_secret: SecretSetting { vault: "notifications/report_secret", optional: true }

        /// Files that a mail may have attached to it.
        max_attachments: usize { default: fixed("10"), range: between::<usize>("1", "100") }

        /// Bytes that the files of a mail may have together. Encoded they are a third more, and a mail has at most 10 MiB.
        max_attachment_size: ByteSize { default: fixed("7MiB"), range: sized("1KiB", "7MiB") }

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
            "held mail has links that set the passwords of users",
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
        let contact = self.push_contact.as_deref();
        rules.refuse(
            contact.is_some_and(|it| !it.starts_with("mailto:") && !it.starts_with("https://")),
            &["push_contact"],
            "push services take a mailto: or https: address alone (RFC 8292)",
            "write it as mailto:ops@example.com",
        );
        self.sms_rules(rules);
    }

    fn sms_rules(&self, rules: &mut Rules<'_>) {
        let is_twilio = self.sms_provider == Some(SmsProvider::Twilio);
        rules.refuse(
            self.sms_provider == Some(SmsProvider::Http) && self.sms_url.is_none(),
            &["sms_url", "sms_provider"],
            "a gateway has an address",
            "set it to the URL that takes text messages",
        );
        for (field, is_there) in [
            ("sms_account", self.sms_account.is_some()),
            ("sms_from", self.sms_from.is_some()),
        ] {
            rules.refuse(
                is_twilio && !is_there,
                &[field, "sms_provider"],
                "Twilio takes no text message without it",
                "set it, or unset DOTMAC_NOTIFICATIONS_SMS_PROVIDER",
            );
        }
        let is_plain = |it: &String| it.bytes().all(|it| it.is_ascii_alphanumeric());
        rules.refuse(
            self.sms_account.as_ref().is_some_and(|it| !is_plain(it)),
            &["sms_account"],
            "it is no account of Twilio",
            "write it as AC and 32 digits",
        );
        let is_insecure = |it: &Url| it.scheme() != "https";
        rules.refuse(
            rules.in_production() && self.sms_url.as_ref().is_some_and(is_insecure),
            &["sms_url"],
            "numbers and texts would travel in the clear",
            "use an https:// address",
        );
    }

    /// The contact of the operator for push services.
    pub(crate) fn push_contact(&self) -> Option<String> {
        let url = self.public_url.as_ref().filter(|it| it.scheme() == "https");
        let url = url.map(|it| it.as_str().to_owned());
        self.push_contact.clone().or(url)
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
        _ => facts.local_url(),
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
