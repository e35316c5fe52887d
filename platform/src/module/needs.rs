//! The needs of an actor: passed to its factory, and the order of start and stop.

use std::any::type_name;

use dotmac_db::ModuleDb;
use dotmac_secrets::SecretWatch;
use dotmac_supervision::{Need, SupervisedActor};

use super::{Assembly, MountError};
use crate::supervised::Supervised;

/// Handles of type `N` that a factory is given, each of a component that is started before.
///
/// Only what was added earlier can be needed, so needs form no cycle.
pub struct Needs<N>(Box<Resolve<N>>);

type Resolve<N> = dyn FnOnce(&Assembly, &'static str) -> Result<(Vec<Need>, N), MountError>;

/// The module of a component.
fn module_of(component: &'static str) -> &'static str {
    component.split('.').next().unwrap_or(component)
}

impl Needs<()> {
    /// Nothing.
    #[must_use]
    pub fn none() -> Self {
        Self(Box::new(|_, _| Ok((Vec::new(), ()))))
    }
}

impl Needs<ModuleDb> {
    /// The database, with at most the module's share of its connections. The actor starts when it is ready; it is not
    /// restarted with it, since [`ModuleDb`] stays good.
    #[must_use]
    pub fn db() -> Self {
        Self(Box::new(|assembly, needy| {
            let db = assembly.module_db(module_of(needy));
            Ok((vec![assembly.db_actor.to_start()], db))
        }))
    }
}

impl Needs<SecretWatch> {
    /// A secret of the program's own: `vault:PATH#FIELD`, or `vault:PATH` for the field `value` or the
    /// only one. It is loaded, refreshed and reported like those of the settings, under that name. The actor
    /// starts when the secrets are loaded, and is notified of each change without a restart.
    ///
    /// It must be there, as a setting that names it must. Without Vault there is none: production refuses to
    /// start then, elsewhere a line of the log warns. A [`SecretSetting`](crate::settings::SecretSetting) of the
    /// module, by [`Mount::secret`](super::Mount::secret), can also be given without Vault.
    ///
    /// ```no_run
    /// # use actix::{Actor, AsyncContext as _, Context, StreamHandler};
    /// # use dotmac_platform::{prelude::*, secrets::{SecretString, SecretWatch}};
    /// struct Signer(Lifeline, SecretWatch);
    /// # impl SupervisedActor for Signer {}
    /// impl Actor for Signer {
    ///     type Context = Context<Self>;
    ///     fn started(&mut self, context: &mut Self::Context) {
    ///         context.add_stream(self.1.changes());
    ///         self.0.ready(Serving::default());
    ///     }
    /// }
    /// impl StreamHandler<Option<SecretString>> for Signer {
    ///     fn handle(&mut self, key: Option<SecretString>, _: &mut Self::Context) {
    ///         // The present key first, and then only another one.
    ///     }
    /// }
    /// # fn mount(on: &mut Mount<'_>) -> Result<(), MountError> {
    /// on.actor("", Needs::secret("vault:signer/key"), Signer).add()?;
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn secret(reference: &'static str) -> Self {
        Self(Box::new(move |assembly, needy| {
            let parsed = reference.parse();
            let parsed = parsed.map_err(|source| MountError::Reference {
                component: needy.to_owned(),
                source,
            })?;
            let watch = assembly.watch(needy, parsed)?;
            Ok((vec![assembly.secrets.to_start()], watch))
        }))
    }
}

impl<A: SupervisedActor> Needs<Supervised<A>> {
    /// Another actor of the module, or one that is [shared](super::Mount::share), added before. The actor starts when that
    /// is ready; it is not restarted with it.
    #[must_use]
    pub fn actor() -> Self {
        Self(Box::new(|assembly, needy| {
            let needed = assembly.values.get::<Supervised<A>>(module_of(needy));
            let needed = needed.ok_or(MountError::NotAdded {
                component: needy.to_owned(),
                needed: type_name::<A>(),
            })?;
            Ok((vec![needed.to_start()], needed))
        }))
    }
}

impl<N: 'static> Needs<N> {
    /// Both; the factory is given a pair.
    #[must_use]
    pub fn and<M: 'static>(self, other: Needs<M>) -> Needs<(N, M)> {
        Needs(Box::new(|assembly, needy| {
            let (mut order, first) = self.resolve(assembly, needy)?;
            let (more, second) = other.resolve(assembly, needy)?;
            order.extend(more);
            Ok((order, (first, second)))
        }))
    }

    pub(super) fn resolve(
        self,
        assembly: &Assembly,
        needy: &'static str,
    ) -> Result<(Vec<Need>, N), MountError> {
        self.0(assembly, needy)
    }
}
