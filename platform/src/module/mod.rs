//! The module interface: how a service says what it is, and what it puts into a program.
//!
//! A [`Module`] has two parts. Its [`Manifest`] is known before anything runs: `serve`, `check`, `config`,
//! `migrate`, `openapi` and the documentation all read it. [`Module::mount`] then puts actors, workers, routes and
//! values into the program, through a [`Mount`], with the module's own settings in hand. It starts nothing and
//! connects to nothing, so `check` and `openapi` mount as well.
//!
//! ```
//! use dotmac_platform::{
//!     access::Public,
//!     module::{Manifest, Module, Mount, MountError},
//!     settings::NoSettings,
//! };
//!
//! struct Clock;
//!
//! impl Module for Clock {
//!     const NAME: &'static str = "clock";
//!     type Settings = NoSettings;
//!
//!     fn manifest() -> Manifest {
//!         Manifest::new("Says what time it is.")
//!     }
//!
//!     fn mount(_: NoSettings, on: &mut Mount<'_>) -> Result<(), MountError> {
//!         on.routes("/clock", |routes| {
//!             routes.get("", async |_: Public| chrono::Utc::now().to_rfc3339());
//!         });
//!         Ok(())
//!     }
//! }
//! ```

mod assembly;
mod audit;
mod check;
mod command;
mod component;
mod error;
mod explanation;
mod failure;
mod job;
mod manifest;
mod measured;
mod mount;
mod needs;
mod registered;
mod relay;
mod single;
mod subscription;
#[cfg(test)]
pub(crate) mod tests;
mod vault;

pub use check::Finding;
pub(crate) use command::Command;
pub use command::{CommandContext, ModuleCommand};
pub use component::ComponentBuilder;
pub use error::MountError;
pub use failure::WorkerError;
pub use manifest::Manifest;
pub use measured::{Gauge, Measured};
pub use mount::Mount;
pub use needs::Needs;
pub use subscription::SubscriptionBuilder;
pub use vault::{ModuleVault, ModuleVaultError};

pub(crate) use assembly::{Assembly, migrations};
pub(crate) use check::ConnectionCheck;
pub(crate) use explanation::Explanation;
pub(crate) use registered::{Registered, RegistrationError};

pub use crate::later::Later;
use crate::settings::Group;

/// A service that a program can mount: see [`Platform::module`](crate::Platform::module).
pub trait Module: Sized + 'static {
    /// Its name, from 2 to 32 lower case letters, digits and `_`: in `DOTMAC_<NAME>_…`, the OpenAPI tag, `/ready`,
    /// metrics, logs, and `dotmac <name> …`.
    const NAME: &'static str;

    /// Its settings, made by [`settings!`](crate::settings!) with the prefix `<NAME>_`, or
    /// [`NoSettings`](crate::settings::NoSettings).
    type Settings: Group;

    /// Its description; a module with neither tables, permissions nor a command can leave it out.
    fn manifest() -> Manifest {
        Manifest::new("")
    }

    /// Puts its parts into the program.
    ///
    /// # Errors
    ///
    /// [`MountError`]; the program then does not start (78).
    fn mount(settings: Self::Settings, on: &mut Mount<'_>) -> Result<(), MountError>;
}
