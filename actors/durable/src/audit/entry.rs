//! What an entry has in it, and what is refused as one.

use std::{collections::BTreeMap, fmt};

use diesel::{prelude::*, result::Error as QueryError};
use dotmac_db::{
    DbError, TenantId,
    sealing::{Sealer, SealingError},
    types::{Id, Json, Moment},
};
use serde::Serialize;

use super::tables::audit_entry;

/// The most that one entry may have in all of its texts, in bytes.
pub const MAX_ENTRY: usize = 32 * 1024;
/// The most entries of one transaction.
pub const MAX_ENTRIES: usize = 100;
/// Characters that an action, a type of resources, or the name of a field has at the most.
const MAX_NAME: usize = 64;

/// How an act came out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It was done.
    #[default]
    Success,
    /// It was tried and could not be done.
    Failure,
    /// The actor must not do it.
    Denied,
}

impl Outcome {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Success, Self::Failure, Self::Denied];

    /// The word for programs.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Failure => "failure",
            Self::Denied => "denied",
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The person of the personal fields of entries; a mark for ids.
pub enum Subject {}

/// The id of a person: that of a user.
pub type SubjectId = Id<Subject>;

/// An act as it is recorded: the action, its resource and its outcome. The actor, the tenant, the time, and in
/// which trace are those of the transaction.
#[derive(Clone, Debug)]
pub struct Entry {
    pub(super) action: &'static str,
    pub(super) resource_type: &'static str,
    pub(super) resource_id: String,
    pub(super) outcome: Outcome,
    pub(super) reason: Option<String>,
    pub(super) details: BTreeMap<&'static str, String>,
    pub(super) personal: Option<Personal>,
}

/// Fields about a person, to be encrypted with a key of that person.
#[derive(Clone, Debug)]
pub(super) struct Personal {
    pub(super) sealer: Sealer,
    pub(super) subject: SubjectId,
    pub(super) fields: BTreeMap<&'static str, String>,
}

impl Entry {
    /// `action` is a word of the OWASP logging vocabulary (`authz_change`) or one like it (`note_delete`); the resource is
    /// its type, as `notes.note`, and its id.
    pub fn new(
        action: &'static str,
        resource_type: &'static str,
        resource_id: impl Into<String>,
    ) -> Self {
        Self {
            action,
            resource_type,
            resource_id: resource_id.into(),
            outcome: Outcome::default(),
            reason: None,
            details: BTreeMap::new(),
            personal: None,
        }
    }

    /// It was not done, or must not be; `reason` is for people.
    #[must_use]
    pub fn outcome(self, outcome: Outcome, reason: impl Into<String>) -> Self {
        Self {
            outcome,
            reason: Some(reason.into()),
            ..self
        }
    }

    /// Something particular to it. Never a secret, and nothing about a person: what is here cannot be erased.
    #[must_use]
    pub fn detail(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.details.insert(name, value.into());
        self
    }

