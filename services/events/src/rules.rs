//! The rules of events. Each rule is a function over a transaction.

use chrono::{DateTime, Utc};
use dotmac_platform::{
    audit::{Audit as _, Audited, Recorded},
    db::{TenantTx, Tx},
    events::{
        CUSTOM, CloudEvent, CustomEvent, EventId, Filter, MAX_SUBJECT, Position, RewindTo,
        SubscriberStatus, emit_custom, find, flush, is_custom_type, is_event_type, is_subject,
        read, retry_parked, rewind, subscribers,
    },
    routing::InvalidRequest,
};

use crate::{
    EventsError, acts,
    bodies::{Asked, NewEvent},
};

/// The filter that a query asks for.
///
/// # Errors
///
/// [`EventsError::Invalid`] for what is no type, or no subject.
pub(crate) fn filter(asked: &Asked) -> Result<Filter, EventsError> {
    let kinds = asked.kind.iter().flat_map(|it| it.split(','));
    let kinds: Vec<String> = kinds.map(str::to_owned).collect();
    if kinds.len() > 20 || !kinds.iter().all(|kind| is_event_type(kind)) {
        let right =
            "is a type of events as `note.added.v1`, or up to 20 of them separated by commas";
        return Err(InvalidRequest::query("type", right).into());
    }
    let subject = asked.subject.clone();
    if !subject.as_deref().is_none_or(is_subject) {
        let right = format!("has 1 to {MAX_SUBJECT} bytes and no control characters");
        return Err(InvalidRequest::query("subject", right).into());
    }
    Ok(Filter { kinds, subject })
}

/// At most `limit` events of the tenant behind `after`.
///
/// # Errors
///
/// [`EventsError::Expired`] if there were some that are not kept any more.
pub(crate) async fn list(
    tx: &mut TenantTx,
    filter: &Filter,
    after: Option<Position>,
    limit: u16,
) -> Result<Vec<CloudEvent>, EventsError> {
    let begin = after.unwrap_or(Position::BEGINNING);
    let page = read(tx, filter, begin, limit).await?;
    if begin > Position::BEGINNING && begin < page.expired {
        return Err(EventsError::Expired);
    }
    let events = page.events.into_iter();
    Ok(events.map(|event| event.cloud_event()).collect())
}

/// The event of that id.
///
/// # Errors
///
/// [`EventsError::NotFound`], also for one of another tenant.
pub(crate) async fn one(tx: &mut TenantTx, id: EventId) -> Result<CloudEvent, EventsError> {
    let found = find(tx, id).await?.ok_or(EventsError::NotFound)?;
    Ok(found.cloud_event())
}

/// Emits an event of the tenant's own.
///
/// # Errors
///
/// [`EventsError::Invalid`] names each field that is not acceptable; [`EventsError::Emit`] for too much data.
pub(crate) async fn publish(
    tx: &mut TenantTx,
    new: NewEvent,
) -> Result<Audited<CloudEvent>, EventsError> {
    let NewEvent {
        kind,
        subject,
        data,
    } = new;
    let mut wrong = Vec::new();
    if !is_custom_type(&kind) {
        let right = format!(
            "is `{CUSTOM}`, lower-case words joined by `.`, and a version: `{CUSTOM}order.paid.v1`"
        );
        wrong.push(("type", right));
    }
    if !subject.as_deref().is_none_or(is_subject) {
        wrong.push((
            "subject",
            format!("has 1 to {MAX_SUBJECT} bytes and no control characters"),
        ));
    }
    if !wrong.is_empty() {
        return Err(InvalidRequest::fields(wrong).into());
    }
    let subject = subject.unwrap_or_else(|| kind.clone());
    let of_kind = kind.clone();
    let id = emit_custom(
        tx,
        CustomEvent {
            kind,
            subject,
            data,
        },
    )?;
    // Written now, since the answer has its place in the log.
    flush(tx).await?;
    let recorded = tx.audit(acts::publish(id, &of_kind))?;
    Ok(recorded.of(one(tx, id).await?))
}

/// The target of a rewind in a text; `None` if it is not valid.
pub(crate) fn rewind_to(text: &str) -> Option<RewindTo> {
    if text == "beginning" {
        return Some(RewindTo::Beginning);
    }
    if let Ok(place) = text.parse() {
        return Some(RewindTo::Position(place));
    }
    let time: DateTime<Utc> = text.parse().ok()?;
    Some(RewindTo::Time(time.into()))
}

/// Rewinds the subscriber `name` to another place of the log; how it is then. `recorded` is the entry of [`acts::rewind`].
///
/// # Errors
///
/// [`EventsError::NoSubscriber`]; [`EventsError::Invalid`] for a place beyond the end of the log.
pub(crate) async fn rewind_subscriber(
    tx: &mut Tx,
    name: &str,
    to: RewindTo,
    recorded: Recorded,
) -> Result<Audited<SubscriberStatus>, EventsError> {
    rewind(tx, name, to).await?;
    Ok(recorded.of(status(tx, name).await?))
}

/// Has the subscriber `name` try its parked events again; how it is then. `recorded` is the entry of [`acts::retry`].
///
/// # Errors
///
/// [`EventsError::NoSubscriber`].
pub(crate) async fn retry(
    tx: &mut Tx,
    name: &str,
    recorded: Recorded,
) -> Result<Audited<SubscriberStatus>, EventsError> {
    retry_parked(tx, name).await?;
    Ok(recorded.of(status(tx, name).await?))
}

async fn status(tx: &mut Tx, name: &str) -> Result<SubscriberStatus, EventsError> {
    let all = subscribers(tx).await?;
    let this = all.into_iter().find(|it| it.name == name);
    this.ok_or(EventsError::NoSubscriber)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subscriber_is_sent_to_the_beginning_a_place_or_a_moment() {
        assert_eq!(rewind_to("beginning"), Some(RewindTo::Beginning));
        let place = "000000000000000a0000000000000003";
        let Some(RewindTo::Position(position)) = rewind_to(place) else {
            unreachable!("it is a place")
        };
        assert_eq!(position.to_string(), place);
        let moment = rewind_to("2026-11-28T12:00:00Z");
        assert!(matches!(moment, Some(RewindTo::Time(_))));
        for text in ["", "end", "2026-11-28", "now", "a0000000000000003"] {
            assert_eq!(rewind_to(text), None, "{text}");
        }
    }
}
