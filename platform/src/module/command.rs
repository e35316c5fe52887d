//! A module's own command: `dotmac <module> …`.

use std::{error::Error, sync::Arc};

use actix_web::ResponseError as _;
use clap::{ArgMatches, CommandFactory, FromArgMatches, Parser};
use dotmac_db::{Credentials, MIGRATION_PENDING, ModuleDb, Share, Target, sealing::Sealer};
use dotmac_secrets::{SecretFeed, SecretWatch};
use dotmac_supervision::{Board, SupervisorHandle};
use futures_util::future::LocalBoxFuture;
use tokio::sync::OnceCell;

use super::{Assembly, ModuleVault, Registered};
use crate::{
    Exit,
    audit::AuditCatalogue,
    components,
    events::EventCatalogue,
    jobs::JobCatalogue,
    routing::ApiError,
    settings::{Group, SecretSetting, Settings},
};

/// A module's command on the command line, in addition to serving.
///
/// A [`clap::Parser`]; its sub-commands and arguments are those of `dotmac <module>`. It sees the same settings and the
/// same database as the daemon, whether that runs or not.
pub trait ModuleCommand: Parser + 'static {
    /// Does it. What is for the caller goes to standard output; the reason of a failure to standard error.
    ///
    /// # Errors
    ///
    /// How the process ends, if not with [`Exit::Success`]; [`CommandContext::failed`] gives it.
    fn run(self, on: CommandContext) -> impl Future<Output = Result<(), Exit>>;
}

/// The arguments of a command.
#[derive(Clone)]
pub struct CommandContext(Arc<Inner>);

struct Inner {
    settings: Settings,
    modules: Vec<Registered>,
    database: OnceCell<Opened>,
}

/// The components that run during a command.
struct Opened {
    db: ModuleDb,
    sealer: Option<Sealer>,
    feed: SecretFeed,
    vault: Option<ModuleVault>,
    supervisor: SupervisorHandle,
}

impl CommandContext {
    pub(crate) fn new(settings: Settings, modules: Vec<Registered>) -> Self {
        Self(Arc::new(Inner {
            settings,
            modules,
            database: OnceCell::new(),
        }))
    }

    /// The settings of a module that is switched on.
    #[must_use]
    pub fn settings<G: Group>(&self) -> Option<&G> {
        self.0.settings.of::<G>()
    }

    /// The database that the daemon would use. Opened with the first call, closed when the command ends. A command neither
    /// makes the database nor runs migrations: a schema that is not up to date is an error.
    ///
    /// # Errors
    ///
    /// [`Exit::Unavailable`]; why is on standard error.
    pub async fn db(&self) -> Result<ModuleDb, Exit> {
        let opened = self.0.database.get_or_try_init(|| self.open()).await?;
        Ok(opened.db.clone())
    }

    /// Seals and opens secrets in the database; `None` if no module that is on [seals](super::Manifest::seals) or
    /// [audits](super::Manifest::audits). Opens
    /// the database as [`db`](Self::db) does.
    ///
    /// # Errors
    ///
    /// As [`db`](Self::db).
    pub async fn sealer(&self) -> Result<Option<Sealer>, Exit> {
        let opened = self.0.database.get_or_try_init(|| self.open()).await?;
        Ok(opened.sealer.clone())
    }

    /// A secret of a module's settings, whether it is written out, in a file or in Vault. Opens the database as
    /// [`db`](Self::db) does.
    ///
    /// # Errors
    ///
    /// As [`db`](Self::db).
    pub async fn secret(&self, secret: &SecretSetting) -> Result<SecretWatch, Exit> {
        let opened = self.0.database.get_or_try_init(|| self.open()).await?;
        Ok(opened.feed.watch("command", secret.key()))
    }

    /// Vault, for secrets that the module makes itself; `None` if it is not configured. Opens the database as [`db`](Self::db)
    /// does.
    ///
    /// # Errors
    ///
    /// As [`db`](Self::db).
    pub async fn vault(&self) -> Result<Option<ModuleVault>, Exit> {
        let opened = self.0.database.get_or_try_init(|| self.open()).await?;
        Ok(opened.vault.clone())
    }

    /// Reports what kept the command from its work, with its causes, on standard error. [`Exit::Unavailable`] for what is
    /// 5xx over HTTP, as a database that is away; else [`Exit::Failure`].
    pub fn failed<E: ApiError>(&self, error: E) -> Exit {
        eprintln!("{}", dotmac_causes::chain(&error));
        match error.into_problem().status_code().is_server_error() {
            true => Exit::Unavailable,
            false => Exit::Failure,
        }
    }

