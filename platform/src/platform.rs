//! How a program is put together: its name and the modules that it mounts, and then `main`.

use std::{process::ExitCode, sync::Arc};

use crate::{
    Exit,
    about::{About, Build},
    access::Authenticator,
    cli,
    module::{Module, Registered, RegistrationError},
    program::Program,
    settings::Catalogue,
};

/// A program to be: the platform's own components and commands, and the modules that are mounted on it.
///
/// ```no_run
/// # use dotmac_platform::{module::{Manifest, Module, Mount, MountError}, settings::NoSettings};
/// # struct Greeter;
/// # impl Module for Greeter {
/// #     const NAME: &'static str = "greeter";
/// #     type Settings = NoSettings;
/// #     fn manifest() -> Manifest { Manifest::new("Greets.") }
/// #     fn mount(_: NoSettings, _: &mut Mount<'_>) -> Result<(), MountError> { Ok(()) }
/// # }
/// use dotmac_platform::Platform;
///
/// fn main() -> std::process::ExitCode {
///     Platform::new("greeter", env!("CARGO_PKG_VERSION")).module::<Greeter>().main()
/// }
/// ```
pub struct Platform {
    program: Program,
    mistakes: Vec<RegistrationError>,
}

impl Platform {
    /// A program by the name of its binary and its version, as `--version`, `/health`, `dotmac_build_info`, telemetry and
    /// the OpenAPI document show them. The name is also the default of `DOTMAC_APP_NAME`.
    #[must_use]
    pub fn new(name: &'static str, version: &'static str) -> Self {
        Self {
            program: Program {
                about: About {
                    name,
                    version,
                    build: Build::default(),
                },
                modules: Vec::new(),
                catalogue: Catalogue::platform().app_name(name),
                authenticator: None,
            },
            mistakes: Vec::new(),
        }
    }

    /// The default of `DOTMAC_APP_NAME`, where the service is not named as its binary is.
    #[must_use]
    pub fn app_name(mut self, name: &'static str) -> Self {
        self.program.catalogue = self.program.catalogue.app_name(name);
        self
    }

    /// Says which build it is: [`build_info!`](crate::build_info!).
    #[must_use]
    pub fn build(mut self, build: Build) -> Self {
        self.program.about.build = build;
        self
    }

    /// Mounts a module, after those that were named before it.
    #[must_use]
    pub fn module<M: Module>(mut self) -> Self {
        let program = &mut self.program;
        let added = Registered::add::<M>(&mut program.catalogue, cli::is_command);
        match added.and_then(|module| module.checked_against(&program.modules)) {
            Ok(module) => self.program.modules.push(module),
            Err(mistake) => self.mistakes.push(mistake),
        }
        self
    }

    /// Finds out who calls guarded routes, where no module does. Without one they answer 401.
    #[must_use]
    pub fn authenticator(mut self, authenticator: impl Authenticator) -> Self {
        self.program.authenticator = Some(Arc::new(authenticator));
        self
    }

    /// Executes the command line of this process: serves until a stop signal, or runs one of the other commands.
    /// See `docs/operations.md` for the exit codes.
    ///
    /// Starts every runtime that it needs: call it from a plain `main`, once.
    #[must_use]
    pub fn main(self) -> ExitCode {
        if !self.mistakes.is_empty() {
            for mistake in &self.mistakes {
                eprintln!("{}", dotmac_causes::chain(mistake));
            }
            return Exit::Settings.into();
        }
        cli::main(&self.program).into()
    }
}
