//! What the audit log has of notifications: actors, kinds of messages, numbers of recipients, and changes. The content of
//! messages is not in it.

use dotmac_platform::audit::AuditedAct;

pub(crate) const SEND: AuditedAct = AuditedAct::new(
    "notification_send",
    "A notification was accepted to be sent.",
);
pub(crate) const MAIL: AuditedAct = AuditedAct::new(
    "notification_mail",
    "A mail of a service was sent to the relay.",
);
pub(crate) const RETRY: AuditedAct =
    AuditedAct::new("notification_retry", "A delivery was queued again.");
pub(crate) const CANCEL: AuditedAct =
    AuditedAct::new("notification_cancel", "A delivery was cancelled.");
pub(crate) const TEMPLATE_ADD: AuditedAct =
    AuditedAct::new("notification_template_add", "A template was added.");
pub(crate) const TEMPLATE_CHANGE: AuditedAct = AuditedAct::new(
    "notification_template_change",
    "A template got a new version.",
);
pub(crate) const TEMPLATE_DELETE: AuditedAct =
    AuditedAct::new("notification_template_delete", "A template was deleted.");
pub(crate) const SUPPRESS: AuditedAct = AuditedAct::new(
    "notification_suppress",
    "A recipient unsubscribed, or cannot be reached.",
);
pub(crate) const UNSUPPRESS: AuditedAct = AuditedAct::new(
    "notification_unsuppress",
    "A recipient is sent messages again.",
);
pub(crate) const PREFER: AuditedAct = AuditedAct::new(
    "notification_preferences_change",
    "A user changed their preferences.",
);
pub(crate) const PUSH_SUBSCRIBE: AuditedAct = AuditedAct::new(
    "notification_push_subscribe",
    "A browser of a user subscribed to push messages.",
);
pub(crate) const PUSH_UNSUBSCRIBE: AuditedAct = AuditedAct::new(
    "notification_push_unsubscribe",
    "A browser of a user unsubscribed from push messages.",
);
pub(crate) const BOUNCE: AuditedAct = AuditedAct::new(
    "notification_bounce",
    "A mail server reported the result of an accepted mail.",
);
pub(crate) const OUTBOX: AuditedAct =
    AuditedAct::new("notification_outbox_read", "Held mail was read.");

/// All acts of the module.
pub(crate) const ACTS: &[AuditedAct] = &[
    SEND,
    MAIL,
    RETRY,
    CANCEL,
    TEMPLATE_ADD,
    TEMPLATE_CHANGE,
    TEMPLATE_DELETE,
    SUPPRESS,
    UNSUPPRESS,
    PREFER,
    PUSH_SUBSCRIBE,
    PUSH_UNSUBSCRIBE,
    BOUNCE,
    OUTBOX,
];
