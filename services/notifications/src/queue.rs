//! The contract by which other services send mail: `dotmac_platform::mail`.

use dotmac_platform::{
    db::{
        TenantId, Tx,
        types::{Id, Moment},
    },
    mail::{Mail, MailContent, MailError, MailId, MailQueue, MailTemplate, Mailed},
};
use futures_util::future::BoxFuture;
use serde_json::{Map, Value};

use crate::{
    channel::{State, TRANSACTIONAL},
    content::{Content, Recipient},
    render::Sources,
    rules::{
        recipients::by_mail,
        send::{delivery, enqueue},
    },
    service::{MailRoute, Service},
    store::{
        deliveries,
        notifications::{self, NotificationRow},
    },
};

/// Before other mail: a user waits for it.
const PRIORITY: i32 = -75;

impl MailQueue for Service {
    fn queue<'c>(
        &'c self,
        tx: &'c mut Tx,
        tenant: TenantId,
        mail: Mail,
    ) -> BoxFuture<'c, Result<Mailed, MailError>> {
        Box::pin(async move { queue(self, tx, tenant, mail).await })
    }

    fn has_relay(&self) -> bool {
        self.mail_route() == MailRoute::Relay
    }
}

async fn queue(
    service: &Service,
    tx: &mut Tx,
    tenant: TenantId,
    mail: Mail,
) -> Result<Mailed, MailError> {
    let route = service.mail_route();
    if route == MailRoute::Nowhere {
        return Ok(Mailed::NotConfigured);
    }
    let purpose = mail.purpose;
    let problem = |problem: String| MailError::Content { purpose, problem };
    let content = content(&mail).map_err(problem)?;
    let cause = mail.cause.as_deref();
    if cause.is_some_and(|it| it.is_empty() || it.len() > 255) {
        return Err(problem("the cause has not 1 to 255 bytes".to_owned()));
    }
    let cause = cause.map(|it| format!("{purpose} {} {it}", mail.to.normal()));
    let row = NotificationRow {
        tenant_id: tenant,
        id: Id::new(),
        category: TRANSACTIONAL.to_owned(),
        purpose: Some(purpose.to_owned()),
        cause: cause.clone(),
        template_id: None,
        template_version: None,
        priority: PRIORITY,
        content: None,
        sealed: None,
        is_secret: true,
        send_at: None,
        expires_at: mail.expires_at,
        created_at: Moment::now(),
    };
    let row = service.seal(row, &content)?;
    if notifications::insert(tx, row.clone()).await? == 0 {
        let first = match cause {
            Some(cause) => notifications::caused_by(tx, tenant, cause).await?,
            None => None,
        };
        return Ok(mailed(route, first.unwrap_or(row.id).uuid()));
    }
    let to = by_mail(&mail.to, mail.name, mail.user);
    let delivery = delivery(service, &row, to);
    deliveries::insert(tx, vec![delivery.clone()]).await?;
    if delivery.state == State::Queued {
        enqueue(tx, tenant, &delivery)
            .await
            .map_err(MailError::from)?;
    }
    Ok(mailed(route, row.id.uuid()))
}

fn mailed(route: MailRoute, id: uuid::Uuid) -> Mailed {
    let id = MailId::from_uuid(id);
    match route {
        MailRoute::Relay => Mailed::Queued(id),
        MailRoute::Outbox => Mailed::Held(id),
        MailRoute::Nowhere => Mailed::NotConfigured,
    }
}

/// What the mail says: a service's template is rendered now, so that one which fails is its service's mistake and rolls back.
fn content(mail: &Mail) -> Result<Content, String> {
    let content = match &mail.content {
        MailContent::Written {
            subject,
            text,
            html,
        } => Content {
            subject: Some(subject.clone()),
            text: Some(text.clone()),
            html: html.clone(),
            ..Content::default()
        },
        MailContent::Template { template, data } => {
            let data = variables(data).ok_or("its variables are no object")?;
            let content = Content {
                data,
                ..Content::default()
            };
            let recipient = Recipient {
                address: mail.to.as_str(),
                name: mail.name.as_deref(),
                unsubscribe_url: None,
            };
            let rendered = content.rendered(&sources(template), &recipient);
            rendered.map_err(|fault| format!("{} {}", fault.part, fault.problem))?
        }
    };
    let has_controls = |it: &String| it.trim().is_empty() || it.chars().any(char::is_control);
    if content.subject.as_ref().is_none_or(has_controls) {
        return Err("the subject is empty or has control characters".to_owned());
    }
    Ok(content)
}

fn variables(data: &Value) -> Option<Map<String, Value>> {
    match data {
        Value::Null => Some(Map::new()),
        Value::Object(data) => Some(data.clone()),
        _ => None,
    }
}

const fn sources(template: &MailTemplate) -> Sources<'static> {
    Sources {
        subject: Some(template.subject),
        text: Some(template.text),
        html: Some(template.html),
        title: None,
        body: None,
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use dotmac_platform::mail::EmailAddress;
    use serde_json::json;

    use super::*;

    const RESET: MailTemplate = MailTemplate {
        purpose: "accounts.password_reset",
        subject: "Set your password, {{ recipient.name }}",
        text: "{{ url }}",
        html: "<a href=\"{{ url }}\">{{ recipient.name }}</a>",
    };

    fn mail(data: Value, name: &str) -> Mail {
        let to = EmailAddress::parse("ann@example.com").unwrap();
        Mail::of_template(to, &RESET, data).user(uuid::Uuid::nil(), Some(name.to_owned()))
    }

    #[test]
    fn templates_of_services_are_strict_and_escaped() {
        let said = content(&mail(json!({"url": "https://x/?a=1&b=2"}), "<Ann>")).unwrap();
        assert_eq!(said.text.as_deref(), Some("https://x/?a=1&b=2"));
        let html = said.html.unwrap();
        assert!(
            html.contains("&lt;Ann&gt;") && html.contains("a=1&amp;b=2"),
            "{html}"
        );
        assert!(
            content(&mail(json!({}), "Ann"))
                .unwrap_err()
                .contains("undefined")
        );
        assert!(content(&mail(json!([1]), "Ann")).is_err());
        let hostile = mail(json!({"url": "x"}), "Ann\r\nBcc: x@example.com");
        assert!(content(&hostile).unwrap_err().contains("subject"));
    }
}
