//! The secrets actor and its session against a real OpenBao server.

mod actor;
mod contract;
mod hostile;
mod identities;
mod logins;
mod running;
mod server;
mod session;

use std::time::Duration;

use dotmac_secrets::{Auth, Client, KvVersion, VaultConfig};

/// A session with the server at `address` by the default client.
fn vault_config(address: &str, auth: Auth) -> VaultConfig {
    VaultConfig {
        address: address.to_owned(),
        namespace: None,
        auth,
        mount: "secret".to_owned(),
        kv_version: KvVersion::Auto,
        ca_cert: None,
        timeout: Duration::from_secs(5),
        client: Client::Native,
    }
}

fn root() -> Auth {
    Auth::Token(server::ROOT.into())
}

/// An error with all its sources.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(source) = next {
        text = format!("{text}: {source}");
        next = source.source();
    }
    text
}
