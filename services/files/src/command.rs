//! `dotmac files …`: what an operator can ask and do without the daemon.

use dotmac_platform::{
    Exit,
    module::{CommandContext, ModuleCommand},
    secrets::SecretWatch,
};

use crate::{
    FilesSettings, Provider,
    check::{self, Deletes, Options, Report},
    decoding, migrate,
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
    /// Copy all bytes into the store that the settings name, from the one that was used before. May be repeated: what is there
    /// is not copied again. Exit 1 if some are missing or changed.
    Migrate {
        /// The provider that was used before. Its settings are read too: DOTMAC_FILES_PATH, or DOTMAC_FILES_BUCKET and the keys.
        #[arg(long, value_enum)]
        from: Before,
    },
}

/// Where the bytes are before they are copied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Before {
    /// The directory.
    Local,
    /// The bucket.
    S3,
}

impl Before {
    const fn provider(self) -> Provider {
        match self {
            Self::Local => Provider::Local,
            Self::S3 => Provider::S3,
        }
    }
}

impl ModuleCommand for FilesCommand {
    async fn run(self, on: CommandContext) -> Result<(), Exit> {
        match self {
            Self::Check { repair } => {
                let opened = Opened::of(&on, settings(&on)?).await?;
                check(&on, &opened.service, repair).await
            }
            Self::Decode => decoding::run().map_err(|error| {
                eprintln!("{}", dotmac_causes::chain(&error));
                Exit::Unavailable
            }),
            Self::Migrate { from } => {
                let settings = settings(&on)?;
                can_migrate(&settings, from)?;
                let opened = Opened::of(&on, settings).await?;
                let from = opened.storage_of(from.provider());
                migrate(&on, &opened.service, &from).await
            }
        }
    }
}

/// The service, for a command.
struct Opened {
    service: Service,
    access: SecretWatch,
    secret: SecretWatch,
}

impl Opened {
    async fn of(on: &CommandContext, settings: FilesSettings) -> Result<Self, Exit> {
        let db = on.db().await?;
        let access = on.secret(&settings.access_key).await?;
        let secret = on.secret(&settings.secret_key).await?;
        let storage = Storage::new(&settings, access.clone(), secret.clone());
        Ok(Self {
            service: Service::new(db, settings, storage),
            access,
            secret,
        })
    }

    /// The store of another provider.
    fn storage_of(&self, provider: Provider) -> Storage {
        let (access, secret) = (self.access.clone(), self.secret.clone());
        Storage::of(provider, &self.service.settings, access, secret)
    }
}

fn settings(on: &CommandContext) -> Result<FilesSettings, Exit> {
    on.settings::<FilesSettings>().cloned().ok_or_else(|| {
        eprintln!("the module `files` is switched off: DOTMAC_FILES_ENABLED=false");
        Exit::Settings
    })
}

async fn check(on: &CommandContext, service: &Service, repair: bool) -> Result<(), Exit> {
    let options = Options {
        deletes_orphans: if repair { Deletes::All } else { Deletes::None },
        corrects_usage: repair,
    };
    let report = check::run(service, options, &|| {}).await;
    let report = report.map_err(|error| on.failed(error))?;
    print(&report, repair);
    let is_repaired = repair && report.missing.is_empty() && report.miscounted.is_empty();
    if report.is_clean() || is_repaired {
        Ok(())
    } else {
        Err(Exit::Failure)
    }
}

/// Whether the settings name two stores.
fn can_migrate(settings: &FilesSettings, from: Before) -> Result<(), Exit> {
    if settings.provider.is_local() == from.provider().is_local() {
        eprintln!(
            "DOTMAC_FILES_PROVIDER is `{}`, the same as `--from`: set it to the new provider",
            settings.provider
        );
        return Err(Exit::Settings);
    }
    if from == Before::S3 && settings.bucket.is_none() {
        eprintln!("DOTMAC_FILES_BUCKET is not set: it names the store");
        return Err(Exit::Settings);
    }
    Ok(())
}

async fn migrate(on: &CommandContext, service: &Service, from: &Storage) -> Result<(), Exit> {
    let report = migrate::run(service, from).await;
    let report = report.map_err(|error| on.failed(error))?;
    println!("{} blobs copied, {} bytes", report.copied, report.bytes);
    println!("{} blobs were there", report.present);
    line(
        report.failed.len(),
        "blobs that are missing or changed in the store before",
        "",
    );
    names(&report.failed);
    if report.failed.is_empty() {
        Ok(())
    } else {
        Err(Exit::Failure)
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
