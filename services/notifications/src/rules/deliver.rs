//! Handing a mail to the relay.
//!
//! The relay is given sender and recipient first. Just before it is given the content, a transaction marks the delivery,
//! unless it was called off or another worker has it by now; and another writes down what came of it. So a process that ends
//! before the mark has sent nothing, and its mail is tried again; one that ends between mark and outcome leaves a delivery
//! that is `unknown`; and no mail is sent twice where the relay's answer was seen.

use std::{sync::Arc, time::Duration};

use dotmac_platform::{
    db::{TenantDb, TenantScope, types::Moment},
    delivery::Attempt,
    jobs::{JobError, Run},
    mail::EmailAddress,
};

use super::{
    attachments::{self, Missing},
    attempt::{AttemptUnderWay, Came, LADDER, beating},
    digest,
    loaded::Loaded,
    together,
};
use crate::{
    channel::{State, TRANSACTIONAL},
    content::Content,
    jobs::Deliver,
    service::Service,
    smtp::{Envelope, Fault, MailFile, MailParts, Relay, Reply, Verdict, build},
    store::deliveries::{self, Outcome},
};

/// How soon a mail is tried again that waits for a relay to be configured.
const NO_RELAY: Duration = Duration::from_secs(300);

/// Hands the mail of a delivery to the relay, once.
pub(crate) async fn deliver(service: Service, run: Run<Deliver>) -> Result<(), JobError> {
    let run = Arc::new(run);
    let scope = TenantScope::system(run.tenant, "deliver notifications");
    let (db, id) = (service.db.tenant(&scope), run.delivery);
    let loaded = match run.is_digest {
        true => Loaded::read_digest(&db, id).await?,
        false => together::load(&service, run.tenant, id).await?,
    };
    let Some(loaded) = loaded else {
        return Ok(());
    };
    if loaded.decide(&db).await? {
        return Ok(());
    }
    let Some(relay) = service.relay.clone() else {
        let message = "no relay is configured: DOTMAC_SMTP_HOST is not set";
        return Err(JobError::again_after(
            NO_RELAY,
            "email_not_configured",
            message,
        ));
    };
    let reading = attachments::read(&service, &scope, &loaded.attachments);
    let (files, _place) = match beating(&run, reading).await {
        Ok(read) => read,
        Err(Missing::Never(reason, problem)) => return loaded.fail(&db, reason, problem).await,
        Err(Missing::NotYet(error)) => return Err(error),
        Err(Missing::Later(problem)) => return later(&db, &run, &loaded, problem).await,
    };
    let (content, envelope) = match mail(&service, &relay, &loaded, files) {
        Ok(mail) => mail,
        Err(problem) => return loaded.fail(&db, "content", problem).await,
    };
    let attempt = AttemptUnderWay::begin(&service, &db, &run, &loaded);
    let begun = match Box::pin(beating(&run, relay.begin(&envelope))).await {
        Ok(begun) => begun,
        Err(fault) => return failed(attempt, &relay, fault, None).await,
    };
    let since = match attempt.mark().await {
        Ok(Some(since)) => since,
        Ok(None) => {
            begun.take_back().await;
            return Ok(());
        }
        Err(error) => {
            begun.take_back().await;
            return Err(error);
        }
    };
    match beating(&run, begun.finish(&content)).await {
        Ok(reply) => accepted(attempt, &relay, &reply, since).await,
        Err(fault) => failed(attempt, &relay, fault, Some(since)).await,
    }
}

/// The files of the mail cannot be read now: it waits as if the relay had not taken it.
async fn later(
    db: &TenantDb,
    run: &Run<Deliver>,
    loaded: &Loaded,
    problem: String,
) -> Result<(), JobError> {
    const REASON: &str = "attachment_unavailable";
    let Some(wait) = LADDER.wait(run.attempt(), None) else {
        return loaded.fail(db, REASON, problem).await;
    };
    let (id, until) = (loaded.delivery.id, Moment::now() + wait);
    let postponing = db.transaction("postpone delivery", async move |tx| {
        deliveries::postpone(tx, id, REASON, until).await
    });
    postponing.await?;
    Err(JobError::again_after(wait, REASON, problem))
}

