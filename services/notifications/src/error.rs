//! What can go wrong with notifications, and the answers to clients.

use std::time::Duration;

use dotmac_platform::{
    audit::AuditError,
    db::DbError,
    events::EmitError,
    http::{FieldError, Problem},
    jobs::EnqueueError,
    mail::MailError,
    module::WorkerError,
    routing::{ApiError, InvalidRequest, PreconditionFailed, ProblemType},
    sealing::SealingError,
    supervision::Reason,
};

use crate::channel::{Channel, State};

const NO_NOTIFICATION: ProblemType = ProblemType::new(
    404,
    "notification_not_found",
    "there is no such notification",
);
const NO_DELIVERY: ProblemType =
    ProblemType::new(404, "delivery_not_found", "there is no such delivery");
const NO_ITEM: ProblemType =
    ProblemType::new(404, "item_not_found", "there is no such item in the inbox");
const NO_TEMPLATE: ProblemType =
    ProblemType::new(404, "template_not_found", "there is no such template");
const NO_SUPPRESSION: ProblemType =
    ProblemType::new(404, "suppression_not_found", "there is no such suppression");
const NO_SUBSCRIPTION: ProblemType = ProblemType::new(
    404,
    "subscription_not_found",
    "there is no such subscription to push messages",
);
const NO_LINK: ProblemType = ProblemType::new(404, "link_not_found", "the link is no longer valid");
const OUTBOX: ProblemType = ProblemType::new(
    403,
    "outbox_disabled",
    "mail is not held here: DOTMAC_NOTIFICATIONS_OUTBOX is off",
);
const TRANSACTIONAL: ProblemType = ProblemType::new(
    403,
    "forbidden",
    "the permission for transactional messages is missing",
);
const MAY_NOT_READ: ProblemType = ProblemType::new(
    403,
    "forbidden",
    "the permission to read files, which attachments need, is missing",
);
const NOT_A_PERSON: ProblemType = ProblemType::new(
    403,
    "forbidden",
    "an API key has no inbox and no preferences; sign in",
);
const TEMPLATE_EXISTS: ProblemType =
    ProblemType::new(409, "template_exists", "a template with that key exists");
const TOO_MANY_TEMPLATES: ProblemType = ProblemType::new(
    409,
    "too_many_templates",
    "the tenant has reached the limit of templates",
);
const TOO_MANY_SUBSCRIPTIONS: ProblemType = ProblemType::new(
    409,
    "too_many_subscriptions",
    "the user has reached the limit of browsers with push messages",
);
const STATE: ProblemType = ProblemType::new(
    409,
    "delivery_state",
    "the state of the delivery does not allow it",
);
const GONE: ProblemType = ProblemType::new(
    409,
    "content_gone",
    "the content of the delivery was deleted",
);
const TOO_MANY: ProblemType =
    ProblemType::new(429, "too_many_waiting", "too many deliveries are waiting");
const NO_EMAIL: ProblemType =
    not_configured("email_not_configured", "no relay for mail is configured");
const NO_WEBHOOK: ProblemType = not_configured(
    "webhook_not_configured",
    "the channel `webhook` is not configured",
);
const NO_WEB_PUSH: ProblemType = not_configured(
    "web_push_not_configured",
    "the channel `web_push` is not configured",
);
const NO_SMS: ProblemType = not_configured(
    "sms_not_configured",
    "no provider for text messages is configured",
);
const NO_UNSUBSCRIBE: ProblemType = not_configured(
    "unsubscribe_not_configured",
    "mail that is not transactional needs links to unsubscribe: DOTMAC_NOTIFICATIONS_PUBLIC_URL is not set",
);
const NO_FILES: ProblemType = not_configured(
    "files_not_configured",
    "the program keeps no files that could be attached",
);
const NO_REPORTS: ProblemType = not_configured(
    "reports_not_configured",
    "no reports of relays are taken: DOTMAC_NOTIFICATIONS_REPORT_SECRET is not set",
);
const NO_DIRECTORY: ProblemType = not_configured(
    "directory_not_configured",
    "the program has no directory of users",
);
const TOO_EARLY: ProblemType = ProblemType::new(
    503,
    "too_early",
    "the relay's answer to that mail is not written down yet; report it again",
);
const INVALID: ProblemType = ProblemType::new(422, "validation", "some values are not valid");

