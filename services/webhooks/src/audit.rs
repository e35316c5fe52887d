//! What the audit log has of webhooks: acts upon endpoints and deliveries. URLs and headers are not in it, since they may be secrets.

use dotmac_platform::{
    audit::{Audit as _, AuditError, AuditedAct, Entry, Recorded},
    db::TenantTx,
};

use crate::store::{deliveries::DeliveryId, endpoints::EndpointId};

pub(crate) const CREATE: AuditedAct =
    AuditedAct::new("webhook_create", "A webhook endpoint was made.");
pub(crate) const CHANGE: AuditedAct =
    AuditedAct::new("webhook_change", "A webhook endpoint was changed.");
pub(crate) const DELETE: AuditedAct =
    AuditedAct::new("webhook_delete", "A webhook endpoint was deleted.");
pub(crate) const ROTATE: AuditedAct = AuditedAct::new(
    "webhook_secret_rotate",
    "A webhook endpoint got another secret.",
);
pub(crate) const TEST: AuditedAct =
    AuditedAct::new("webhook_test", "A test was sent to a webhook endpoint.");
pub(crate) const PAUSE: AuditedAct =
    AuditedAct::new("webhook_pause", "A webhook endpoint was paused.");
pub(crate) const RESUME: AuditedAct =
    AuditedAct::new("webhook_resume", "A webhook endpoint was resumed.");
pub(crate) const DISABLE: AuditedAct = AuditedAct::new(
    "webhook_disable",
    "A webhook endpoint was disabled because it failed for too long, or answered 410.",
);
pub(crate) const RECOVER: AuditedAct = AuditedAct::new(
    "webhook_recover",
    "Failed deliveries of a webhook endpoint were restarted.",
);
pub(crate) const REPLAY: AuditedAct =
    AuditedAct::new("webhook_replay", "A webhook delivery was restarted.");

/// All acts of the module.
pub(crate) const ACTS: &[AuditedAct] = &[
    CREATE, CHANGE, DELETE, ROTATE, TEST, PAUSE, RESUME, DISABLE, RECOVER, REPLAY,
];

/// An act upon an endpoint.
pub(crate) fn entry(act: AuditedAct, endpoint: EndpointId) -> Entry {
    Entry::new(act.name(), "webhooks.endpoint", endpoint.to_string())
}

/// Records an act upon an endpoint in the transaction that does it.
pub(crate) fn record(
    tx: &mut TenantTx,
    act: AuditedAct,
    endpoint: EndpointId,
) -> Result<Recorded, AuditError> {
    tx.audit(entry(act, endpoint))
}

/// Records an act upon a delivery.
pub(crate) fn record_delivery(
    tx: &mut TenantTx,
    act: AuditedAct,
    delivery: DeliveryId,
) -> Result<Recorded, AuditError> {
    tx.audit(Entry::new(
        act.name(),
        "webhooks.delivery",
        delivery.to_string(),
    ))
}
