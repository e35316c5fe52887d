//! What requests and answers have in them.

mod deliveries;
mod inbox;
mod new;
mod preferences;
mod push;
mod templates;

pub(crate) use deliveries::{
    Asked, DeliveryBody, DeliveryDetail, NotificationBody, SentBody, SentDelivery,
};
pub(crate) use inbox::{InboxAsked, InboxItem, ReadAllBody, UnreadBody};
pub(crate) use new::{NewContent, NewNotification, NewRecipient, TemplateRef, TemplateVersionRef};
pub(crate) use preferences::{
    Preference, Preferences, QuietHours, SuppressionBody, SuppressionsAsked,
};
pub(crate) use push::{
    NewSubscription, OldSubscription, PublicKeyBody, SubscriptionBody, SubscriptionsBody,
};
pub(crate) use templates::{
    NewTemplate, RenderAsked, RenderedBody, TemplateBody, TemplatePatch, TestAsked, VersionBody,
};
