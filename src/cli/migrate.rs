//! `dotmac migrate`: the schema, without the daemon.

use clap::{Args, Subcommand};

use crate::{
    Exit, components, credentials,
    db::{
        Config, Credentials, OpenError,
        migrations::{self, Outcome, Step},
    },
    secrets::{self, ConfigError, Vault},
    settings::Settings,
};

/// What to do with the schema.
#[derive(Args)]
pub struct Arguments {
    #[command(subcommand)]
    action: Option<Action>,
}

#[derive(Clone, Copy, Subcommand)]
enum Action {
    /// Run every pending migration.
    Up,
    /// Show what ran and what is pending; exit 1 if anything is pending.
    Status,
    /// Take the newest migrations back.
    Down {
        /// How many.
        #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
        steps: u32,
    },
}

pub(super) async fn run(arguments: &Arguments) -> Exit {
    let settings = match super::settings() {
        Ok(settings) => settings,
        Err(exit) => return exit,
    };
    let (credentials, vault) = match load_credentials(&settings).await {
        Ok(loaded) => loaded,
        Err(exit) => return exit,
    };
    let config = components::database(&settings, credentials);
    let step = match arguments.action.unwrap_or(Action::Up) {
        Action::Up => Step::Up,
        Action::Status => Step::Look,
        Action::Down { steps } => Step::Down(steps),
    };
    let exit = match migrate(config, step) {
        Ok(outcome) => report(step, &outcome),
        Err(error) => {
            eprintln!("{}", super::chain(&error));
            Exit::Unavailable
        }
    };
    if let Some(vault) = vault {
        vault.farewell().await;
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
        eprintln!("{}", super::chain(&error));
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
                    eprintln!("{failed}");
                    return Err(Exit::Unavailable);
                }
            }
        }
        Some(role) => match vault.issue_once(role).await {
            Ok(issued) => credentials::issued(issued),
            Err(error) => {
                eprintln!("{}", super::chain(&error));
                return Err(Exit::Unavailable);
            }
        },
    };
    Ok((credentials, Some(vault)))
}

/// On a thread of its own, since migrations need a multi-threaded runtime and ours is not.
fn migrate(config: Config, step: Step) -> Result<Outcome, OpenError> {
    let setup = |error: std::io::Error| OpenError::Setup(error.to_string());
    let work = move || {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build();
        runtime
            .map_err(setup)?
            .block_on(migrations::migrate(&config, step))
    };
    let thread = std::thread::Builder::new()
        .name("migrate".into())
        .spawn(work)
        .map_err(setup)?;
    thread
        .join()
        .unwrap_or_else(|_| Err(OpenError::Setup("the migration panicked".into())))
}

fn report(step: Step, Outcome { changed, status }: &Outcome) -> Exit {
    let verb = if matches!(step, Step::Down(_)) {
        "took back"
    } else {
        "ran"
    };
    changed
        .iter()
        .for_each(|name| super::print(&format!("{verb} {name}")));
    status
        .unknown
        .iter()
        .for_each(|version| super::print(&format!("unknown to this program: {version}")));
    match step {
        Step::Look => {
            status
                .applied
                .iter()
                .for_each(|version| super::print(&format!("applied {version}")));
            status
                .pending
                .iter()
                .for_each(|name| super::print(&format!("pending {name}")));
            if status.pending.is_empty() {
                Exit::Success
            } else {
                Exit::Failure
            }
        }
        Step::Up | Step::Down(_) => {
            super::print(&format!(
                "{} applied, {} pending",
                status.applied.len(),
                status.pending.len()
            ));
            Exit::Success
        }
    }
}
