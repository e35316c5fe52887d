//! What is kept of an attempt.

use std::{collections::BTreeMap, time::Duration};

use dotmac_db::types::Moment;
use serde::{Deserialize, Serialize};

use crate::jobs::cut;

/// How much of an answer's body is kept, in bytes.
pub const MAX_ATTEMPT_BODY: usize = 8 * 1024;
/// How much of an answer's headers is kept, names and values together, in bytes.
pub const MAX_ATTEMPT_HEADERS: usize = 8 * 1024;
/// How much of an error is kept, in bytes.
const MAX_ERROR: usize = 1024;

/// One attempt to deliver, as shown to the owner of the destination. Bounded by its creator: see
/// [`answered`](Self::answered) and [`failed`](Self::failed).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema), schema(as = DeliveryAttempt))]
pub struct Attempt {
    /// When it began.
    pub at: Moment,
    /// How long it took, in milliseconds.
    pub duration_ms: i64,
    /// What the receiver answered: a status of HTTP, a reply code of SMTP. `null` if it did not answer.
    pub status: Option<i32>,
    /// The address that the connection went to; `null` if there was none.
    pub address: Option<String>,
    /// The headers of the answer, up to 8 KiB.
    pub response_headers: BTreeMap<String, String>,
    /// The body of the answer, up to 8 KiB; what is not UTF-8 of it is replaced.
    pub response_body: Option<String>,
    /// Why there is no answer, or why it is none that ends the delivery: `timeout: …`.
    pub error: Option<String>,
}

impl Attempt {
    /// An attempt that began at `at` and took so long, without an answer.
    #[must_use]
    pub fn failed(at: Moment, took: Duration, error: impl Into<String>) -> Self {
        Self {
            at,
            duration_ms: i64::try_from(took.as_millis()).unwrap_or(i64::MAX),
            status: None,
            address: None,
            response_headers: BTreeMap::new(),
            response_body: None,
            error: Some(cut(error.into(), MAX_ERROR)),
        }
    }

    /// An attempt that got an answer. Of headers and body as much is kept as there is room for.
    #[must_use]
    pub fn answered<'h>(
        at: Moment,
        took: Duration,
        status: i32,
        headers: impl IntoIterator<Item = (&'h str, &'h [u8])>,
        body: &[u8],
    ) -> Self {
        let mut kept = BTreeMap::new();
        let mut room = MAX_ATTEMPT_HEADERS;
        for (name, value) in headers {
            let value = String::from_utf8_lossy(value).replace('\0', "\u{fffd}");
            let Some(left) = room.checked_sub(name.len() + value.len()) else {
                continue;
            };
            room = left;
            let entry: &mut String = kept.entry(name.to_owned()).or_default();
            if !entry.is_empty() {
                entry.push_str(", ");
            }
            entry.push_str(&value);
        }
        let cut_body = body.get(..MAX_ATTEMPT_BODY).unwrap_or(body);
        let body = String::from_utf8_lossy(cut_body).into_owned();
        Self {
            status: Some(status),
            response_headers: kept,
            response_body: Some(cut(body, MAX_ATTEMPT_BODY)).filter(|body| !body.is_empty()),
            error: None,
            ..Self::failed(at, took, "")
        }
    }

    /// The same, with the address that the connection went to.
    #[must_use]
    pub fn to(self, address: Option<String>) -> Self {
        Self { address, ..self }
    }

    /// The same, with why the answer does not end the delivery.
    #[must_use]
    pub fn because(self, error: impl Into<String>) -> Self {
        let error = Some(cut(error.into(), MAX_ERROR));
        Self { error, ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_of_an_answer_is_bounded_and_can_be_stored() {
        let at = Moment::now();
        let long = vec![b'x'; 5000];
        let headers: [(&str, &[u8]); 4] = [
            ("a", &long),
            ("b", &long), // no room left
            ("c", b"1\0\xff"),
            ("c", b"2"),
        ];
        let body = [b"\0\xff".as_slice(), &vec![b'y'; 20_000]].concat();
        let took = Duration::from_millis(1234);
        let attempt = Attempt::answered(at, took, 500, headers, &body).to(Some("::1".to_owned()));
        assert_eq!((attempt.status, attempt.duration_ms), (Some(500), 1234));
        let names: Vec<_> = attempt.response_headers.keys().collect();
        assert_eq!(names, ["a", "c"]);
        assert_eq!(attempt.response_headers["c"], "1\u{fffd}\u{fffd}, 2");
        let body = attempt.response_body.unwrap_or_default();
        assert!(body.starts_with("\u{fffd}\u{fffd}yy") && body.len() <= MAX_ATTEMPT_BODY);
        let failed = Attempt::failed(at, took, "e".repeat(5000));
        assert_eq!(failed.error.unwrap_or_default().len(), MAX_ERROR);
        let refused = Attempt::answered(at, took, 410, [], b"").because("gone");
        assert_eq!(refused.error.as_deref(), Some("gone"));
        assert_eq!(refused.response_body, None);
    }
}
