//! Where a verification goes on.

use serde::{Deserialize, Serialize};

use super::{super::Hash, unlinked::After};

/// How far a chain is verified: what goes on there needs nothing else of what was found before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VerifiedPlace {
    pub(super) number: i64,
    pub(super) hash: Hash,
    pub(super) before: Before,
    pub(super) part: Part,
}

/// What is being checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Part {
    /// Links, with their entries and checkpoints.
    Links,
    /// Whether all entries have links, behind this one.
    Entries(Option<After>),
}

/// The checkpoint before the next one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Before {
    /// It was not read.
    Unread,
    /// There is none.
    None,
    /// It has this digest, and a signature or not.
    Is { digest: Hash, is_signed: bool },
}
