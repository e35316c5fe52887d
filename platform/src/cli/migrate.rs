//! `dotmac migrate`: the schema, without the daemon.

use clap::{Args, Subcommand};

use super::database::with_database;
use crate::{
    Exit,
    db::{
        Config, OpenError,
        migrations::{self, Outcome, OwnerStatus, Status, Step},
    },
    module,
    program::Program,
};

/// The operation on the schema; by default `up`.
#[derive(Args)]
pub(super) struct Arguments {
    #[command(subcommand)]
    action: Option<Action>,
}

#[derive(Clone, Subcommand)]
enum Action {
    /// Run every pending migration.
    Up {
        /// Only say which would be run.
        #[arg(long)]
        dry_run: bool,
    },
    /// Show what ran and what is pending; exit 1 if anything is, or if the schema is not this program's.
    Status,
    /// Take the newest migrations of one owner back.
    Down {
        /// How many.
        #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
        steps: u32,
        /// Whose, as `status` names them; may be left out where there is only one.
        #[arg(long)]
        owner: Option<String>,
        /// Only say which would be taken back.
        #[arg(long)]
        dry_run: bool,
    },
}

pub(super) async fn run(program: &Program, arguments: &Arguments) -> Exit {
    let action = arguments.action.clone();
    let action = action.unwrap_or(Action::Up { dry_run: false });
    with_database(program, async |mut config| {
        config.migrations = module::migrations(&program.modules);
        carry_out(action, config)
    })
    .await
}

/// On its own thread, since migrations need a multi-threaded runtime and ours is not.
pub(super) fn migrate(config: Config, step: Step) -> Result<Outcome, OpenError> {
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

fn carry_out(action: Action, config: Config) -> Result<Exit, OpenError> {
    match action {
        Action::Status => {
            let status = migrate(config, Step::Look)?.status;
            status.owners.iter().for_each(show);
            let is_current = status.pending().is_empty() && status.suits().is_ok();
            Ok(if is_current {
                Exit::Success
            } else {
                Exit::Failure
            })
        }
        Action::Up { dry_run: true } => {
            let status = migrate(config, Step::Look)?.status;
            status.suits()?;
            list("would run", &status.pending());
            Ok(Exit::Success)
        }
        Action::Up { dry_run: false } => {
            report("ran", &migrate(config, Step::Up)?);
            Ok(Exit::Success)
        }
        Action::Down {
            steps,
            owner,
            dry_run,
        } => {
            let looked = migrate(config.clone(), Step::Look)?.status;
            let owner = match owner.or_else(|| only_owner(&looked)) {
                Some(owner) => owner,
                None => {
                    eprintln!("say whose with --owner: {}", names(&looked));
                    return Ok(Exit::Usage);
                }
            };
            if dry_run {
                let newest = looked.newest(&owner, steps)?;
                list("would take back", &newest);
            } else {
                report("took back", &migrate(config, Step::Down { owner, steps })?);
            }
            Ok(Exit::Success)
        }
    }
}

/// The owner of whom migrations have run, if there is one alone.
fn only_owner(status: &Status) -> Option<String> {
    let mut owners = status.owners.iter().filter(|it| !it.applied.is_empty());
    let first = owners.next()?;
    owners.next().is_none().then(|| first.owner.clone())
}

fn names(status: &Status) -> String {
    let names: Vec<&str> = status.owners.iter().map(|it| it.owner.as_str()).collect();
    names.join(", ")
}

fn list(verb: &str, names: &[String]) {
    for name in names {
        super::print(&format!("{verb} {name}"));
    }
}

fn report(verb: &str, Outcome { changed, status }: &Outcome) {
    list(verb, changed);
    status
        .owners
        .iter()
        .map(summary)
        .for_each(|line| super::print(&line));
}

fn summary(of: &OwnerStatus) -> String {
    let OwnerStatus {
        owner,
        applied,
        pending,
        unknown,
        ..
    } = of;
    let (applied, pending) = (applied.len(), pending.len());
    if of.is_absent {
        return format!("{owner}: {applied} applied, not part of this program");
    }
    let mut text = format!("{owner}: {applied} applied, {pending} pending");
    if !unknown.is_empty() {
        text.push_str(&format!(", {} unknown to this program", unknown.len()));
    }
    text
}

/// All that is known of one owner's migrations.
fn show(of: &OwnerStatus) {
    super::print(&summary(of));
    for version in &of.applied {
        let word = if of.incompatible.contains(version) {
            ", unknown to this program"
        } else if of.unknown.contains(version) {
            ", unknown to this program, compatible"
        } else {
            ""
        };
        let name = of.names.get(version).unwrap_or(version);
        super::print(&format!("  applied {name}{word}"));
    }
    for name in &of.pending {
        super::print(&format!("  pending {name}"));
    }
}
