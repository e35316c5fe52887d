//! What is in an inbox.

use dotmac_platform::db::types::Moment;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};

use crate::store::{deliveries::DeliveryId, inbox::ItemRow};

/// Which items.
#[derive(Deserialize, IntoParams)]
pub(crate) struct InboxAsked {
    /// Only items that were not read.
    pub(crate) unread: Option<bool>,
}

/// An item in the caller's inbox.
#[derive(Serialize, ToSchema)]
pub(crate) struct InboxItem {
    pub(crate) id: DeliveryId,
    /// What it is about.
    category: String,
    title: String,
    body: String,
    /// For programs.
    #[schema(value_type = Option<Object>)]
    data: Option<Value>,
    created_at: Moment,
    read_at: Option<Moment>,
    archived_at: Option<Moment>,
}

impl From<ItemRow> for InboxItem {
    fn from(row: ItemRow) -> Self {
        Self {
            id: row.id,
            category: row.category,
            title: row.title,
            body: row.body,
            data: row
                .data
                .as_deref()
                .and_then(|it| serde_json::from_str(it).ok()),
            created_at: row.created_at,
            read_at: row.read_at,
            archived_at: row.archived_at,
        }
    }
}

/// How many items were not read.
#[derive(Serialize, ToSchema)]
#[schema(as = UnreadCount)]
pub(crate) struct UnreadBody {
    /// Up to 1000: that is 1000 or more.
    pub(crate) unread: i64,
}

/// How many items were read by it.
#[derive(Serialize, ToSchema)]
#[schema(as = ReadAll)]
pub(crate) struct ReadAllBody {
    pub(crate) read: usize,
}