    /// Fields about a person, such as an address. They are encrypted with a key of that person in that tenant, which
    /// `sealer` keeps; [`erase`](super::erase) takes the key away, and the chain stays as it is. An entry has fields about
    /// one person; a second call replaces those of the first.
    #[must_use]
    pub fn personal<V: Into<String>>(
        self,
        sealer: &Sealer,
        subject: SubjectId,
        fields: impl IntoIterator<Item = (&'static str, V)>,
    ) -> Self {
        let fields = fields.into_iter();
        let personal = Personal {
            sealer: sealer.clone(),
            subject,
            fields: fields.map(|(name, value)| (name, value.into())).collect(),
        };
        Self {
            personal: Some(personal),
            ..self
        }
    }

    pub(super) fn checked(self) -> Result<Self, AuditError> {
        let action = self.action;
        let personal = self.personal.iter().flat_map(|it| &it.fields);
        let fields: Vec<_> = self.details.iter().chain(personal).collect();
        let mut names = fields.iter().map(|(name, _)| **name);
        if let Some(name) = [action, self.resource_type]
            .into_iter()
            .chain(&mut names)
            .find(|name| !is_name(name))
        {
            return Err(AuditError::Name { action, name });
        }
        let texts = fields.iter().map(|(_, value)| value.as_str());
        let texts: Vec<_> = texts
            .chain([self.resource_id.as_str()])
            .chain(self.reason.as_deref())
            .collect();
        let names = fields.iter().map(|(name, _)| name.len());
        let bytes = names.chain(texts.iter().map(|text| text.len())).sum();
        if bytes > MAX_ENTRY {
            return Err(AuditError::TooLarge { action, bytes });
        }
        if texts.iter().any(|text| text.contains('\0')) {
            return Err(AuditError::Nul { action });
        }
        Ok(self)
    }
}

/// Whether `name` is one of an action, a type of resources or a field: lower-case letters, digits, `_` and `.`, and a letter
/// first.
#[must_use]
pub const fn is_name(name: &str) -> bool {
    let bytes = name.as_bytes();
    let mut place = 0;
    while place < bytes.len() {
        let is_right = match bytes[place] {
            b'a'..=b'z' => true,
            b'0'..=b'9' | b'_' | b'.' => place > 0,
            _ => false,
        };
        if !is_right {
            return false;
        }
        place += 1;
    }
    !bytes.is_empty() && bytes.len() <= MAX_NAME
}

/// Why an entry was not taken. The transaction is then rolled back, regardless of its work's result: no entry, no act.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AuditError {
    /// It has too much in it.
    #[error("an audit entry `{action}` has {bytes} bytes; {MAX_ENTRY} are allowed")]
    TooLarge {
        /// The act.
        action: &'static str,
        /// What it has.
        bytes: usize,
    },
    /// The transaction has as many as it may have.
    #[error("a transaction has at most {MAX_ENTRIES} audit entries; `{action}` exceeds that")]
    TooMany {
        /// The act.
        action: &'static str,
    },
    /// A text of it has the character NUL, which databases do not keep.
    #[error("a text of an audit entry `{action}` has the character NUL")]
    Nul {
        /// The act.
        action: &'static str,
    },
    /// A name in it is none.
    #[error(
        "`{name}` in an audit entry `{action}` is not 1 to {MAX_NAME} lower-case letters, digits, `_` and `.`, a letter first"
    )]
    Name {
        /// The act.
        action: &'static str,
        /// The name.
        name: &'static str,
    },
    /// The module does not list the act in its manifest.
    #[error("module `{module}` records `{action}`, which its manifest does not list")]
    Undeclared {
        /// The act.
        action: &'static str,
        /// The module.
        module: &'static str,
    },
    /// The transaction is of another tenant than the act.
    #[error(
        "an audit entry `{action}` of one tenant cannot be recorded in a transaction of another"
    )]
    OtherTenant {
        /// The act.
        action: &'static str,
    },
    /// The transaction has no scope.
    #[error("an audit entry `{action}` needs a transaction with a scope, which has the actor")]
    NoActor {
        /// The act.
        action: &'static str,
    },
    /// Its personal fields cannot be encrypted.
    #[error("the personal fields of an audit entry `{action}` cannot be encrypted")]
    Personal {
        /// The act.
        action: &'static str,
        /// Why.
        #[source]
        source: SealingError,
    },
}

impl From<AuditError> for DbError {
    /// A value that the log cannot take, so that rules which return [`DbError`] can pass it on.
    fn from(error: AuditError) -> Self {
        Self::InvalidData(QueryError::SerializationError(Box::new(error)))
    }
}

/// The id of an entry.
pub type EntryId = Id<StoredEntry>;

/// An entry of the log.
#[derive(Clone, Debug, PartialEq, Queryable, Selectable)]
#[diesel(table_name = audit_entry)]
pub struct StoredEntry {
    pub(super) xid: i64,
    pub(super) position: i64,
    /// Its id.
    pub id: EntryId,
    /// Whose it is; the nil id for the system's.
    #[diesel(column_name = tenant_id)]
    pub tenant: TenantId,
    /// When its transaction began, by the clock of the database.
    pub at: Moment,
    /// The actor: `user:01a2…`, `system:` and the reason.
    pub actor: String,
    /// What was done.
    pub action: String,
    /// The type of what it was done to.
    pub resource_type: String,
    /// Which one.
    pub resource_id: String,
    /// `success`, `failure` or `denied`.
    pub outcome: String,
    /// Why it was not done.
    pub reason: Option<String>,
    /// What is particular to it.
    pub details: Json<BTreeMap<String, String>>,
    /// The person of its personal fields.
    pub subject: Option<SubjectId>,
    /// The personal fields, encrypted.
    pub(super) personal: Option<Vec<u8>>,
    /// The trace in which it was done.
    pub trace_id: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_of_few_characters() {
        for name in ["note_add", "notes.note", "a", "a1"] {
            assert!(is_name(name), "{name}");
        }
        let long = "a".repeat(MAX_NAME + 1);
        for name in ["", "1a", "_a", ".a", "Note", "note add", "é", &long] {
            assert!(!is_name(name), "{name}");
        }
    }
}
