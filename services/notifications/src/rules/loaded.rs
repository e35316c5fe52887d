//! A delivery before its attempt: what it says, what is sent with it, and what is decided without an attempt.

use std::{
    collections::{HashMap, hash_map::Entry},
    time::Duration,
};

use dotmac_platform::{
    db::{DbError, TenantDb, TenantTx, types::Moment},
    jobs::JobError,
};

use super::{
    attempt::of_database,
    judge::{Judgement, judge_knowing},
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
        suppressions::{self, Recipients},
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
    /// Reads a digest with all that joined it, in the transaction in which it is judged; `None` if it was deleted. Nothing joins it
    /// any more from here on.
    pub(super) async fn read_digest(
        db: &TenantDb,
        id: DeliveryId,
    ) -> Result<Option<Self>, DbError> {
        let closing = db.transaction("close digest", async move |tx| digests::close(tx, id).await);
        let closed: Result<(), DbError> = closing.await;
        closed?;
        let loading = db.read("load delivery", async move |tx| {
            let Some(mut loaded) = load(tx, id).await? else {
                return Ok(None);
            };
            loaded.members = members(tx, id).await?;
            Ok(Some(loaded))
        });
        loading.await
    }

    /// The content for the recipient.
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

/// A delivery without what is sent with it, judged now; `None` if it was deleted.
pub(super) async fn load(tx: &mut TenantTx, id: DeliveryId) -> Result<Option<Loaded>, DbError> {
    Ok(load_all(tx, vec![id]).await?.remove(&id))
}

/// The same of several deliveries, as far as they are there.
pub(super) async fn load_all(
    tx: &mut TenantTx,
    ids: Vec<DeliveryId>,
) -> Result<HashMap<DeliveryId, Loaded>, DbError> {
    let deliveries = deliveries::all(tx, ids).await?;
    let mut about: Vec<_> = deliveries.iter().map(|it| it.notification_id).collect();
    about.sort_unstable();
    about.dedup();
    let notifications = notifications::all(tx, about).await?;
    let notifications: HashMap<_, _> = notifications.into_iter().map(|it| (it.id, it)).collect();
    let mails = deliveries.iter().filter(|it| it.channel == Channel::Email);
    let mails = mails.map(|it| it.notification_id).collect();
    let attachments = attachments::of_all(tx, mails).await?;
    let mut recipients = Recipients::default();
    for it in &deliveries {
        if let Some(about) = notifications.get(&it.notification_id) {
            recipients.add(it.channel, &it.recipient_key, &about.category);
        }
    }
    let suppressions = suppressions::of_recipients(tx, recipients).await?;
    let mut templates = HashMap::<_, Option<VersionRow>>::new();
    let mut loaded = HashMap::new();
    for delivery in deliveries {
        let Some(notification) = notifications.get(&delivery.notification_id).cloned() else {
            continue;
        };
        let template = match (notification.template_id, notification.template_version) {
            (Some(id), Some(number)) => match templates.entry((id, number)) {
                Entry::Occupied(known) => known.get().clone(),
                Entry::Vacant(place) => {
                    let version = templates::version_of(tx, &notification).await?;
                    place.insert(version).clone()
                }
            },
            _ => None,
        };
        let subscription = match delivery.channel {
            Channel::WebPush => match delivery.recipient_key.parse() {
                Ok(id) => push::find(tx, SubscriptionId::from_uuid(id)).await?,
                Err(_) => None,
            },
            _ => None,
        };
        let files = attachments.get(&notification.id);
        let files = files.filter(|_| delivery.channel == Channel::Email);
        let judgement = judge_knowing(tx, &delivery, &notification, &suppressions).await?;
        let it = Loaded {
            template,
            subscription,
            attachments: files.cloned().unwrap_or_default(),
            members: Vec::new(),
            judgement,
            notification,
            delivery,
        };
        loaded.insert(it.delivery.id, it);
    }
    Ok(loaded)
}

/// What waits to be sent with `first`.
async fn members(tx: &mut TenantTx, first: DeliveryId) -> Result<Vec<Member>, DbError> {
    let mut members = Vec::new();
    for delivery in digests::members(tx, first).await? {
        let Some(notification) = notifications::find(tx, delivery.notification_id).await? else {
            continue;
        };
        let template = templates::version_of(tx, &notification).await?;
        members.push(Member {
            delivery,
            notification,
            template,
        });
    }
    Ok(members)
}

/// How long it is until then.
fn left(until: Moment) -> Duration {
    let left = chrono::DateTime::<chrono::Utc>::from(until) - chrono::Utc::now();
    left.to_std().unwrap_or_default()
}
