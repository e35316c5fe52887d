//! The module `smtp`: the relay that mail is handed to.
//!
//! It stands alone, since its keys are `DOTMAC_SMTP_…`, and what it shares is a [`Relay`]: a sender takes a
//! session, hands over one message verb by verb, and gets the relay's own words. The component `smtp` of `/ready` is there
//! once a relay is configured, and says whether it can be used.

mod message;
mod pool;
mod relay;
mod reply;
mod session;
mod settings;

use std::{convert::Infallible, time::Duration};

use dotmac_platform::{
    prelude::*,
    supervision::{Reason, WorkerContext},
};
use tracing::{info, warn};

pub(crate) use message::{MAX_MAIL, MailFile, MailParts, MailText, build};
pub(crate) use relay::{Envelope, Relay};
use reply::Stage;
pub(crate) use reply::{Fault, Reply, Verdict, is_lasting};
pub use settings::SmtpSettings;

/// The relay refuses the user name or the password.
pub const AUTHENTICATION_FAILED: Reason = Reason::new("authentication_failed");
/// The relay does not prove to be the one that was asked for, or has no TLS.
pub const TLS_FAILED: Reason = Reason::new("tls_failed");
/// The relay answers, and takes no mail.
pub const RELAY_REFUSES: Reason = Reason::new("relay_refuses");

/// The module.
pub struct Smtp;

impl Module for Smtp {
    const NAME: &'static str = "smtp";
    type Settings = SmtpSettings;

    fn manifest() -> Manifest {
        Manifest::new("The mail relay.")
    }

    fn mount(settings: SmtpSettings, on: &mut Mount<'_>) -> Result<(), MountError> {
        let (username, password) = (on.secret(&settings.username), on.secret(&settings.password));
        let every = settings.check_interval;
        let relay = Relay::new(&settings, username, password)
            .map_err(|problem| MountError::other(format!("the relay cannot be used: {problem}")))?;
        if let Some(relay) = relay {
            let watched = relay.clone();
            on.worker("", Schedule::Every(every), move |context| {
                watch(watched.clone(), context)
            })
            .optional()
            .run_limit(Duration::from_secs(600))
            .add()?;
            let tried = relay.clone();
            on.check_connection("smtp", move || async move {
                let greeting = tried.probe().await.map_err(|fault| fault.advice())?;
                Ok(format!("{} accepts mail: {greeting}", tried.address()))
            });
            on.share(relay);
        }
        Ok(())
    }
}

/// Says how the relay is: whether it can be used now, up to `EHLO` and `AUTH`. A relay that cannot be is no fault of ours.
async fn watch(relay: Relay, context: WorkerContext) -> Result<(), Infallible> {
    // What was sent just now says more.
    let found = match relay.is_known_good() {
        true => Ok(()),
        false => relay.probe().await.map(drop),
    };
    let (fault, life) = (found.err(), context.lifeline());
    let reason = fault.as_ref().map(reason);
    if relay.is_news(reason.map(|it| it.as_str())) {
        match &fault {
            Some(fault) => warn!(
                relay = relay.address(),
                error = fault.advice(),
                "mail cannot be sent; retrying"
            ),
            None => info!(relay = relay.address(), "the relay accepts mail"),
        }
    }
    match reason {
        Some(reason) => life.unavailable(reason),
        None => life.ready(Serving::default()),
    }
    Ok(())
}

/// The word for it in `/ready`.
fn reason(fault: &Fault) -> Reason {
    match fault.stage {
        Stage::Connect => Reason::UNREACHABLE,
        Stage::Tls => TLS_FAILED,
        Stage::Auth => AUTHENTICATION_FAILED,
        _ => RELAY_REFUSES,
    }
}
