//! Handing a mail to the relay.
//!
//! The relay is given sender and recipient first. Just before it is given the content, a transaction marks the delivery,
//! unless it was called off or another worker has it by now; and another writes down what came of it. So a process that ends
//! before the mark has sent nothing, and its mail is tried again; one that ends between mark and outcome leaves a delivery
//! that is `unknown`; and no mail is sent twice where the relay's answer was seen.

use std::{
    sync::{Arc, LazyLock},
    time::{Duration, Instant},
};

use dotmac_platform::{
    db::{DbError, TenantDb, TenantScope, TenantTx, types::Moment},
    delivery::{Attempt, Ladder},
    jobs::{JobError, Run},
    mail::EmailAddress,
};
use tokio::time::sleep;

use super::{
    judge::judge,
    settle::{Settled, settle},
    templates,
};
use crate::{
    channel::{Channel, State},
    content::{ContentError, Recipient},
    error::NotificationsError,
    jobs::Deliver,
    metrics,
    service::Service,
    smtp::{Fault, MailParts, Relay, Reply, Verdict, build},
    store::{
        deliveries::{self, DeliveryId, DeliveryRow, Outcome},
        notifications::{self, NotificationRow},
        templates::VersionRow,
    },
};

/// The waits of a mail that its relay does not take: fourteen attempts in some four days, as mail servers do it
/// (RFC 5321, 4.5.4.1), and the first ones soon, for people who wait for a link.
static LADDER: LazyLock<Ladder> = LazyLock::new(|| {
    let minutes = [1, 5, 15, 30, 60, 120, 240, 480, 720, 1440, 1440, 1440];
    let minutes = minutes.map(|it| Duration::from_secs(it * 60));
    let mut waits = vec![Duration::from_secs(15)];
    waits.extend(minutes);
    Ladder::new(waits)
});

/// How soon a mail is looked at again that waits for a relay to be configured.
const NO_RELAY: Duration = Duration::from_secs(300);

/// How often a job shows that it goes on while the relay is awaited.
const BEAT: Duration = Duration::from_secs(5);

/// Tries to write down what a relay answered, a second after each other.
const SETTLE_TRIES: u32 = 20;

/// What is known of a delivery before its attempt.
struct Loaded {
    delivery: DeliveryRow,
    notification: NotificationRow,
    template: Option<VersionRow>,
    /// Why it is not to be sent.
    refused: Option<String>,
}

/// Hands the mail of a delivery to the relay, once.
pub(crate) async fn deliver(service: Service, run: Run<Deliver>) -> Result<(), JobError> {
    let run = Arc::new(run);
    let scope = TenantScope::system(run.tenant, "deliver notifications");
    let (db, id) = (service.db.tenant(&scope), run.delivery);
    let loaded = db.read("load delivery", async move |tx| load(tx, id).await);
    let Some(loaded) = loaded.await? else {
        return Ok(());
    };
    let Loaded {
        delivery,
        notification,
        ..
    } = &loaded;
    if delivery.state != State::Queued {
        return Ok(());
    }
    if let Some(decision) = decided(&loaded) {
        return decide(&db, &loaded, decision).await;
    }
    let Some(relay) = service.relay.clone() else {
        let message = "no relay is configured: DOTMAC_SMTP_HOST is not set";
        return Err(JobError::again_after(
            NO_RELAY,
            "email_not_configured",
            message,
        ));
    };
    let (content, address) = match mail(&service, &relay, &loaded) {
        Ok(mail) => mail,
        Err(problem) => {
            let outcome = Outcome {
                answer: Some(problem),
                ..Outcome::decided(State::Failed, "content")
            };
            return decide(&db, &loaded, outcome).await;
        }
    };
    let attempt = AttemptUnderWay {
        db: db.clone(),
        run: Arc::clone(&run),
        relay: relay.clone(),
        began: Instant::now(),
        at: Moment::now(),
        delivery: delivery.clone(),
        notification: notification.clone(),
    };
    let begun = match Box::pin(beating(&run, relay.begin(&address))).await {
        Ok(begun) => begun,
        Err(fault) => return attempt.failed(fault, None).await,
    };
    let since = Moment::now();
    let marking = {
        let run = Arc::clone(&run);
        db.transaction("begin to send mail", async move |tx| {
            run.guard(tx).await?;
            deliveries::begin_sending(tx, id, since).await
        })
    };
    match marking.await {
        Ok(true) => {}
        Ok(false) => {
            begun.take_back().await;
            return Ok(());
        }
        Err(error) => {
            begun.take_back().await;
            return Err(error.into());
        }
    }
    match beating(&run, begun.finish(&content)).await {
        Ok(reply) => attempt.accepted(&reply, since).await,
        Err(fault) => attempt.failed(fault, Some(since)).await,
    }
}

/// Shows that the job goes on while `work` does.
async fn beating<T>(run: &Run<Deliver>, work: impl Future<Output = T>) -> T {
    let mut work = std::pin::pin!(work);
    loop {
        tokio::select! {
            done = &mut work => return done,
            () = sleep(BEAT) => run.beat(),
        }
    }
}

async fn load(tx: &mut TenantTx, id: DeliveryId) -> Result<Option<Loaded>, DbError> {
    let Some(delivery) = deliveries::find(tx, id).await? else {
        return Ok(None);
    };
    let Some(notification) = notifications::find(tx, delivery.notification_id).await? else {
        return Ok(None);
    };
    let template = templates::version_of(tx, &notification).await?;
    let refused = judge(tx, &delivery, &notification.category).await?;
    Ok(Some(Loaded {
        delivery,
        notification,
        template,
        refused,
    }))
}

