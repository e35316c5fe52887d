//! Handing a delivery to a next hop that is called by HTTP.
//!
//! A call that its receiver would not know to be a repeated one is marked before it is made, as a mail is before its content:
//! a process that ends meanwhile leaves a delivery that is `unknown`.

use std::{sync::Arc, time::Duration};

use dotmac_platform::{
    db::{TenantDb, TenantScope, types::Moment},
    delivery::Attempt,
    egress::{EgressAnswer, EgressError},
    jobs::{JobError, Run},
};

use super::{
    attempt::{AttemptUnderWay, Came, LADDER, beating},
    lane::{self, CallEnd, Called},
    loaded::Loaded,
    push, together,
};
use crate::{
    channel::{Channel, State},
    jobs::DeliveryJob,
    next_hop::{self, Call, Heard, Message, PushMessage, Verdict},
    service::Service,
    store::deliveries::Outcome,
};

/// How soon a call is made that was not, because too much was under way.
const BUSY: Duration = Duration::from_secs(1);

/// Hands a delivery to its next hop, once.
pub(crate) async fn deliver<J: DeliveryJob>(service: Service, run: Run<J>) -> Result<(), JobError> {
    let run = Arc::new(run);
    let scope = TenantScope::system(run.owner(), "deliver notifications");
    let db = service.db.tenant(&scope);
    let loaded = together::load(&service, run.owner(), run.delivery_id()).await?;
    let Some(loaded) = loaded else {
        return Ok(());
    };
    if loaded.decide(&db).await? {
        return Ok(());
    }
    let call = match call(&service, &loaded) {
        Ok(call) => call,
        Err((reason, problem)) => return loaded.fail(&db, reason, problem).await,
    };
    let has_lane = loaded.delivery.channel == Channel::Webhook;
    if has_lane {
        let due = loaded.notification.send_at;
        let due = due.unwrap_or_else(|| loaded.delivery.created_at());
        if !lane::enter(&db, &run, &loaded.delivery, due).await? {
            let problem = "the receiver has not taken anything for days".to_owned();
            return loaded.fail(&db, "receiver_unavailable", problem).await;
        }
    }
    let attempt = AttemptUnderWay::begin(&service, &db, &run, &loaded);
    let since = match call.is_repeatable {
        true => None,
        false => match attempt.mark().await? {
            Some(since) => Some(since),
            None => return Ok(()),
        },
    };
    let (heard, outcome) = beating(&run, call.make()).await;
    let called = has_lane.then(|| Called {
        took: attempt.began.elapsed(),
        ended: call_end(&heard, &outcome),
    });
    if heard.verdict == Verdict::Untried {
        return untried(&db, &loaded, called).await;
    }
    let record = record(&attempt, &heard, &outcome);
    let (state, wait) = match heard.verdict {
        Verdict::Accepted => (State::Accepted, None),
        Verdict::Again(asked) => match LADDER.wait(run.attempt(), asked) {
            Some(wait) => (State::Queued, Some(wait)),
            None => (State::Failed, None),
        },
        Verdict::Bounced { .. } => (State::Bounced, None),
        Verdict::Failed => (State::Failed, None),
        Verdict::Unknown | Verdict::Untried => (State::Unknown, None),
    };
    let is_bounced = matches!(heard.verdict, Verdict::Bounced { .. });
    let reason = heard.reason.clone();
    let came = Came {
        outcome: Outcome {
            state,
            reason: heard.reason,
            status: outcome.ok().map(|it| i32::from(it.status.as_u16())),
            answer: Some(heard.answer),
            next_attempt_at: wait.map(|wait| Moment::now() + wait),
        },
        record,
        since,
        is_lasting: matches!(heard.verdict, Verdict::Bounced { is_lasting: true }),
        gone: loaded
            .subscription
            .as_ref()
            .map(|it| it.id)
            .filter(|_| is_bounced),
        called,
    };
    attempt.settle(came).await?;
    match wait {
        Some(wait) => {
            let reason = reason.unwrap_or_default();
            let message = format!("the next hop refused it ({reason})");
            Err(JobError::again_after(wait, "not_taken", message))
        }
        None => Ok(()),
    }
}

