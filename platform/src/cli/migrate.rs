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
    Up {
        /// Only say which would be run.
        #[arg(long)]
        dry_run: bool,
    },
    /// Show what ran and what is pending; exit 1 if anything is, or if the schema is not this program's.
    Status,
    /// Take the newest migrations back.
    Down {
        /// How many.
        #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
        steps: u32,
        /// Only say which would be taken back.
        #[arg(long)]
        dry_run: bool,
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
    let action = arguments.action.unwrap_or(Action::Up { dry_run: false });
    let step = match action {
        Action::Up { dry_run: false } => Step::Up,
        Action::Down {
            steps,
            dry_run: false,
        } => Step::Down(steps),
        Action::Status | Action::Up { .. } | Action::Down { .. } => Step::Look,
    };
    let exit = match migrate(config, step) {
        Ok(outcome) => report(action, &outcome),
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

fn report(action: Action, Outcome { changed, status }: &Outcome) -> Exit {
    let list = |verb: &str, names: &mut dyn Iterator<Item = &String>| {
        names.for_each(|name| super::print(&format!("{verb} {name}")));
    };
    match action {
        Action::Up { dry_run: true } => {
            list("would run", &mut status.pending.iter());
            return Exit::Success;
        }
        Action::Down {
            steps,
            dry_run: true,
        } => {
            let newest = status.applied.iter().rev().take(steps as usize);
            list("would take back", &mut newest.into_iter());
            return Exit::Success;
        }
        Action::Down { .. } => list("took back", &mut changed.iter()),
        Action::Up { .. } | Action::Status => list("ran", &mut changed.iter()),
    }
    let compatible = |version: &&String| !status.incompatible.contains(version);
    list(
        "unknown to this program, compatible:",
        &mut status.unknown.iter().filter(compatible),
    );
    list("unknown to this program:", &mut status.incompatible.iter());
    if !matches!(action, Action::Status) {
        super::print(&format!(
            "{} applied, {} pending",
            status.applied.len(),
            status.pending.len()
        ));
        return Exit::Success;
    }
    list("applied", &mut status.applied.iter());
    list("pending", &mut status.pending.iter());
    if status.pending.is_empty() && status.incompatible.is_empty() {
        Exit::Success
    } else {
        Exit::Failure
    }
}
