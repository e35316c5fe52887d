//! Where secrets are read from.

use std::path::PathBuf;
use std::time::Duration;

use secrecy::SecretString;
use url::Url;

use crate::settings::types::{KvVersion, MountPath, VaultAuth};
use crate::settings::{Facts, computed, fallback, fixed, lasting};

crate::settings! {
    title: "Vault", prefix: "VAULT_";
    /// HashiCorp Vault or OpenBao, where secrets are read from.
    pub struct VaultSettings {
        /// Whether secrets are read from Vault.
        enabled: bool { default: computed("`true` if an address is given, else `false`", enabled) }

        /// URL of the server, as `https://vault.example:8200`.
        addr: Option<Url> { fallbacks: &[fallback("VAULT_ADDR"), fallback("BAO_ADDR")] }

        /// Namespace of all requests.
        namespace: Option<String> {
            fallbacks: &[fallback("VAULT_NAMESPACE"), fallback("BAO_NAMESPACE")],
        }

        /// How the daemon logs in. `token` needs `DOTMAC_VAULT_TOKEN`; `approle` needs
        /// `DOTMAC_VAULT_ROLE_ID` and `DOTMAC_VAULT_SECRET_ID`; `kubernetes` needs
        /// `DOTMAC_VAULT_ROLE`; `jwt` needs `DOTMAC_VAULT_JWT`; `cert` needs
        /// `DOTMAC_VAULT_CLIENT_CERT` and `DOTMAC_VAULT_CLIENT_KEY`. Values of `_FILE` keys are read again at each
        /// login.
        auth: VaultAuth { default: fixed("token") }

        /// Where the auth method is mounted, without `auth/`.
        auth_mount: Option<MountPath> {
            default: computed("the name of the method, as `approle`", auth_mount),
        }

        /// Token to log in with. The daemon renews it and never revokes it, since another party issued it.
        token: Option<SecretString> {
            fallbacks: &[fallback("VAULT_TOKEN"), fallback("BAO_TOKEN")],
        }

        /// Role id of the AppRole to log in with.
        role_id: Option<SecretString> {}

        /// Secret id of the AppRole to log in with, or the wrapping token of it.
        secret_id: Option<SecretString> {}

        /// Whether `DOTMAC_VAULT_SECRET_ID` is a wrapping token. It is unwrapped once; the secret id
        /// in it is used until the process ends or the file holds another token.
        secret_id_wrapped: bool { default: fixed("false") }

        /// Role to log in as by `kubernetes`, `jwt` or `cert`; the latter two have a default in Vault.
        role: Option<String> {}

        /// Token to log in with by `jwt` or `kubernetes`. For `kubernetes` the pod's own token is
        /// read, `/var/run/secrets/kubernetes.io/serviceaccount/token`, unless this is set.
        jwt: Option<SecretString> {}

        /// PEM file with the client certificate to log in with by `cert`.
        client_cert: Option<PathBuf> {}

        /// PEM file with the private key of `DOTMAC_VAULT_CLIENT_CERT`.
        client_key: Option<PathBuf> {}

        /// PEM file with authorities that may have signed the server's certificate, besides those of
        /// the system.
        ca_cert: Option<PathBuf> {}

        /// Where the key-value engine is mounted.
        mount: MountPath { default: fixed("secret") }

        /// Version of the key-value engine; `auto` asks the server.
        kv_version: KvVersion { default: fixed("auto") }

        /// Longest time that a request to the server may take.
        timeout: Duration { default: fixed("5s"), range: lasting("10ms", "5m") }

        /// How often secrets are read again.
        refresh_interval: Duration { default: fixed("60s"), range: lasting("1s", "24h") }
    }
}

fn enabled(facts: &Facts<'_>) -> String {
    facts.given("DOTMAC_VAULT_ADDR").is_some().to_string()
}

fn auth_mount(facts: &Facts<'_>) -> String {
    match facts.given("DOTMAC_VAULT_AUTH") {
        None | Some("token") => String::new(),
        Some(method) => method.to_ascii_lowercase(),
    }
}
