//! `dotmac accounts keys …`.

use dotmac_platform::{audit::SystemActs as _, db::types::Moment};
use serde_json::json;

use super::{Failure, Operator, print};
use crate::{AccountsError, keys, store};

/// Signing keys.
#[derive(clap::Subcommand)]
pub(crate) enum KeysCommand {
    /// All keys that are accepted: `next` signs later, `active` signs now, `retiring` signs no more.
    List {
        /// Print JSON, a line for each key.
        #[arg(long)]
        json: bool,
    },
    /// Publish a new key; it signs in 11 minutes.
    Rotate,
    /// Accept a key no more, at once and everywhere. All tokens that it signed end.
    Revoke {
        /// The key's id (`kid`).
        // One id of 64 begins with a hyphen: it is base64url.
        #[arg(allow_hyphen_values = true)]
        kid: String,
    },
}

impl Operator {
    pub(super) async fn keys(&self, command: KeysCommand) -> Result<(), Failure> {
        match command {
            KeysCommand::List { json } => {
                let read = self.db.read("list keys", async |c| {
                    store::keys::signing(c, Moment::now()).await
                });
                let (now, keys) = (Moment::now(), read.await?);
                let begun = keys.iter().filter(|key| key.activate_at <= now);
                let newest = begun.map(|key| key.activate_at).max();
                for key in keys {
                    let state = match key.activate_at {
                        at if at > now => "next",
                        at if Some(at) == newest => "active",
                        _ => "retiring",
                    };
                    let (kid, since) = (&key.kid, key.activate_at);
                    if json {
                        print(json!({ "kid": kid, "state": state, "since": since }));
                    } else {
                        print(format_args!("{kid}  {state:8}  since {since}"));
                    }
                }
            }
            KeysCommand::Rotate => {
                let kid = self.key_ring().await?.rotate().await?;
                print(format_args!("{kid} is published; it signs in 11 minutes"));
            }
            KeysCommand::Revoke { kid } => {
                let (changes, revoked) = (self.changes.clone(), kid.clone());
                let done = self.db.act("revoke signing key", async move |tx| {
                    keys::revoke(tx, &changes, &revoked).await
                });
                done.await.map_err(|error| match error {
                    AccountsError::NotFound => Failure::Refused(format!("no key has the id {kid}")),
                    error => error.into(),
                })?;
                print(format_args!("{kid} is not accepted any more"));
            }
        }
        Ok(())
    }
}
