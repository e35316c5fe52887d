//! All mistakes of the settings at once, for an operator at night.
//!
//! A [`Mistake`] never has the value of a secret: values in it come only from
//! [`Setting::shown`](super::value::Setting::shown).

use std::borrow::Cow;
use std::fmt;
use std::path::PathBuf;

use crate::shown::{printable, shortened};

/// Where the value of a key came from.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Origin {
    /// The process environment.
    Environment,
    /// The `.env` file of the working directory.
    DotEnv,
    /// The file that the key's `_FILE` twin names.
    File(PathBuf),
    /// A variable that counts when the own key is not set, such as `DATABASE_URL`.
    Fallback(Cow<'static, str>),
    /// It is not set.
    Default,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Environment => f.write_str("environment"),
            Self::DotEnv => f.write_str(".env"),
            Self::File(path) => write!(f, "file {}", path.display()),
            Self::Fallback(name) => write!(f, "fallback {name}"),
            Self::Default => f.write_str("default"),
        }
    }
}

/// One thing that is wrong, and what would be right.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mistake {
    /// Full name of the key, or the line of `.env` that could not be read.
    pub key: String,
    /// Where the value came from; `None` if it is not set.
    pub origin: Option<Origin>,
    /// The problem, without the value of a secret.
    pub problem: String,
    /// The remedy.
    pub remedy: String,
}

impl Mistake {
    pub(crate) fn new(
        key: impl Into<String>,
        origin: impl Into<Option<Origin>>,
        problem: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self {
            key: key.into(),
            origin: origin.into(),
            problem: problem.into(),
            remedy: remedy.into(),
        }
    }
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Quoted text stays in its line.
        f.write_str(&printable(&shortened(&self.key)))?;
        if let Some(origin) = &self.origin {
            write!(f, " ({})", printable(&origin.to_string()))?;
        }
        let (problem, remedy) = (printable(&self.problem), printable(&self.remedy));
        write!(f, ": {problem}; {remedy}")
    }
}

/// Every mistake of one load, sorted by key. Never empty. The process that meets it exits 78.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SettingsErrors(Vec<Mistake>);

impl SettingsErrors {
    /// `Err` with all of `mistakes`, sorted and without repetition, or `Ok` if there are none.
    pub(crate) fn check(mut mistakes: Vec<Mistake>) -> Result<(), Self> {
        mistakes.sort();
        mistakes.dedup();
        if mistakes.is_empty() {
            Ok(())
        } else {
            Err(Self(mistakes))
        }
    }

    /// The mistakes, sorted by key.
    pub fn mistakes(&self) -> &[Mistake] {
        &self.0
    }
}

impl From<Mistake> for SettingsErrors {
    fn from(mistake: Mistake) -> Self {
        Self(vec![mistake])
    }
}

impl fmt::Display for SettingsErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.len() {
            1 => f.write_str("1 mistake in the settings:")?,
            many => write!(f, "{many} mistakes in the settings:")?,
        }
        for mistake in &self.0 {
            write!(f, "\n  {mistake}")?;
        }
        Ok(())
    }
}

impl std::error::Error for SettingsErrors {}
