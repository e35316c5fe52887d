//! The needs of a child, and the common part of all handles.

use std::{fmt, sync::Arc};

use crate::{Vitals, life::cell::Cell};

/// How a child follows one that it needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Follow {
    /// It is stopped before the other restarts, and started after it (OTP's `rest_for_one`).
    Always,
    /// It is restarted when the other serves another [`version`](crate::Serving::version).
    OnChange,
    /// It starts once the other serves and stops before it; what it took stays good.
    ToStart,
    /// It starts after the other has reported once and stops before it; nothing else.
    InOrder,
}

/// A child's need of another; made by [`ComponentHandle::always`] and its like.
///
/// A child that has [finished](crate::Restart) satisfies every need of it: its work is done. One that
/// has failed permanently satisfies none but [`Follow::InOrder`].
#[derive(Clone, Copy, Debug)]
pub struct Need {
    pub(crate) tree: u64,
    pub(crate) child: usize,
    pub(crate) follow: Follow,
}

/// The common part of all handles: a name, figures, and constructors of needs.
#[derive(Clone)]
pub struct ComponentHandle {
    pub(crate) index: usize,
    pub(crate) tree: u64,
    pub(crate) cell: Arc<Cell>,
}

impl ComponentHandle {
    /// The child's name in the tree.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.cell.name
    }

    /// The child's figures.
    #[must_use]
    pub fn vitals(&self) -> Vitals {
        self.cell.vitals()
    }

    /// For [`Spec::needs`](crate::Spec::needs): be restarted whenever this child is.
    #[must_use]
    pub fn always(&self) -> Need {
        self.need(Follow::Always)
    }

    /// For [`Spec::needs`](crate::Spec::needs): be restarted when this child serves another version.
    #[must_use]
    pub fn on_change(&self) -> Need {
        self.need(Follow::OnChange)
    }

    /// For [`Spec::needs`](crate::Spec::needs): start once this child serves, stop before it, and do not
    /// be restarted with it: what was taken stays good.
    #[must_use]
    pub fn to_start(&self) -> Need {
        self.need(Follow::ToStart)
    }

    /// For [`Spec::needs`](crate::Spec::needs): start after this child has reported once, stop before it,
    /// and do not follow it otherwise.
    #[must_use]
    pub fn in_order(&self) -> Need {
        self.need(Follow::InOrder)
    }

    fn need(&self, follow: Follow) -> Need {
        Need {
            tree: self.tree,
            child: self.index,
            follow,
        }
    }
}

impl fmt::Debug for ComponentHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ComponentHandle")
            .field(&self.name())
            .finish()
    }
}
