//! Channels, and the states of a delivery.

use std::{fmt, io::Write as _};

use diesel::{
    backend::Backend,
    deserialize::{self, FromSql, FromSqlRow},
    expression::AsExpression,
    pg::Pg,
    serialize::{self, IsNull, Output, ToSql},
    sql_types::Text,
    sqlite::Sqlite,
};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Declares a closed set of words that is a column of type text, a JSON string and a schema.
macro_rules! words {
    ($(#[$meta:meta])* $name:ident { $($(#[doc = $doc:literal])+ $variant:ident = $word:literal,)+ }) => {
        $(#[$meta])*
        #[derive(
            AsExpression, FromSqlRow, Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord,
            Serialize, Deserialize, ToSchema,
        )]
        #[diesel(sql_type = Text)]
        #[serde(rename_all = "snake_case")]
        pub(crate) enum $name { $($(#[doc = $doc])+ $variant,)+ }

        impl $name {
            /// All of them.
            pub(crate) const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// The word for it.
            pub(crate) const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word,)+ }
            }

            /// What has this word.
            pub(crate) fn read(word: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|it| it.as_str() == word)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl ToSql<Text, Pg> for $name {
            fn to_sql<'b>(&'b self, out: &mut Output<'b, '_, Pg>) -> serialize::Result {
                out.write_all(self.as_str().as_bytes())?;
                Ok(IsNull::No)
            }
        }

        impl ToSql<Text, Sqlite> for $name {
            fn to_sql<'b>(&'b self, out: &mut Output<'b, '_, Sqlite>) -> serialize::Result {
                out.set_value(self.as_str());
                Ok(IsNull::No)
            }
        }

        impl<DB: Backend> FromSql<Text, DB> for $name
        where
            String: FromSql<Text, DB>,
        {
            fn from_sql(bytes: DB::RawValue<'_>) -> deserialize::Result<Self> {
                let word = String::from_sql(bytes)?;
                Self::read(&word).ok_or_else(|| format!("`{word}` is not known here").into())
            }
        }
    };
}

words! {
    /// A way to reach a recipient.
    Channel {
        /// Mail, by the relay of `DOTMAC_SMTP_HOST`.
        Email = "email",
        /// The inbox of a user in this program.
        InApp = "in_app",
        /// A call of a URL.
        Webhook = "webhook",
        /// A push message to a browser.
        WebPush = "web_push",
        /// A text message.
        Sms = "sms",
    }
}

words! {
    /// What is known of a delivery: what the next hop answered, and nothing beyond.
    State {
        /// It waits for its time, or for another attempt.
        Queued = "queued",
        /// It is kept to be read, and handed to nobody: in development without a relay.
        Held = "held",
        /// The next hop has taken responsibility for it.
        Accepted = "accepted",
        /// It is where its recipient finds it.
        Delivered = "delivered",
        /// There is no such recipient, as the next hop says.
        Bounced = "bounced",
        /// The next hop refuses it, or all attempts are used up.
        Failed = "failed",
        /// The recipient does not want it, or cannot be reached, as is known from before.
        Suppressed = "suppressed",
        /// The connection was lost before the next hop answered: it may have arrived, and is not sent again by itself.
        Unknown = "unknown",
        /// It was called off, or its time was over.
        Cancelled = "cancelled",
    }
}

impl State {
    /// Whether nothing happens to it any more by itself.
    pub(crate) const fn is_final(self) -> bool {
        !matches!(self, Self::Queued | Self::Held)
    }
}

/// The category that preferences do not switch off.
pub(crate) const TRANSACTIONAL: &str = "transactional";

/// The category of a notification that names none.
pub(crate) const GENERAL: &str = "general";

/// Stands for all categories, or all channels.
pub(crate) const ANY: &str = "*";

/// Whether `text` can be the name of a category: 1 to 64 lower-case letters, digits, `_`, `-` and `.`, a letter first.
pub(crate) fn is_category(text: &str) -> bool {
    (1..=64).contains(&text.len())
        && text.starts_with(|it: char| it.is_ascii_lowercase())
        && text
            .bytes()
            .all(|it| it.is_ascii_lowercase() || it.is_ascii_digit() || b"_-.".contains(&it))
}
