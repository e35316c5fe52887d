//! Refusals at the start, by name, and the parts of a program of modules.

mod audit;
mod events;
mod jobs;
mod production;
mod providing;

use std::sync::Arc;

use actix::{Actor, Context};
use actix_web::web::Json;
use diesel_migrations::EmbeddedMigrations;
use dotmac_db::Scripts;
use dotmac_supervision::{Lifeline, Serving, SupervisedActor};
use futures_util::future::LocalBoxFuture;

use super::{
    Assembly, CommandContext, Manifest, Module, ModuleCommand, Mount, MountError, Needs, Registered,
};
use crate::{
    Exit,
    access::{AuthError, AuthRequest, Authenticator, Can, Principal, Public},
    cli::is_command,
    http::Problem,
    permissions,
    routing::{NoContent, Use},
    settings::{Catalogue, Settings, Sources},
};

pub(crate) type Mounting = fn(&mut Mount<'_>) -> Result<(), MountError>;

permissions! {
    /// Look.
    Look = "alpha.things.look";
}

/// Declares a module with what it mounts.
macro_rules! module {
    ($module:ident, $name:literal, $manifest:expr, $mount:expr) => {
        struct $module;

        impl $crate::module::Module for $module {
            const NAME: &'static str = $name;
            type Settings = $crate::settings::NoSettings;

            fn manifest() -> $crate::module::Manifest {
                $manifest
            }

            fn mount(
                _: $crate::settings::NoSettings,
                on: &mut $crate::module::Mount<'_>,
            ) -> Result<(), $crate::module::MountError> {
                const MOUNT: $crate::module::tests::Mounting = $mount;
                MOUNT(on)
            }
        }
    };
}
pub(crate) use module;

struct Quiet(Lifeline);

impl Actor for Quiet {
    type Context = Context<Self>;

    fn started(&mut self, _: &mut Self::Context) {
        self.0.ready(Serving::default());
    }
}

impl SupervisedActor for Quiet {}

struct Other(#[expect(dead_code, reason = "an actor holds its lifeline")] Lifeline);

impl Actor for Other {
    type Context = Context<Self>;
}

impl SupervisedActor for Other {}

async fn nothing(_: Public) -> NoContent {
    NoContent
}

async fn look(_: Can<Look>) -> NoContent {
    NoContent
}

async fn count(_: Public, number: Use<u64>) -> Result<Json<u64>, Problem> {
    Ok(Json(*number))
}

/// The program of `M` and, if there is one, `N`: put together, or the reason why not.
pub(crate) fn assembled<M: Module, N: Module>(
    environment: &[(&str, &str)],
) -> Result<Assembly, String> {
    assembled_with::<M, N>(environment, None)
}

/// The same with the program's own authenticator.
fn assembled_with<M: Module, N: Module>(
    environment: &[(&str, &str)],
    authenticator: Option<Arc<dyn Authenticator>>,
) -> Result<Assembly, String> {
    let mut catalogue = Catalogue::platform();
    let first = Registered::add::<M>(&mut catalogue, is_command);
    let mut modules = vec![first.map_err(|error| dotmac_causes::chain(&error))?];
    let second = Registered::add::<N>(&mut catalogue, is_command)
        .and_then(|module| module.checked_against(&modules))
        .map_err(|error| dotmac_causes::chain(&error))?;
    modules.push(second);
    let sources = Sources::new(environment.iter().copied());
    let settings =
        Settings::from_sources(&catalogue, &sources).map_err(|error| error.to_string())?;
    Assembly::for_command(&settings, &modules, authenticator)
        .map_err(|error| dotmac_causes::chain(&error))
}

pub(crate) fn refusal<M: Module, N: Module>() -> String {
    match assembled::<M, N>(&[]) {
        Ok(_) => "nothing is refused".to_owned(),
        Err(why) => why,
    }
}

module!(Empty, "empty", Manifest::new("Nothing."), |_| Ok(()));

/// A command of a module.
#[derive(clap::Parser)]
struct Say;

impl ModuleCommand for Say {
    async fn run(self, _: CommandContext) -> Result<(), Exit> {
        Ok(())
    }
}

#[test]
fn a_command_of_two_modules_is_refused_by_the_names_of_both() {
    module!(
        Alpha,
        "alpha",
        Manifest::new("A.").named_command::<Say>("say", "Says."),
        |_| Ok(())
    );
    module!(
        Beta,
        "beta",
        Manifest::new("B.").named_command::<Say>("say", "Says."),
        |_| Ok(())
    );
    module!(Named, "say", Manifest::new("S."), |_| Ok(()));
    for refused in [refusal::<Alpha, Beta>(), refusal::<Alpha, Named>()] {
        assert!(
            refused.contains("`say` is a command of module `alpha`"),
            "{refused}"
        );
    }
    let refused = refusal::<Named, Beta>();
    assert!(refused.contains("of module `say`"), "{refused}");
}

/// Knows no caller.
struct Nobody;

impl Authenticator for Nobody {
    fn authenticate<'r>(
        &'r self,
        _: AuthRequest<'r>,
    ) -> LocalBoxFuture<'r, Result<Option<Principal>, AuthError>> {
        Box::pin(std::future::ready(Ok(None)))
    }
}

