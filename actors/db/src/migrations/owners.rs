//! Whose migrations there are, and in which order they run.

use std::{collections::BTreeSet, fmt};

use diesel::{
    backend::Backend,
    connection::BoxableConnection,
    migration::{
        self, Migration, MigrationMetadata, MigrationName, MigrationSource, MigrationVersion,
    },
    pg::Pg,
    sqlite::Sqlite,
};
use diesel_migrations::EmbeddedMigrations;

/// The owner whose migrations run before all others', and whose versions are kept without its name.
pub const PLATFORM: &str = "platform";

/// Longest name of an owner. The column of versions has 50 characters, of which a version takes 14 and what
/// separates them one.
const NAME_MAX: usize = 32;

/// The migrations of one owner of tables, compiled in, the same names for both back ends.
#[derive(Clone, Copy)]
pub struct Migrations {
    /// Whose: `[a-z][a-z0-9_]{1,31}`. Never changes: what has run is remembered by it.
    pub owner: &'static str,
    /// For PostgreSQL.
    pub postgres: &'static EmbeddedMigrations,
    /// For SQLite.
    pub sqlite: &'static EmbeddedMigrations,
    /// Owners whose tables these refer to: theirs run before. Those that are not in the program are passed over.
    pub after: &'static [&'static str],
}

/// The scripts of both back ends, as [`migrations!`](crate::migrations!) embeds them; whose they are is still to be
/// said.
#[derive(Clone, Copy)]
pub struct Scripts {
    /// For PostgreSQL.
    pub postgres: &'static EmbeddedMigrations,
    /// For SQLite.
    pub sqlite: &'static EmbeddedMigrations,
}

impl Scripts {
    /// The same as the migrations of `owner`, which run after no other's but the platform's.
    #[must_use]
    pub const fn owned_by(self, owner: &'static str) -> Migrations {
        Migrations {
            owner,
            postgres: self.postgres,
            sqlite: self.sqlite,
            after: &[],
        }
    }
}

/// Embeds `migrations/postgres` and `migrations/sqlite` of the crate that calls it, as
/// [`Scripts`](crate::Scripts).
///
/// The crate needs a build script, so that a new folder is compiled in; without one it does not compile:
///
/// ```
/// // in `main` of build.rs
/// println!("cargo::rerun-if-changed=migrations");
/// println!("cargo::rustc-env=DOTMAC_MIGRATIONS=tracked");
/// ```
///
/// `migrations!("db/postgres", "db/sqlite")` embeds other folders, which the build script must name then.
#[macro_export]
macro_rules! migrations {
    ("migrations") => {
        $crate::migrations!("migrations/postgres", "migrations/sqlite")
    };
    ($postgres:literal, $sqlite:literal) => {{
        use $crate::embedding::diesel_migrations;
        const _: &str = ::core::env!(
            "DOTMAC_MIGRATIONS",
            "a new migration would not be compiled in: give this crate a build.rs with the lines \
             `println!(\"cargo::rerun-if-changed=migrations\");` and \
             `println!(\"cargo::rustc-env=DOTMAC_MIGRATIONS=tracked\");` in its `main`"
        );
        static POSTGRES: diesel_migrations::EmbeddedMigrations =
            diesel_migrations::embed_migrations!($postgres);
        static SQLITE: diesel_migrations::EmbeddedMigrations =
            diesel_migrations::embed_migrations!($sqlite);
        $crate::Scripts {
            postgres: &POSTGRES,
            sqlite: &SQLITE,
        }
    }};
}

/// A mistake in the migrations that a program has.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MigrationsError {
    /// The owner's name is none.
    #[error(
        "`{0}` cannot own migrations: a name has 2 to {NAME_MAX} lower-case letters, digits and `_`, a letter first"
    )]
    Name(String),
    /// There are two of that name.
    #[error("two modules own migrations as `{0}`; rename one of them")]
    OwnerTwice(String),
    /// One back end has what the other lacks.
    #[error(
        "the migrations of `{owner}` for {back_end} lack {names}, which the other back end has; add the folder"
    )]
    OneBackEnd {
        /// Whose.
        owner: String,
        /// Which lacks them.
        back_end: &'static str,
        /// Those it lacks.
        names: String,
    },
    /// Two have the same time.
    #[error("`{first}` and `{second}` of `{owner}` have the same version; change the time of one")]
    SameVersion {
        /// Whose.
        owner: String,
        /// One.
        first: String,
        /// The other.
        second: String,
    },
    /// Each would have to run before the other.
    #[error("the migrations of {0} form a circle of `after`; remove one")]
    Circle(String),
}

