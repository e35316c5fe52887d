//! The filters of the list of API keys.

use dotmac_platform::{db::types::Id, routing::InvalidRequest};
use serde::Deserialize;
use utoipa::IntoParams;
use uuid::Uuid;

use crate::store::bindings::Holder;

/// Which API keys.
#[derive(Deserialize, IntoParams)]
pub(super) struct KeyFilter {
    /// Those of one service account.
    service_account_id: Option<Uuid>,
    /// The personal keys of one user.
    user_id: Option<Uuid>,
}

impl KeyFilter {
    pub(super) fn read(self) -> Result<Option<Holder>, InvalidRequest> {
        match (self.service_account_id, self.user_id) {
            (None, None) => Ok(None),
            (Some(id), None) => Ok(Some(Holder::Service(Id::from_uuid(id)))),
            (None, Some(id)) => Ok(Some(Holder::User(Id::from_uuid(id)))),
            (Some(_), Some(_)) => Err(InvalidRequest::query(
                "user_id",
                "cannot be given together with `service_account_id`",
            )),
        }
    }
}