#[test]
fn a_second_authenticator_is_refused_by_the_names_of_both() {
    module!(Alpha, "alpha", Manifest::new("A."), |on| on
        .authenticator(Nobody));
    module!(Beta, "beta", Manifest::new("B."), |on| on
        .authenticator(Nobody));
    let refused = refusal::<Alpha, Beta>();
    assert!(
        refused.contains("`beta`") && refused.contains("`alpha` is the authenticator"),
        "{refused}"
    );
    let program = assembled_with::<Alpha, Empty>(&[], Some(Arc::new(Nobody)));
    let refused = program.err().unwrap_or_default();
    assert!(
        refused.contains("`the program` is the authenticator already"),
        "{refused}"
    );
}

#[test]
fn a_route_that_can_never_be_reached_is_refused() {
    module!(Ready, "alpha", Manifest::new("A."), |on| {
        on.root_routes("/ready", |routes| _ = routes.get("", nothing));
        Ok(())
    });
    let why = refusal::<Ready, Empty>();
    assert!(why.contains("GET `/ready` is unreachable"), "{why}");

    module!(One, "alpha", Manifest::new("A."), |on| {
        on.routes("/things", |routes| _ = routes.get("/{id}", nothing));
        Ok(())
    });
    module!(Two, "beta", Manifest::new("B."), |on| {
        on.routes("/things", |routes| _ = routes.get("/{name}", nothing));
        Ok(())
    });
    let why = refusal::<One, Two>();
    assert!(
        why.contains("module `beta`") && why.contains("of module `alpha`"),
        "{why}"
    );
}

#[test]
fn a_prefix_or_a_path_that_is_none_is_refused_by_name() {
    module!(NoSlash, "alpha", Manifest::new("A."), |on| {
        on.routes("things", |routes| _ = routes.get("", nothing));
        Ok(())
    });
    module!(Nothing, "alpha", Manifest::new("A."), |on| {
        on.routes("", |routes| _ = routes.get("/things", nothing));
        Ok(())
    });
    module!(Root, "alpha", Manifest::new("A."), |on| {
        on.root_routes("/", |routes| _ = routes.get("things", nothing));
        Ok(())
    });
    module!(Path, "alpha", Manifest::new("A."), |on| {
        on.routes("/things", |routes| _ = routes.get("newest", nothing));
        Ok(())
    });
    for (why, named) in [
        (refusal::<NoSlash, Empty>(), "the prefix `things`"),
        (refusal::<Nothing, Empty>(), "the prefix ``"),
        (refusal::<Root, Empty>(), "the prefix `/`"),
        (refusal::<Path, Empty>(), "the path `newest`"),
    ] {
        assert!(
            why.contains("module `alpha`") && why.contains(named),
            "{why}"
        );
    }
}

#[test]
#[expect(clippy::panic, reason = "it is what the modules do")]
fn a_panic_of_a_module_is_a_mistake_with_its_text() {
    module!(Mounts, "alpha", Manifest::new("A."), |_| panic!(
        "no {}",
        "way"
    ));
    let why = refusal::<Mounts, Empty>();
    assert!(
        why.contains("module `alpha` cannot be mounted") && why.contains("it panicked: no way"),
        "{why}"
    );
    module!(Says, "alpha", panic!("no manifest"), |_| Ok(()));
    let why = refusal::<Says, Empty>();
    assert!(
        why.contains("module `alpha` panicked in its manifest: no manifest"),
        "{why}"
    );
}

#[test]
fn two_actors_of_one_type_or_one_name_are_refused() {
    module!(Twice, "alpha", Manifest::new("A."), |on| {
        on.actor("one", Needs::none(), |life, ()| Quiet(life))
            .add()?;
        on.actor("two", Needs::none(), |life, ()| Quiet(life))
            .add()?;
        Ok(())
    });
    let why = refusal::<Twice, Empty>();
    assert!(
        why.contains("provided twice") && why.contains("Quiet"),
        "{why}"
    );

    module!(Names, "alpha", Manifest::new("A."), |on| {
        on.actor("one", Needs::none(), |life, ()| Quiet(life))
            .add()?;
        on.actor("one", Needs::none(), |life, ()| Other(life))
            .add()?;
        Ok(())
    });
    let why = refusal::<Names, Empty>();
    assert!(why.contains("alpha.one"), "{why}");
}

