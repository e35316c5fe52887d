//! The jobs of a program before it runs: their kinds and owners.

use std::sync::{Arc, OnceLock};

use dotmac_durable::jobs::{KindSpec, RunnerStatus, SlotsInUse};

/// Two modules do jobs of one kind.
#[derive(Debug, thiserror::Error)]
#[error(
    "modules `{first}` and `{second}` both have jobs `{kind}`; a kind of jobs belongs to one module"
)]
pub(crate) struct JobTwice {
    kind: &'static str,
    first: &'static str,
    second: &'static str,
}

/// The kinds of jobs of a program. Clones are the same. Handlers take it as [`Use<JobCatalogue>`](crate::routing::Use).
#[derive(Clone, Default)]
pub struct JobCatalogue(Arc<Inner>);

#[derive(Default)]
struct Inner {
    kinds: Vec<KindSpec>,
    modules: Vec<&'static str>,
    runner: OnceLock<RunnerStatus>,
}

impl JobCatalogue {
    /// With the kinds of each module.
    ///
    /// # Errors
    ///
    /// [`JobTwice`].
    pub(crate) fn new<'m>(
        modules: impl IntoIterator<Item = (&'static str, &'m [KindSpec])>,
    ) -> Result<Self, JobTwice> {
        let mut all: Vec<(KindSpec, &'static str)> = Vec::new();
        for (module, specs) in modules {
            for spec in specs {
                if let Some((_, first)) = all.iter().find(|(it, _)| it.kind == spec.kind) {
                    return Err(JobTwice {
                        kind: spec.kind,
                        first,
                        second: module,
                    });
                }
                all.push((*spec, module));
            }
        }
        all.sort_by_key(|(spec, _)| spec.kind);
        let (kinds, modules) = all.into_iter().unzip();
        Ok(Self(Arc::new(Inner {
            kinds,
            modules,
            runner: OnceLock::new(),
        })))
    }

    /// Every kind of a module that is switched on, by name.
    #[must_use]
    pub fn kinds(&self) -> &[KindSpec] {
        &self.0.kinds
    }

    /// The kind of that name.
    #[must_use]
    pub fn find(&self, kind: &str) -> Option<KindSpec> {
        self.0.kinds.iter().find(|it| it.kind == kind).copied()
    }

    /// The kinds with their modules.
    pub(crate) fn owned(&self) -> impl Iterator<Item = (KindSpec, &'static str)> {
        let modules = self.0.modules.iter().copied();
        self.0.kinds.iter().copied().zip(modules)
    }

    /// The running jobs of this instance, by kind and queue.
    #[must_use]
    pub fn slots(&self) -> Vec<SlotsInUse> {
        self.0
            .runner
            .get()
            .map_or_else(Vec::new, RunnerStatus::slots)
    }

    pub(crate) fn follow(&self, runner: RunnerStatus) {
        self.0.runner.get_or_init(|| runner);
    }
}
