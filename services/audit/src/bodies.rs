//! Bodies of requests and answers.

use std::collections::BTreeMap;

use dotmac_platform::{
    audit::{Checkpoint, LinkedEntry, SigningKeys, Verified},
    db::types::Moment,
};
use garde::Validate;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

/// Which entries.
#[derive(Deserialize, IntoParams)]
pub(crate) struct Asked {
    /// Only acts of this actor, as `user:0192…`.
    pub(crate) actor: Option<String>,
    /// Only acts of this name, as `note_delete`.
    pub(crate) action: Option<String>,
    /// Only acts upon resources of this type, as `notes.note`; or upon one resource, as `notes.note/0192…`.
    pub(crate) resource: Option<String>,
    /// Only acts at or after this moment (RFC 3339).
    pub(crate) from: Option<String>,
    /// Only acts at or before this moment (RFC 3339).
    pub(crate) to: Option<String>,
    /// Only acts that came out so: `success`, `failure` or `denied`.
    pub(crate) outcome: Option<String>,
}

/// Which part of the chain, and how much of it.
#[derive(Deserialize, IntoParams)]
pub(crate) struct Part {
    /// From the first entry at or after this moment (RFC 3339); from the beginning without it.
    pub(crate) from: Option<String>,
    /// To the last entry at or before this moment (RFC 3339); to the end without it.
    pub(crate) to: Option<String>,
    /// About how many entries are verified at once; at most 100,000.
    #[param(minimum = 1, maximum = 100_000, default = 100_000)]
    pub(crate) limit: Option<u32>,
}

/// The entries to export: by default the whole chain.
#[derive(Deserialize, Validate, ToSchema)]
pub(crate) struct NewExport {
    /// From the first entry at or after this moment (RFC 3339).
    #[garde(skip)]
    pub(crate) from: Option<String>,
    /// To the last entry at or before this moment (RFC 3339).
    #[garde(skip)]
    pub(crate) to: Option<String>,
}

/// An entry of the audit log.
#[derive(Serialize, ToSchema)]
#[schema(as = AuditEvent)]
pub(crate) struct EntryBody {
    /// Its id.
    id: String,
    /// Its number in the chain of the tenant, counted from 1.
    pub(crate) number: i64,
    /// SHA-256 of the hash before it and of the entry, in 64 hexadecimal digits.
    hash: String,
    /// When the transaction of the act began.
    at: Moment,
    /// The actor: `user:0192…`, or `system:` and the reason.
    actor: String,
    /// The act, such as `note_delete`.
    action: String,
    /// The resource.
    resource: ResourceBody,
    /// `success`, `failure` or `denied`.
    outcome: String,
    /// Why it was not done.
    reason: Option<String>,
    /// Its details.
    details: BTreeMap<String, String>,
    /// The person that `personal` is about.
    subject: Option<String>,
    /// Fields about that person; `null` without any, once they are erased, and while the master key is not at hand.
    personal: Option<BTreeMap<String, String>>,
    /// The trace in which it was done.
    trace_id: Option<String>,
}

/// The resource of an act.
#[derive(Serialize, ToSchema)]
#[schema(as = AuditedResource)]
pub(crate) struct ResourceBody {
    /// Its type, as `notes.note`.
    #[serde(rename = "type")]
    kind: String,
    /// Its id.
    id: String,
}

impl From<LinkedEntry> for EntryBody {
    fn from(it: LinkedEntry) -> Self {
        let entry = it.entry;
        Self {
            id: entry.id.to_string(),
            number: it.number,
            hash: it.hash.to_string(),
            at: entry.at,
            actor: entry.actor,
            action: entry.action,
            resource: ResourceBody {
                kind: entry.resource_type,
                id: entry.resource_id,
            },
            outcome: entry.outcome,
            reason: entry.reason,
            details: entry.details.0,
            subject: entry.subject.map(|it| it.to_string()),
            personal: it.personal,
            trace_id: entry.trace_id,
        }
    }
}

/// A checkpoint of the tenant's chain.
#[derive(Serialize, ToSchema)]
#[schema(as = AuditCheckpoint)]
pub(crate) struct CheckpointBody {
    /// The number of the entry that it is about.
    pub(crate) number: i64,
    /// The hash of that entry.
    hash: String,
    /// When it was made.
    at: String,
    /// The tenant whose chain it is of.
    tenant_id: String,
    /// The key that it is signed with; `null` without a signature.
    key: Option<String>,
    /// The public key, in 64 hexadecimal digits; `null` without a signature, and while the master key is not at hand.
    public_key: Option<String>,
    /// The hash of the checkpoint before it: SHA-256 of what is signed of that one; `null` for the first.
    previous: Option<String>,
    /// The signature (Ed25519), in 128 hexadecimal digits. What is signed is the JSON of `at`, `hash`, `key`, `number`,
    /// `previous` and `tenant_id`, in this order and without white space.
    signature: Option<String>,
}

impl CheckpointBody {
    pub(crate) fn new(it: Checkpoint, keys: &SigningKeys) -> Self {
        let public_key = it.key().and_then(|key| keys.public().get(&key).cloned());
        Self {
            number: it.number(),
            hash: it.hash().to_string(),
            at: it.at().to_owned(),
            tenant_id: it.tenant().to_string(),
            key: it.key().map(|key| key.to_string()),
            public_key,
            previous: it.previous().map(|it| it.to_string()),
            signature: it.signature,
        }
    }
}

/// The result of verifying the tenant's chain.
#[derive(Serialize, ToSchema)]
#[schema(as = AuditVerification)]
pub(crate) struct VerificationBody {
    /// Whether nothing is wrong with what was checked.
    valid: bool,
    /// The number of the first entry that was checked.
    first: i64,
    /// That of the last one that is right; smaller than `first` if there is none.
    last: i64,
    /// The hash of that one.
    hash: String,
    /// The number of the last entry that a signed checkpoint covers; `null` if none does.
    signed: Option<i64>,
    /// Whether there are signatures that could not be checked, as the master key is not at hand.
    unchecked: bool,
    /// Whether all was checked that was asked for.
    complete: bool,
    /// The `cursor` to continue after `last`; `null` if all was checked, or the chain is broken.
    next_cursor: Option<String>,
    /// Where the chain breaks; what is behind was not checked. `register` is about all chains of the database together.
    broken: Option<BrokenBody>,
}

/// Where a chain breaks.
#[derive(Serialize, ToSchema)]
#[schema(as = AuditBreak)]
pub(crate) struct BrokenBody {
    /// The number of the entry.
    number: i64,
    /// Its id, if that is known.
    id: Option<String>,
    /// `changed`, `entry_missing`, `link_missing`, `beginning_missing`, `end_missing`, `checkpoint`, `checkpoint_missing`,
    /// `signature`, `register`, `entry_not_linked` or `search`.
    fault: String,
    /// The same in words.
    message: String,
}

impl VerificationBody {
    pub(crate) fn new(it: Verified, next_cursor: Option<String>) -> Self {
        Self {
            valid: it.broken.is_none(),
            first: it.first,
            last: it.last,
            hash: it.hash.to_string(),
            signed: it.signed,
            unchecked: it.is_unchecked,
            complete: it.further.is_none() && it.broken.is_none(),
            next_cursor,
            broken: it.broken.map(|it| BrokenBody {
                number: it.number,
                id: it.entry.map(|it| it.to_string()),
                fault: it.fault.as_str().to_owned(),
                message: it.fault.to_string(),
            }),
        }
    }
}
