//! From sources to settings, in one pass that collects every mistake.
//!
//! Each given text is checked by itself, so that a mistake is told with its key and the default
//! takes its place; then envy fills the structs, which can no longer fail; then the rules look at
//! the whole, but not at keys that are known to be wrong.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;

use secrecy::SecretString;

use super::error::{Mistake, Origin, SettingsErrors};
use super::facts::Facts;
use super::group::{DefaultText, Group, KeySpec, TelemetrySignal};
use super::source::{Found, Layers, Sources};
use super::unknown;
use super::value::Invalid;
use crate::settings::{Entry, Export, Exports, Settings, TelemetrySettings, groups, rules};

/// A value longer than this is cut in a message.
const SHOWN_CHARS: usize = 100;

pub(crate) fn load(sources: &Sources) -> Result<Settings, SettingsErrors> {
    let mut mistakes = Vec::new();
    let layers = Layers::read(sources, &mut mistakes);

    let mut given = BTreeMap::new();
    let mut wrong = BTreeSet::new();
    for spec in specs() {
        match find(&layers, spec) {
            Ok(None) => {}
            Ok(Some(found)) => {
                given.insert(spec.key(), found);
            }
            Err(mistake) => {
                wrong.insert(spec.key());
                mistakes.push(mistake);
            }
        }
    }
    mistakes.extend(unknown::mistakes(
        &layers,
        &specs().map(KeySpec::key).collect(),
    ));

    let facts = Facts {
        given: &given,
        terminal: sources.terminal(),
    };
    let texts: BTreeMap<String, Found> = specs()
        .map(|spec| (spec.key(), text_of(spec, &facts)))
        .collect();
    let exports = Exports {
        traces: export(TelemetrySignal::Traces, &layers, &texts, &mut mistakes)?,
        metrics: export(TelemetrySignal::Metrics, &layers, &texts, &mut mistakes)?,
        logs: export(TelemetrySignal::Logs, &layers, &texts, &mut mistakes)?,
    };
    let entries = specs().filter_map(|spec| entry(spec, &texts)).collect();
    let settings = Settings {
        app: read(&texts)?,
        http: read(&texts)?,
        shutdown: read(&texts)?,
        supervision: read(&texts)?,
        vault: read(&texts)?,
        database: read(&texts)?,
        telemetry: read(&texts)?,
        exports,
        cors: read(&texts)?,
        entries,
        unread: unknown::of_opentelemetry(&layers),
    };
    mistakes.extend(rules::mistakes(&settings, &wrong));
    SettingsErrors::check(mistakes)?;
    Ok(settings)
}

/// All keys, in the order of the documentation.
pub(crate) fn specs() -> impl Iterator<Item = &'static KeySpec> {
    groups::ALL.into_iter().flat_map(|group| group.keys)
}

/// The given and right value of a key.
fn find(layers: &Layers, spec: &KeySpec) -> Result<Option<Found>, Mistake> {
    let found = layers.find(spec)?;
    found.map(|found| checked(spec, found)).transpose()
}

fn checked(spec: &KeySpec, found: Found) -> Result<Found, Mistake> {
    match spec.check(&found.text) {
        Ok(()) => Ok(found),
        Err(invalid) => Err(not_right(spec, &found, invalid)),
    }
}

/// The text that a key is read from; empty if there is none.
fn text_of(spec: &KeySpec, facts: &Facts<'_>) -> Found {
    facts.given.get(&spec.key()).cloned().unwrap_or_else(|| {
        let text = match spec.default {
            DefaultText::Unset => String::new(),
            DefaultText::Fixed(text) => text.to_owned(),
            DefaultText::Computed { text, .. } => text(facts),
        };
        Found {
            text: text.into(),
            origin: Origin::Default,
        }
    })
}

fn entry(spec: &'static KeySpec, texts: &BTreeMap<String, Found>) -> Option<Entry> {
    let Found { text, origin } = texts.get(&spec.key())?;
    Some(Entry {
        spec,
        text: SecretString::from(text.as_str()),
        origin: origin.clone(),
    })
}

/// The settings of telemetry as they are for one signal.
fn export(
    signal: TelemetrySignal,
    layers: &Layers,
    texts: &BTreeMap<String, Found>,
    mistakes: &mut Vec<Mistake>,
) -> Result<Export, Mistake> {
    let mut texts = texts.clone();
    let mut has_own_endpoint = false;
    for spec in TelemetrySettings::SPEC.keys {
        let found = layers.find_for(signal, spec);
        match found.and_then(|found| found.map(|it| checked(spec, it)).transpose()) {
            Ok(None) => {}
            Ok(Some(found)) => {
                has_own_endpoint |= spec.field == "otlp_endpoint";
                texts.insert(spec.key(), found);
            }
            Err(mistake) => mistakes.push(mistake),
        }
    }
    Ok(Export {
        settings: read(&texts)?,
        has_own_endpoint,
    })
}

/// Fills the struct of a group.
fn read<G: Group>(texts: &BTreeMap<String, Found>) -> Result<G, Mistake> {
    let fields = G::SPEC.keys.iter().filter_map(|spec| {
        texts
            .get(&spec.key())
            .map(|found| (spec.field.to_owned(), found.text.to_string()))
    });
    envy::from_iter(fields).map_err(|_| {
        // Given texts were checked, so a default is wrong. envy's own message may hold a value.
        let problem = format!("the defaults of the group {} do not fit", G::SPEC.title);
        Mistake::new(
            "settings",
            None,
            problem,
            "report this as a defect of dotmac",
        )
    })
}

/// Tells an operator what is wrong with a value, and what would be right.
fn not_right(spec: &KeySpec, found: &Found, invalid: Invalid) -> Mistake {
    let key = spec.key();
    let shown = match (spec.kind.shown)(&found.text) {
        Some(text) => format!("{:?}", shortened(&text)),
        None => "the value".to_owned(),
    };
    let mut problem = format!("{shown} is not {}", spec.expected());
    if let Some(reason) = invalid.reason {
        problem.push_str(&format!(": {reason}"));
    }
    let remedy = if unknown::is_service_link("", OsStr::new(found.text.as_str())) {
        unknown::service_link_remedy()
    } else if let Some(remedy) = invalid.remedy {
        remedy
    } else {
        let alike =
            |word: &&&str| strsim::damerau_levenshtein(&found.text.to_lowercase(), word) <= 2;
        match spec.kind.values.iter().find(alike) {
            Some(word) => format!("did you mean {word}?"),
            None => format!("write e.g. {}", spec.example()),
        }
    };
    Mistake::new(key, found.origin.clone(), problem, remedy)
}

fn shortened(text: &str) -> String {
    if text.chars().count() <= SHOWN_CHARS {
        return text.to_owned();
    }
    text.chars().take(SHOWN_CHARS).chain(['…']).collect()
}
