//! A module with its type erased, as the program holds it.

use std::{
    iter,
    panic::{AssertUnwindSafe, catch_unwind},
};

use dotmac_supervision::panic_message;

use super::{Manifest, Module, Mount, MountError};
use crate::{
    access::MAX_PERMISSIONS,
    audit::{self, AuditedAct},
    events::{self, EventSpec},
    jobs,
    settings::{Catalogue, CatalogueError, Settings},
};

/// A module of a program.
#[derive(Clone)]
pub(crate) struct Registered {
    pub(crate) name: &'static str,
    pub(crate) manifest: Manifest,
    mount: fn(&Settings, &mut Mount<'_>) -> Result<(), MountError>,
}

/// A mistake in how a program or a module is put together, known before anything runs.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RegistrationError {
    #[error(transparent)]
    Settings(#[from] CatalogueError),
    #[error("module `{module}` panicked in its manifest: {message}")]
    Panicked {
        module: &'static str,
        message: String,
    },
    #[error(
        "`{0}` is the name of a command or of a component of the platform; give the module another"
    )]
    Reserved(&'static str),
    #[error("`{name}` is a command of module `{module}`; give the one of module `{other}` another")]
    CommandTwice {
        name: &'static str,
        module: &'static str,
        other: &'static str,
    },
    #[error(
        "module `{module}`: the permission `{permission}` is not `{module}.<resource>.<action>`"
    )]
    Permission {
        module: &'static str,
        permission: &'static str,
    },
    #[error("there are more permissions than {most}; `{permission}` is one too many")]
    TooManyPermissions {
        permission: &'static str,
        most: usize,
    },
}

/// Names that are no commands and taken all the same: components of the platform, and `help`.
const RESERVED: [&str; 14] = [
    "audit_retention",
    "audit_sealer",
    "audit_verifier",
    "db",
    "durable",
    "event_retention",
    "help",
    "http",
    "idempotency",
    "job_retention",
    "job_runner",
    "platform",
    "secrets",
    "telemetry",
];

impl Registered {
    /// The module `M`, with its keys added to those of the program.
    ///
    /// `is_command` knows the names of the program's own commands.
    ///
    /// # Errors
    ///
    /// [`RegistrationError`], if it cannot be in a program with these keys.
    pub(crate) fn add<M: Module>(
        catalogue: &mut Catalogue,
        is_command: impl Fn(&str) -> bool,
    ) -> Result<Self, RegistrationError> {
        let module = M::NAME;
        if RESERVED.contains(&module) || is_command(module) {
            return Err(RegistrationError::Reserved(module));
        }
        let manifest = uninterrupted(M::manifest);
        let manifest =
            manifest.map_err(|message| RegistrationError::Panicked { module, message })?;
        for (name, ..) in &manifest.named_commands {
            if RESERVED.contains(name) || is_command(name) {
                return Err(RegistrationError::Reserved(name));
            }
        }
        for permission in manifest.operator_permissions {
            permission.declare_for_operators();
        }
        let (all, operators) = (manifest.permissions, manifest.operator_permissions);
        for permission in all.iter().chain(operators) {
            if !permission.is_well_formed() || permission.area() != module {
                return Err(RegistrationError::Permission {
                    module,
                    permission: permission.name,
                });
            }
            if permission.declare().is_none() {
                return Err(RegistrationError::TooManyPermissions {
                    permission: permission.name,
                    most: MAX_PERMISSIONS,
                });
            }
        }
        catalogue.add::<M::Settings>(module)?;
        audit::declare(module, manifest.acts.iter().map(AuditedAct::name));
        events::declare(module, manifest.events.iter().map(EventSpec::kind));
        jobs::declare(module, manifest.jobs.iter().map(|spec| spec.kind));
        Ok(Self {
            name: module,
            manifest,
            mount: |settings, on| match settings.of::<M::Settings>() {
                Some(settings) => M::mount(settings.clone(), on),
                None => Ok(()), // it is switched off
            },
        })
    }

    /// The names of its commands; its own name is one, whether it has that command or not.
    fn command_names(&self) -> impl Iterator<Item = &'static str> {
        let named = self.manifest.named_commands.iter();
        iter::once(self.name).chain(named.map(|(name, ..)| *name))
    }

    /// Refuses it if one of `others` has a command of the same name.
    ///
    /// # Errors
    ///
    /// [`RegistrationError::CommandTwice`].
    pub(crate) fn checked_against(self, others: &[Self]) -> Result<Self, RegistrationError> {
        for other in others {
            let has = |name: &&'static str| other.command_names().any(|known| known == *name);
            if let Some(name) = self.command_names().find(has) {
                return Err(RegistrationError::CommandTwice {
                    name,
                    module: other.name,
                    other: self.name,
                });
            }
        }
        Ok(self)
    }

    /// Mounts it. A panic of its code is a mistake like any other: nothing runs yet.
    pub(crate) fn mount(&self, settings: &Settings, on: &mut Mount<'_>) -> Result<(), MountError> {
        uninterrupted(|| (self.mount)(settings, on)).map_err(MountError::Panicked)?
    }
}

/// The result of `work`, or the text of its panic.
fn uninterrupted<T>(work: impl FnOnce() -> T) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(work)).map_err(|panic| panic_message(&*panic).to_owned())
}