impl Migrations {
    /// The same, run after those of the owners `after`.
    #[must_use]
    pub const fn after(self, after: &'static [&'static str]) -> Self {
        Self { after, ..self }
    }

    /// Looks whether they are as they should be: named well, the same for both back ends, no version twice.
    ///
    /// # Errors
    ///
    /// [`MigrationsError`] says what is wrong and how to mend it.
    pub fn check(&self) -> Result<(), MigrationsError> {
        let owner = || self.owner.to_owned();
        if !is_name(self.owner) {
            return Err(MigrationsError::Name(owner()));
        }
        let (postgres, sqlite) = (names::<Pg>(self.postgres), names::<Sqlite>(self.sqlite));
        for (back_end, lacks, other) in [
            ("PostgreSQL", &postgres, &sqlite),
            ("SQLite", &sqlite, &postgres),
        ] {
            let missing: Vec<_> = other
                .difference(lacks)
                .map(|name| format!("`{name}`"))
                .collect();
            if !missing.is_empty() {
                return Err(MigrationsError::OneBackEnd {
                    owner: owner(),
                    back_end,
                    names: missing.join(", "),
                });
            }
        }
        // In the order of their names, so of their versions.
        let names: Vec<_> = postgres.iter().collect();
        match names
            .windows(2)
            .find(|pair| version_of(pair[0]) == version_of(pair[1]))
        {
            Some(pair) => Err(MigrationsError::SameVersion {
                owner: owner(),
                first: pair[0].clone(),
                second: pair[1].clone(),
            }),
            None => Ok(()),
        }
    }
}

impl fmt::Debug for Migrations {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Migrations")
            .field("owner", &self.owner)
            .field("names", &names::<Pg>(self.postgres))
            .field("after", &self.after)
            .finish()
    }
}

fn is_name(name: &str) -> bool {
    let fits = (2..=NAME_MAX).contains(&name.len());
    let is_part = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    fits && name.starts_with(|c: char| c.is_ascii_lowercase()) && name.chars().all(is_part)
}

fn names<DB: Backend>(source: &'static EmbeddedMigrations) -> BTreeSet<String> {
    let migrations: Vec<Box<dyn Migration<DB>>> = source.migrations().unwrap_or_default();
    let names = migrations
        .iter()
        .map(|migration| migration.name().to_string());
    names.collect()
}

/// The digits of the time in a name.
fn version_of(name: &str) -> String {
    let time = name.split('_').next().unwrap_or_default();
    time.chars().filter(char::is_ascii_digit).collect()
}

/// All of them in the order in which they run: the platform's, then each owner's after those it names, otherwise as
/// they were added.
///
/// # Errors
///
/// [`MigrationsError`], also of any of them.
pub fn in_order(all: &[Migrations]) -> Result<Vec<Migrations>, MigrationsError> {
    for (at, migrations) in all.iter().enumerate() {
        migrations.check()?;
        if all
            .iter()
            .take(at)
            .any(|other| other.owner == migrations.owner)
        {
            return Err(MigrationsError::OwnerTwice(migrations.owner.to_owned()));
        }
    }
    let mut waiting: Vec<&Migrations> = all.iter().collect();
    waiting.sort_by_key(|migrations| migrations.owner != PLATFORM);
    let mut ordered = Vec::with_capacity(waiting.len());
    while !waiting.is_empty() {
        let is_next = |migrations: &&Migrations| {
            let mut before = migrations.after.iter();
            !before.any(|owner| waiting.iter().any(|other| other.owner == *owner))
        };
        let Some(next) = waiting.iter().position(is_next) else {
            let owners: Vec<_> = waiting.iter().map(|it| format!("`{}`", it.owner)).collect();
            return Err(MigrationsError::Circle(owners.join(", ")));
        };
        ordered.push(*waiting.remove(next));
    }
    Ok(ordered)
}

/// The owner and the version that `version` in the database stands for.
pub(super) fn split(version: &str) -> (&str, &str) {
    version.split_once('/').unwrap_or((PLATFORM, version))
}

/// `name`, or a version, with its owner: as versions are kept in the database, and as people are shown both.
pub(super) fn join(owner: &str, name: &str) -> String {
    if owner == PLATFORM {
        name.to_owned()
    } else {
        format!("{owner}/{name}")
    }
}

/// A migration that is kept under its owner's name.
pub(super) struct Owned<DB: Backend> {
    migration: Box<dyn Migration<DB>>,
    name: OwnedName,
}

struct OwnedName {
    owner: &'static str,
    name: String,
    version: String,
}

impl<DB: Backend> Owned<DB> {
    pub(super) fn new(owner: &'static str, migration: Box<dyn Migration<DB>>) -> Self {
        let name = OwnedName {
            owner,
            name: migration.name().to_string(),
            version: migration.name().version().to_string(),
        };
        Self { migration, name }
    }

    pub(super) fn owner(&self) -> &'static str {
        self.name.owner
    }

    /// Its name, without its owner's.
    pub(super) fn name(&self) -> &str {
        &self.name.name
    }

    /// Its version, without its owner.
    pub(super) fn version(&self) -> &str {
        &self.name.version
    }
}

impl MigrationName for OwnedName {
    fn version(&self) -> MigrationVersion<'_> {
        join(self.owner, &self.version).into()
    }
}

impl fmt::Display for OwnedName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&join(self.owner, &self.name))
    }
}

impl<DB: Backend> Migration<DB> for Owned<DB> {
    fn run(&self, connection: &mut dyn BoxableConnection<DB>) -> migration::Result<()> {
        self.migration.run(connection)
    }

    fn revert(&self, connection: &mut dyn BoxableConnection<DB>) -> migration::Result<()> {
        self.migration.revert(connection)
    }

    fn metadata(&self) -> &dyn MigrationMetadata {
        self.migration.metadata()
    }

    fn name(&self) -> &dyn MigrationName {
        &self.name
    }
}
