//! The database that the daemon would use, for commands that work on it.

use crate::{
    Exit, components, credentials,
    db::{Config, Credentials, OpenError},
    program::Program,
    secrets::{self, ConfigError, Vault},
    settings::Settings,
};

/// Runs `work` with the configuration and credentials of the daemon, and gives leases back afterwards. What fails is
/// printed to standard error.
pub(super) async fn with_database(
    program: &Program,
    work: impl AsyncFnOnce(Config) -> Result<Exit, OpenError>,
) -> Exit {
    let settings = match super::settings(program) {
        Ok(settings) => settings,
        Err(exit) => return exit,
    };
    let (credentials, vault) = match load_credentials(&settings).await {
        Ok(loaded) => loaded,
        Err(exit) => return exit,
    };
    let exit = match work(components::database(&settings, credentials)).await {
        Ok(exit) => exit,
        Err(error) => {
            super::complain(&dotmac_causes::chain(&error));
            Exit::Unavailable
        }
    };
    if let Some(vault) = vault {
        vault.revoke_all().await;
    }
    exit
}

/// The credentials that the daemon would use, and the Vault to give leases back to.
async fn load_credentials(settings: &Settings) -> Result<(Credentials, Option<Vault>), Exit> {
    let config = components::secrets(settings);
    let Some(vault) = config.vault.clone() else {
        let store = secrets::literals(&config.wanted);
        return Ok((credentials::fixed(&store), None));
    };
    let refused = |error: ConfigError| {
        super::complain(&dotmac_causes::chain(&error));
        Exit::Settings
    };
    config.validate().map_err(refused)?;
    let vault = Vault::new(vault).map_err(refused)?;
    let credentials = match &config.database_role {
        None => {
            let loaded = secrets::load(&vault, &config.wanted, None).await;
            match loaded.failures.first() {
                None => credentials::fixed(&loaded.store),
                Some(failed) => {
                    super::complain(&failed.to_string());
                    return Err(Exit::Unavailable);
                }
            }
        }
        Some(role) => match vault.issue_once(role).await {
            Ok(issued) => credentials::issued(issued),
            Err(error) => {
                super::complain(&dotmac_causes::chain(&error));
                return Err(Exit::Unavailable);
            }
        },
    };
    Ok((credentials, Some(vault)))
}
