//! `notes notes …`: what an operator can ask without the daemon.

use dotmac_platform::{
    Exit,
    module::{CommandContext, ModuleCommand},
};

use crate::store;

/// Short texts with tags.
#[derive(clap::Parser)]
pub(crate) enum NotesCommand {
    /// How many notes there are, of all tenants.
    Count,
}

impl ModuleCommand for NotesCommand {
    async fn run(self, on: CommandContext) -> Exit {
        let db = match on.db().await {
            Ok(db) => db.system("count notes for an operator"),
            Err(exit) => return exit,
        };
        let counted = db.transaction("count notes", async |tx| store::count_all(tx).await);
        match counted.await {
            Ok(count) => {
                println!("{count}");
                Exit::Success
            }
            Err(error) => on.failed(&error),
        }
    }
}
