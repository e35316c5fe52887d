//! The contract by which services send transactional mail: links, codes, notices of what happened to an account.
//!
//! A service takes a [`Mailer`] when it is mounted ([`Mount::mailer`](crate::module::Mount::mailer)) or in a handler
//! (`Use<Mailer>`), wherever it stands in the list of modules, and queues a [`Mail`] on its own transaction: the mail and
//! what it is about are committed together or not at all. The module that sends mail fulfils the contract by sharing a
//! [`SharedMailQueue`]. Without one, and in production without a relay, a mail is [`Mailed::NotConfigured`], and the
//! program logs it.
//!
//! ```
//! use dotmac_platform::{
//!     db::TenantTx,
//!     mail::{EmailAddress, Mail, MailError, MailTemplate, Mailed, Mailer},
//! };
//! use serde_json::json;
//!
//! /// A link to set a password.
//! const RESET: MailTemplate = MailTemplate {
//!     purpose: "accounts.password_reset",
//!     subject: "Set your password",
//!     text: "Hello {{ name }},\n\nset your password here:\n{{ url }}\n\nThe link is good for 30 minutes.\n",
//!     html: "<p>Hello {{ name }},</p><p><a href=\"{{ url }}\">Set your password</a></p>\
//!            <p>The link is good for 30 minutes.</p>",
//! };
//!
//! async fn send_link(tx: &mut TenantTx, mailer: &Mailer, to: EmailAddress, url: &str) -> Result<Mailed, MailError> {
//!     let mail = Mail::of_template(to, &RESET, json!({ "name": "Ann", "url": url }));
//!     let tenant = tx.tenant();
//!     mailer.queue(tx, tenant, mail).await
//! }
//! ```

mod address;
mod message;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use dotmac_db::{DbError, TenantId, Tx, sealing::SealingError, types::Id};
use futures_util::future::BoxFuture;
use tracing::warn;

pub use address::{EmailAddress, is_invisible};
pub use message::{Mail, MailContent, MailTemplate};

use crate::{http::Problem, later::Later};

/// A mail that was queued; a mark for ids.
pub enum QueuedMail {}

/// The id of a mail that was queued.
pub type MailId = Id<QueuedMail>;

/// The result of a mail once its transaction is committed. Whether it was accepted anywhere is known later, and shown by
/// the module that sends mail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mailed {
    /// It will be handed to the relay.
    Queued(MailId),
    /// It is kept to be read, and handed to no relay: in development without one.
    Held(MailId),
    /// It is neither sent nor kept: the program has no module that sends mail, or that one has no relay in production.
    NotConfigured,
}

/// Why a mail was not queued. The transaction should be rolled back.
#[derive(Debug, thiserror::Error)]
pub enum MailError {
    /// The content cannot be sent: a template that fails, a subject that is none. A mistake of the calling service.
    #[error("the mail `{purpose}` cannot be made: {problem}")]
    Content {
        /// The purpose of the mail.
        purpose: &'static str,
        /// The problem.
        problem: String,
    },
    /// There is no key to seal it with.
    #[error(transparent)]
    Sealing(#[from] SealingError),
    /// The database did not do it.
    #[error(transparent)]
    Database(#[from] DbError),
}

impl From<MailError> for Problem {
    /// None of them is the client's fault.
    fn from(error: MailError) -> Self {
        match error {
            MailError::Database(error) => error.into(),
            MailError::Sealing(error) => error.into(),
            error @ MailError::Content { .. } => Self::internal(error),
        }
    }
}

/// Takes mails of other services: what the module that sends mail shares, as [`SharedMailQueue`].
pub trait MailQueue: Send + Sync + 'static {
    /// Queues `mail` of `tenant` on `tx`, which is of that tenant or of the system. It calls nothing outside.
    ///
    /// # Errors
    ///
    /// [`MailError`].
    fn queue<'c>(
        &'c self,
        tx: &'c mut Tx,
        tenant: TenantId,
        mail: Mail,
    ) -> BoxFuture<'c, Result<Mailed, MailError>>;

    /// Whether there is a relay that mail is handed to.
    fn has_relay(&self) -> bool;
}

/// A [`MailQueue`] as modules share it: `on.share::<SharedMailQueue>(Arc::new(…))`.
pub type SharedMailQueue = Arc<dyn MailQueue>;

/// The way to send mail. Clones are the same.
#[derive(Clone)]
pub struct Mailer(Later<SharedMailQueue>);

impl Mailer {
    /// The shared queue.
    pub(crate) fn new(queue: Later<SharedMailQueue>) -> Self {
        Self(queue)
    }

    /// Queues `mail` of `tenant` on `tx`, which is of that tenant or of the system: it is sent if the transaction is
    /// committed. Preferences do not switch it off. Of two mails with one [cause](Mail::cause) the first is sent.
    ///
    /// # Errors
    ///
    /// [`MailError`].
    pub async fn queue(
        &self,
        tx: &mut Tx,
        tenant: TenantId,
        mail: Mail,
    ) -> Result<Mailed, MailError> {
        let purpose = mail.purpose;
        let mailed = match self.0.get() {
            Some(queue) => queue.queue(tx, tenant, mail).await?,
            None => Mailed::NotConfigured,
        };
        // Neither address nor content: a link in a log is as good as a password.
        tx.after_commit(move || match mailed {
            Mailed::NotConfigured => warn!(purpose, "mail held: this program sends no mail"),
            Mailed::Held(id) => {
                tracing::info!(purpose, mail.id = %id, "mail held; see GET /api/v1/notifications/outbox");
            }
            Mailed::Queued(id) => tracing::debug!(purpose, mail.id = %id, "mail queued"),
        });
        Ok(mailed)
    }

    /// Whether mail leaves this program: there is a module that sends it, and it has a relay. Known once all modules are
    /// mounted.
    #[must_use]
    pub fn has_relay(&self) -> bool {
        self.0.get().is_some_and(|queue| queue.has_relay())
    }
}
