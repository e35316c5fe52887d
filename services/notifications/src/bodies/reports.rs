//! What relays report of mails that they had accepted, and what that led to.

use garde::Validate;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{channel::State, rules::report::Taken, store::deliveries::DeliveryId};

/// What became of one mail that the relay had accepted.
#[derive(Clone, Debug, Deserialize, Validate, ToSchema)]
#[schema(as = MailReport)]
pub(crate) struct NewReport {
    /// What became of it.
    #[garde(skip)]
    pub(crate) kind: ReportKind,
    /// The mail, by its `Message-ID`; either this or `sender`.
    #[garde(length(bytes, min = 1, max = 400))]
    #[schema(example = "<01935c4e-8a00-7000-8000-000000000001@example.com>")]
    pub(crate) message_id: Option<String>,
    /// The mail, by the address that it was sent from (`MAIL FROM`).
    #[garde(length(bytes, min = 1, max = 400))]
    #[schema(example = "bounces+4f1c0000000040008000000000000000@example.com")]
    pub(crate) sender: Option<String>,
    /// Its recipient. A report that names another one is refused.
    #[garde(length(bytes, min = 1, max = 400))]
    #[schema(example = "ann@example.org")]
    pub(crate) recipient: Option<String>,
    /// Of `bounced`: whether no other mail will reach the recipient either. Without it the status says so.
    #[garde(skip)]
    pub(crate) permanent: Option<bool>,
    /// The enhanced status code (RFC 3463).
    #[garde(length(bytes, min = 1, max = 64))]
    #[schema(example = "5.1.1")]
    pub(crate) status: Option<String>,
    /// What the next server said.
    #[garde(length(bytes, min = 1, max = 4096))]
    #[schema(example = "550 5.1.1 <ann@example.org>: unknown")]
    pub(crate) words: Option<String>,
}

/// What became of a mail.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = MailReportKind)]
pub(crate) enum ReportKind {
    /// It did not arrive and will not.
    Bounced,
    /// Its recipient says that it is unwanted.
    Complained,
    /// It is tried still.
    Deferred,
    /// It is in the recipient's mailbox.
    Delivered,
}

/// What a report led to.
#[derive(Serialize, ToSchema)]
#[schema(as = TakenMailReport)]
pub(crate) struct ReportBody {
    /// What it led to.
    result: ReportResult,
    /// The delivery that it is about.
    delivery: Option<DeliveryId>,
    /// The state of the delivery, if it was changed.
    state: Option<State>,
}

/// What a report led to.
#[derive(Clone, Copy, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = MailReportResult)]
enum ReportResult {
    /// The delivery is in another state now.
    Changed,
    /// The state of the delivery is as it was. What was reported is written down.
    Unchanged,
    /// A call with this id was taken before.
    Repeated,
    /// No mail of that name is known here.
    Unknown,
}

impl From<Taken> for ReportBody {
    fn from(taken: Taken) -> Self {
        let (result, delivery, state) = match taken {
            Taken::Changed(id, state) => (ReportResult::Changed, Some(id), Some(state)),
            Taken::Unchanged(id) => (ReportResult::Unchanged, Some(id), None),
            Taken::Repeated(id) => (ReportResult::Repeated, Some(id), None),
            Taken::Unknown | Taken::NoReport => (ReportResult::Unknown, None, None),
        };
        Self {
            result,
            delivery,
            state,
        }
    }
}
