//! The rules of the audit log. Each rule is a function over a transaction. That entries are read is recorded in one of
//! its own, before they are shown.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use dotmac_platform::{
    audit::{
        Audit as _, Audited, Checkpoint, Entry, EntryId, Export, Filter, LinkedEntry, Outcome,
        SigningKeys, checkpoints, find, is_name, numbers_between,
    },
    db::{Connection, DbError, TenantId, TenantTx, types::Moment},
    routing::InvalidRequest,
    sealing::Sealer,
};

use crate::{AuditLogError, READ, bodies::Asked};

/// The longest actor and id of a resource that is looked for, in bytes.
const LONGEST: usize = 512;

/// A mistake of a query: the parameter, and the valid form.
type Wrong = (&'static str, &'static str);

/// The filter that a query asks for.
///
/// # Errors
///
/// [`AuditLogError::Invalid`] names the first parameter that is none.
pub(crate) fn filter(asked: &Asked) -> Result<Filter, AuditLogError> {
    let filter = read_filter(asked);
    Ok(filter.map_err(|(name, right)| InvalidRequest::query(name, right))?)
}

/// The same, for the command line too.
pub(crate) fn read_filter(asked: &Asked) -> Result<Filter, Wrong> {
    let is_text =
        |text: &str| (1..=LONGEST).contains(&text.len()) && !text.chars().any(char::is_control);
    if !asked.actor.as_deref().is_none_or(is_text) {
        return Err(("actor", "has 1 to 512 bytes and no control characters"));
    }
    if !asked.action.as_deref().is_none_or(is_name) {
        return Err(("action", "is the name of an act as `note_delete`"));
    }
    let (resource_type, resource_id) = match asked.resource.as_deref() {
        None => (None, None),
        Some(text) => match text.split_once('/') {
            None => (Some(text), None),
            Some((kind, id)) => (Some(kind), Some(id)),
        },
    };
    if !resource_type.is_none_or(is_name) || !resource_id.is_none_or(is_text) {
        let right = "is a type of resources as `notes.note`, or one resource as `notes.note/ID`";
        return Err(("resource", right));
    }
    let outcome = asked.outcome.as_deref().map(|text| {
        let found = Outcome::ALL.into_iter().find(|it| it.as_str() == text);
        found.ok_or(("outcome", "is `success`, `failure` or `denied`"))
    });
    let (from, to) = between(asked.from.as_deref(), asked.to.as_deref())?;
    Ok(Filter {
        actor: asked.actor.clone(),
        action: asked.action.clone(),
        resource_type: resource_type.map(str::to_owned),
        resource_id: resource_id.map(str::to_owned),
        from,
        to,
        outcome: outcome.transpose()?,
    })
}

/// Two moments, of which the second is not before the first.
pub(crate) fn between(
    from: Option<&str>,
    to: Option<&str>,
) -> Result<(Option<Moment>, Option<Moment>), Wrong> {
    let right = "is a moment as `2026-11-28T12:00:00Z`";
    let read = |name, text: &str| text.parse::<DateTime<Utc>>().map_err(|_| (name, right));
    let from = from.map(|text| read("from", text)).transpose()?;
    let to = to.map(|text| read("to", text)).transpose()?;
    match (from, to) {
        (Some(from), Some(to)) if to < from => Err(("to", "is not before `from`")),
        (from, to) => Ok((from.map(Moment::from), to.map(Moment::from))),
    }
}

/// The entry of that id.
///
/// # Errors
///
/// [`AuditLogError::NotFound`], also for one of another tenant.
pub(crate) async fn one(
    tx: &mut TenantTx,
    id: EntryId,
    sealer: Option<&Sealer>,
) -> Result<LinkedEntry, AuditLogError> {
    let found = find(tx, id, sealer).await?;
    found.ok_or(AuditLogError::NotFound)
}

/// Records that entries are read.
///
/// # Errors
///
/// [`AuditLogError::Record`] if it cannot be recorded.
pub(crate) fn record(tx: &mut TenantTx, entry: Entry) -> Result<Audited<()>, AuditLogError> {
    Ok(tx.audit(entry)?.of(()))
}

