//! Endpoints: made, changed, paused, resumed, deleted, disabled.

use dotmac_platform::{
    audit::{Audit as _, Audited},
    db::{
        TenantTx,
        types::{Id, Json, Moment},
    },
    delivery::wake,
    egress::Egress,
    events::Emit as _,
    routing::{Change, IfMatch, PreconditionFailed},
};
use secrecy::SecretString;

use super::{headers, secrets as secret_rules};
use crate::{
    SENDER, WebhooksError,
    audit::{self, CHANGE, CREATE, DELETE, DISABLE, PAUSE, RESUME},
    bodies::{EndpointPatch, NewEndpoint},
    events::EndpointDisabled,
    service::Service,
    store::{
        endpoints::{self, EndpointId, EndpointRow},
        lanes, secrets,
        states::{EndpointState, Signing},
    },
};

/// The endpoint of that id.
///
/// # Errors
///
/// [`WebhooksError::NotFound`], also for one of another tenant.
pub(crate) async fn find(tx: &mut TenantTx, id: EndpointId) -> Result<EndpointRow, WebhooksError> {
    endpoints::find(tx, id)
        .await?
        .ok_or(WebhooksError::NotFound)
}

/// Makes an endpoint, with a secret that is shown this once. Requests that come at once may exceed the number of endpoints by
/// their number.
///
/// # Errors
///
/// [`WebhooksError::TooMany`], [`WebhooksError::Invalid`]; nothing is stored then.
pub(crate) async fn create(
    tx: &mut TenantTx,
    on: &Service,
    new: NewEndpoint,
) -> Result<Audited<(EndpointRow, SecretString)>, WebhooksError> {
    check_url(&on.egress, &new.url)?;
    let headers = headers::checked(new.headers)?;
    let most = on.settings.max_endpoints;
    if endpoints::count(tx).await? >= i64::from(most) {
        return Err(WebhooksError::TooMany(most));
    }
    let (id, now) = (Id::new(), Moment::now());
    let signing = new.signing.unwrap_or(Signing::Hmac);
    let row = EndpointRow {
        tenant_id: tx.tenant(),
        id,
        url: new.url,
        description: new.description,
        events: Json(each_once(new.events)),
        header_names: Json(headers.keys().cloned().collect()),
        headers_enc: headers::seal(&on.sealer, id, &headers)?,
        signing,
        state: EndpointState::Active,
        state_reason: None,
        version: 1,
        created_at: now,
        updated_at: now,
    };
    endpoints::insert(tx, row).await?;
    lanes::insert(tx, id).await?;
    let shown = secret_rules::make(tx, &on.sealer, id, signing).await?;
    let row = find(tx, id).await?;
    Ok(audit::record(tx, CREATE, id)?.of((row, shown)))
}

/// Changes an endpoint that is in a version which the client has seen. Another URL is another receiver: failures of the former
/// one are forgotten, and another host gets no headers that were set for the former one.
///
/// # Errors
///
/// [`WebhooksError::NotFound`], [`WebhooksError::Changed`], [`WebhooksError::Invalid`]; nothing is stored then.
pub(crate) async fn change(
    tx: &mut TenantTx,
    on: &Service,
    id: EndpointId,
    seen: &IfMatch,
    patch: EndpointPatch,
) -> Result<Audited<EndpointRow>, WebhooksError> {
    let row = find(tx, id).await?;
    seen.check(row.version)?;
    let EndpointPatch {
        url,
        description,
        events,
        headers: changed,
    } = patch;
    if let Some(url) = url.set() {
        check_url(&on.egress, url)?;
    }
    let moves = url.set().is_some_and(|url| *url != row.url);
    if url
        .set()
        .is_some_and(|url| !headers::are_for(&row.url, url))
    {
        headers::check_given_again(&row.header_names.0, &changed)?;
    }
    let (mut header_names, mut headers_enc) = (row.header_names, None);
    if changed.is_given() {
        let mut merged = headers::open(&on.sealer, id, row.headers_enc.as_ref())?;
        match changed {
            Change::Clear => merged.clear(),
            Change::Keep => {}
            Change::Set(changes) => {
                let (set, unset): (Vec<_>, Vec<_>) =
                    changes.into_iter().partition(|(_, value)| value.is_some());
                for (name, _) in unset {
                    merged.remove(&name.to_ascii_lowercase());
                }
                let set = set
                    .into_iter()
                    .map(|(name, it)| (name, it.unwrap_or_default()));
                merged.extend(headers::checked(set.collect())?);
            }
        }
        let merged = headers::checked(merged)?;
        header_names = Json(merged.keys().cloned().collect());
        headers_enc = Some(headers::seal(&on.sealer, id, &merged)?);
    }
    let change = endpoints::Change {
        url: url.apply_to(row.url).unwrap_or_default(),
        description: description.apply_to(row.description).unwrap_or_default(),
        events: Json(each_once(events.apply_to(row.events.0).unwrap_or_default())),
        header_names,
        headers_enc,
    };
    if moves {
        lanes::reset(tx, id).await?;
    }
    if endpoints::update(tx, id, row.version, change).await? == 0 {
        return Err(PreconditionFailed.into());
    }
    let row = find(tx, id).await?;
    Ok(audit::record(tx, CHANGE, id)?.of(row))
}

