//! Notifications: mail and the inbox of each user, with templates, preferences and suppressions.
//!
//! Two modules: [`Smtp`], the relay that mail is handed to, and [`Notifications`], everything else. A request goes down once,
//! from `routes` over `rules` to `store`, and comes up once. `rules::deliver` is where a mail meets the relay; `queue` is the
//! contract by which other services send theirs. docs/services/notifications.md is the page about it.

mod audit;
mod bodies;
mod channel;
mod command;
mod content;
mod error;
mod events;
mod jobs;
mod metrics;
mod next_hop;
mod queue;
mod readable;
mod render;
mod routes;
mod rules;
mod service;
mod settings;
mod smtp;
mod store;
mod watch;
mod workers;

use std::{sync::Arc, time::Duration};

use dotmac_platform::{
    db::TenantTx, jobs::Run, mail::SharedMailQueue, migrations, permissions, prelude::*,
    supervision::Schedule,
};
use tokio::sync::Semaphore;

use channel::Channel;
use command::NotificationsCommand;
use jobs::{CallUrl, Deliver, Publish, SendPush, SendText};
pub use next_hop::SmsProvider;
use next_hop::{SmsRoute, SmsSettings};
use rules::together::Together;
use service::{Inner, Service};
pub use settings::NotificationsSettings;
pub use smtp::{AUTHENTICATION_FAILED, RELAY_REFUSES, Smtp, SmtpSettings, TLS_FAILED};

permissions! {
    /// Read the tenant's notifications and deliveries.
    pub Read = "notifications.notifications.read";
    /// Send notifications, and retry and cancel deliveries.
    pub Write = "notifications.notifications.write";
    /// Send notifications of the category `transactional`, which preferences do not switch off.
    pub WriteTransactional = "notifications.transactional.write";
    /// Read templates, and render them.
    pub ReadTemplates = "notifications.templates.read";
    /// Add, change and delete templates.
    pub WriteTemplates = "notifications.templates.write";
    /// Read which recipients are sent nothing.
    pub ReadSuppressions = "notifications.suppressions.read";
    /// Let recipients be sent messages again.
    pub WriteSuppressions = "notifications.suppressions.write";
    /// Read mail that is held in development.
    pub ReadOutbox = "notifications.outbox.read";
}

/// Mails whose files are in memory at once: each some 17 MiB, with what they become.
const MOST_ATTACHING: usize = 4;

/// How often what is old is deleted.
const SWEEP: Duration = Duration::from_secs(600);

/// The module.
pub struct Notifications;

impl Module for Notifications {
    const NAME: &'static str = "notifications";
    type Settings = NotificationsSettings;

    fn manifest() -> Manifest {
        let manifest = Manifest::new("Mail and inboxes, templates, preferences, suppressions.")
            .migrations(migrations!("migrations"))
            .permissions(PERMISSIONS)
            .jobs::<Deliver>()
            .jobs::<SendText>()
            .jobs::<SendPush>()
            .jobs::<CallUrl>()
            .jobs::<Publish>()
            .audits(audit::ACTS)
            .command::<NotificationsCommand>();
        events::declare(manifest)
    }

    fn mount(settings: NotificationsSettings, on: &mut Mount<'_>) -> Result<(), MountError> {
        let db = on.db();
        let every = settings.status_interval;
        let relay = on.shared::<smtp::Relay>().ok();
        let has_relay = relay.is_some();
        let (push_key, webhook_key) = (
            on.secret(&settings.push_key),
            on.secret(&settings.webhook_key),
        );
        let report_secret = on.secret(&settings.report_secret);
        let sms = sms_route(&settings, on);
        let service = Service::new(Inner {
            open_db: db.system("find delivery by its unsubscribe link"),
            db,
            settings,
            relay,
            directory: on.later(),
            files: on.later(),
            attaching: Arc::new(Semaphore::new(MOST_ATTACHING)),
            sealer: on.optional_sealer(),
            egress: on.egress(),
            sms,
            push_key,
            webhook_key,
            report_secret,
            together: Together::default(),
        });
        let delivering = service.clone();
        on.job(async move |run: Run<Deliver>| {
            Box::pin(rules::deliver::deliver(delivering, run)).await
        })?;
        let texting = service.clone();
        on.job(async move |run: Run<SendText>| Box::pin(rules::call::deliver(texting, run)).await)?;
        let pushing = service.clone();
        on.job(async move |run: Run<SendPush>| Box::pin(rules::call::deliver(pushing, run)).await)?;
        let calling = service.clone();
        on.job(async move |run: Run<CallUrl>| Box::pin(rules::call::deliver(calling, run)).await)?;
        let publishing = service.clone();
        on.job_in_transaction(async move |tx: &mut TenantTx, run: Arc<Run<Publish>>| {
            rules::publish::publish(tx, &publishing, &run).await
        })?;
        let swept = service.clone();
        on.single_worker("sweep", Schedule::Every(SWEEP), move |context, _| {
            workers::sweep(swept.clone(), context)
        })
        .add()?;
        watch::add(on, every, has_relay)?;
        let channels = Channel::ALL
            .iter()
            .copied()
            .filter(|it| matches!(it, Channel::Email | Channel::InApp) || service.has(*it));
        metrics::begin(&channels.collect::<Vec<_>>());
        on.share::<SharedMailQueue>(Arc::new(service.clone()));
        on.provide(service);
        routes::mount(on);
        Ok(())
    }
}

/// The way to the provider of text messages, if there is one.
fn sms_route(settings: &NotificationsSettings, on: &Mount<'_>) -> Option<SmsRoute> {
    let provider = settings.sms_provider?;
    let twilio = || url::Url::parse("https://api.twilio.com").ok();
    let secret = on.secret(&settings.sms_secret);
    Some(SmsRoute(Arc::new(SmsSettings {
        provider,
        url: settings.sms_url.clone().or_else(twilio)?,
        account: settings.sms_account.clone(),
        from: settings.sms_from.clone(),
        secret,
    })))
}
