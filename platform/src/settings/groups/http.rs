//! Limits and trust of the HTTP listener.

use std::time::Duration;

use ipnet::IpNet;

use crate::settings::types::{ByteSize, HostPattern};
use crate::settings::{between, fixed, lasting, sized};

crate::settings! {
    title: "HTTP", prefix: "HTTP_";
    /// Limits and trust of the HTTP listener.
    pub struct HttpSettings {
        /// Largest request body. A larger one is answered with 413.
        body_limit: ByteSize { default: fixed("2MiB"), range: sized("1B", "1GiB") }

        /// Longest time from the head of a request to its response. Then the answer is 504, or 408
        /// if the client is still sending the body.
        request_timeout: Duration { default: fixed("30s"), range: lasting("1ms", "1h") }

        /// Longest time in which a client must have sent the head of a request. Then the answer is
        /// 408, and the connection is closed.
        header_timeout: Duration { default: fixed("5s"), range: lasting("1ms", "10m") }

        /// Longest time in which a client may read nothing of an answer. Then the connection is closed. During a stop
        /// it is at most 2 s.
        write_timeout: Duration { default: fixed("30s"), range: lasting("1ms", "1h") }

        /// How long an idle connection is kept open for the next request. `0s` closes it after each
        /// response. Keep it longer than the load balancer's own.
        keep_alive: Duration { default: fixed("75s"), range: lasting("0s", "1h") }

        /// Connections served at once, over all workers; fewer if the process may not open as many
        /// files. Further ones wait to be accepted. Near the limit the daemon closes connections that have waited for
        /// their clients for 2 s.
        max_connections: usize { default: fixed("25000"), range: between::<usize>("1", "1000000") }

        /// Longest time for a TLS handshake. Then the connection is closed.
        tls_handshake_timeout: Duration { default: fixed("2s"), range: lasting("1ms", "1m") }

        /// TLS handshakes under way at once from one client address (IPv6: from one /64), except for those of
        /// DOTMAC_HTTP_TRUSTED_PROXIES; further ones are closed. Never more than a quarter of the connections.
        tls_handshakes_per_address: usize { default: fixed("1000"), range: between::<usize>("1", "1000000") }

        /// Networks of the trusted proxies, whose `X-Forwarded-For` and `X-Forwarded-Proto` are used, such as
        /// `10.0.0.0/8,192.168.1.7`. Unset means none.
        trusted_proxies: Vec<IpNet> {}

        /// Allowed host names of requests, such as `example.com,*.example.com`; others get 400, except for probes and
        /// metrics. Unset means any.
        trusted_hosts: Vec<HostPattern> {}
    }
}
