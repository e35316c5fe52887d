//! The keys of the relay.

use std::{path::PathBuf, time::Duration};

use dotmac_platform::{
    mail::EmailAddress,
    settings::{HostName, Rules, SecretSetting, between, fixed, lasting},
};

dotmac_platform::choice! {
    /// How the connection to the relay is encrypted.
    pub enum SmtpTls {
        /// `STARTTLS`, and nothing is sent without it.
        StartTls = "starttls",
        /// TLS from the first byte, usually port 465.
        Tls = "tls",
        /// Not at all.
        None = "none",
    }
}

dotmac_platform::settings! {
    title: "SMTP", prefix: "SMTP_", rules: SmtpSettings::rules;
    /// The mail relay. Without one, mail is held in development and refused in production. DKIM is the
    /// relay's.
    pub struct SmtpSettings {
        /// Name or address of the relay.
        host: Option<HostName> {}

        /// Its port: 587 for `starttls`, 465 for `tls`.
        port: u16 { default: fixed("587"), range: between::<u16>("1", "65535") }

        /// User name for the relay. Without one there is no `AUTH`.
        username: SecretSetting { vault: "smtp/username", optional: true, guessable: true }

        /// Password for the relay.
        password: SecretSetting { vault: "smtp/password", optional: true }

        /// How the connection is encrypted. `none` is refused in production unless the relay is on this machine.
        tls: SmtpTls { default: fixed("starttls") }

        /// PEM file with authorities that may have signed the relay's certificate, besides those of the system.
        ca_cert: Option<PathBuf> {}

        /// Address that mail comes from. Needed with `DOTMAC_SMTP_HOST`.
        from_address: Option<String> {}

        /// Name that mail comes from.
        from_name: Option<String> {}

        /// Address for replies, if other than the sender's.
        reply_to: Option<String> {}

        /// Address that reports of failures go to, as `bounces@example.com`. Each mail gets its own sender with a token
        /// in it (`bounces+4f1c…@example.com`), and the mail server of that address passes reports to
        /// `dotmac notifications bounce`. Without it reports go to the sender, and accepted mail stays `accepted`.
        bounce_address: Option<String> {}

        /// Connections to the relay at a time, from this instance.
        connections: usize { default: fixed("4"), range: between::<usize>("1", "64") }

        /// Longest wait for each answer of the relay.
        timeout: Duration { default: fixed("60s"), range: lasting("100ms", "10m") }

        /// Interval of the check of the relay, while no mail is sent.
        check_interval: Duration { default: fixed("60s"), range: lasting("1s", "1h") }
    }
}

impl SmtpSettings {
    fn rules(&self, rules: &mut Rules<'_>) {
        let has_relay = self.host.is_some();
        rules.refuse(
            has_relay && self.from_address.is_none(),
            &["from_address"],
            "mail needs a sender",
            "set it to an address as noreply@example.com",
        );
        for (field, address) in [
            ("from_address", &self.from_address),
            ("reply_to", &self.reply_to),
            ("bounce_address", &self.bounce_address),
        ] {
            let is_wrong = address
                .as_deref()
                .is_some_and(|it| EmailAddress::parse(it).is_none());
            rules.refuse(
                is_wrong,
                &[field],
                "it is not an e-mail address",
                "write one as noreply@example.com",
            );
        }
        // A local part has 64 bytes at the most (RFC 5321, 4.5.3.1.1), and the word takes 33 of them.
        let is_long = |it: &String| it.find('@').is_none_or(|at| at > 31) || it.contains('+');
        rules.refuse(
            self.bounce_address.as_ref().is_some_and(is_long),
            &["bounce_address"],
            "no room for the token of each mail",
            "use an address without `+`, with at most 31 characters before the `@`",
        );
        let has_controls = |text: &Option<String>| {
            text.as_deref()
                .is_some_and(|it| it.chars().any(char::is_control))
        };
        rules.refuse(
            has_controls(&self.from_name),
            &["from_name"],
            "it has control characters",
            "write a name on one line",
        );
        let is_local = self.host.as_deref().is_none_or(is_loopback);
        rules.refuse(
            rules.in_production() && has_relay && self.tls == SmtpTls::None && !is_local,
            &["tls"],
            "mail and the relay's password would travel in the clear",
            "use `starttls` or `tls`",
        );
    }
}

/// Whether the relay is on this machine.
fn is_loopback(host: &str) -> bool {
    let address = host.parse::<std::net::IpAddr>();
    host == "localhost" || address.is_ok_and(|it| it.to_canonical().is_loopback())
}

#[cfg(test)]
mod tests {
    use dotmac_platform::settings::docs;

    use super::SmtpSettings;

    #[test]
    fn the_readme_has_every_key() {
        let readme = concat!(env!("CARGO_MANIFEST_DIR"), "/src/smtp/README.md");
        docs::assert_documented::<SmtpSettings>("smtp", readme);
    }
}
