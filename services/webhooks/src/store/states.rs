//! Columns that hold one of a few words.

use dotmac_platform::words;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

words! {
    /// Whether an endpoint gets deliveries.
    #[derive(Serialize, Deserialize, ToSchema)]
    #[serde(rename_all = "snake_case")]
    #[schema(as = WebhookState)]
    pub(crate) enum EndpointState {
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
    #[derive(Serialize, Deserialize, ToSchema)]
    #[serde(rename_all = "snake_case")]
    #[schema(as = WebhookSigning)]
    pub(crate) enum Signing {
        /// HMAC-SHA256, with a secret that the receiver has too: `whsec_…`, `v1`.
        Hmac = "hmac",
        /// Ed25519, whose public key the receiver has: `whpk_…`, `v1a`.
        Ed25519 = "ed25519",
    }
}

words! {
    /// What has become of a delivery.
    #[derive(Serialize, Deserialize, ToSchema)]
    #[serde(rename_all = "snake_case")]
    #[schema(as = WebhookDeliveryState)]
    pub(crate) enum DeliveryState {
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
