//! Why a program cannot be put together.

use dotmac_db::MigrationsError;
use dotmac_secrets as secrets;
use dotmac_supervision::TreeError;

use crate::{
    events::EventTwice,
    jobs::{HandlerTwice, JobTwice},
    module::MountError,
    routing::RoutesError,
    settings::{APP_MASTER_KEY, APP_SECRET_KEY, NotApplied},
};

/// Why a program cannot be put together: a mistake in a module or in the settings.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AssemblyError {
    #[error(transparent)]
    Tree(#[from] TreeError),
    #[error(transparent)]
    Secrets(#[from] secrets::ConfigError),
    #[error(transparent)]
    Migrations(#[from] MigrationsError),
    #[error("module `{module}` cannot be mounted")]
    Mount {
        module: &'static str,
        source: MountError,
    },
    #[error(transparent)]
    Platform(#[from] MountError),
    #[error(transparent)]
    Routes(#[from] RoutesError),
    #[error(
        "{APP_SECRET_KEY} is needed for lists in pages and not set; set it, or its _FILE twin, or have it read from Vault"
    )]
    SecretMissing,
    #[error(transparent)]
    NotApplied(#[from] NotApplied),
    #[error(
        "module `{module}` seals secrets in the database, and {APP_MASTER_KEY} is not set; set it, or its _FILE twin, to 32 random bytes in base64 (`openssl rand -base64 32`), or have it read from Vault"
    )]
    MasterKeyMissing { module: &'static str },
    #[error("the operating system has no random bytes")]
    NoRandom,
    #[error(transparent)]
    Events(#[from] EventTwice),
    #[error(transparent)]
    Jobs(#[from] JobTwice),
    #[error(transparent)]
    Handlers(#[from] HandlerTwice),
    #[error("module `{module}` lists the jobs `{kind}` and has no handler for them")]
    NoHandler {
        module: &'static str,
        kind: &'static str,
    },
}
