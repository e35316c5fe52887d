//! A delivery before its attempt: what it says, what is sent with it, and what is decided without an attempt.

use std::time::Duration;

use dotmac_platform::{
    db::{DbError, TenantDb, TenantTx, types::Moment},
    jobs::JobError,
};

use super::{
    attempt::of_database,
    judge::{Judgement, judge},
    settle::{Settled, settle},
    templates,
};
use crate::{
    channel::{Channel, State},
    content::{Content, ContentError, Recipient},
    service::Service,
    store::{
        attachments::{self, FileId},
        deliveries::{self, DeliveryId, DeliveryRow, Outcome},
        digests,
        notifications::{self, NotificationRow},
        push::{self, SubscriptionId, SubscriptionRow},
        templates::VersionRow,
    },
};

/// What is known of a delivery before its attempt.
pub(super) struct Loaded {
    pub(super) delivery: DeliveryRow,
    pub(super) notification: NotificationRow,
    template: Option<VersionRow>,
    /// The browser that a push message is for, if it is there still.
    pub(super) subscription: Option<SubscriptionRow>,
    /// The files that a mail has attached to it.
    pub(super) attachments: Vec<FileId>,
    /// What is sent with it.
    members: Vec<Member>,
    judgement: Judgement,
}

/// A delivery that is sent with another.
struct Member {
    delivery: DeliveryRow,
    notification: NotificationRow,
    template: Option<VersionRow>,
}

impl Loaded {
    /// Reads it, in the transaction in which it is judged; `None` if it was deleted. Of a digest with all that joined it: nothing
    /// does any more from here on.
    pub(super) async fn read(
        db: &TenantDb,
        id: DeliveryId,
        is_digest: bool,
    ) -> Result<Option<Self>, DbError> {
        if is_digest {
            let closing =
                db.transaction("close digest", async move |tx| digests::close(tx, id).await);
            let closed: Result<(), DbError> = closing.await;
            closed?;
        }
        let loading = db.read("load delivery", async move |tx| {
            load(tx, id, is_digest).await
        });
        loading.await
    }

    /// What the recipient is told.
    ///
    /// # Errors
    ///
    /// Why it cannot be made.
    pub(super) fn said(
        &self,
        service: &Service,
        unsubscribe: Option<&str>,
    ) -> Result<Content, String> {
        let of_it = (&self.delivery, &self.notification, self.template.as_ref());
        said(service, of_it, unsubscribe)
    }

    /// The same of each that is sent with it.
    ///
    /// # Errors
    ///
    /// Why one cannot be made.
    pub(super) fn said_with_it(
        &self,
        service: &Service,
        unsubscribe: Option<&str>,
    ) -> Result<Vec<Content>, String> {
        let members = self.members.iter();
        members
            .map(|it| {
                let of_it = (&it.delivery, &it.notification, it.template.as_ref());
                said(service, of_it, unsubscribe)
            })
            .collect()
    }

    /// What is decided without an attempt; `None` if there is to be one.
    fn decided(&self) -> Option<Outcome> {
        let expires_at = self.notification.expires_at;
        if self.delivery.sending_since.is_some() {
            // The process ended while the next hop had the content.
            Some(Outcome::decided(State::Unknown, "interrupted"))
        } else if expires_at.is_some_and(|it| it <= Moment::now()) {
            Some(Outcome::decided(State::Cancelled, "expired"))
        } else {
            match &self.judgement {
                Judgement::Send => None,
                Judgement::Never(reason) => {
                    Some(Outcome::decided(State::Suppressed, reason.clone()))
                }
                Judgement::Later(quiet) => Some(Outcome {
                    answer: Some(quiet.words.clone()),
                    next_attempt_at: Some(quiet.until),
                    ..Outcome::decided(State::Queued, "quiet_hours")
                }),
            }
        }
    }