/// What is decided without an attempt.
fn decided(loaded: &Loaded) -> Option<Outcome> {
    let expires_at = loaded.notification.expires_at;
    if loaded.delivery.sending_since.is_some() {
        // The process ended while the relay had the content.
        Some(Outcome::decided(State::Unknown, "interrupted"))
    } else if expires_at.is_some_and(|it| it <= Moment::now()) {
        Some(Outcome::decided(State::Cancelled, "expired"))
    } else {
        let reason = loaded.refused.clone()?;
        Some(Outcome::decided(State::Suppressed, reason))
    }
}

async fn decide(db: &TenantDb, loaded: &Loaded, outcome: Outcome) -> Result<(), JobError> {
    let settled = Settled {
        delivery: loaded.delivery.clone(),
        notification: loaded.notification.clone(),
        sending_since: loaded.delivery.sending_since,
        outcome,
        attempt: None,
        is_lasting: false,
    };
    settle(db, settled).await.map_err(of_database)?;
    Ok(())
}

/// The mail as it is sent, and its recipient.
fn mail(
    service: &Service,
    relay: &Relay,
    loaded: &Loaded,
) -> Result<(Vec<u8>, lettre::Address), String> {
    let Loaded {
        delivery,
        notification,
        template,
        ..
    } = loaded;
    let to = EmailAddress::parse(&delivery.recipient).ok_or("the recipient has no address")?;
    let token = delivery.unsubscribe_token.as_deref();
    let unsubscribe = token.and_then(|it| service.settings.unsubscribe_url(it));
    let said = service
        .content(notification)
        .map_err(|error| error.to_string())?;
    let said = match template {
        None if notification.template_id.is_some() => {
            return Err(ContentError::NoTemplate.to_string());
        }
        None => said,
        Some(version) => {
            let recipient = Recipient {
                address: &delivery.recipient,
                name: delivery.name.as_deref(),
                unsubscribe_url: unsubscribe.as_deref(),
            };
            let rendered = said.rendered(&templates::sources(version), &recipient);
            rendered.map_err(|fault| ContentError::Render(fault).to_string())?
        }
    };
    build(MailParts {
        from: relay.from(),
        reply_to: relay.reply_to(),
        to: &to,
        name: delivery.name.as_deref(),
        message_id: &delivery.id.to_string(),
        at: notification.created_at,
        text: said.mail(),
        unsubscribe: unsubscribe.as_deref(),
        category: notification
            .purpose
            .as_deref()
            .unwrap_or(&notification.category),
    })
}

/// An attempt, until its outcome is written down.
struct AttemptUnderWay {
    db: TenantDb,
    run: Arc<Run<Deliver>>,
    relay: Relay,
    began: Instant,
    at: Moment,
    delivery: DeliveryRow,
    notification: NotificationRow,
}

impl AttemptUnderWay {
    /// The relay has taken the mail.
    async fn accepted(self, reply: &Reply, since: Moment) -> Result<(), JobError> {
        let record = self.answered(reply);
        let outcome = Outcome {
            state: State::Accepted,
            reason: None,
            status: Some(i32::from(reply.code)),
            answer: Some(reply.to_string()),
            next_attempt_at: None,
        };
        self.settle(outcome, record, Some(since), false).await
    }

    /// The relay has not taken it, or nobody knows.
    async fn failed(self, fault: Fault, since: Option<Moment>) -> Result<(), JobError> {
        let reason = format!("smtp_{}", fault.stage.as_str());
        let record = match &fault.reply {
            Some(reply) => self.answered(reply).because(&*reason),
            None => Attempt::failed(self.at, self.began.elapsed(), fault.to_string())
                .to(Some(self.relay.address())),
        };
        let (state, wait) = match fault.verdict() {
            Verdict::Again => match LADDER.wait(self.run.attempt(), None) {
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
        self.settle(outcome, record, since, is_lasting).await?;
        match wait {
            // The words of the relay may have the address in them; they are with the delivery.
            Some(wait) => {
                let code = status.map_or_else(String::new, |it| format!(" ({it})"));
                let message = format!("the relay did not take the mail{code}");
                Err(JobError::again_after(wait, "mail_not_taken", message))
            }
            None => Ok(()),
        }
    }

    fn answered(&self, reply: &Reply) -> Attempt {
        let words = reply.words.as_bytes();
        let (took, code) = (self.began.elapsed(), i32::from(reply.code));
        Attempt::answered(self.at, took, code, [], words).to(Some(self.relay.address()))
    }

    /// Writes it down. What a relay has answered must not be forgotten because the database is away for a moment.
    async fn settle(
        self,
        outcome: Outcome,
        record: Attempt,
        sending_since: Option<Moment>,
        is_lasting: bool,
    ) -> Result<(), JobError> {
        metrics::attempted(Channel::Email, self.began.elapsed());
        let settled = Settled {
            delivery: self.delivery,
            notification: self.notification,
            sending_since,
            outcome,
            attempt: Some(record),
            is_lasting,
        };
        let mut tries = 0;
        loop {
            tries += 1;
            match settle(&self.db, settled.clone()).await {
                Ok(_) => return Ok(()),
                Err(NotificationsError::Db(error))
                    if tries < SETTLE_TRIES && sending_since.is_some() && may_be_mended(&error) =>
                {
                    self.run.beat();
                    sleep(Duration::from_secs(1)).await;
                }
                Err(error) => return Err(of_database(error)),
            }
        }
    }
}

/// What the database did not do because it is away counts as no attempt.
fn of_database(error: NotificationsError) -> JobError {
    match error {
        NotificationsError::Db(error) => error.into(),
        error => error.into(),
    }
}

/// Whether another try may write it down; one more of what was written changes nothing.
fn may_be_mended(error: &DbError) -> bool {
    error.retry_after().is_some() || matches!(error, DbError::OutcomeUnknown(_))
}
