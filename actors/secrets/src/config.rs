//! The configuration of the actor. Plain values; where they come from is the caller's affair.

use std::{path::PathBuf, time::Duration};

use secrecy::{ExposeSecret, SecretString};

use super::{Auth, Credential, SecretPath, SecretReference, vault::backend};

/// Everything [`SecretsActor`](super::SecretsActor) needs to know.
#[derive(Clone, Debug)]
pub struct Config {
    /// How to reach Vault; `None` leaves it off, and only literal values are served.
    pub vault: Option<VaultConfig>,
    /// The secrets that this process uses, and where each is to come from.
    pub wanted: Vec<Wanted>,
    /// Credentials for the database that Vault makes, instead of wanting them.
    pub database_role: Option<DatabaseRole>,
    /// Refuse to serve before every secret was loaded once, as production must. Otherwise the
    /// literal values are served meanwhile.
    pub strict: bool,
    /// Time between two readings of everything, give or take a tenth; also the greatest age of what
    /// [`GetSecret`](super::GetSecret) answers.
    pub refresh_interval: Duration,
    /// First wait after a failed load; doubles with each further failure in a row.
    pub retry_min: Duration,
    /// Longest wait after a failed load.
    pub retry_max: Duration,
    /// Longest time for giving leases and token back when the process stops.
    pub revoke_all_within: Duration,
}

/// One secret of the process.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// The name of the setting that it fills; the key in the [`SecretStore`](super::SecretStore).
    pub key: String,
    /// Where it comes from.
    pub source: WantedSource,
}

/// Where a secret comes from.
#[derive(Clone, Debug)]
pub enum WantedSource {
    /// Configured as it is.
    Literal(SecretString),
    /// Configured as a reference: it must exist.
    Reference(SecretReference),
    /// Not configured: taken from this path if there is something, absent otherwise.
    DefaultPath(SecretPath),
}

/// Whose credentials are wanted, and which settings they fill.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DatabaseRole {
    /// The name of the credentials in logs and metrics.
    pub name: &'static str,
    /// Where the database engine is mounted.
    pub mount: SecretPath,
    /// The role there, dynamic or static.
    pub role: SecretPath,
    /// The setting that the user's name fills.
    pub username: String,
    /// The setting that the password fills.
    pub password: String,
}

impl DatabaseRole {
    /// The path that makes credentials of a dynamic role, as a policy spells it.
    #[must_use]
    pub fn dynamic_path(&self) -> String {
        format!("{}/creds/{}", self.mount, self.role)
    }

    /// The path that returns those of a static role, as a policy spells it.
    #[must_use]
    pub fn static_path(&self) -> String {
        format!("{}/static-creds/{}", self.mount, self.role)
    }
}

/// How to reach Vault, and as whom.
#[derive(Clone, Debug)]
pub struct VaultConfig {
    /// `http://` or `https://`, host and port, nothing after them.
    pub address: String,
    /// Sent with every request except the health check.
    pub namespace: Option<String>,
    /// Who we are.
    pub auth: Auth,
    /// Where the KV engine is mounted, without slashes at its ends.
    pub mount: String,
    /// Which API the engine has.
    pub kv_version: KvVersion,
    /// A PEM file of CA certificates, trusted besides those of the system.
    pub ca_cert: Option<PathBuf>,
    /// Longest wait for the answer to one request.
    pub timeout: Duration,
    /// The client of the server.
    pub client: Client,
}

/// Which API a KV engine has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum KvVersion {
    /// Ask the server, once.
    #[default]
    Auto,
    /// Plain values.
    V1,
    /// Versioned values.
    V2,
}

/// The client of the server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Client {
    /// Our own requests by `reqwest`: asynchronous, and knows all of [`VaultConfig`]. Credentials go to the
    /// configured host alone.
    #[default]
    Native,
    /// The crate `hashicorp_vault`: blocking, on its own thread; knows neither namespaces, private CA
    /// certificates, client certificates nor time-outs above 30 s, and promises less: docs/secrets.md.
    #[cfg(feature = "hashicorp_vault")]
    HashicorpVault,
}

impl Config {
    /// Checks for contradictions, without a request.
    ///
    /// # Errors
    ///
    /// The first [`ConfigError`] found.
    pub fn validate(&self) -> Result<(), ConfigError> {
        for (name, time) in [
            ("refresh interval", self.refresh_interval),
            ("shortest retry wait", self.retry_min),
        ] {
            if time.is_zero() {
                return Err(ConfigError::Zero { name });
            }
        }
        if self.retry_max < self.retry_min {
            return Err(ConfigError::RetryOrder);
        }
        match &self.vault {
            Some(vault) => vault.validate(),
            None => match self
                .wanted
                .iter()
                .find(|wanted| matches!(wanted.source, WantedSource::Reference(_)))
            {
                Some(wanted) => Err(ConfigError::ReferenceWithoutVault {
                    key: wanted.key.clone(),
                }),
                None => Ok(()),
            },
        }
    }
}