    /// Writes down what was decided; whether anything was, so that there is no attempt.
    pub(super) async fn decide(&self, db: &TenantDb) -> Result<bool, JobError> {
        if self.delivery.state != State::Queued {
            return Ok(true);
        }
        let Some(outcome) = self.decided() else {
            return Ok(false);
        };
        let later = outcome.next_attempt_at;
        self.end(db, outcome).await?;
        match later {
            // The recipient's quiet hours are no failure; they end within a day.
            Some(until) => Err(JobError::again_after(
                left(until),
                "quiet_hours",
                "the recipient has quiet hours",
            )),
            None => Ok(true),
        }
    }

    /// The delivery cannot be made.
    pub(super) async fn fail(
        &self,
        db: &TenantDb,
        reason: &str,
        problem: String,
    ) -> Result<(), JobError> {
        let outcome = Outcome {
            answer: Some(problem),
            ..Outcome::decided(State::Failed, reason)
        };
        self.end(db, outcome).await
    }

    /// The deliveries that are sent with it.
    pub(super) fn members(&self) -> Vec<DeliveryRow> {
        let members = self.members.iter();
        members.map(|it| it.delivery.clone()).collect()
    }

    async fn end(&self, db: &TenantDb, outcome: Outcome) -> Result<(), JobError> {
        let settled = Settled {
            delivery: self.delivery.clone(),
            notification: self.notification.clone(),
            sending_since: self.delivery.sending_since,
            outcome,
            attempt: None,
            is_lasting: false,
            gone: None,
            called: None,
            members: self.members(),
        };
        settle(db, settled).await.map_err(of_database)?;
        Ok(())
    }
}

fn said(
    service: &Service,
    (delivery, notification, template): (&DeliveryRow, &NotificationRow, Option<&VersionRow>),
    unsubscribe: Option<&str>,
) -> Result<Content, String> {
    let said = service
        .content(notification)
        .map_err(|error| error.to_string())?;
    match template {
        None if notification.template_id.is_some() => Err(ContentError::NoTemplate.to_string()),
        None => Ok(said),
        Some(version) => {
            let recipient = Recipient {
                address: &delivery.recipient,
                name: delivery.name.as_deref(),
                unsubscribe_url: unsubscribe,
            };
            let rendered = said.rendered(&templates::sources(version), &recipient);
            rendered.map_err(|fault| ContentError::Render(fault).to_string())
        }
    }
}

async fn load(
    tx: &mut TenantTx,
    id: DeliveryId,
    is_digest: bool,
) -> Result<Option<Loaded>, DbError> {
    let Some(delivery) = deliveries::find(tx, id).await? else {
        return Ok(None);
    };
    let Some(notification) = notifications::find(tx, delivery.notification_id).await? else {
        return Ok(None);
    };
    let template = templates::version_of(tx, &notification).await?;
    let subscription = match delivery.channel {
        Channel::WebPush => match delivery.recipient_key.parse() {
            Ok(id) => push::find(tx, SubscriptionId::from_uuid(id)).await?,
            Err(_) => None,
        },
        _ => None,
    };
    let attachments = match delivery.channel {
        Channel::Email => attachments::of(tx, notification.id).await?,
        _ => Vec::new(),
    };
    let judgement = judge(tx, &delivery, &notification).await?;
    let mut members = Vec::new();
    if is_digest {
        for delivery in digests::members(tx, id).await? {
            let Some(notification) = notifications::find(tx, delivery.notification_id).await?
            else {
                continue;
            };
            let template = templates::version_of(tx, &notification).await?;
            members.push(Member {
                delivery,
                notification,
                template,
            });
        }
    }
    Ok(Some(Loaded {
        delivery,
        notification,
        template,
        subscription,
        attachments,
        members,
        judgement,
    }))
}

/// How long it is until then.
fn left(until: Moment) -> Duration {
    let left = chrono::DateTime::<chrono::Utc>::from(until) - chrono::Utc::now();
    left.to_std().unwrap_or_default()
}
