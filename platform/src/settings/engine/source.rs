//! The layers that a value can come from: process environment, `.env`, fallbacks, and files that
//! `_FILE` keys name.
//!
//! An empty text counts as not set, because that is how compose files pass a variable that their
//! user left out. Nothing is ever written to the process environment.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fmt;
use std::io::{self, IsTerminal};
use std::path::PathBuf;

use secrecy::zeroize::Zeroizing;

use super::declare::{Fallback, TelemetrySignal};
use super::dotenv;
use super::error::{Mistake, Origin};
use super::group::{KeySpec, PREFIX};
use super::value::Setting as _;
use crate::shown::quoted;

/// Everything that settings are read from.
#[derive(Clone, Default)]
pub struct Sources {
    environment: Vec<(OsString, OsString)>,
    directory: Option<PathBuf>,
    terminal: bool,
}

impl Sources {
    /// The environment, working directory and terminal of this process.
    pub fn of_process() -> Self {
        Self {
            environment: std::env::vars_os().collect(),
            directory: Some(PathBuf::from(".")),
            terminal: io::stdout().is_terminal(),
        }
    }

    /// `environment` in place of the process's, no `.env`, no terminal.
    pub fn new<K, V>(environment: impl IntoIterator<Item = (K, V)>) -> Self
    where
        K: Into<OsString>,
        V: Into<OsString>,
    {
        let environment = environment
            .into_iter()
            .map(|(key, value)| (key.into(), value.into()));
        Self {
            environment: environment.collect(),
            ..Self::default()
        }
    }

    /// Reads `.env` in `directory`, if there is one.
    #[must_use]
    pub fn with_directory(mut self, directory: impl Into<PathBuf>) -> Self {
        self.directory = Some(directory.into());
        self
    }

    /// Says whether the log goes to a terminal.
    #[must_use]
    pub fn with_terminal(mut self, terminal: bool) -> Self {
        self.terminal = terminal;
        self
    }

    pub(crate) fn terminal(&self) -> bool {
        self.terminal
    }
}

// The environment holds secrets, ours and those of others.
impl fmt::Debug for Sources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sources")
            .field("directory", &self.directory)
            .field("terminal", &self.terminal)
            .finish_non_exhaustive()
    }
}

/// A given value.
#[derive(Clone)]
pub(crate) struct Found {
    pub(crate) text: Zeroizing<String>,
    pub(crate) origin: Origin,
}

// The text may be a secret.
impl fmt::Debug for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Found")
            .field("origin", &self.origin)
            .finish_non_exhaustive()
    }
}

/// The variables of both layers, by name.
pub(crate) struct Layers {
    environment: Layer,
    dotenv: Layer,
}

struct Layer {
    origin: Origin,
    variables: BTreeMap<String, OsString>,
}

impl Layers {
    /// Takes the environment and, outside production, `.env`. Mistakes in `.env` go to `mistakes`.
    pub(crate) fn read(sources: &Sources, mistakes: &mut Vec<Mistake>) -> Self {
        let named = |(name, value): &(OsString, OsString)| {
            (name.to_string_lossy().into_owned(), value.clone())
        };
        let environment = Layer {
            origin: Origin::Environment,
            variables: sources.environment.iter().map(named).collect(),
        };
        let mut dotenv = Layer {
            origin: Origin::DotEnv,
            variables: BTreeMap::new(),
        };

        // A deployment to production sets this in the process environment, and then a forgotten `.env` must have no
        // effect.
        let in_production = |layer: &Layer| {
            let environment = layer.own(&format!("{PREFIX}ENVIRONMENT"));
            matches!(environment, Ok(Some(found)) if found.text.eq_ignore_ascii_case("production"))
        };
        if let Some(directory) = &sources.directory
            && !in_production(&environment)
        {
            dotenv.variables = dotenv::read(&directory.join(".env"), mistakes);
            if in_production(&dotenv) {
                mistakes.push(Mistake::new(
                    format!("{PREFIX}ENVIRONMENT"),
                    Origin::DotEnv,
                    "production cannot be chosen in .env, which is not read in production",
                    "set it in the process environment",
                ));
            }
        }
        Self {
            environment,
            dotenv,
        }
    }

