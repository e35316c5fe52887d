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
    async fn run(self, on: CommandContext) -> Result<(), Exit> {
        let db = on.db().await?.system("count notes for an operator");
        let counted = db.transaction("count notes", async |tx| store::count_all(tx).await);
        println!("{}", counted.await.map_err(|error| on.failed(error))?);
        Ok(())
    }
}
