//! A mail as the calling service writes it.

use std::fmt;

use dotmac_db::types::Moment;
use serde_json::Value;
use uuid::Uuid;

use super::EmailAddress;

/// A transactional mail: it concerns the recipient personally, and preferences do not switch it off. What it holds is kept
/// sealed until it is sent, and deleted then; `Debug` shows none of it.
#[derive(Clone)]
pub struct Mail {
    /// Its purpose, such as `accounts.password_reset`: the word for it in lists, logs and metrics.
    pub purpose: &'static str,
    /// The address that it goes to, as it is stored.
    pub to: EmailAddress,
    /// The name of the recipient, for the header `To`.
    pub name: Option<String>,
    /// The user whose address that is.
    pub user: Option<Uuid>,
    /// Its content.
    pub content: MailContent,
    /// Its cause, for deduplication: a second mail of the tenant with the same purpose, address and cause is not
    /// queued. 1 to 255 characters.
    pub cause: Option<String>,
    /// When it is of no use any more: it is not sent after that.
    pub expires_at: Option<Moment>,
}

/// The content of a mail.
#[derive(Clone)]
pub enum MailContent {
    /// As it is. Without HTML, it is made of the text.
    Written {
        /// The subject, one line.
        subject: String,
        /// The text.
        text: String,
        /// The same as HTML.
        html: Option<String>,
    },
    /// A template of the calling service, with what is to be put in.
    Template {
        /// The template.
        template: &'static MailTemplate,
        /// Its variables, an object.
        data: Value,
    },
}

/// A template of a service, in the language of minijinja: a variable that is not there is an error, values are escaped in
/// the HTML. It is part of the program, and tenants cannot change it: otherwise a tenant could read the links of other
/// users.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MailTemplate {
    /// The purpose of its mails: [`Mail::purpose`].
    pub purpose: &'static str,
    /// The subject.
    pub subject: &'static str,
    /// The text.
    pub text: &'static str,
    /// The same as HTML.
    pub html: &'static str,
}

impl Mail {
    /// A mail to `to`, for `purpose`.
    #[must_use]
    pub const fn new(purpose: &'static str, to: EmailAddress, content: MailContent) -> Self {
        Self {
            purpose,
            to,
            name: None,
            user: None,
            content,
            cause: None,
            expires_at: None,
        }
    }

    /// A mail to `to`, of `template` with the variables in `data`.
    #[must_use]
    pub const fn of_template(
        to: EmailAddress,
        template: &'static MailTemplate,
        data: Value,
    ) -> Self {
        Self::new(
            template.purpose,
            to,
            MailContent::Template { template, data },
        )
    }

    /// To that user, of that name.
    #[must_use]
    pub fn user(self, id: Uuid, name: Option<String>) -> Self {
        Self {
            user: Some(id),
            name,
            ..self
        }
    }

    /// Once for `cause`.
    #[must_use]
    pub fn cause(self, cause: impl Into<String>) -> Self {
        Self {
            cause: Some(cause.into()),
            ..self
        }
    }

    /// Not after `expires_at`.
    #[must_use]
    pub fn expires_at(self, expires_at: Moment) -> Self {
        Self {
            expires_at: Some(expires_at),
            ..self
        }
    }
}

impl fmt::Debug for Mail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mail")
            .field("purpose", &self.purpose)
            .finish_non_exhaustive()
    }
}
