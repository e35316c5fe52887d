//! A component of a module - an actor or a worker - while its rules are being given.

use dotmac_durable::delivery;
use dotmac_supervision::{
    ActorFactory, ActorHandle, ChildSpec, Exhausted, Lifeline, Need, Policy, Published, Restart,
    Schedule, Spec, SupervisedActor, WorkerBody, WorkerContext, WorkerHandle, WorkerSpec,
};

use super::{Assembly, MountError, Needs, WorkerError, assembly::watch_thread, failure};
use crate::supervised::Supervised;

/// An actor or a worker to be: see [`Mount::actor`](super::Mount::actor) and [`Mount::worker`](super::Mount::worker).
#[must_use = "nothing is added before `add`"]
pub struct ComponentBuilder<'a, B> {
    assembly: &'a mut Assembly,
    module: &'static str,
    spec: Result<Spec<B>, MountError>,
}

impl<'a, B> ComponentBuilder<'a, B> {
    /// It is `failed` when it uses up its restarts, and everything else goes on.
    pub(super) fn new(
        assembly: &'a mut Assembly,
        (module, is_required): (&'static str, bool),
        spec: Result<Spec<B>, MountError>,
    ) -> Self {
        let builder = Self {
            assembly,
            module,
            spec,
        };
        let builder = builder.with(|spec| spec.when_exhausted(Exhausted::Fail));
        if is_required {
            builder.required()
        } else {
            builder
        }
    }

    /// Without it the program is not ready; overrides the module's manifest.
    pub fn required(self) -> Self {
        self.with(Spec::required)
    }

    /// Without it the program is degraded; overrides the module's manifest.
    pub fn optional(self) -> Self {
        self.with(Spec::optional)
    }

    /// Separate rules in place of those of `DOTMAC_SUPERVISION_…`.
    pub fn policy(self, policy: Policy) -> Self {
        self.with(|spec| spec.policy(policy))
    }

    /// When it restarts; [`Restart::Permanent`] unless said otherwise.
    pub fn restart(self, restart: Restart) -> Self {
        self.with(|spec| spec.restart(restart))
    }

    /// Empties `slot` whenever it cannot serve.
    pub fn publishes<T: Send + Sync + 'static>(self, slot: &Published<T>) -> Self {
        self.with(|spec| spec.publishes(slot))
    }

    /// Starts it after the component that `need` names, and stops it before.
    pub fn needs(self, need: Need) -> Self {
        self.with(|spec| spec.needs(need))
    }

    pub(super) fn with(self, change: impl FnOnce(Spec<B>) -> Spec<B>) -> Self {
        Self {
            spec: self.spec.map(change),
            ..self
        }
    }
}

impl<A: SupervisedActor> ComponentBuilder<'_, ActorFactory<A>> {
    /// Adds the actor. Handlers of the module take it as [`Supervised`]`<A>`.
    ///
    /// # Errors
    ///
    /// [`MountError`]: something that it needs was not added before, its name is taken, the module has an actor of its type
    /// already, or its rules do not work.
    pub fn add(self) -> Result<Supervised<A>, MountError> {
        let handle: ActorHandle<A> = self.assembly.tree.add(self.spec?)?;
        let supervised = Supervised(handle);
        let Self {
            assembly, module, ..
        } = self;
        assembly.values.provide(module, supervised.clone())?;
        Ok(supervised)
    }
}

impl ComponentBuilder<'_, WorkerBody> {
    /// The longest that one run may take; see [`WorkerSpec::run_limit`](dotmac_supervision::WorkerSpec::run_limit).
    pub fn run_limit(self, limit: std::time::Duration) -> Self {
        self.with(|spec| spec.run_limit(limit))
    }

    /// The longest that a run may go without progress; see
    /// [`WorkerSpec::progress_within`](dotmac_supervision::WorkerSpec::progress_within).
    pub fn progress_within(self, longest: std::time::Duration) -> Self {
        self.with(|spec| spec.progress_within(longest))
    }

    /// Has it run at once, and not only at the end of its interval, whenever something of one of `kinds` is
    /// [woken](dotmac_durable::delivery::wake) here, or on PostgreSQL on another instance.
    pub fn woken_by(self, kinds: &'static [&'static str]) -> Self {
        self.with(|spec| spec.woken_by(delivery::signal(kinds.to_vec())))
    }

    /// Adds the worker.
    ///
    /// # Errors
    ///
    /// [`MountError`]: its name is taken, or its rules do not work.
    pub fn add(self) -> Result<WorkerHandle, MountError> {
        Ok(self.assembly.tree.add_worker(self.spec?)?)
    }
}

/// The specification of an actor that is built from what it needs.
pub(super) fn actor<A, N>(
    assembly: &Assembly,
    name: &'static str,
    needs: Needs<N>,
    factory: impl Fn(Lifeline, N) -> A + Send + Sync + 'static,
) -> Result<ChildSpec<A>, MountError>
where
    A: SupervisedActor,
    N: Clone + Send + Sync + 'static,
{
    let (order, given) = needs.resolve(assembly, name)?;
    let spec = ChildSpec::new(name, move |life| {
        watch_thread();
        factory(life, given.clone())
    });
    Ok(order.into_iter().fold(spec, ChildSpec::needs))
}

/// The specification of a worker: it starts when the database is ready, and its errors say whose fault they are.
pub(super) fn worker<F, R, E>(
    assembly: &Assembly,
    name: &'static str,
    schedule: Schedule,
    function: F,
) -> WorkerSpec
where
    F: Fn(WorkerContext) -> R + Send + Sync + 'static,
    R: Future<Output = Result<(), E>> + Send + 'static,
    E: WorkerError,
{
    let run = move |context| {
        let run = function(context);
        async move { run.await.map_err(failure::classified) }
    };
    WorkerSpec::new(name, schedule, run)
        .upstream(failure::reason)
        .needs(assembly.db_actor.to_start())
}
