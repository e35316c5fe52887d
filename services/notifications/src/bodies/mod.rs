//! What requests and answers have in them.

mod deliveries;
mod inbox;
mod new;
mod preferences;
mod push;
mod reports;
mod templates;

pub(crate) use deliveries::{
    Asked, DeliveryBody, DeliveryDetail, NotificationBody, SentBody, SentDelivery,
};
pub(crate) use inbox::{InboxAsked, InboxItem, ReadAllBody, UnreadBody};
pub(crate) use new::{
    NewAttachment, NewContent, NewNotification, NewRecipient, TemplateRef, TemplateVersionRef,
};
pub(crate) use preferences::{
    Preference, Preferences, QuietHours, SuppressionBody, SuppressionsAsked,
};
pub(crate) use push::{
    NewSubscription, OldSubscription, PublicKeyBody, SubscriptionBody, SubscriptionsBody,
};
pub(crate) use reports::{NewReport, ReportBody, ReportKind};
pub(crate) use templates::{
    NewTemplate, RenderAsked, RenderedBody, TemplateBody, TemplatePatch, TestAsked, VersionBody,
};
