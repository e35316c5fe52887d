//! Calls to the outside.

use std::path::PathBuf;
use std::time::Duration;

use url::Url;

use crate::settings::types::{ByteSize, EgressTarget, Environment};
use crate::settings::{Facts, between, computed, fixed, lasting, sized};

crate::settings! {
    title: "Egress", prefix: "EGRESS_";
    /// Outgoing calls of modules, such as webhooks. By default only public addresses are allowed.
    pub struct EgressSettings {
        /// Networks, addresses and hosts that are allowed although they are not public, such as
        /// `10.0.0.0/8,10.1.2.3:8080,hooks.internal:8443`; without a port on every port, and by http too. A cloud's
        /// metadata service is opened only by its exact address. In `development` and `test` loopback is open.
        allow: Vec<EgressTarget> {}

        /// Allowed ports of public addresses.
        ports: Vec<u16> {
            default: computed("`443` in production, `80,443` elsewhere", ports),
        }

        /// Longest time of a call, from when there is a place for it to the end of its answer, redirects included, unless the module
        /// sets a shorter one.
        timeout: Duration { default: fixed("15s"), range: lasting("10ms", "10m") }

        /// Size of the answer that is read, unless the module sets another. A longer answer is an error.
        answer_limit: ByteSize { default: fixed("64KiB"), range: sized("1B", "64MiB") }

        /// Calls under way at once to one host and port. Eight times as many may wait.
        per_host: usize { default: fixed("8"), range: between::<usize>("1", "1000") }

        /// Calls under way at once to all hosts.
        concurrency: usize { default: fixed("128"), range: between::<usize>("1", "10000") }

        /// HTTP proxy of all calls, such as `http://proxy.example:3128`. It opens the connections, so it must itself
        /// refuse private addresses. The proxies of the environment are not used.
        proxy: Option<Url> {}

        /// PEM file with authorities that may have signed the certificate of a host, besides those of the system.
        ca_cert: Option<PathBuf> {}
    }
}

fn ports(facts: &Facts<'_>) -> String {
    match facts.environment() {
        Environment::Production => "443".to_owned(),
        _ => "80,443".to_owned(),
    }
}
