//! Columns that hold one of a few words.

use std::io::Write as _;

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

/// A word that is none of those there are.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{word}` is none of {words}")]
pub(crate) struct UnknownWord {
    word: String,
    words: String,
}

/// An enum whose variants are words: in the database, over HTTP and on the command line.
macro_rules! words {
    ($(#[$doc:meta])+ $name:ident as $schema:ident { $($(#[$variant_doc:meta])+ $variant:ident = $word:literal),+ $(,)? }) => {
        $(#[$doc])+
        #[derive(
            AsExpression, FromSqlRow, Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema,
        )]
        #[diesel(sql_type = Text)]
        #[serde(rename_all = "snake_case")]
        #[schema(as = $schema)]
        pub(crate) enum $name {
            $($(#[$variant_doc])+ $variant),+
        }

        impl $name {
            /// All of them.
            pub(crate) const ALL: &[Self] = &[$(Self::$variant),+];

            /// The word.
            pub(crate) const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $word),+
                }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl std::str::FromStr for $name {
            type Err = UnknownWord;

            fn from_str(word: &str) -> Result<Self, UnknownWord> {
                let found = Self::ALL.iter().find(|it| it.as_str() == word);
                found.copied().ok_or_else(|| UnknownWord {
                    word: word.to_owned(),
                    words: Self::ALL.iter().map(|it| it.as_str()).collect::<Vec<_>>().join(", "),
                })
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
                Ok(String::from_sql(bytes)?.parse()?)
            }
        }
    };
}

words! {
    /// Whether an endpoint gets deliveries.
    EndpointState as WebhookState {
        /// It does.
        Active = "active",
        /// Its owner has it wait: deliveries are made and kept.
        Paused = "paused",
        /// It failed for too long, or said that it is gone: deliveries are made and fail at once.
        Disabled = "disabled",
        /// It is gone; what belongs to it is about to go.
        Deleted = "deleted",
    }
}

words! {
    /// What deliveries are signed with.
    Signing as WebhookSigning {
        /// HMAC-SHA256, with a secret that the receiver has too: `whsec_…`, `v1`.
        Hmac = "hmac",
        /// Ed25519, whose public key the receiver has: `whpk_…`, `v1a`.
        Ed25519 = "ed25519",
    }
}

words! {
    /// What has become of a delivery.
    DeliveryState as WebhookDeliveryState {
        /// It waits for its next attempt.
        Pending = "pending",
        /// An attempt is under way.
        Sending = "sending",
        /// The receiver answered with a status from 200 to 299.
        Delivered = "delivered",
        /// It was given up.
        Failed = "failed",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_read_as_they_are_written() {
        for state in DeliveryState::ALL {
            assert_eq!(state.to_string().parse(), Ok(*state));
            let json = serde_json::to_value(state).ok();
            assert_eq!(json, Some(state.as_str().into()));
        }
        let error = "sent".parse::<DeliveryState>().map_err(|it| it.to_string());
        let text = "`sent` is none of pending, sending, delivered, failed";
        assert_eq!(error, Err(text.to_owned()));
        assert_eq!("ed25519".parse(), Ok(Signing::Ed25519));
        assert_eq!(
            serde_json::to_value(Signing::Ed25519).ok(),
            Some("ed25519".into())
        );
    }
}
