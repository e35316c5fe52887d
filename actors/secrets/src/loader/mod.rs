//! One reading of everything that is wanted.
//!
//! Each path is read once, however many settings point to it. One bad path does not spoil the rest;
//! a server that cannot be used at all is not asked again for every path.

mod cache;
mod load_state;
pub(crate) mod report;

pub(crate) use cache::Cache;
pub(crate) use load_state::{LoadState, ReportedState};

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use futures_util::{StreamExt, stream};

use super::{
    Document, SecretPath, SecretReference, SecretStore, SecretsError, Vault,
    config::{Wanted, WantedSource},
};

/// Paths asked for at once; the session has its own limit for everything under way.
const READS_AT_ONCE: usize = 8;

/// The result of one read.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// Everything that could be resolved; where something failed, the value of the former reading.
    pub store: SecretStore,
    /// Required secrets that could not be resolved: setting and cause. In the order of the wanted.
    pub failures: Vec<Failed>,
    /// Settings left absent because no policy covers their default path.
    pub unpermitted: Vec<String>,
}

/// A setting whose secret could not be had.
#[derive(Clone, Debug)]
pub struct Failed {
    /// The setting; `None` if Vault itself cannot be used and no setting depends on it.
    pub key: Option<String>,
    /// Why.
    pub error: SecretsError,
}

/// The setting and the error with all its sources.
impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(key) = &self.key {
            write!(f, "no secret for `{key}`: ")?;
        }
        dotmac_causes::Chain(&self.error).fmt(f)
    }
}

/// The literal values alone: what there is without Vault.
#[must_use]
pub fn literals(wanted: &[Wanted]) -> SecretStore {
    let mut store = SecretStore::default();
    for Wanted { key, source } in wanted {
        if let WantedSource::Literal(value) = source {
            store.insert_literal(key, value.clone());
        }
    }
    store
}

/// Reads all that is wanted. `former` stands in for what fails.
///
/// A default path without a secret leaves its setting absent. So does one that no policy covers, for
/// a policy of least privilege need not list what is not used; but if nothing at all may be read,
/// then it is the wrong policy, and that counts as a failure.
pub async fn load(vault: &Vault, wanted: &[Wanted], former: Option<&SecretStore>) -> Loaded {
    let mut readings = read_all(vault, wanted).await;
    let all_denied = readings
        .answers
        .values()
        .all(|answer| answer.as_ref().is_err_and(SecretsError::is_denied));

    let mut loaded = Loaded {
        store: literals(wanted),
        failures: Vec::new(),
        unpermitted: Vec::new(),
    };
    for Wanted { key, source } in wanted {
        let (reference, optional) = match source {
            WantedSource::Literal(_) => continue,
            WantedSource::Reference(reference) => (reference.clone(), false),
            WantedSource::DefaultPath(path) => (
                SecretReference {
                    path: path.clone(),
                    field: None,
                },
                true,
            ),
        };
        let answer = readings.answer(&reference.path);
        let field = answer.and_then(|it| Ok((it.field(&reference)?, it.exact_version())));
        match field {
            Ok((value, version)) => {
                let place = version.map(|version| (reference, version.clone()));
                loaded.store.insert_from_vault(key, value.clone(), place);
            }
            Err(error) if optional && error.is_path_missing() => {}
            Err(error) if optional && error.is_denied() && !all_denied => {
                loaded.unpermitted.push(key.clone());
            }
            Err(error) => {
                loaded.store.keep(key, former);
                loaded.failures.push(Failed {
                    key: Some(key.clone()),
                    error,
                });
            }
        }
    }
    if loaded.failures.is_empty()
        && let Some(error) = readings.general.take()
    {
        // Nothing depends on it now, and yet the server cannot be used: that must not pass for ready.
        loaded.failures.push(Failed { key: None, error });
    }
    loaded
}

#[derive(Default)]
struct Readings {
    answers: BTreeMap<SecretPath, Result<Document, SecretsError>>,
    /// The cause of an early end of the read.
    general: Option<SecretsError>,
}

impl Readings {
    fn answer(&self, path: &SecretPath) -> Result<&Document, SecretsError> {
        match (self.answers.get(path), &self.general) {
            (Some(answer), _) => answer.as_ref().map_err(Clone::clone),
            (None, Some(error)) => Err(error.clone()),
            (None, None) => Err(SecretsError::VaultOff {
                reference: SecretReference {
                    path: path.clone(),
                    field: None,
                },
            }),
        }
    }
}

async fn read_all(vault: &Vault, wanted: &[Wanted]) -> Readings {
    let mut readings = Readings::default();
    if let Err(error) = vault.log_in().await {
        readings.general = Some(error);
        return readings;
    }
    let paths: BTreeSet<SecretPath> = wanted
        .iter()
        .filter_map(|wanted| wanted.source.path())
        .cloned()
        .collect();
    let reads = paths
        .into_iter()
        .map(|path| async move { (vault.read(&path).await, path) });
    let mut reads = stream::iter(reads).buffer_unordered(READS_AT_ONCE);
    while let Some((answer, path)) = reads.next().await {
        if let Err(error) = &answer
            && error.is_general()
        {
            readings.general = Some(error.clone());
            break;
        }
        readings.answers.insert(path, answer);
    }
    readings
}

impl WantedSource {
    fn path(&self) -> Option<&SecretPath> {
        match self {
            Self::Literal(_) => None,
            Self::Reference(reference) => Some(&reference.path),
            Self::DefaultPath(path) => Some(path),
        }
    }
}
