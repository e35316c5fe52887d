//! From settings to which secrets are loaded, and from where.

use dotmac_secrets::{self as secrets, Wanted, WantedSource};
use secrecy::SecretString;

use crate::{
    credentials::{PASSWORD, USERNAME},
    settings::{DatabaseTarget, Environment, Settings, VaultAuth},
};

/// Which secrets to load, from where, and whether to go on without them.
pub(crate) fn secrets(settings: &Settings) -> secrets::Config {
    secrets::Config {
        vault: settings.vault.enabled.then(|| vault(settings)),
        wanted: wanted(settings),
        database_role: settings.database.vault_role.as_ref().and_then(|role| {
            Some(secrets::DatabaseRole {
                name: "database",
                mount: settings.database.vault_mount.as_str().parse().ok()?,
                role: role.as_str().parse().ok()?,
                username: USERNAME.to_owned(),
                password: PASSWORD.to_owned(),
            })
        }),
        strict: settings.app.environment == Environment::Production,
        refresh_interval: settings.vault.refresh_interval,
        retry_min: settings
            .supervision
            .backoff_min
            .max(std::time::Duration::from_millis(100)),
        retry_max: settings
            .supervision
            .backoff_max
            .max(std::time::Duration::from_millis(100)),
        // A moment is left to say that it was not enough.
        revoke_all_within: settings.supervision.stop_timeout.mul_f64(0.8),
    }
}

/// Every secret that is used, those included that the settings hold themselves.
pub(crate) fn wanted(settings: &Settings) -> Vec<Wanted> {
    let from_vault = settings.wanted_secrets().into_iter().map(|wanted| Wanted {
        key: wanted.key,
        source: if wanted.must_exist {
            WantedSource::Reference(wanted.reference)
        } else {
            WantedSource::DefaultPath(wanted.reference.path)
        },
    });
    from_vault.chain(literals(settings)).collect()
}

fn literals(settings: &Settings) -> impl Iterator<Item = Wanted> {
    let given = match settings.database.target() {
        DatabaseTarget::Sqlite { .. } => [None, None],
        DatabaseTarget::Postgres(target) => {
            [(USERNAME, target.username), (PASSWORD, target.password)].map(Some)
        }
    };
    let given = given.into_iter().flatten();
    let of_platform = given.filter_map(|(key, secret)| Some((key, secret.literal()?.clone())));
    let of_modules = settings.literals_of_modules();
    of_platform
        .chain(of_modules.map(|(key, value)| (key, value.clone())))
        .map(|(key, value)| Wanted {
            key: key.to_owned(),
            source: WantedSource::Literal(value),
        })
}

/// Where Kubernetes mounts the token of a pod's service account.
const SERVICE_ACCOUNT_TOKEN: &str = "/var/run/secrets/kubernetes.io/serviceaccount/token";

pub(crate) fn vault(settings: &Settings) -> secrets::VaultConfig {
    let auth = auth(settings);
    let settings = &settings.vault;
    secrets::VaultConfig {
        address: settings
            .addr
            .as_ref()
            .map(ToString::to_string)
            .unwrap_or_default(),
        namespace: settings.namespace.clone(),
        auth,
        mount: settings.mount.as_str().to_owned(),
        kv_version: settings.kv_version,
        ca_cert: settings.ca_cert.clone(),
        timeout: settings.timeout,
        client: secrets::Client::default(),
    }
}

fn auth(settings: &Settings) -> secrets::Auth {
    let vault = &settings.vault;
    // Values of files are read again at each login.
    let credential = |name: &str, given: &Option<SecretString>| match settings.file_of(name) {
        Some(file) => secrets::Credential::File(file),
        None => secrets::Credential::Value(given.clone().unwrap_or_default()),
    };
    let mount = vault.auth_mount.as_ref();
    let mount = mount.map_or_else(|| vault.auth.to_string(), |it| it.as_str().to_owned());
    match vault.auth {
        VaultAuth::Token => secrets::Auth::Token(credential("VAULT_TOKEN", &vault.token)),
        VaultAuth::AppRole => secrets::Auth::AppRole {
            mount,
            role_id: credential("VAULT_ROLE_ID", &vault.role_id),
            secret_id: credential("VAULT_SECRET_ID", &vault.secret_id),
            wrapped: vault.secret_id_wrapped,
        },
        VaultAuth::Kubernetes => secrets::Auth::Kubernetes {
            mount,
            role: vault.role.clone().unwrap_or_default(),
            jwt: match &vault.jwt {
                Some(_) => credential("VAULT_JWT", &vault.jwt),
                None => secrets::Credential::File(SERVICE_ACCOUNT_TOKEN.into()),
            },
        },
        VaultAuth::Jwt => secrets::Auth::Jwt {
            mount,
            role: vault.role.clone(),
            jwt: credential("VAULT_JWT", &vault.jwt),
        },
        VaultAuth::Cert => secrets::Auth::Certificate {
            mount,
            role: vault.role.clone(),
            certificate: vault.client_cert.clone().unwrap_or_default(),
            key: vault.client_key.clone().unwrap_or_default(),
        },
    }
}
