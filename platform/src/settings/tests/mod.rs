//! The settings as an operator meets them: variables go in, values or a list of mistakes come out.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test that cannot go on should say where"
)]

mod generated;
mod layers;
mod modules;
mod reports;
mod rules;
mod secrecy;
mod standards;
mod values;

use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

use super::engine::group::KeySpec;
use super::{Catalogue, Mistake, Settings, SettingsErrors, Sources};

fn load(environment: &[(&str, &str)]) -> Result<Settings, SettingsErrors> {
    Settings::from_sources(
        &Catalogue::platform(),
        &Sources::new(environment.iter().copied()),
    )
}

/// The settings from variables that must be right.
fn right(environment: &[(&str, &str)]) -> Settings {
    load(environment).unwrap()
}

/// The mistakes in variables that must be wrong.
fn mistakes(environment: &[(&str, &str)]) -> Vec<Mistake> {
    load(environment).unwrap_err().mistakes().to_vec()
}

/// The one mistake in variables that must have just one, as an operator reads it.
fn mistake(environment: &[(&str, &str)]) -> String {
    let mistakes = mistakes(environment);
    assert_eq!(mistakes.len(), 1, "{mistakes:#?}");
    mistakes[0].to_string()
}

/// All keys of the platform.
fn specs() -> impl Iterator<Item = KeySpec> {
    let keys: Vec<_> = Catalogue::platform().keys().collect();
    keys.into_iter().map(|key| key.spec)
}

/// A directory that goes when the test ends.
struct Directory(PathBuf);

impl Directory {
    fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let path =
            std::env::temp_dir().join(format!("dotmac-settings-{}-{count}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    /// Writes a file and returns its path as text.
    fn write(&self, name: &str, content: impl AsRef<[u8]>) -> String {
        let path = self.0.join(name);
        std::fs::write(&path, content).unwrap();
        path.to_str().unwrap().to_owned()
    }

    /// Loads with this as the working directory.
    fn load(&self, environment: &[(&str, &str)]) -> Result<Settings, SettingsErrors> {
        self.load_all(&Catalogue::platform(), environment)
    }

    /// Loads the keys of `catalogue` with this as the working directory.
    fn load_all(
        &self,
        catalogue: &Catalogue,
        environment: &[(&str, &str)],
    ) -> Result<Settings, SettingsErrors> {
        let sources = Sources::new(environment.iter().copied()).with_directory(&self.0);
        Settings::from_sources(catalogue, &sources)
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).unwrap_or_default();
    }
}

/// A value as the environment would give it, for tests of other rooms.
pub(crate) fn parsed<T: super::Setting>(text: &str) -> T {
    T::parse(text).unwrap_or_else(|_| panic!("{text:?} is not {}", T::expected()))
}
