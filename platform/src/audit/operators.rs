//! The acts of operators over the admin socket, which are the platform's own.

use super::AuditedAct;

/// The name under which they are recorded.
pub(crate) const MODULE: &str = "admin";

pub(crate) const LOG_LEVEL: AuditedAct = AuditedAct::new(
    "log_level_change",
    "The log level was changed over the admin socket.",
);
pub(crate) const RESTART: AuditedAct = AuditedAct::new(
    "component_restart",
    "A restart of a component was requested over the admin socket.",
);
pub(crate) const DRAIN: AuditedAct = AuditedAct::new(
    "readiness_off",
    "Readiness was turned off over the admin socket.",
);
pub(crate) const UNDRAIN: AuditedAct = AuditedAct::new(
    "readiness_on",
    "Readiness was turned on again over the admin socket.",
);

/// The acts that are recorded.
pub(crate) const ACTS: &[AuditedAct] = &[LOG_LEVEL, RESTART, DRAIN, UNDRAIN];