impl VaultConfig {
    fn validate(&self) -> Result<(), ConfigError> {
        if self.timeout.is_zero() {
            return Err(ConfigError::Zero {
                name: "request time-out",
            });
        }
        check_address(&self.address)?;
        self.mount
            .parse::<SecretPath>()
            .map_err(|e| ConfigError::Mount {
                what: "KV mount",
                detail: e.to_string(),
            })?;
        if let Some(mount) = self.auth.mount() {
            mount
                .parse::<SecretPath>()
                .map_err(|e| ConfigError::Mount {
                    what: "mount of the auth method",
                    detail: e.to_string(),
                })?;
        }
        let header = |what, text: &str| match text.bytes().all(|b| b.is_ascii_graphic())
            && !text.is_empty()
        {
            true => Ok(()),
            false => Err(ConfigError::NotAHeader { what }),
        };
        if let Auth::Token(Credential::Value(token)) = &self.auth {
            header("token", token.expose_secret())?;
        }
        if let Some(namespace) = &self.namespace {
            header("namespace", namespace)?;
        }
        backend::supports(self)
    }
}

/// The clients put the API's path behind the address by their own rules, so nothing but scheme,
/// host and port is safe to pass on.
fn check_address(address: &str) -> Result<(), ConfigError> {
    let refuse = |detail| Err(ConfigError::Address { detail });
    let Some(host) = address
        .strip_prefix("https://")
        .or_else(|| address.strip_prefix("http://"))
    else {
        return refuse("it begins with neither `https://` nor `http://`");
    };
    let host = host.strip_suffix('/').unwrap_or(host);
    if host.contains('@') {
        return refuse("it holds credentials; configure a token or a role instead");
    }
    if host.contains(['/', '?', '#']) {
        return refuse("there is text after host and port; leave it out");
    }
    if host.is_empty()
        || !host
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"-_.:[]".contains(&b))
    {
        return refuse("it has no valid host");
    }
    Ok(())
}

/// A configuration that cannot work.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// Not an address of a server.
    #[error(
        "the Vault address is not usable: {detail}; `https://vault.example:8200` would be right"
    )]
    Address {
        /// The problem.
        detail: &'static str,
    },
    /// A mount that is not a path.
    #[error("the {what} is not usable: {detail}")]
    Mount {
        /// Which mount.
        what: &'static str,
        /// The problem.
        detail: String,
    },
    /// A value that cannot be sent as an HTTP header.
    #[error(
        "the Vault {what} is empty or has characters other than visible ASCII ones; look for a stray space or line break"
    )]
    NotAHeader {
        /// Which value.
        what: &'static str,
    },
    /// A time that must not be zero.
    #[error("the {name} is zero; give a time such as `5s`")]
    Zero {
        /// Which time.
        name: &'static str,
    },
    /// Backoff that would shrink.
    #[error("the longest retry wait is shorter than the shortest; swap them")]
    RetryOrder,
    /// A reference without a source.
    #[error(
        "`{key}` refers to Vault, which is not configured; set its address or the value itself"
    )]
    ReferenceWithoutVault {
        /// The setting.
        key: String,
    },
    /// The chosen client lacks something.
    #[error(
        "the Vault client `{client}` does not support {feature}; use the default client or do without"
    )]
    Unsupported {
        /// The crate.
        client: &'static str,
        /// The missing feature.
        feature: &'static str,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vault(address: &str) -> VaultConfig {
        VaultConfig {
            address: address.to_owned(),
            namespace: None,
            auth: Auth::Token("hvs.TOKEN".into()),
            mount: "secret".to_owned(),
            kv_version: KvVersion::Auto,
            ca_cert: None,
            timeout: Duration::from_secs(5),
            client: Client::default(),
        }
    }

    #[test]
    fn an_address_is_scheme_host_and_port() {
        for right in [
            "http://127.0.0.1:8200",
            "https://vault.example/",
            "https://[::1]:8200",
        ] {
            assert_eq!(vault(right).validate(), Ok(()), "{right}");
        }
        for wrong in [
            "127.0.0.1:8200",
            "ftp://a",
            "https://",
            "https://u:p@a",
            "https://a/vault",
            "https://a b",
            "http://[",
            "http://a:99999",
        ] {
            assert!(
                matches!(vault(wrong).validate(), Err(ConfigError::Address { .. })),
                "{wrong}"
            );
        }
    }

    #[test]
    fn what_goes_into_a_header_holds_no_line_break() {
        let token = VaultConfig {
            auth: Auth::Token("tok\nen".into()),
            ..vault("http://a")
        };
        assert_eq!(
            token.validate(),
            Err(ConfigError::NotAHeader { what: "token" })
        );
        let namespace = VaultConfig {
            namespace: Some("a\r\nb".to_owned()),
            ..vault("http://a")
        };
        assert_eq!(
            namespace.validate(),
            Err(ConfigError::NotAHeader { what: "namespace" })
        );
        let mount = VaultConfig {
            mount: "../sys".to_owned(),
            ..vault("http://a")
        };
        assert!(matches!(mount.validate(), Err(ConfigError::Mount { .. })));
    }

    #[test]
    fn debug_shows_neither_token_nor_secret_id() {
        let app_role = Auth::AppRole {
            mount: "approle".into(),
            role_id: "the-role".into(),
            secret_id: "the-proof".into(),
            wrapped: false,
        };
        let shown = format!(
            "{:?} {:?}",
            vault("http://a"),
            VaultConfig {
                auth: app_role,
                ..vault("http://a")
            }
        );
        assert!(
            !shown.contains("hvs.TOKEN") && !shown.contains("the-proof"),
            "{shown}"
        );
    }
}
