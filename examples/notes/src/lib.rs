//! Notes: short texts with tags, each tenant's for itself.
//!
//! This is the service to copy. A request goes down once, from `routes` over `rules` to `store`, and
//! comes up once.

mod audit;
mod command;
mod error;
mod events;
mod routes;
mod rules;
mod settings;
mod store;
mod tags;
mod token;
mod workers;

use dotmac_platform::{migrations, permissions, prelude::*};

use command::NotesCommand;
pub use error::NotesError;
pub use events::NoteAdded;
pub use settings::NotesSettings;
use token::TokenAuthenticator;

permissions! {
    /// Read notes.
    pub Read = "notes.notes.read";
    /// Add, change and delete notes.
    pub Write = "notes.notes.write";
}

/// The module.
pub struct Notes;

/// The state of handlers.
#[derive(Clone)]
struct Service {
    db: ModuleDb,
    settings: Live<NotesSettings>,
}

impl Module for Notes {
    const NAME: &'static str = "notes";
    type Settings = NotesSettings;

    fn manifest() -> Manifest {
        Manifest::new("Short texts with tags.")
            .migrations(migrations!("migrations"))
            .permissions(PERMISSIONS)
            .emits::<NoteAdded>()
            .audits(audit::ACTS)
            .command::<NotesCommand>()
    }

    fn mount(settings: NotesSettings, on: &mut Mount<'_>) -> Result<(), MountError> {
        let db = on.db();
        on.authenticator(TokenAuthenticator {
            token: on.secret(&settings.token),
            reader_token: on.secret(&settings.reader_token),
        })?;
        let (every, keep) = (Schedule::Every(settings.sweep_interval), settings.keep);
        let swept = db.clone();
        on.single_worker("sweep", every, move |_, _| {
            workers::sweep(swept.clone(), keep)
        })
        .add()?;
        on.subscribe("tags", events::count_tags).add()?;
        let settings = on.live(settings);
        on.provide(Service { db, settings });
        on.routes("/notes", routes::declare);
        Ok(())
    }
}
