//! Events as they are read.

use std::{fmt, ops::Deref, str::FromStr};

use diesel::prelude::*;
use dotmac_db::{
    TenantId,
    types::{Json, Moment},
};
use serde::{Serialize, Serializer, de::DeserializeOwned};
use serde_json::Value;

use super::{Event, EventId, tables::event};

/// The place of an event in the log. Written as 32 hexadecimal digits, which sort as positions do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    pub(super) xid: i64,
    pub(super) position: i64,
}

impl Position {
    /// Before the first event.
    pub const BEGINNING: Self = Self {
        xid: 0,
        position: 0,
    };
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}{:016x}", self.xid, self.position)
    }
}

/// A text that is no position.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a position has 32 hexadecimal digits, like the `sequence` of an event")]
pub struct PositionError;

impl FromStr for Position {
    type Err = PositionError;

    fn from_str(text: &str) -> Result<Self, PositionError> {
        let is_one = text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        if !is_one {
            return Err(PositionError);
        }
        let part = |digits: &str| i64::from_str_radix(digits, 16).map_err(|_| PositionError);
        Ok(Self {
            xid: part(&text[..16])?,
            position: part(&text[16..])?,
        })
    }
}

impl Serialize for Position {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// An event of the log.
#[derive(Clone, Debug, Queryable, Selectable)]
#[diesel(table_name = event)]
pub struct StoredEvent {
    xid: i64,
    position: i64,
    /// Its id.
    pub id: EventId,
    /// Whose it is; `None` for the system's.
    #[diesel(column_name = tenant_id)]
    pub tenant: Option<TenantId>,
    /// Its type: `note.added.v1`.
    pub kind: String,
    /// What it happened to.
    pub subject: String,
    /// What is handled in order.
    pub partition_key: String,
    data: Json<Value>,
    /// Its actor: `user:01a2…`.
    pub actor: Option<String>,
    /// The trace in which it was caused, W3C Trace Context.
    pub traceparent: Option<String>,
    /// When its transaction began, by the clock of the database.
    pub at: Moment,
}

impl StoredEvent {
    /// Its place in the log.
    #[must_use]
    pub fn position(&self) -> Position {
        Position {
            xid: self.xid,
            position: self.position,
        }
    }

    /// Its data as JSON.
    #[must_use]
    pub fn json(&self) -> &Value {
        &self.data.0
    }

    /// Its data as an `E`.
    ///
    /// # Errors
    ///
    /// What does not fit `E`.
    pub fn data<E: DeserializeOwned>(&self) -> Result<E, serde_json::Error> {
        E::deserialize(&self.data.0)
    }

    /// What is handled in order: the partition key within its tenant.
    pub(super) fn lane(&self) -> String {
        match self.tenant {
            Some(tenant) => format!("{tenant}/{}", self.partition_key),
            None => format!("/{}", self.partition_key),
        }
    }

    /// The same as others exchange it.
    #[must_use]
    pub fn cloud_event(self) -> CloudEvent {
        let area = self.kind.split('.').next().unwrap_or_default();
        CloudEvent {
            specversion: "1.0",
            source: format!("/{area}"),
            sequence: self.position(),
            id: self.id,
            kind: self.kind,
            subject: self.subject,
            time: self.at,
            datacontenttype: "application/json",
            data: self.data.0,
            tenantid: self.tenant,
            traceparent: self.traceparent,
            actor: self.actor,
        }
    }
}

/// An event in the form of CloudEvents 1.0, as JSON.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct CloudEvent {
    /// The version of CloudEvents.
    #[cfg_attr(feature = "schema", schema(value_type = String, example = "1.0"))]
    specversion: &'static str,
    /// Its id.
    id: EventId,
    /// The area that it comes from: `/note`.
    source: String,
    /// Its type: `note.added.v1`.
    #[serde(rename = "type")]
    kind: String,
    /// What it happened to.
    subject: String,
    /// When its transaction began.
    time: Moment,
    /// What `data` is.
    #[cfg_attr(feature = "schema", schema(value_type = String, example = "application/json"))]
    datacontenttype: &'static str,
    /// What is particular to its type.
    data: Value,
    /// Whose it is; absent for the system's.
    #[serde(skip_serializing_if = "Option::is_none")]
    tenantid: Option<TenantId>,
    /// The trace in which it was caused, W3C Trace Context.
    #[serde(skip_serializing_if = "Option::is_none")]
    traceparent: Option<String>,
    /// Its actor: `user:` and the id, or `system:` and a reason.
    #[serde(skip_serializing_if = "Option::is_none")]
    actor: Option<String>,
    /// Its place in the log. As texts, these sort as the events do.
    #[cfg_attr(feature = "schema", schema(value_type = String, pattern = "^[0-9a-f]{32}$"))]
    sequence: Position,
}

impl CloudEvent {
    /// Its id.
    #[must_use]
    pub fn id(&self) -> EventId {
        self.id
    }

    /// Its place in the log.
    #[must_use]
    pub fn sequence(&self) -> Position {
        self.sequence
    }
}

/// An event of type `E` as a subscriber gets it. Derefs to its data.
#[derive(Debug)]
pub struct Received<E> {
    /// The rest of it.
    pub event: StoredEvent,
    data: E,
}

impl<E: Event + DeserializeOwned> Received<E> {
    pub(super) fn new(event: StoredEvent) -> Result<Self, serde_json::Error> {
        let data = event.data()?;
        Ok(Self { event, data })
    }
}

impl<E> Deref for Received<E> {
    type Target = E;

    fn deref(&self) -> &E {
        &self.data
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn positions_are_read_as_written_and_sort_as_texts(a in 0..i64::MAX, b in 0..i64::MAX, c in 0..i64::MAX, d in 0..i64::MAX) {
            let (one, other) = (Position { xid: a, position: b }, Position { xid: c, position: d });
            prop_assert_eq!(one.to_string().parse(), Ok(one));
            prop_assert_eq!(one.cmp(&other), one.to_string().cmp(&other.to_string()));
        }
    }

    #[test]
    fn what_is_no_position_is_refused() {
        for text in [
            "",
            "0",
            "g0000000000000000000000000000000",
            "+000000000000000000000000000000f",
            "ffffffffffffffff0000000000000000",
        ] {
            assert_eq!(text.parse::<Position>(), Err(PositionError), "{text}");
        }
    }
}
