//! What computing a chain again finds: how far it is right, and what is wrong with it.

use std::fmt;

use serde::Serialize;

use super::{EntryId, Hash, verify::VerifiedPlace};

/// What computing a chain again has found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Verified {
    /// The number of the first link that was checked.
    pub first: i64,
    /// That of the last one that is right; smaller than `first` if there is none.
    pub last: i64,
    /// The hash of that one.
    pub hash: Hash,
    /// The number of the last link whose hash is signed by a key of this program; `None` if there is none.
    pub signed: Option<i64>,
    /// Whether there are signatures that could not be checked, as the master key is not at hand.
    pub is_unchecked: bool,
    /// Where it goes on, unless all was checked that was asked for.
    pub further: Option<VerifiedPlace>,
    /// Where the chain breaks, if it does; what is behind was not checked.
    pub broken: Option<Broken>,
}

/// Where a chain breaks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Broken {
    /// The number of the link, counted from 1.
    pub number: i64,
    /// The entry that it links, if that is known.
    pub entry: Option<EntryId>,
    /// What is wrong.
    pub fault: Fault,
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "broken at number {}: {}", self.number, self.fault)
    }
}

/// What is wrong with a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Fault {
    /// Its hash is not that of the entry behind the link before it: one of them was changed, or put in between.
    Changed,
    /// The entry is gone.
    EntryMissing,
    /// The link is gone, and later ones are there.
    LinkMissing,
    /// The first entries are gone, and retention has not taken them away.
    BeginningMissing,
    /// The last entries are gone.
    EndMissing,
    /// A checkpoint has another hash: the chain was computed again.
    Checkpoint,
    /// The checkpoint before this one is gone, or one was put in.
    CheckpointMissing,
    /// The signature of a checkpoint is missing, or is not one of this program's keys.
    Signature,
    /// The chains of the database differ from the last signed ones: one was deleted, set back or begun again, not
    /// necessarily this one.
    Register,
    /// An entry was passed over when later ones were linked.
    EntryNotLinked,
    /// What the entry is searched by is missing, or differs from the entry.
    Search,
}

impl Fault {
    /// The word for programs.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Changed => "changed",
            Self::EntryMissing => "entry_missing",
            Self::LinkMissing => "link_missing",
            Self::BeginningMissing => "beginning_missing",
            Self::EndMissing => "end_missing",
            Self::Checkpoint => "checkpoint",
            Self::CheckpointMissing => "checkpoint_missing",
            Self::Signature => "signature",
            Self::Register => "register",
            Self::EntryNotLinked => "entry_not_linked",
            Self::Search => "search",
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Changed => "the entry, or the link before it, was changed",
            Self::EntryMissing => "the entry is missing",
            Self::LinkMissing => "the link is missing",
            Self::BeginningMissing => "the first entries are missing, and not by retention",
            Self::EndMissing => "the last entries are missing",
            Self::Checkpoint => "a checkpoint has another hash",
            Self::CheckpointMissing => "a checkpoint is missing, or was inserted",
            Self::Signature => "a checkpoint is not signed by a key of this program",
            Self::Register => {
                "the chains of the database differ from the last signed ones; one was deleted, set back or begun again"
            }
            Self::EntryNotLinked => "an entry has no link, though later ones have",
            Self::Search => "what the entry is searched by is missing, or was changed",
        })
    }
}