/// When another try may find room.
const RETRY_AFTER: Duration = Duration::from_secs(30);

/// When an attempt that is under way is over, most likely.
const SOON: Duration = Duration::from_secs(10);

const fn not_configured(code: &'static str, description: &'static str) -> ProblemType {
    ProblemType::new(422, code, description)
}

/// What was not found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Missing {
    Notification,
    Delivery,
    Item,
    Template,
    Suppression,
    Subscription,
    Link,
}

/// A value of the body that is not acceptable: `to[3].email`, a code, and what would be right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct WrongField {
    pub(crate) field: String,
    pub(crate) code: &'static str,
    pub(crate) problem: String,
}

impl WrongField {
    pub(crate) fn new(
        field: impl Into<String>,
        code: &'static str,
        problem: impl Into<String>,
    ) -> Self {
        Self {
            field: field.into(),
            code,
            problem: problem.into(),
        }
    }
}

/// Why something cannot be done with notifications.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotificationsError {
    #[error("there is no such {0:?}")]
    NotFound(Missing),
    #[error("held mail is not shown here")]
    OutboxDisabled,
    #[error("the permission for transactional messages is missing")]
    NotTransactional,
    #[error("the caller is no person")]
    NotAPerson,
    #[error("there is a template of that key")]
    TemplateExists,
    #[error("the tenant has {0} templates, which is all it may have")]
    TooManyTemplates(i64),
    #[error("{0} browsers of the user take push messages, which is all that may")]
    TooManySubscriptions(usize),
    #[error("the delivery is {state}, and {wanted}")]
    State { state: State, wanted: &'static str },
    #[error("its content was deleted")]
    ContentGone,
    #[error("the channel {0} is not configured")]
    NotConfigured(Channel),
    #[error("links to unsubscribe cannot be made")]
    NoUnsubscribe,
    #[error("the program keeps no files")]
    NoFiles,
    #[error("the permission to read files is missing")]
    MayNotRead,
    #[error("no secret for reports of relays is configured")]
    NoReports,
    #[error("the relay's answer to that mail is not written down yet")]
    TooEarly,
    #[error("there is no directory of users")]
    NoDirectory,
    #[error("some values are not valid")]
    Wrong(Vec<WrongField>),
    #[error(transparent)]
    Problem(#[from] Problem),
    #[error(transparent)]
    Invalid(#[from] InvalidRequest),
    #[error(transparent)]
    Changed(#[from] PreconditionFailed),
    #[error(transparent)]
    Enqueue(EnqueueError),
    #[error(transparent)]
    Sealing(#[from] SealingError),
    #[error(transparent)]
    Db(#[from] DbError),
    #[error(transparent)]
    Emit(#[from] EmitError),
    #[error(transparent)]
    Record(#[from] AuditError),
}

impl NotificationsError {
    /// One value of the body is not acceptable.
    pub(crate) fn field(
        field: impl Into<String>,
        code: &'static str,
        problem: impl Into<String>,
    ) -> Self {
        Self::Wrong(vec![WrongField::new(field, code, problem)])
    }
}

impl From<EnqueueError> for NotificationsError {
    fn from(error: EnqueueError) -> Self {
        match error {
            EnqueueError::Database(error) => Self::Db(error),
            error => Self::Enqueue(error),
        }
    }
}

impl From<NotificationsError> for MailError {
    /// Of a mail of a service.
    fn from(error: NotificationsError) -> Self {
        match error {
            NotificationsError::Db(error) => Self::Database(error),
            NotificationsError::Sealing(error) => Self::Sealing(error),
            NotificationsError::Enqueue(error) => Self::Database(error.into()),
            error => Self::Content {
                purpose: "mail",
                problem: error.to_string(),
            },
        }
    }
}

impl WorkerError for NotificationsError {
    fn upstream(&self) -> Option<Reason> {
        match self {
            Self::Db(error) => error.reason(),
            _ => None,
        }
    }
}

impl ApiError for NotificationsError {
    const PROBLEMS: &'static [ProblemType] = &[
        NO_NOTIFICATION,
        NO_DELIVERY,
        NO_ITEM,
        NO_TEMPLATE,
        NO_SUPPRESSION,
        NO_SUBSCRIPTION,
        NO_LINK,
        OUTBOX,
        NOT_A_PERSON,
        TEMPLATE_EXISTS,
        TOO_MANY_TEMPLATES,
        TOO_MANY_SUBSCRIPTIONS,
        STATE,
        GONE,
        TOO_MANY,
        NO_EMAIL,
        NO_WEBHOOK,
        NO_WEB_PUSH,
        NO_SMS,
        NO_UNSUBSCRIBE,
        NO_REPORTS,
        NO_FILES,
        NO_DIRECTORY,
        TOO_EARLY,
        INVALID,
    ];

    fn into_problem(self) -> Problem {
        let text = self.to_string();
        match self {
            Self::NotFound(what) => match what {
                Missing::Notification => NO_NOTIFICATION,
                Missing::Delivery => NO_DELIVERY,
                Missing::Item => NO_ITEM,
                Missing::Template => NO_TEMPLATE,
                Missing::Suppression => NO_SUPPRESSION,
                Missing::Subscription => NO_SUBSCRIPTION,
                Missing::Link => NO_LINK,
            }
            .problem(),
            Self::OutboxDisabled => OUTBOX.problem(),
            Self::NotAPerson => NOT_A_PERSON.problem(),
            Self::NotTransactional => TRANSACTIONAL
                .problem()
                .field_error("permission", "notifications.transactional.write"),
            Self::TemplateExists => TEMPLATE_EXISTS.problem().field_error("key", text),
            Self::TooManyTemplates(_) => TOO_MANY_TEMPLATES.problem().detail(text),
            Self::TooManySubscriptions(_) => TOO_MANY_SUBSCRIPTIONS.problem().detail(text),
            Self::State { .. } => STATE.problem().detail(text),
            Self::ContentGone => GONE.problem(),
            Self::NotConfigured(channel) => match channel {
                Channel::Email | Channel::InApp => NO_EMAIL,
                Channel::Webhook => NO_WEBHOOK,
                Channel::WebPush => NO_WEB_PUSH,
                Channel::Sms => NO_SMS,
            }
            .problem()
            .field_error("channels", text),
            Self::NoUnsubscribe => NO_UNSUBSCRIBE.problem(),
            Self::NoFiles => NO_FILES.problem().field_error("attachments", text),
            Self::MayNotRead => MAY_NOT_READ
                .problem()
                .field_error("permission", "files.files.read"),
            Self::NoReports => NO_REPORTS.problem(),
            Self::TooEarly => TOO_EARLY.problem().retry_after(SOON),
            Self::Problem(problem) => problem,
            Self::NoDirectory => NO_DIRECTORY.problem(),
            Self::Wrong(fields) => fields.into_iter().fold(INVALID.problem(), |problem, it| {
                problem.field(FieldError::new(it.field, it.code, it.problem))
            }),
            Self::Invalid(error) => error.into(),
            Self::Changed(error) => error.into(),
            Self::Enqueue(EnqueueError::TooManyWaiting { .. }) => {
                TOO_MANY.problem().detail(text).retry_after(RETRY_AFTER)
            }
            Self::Enqueue(error) => DbError::from(error).into(),
            Self::Sealing(error) => error.into(),
            Self::Db(error) => error.into(),
            Self::Emit(error) => DbError::from(error).into(),
            Self::Record(error) => DbError::from(error).into(),
        }
    }
}