#[test]
fn a_need_that_nothing_meets_is_named() {
    module!(Needy, "alpha", Manifest::new("A."), |on| {
        let needs = Needs::<crate::Supervised<Other>>::actor();
        on.actor("", needs, |life, _| Quiet(life)).add()?;
        Ok(())
    });
    let why = refusal::<Needy, Empty>();
    assert!(
        why.contains("`alpha` needs an actor of type") && why.contains("Other"),
        "{why}"
    );
}

#[test]
fn names_of_modules_and_permissions_are_checked() {
    module!(Command, "check", Manifest::new("A."), |_| Ok(()));
    assert!(refusal::<Command, Empty>().contains("`check` is the name of a command"));
    module!(Undrain, "undrain", Manifest::new("A."), |_| Ok(()));
    assert!(refusal::<Undrain, Empty>().contains("`undrain` is the name of a command"));
    module!(Http, "http", Manifest::new("A."), |_| Ok(()));
    assert!(refusal::<Http, Empty>().contains("`http` is the name of a command or of a component"));
    module!(Upper, "Alpha", Manifest::new("A."), |_| Ok(()));
    assert!(refusal::<Upper, Empty>().contains("`Alpha` cannot be the name of a module"));
    assert!(refusal::<Empty, Empty>().contains("two modules are named `empty`"));

    module!(
        Foreign,
        "beta",
        Manifest::new("B.").permissions(PERMISSIONS),
        |_| Ok(())
    );
    let why = refusal::<Foreign, Empty>();
    assert!(why.contains("`alpha.things.look` is not `beta."), "{why}");
    module!(Undeclared, "alpha", Manifest::new("A."), |on| {
        on.routes("/things", |routes| _ = routes.get("", look));
        Ok(())
    });
    let why = refusal::<Undeclared, Empty>();
    assert!(
        why.contains("`alpha.things.look`, which no manifest declares"),
        "{why}"
    );
}

#[test]
fn migrations_of_one_back_end_alone_are_refused() {
    static NONE: EmbeddedMigrations = EmbeddedMigrations::new(&[]);
    const LACKING: Scripts = Scripts {
        postgres: crate::MIGRATIONS.postgres,
        sqlite: &NONE,
    };
    module!(
        Alpha,
        "alpha",
        Manifest::new("A.").migrations(LACKING),
        |_| Ok(())
    );
    let why = refusal::<Alpha, Empty>();
    assert!(
        why.contains("the migrations of `alpha` for SQLite lack")
            && why.contains("runtime_journal"),
        "{why}"
    );
}

#[test]
fn a_module_that_is_off_mounts_nothing() {
    module!(Broken, "alpha", Manifest::new("A."), |_| Err(
        MountError::other("never mounted")
    ));
    assert!(refusal::<Broken, Empty>().contains("never mounted"));
    assert!(assembled::<Broken, Empty>(&[("DOTMAC_ALPHA_ENABLED", "false")]).is_ok());
}

#[test]
fn handlers_are_given_the_client_for_calls_to_the_outside() {
    use crate::egress::Egress;
    async fn call(_: Public, _: Use<Egress>) -> NoContent {
        NoContent
    }
    module!(Calls, "alpha", Manifest::new("A."), |on| {
        let checked = on.egress().check_url("https://169.254.169.254/");
        assert!(checked.is_err());
        on.routes("/things", |routes| _ = routes.get("", call));
        Ok(())
    });
    assert!(assembled::<Calls, Empty>(&[]).is_ok());
}

crate::settings! {
    title: "Limits", prefix: "LIMITS_";
    /// Limits that change while the program runs.
    struct Limits {
        /// The greatest number.
        most: u32 { default: crate::settings::fixed("10"), live: true }
    }
}

#[test]
fn live_keys_that_a_module_does_not_take_refuse_the_start() {
    struct Deaf;
    impl Module for Deaf {
        const NAME: &'static str = "limits";
        type Settings = Limits;
        fn manifest() -> Manifest {
            Manifest::new("Takes no reload.")
        }
        fn mount(_: Limits, _: &mut Mount<'_>) -> Result<(), MountError> {
            Ok(())
        }
    }
    struct Listening;
    impl Module for Listening {
        const NAME: &'static str = "limits";
        type Settings = Limits;
        fn manifest() -> Manifest {
            Manifest::new("Takes reloads.")
        }
        fn mount(settings: Limits, on: &mut Mount<'_>) -> Result<(), MountError> {
            assert_eq!(on.live(settings).get().most, 10);
            Ok(())
        }
    }
    let why = refusal::<Deaf, Empty>();
    assert!(
        why.contains("`limits` declares live keys") && why.contains("DOTMAC_LIMITS_MOST"),
        "{why}"
    );
    assert!(assembled::<Listening, Empty>(&[]).is_ok());
}
