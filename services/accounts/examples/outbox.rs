//! Accounts with a module that takes their mails and writes them to a file: what tests of mail flows read.
//!
//! It shows how a module fulfils the contract `dotmac_platform::mail`. A mail in a file is as good as the account that it
//! is for: this is no program to operate.

use std::{io::Write as _, path::PathBuf, process::ExitCode, sync::Arc};

use dotmac_accounts::Accounts;
use dotmac_platform::{
    Platform, build_info,
    db::{TenantId, Tx},
    mail::{Mail, MailContent, MailError, MailId, MailQueue, Mailed, SharedMailQueue},
    prelude::*,
    settings::fixed,
};
use futures_util::future::BoxFuture;
use serde_json::json;

dotmac_platform::settings! {
    title: "Outbox", prefix: "OUTBOX_";
    /// Where mails are written to.
    struct OutboxSettings {
        /// A file, to which a line of JSON is added for each mail.
        path: PathBuf { default: fixed("outbox.ndjson") }
    }
}

struct Outbox;

struct File(PathBuf);

impl MailQueue for File {
    fn queue<'c>(
        &'c self,
        tx: &'c mut Tx,
        tenant: TenantId,
        mail: Mail,
    ) -> BoxFuture<'c, Result<Mailed, MailError>> {
        let data = match mail.content {
            MailContent::Template { data, .. } => data,
            MailContent::Written { text, .. } => json!({ "text": text }),
        };
        let line = json!({
            "purpose": mail.purpose,
            "to": mail.to.as_str(),
            "user": mail.user,
            "tenant": tenant,
            "data": data,
        });
        let path = self.0.clone();
        tx.after_commit(move || {
            let opened = std::fs::OpenOptions::new()
                .create(true)
                .append(true)
                .open(path);
            if let Ok(mut file) = opened {
                writeln!(file, "{line}").ok();
            }
        });
        Box::pin(std::future::ready(Ok(Mailed::Held(MailId::new()))))
    }

    fn has_relay(&self) -> bool {
        false
    }
}

impl Module for Outbox {
    const NAME: &'static str = "outbox";
    type Settings = OutboxSettings;

    fn manifest() -> Manifest {
        Manifest::new("Writes mails to a file, for tests.")
    }

    fn mount(settings: OutboxSettings, on: &mut Mount<'_>) -> Result<(), MountError> {
        on.share::<SharedMailQueue>(Arc::new(File(settings.path)));
        Ok(())
    }
}

fn main() -> ExitCode {
    Platform::new("outbox", env!("CARGO_PKG_VERSION"))
        .build(build_info!())
        .module::<Accounts>()
        .module::<Outbox>()
        .main()
}
