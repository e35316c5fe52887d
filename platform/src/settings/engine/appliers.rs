//! Applies live keys of modules at a reload, by functions that the modules register.

use std::any::{Any, TypeId};
use std::error::Error;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::oneshot;

use super::catalogue::Filled;
use super::group::Group;
use super::live::Change;
use crate::settings::Settings;

/// How long one function of a module may take.
const LIMIT: Duration = Duration::from_secs(5);

/// The functions that take live keys of modules, in the order in which they were registered.
#[derive(Clone, Default)]
pub struct Appliers(Vec<Applier>);

#[derive(Clone)]
struct Applier {
    module: &'static str,
    /// The type of the settings that it takes.
    settings: TypeId,
    apply: Arc<Apply>,
    /// Whether an earlier call has not returned yet.
    busy: Arc<AtomicBool>,
}

type Apply = dyn Fn(&dyn Filled) -> Result<(), String> + Send + Sync;

/// The result of a function that takes live keys: nothing, or a `Result` whose error rejects them.
pub trait Applied {
    /// `Ok` if they are in use now; else why not.
    ///
    /// # Errors
    ///
    /// Why the former values stay in use.
    fn into_result(self) -> Result<(), Box<dyn Error + Send + Sync>>;
}

impl Applied for () {
    fn into_result(self) -> Result<(), Box<dyn Error + Send + Sync>> {
        Ok(())
    }
}

impl<E: Into<Box<dyn Error + Send + Sync>>> Applied for Result<(), E> {
    fn into_result(self) -> Result<(), Box<dyn Error + Send + Sync>> {
        self.map_err(Into::into)
    }
}

/// The settings of a module as they are at the moment, live keys included. Clones follow the same reloads.
#[derive(Debug)]
pub struct Live<G>(Arc<ArcSwap<G>>);

impl<G> Live<G> {
    /// The settings as they are now. Take them once for a piece of work, so that it does not change on the way.
    #[must_use]
    pub fn get(&self) -> Arc<G> {
        self.0.load_full()
    }
}

impl<G> Clone for Live<G> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

/// A module cannot take a reload as it declares. The program does not start.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotApplied {
    /// It declares live keys and registers no function that applies them.
    #[error(
        "the module `{module}` declares live keys and applies none of them ({}): take them by `Mount::live` or `Mount::reload`, or take `live: true` from them",
        .keys.join(", ")
    )]
    Missing {
        /// The module.
        module: &'static str,
        /// Its live keys.
        keys: Vec<String>,
    },
    /// It registers a function for settings that are not its own.
    #[error(
        "the module `{module}` applies a reload of settings that are not its own: `Mount::live` and `Mount::reload` take `Module::Settings`"
    )]
    Foreign {
        /// The module.
        module: &'static str,
    },
}

/// The result for a key at a reload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Report {
    pub(crate) key: String,
    /// `Err` with the reason why the former value stays in use.
    pub(crate) result: Result<(), String>,
}

impl Appliers {
    /// Has `apply` called at each reload that changes a live key of `module`, with the settings of the module:
    /// live keys as they are now, the others as they were at the start. It runs on its own thread, may
    /// take 5 s, and rejects the new values by an error or a panic. Where a module has several functions, those
    /// that took the values before another rejected them are called again with the former ones.
    pub fn register<G: Group, R: Applied>(
        &mut self,
        module: &'static str,
        apply: impl Fn(&G) -> R + Send + Sync + 'static,
    ) {
        let apply = move |group: &dyn Filled| match (group as &dyn Any).downcast_ref::<G>() {
            Some(group) => apply(group)
                .into_result()
                .map_err(|error| dotmac_causes::chain(&*error)),
            None => Err("the function is for the settings of another module".to_owned()),
        };
        self.0.push(Applier {
            module,
            settings: TypeId::of::<G>(),
            apply: Arc::new(apply),
            busy: Arc::default(),
        });
    }

    /// `settings` of `module`, to be read afresh by each piece of work: the shortest way to apply live keys.
    pub fn live<G: Group>(&mut self, module: &'static str, settings: G) -> Live<G> {
        let live = Live(Arc::new(ArcSwap::from_pointee(settings)));
        let kept = live.clone();
        self.register(module, move |new: &G| kept.0.store(Arc::new(new.clone())));
        live
    }