    /// The types of events that the program's modules emit, and who subscribes.
    ///
    /// # Errors
    ///
    /// [`Exit::Settings`] if the modules cannot be put together; why is on standard error.
    pub fn events(&self) -> Result<EventCatalogue, Exit> {
        Ok(self.assembly()?.events)
    }

    fn assembly(&self) -> Result<Assembly, Exit> {
        let Inner {
            settings, modules, ..
        } = &*self.0;
        let assembly = Assembly::for_command(settings, modules, None);
        assembly.map_err(|error| refused(&error))
    }

    /// The kinds of jobs of the program's modules.
    ///
    /// # Errors
    ///
    /// As [`events`](Self::events).
    pub fn jobs(&self) -> Result<JobCatalogue, Exit> {
        Ok(self.assembly()?.jobs)
    }

    /// The acts that the program's modules record.
    ///
    /// # Errors
    ///
    /// As [`events`](Self::events).
    pub fn acts(&self) -> Result<AuditCatalogue, Exit> {
        Ok(self.assembly()?.audit.catalogue)
    }

    async fn open(&self) -> Result<Opened, Exit> {
        let Inner {
            settings, modules, ..
        } = &*self.0;
        let target = components::database(settings, Credentials::to_come()).target;
        if let Target::Sqlite(file) = &target
            && !file.path().exists()
        {
            let else_do = "start the daemon, run `migrate up`, or set DOTMAC_DATABASE_URL";
            eprintln!("there is no database at {target}: {else_do}");
            return Err(Exit::Unavailable);
        }
        let assembly = Assembly::for_database(settings, modules);
        let assembly = assembly.map_err(|error| refused(&error))?;
        let db = assembly.db.for_module("command", Share::default());
        let vault = assembly.module_vault();
        let (sealer, feed) = (assembly.sealer, assembly.feed);
        let supervisor = assembly.tree.start();
        let decided = |board: &Board| {
            let db = board.component("db");
            db.is_some_and(|db| db.state.serves() || db.reason == Some(MIGRATION_PENDING))
        };
        let waited = tokio::time::timeout(
            settings.supervision.start_timeout,
            supervisor.until(decided),
        );
        tokio::select! {
            _ = waited => {}
            _ = supervisor.escalated() => {}
        }
        let board = supervisor.board();
        let state = board.component("db");
        if state.is_some_and(|db| db.state.serves()) {
            return Ok(Opened {
                db,
                sealer,
                feed,
                vault,
                supervisor,
            });
        }
        let reason = state.and_then(|db| db.reason);
        match reason {
            Some(MIGRATION_PENDING) => {
                eprintln!("the schema is not up to date: run `migrate up`, or start the daemon")
            }
            reason => {
                let reason = reason.map_or("unknown", |reason| reason.as_str());
                eprintln!(
                    "the database is not available: {reason}; run `check --connect` for details"
                );
            }
        }
        supervisor.halt().await;
        Err(Exit::Unavailable)
    }

    /// Closes what was opened.
    pub(crate) async fn close(&self) {
        if let Some(opened) = self.0.database.get() {
            opened.supervisor.halt().await;
        }
    }
}

fn refused(error: &(dyn Error + 'static)) -> Exit {
    eprintln!("{}", dotmac_causes::chain(error));
    Exit::Settings
}

/// A [`ModuleCommand`] with its type erased.
#[derive(Clone, Copy)]
pub(crate) struct Command {
    parser: fn() -> clap::Command,
    run: fn(&ArgMatches, CommandContext) -> Result<LocalBoxFuture<'static, Exit>, clap::Error>,
}

impl Command {
    pub(super) fn of<C: ModuleCommand>() -> Self {
        Self {
            parser: <C as CommandFactory>::command,
            run: |matches, on| {
                let command = <C as FromArgMatches>::from_arg_matches(matches)?;
                Ok(Box::pin(async move {
                    let ended = command.run(on).await;
                    ended.err().unwrap_or(Exit::Success)
                }))
            },
        }
    }

    pub(crate) fn parser(&self) -> clap::Command {
        (self.parser)()
    }

    /// The command as a future; not begun yet.
    pub(crate) fn run(
        &self,
        matches: &ArgMatches,
        on: CommandContext,
    ) -> Result<LocalBoxFuture<'static, Exit>, clap::Error> {
        (self.run)(matches, on)
    }
}