/// What an answer, or none, means for the lane of its receiver.
fn call_end(heard: &Heard, outcome: &Result<EgressAnswer, EgressError>) -> CallEnd {
    let is_asked = outcome
        .as_ref()
        .is_ok_and(|it| matches!(it.status.as_u16(), 429 | 503));
    match heard.verdict {
        Verdict::Accepted => CallEnd::Taken,
        Verdict::Again(asked) => CallEnd::Refused(asked.filter(|_| is_asked)),
        Verdict::Bounced { .. } | Verdict::Failed | Verdict::Unknown => CallEnd::Refused(None),
        Verdict::Untried => CallEnd::Untried,
    }
}

/// The call was not made: it gives its place back and comes again soon.
async fn untried(db: &TenantDb, loaded: &Loaded, called: Option<Called>) -> Result<(), JobError> {
    if let Some(called) = called {
        let delivery = loaded.delivery.clone();
        let leaving = db.transaction("leave lane", async move |tx| {
            lane::leave(tx, &delivery, called).await
        });
        leaving.await?;
    }
    let wait = BUSY.mul_f64(1.0 + fastrand::f64());
    let message = "as many calls are under way as may be";
    Err(JobError::not_yet(wait, "egress_busy", message))
}

/// What is kept of the attempt: of an answer the status, and what the next hop says of it. Its body may hold what was sent.
fn record<J: DeliveryJob>(
    attempt: &AttemptUnderWay<J>,
    heard: &Heard,
    outcome: &Result<EgressAnswer, EgressError>,
) -> Attempt {
    let (at, took) = (attempt.at, attempt.began.elapsed());
    match outcome {
        Ok(answer) => {
            let status = i32::from(answer.status.as_u16());
            let record = Attempt::answered(at, took, status, [], heard.answer.as_bytes())
                .to(answer.address.map(|it| it.to_string()));
            match &heard.reason {
                Some(reason) => record.because(&**reason),
                None => record,
            }
        }
        Err(error) => {
            let address = match error {
                EgressError::BlockedAddress { address, .. } => Some(address.to_string()),
                _ => None,
            };
            Attempt::failed(at, took, format!("{}: {error}", error.code())).to(address)
        }
    }
}

/// The call that hands the delivery over: the word for why there is none, and what is wrong.
fn call(service: &Service, loaded: &Loaded) -> Result<Call, (&'static str, String)> {
    let (delivery, notification) = (&loaded.delivery, &loaded.notification);
    let content = |problem| ("content", problem);
    let said = loaded.said(service, None).map_err(content)?;
    let (id, about) = (delivery.id.to_string(), notification.id.to_string());
    let created_at = notification.created_at.to_string();
    let message = Message {
        id: &id,
        notification: &about,
        category: &notification.category,
        created_at: &created_at,
    };
    let missing = |what: &str| {
        (
            "not_configured",
            format!("{what} is not configured any more"),
        )
    };
    match delivery.channel {
        Channel::Sms => {
            let text = next_hop::sms_text(&said).map_err(content)?;
            let route = service.sms.as_ref();
            let route = route.ok_or_else(|| missing("a provider of text messages"))?;
            let sent = (&*delivery.recipient, &*text);
            let call = route.call(&service.egress, sent, &id);
            call.map_err(|problem| ("not_configured", problem))
        }
        Channel::Webhook => {
            let key = service.webhook_key();
            let key = key.ok_or_else(|| missing("a key for calls of URLs"))?;
            let body = message.webhook(&said).map_err(content)?;
            let url = &delivery.recipient;
            next_hop::webhook(&service.egress, &key, url, &id, body).map_err(content)
        }
        Channel::WebPush => {
            let gone = || ("unsubscribed", "the browser has unsubscribed".to_owned());
            let row = loaded.subscription.as_ref().ok_or_else(gone)?;
            let key = service.push_key();
            let key = key.ok_or_else(|| missing("a key for push messages"))?;
            let opened = push::open(&service.sealer, row);
            let browser = opened.map_err(|problem| ("secret_unavailable", problem))?;
            let text = message.push(&said).map_err(content)?;
            let pushed = PushMessage {
                text: &text,
                expires_at: notification.expires_at,
                urgency: match notification.priority {
                    ..0 => "high",
                    0 => "normal",
                    1.. => "low",
                },
            };
            let contact = service.settings.push_contact();
            let to = (browser.endpoint.as_str(), &browser.keys);
            next_hop::push(&service.egress, &key, contact.as_deref(), to, &pushed).map_err(content)
        }
        Channel::Email | Channel::InApp => {
            Err(("internal", "the channel is not called by HTTP".to_owned()))
        }
    }
}
