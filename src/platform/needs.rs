//! What an actor needs of others: given to its factory, and the order of start and stop.

use std::any::type_name;

use dotmac_actors::supervision::{Need, Service};

use super::{Assembly, AssemblyError};
use crate::extract::{Db, Supervised};

/// Handles of type `N` that a factory is given, each of a component that is started before.
///
/// Only what was added earlier can be needed, so needs form no cycle.
pub struct Needs<N>(Box<Resolve<N>>);

type Resolve<N> = dyn FnOnce(&Assembly, &'static str) -> Result<(Vec<Need>, N), AssemblyError>;

impl Needs<()> {
    /// Nothing.
    #[must_use]
    pub fn none() -> Self {
        Self(Box::new(|_, _| Ok((Vec::new(), ()))))
    }
}

impl Needs<Db> {
    /// The database. The actor starts when it is ready; it is not restarted with it, since [`Db`] stays
    /// good.
    #[must_use]
    pub fn db() -> Self {
        Self(Box::new(|assembly, _| {
            Ok((vec![assembly.db_actor.to_start()], assembly.db.clone()))
        }))
    }
}

impl<A: Service> Needs<Supervised<A>> {
    /// Another actor, added before. The actor starts when that is ready; it is not restarted with it.
    #[must_use]
    pub fn actor() -> Self {
        Self(Box::new(|assembly, needy| {
            let needed = assembly.provided::<Supervised<A>>();
            let needed = needed.ok_or(AssemblyError::NotAdded {
                needy,
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
    ) -> Result<(Vec<Need>, N), AssemblyError> {
        self.0(assembly, needy)
    }
}
