//! What an embedding program says: which actors, which routes; and then `run`.

mod assembly;
mod needs;

use std::{io, process::ExitCode, sync::PoisonError};

use dotmac_db::Migrations;
use dotmac_supervision::{ActorHandle, ChildSpec, Lifeline, SupervisedActor};
use utoipa_actix_web::service_config::ServiceConfig;

use crate::{
    Exit,
    extract::Supervised,
    run::{self, Signals},
    settings::{Catalogue, Settings, SettingsErrors},
};

pub(crate) use assembly::{Assembly, AssemblyError};
pub use needs::Needs;

/// A service to be run: the daemon's own actors and routes, and those of an embedding program.
///
/// ```no_run
/// # use actix::prelude::*;
/// # use dotmac_platform::{Db, Needs, Platform, supervision::{Lifeline, Serving, SupervisedActor}};
/// # struct Greeter(Lifeline);
/// # impl Greeter { fn new(life: Lifeline, _: Db) -> Self { Self(life) } }
/// # impl Actor for Greeter {
/// #     type Context = Context<Self>;
/// #     fn started(&mut self, _: &mut Self::Context) { self.0.ready(Serving::default()) }
/// # }
/// # impl SupervisedActor for Greeter {}
/// #[actix_web::main]
/// async fn main() -> std::process::ExitCode {
///     Platform::from_env().actor("greeter", Needs::db(), Greeter::new).run().await
/// }
/// ```
pub struct Platform {
    signals: io::Result<Signals>,
    settings: Result<Settings, SettingsErrors>,
    registrations: Vec<Registration>,
}

/// What is added to the assembly once the settings are known to be good.
pub(crate) type Registration = Box<dyn FnOnce(&mut Assembly) -> Result<(), AssemblyError>>;

impl Platform {
    /// A platform with the settings of this process; mistakes in them are reported by [`run`](Self::run).
    ///
    /// From now on SIGTERM and SIGINT are its own: until [`run`](Self::run) they end the process with 0.
    #[must_use]
    pub fn from_env() -> Self {
        // Before the settings, which may lie on a file system that is slow to answer.
        let signals = Signals::listen();
        Self::new(Settings::load(&Catalogue::platform()), signals)
    }

    /// A platform with settings that were read already. Signals are as in [`from_env`](Self::from_env).
    #[must_use]
    pub fn with_settings(settings: Result<Settings, SettingsErrors>) -> Self {
        Self::new(settings, Signals::listen())
    }

    fn new(settings: Result<Settings, SettingsErrors>, signals: io::Result<Signals>) -> Self {
        Self {
            signals,
            settings,
            registrations: Vec::new(),
        }
    }

    /// Adds a supervised actor: in `/ready` and `/metrics` under `name`, started after what it needs,
    /// restarted when it fails, stopped in order. Handlers take it as [`Supervised`]`<A>`.
    ///
    /// `factory` builds a fresh value for each life, from the [`Lifeline`] by which the actor says how
    /// it is, and from what `needs` names.
    #[must_use]
    pub fn actor<A, N>(
        self,
        name: &'static str,
        needs: Needs<N>,
        factory: impl Fn(Lifeline, N) -> A + Send + Sync + 'static,
    ) -> Self
    where
        A: SupervisedActor,
        N: Clone + Send + Sync + 'static,
    {
        self.register(move |assembly| {
            let (order, given) = needs.resolve(assembly, name)?;
            let spec = ChildSpec::new(name, move |life| {
                assembly::watch_thread();
                factory(life, given.clone())
            });
            let spec = order.into_iter().fold(spec, ChildSpec::needs);
            let handle: ActorHandle<A> = assembly.tree.add(spec.required())?;
            assembly.provide(Supervised(handle));
            Ok(())
        })
    }

    /// Mounts routes under `prefix`, such as `/greet`; those with `#[utoipa::path]` are documented.
    #[must_use]
    pub fn routes(
        self,
        prefix: &'static str,
        routes: impl Fn(&mut ServiceConfig<'_>) + Send + Sync + 'static,
    ) -> Self {
        self.register(move |assembly| {
            assembly.routes.mount(prefix, routes);
            Ok(())
        })
    }

    /// Adds migrations of an embedding program's own tables, run with those of the platform in the order of
    /// their names. No two may have the same time in their names.
    #[must_use]
    pub fn migrations(self, migrations: Migrations) -> Self {
        self.register(move |assembly| {
            let mut all = assembly
                .migrations
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            all.push(migrations);
            Ok(())
        })
    }

    /// Runs until it is told to stop, or can do no more; see `docs/operations.md` for the exit codes.
    ///
    /// Must be called on an actix system (`#[actix_web::main]`), once per process.
    pub async fn run(self) -> ExitCode {
        let settings = match self.settings {
            Ok(settings) => settings,
            Err(mistakes) => {
                eprintln!("{mistakes}");
                return Exit::Settings.into();
            }
        };
        Box::pin(run::run(settings, self.registrations, self.signals))
            .await
            .into()
    }

    fn register(
        mut self,
        add: impl FnOnce(&mut Assembly) -> Result<(), AssemblyError> + 'static,
    ) -> Self {
        self.registrations.push(Box::new(add));
        self
    }
}
