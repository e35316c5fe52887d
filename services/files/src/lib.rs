//! Files: checked uploads, downloads, folders, trash and quotas.
//!
//! Names, folders and states are in the database, bytes in a directory or a store that speaks S3. A request goes down once,
//! from `routes` over `rules` to `store`, and comes up once; `upload` takes in bytes, `storage` keeps them, `check` compares both.
//! docs/services/files.md is the page about it.

mod audit;
mod check;
mod command;
mod decoding;
mod digest;
mod direct;
mod error;
mod events;
mod finishing;
mod jobs;
mod media;
mod metrics;
mod migrate;
mod names;
mod reading;
mod rendering;
mod resumable;
mod routes;
mod rules;
mod scanner;
mod scanning;
mod service;
mod settings;
mod storage;
mod store;
mod upload;
mod workers;
mod writing;

use std::{sync::Arc, time::Duration};

use dotmac_platform::{
    files::SharedFileReader, jobs::Run, migrations, permissions, prelude::*, supervision::Schedule,
};

use command::FilesCommand;
pub(crate) use error::FilesError;
use events::{FileCreated, FileDeleted, FileQuarantined, FileUpdated};
use jobs::{Render, Scan};
use service::Service;
pub use settings::{FilesSettings, Provider};
use storage::Storage;

permissions! {
    /// List, find and read the tenant's files.
    pub Read = "files.files.read";
    /// Upload, change, move, copy and restore the tenant's files.
    pub Write = "files.files.write";
    /// Delete the tenant's files.
    pub Delete = "files.files.delete";
    /// Create and revoke links by which a file is read without credentials; needs `files.files.read` too.
    pub WriteLinks = "files.links.write";
}

/// How often the store is written to and read, and clamd asked, to know how they are.
const PROBE: Duration = Duration::from_secs(15);

/// The longest that the check of a large store may take.
const CHECK: Duration = Duration::from_secs(24 * 3600);

/// The module.
pub struct Files;

impl Module for Files {
    const NAME: &'static str = "files";
    type Settings = FilesSettings;

    fn manifest() -> Manifest {
        Manifest::new("Files: uploads, downloads, folders, trash and quotas.")
            .migrations(migrations!("migrations"))
            .permissions(PERMISSIONS)
            .emits::<FileCreated>()
            .emits::<FileUpdated>()
            .emits::<FileDeleted>()
            .emits::<FileQuarantined>()
            .jobs::<Render>()
            .jobs::<Scan>()
            .audits(audit::ACTS)
            .command::<FilesCommand>()
    }

    fn mount(settings: FilesSettings, on: &mut Mount<'_>) -> Result<(), MountError> {
        let (access, secret) = (
            on.secret(&settings.access_key),
            on.secret(&settings.secret_key),
        );
        let storage = Storage::new(&settings, access, secret);
        let service = Service::new(on.db(), settings.clone(), storage);
        let probed = service.clone();
        on.worker("storage", Schedule::Every(PROBE), move |context| {
            workers::probe(probed.clone(), context)
        })
        .add()?;
        let cleared = service.clone();
        on.worker("clear", Schedule::Continuous, move |context| {
            workers::clear(cleared.clone(), context)
        })
        .add()?;
        let (swept, every) = (service.clone(), Schedule::Every(settings.sweep_interval));
        on.single_worker("sweep", every, move |context, _| {
            workers::sweep(swept.clone(), context)
        })
        .add()?;
        let (checked, every) = (service.clone(), Schedule::Every(settings.check_interval));
        on.single_worker("check", every, move |context, _| {
            workers::check(checked.clone(), context)
        })
        .run_limit(CHECK)
        .add()?;
        let renders = service.clone();
        on.job(async move |run: Run<Render>| Box::pin(rendering::render(renders, run)).await)?;
        let scans = service.clone();
        on.job(async move |run: Run<Scan>| Box::pin(scanning::scan(scans, run)).await)?;
        if service.scanner.is_some() {
            let pinged = service.clone();
            on.worker("scanner", Schedule::Every(PROBE), move |context| {
                workers::ping(pinged.clone(), context)
            })
            .add()?;
        }
        on.share::<SharedFileReader>(Arc::new(service.clone()));
        on.provide(service);
        on.routes("/files", |routes| routes::declare(routes, &settings));
        on.root_routes("/f", routes::declare_public);
        Ok(())
    }
}
