//! What a notification says, when, and of what category: whether that is right.

use dotmac_platform::db::{TenantTx, types::Moment};
use serde_json::Map;

use super::{recipients::Planned, templates};
use crate::{
    bodies::{NewContent, NewNotification, TemplateRef},
    channel::{Channel, GENERAL, TRANSACTIONAL, is_category},
    content::{Content, RECIPIENT, Recipient},
    error::NotificationsError,
    next_hop,
    store::templates::VersionRow,
};

/// The largest `data`, in bytes of JSON.
const MOST_DATA: usize = 16 * 1024;
/// The largest text and HTML together, in bytes: encoded it stays below 10 MiB.
const MOST_WRITTEN: usize = 4 * 1024 * 1024;

/// What is sent, once it is known to be right.
pub(super) struct Said {
    pub(super) content: Content,
    pub(super) template: Option<VersionRow>,
}

/// The category, if the caller may send messages of it.
pub(super) fn category(
    given: Option<&str>,
    may_be_transactional: bool,
) -> Result<String, NotificationsError> {
    let category = given.unwrap_or(GENERAL);
    if !is_category(category) {
        let problem =
            "has not 1 to 64 lower-case letters, digits, `_`, `-` and `.`, a letter first";
        return Err(NotificationsError::field("category", "invalid", problem));
    }
    if category == TRANSACTIONAL && !may_be_transactional {
        return Err(NotificationsError::NotTransactional);
    }
    Ok(category.to_owned())
}

/// Whether it can be sent between these times.
pub(super) fn check_times(
    send_at: Option<Moment>,
    expires_at: Option<Moment>,
    now: Moment,
) -> Result<(), NotificationsError> {
    let begin = send_at.map_or(now, |at| at.max(now));
    if send_at.is_some_and(|at| at > Moment::LAST) {
        return Err(NotificationsError::field(
            "send_at",
            "invalid",
            "is after the year 9999",
        ));
    }
    if expires_at.is_some_and(|at| at <= begin || at > Moment::LAST) {
        let problem = "is not after the time at which it is sent";
        return Err(NotificationsError::field("expires_at", "invalid", problem));
    }
    Ok(())
}

/// What the request says, and the template that it names.
pub(super) async fn said(
    tx: &mut TenantTx,
    new: &NewNotification,
) -> Result<Said, NotificationsError> {
    let data = new.data.clone().unwrap_or_default();
    if data.contains_key(RECIPIENT) {
        let problem = "is what a template knows its recipient by";
        return Err(NotificationsError::field(
            "data.recipient",
            "reserved",
            problem,
        ));
    }
    let too_large = |it: &Map<_, _>| serde_json::to_string(it).map_or(0, |it| it.len()) > MOST_DATA;
    if too_large(&data) {
        let problem = format!("has more than {MOST_DATA} bytes of JSON");
        return Err(NotificationsError::field("data", "too_large", problem));
    }
    match (&new.template, &new.content) {
        (Some(template), None) => {
            let (key, version) = match template {
                TemplateRef::Key(key) => (key, None),
                TemplateRef::Version(it) => (&it.key, it.version),
            };
            let version = templates::named(tx, key, version).await?;
            let unknown = || {
                NotificationsError::field(
                    "template",
                    "unknown_template",
                    "is no template of the tenant",
                )
            };
            Ok(Said {
                template: Some(version.ok_or_else(unknown)?),
                content: Content {
                    data,
                    ..Content::default()
                },
            })
        }
        (None, Some(content)) => {
            if !data.is_empty() {
                let problem = "is for templates; that of an item in an inbox is `content.data`";
                return Err(NotificationsError::field("data", "unexpected", problem));
            }
            let content = written(content.clone());
            if too_large(&content.data) {
                let problem = format!("has more than {MOST_DATA} bytes of JSON");
                return Err(NotificationsError::field(
                    "content.data",
                    "too_large",
                    problem,
                ));
            }
            let size = [&content.text, &content.html].into_iter().flatten();
            if size.map(String::len).sum::<usize>() > MOST_WRITTEN {
                let problem = format!("has more than {MOST_WRITTEN} bytes of text and HTML");
                return Err(NotificationsError::field("content", "too_large", problem));
            }
            Ok(Said {
                content,
                template: None,
            })
        }
        _ => {
            let problem = "is given together with `content`, or neither is";
            Err(NotificationsError::field("template", "invalid", problem))
        }
    }
}

fn written(it: NewContent) -> Content {
    Content {
        subject: it.subject,
        text: it.text,
        html: it.html,
        title: it.title,
        body: it.body,
        data: it.data.unwrap_or_default(),
    }
}

/// Whether there is something to say by each channel. A template is rendered for the first recipient, so that one which
/// fails is refused at once.
pub(super) fn check_content(said: &Said, planned: &[Planned]) -> Result<(), NotificationsError> {
    let Some(first) = planned.first() else {
        return Err(NotificationsError::field(
            "to",
            "no_recipient",
            "has no recipient that can be reached",
        ));
    };
    let (content, place) = match &said.template {
        None => (said.content.clone(), "content"),
        Some(version) => {
            let recipient = Recipient {
                address: &first.recipient,
                name: first.name.as_deref(),
                unsubscribe_url: Some(""),
            };
            let rendered = said
                .content
                .rendered(&templates::sources(version), &recipient);
            let rendered = rendered.map_err(|fault| {
                let problem = format!("{} {}", fault.part, fault.problem);
                NotificationsError::field("template", "render", problem)
            });
            (rendered?, "template")
        }
    };
    let mail = content.mail();
    for (channel, field, is_there) in [
        (Channel::Email, "subject", !mail.subject.trim().is_empty()),
        (Channel::Email, "text", !mail.text.trim().is_empty()),
        (
            Channel::InApp,
            "title",
            !content.item().title.trim().is_empty(),
        ),
        (
            Channel::InApp,
            "body",
            !content.item().body.trim().is_empty(),
        ),
    ] {
        if !is_there && planned.iter().any(|it| it.channel == channel) {
            let problem = format!("is needed for the channel `{channel}`");
            return Err(NotificationsError::field(
                format!("{place}.{field}"),
                "missing_field",
                problem,
            ));
        }
    }
    for channel in Channel::ALL {
        if planned.iter().any(|it| it.channel == *channel) {
            next_hop::check(&content, *channel).map_err(|(field, problem)| {
                NotificationsError::field(format!("{place}.{field}"), "channel", problem)
            })?;
        }
    }
    Ok(())
}