/// Deletes an endpoint that is in a version which the client has seen. Its secrets go at once, its deliveries a little later.
///
/// # Errors
///
/// [`WebhooksError::NotFound`], [`WebhooksError::Changed`].
pub(crate) async fn delete(
    tx: &mut TenantTx,
    id: EndpointId,
    seen: &IfMatch,
) -> Result<Audited<()>, WebhooksError> {
    let row = find(tx, id).await?;
    seen.check(row.version)?;
    endpoints::set_state(tx, id, &[row.state], EndpointState::Deleted, None).await?;
    secrets::delete_all(tx, id).await?;
    Ok(audit::record(tx, DELETE, id)?.of(()))
}

/// Has the deliveries of an endpoint wait. One that waits already is left as it is.
///
/// # Errors
///
/// [`WebhooksError::NotFound`]; [`WebhooksError::State`] if it is disabled.
pub(crate) async fn pause(
    tx: &mut TenantTx,
    id: EndpointId,
) -> Result<Audited<EndpointRow>, WebhooksError> {
    let row = find(tx, id).await?;
    if row.state == EndpointState::Disabled {
        let wanted = "only an active one can be paused";
        return Err(WebhooksError::state(row.state, wanted));
    }
    let from = [EndpointState::Active];
    endpoints::set_state(tx, id, &from, EndpointState::Paused, None).await?;
    let row = find(tx, id).await?;
    Ok(audit::record(tx, PAUSE, id)?.of(row))
}

/// Lets an endpoint have its deliveries again, one that is held among them. What failed because it was disabled is for
/// [`recover`](super::deliveries::recover).
///
/// # Errors
///
/// [`WebhooksError::NotFound`].
pub(crate) async fn resume(
    tx: &mut TenantTx,
    id: EndpointId,
) -> Result<Audited<EndpointRow>, WebhooksError> {
    lanes::reset(tx, id).await?;
    let from = [EndpointState::Paused, EndpointState::Disabled];
    endpoints::set_state(tx, id, &from, EndpointState::Active, None).await?;
    let row = find(tx, id).await?;
    tx.after_commit(|| wake(&[SENDER]));
    Ok(audit::record(tx, RESUME, id)?.of(row))
}

/// Disables an endpoint that failed for too long (`failing`) or said that it is gone (`gone`); whether it was active. Its lane
/// is locked.
///
/// # Errors
///
/// [`WebhooksError`].
pub(crate) async fn disable(
    tx: &mut TenantTx,
    id: EndpointId,
    reason: &'static str,
    failing_since: Option<Moment>,
) -> Result<bool, WebhooksError> {
    let to = (EndpointState::Disabled, Some(reason.to_owned()));
    let from = [EndpointState::Active, EndpointState::Paused];
    if endpoints::set_state(tx, id, &from, to.0, to.1).await? == 0 {
        return Ok(false);
    }
    tx.emit(&EndpointDisabled {
        endpoint: id,
        reason: reason.to_owned(),
        failing_since,
    })?;
    // The proof is for rules that requests call; the entry is in the transaction all the same.
    let entry = audit::entry(DISABLE, id).detail("reason", reason);
    drop(tx.audit(entry)?);
    Ok(true)
}

fn check_url(egress: &Egress, url: &str) -> Result<(), WebhooksError> {
    egress
        .check_url(url)
        .map_err(|error| WebhooksError::url(&error))
}

fn each_once(mut texts: Vec<String>) -> Vec<String> {
    texts.sort_unstable();
    texts.dedup();
    texts
}
