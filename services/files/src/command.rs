//! `dotmac files …`: what an operator can ask and do without the daemon.

use dotmac_platform::{
    Exit,
    module::{CommandContext, ModuleCommand},
};

use crate::{
    FilesSettings,
    check::{self, Options, Report},
    decoding,
    service::Service,
    storage::Storage,
};

/// Names that are printed of each kind.
const SHOWN: usize = 20;

/// Files.
#[derive(clap::Parser)]
pub(crate) enum FilesCommand {
    /// Compare the store with the tables. Exit 1 if they differ, unless all of it was repaired.
    Check {
        /// Delete bytes that belong to no file, and correct the numbers of used bytes. Bytes that are missing cannot be repaired.
        #[arg(long)]
        repair: bool,
    },
    /// Decode a file: what the daemon runs, confined, for each one.
    #[command(hide = true)]
    Decode,
}

impl ModuleCommand for FilesCommand {
    async fn run(self, on: CommandContext) -> Result<(), Exit> {
        let repair = match self {
            Self::Check { repair } => repair,
            Self::Decode => {
                return decoding::run().map_err(|error| {
                    eprintln!("{}", dotmac_causes::chain(&error));
                    Exit::Unavailable
                });
            }
        };
        let Some(settings) = on.settings::<FilesSettings>().cloned() else {
            eprintln!("the module `files` is switched off: DOTMAC_FILES_ENABLED=false");
            return Err(Exit::Settings);
        };
        let db = on.db().await?;
        let access = on.secret(&settings.access_key).await?;
        let secret = on.secret(&settings.secret_key).await?;
        let storage = Storage::new(&settings, access, secret);
        let service = Service::new(db, settings, storage);
        let options = Options {
            deletes_orphans: repair,
            corrects_usage: repair,
        };
        let report = check::run(&service, options, &|| {}).await;
        let report = report.map_err(|error| on.failed(error))?;
        print(&report, repair);
        let is_repaired = repair && report.missing.is_empty() && report.miscounted.is_empty();
        if report.is_clean() || is_repaired {
            Ok(())
        } else {
            Err(Exit::Failure)
        }
    }
}

fn print(report: &Report, repair: bool) {
    println!("{} blobs", report.blobs);
    let done = |what: &'static str| if repair { what } else { "" };
    line(
        report.orphans.len(),
        "names in the store that belong to no blob",
        done(", deleted"),
    );
    names(&report.orphans);
    line(
        report.missing.len(),
        "blobs whose bytes are not in the store",
        "",
    );
    names(&report.missing);
    line(
        report.miscounted.len(),
        "blobs that say another number of files than there are",
        "",
    );
    names(&report.miscounted);
    let owners: Vec<String> = report
        .usage
        .iter()
        .map(|(tenant, owner)| format!("{tenant} {owner}"))
        .collect();
    line(
        owners.len(),
        "tenants and owners whose used bytes are others than they say",
        done(", corrected"),
    );
    names(&owners);
}

fn line(number: usize, what: &str, done: &str) {
    let done = if number == 0 { "" } else { done };
    println!("{number} {what}{done}");
}

fn names(names: &[impl ToString]) {
    for name in names.iter().take(SHOWN) {
        println!("  {}", name.to_string());
    }
    if names.len() > SHOWN {
        println!("  and {} more", names.len() - SHOWN);
    }
}
