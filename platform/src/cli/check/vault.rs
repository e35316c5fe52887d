//! Vault, step by step: there, able to serve, who we are, what we may read.

use std::sync::Arc;

use super::table::{Outcome, Table};
use crate::{
    components, credentials,
    db::Credentials,
    secrets::{self, SecretStore, SecretsError, Vault, Wanted, WantedSource},
    settings::Settings,
};

/// The credentials for the check of the database, and the holder that revokes them.
pub(super) struct Found {
    pub(super) credentials: Option<Credentials>,
    pub(super) vault: Option<Vault>,
    /// All secrets that could be read, those of the settings among them.
    pub(super) secrets: Arc<SecretStore>,
}

/// Tries each step as far as it gets.
///
/// `own` are the secrets that modules and routes need, besides those of the settings.
pub(super) async fn try_vault(settings: &Settings, own: Vec<Wanted>, table: &mut Table) -> Found {
    let mut config = components::secrets(settings);
    config.wanted.extend(own);
    let literals = secrets::literals(&config.wanted);
    let nothing = |credentials| Found {
        credentials,
        vault: None,
        secrets: Arc::new(literals.clone()),
    };
    let Some(vault_config) = config.vault.clone() else {
        table.note(
            "vault",
            Outcome::Absent,
            "not enabled: secrets are those of the settings",
        );
        return nothing(Some(credentials::fixed(&literals)));
    };
    let address = vault_config.address.clone();
    let opened = config.validate().and_then(|()| Vault::new(vault_config));
    let vault = match opened {
        Ok(vault) => vault,
        Err(error) => {
            table.note("vault settings", Outcome::Failed, error.to_string());
            return nothing(None);
        }
    };
    let health = async {
        let status = vault.health().await?;
        Ok((status, format!("{address} answers")))
    };
    let Some(status) = table.attempt("vault reachable", health, text).await else {
        return nothing(None);
    };
    let (outcome, words) = serves(status);
    table.note("vault serves", outcome, words);
    if outcome == Outcome::Failed {
        return nothing(None);
    }
    let login = async {
        let identity = vault.log_in().await?;
        let name = if identity.name.is_empty() {
            "an identity without permission to look itself up".to_owned()
        } else {
            format!("`{}`", identity.name)
        };
        let policies = identity.policies.join(", ");
        Ok(((), format!("we are {name}, with the policies {policies}")))
    };
    if table.attempt("vault login", login, text).await.is_none() {
        return nothing(None);
    }
    let mount = settings.vault.mount.as_str();
    for wanted in &config.wanted {
        try_secret(&vault, mount, wanted, table).await;
    }
    let loaded = secrets::load(&vault, &config.wanted, None).await;
    let credentials = match &config.database_role {
        Some(role) => try_role(&vault, role, table).await,
        None => {
            let complete = loaded.failures.is_empty();
            complete.then(|| credentials::fixed(&loaded.store))
        }
    };
    Found {
        credentials,
        vault: Some(vault),
        secrets: Arc::new(loaded.store),
    }
}

/// The meaning of a status of Vault's health.
fn serves(status: u16) -> (Outcome, String) {
    match status {
        200 => (Outcome::Good, "initialised, unsealed, active".to_owned()),
        429 | 472 | 473 => (
            Outcome::Good,
            "a standby: it answers reads, and forwards writes to the active node".to_owned(),
        ),
        501 => (
            Outcome::Failed,
            "not initialised; initialise and unseal it (`bao operator init`)".to_owned(),
        ),
        503 => (
            Outcome::Failed,
            "sealed; unseal it (`bao operator unseal`)".to_owned(),
        ),
        other => (
            Outcome::Failed,
            format!(
                "health answers {other}; check that the address is that of a Vault or OpenBao server"
            ),
        ),
    }
}

async fn try_secret(vault: &Vault, mount: &str, wanted: &Wanted, table: &mut Table) {
    let key = &wanted.key;
    let (path, field, optional) = match &wanted.source {
        WantedSource::Literal(_) => return,
        WantedSource::Reference(reference) => (&reference.path, Some(reference), false),
        WantedSource::DefaultPath(path) => (path, None, true),
    };
    let read = async {
        let document = vault.read(path).await?;
        if let Some(reference) = field {
            document.field(reference)?;
        }
        let version = document.version();
        let version = version.map_or_else(String::new, |it| format!(", version {it}"));
        Ok::<_, SecretsError>(((), format!("readable, for {key}{version}")))
    };
    let mut reason = None;
    let explain = |error: SecretsError| {
        reason = Some(error.reason());
        let words = text(error);
        // A caller without permission below a mount does not learn its engine either.
        if reason == Some(secrets::reason::PERMISSION_DENIED) && !words.contains("capabilities") {
            return format!(
                "{words}: grant it with `path \"{mount}/data/{path}\" {{ capabilities = [\"read\"] }}` \
                 (without `data/` if the engine is KV version 1)"
            );
        }
        words
    };
    table.attempt(format!("secret {path}"), read, explain).await;
    let need_not_be = [
        secrets::reason::PATH_MISSING,
        secrets::reason::PERMISSION_DENIED,
    ];
    if optional
        && reason.is_some_and(|it| need_not_be.contains(&it))
        && let Some(row) = table.rows.last_mut()
    {
        row.outcome = Outcome::Absent;
        row.words = format!("{key} counts as not set: {}", row.words);
    }
}

/// A user of the database, really made, since only that shows whether the role works.
async fn try_role(
    vault: &Vault,
    role: &secrets::DatabaseRole,
    table: &mut Table,
) -> Option<Credentials> {
    let issue = async {
        let issued = vault.issue_once(role).await?;
        let words = format!("issues database credentials (mount `{}`)", role.mount);
        Ok((credentials::issued(issued), words))
    };
    let credentials = table
        .attempt(format!("database role {}", role.role), issue, text)
        .await?;
    // Revoking early is what every daemon wants and what a policy most easily lacks.
    let path = "sys/leases/revoke".to_owned();
    let may = async {
        let allowed = vault.capabilities(std::slice::from_ref(&path)).await?;
        let allowed = allowed.concat();
        if allowed.iter().any(|it| it == "update" || it == "root") {
            Ok(((), "leases can be revoked".to_owned()))
        } else {
            Err(MayNot::Denied)
        }
    };
    table
        .attempt("database leases", may, |error| match error {
            MayNot::Denied => format!(
                "leases cannot be revoked; grant it with `path \"{path}\" {{ capabilities = [\"update\"] }}` in a \
                policy of this login"
            ),
            MayNot::Unknown(error) => dotmac_causes::chain(&error),
        })
        .await;
    Some(credentials)
}

enum MayNot {
    Denied,
    Unknown(SecretsError),
}

impl From<SecretsError> for MayNot {
    fn from(error: SecretsError) -> Self {
        Self::Unknown(error)
    }
}

fn text(error: SecretsError) -> String {
    dotmac_causes::chain(&error)
}
