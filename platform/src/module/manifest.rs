//! The description of a module before it runs.

use dotmac_db::{Migrations, Scripts, Share};
use utoipa::ToSchema;

use super::{ModuleCommand, command::Command};
use crate::{
    access::PermissionSpec,
    audit::AuditedAct,
    events::{Event, EventSpec},
    jobs::{Job, KindSpec},
};

/// The description of a module and its possessions.
#[derive(Clone)]
pub struct Manifest {
    pub(crate) description: &'static str,
    migrations: Option<Scripts>,
    after: &'static [&'static str],
    pub(crate) share: Share,
    pub(crate) request_share: Share,
    pub(crate) permissions: &'static [PermissionSpec],
    pub(crate) operator_permissions: &'static [PermissionSpec],
    pub(crate) events: Vec<EventSpec>,
    pub(crate) jobs: Vec<KindSpec>,
    pub(crate) acts: &'static [AuditedAct],
    pub(crate) is_required: bool,
    pub(crate) seals: bool,
    pub(crate) command: Option<Command>,
    /// Commands with their own names, each with what it is for.
    pub(crate) named_commands: Vec<(&'static str, &'static str, Command)>,
}

impl Manifest {
    /// A module in one sentence, as `--help` and the documentation show it. Its parts are optional: without one of
    /// them the program is degraded, not down.
    #[must_use]
    pub const fn new(description: &'static str) -> Self {
        Self {
            description,
            migrations: None,
            after: &[],
            share: Share::HALF,
            request_share: Share::HALF,
            permissions: &[],
            operator_permissions: &[],
            events: Vec::new(),
            jobs: Vec::new(),
            acts: &[],
            is_required: false,
            seals: false,
            command: None,
            named_commands: Vec::new(),
        }
    }

    /// The migrations of its tables: [`migrations!`](crate::migrations!).
    #[must_use]
    pub fn migrations(self, migrations: Scripts) -> Self {
        Self {
            migrations: Some(migrations),
            ..self
        }
    }

    /// Modules whose tables its own refer to: their migrations run before. Those that a program does not have are passed
    /// over.
    #[must_use]
    pub fn after(self, modules: &'static [&'static str]) -> Self {
        Self {
            after: modules,
            ..self
        }
    }

    /// How many of the database's connections its work may hold at a time; half of them unless said otherwise.
    #[must_use]
    pub fn share(self, share: Share) -> Self {
        Self { share, ..self }
    }

    /// How many of the requests that can be under way may be its own; half of them unless said otherwise. Beyond it
    /// they are answered 503 `module_overloaded`.
    #[must_use]
    pub fn request_share(self, request_share: Share) -> Self {
        Self {
            request_share,
            ..self
        }
    }

    /// The permissions that its routes ask for: the `PERMISSIONS` of [`permissions!`](crate::permissions!).
    #[must_use]
    pub fn permissions(self, permissions: &'static [PermissionSpec]) -> Self {
        Self {
            permissions,
            ..self
        }
    }

    /// Those of its permissions that reach beyond one tenant: for those who operate the program. Authenticators give them
    /// to the callers of no other tenant ([`PermissionSet::deny_those_of_operators`]).
    ///
    /// [`PermissionSet::deny_those_of_operators`]: crate::access::PermissionSet::deny_those_of_operators
    #[must_use]
    pub fn operator_permissions(self, operator_permissions: &'static [PermissionSpec]) -> Self {
        Self {
            operator_permissions,
            ..self
        }
    }

    /// It emits events of type `E`, whose documentation and schema are those of the Rust type. A transaction that emits
    /// an event of a type which is not listed fails, and its error names the type.
    #[must_use]
    pub fn emits<E: Event + ToSchema>(mut self) -> Self {
        self.events.push(EventSpec::of::<E>());
        self
    }

    /// It does jobs `J`, by the handler that it [mounts](super::Mount::job). Any module may enqueue them.
    #[must_use]
    pub fn jobs<J: Job>(mut self) -> Self {
        self.jobs.push(KindSpec::of::<J>());
        self
    }

    /// It records these acts in the audit log. A transaction that records one which is not listed fails, and its error names the
    /// act.
    #[must_use]
    pub fn audits(self, acts: &'static [AuditedAct]) -> Self {
        Self { acts, ..self }
    }

    /// Without its parts, the program is not ready.
    #[must_use]
    pub fn required(self) -> Self {
        Self {
            is_required: true,
            ..self
        }
    }

    /// It keeps secrets in the database, sealed: it takes [`Mount::sealer`](super::Mount::sealer). In production it is not
    /// mounted without `DOTMAC_APP_MASTER_KEY`; elsewhere sealing then fails, and the program warns of it.
    #[must_use]
    pub fn seals(self) -> Self {
        Self {
            seals: true,
            ..self
        }
    }

    /// Its command: `dotmac <name> …`.
    #[must_use]
    pub fn command<C: ModuleCommand>(self) -> Self {
        Self {
            command: Some(Command::of::<C>()),
            ..self
        }
    }

    /// A command whose name is not the module's, for what operators type often: `dotmac user …`. `about` says what it is
    /// for, in a sentence. The name must not be one of the platform's commands.
    #[must_use]
    pub fn named_command<C: ModuleCommand>(
        mut self,
        name: &'static str,
        about: &'static str,
    ) -> Self {
        self.named_commands.push((name, about, Command::of::<C>()));
        self
    }

    /// Every command of the module called `module`: its name, what it is for, and the command.
    pub(crate) fn commands(
        &self,
        module: &'static str,
    ) -> impl Iterator<Item = (&'static str, &'static str, &Command)> {
        let own = self.command.iter();
        let own = own.map(move |command| (module, self.description, command));
        let named = self.named_commands.iter();
        own.chain(named.map(|(name, about, command)| (*name, *about, command)))
    }

    /// Its migrations, owned by the module.
    pub(crate) fn migrations_of(&self, module: &'static str) -> Option<Migrations> {
        let scripts = self.migrations?;
        Some(Migrations {
            after: self.after,
            ..scripts.owned_by(module)
        })
    }
}
