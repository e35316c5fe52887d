//! Calls to the outside.

use std::path::PathBuf;
use std::time::Duration;

use url::Url;

use crate::settings::types::{ByteSize, EgressTarget, Environment};
use crate::settings::{Facts, between, computed, fixed, lasting, sized};

crate::settings! {
    title: "Egress", prefix: "EGRESS_";
    /// Calls of modules to the outside, such as webhooks. Only public addresses are called.
    pub struct EgressSettings {
        /// Networks, addresses and hosts that may be called though they are not public, as
        /// `10.0.0.0/8,10.1.2.3:8080,hooks.internal:8443`; without a port on every port, and by http too. A metadata
        /// service of a cloud is opened only by its very address. In `development` and `test` loopback is open.
        allow: Vec<EgressTarget> {}

        /// Ports that may be called on any public address.
        ports: Vec<u16> {
            default: computed("`443` in production, `80,443` elsewhere", ports),
        }

        /// Longest time from a call to the end of its answer, redirects included, unless the module asks for less.
        timeout: Duration { default: fixed("15s"), range: lasting("10ms", "10m") }

        /// How much of an answer is read, unless the module says otherwise. A longer one is an error.
        answer_limit: ByteSize { default: fixed("64KiB"), range: sized("1B", "64MiB") }

        /// Calls under way at once to one host and port. Eight times as many may wait.
        per_host: usize { default: fixed("8"), range: between::<usize>("1", "1000") }

        /// Calls under way at once to all hosts.
        concurrency: usize { default: fixed("128"), range: between::<usize>("1", "10000") }

        /// HTTP proxy through which all calls are made, as `http://proxy.example:3128`. It opens the connections, so
        /// it has to refuse addresses itself. The proxies that the environment names are not used.
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
