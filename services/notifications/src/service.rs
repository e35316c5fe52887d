//! What handlers, jobs and workers share.

use std::{ops::Deref, sync::Arc};

use dotmac_platform::{
    db::{Db, ModuleDb},
    directory::SharedDirectory,
    egress::Egress,
    files::SharedFileReader,
    module::Later,
    sealing::{Sealer, SealingError},
    secrets::SecretWatch,
    standard_webhooks::read_secret,
};
use secrecy::{ExposeSecret as _, SecretBox};
use tokio::sync::Semaphore;

use crate::{
    NotificationsSettings,
    channel::Channel,
    content::{Content, ContentError},
    next_hop::{SigningKey, SmsRoute, VapidKey},
    rules::together::Together,
    smtp::Relay,
    store::notifications::{NotificationId, NotificationRow, SEALED},
};

/// Clones share it.
#[derive(Clone)]
pub(crate) struct Service(Arc<Inner>);

pub(crate) struct Inner {
    /// For work of a tenant.
    pub(crate) db: ModuleDb,
    /// For links that name no tenant.
    pub(crate) open_db: Db,
    pub(crate) settings: NotificationsSettings,
    pub(crate) relay: Option<Relay>,
    pub(crate) directory: Later<SharedDirectory>,
    pub(crate) files: Later<SharedFileReader>,
    /// Places for mails whose files are in memory.
    pub(crate) attaching: Arc<Semaphore>,
    pub(crate) sealer: Sealer,
    pub(crate) egress: Egress,
    pub(crate) sms: Option<SmsRoute>,
    /// Of VAPID.
    pub(crate) push_key: SecretWatch,
    /// That calls of URLs are signed with.
    pub(crate) webhook_key: SecretWatch,
    /// That reports of relays are signed with.
    pub(crate) report_secret: SecretWatch,
    /// What deliveries under way do together.
    pub(crate) together: Together,
}

/// What becomes of mail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MailRoute {
    /// It is handed to the relay.
    Relay,
    /// It is held, to be read.
    Outbox,
    /// Nothing: it is refused.
    Nowhere,
}

impl Service {
    pub(crate) fn new(inner: Inner) -> Self {
        Self(Arc::new(inner))
    }
}

impl Deref for Service {
    type Target = Inner;

    fn deref(&self) -> &Inner {
        &self.0
    }
}

impl Inner {
    /// What becomes of mail here.
    pub(crate) fn mail_route(&self) -> MailRoute {
        match (&self.relay, self.settings.outbox) {
            (Some(_), _) => MailRoute::Relay,
            (None, true) => MailRoute::Outbox,
            (None, false) => MailRoute::Nowhere,
        }
    }

    /// What push services are shown; `None` without a key, or with one that is none.
    pub(crate) fn push_key(&self) -> Option<VapidKey> {
        VapidKey::read(self.push_key.get()?.expose_secret())
    }

    /// What calls of URLs are signed with; `None` likewise.
    pub(crate) fn webhook_key(&self) -> Option<SigningKey> {
        SigningKey::read(self.webhook_key.get()?.expose_secret())
    }

    /// What reports of relays are signed with; `None` likewise.
    pub(crate) fn report_secret(&self) -> Option<SecretBox<[u8]>> {
        read_secret(self.report_secret.get()?.expose_secret().trim())
    }

    /// Whether anything can be sent by `channel`.
    pub(crate) fn has(&self, channel: Channel) -> bool {
        match channel {
            Channel::InApp => true,
            Channel::Email => self.mail_route() != MailRoute::Nowhere,
            Channel::Sms => self.sms.is_some(),
            Channel::Webhook => self.webhook_key().is_some(),
            Channel::WebPush => self.push_key().is_some(),
        }
    }

    /// Whether mails have their own senders, so that a report identifies its mail.
    pub(crate) fn takes_bounces(&self) -> bool {
        self.relay.as_ref().is_some_and(Relay::takes_bounces)
    }

    /// Puts what a secret notification says into its row: sealed. Where mail is held for developers there need be no key, and
    /// without one it lies there as it is.
    ///
    /// # Errors
    ///
    /// [`SealingError`].
    pub(crate) fn seal(
        &self,
        row: NotificationRow,
        content: &Content,
    ) -> Result<NotificationRow, SealingError> {
        let written = content.written();
        match self.sealer.seal(SEALED.of(row.id), written.as_str()) {
            Ok(sealed) => Ok(NotificationRow {
                sealed: Some(sealed),
                ..row
            }),
            Err(SealingError::NoKey { .. }) if self.settings.outbox => Ok(NotificationRow {
                content: Some(written),
                ..row
            }),
            Err(error) => Err(error),
        }
    }

    /// What a notification says, as it is stored.
    ///
    /// # Errors
    ///
    /// [`ContentError`].
    pub(crate) fn content(&self, row: &NotificationRow) -> Result<Content, ContentError> {
        if let Some(sealed) = &row.sealed {
            let id: NotificationId = row.id;
            let opened = self.sealer.open(SEALED.of(id), sealed)?;
            return Content::read(opened.expose_secret()).ok_or(ContentError::Gone);
        }
        let content = row.content.as_deref().and_then(Content::read);
        content.ok_or(ContentError::Gone)
    }
}
