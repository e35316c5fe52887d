//! `dotmac notifications …`: keys for push messages, calls and reports, and reports of mail servers.

use std::io::Read as _;

use aws_lc_rs::rand;
use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use dotmac_platform::{
    Exit,
    module::{CommandContext, ModuleCommand},
};
use zeroize::Zeroizing;

use crate::{
    error::NotificationsError,
    next_hop::{SigningKey, VapidKey},
    rules::report::{self, Taken},
};

/// The largest report that is read, in bytes: what follows is the mail that it is about.
const MOST_REPORT: u64 = 1024 * 1024;

/// Notifications.
#[derive(clap::Parser)]
pub(crate) enum NotificationsCommand {
    /// Make a key pair for push messages, and print it.
    PushKey,
    /// Make a key pair that calls of URLs are signed with, and print it.
    WebhookKey,
    /// Make a secret that relays sign their reports with, and print it.
    ReportSecret,
    /// Take a report of a mail server from standard input: what became of a mail that was accepted.
    Bounce {
        /// The address that the report came to, with the word in it: `bounces+4f1c…@example.com`.
        recipient: String,
    },
}

impl ModuleCommand for NotificationsCommand {
    async fn run(self, on: CommandContext) -> Result<(), Exit> {
        match self {
            Self::PushKey => push_key(),
            Self::WebhookKey => webhook_key(),
            Self::ReportSecret => {
                let secret = Zeroizing::new(STANDARD.encode(*random()?));
                println!("DOTMAC_NOTIFICATIONS_REPORT_SECRET=whsec_{}", *secret);
                Ok(())
            }
            Self::Bounce { recipient } => {
                let taken = take(&on, &recipient).await?;
                match taken {
                    Taken::Changed(id, state) => println!("delivery {id} is {state}"),
                    Taken::Unchanged(id) | Taken::Repeated(id) => {
                        println!("delivery {id} stays as it is");
                    }
                    Taken::Unknown => println!("no mail with that sender is known"),
                    Taken::NoReport => println!("this is no report about a mail"),
                }
                Ok(())
            }
        }
    }
}

/// 32 random bytes.
fn random() -> Result<Zeroizing<[u8; 32]>, Exit> {
    let mut bytes = Zeroizing::new([0; 32]);
    rand::fill(&mut *bytes).map_err(|_| {
        eprintln!("the system gives no random bytes");
        Exit::Failure
    })?;
    Ok(bytes)
}

fn push_key() -> Result<(), Exit> {
    loop {
        let private = Zeroizing::new(URL_SAFE_NO_PAD.encode(*random()?));
        // One of 2^32 is no key of the curve.
        if let Some(key) = VapidKey::read(&private) {
            println!("DOTMAC_NOTIFICATIONS_PUSH_KEY={}", *private);
            println!("# for browsers: {}", key.public());
            return Ok(());
        }
    }
}

fn webhook_key() -> Result<(), Exit> {
    let private = Zeroizing::new(format!("whsk_{}", STANDARD.encode(*random()?)));
    let public = SigningKey::read(&private).and_then(|it| it.public());
    println!("DOTMAC_NOTIFICATIONS_WEBHOOK_KEY={}", *private);
    println!("# for receivers: {}", public.unwrap_or_default());
    Ok(())
}

async fn take(on: &CommandContext, recipient: &str) -> Result<Taken, Exit> {
    let reading = tokio::task::spawn_blocking(|| {
        let mut message = Vec::new();
        let mut input = std::io::stdin().lock().take(MOST_REPORT);
        input.read_to_end(&mut message).map(|_| message)
    });
    let read = reading.await.map_err(|error| error.to_string());
    let message = read.and_then(|it| it.map_err(|error| error.to_string()));
    let message = message.map_err(|problem| {
        eprintln!("the report cannot be read: {problem}");
        Exit::Failure
    })?;
    let db = on.db().await?;
    let open = db.system("take a report about a mail");
    let taken = report::take_mail((&db, &open), recipient, &message).await;
    taken.map_err(|error: NotificationsError| on.failed(error))
}
