//! What is known of a module before anything runs.

use dotmac_db::{Migrations, Scripts, Share};
use utoipa::ToSchema;

use super::{ModuleCommand, command::Command};
use crate::{
    access::PermissionSpec,
    audit::AuditedAct,
    events::{Event, EventSpec},
    jobs::{Job, KindSpec},
};

/// What a module is and what it owns.
#[derive(Clone)]
pub struct Manifest {
    pub(crate) description: &'static str,
    migrations: Option<Scripts>,
    after: &'static [&'static str],
    pub(crate) share: Share,
    pub(crate) request_share: Share,
    pub(crate) permissions: &'static [PermissionSpec],
    pub(crate) events: Vec<EventSpec>,
    pub(crate) jobs: Vec<KindSpec>,
    pub(crate) acts: &'static [AuditedAct],
    pub(crate) is_required: bool,
    pub(crate) seals: bool,
    pub(crate) command: Option<Command>,
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
            events: Vec::new(),
            jobs: Vec::new(),
            acts: &[],
            is_required: false,
            seals: false,
            command: None,
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

    /// Its migrations, owned by the module.
    pub(crate) fn migrations_of(&self, module: &'static str) -> Option<Migrations> {
        let scripts = self.migrations?;
        Some(Migrations {
            after: self.after,
            ..scripts.owned_by(module)
        })
    }
}