/// The mail as it is sent, with its sender and recipient.
fn mail(
    service: &Service,
    relay: &Relay,
    loaded: &Loaded,
    files: Vec<MailFile>,
) -> Result<(Vec<u8>, Envelope), String> {
    let (delivery, notification) = (&loaded.delivery, &loaded.notification);
    let to = EmailAddress::parse(&delivery.recipient).ok_or("the recipient has no address")?;
    let token = delivery.unsubscribe_token.as_deref();
    let is_optional = notification.category != TRANSACTIONAL;
    let unsubscribe = token.filter(|_| is_optional);
    let unsubscribe = unsubscribe.and_then(|it| service.settings.unsubscribe_url(it));
    let said = loaded.said(service, unsubscribe.as_deref())?.mail();
    let others = loaded.said_with_it(service, unsubscribe.as_deref())?;
    let said = digest::together(said, others.iter().map(Content::mail));
    let (content, address) = build(MailParts {
        from: relay.from(),
        reply_to: relay.reply_to(),
        to: &to,
        name: delivery.name.as_deref(),
        message_id: &delivery.id.to_string(),
        at: notification.created_at,
        text: said,
        files,
        unsubscribe: unsubscribe.as_deref(),
        category: notification
            .purpose
            .as_deref()
            .unwrap_or(&notification.category),
    })?;
    let sender = relay.sender(token)?;
    Ok((content, Envelope::new(sender, address)))
}

/// The relay has taken the mail.
async fn accepted(
    attempt: AttemptUnderWay<Deliver>,
    relay: &Relay,
    reply: &Reply,
    since: Moment,
) -> Result<(), JobError> {
    let record = answered(&attempt, relay, reply);
    let outcome = Outcome {
        state: State::Accepted,
        reason: None,
        status: Some(i32::from(reply.code)),
        answer: Some(reply.to_string()),
        next_attempt_at: None,
    };
    let came = Came {
        outcome,
        record,
        since: Some(since),
        is_lasting: false,
        gone: None,
        called: None,
    };
    attempt.settle(came).await
}

/// The relay has not taken it, or that is unknown.
async fn failed(
    attempt: AttemptUnderWay<Deliver>,
    relay: &Relay,
    fault: Fault,
    since: Option<Moment>,
) -> Result<(), JobError> {
    let reason = format!("smtp_{}", fault.stage.as_str());
    let record = match &fault.reply {
        Some(reply) => answered(&attempt, relay, reply).because(&*reason),
        None => Attempt::failed(attempt.at, attempt.began.elapsed(), fault.to_string())
            .to(Some(relay.address())),
    };
    let (state, wait) = match fault.verdict() {
        Verdict::Again => match LADDER.wait(attempt.run.attempt(), None) {
            Some(wait) => (State::Queued, Some(wait)),
            None => (State::Failed, None),
        },
        Verdict::Bounced { .. } => (State::Bounced, None),
        Verdict::Failed => (State::Failed, None),
        Verdict::Unknown => (State::Unknown, None),
    };
    let is_lasting = matches!(fault.verdict(), Verdict::Bounced { is_lasting: true });
    let status = fault.reply.as_ref().map(|it| i32::from(it.code));
    let answer = fault.reply.as_ref().map(ToString::to_string);
    let outcome = Outcome {
        state,
        reason: Some(reason),
        status,
        answer: answer.or(Some(fault.problem)),
        next_attempt_at: wait.map(|wait| Moment::now() + wait),
    };
    let came = Came {
        outcome,
        record,
        since,
        is_lasting,
        gone: None,
        called: None,
    };
    attempt.settle(came).await?;
    match wait {
        // The words of the relay may have the address in them; they are with the delivery.
        Some(wait) => {
            let code = status.map_or_else(String::new, |it| format!(" ({it})"));
            let message = format!("the relay refused the mail{code}");
            Err(JobError::again_after(wait, "mail_not_taken", message))
        }
        None => Ok(()),
    }
}

fn answered(attempt: &AttemptUnderWay<Deliver>, relay: &Relay, reply: &Reply) -> Attempt {
    let words = reply.words.as_bytes();
    let (took, code) = (attempt.began.elapsed(), i32::from(reply.code));
    Attempt::answered(attempt.at, took, code, [], words).to(Some(relay.address()))
}