/// An export of the tenant's entries between two moments, which is to be written piece by piece.
///
/// # Errors
///
/// As [`record`].
pub(crate) async fn export(
    tx: &mut TenantTx,
    (from, to): (Option<Moment>, Option<Moment>),
    sealer: Option<Sealer>,
) -> Result<Audited<Export>, AuditLogError> {
    let tenant = tx.tenant();
    let keys = Arc::new(SigningKeys::load(tx, sealer.as_ref()).await?);
    let found = numbers_between(tx, tenant, from, to).await?;
    // Of no entries, behind the last one.
    let numbers = found.unwrap_or((i64::MAX, None));
    let filter = Filter {
        from,
        to,
        ..Filter::default()
    };
    let recorded = tx.audit(read_entry("audit.export", "", &filter))?;
    Ok(recorded.of(Export::new(tenant, keys, sealer, numbers)))
}

/// At most `limit` checkpoints of the tenant below number `before`, the newest first, with the keys that they are signed
/// with.
///
/// # Errors
///
/// [`DbError`].
pub(crate) async fn page_of_checkpoints(
    tx: &mut TenantTx,
    before: i64,
    limit: u16,
    sealer: Option<&Sealer>,
) -> Result<(Vec<Checkpoint>, SigningKeys), DbError> {
    let found = checkpoints(tx, before, limit).await?;
    let keys = SigningKeys::load(tx, sealer).await?;
    Ok((found, keys))
}

/// The keys that signatures are checked with.
///
/// # Errors
///
/// [`DbError`].
pub(crate) async fn keys(
    c: &mut Connection,
    sealer: Option<Sealer>,
) -> Result<Arc<SigningKeys>, DbError> {
    Ok(Arc::new(SigningKeys::load(c, sealer.as_ref()).await?))
}

/// The name of a file with an export.
pub(crate) fn file_name(tenant: TenantId) -> String {
    let day = Utc::now().format("%Y-%m-%d");
    format!("audit-{tenant}-{day}.ndjson")
}

/// The entry about a read: its object and filter.
pub(crate) fn read_entry(resource: &'static str, id: &str, filter: &Filter) -> Entry {
    let details = [
        ("actor", filter.actor.clone()),
        ("action", filter.action.clone()),
        ("resource_type", filter.resource_type.clone()),
        ("resource_id", filter.resource_id.clone()),
        ("from", filter.from.map(|it| it.to_string())),
        ("to", filter.to.map(|it| it.to_string())),
        ("outcome", filter.outcome.map(|it| it.as_str().to_owned())),
    ];
    let details = details
        .into_iter()
        .filter_map(|(name, value)| Some((name, value?)));
    details.fold(Entry::new(READ, resource, id), |entry, (name, value)| {
        entry.detail(name, value)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(name: &str, text: &str) -> Asked {
        let given = |it: &str| (it == name).then(|| text.to_owned());
        Asked {
            actor: given("actor"),
            action: given("action"),
            resource: given("resource"),
            from: given("from"),
            to: given("to"),
            outcome: given("outcome"),
        }
    }

    #[test]
    fn a_filter_names_what_it_does_not_understand() {
        for (name, text) in [
            ("actor", ""),
            ("actor", "user:\n"),
            ("action", "Note"),
            ("resource", ""),
            ("resource", "notes.note/"),
            ("from", "yesterday"),
            ("to", "2026-11-28"),
            ("outcome", "good"),
        ] {
            let wrong = read_filter(&asked(name, text)).map_err(|(wrong, _)| wrong);
            assert_eq!(wrong.err(), Some(name), "{text}");
        }
        let filter = read_filter(&asked("resource", "notes.note/7")).ok();
        let filter = filter.map(|it| (it.resource_type, it.resource_id));
        let expected = (Some("notes.note".to_owned()), Some("7".to_owned()));
        assert_eq!(filter, Some(expected));
        let (early, late) = ("2026-11-28T12:00:00Z", "2026-11-28T13:00:00Z");
        assert!(between(Some(early), Some(late)).is_ok());
        assert_eq!(
            between(Some(late), Some(early)).err().map(|it| it.0),
            Some("to")
        );
    }
}