    /// The value of a key: its own, from the higher layer first, or else a fallback's.
    pub(crate) fn find(&self, spec: &KeySpec) -> Result<Option<Found>, Mistake> {
        let key = spec.key();
        if let Some(found) = self.own(&key)? {
            return Ok(Some(found));
        }
        for field in spec.fallbacks_yield_to {
            // A mistake in the sibling is reported when the sibling itself is looked up.
            if !matches!(self.own(&spec.sibling(field)), Ok(None)) {
                return Ok(None);
            }
        }
        for fallback in spec.fallbacks {
            if let Some(found) = self.fallback(fallback, fallback.name.into(), &key)? {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    /// The value of a key for one signal of telemetry alone, where the standard has a variable for that.
    pub(crate) fn find_for(
        &self,
        signal: TelemetrySignal,
        spec: &KeySpec,
    ) -> Result<Option<Found>, Mistake> {
        for fallback in spec.fallbacks {
            if let Some(name) = fallback.name_for(signal)
                && let Some(found) = self.fallback(fallback, name.into(), &spec.key())?
            {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    /// The value for `key` of `name`, written like `fallback`.
    fn fallback(
        &self,
        fallback: &Fallback,
        name: Cow<'static, str>,
        key: &str,
    ) -> Result<Option<Found>, Mistake> {
        if fallback.argument_of.is_some_and(|of| !self.is_set(of)) {
            return Ok(None);
        }
        let origin = Origin::Fallback(name.clone());
        for layer in [&self.environment, &self.dotenv] {
            let text = layer.text(&name, key, &origin)?;
            // A variable may say nothing about this key, such as a sampler without its ratio.
            if let Some(text) = text.map(fallback.translate).filter(|text| !text.is_empty()) {
                let text = Zeroizing::new(text);
                return Ok(Some(Found { text, origin }));
            }
        }
        Ok(None)
    }

    fn own(&self, key: &str) -> Result<Option<Found>, Mistake> {
        match self.environment.own(key)? {
            None => self.dotenv.own(key),
            found => Ok(found),
        }
    }

    /// Whether a variable is there and not empty.
    pub(crate) fn is_set(&self, name: &str) -> bool {
        [&self.environment, &self.dotenv]
            .into_iter()
            .filter_map(|layer| layer.variables.get(name))
            .any(|value| !value.is_empty())
    }

    /// The variables that begin with `prefix`, in either layer, each once.
    pub(crate) fn names(&self, prefix: &str) -> impl Iterator<Item = &str> {
        let names: BTreeSet<&str> = [&self.environment, &self.dotenv]
            .into_iter()
            .flat_map(|layer| layer.variables.keys())
            .map(String::as_str)
            .filter(|name| name.starts_with(prefix))
            .collect();
        names.into_iter()
    }

    /// All variables of ours in both layers, with where they are and what they hold.
    pub(crate) fn ours(&self) -> impl Iterator<Item = (&str, &Origin, &OsString)> {
        [&self.environment, &self.dotenv]
            .into_iter()
            .flat_map(|layer| {
                layer
                    .variables
                    .iter()
                    .filter(|(name, _)| name.starts_with(PREFIX))
                    .map(|(name, value)| (name.as_str(), &layer.origin, value))
            })
    }
}

impl Layer {
    /// The value of `key` in this layer, written out or in the file that its `_FILE` twin names.
    fn own(&self, key: &str) -> Result<Option<Found>, Mistake> {
        let twin = format!("{key}_FILE");
        let literal = self.text(key, key, &self.origin)?;
        let path = self.text(&twin, &twin, &self.origin)?;
        match (literal, path) {
            (Some(_), Some(_)) => Err(Mistake::new(
                key,
                self.origin.clone(),
                format!("both {key} and {twin} are set"),
                "unset one of them",
            )),
            (Some(text), None) => Ok(Some(Found {
                text: Zeroizing::new(text.to_owned()),
                origin: self.origin.clone(),
            })),
            (None, Some(path)) => {
                let unreadable = |problem| {
                    let remedy = "name a file that the daemon may read";
                    Mistake::new(&twin, self.origin.clone(), problem, remedy)
                };
                let shown = path_shown(path);
                let file = PathBuf::parse(path).map_err(|invalid| {
                    let reason = invalid.reason.unwrap_or_default();
                    unreadable(format!("{shown} is not {}: {reason}", PathBuf::expected()))
                })?;
                let text = dotmac_bounded_read::read_text(&file)
                    .map_err(|cause| unreadable(format!("cannot read {shown}: {cause}")))?;
                let origin = Origin::File(file);
                let text = Zeroizing::new(text.trim_end_matches(['\r', '\n']).to_owned());
                if text.is_empty() {
                    return Err(Mistake::new(
                        key,
                        origin,
                        "the file is empty",
                        "put the value into it",
                    ));
                }
                Ok(Some(Found { text, origin }))
            }
            (None, None) => Ok(None),
        }
    }

    /// The text of one variable, `None` if it is not set or empty.
    fn text(&self, name: &str, key: &str, origin: &Origin) -> Result<Option<&str>, Mistake> {
        let Some(value) = self.variables.get(name) else {
            return Ok(None);
        };
        let text = value.to_str().ok_or_else(|| {
            Mistake::new(
                key,
                origin.clone(),
                "the value is not UTF-8",
                "write it in UTF-8",
            )
        })?;
        Ok(Some(text).filter(|text| !text.is_empty()))
    }
}

/// The path of a `_FILE` key, unless it seems to be the secret itself.
fn path_shown(text: &str) -> String {
    let is_path = text.contains('/');
    let shown = quoted(text).filter(|_| is_path);
    shown.unwrap_or_else(|| "the file (its name is not shown: it may be a secret)".to_owned())
}