    /// Checks that each module with live keys applies them, and that each function is for its own settings.
    ///
    /// # Errors
    ///
    /// The first module of which that is not so.
    pub fn check(&self, settings: &Settings) -> Result<(), NotApplied> {
        for Applier {
            module,
            settings: of,
            ..
        } in &self.0
        {
            if settings.type_of(module).is_some_and(|own| own != *of) {
                return Err(NotApplied::Foreign { module });
            }
        }
        let is_applied = |module| self.0.iter().any(|it| it.module == module);
        let mut keys = settings.applied_keys().into_iter();
        match keys.find(|(module, _)| !is_applied(*module)) {
            Some((module, keys)) => Err(NotApplied::Missing { module, keys }),
            None => Ok(()),
        }
    }

    /// Calls the functions of each module that has live keys among `changes`, which lead from `current` to `new`.
    /// Afterwards `current` has the new values that were applied.
    pub(crate) async fn apply(
        &self,
        current: &mut Settings,
        new: &Settings,
        changes: &[Change],
    ) -> Vec<Report> {
        let mut reports = Vec::new();
        for module in current.catalogue.clone().modules() {
            let changed = changes.iter().filter(|it| it.applied_by == Some(module));
            let keys: Vec<String> = changed.map(|change| change.key.clone()).collect();
            if keys.is_empty() {
                continue;
            }
            let result = self.apply_to(module, current, new).await;
            reports.extend(keys.into_iter().map(|key| Report {
                key,
                result: result.clone(),
            }));
        }
        reports
    }

    async fn apply_to(
        &self,
        module: &'static str,
        current: &mut Settings,
        new: &Settings,
    ) -> Result<(), String> {
        let merged = match current.merged(new, module) {
            Ok(Some(merged)) => merged,
            Ok(None) => return Ok(()),
            Err(mistakes) => {
                let texts: Vec<_> = mistakes.iter().map(ToString::to_string).collect();
                return Err(format!(
                    "they do not fit what needs a restart: {}",
                    texts.join(", ")
                ));
            }
        };
        let appliers: Vec<_> = self.0.iter().filter(|it| it.module == module).collect();
        for (taken, applier) in appliers.iter().enumerate() {
            if let Err(why) = applier.call(Arc::clone(&merged.group)).await {
                let back = take_back(&appliers[..taken], &merged.former).await;
                return Err(match back {
                    Ok(()) => why,
                    Err(stuck) => {
                        format!("{why}; part of the module has kept the new values: {stuck}")
                    }
                });
            }
        }
        current.take(merged);
        Ok(())
    }
}

/// Gives the values that were in use to functions that have taken new ones already.
async fn take_back(appliers: &[&Applier], former: &Arc<dyn Filled>) -> Result<(), String> {
    let mut result = Ok(());
    for applier in appliers {
        result = result.and(applier.call(Arc::clone(former)).await);
    }
    result
}

impl Applier {
    /// Calls the function on its own thread, and waits for it no longer than [`LIMIT`]: it is a module's, and
    /// the calling thread has everything else to do.
    async fn call(&self, group: Arc<dyn Filled>) -> Result<(), String> {
        if self.busy.swap(true, Ordering::AcqRel) {
            return Err("the function of the module has not returned from the last reload".into());
        }
        let (sender, answer) = oneshot::channel();
        let (apply, busy) = (Arc::clone(&self.apply), Busy(Arc::clone(&self.busy)));
        let work = move || {
            let result = apply(&*group);
            drop(busy);
            // After the limit it is not received.
            drop(sender.send(result));
        };
        let thread = thread::Builder::new().name(format!("reload-{}", self.module));
        if let Err(error) = thread.spawn(work) {
            return Err(format!("there is no thread to apply it: {error}"));
        }
        match tokio::time::timeout(LIMIT, answer).await {
            Ok(Ok(result)) => result,
            Ok(Err(_)) => Err("the function of the module has panicked".into()),
            Err(_) => Err(format!(
                "the function of the module has not returned within {LIMIT:?}"
            )),
        }
    }
}

/// Clears the mark of a call under way when it is dropped, by a panic too.
struct Busy(Arc<AtomicBool>);

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}

impl fmt::Debug for Appliers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list()
            .entries(self.0.iter().map(|applier| applier.module))
            .finish()
    }
}
