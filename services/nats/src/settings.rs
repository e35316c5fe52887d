//! The keys of the relay.

use std::path::PathBuf;

use dotmac_platform::settings::{Rules, SecretSetting, between, fixed};
use url::{Host, Url};

dotmac_platform::settings! {
    title: "NATS", prefix: "NATS_", rules: NatsSettings::rules;
    /// Passes events on to a stream of NATS JetStream. Without an address no event is passed on.
    pub struct NatsSettings {
        /// Address of the server, or of one of a cluster: `nats://127.0.0.1:4222`, with TLS `tls://nats.internal:4222`. In production
        /// `nats` is refused unless the server is on this machine.
        url: Option<String> {}

        /// Token for the server, where it has one.
        token: SecretSetting { vault: "nats/token", optional: true }

        /// User name for the server, where it has users.
        username: SecretSetting { vault: "nats/username", optional: true, guessable: true }

        /// Password for the server.
        password: SecretSetting { vault: "nats/password", optional: true }

        /// Content of a credentials file, as `nsc generate creds` writes it, or the seed of an nkey (`SU…`), where the server has
        /// users by key. The file itself is named by the key's `_FILE` twin.
        credentials: SecretSetting { vault: "nats/credentials", optional: true }

        /// PEM file with authorities that may have signed the server's certificate, in place of those of the system.
        ca_cert: Option<PathBuf> {}

        /// The stream of the events. The relay does not create it: the operator of NATS decides on its storage and
        /// retention.
        stream: String { default: fixed("DOTMAC_EVENTS") }

        /// The prefix of the subjects of events; tenant and type follow: `dotmac.events.0192….note.added.v1`.
        subject: String { default: fixed("dotmac.events") }

        /// Least number of replicas for a durable stream.
        replicas: usize { default: fixed("3"), range: between::<usize>("1", "5") }
    }
}

impl NatsSettings {
    /// The address of the server, if there is one.
    pub(crate) fn server(&self) -> Option<Url> {
        self.url.as_deref().and_then(|text| Url::parse(text).ok())
    }

    fn rules(&self, rules: &mut Rules<'_>) {
        let server = self.server();
        rules.refuse(
            self.url.is_some() && !server.as_ref().is_some_and(is_address),
            &["url"],
            "it is not the address of a NATS server",
            "write it as nats://host:4222 or tls://host:4222, and secrets in separate keys",
        );
        let is_clear = server
            .as_ref()
            .is_some_and(|url| url.scheme() == "nats" && !is_loopback(url));
        rules.refuse(
            rules.in_production() && is_clear,
            &["url"],
            "events and secrets would travel in the clear",
            "use tls://",
        );
        rules.refuse(
            !is_word(&self.stream),
            &["stream"],
            "it is not the name of a stream",
            "use letters, digits, `_` and `-`",
        );
        rules.refuse(
            !self.subject.split('.').all(is_word),
            &["subject"],
            "it is not the beginning of a subject",
            "use words of letters, digits, `_` and `-` with dots between them",
        );
    }
}

fn is_address(url: &Url) -> bool {
    let is_known = matches!(url.scheme(), "nats" | "tls");
    is_known && url.has_host() && url.username().is_empty() && url.password().is_none()
}

/// Whether the server is on this machine.
fn is_loopback(url: &Url) -> bool {
    match url.host() {
        // Of a scheme that the standard of URLs does not know, an address in digits is a name.
        Some(Host::Domain(name)) => {
            let address = name.parse::<std::net::IpAddr>();
            name == "localhost" || address.is_ok_and(|it| it.is_loopback())
        }
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.to_canonical().is_loopback(),
        None => false,
    }
}

fn is_word(text: &str) -> bool {
    let is_right = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    !text.is_empty() && text.chars().all(is_right)
}

#[cfg(test)]
mod tests {
    use dotmac_platform::settings::docs;

    use super::*;

    #[test]
    fn the_readme_has_every_key() {
        let readme = concat!(env!("CARGO_MANIFEST_DIR"), "/README.md");
        docs::assert_documented::<NatsSettings>("nats", readme);
    }

    #[test]
    fn addresses_are_those_of_servers_without_secrets() {
        for (text, is_right, is_local) in [
            ("nats://127.0.0.1:4222", true, true),
            ("nats://localhost", true, true),
            ("nats://[::1]:4222", true, true),
            ("tls://nats.internal:4222", true, false),
            ("nats://10.0.0.1:4222", true, false),
            ("http://127.0.0.1:4222", false, true),
            ("nats://user:word@127.0.0.1:4222", false, true),
            ("nats:4222", false, false),
        ] {
            let found = Url::parse(text).map(|url| (is_address(&url), is_loopback(&url)));
            assert_eq!(found, Ok((is_right, is_local)), "{text}");
        }
    }
}
