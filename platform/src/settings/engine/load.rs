//! From sources to settings, in one pass that collects every mistake.
//!
//! Each given text is checked by itself, so that a mistake is reported with its key and replaced by the default; then
//! envy fills the structs, which can no longer fail; then the rules look at the whole, but not at keys that are known
//! to be wrong.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;

use secrecy::SecretString;

use super::catalogue::{Catalogue, CatalogueKey, ModuleGroup};
use super::declare::{DefaultText, TelemetrySignal};
use super::error::{Mistake, Origin, SettingsErrors};
use super::facts::Facts;
use super::group::{Group, GroupSpec, KeySpec};
use super::rules::{Findings, RuleInput, Rules};
use super::source::{Found, Layers, Sources};
use super::unknown;
use super::value::{Invalid, Setting};
use crate::settings::{Entry, Export, Exports, Settings, TelemetrySettings, rules};
use crate::shown::{holds_url_with_password, quoted, shortened};

pub(crate) fn load(catalogue: &Catalogue, sources: &Sources) -> Result<Settings, SettingsErrors> {
    let mut mistakes = Vec::new();
    let layers = Layers::read(sources, &mut mistakes);

    let keys: Vec<CatalogueKey> = catalogue.keys().collect();
    let mut given = BTreeMap::new();
    let mut wrong = BTreeSet::new();
    for CatalogueKey { spec, .. } in &keys {
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
    let names = keys.iter().map(|key| key.spec.key()).collect();
    mistakes.extend(unknown::mistakes(&layers, &names));

    let facts = Facts::new(&given, sources.terminal(), catalogue.default_app_name());
    let texts: BTreeMap<String, Found> = keys
        .iter()
        .map(|key| (key.spec.key(), text_of(&key.spec, &facts)))
        .collect();
    let modules = catalogue.module_groups();
    let off: BTreeSet<&'static str> = modules
        .iter()
        .filter(|module| !is_on(module, &texts))
        .map(|module| module.name)
        .collect();
    for CatalogueKey { spec, module } in &keys {
        let key = spec.key();
        let in_effect = module.is_none_or(|name| !off.contains(name));
        if in_effect && spec.is_required() && !given.contains_key(&key) && wrong.insert(key.clone())
        {
            let remedy = format!("set it, e.g. to {}", spec.example());
            let mistake = Mistake::new(key, None, "it is needed and not set", remedy);
            mistakes.push(mistake);
        }
    }
    let exports = Exports {
        traces: export(TelemetrySignal::Traces, &layers, &texts, &mut mistakes)?,
        metrics: export(TelemetrySignal::Metrics, &layers, &texts, &mut mistakes)?,
        logs: export(TelemetrySignal::Logs, &layers, &texts, &mut mistakes)?,
    };
    let mut groups = Vec::new();
    for module in modules.iter().filter(|module| !off.contains(module.name)) {
        match module.reader.read(&texts) {
            Some(group) => groups.push((*module, group)),
            None if module.keys().any(|spec| wrong.contains(&spec.key())) => {}
            None => mistakes.push(defect(module.spec, &texts)),
        }
    }
    let entries = keys.iter().filter_map(|key| entry(key, &texts)).collect();
    let mut settings = Settings {
        app: read_own(&texts)?,
        http: read_own(&texts)?,
        shutdown: read_own(&texts)?,
        supervision: read_own(&texts)?,
        vault: read_own(&texts)?,
        database: read_own(&texts)?,
        telemetry: read_own(&texts)?,
        exports,
        cors: read_own(&texts)?,
        egress: read_own(&texts)?,
        catalogue: catalogue.clone(),
        groups,
        off,
        entries,
        unread: unknown::of_opentelemetry(&layers, catalogue),
        warnings: Vec::new(),
        needed: BTreeSet::new(),
    };
    let findings = check(&settings, &wrong);
    mistakes.extend(findings.mistakes);
    settings.warnings = findings.warnings;
    settings.needed = findings.needed;
    SettingsErrors::check(mistakes)?;
    Ok(settings)
}

/// The findings of the rules of the platform and of each enabled module about `settings`.
fn check(settings: &Settings, wrong: &BTreeSet<String>) -> Findings {
    let circumstances = RuleInput {
        entries: &settings.entries,
        wrong,
        environment: settings.app.environment,
        vault_enabled: settings.vault.enabled,
    };
    let mut findings = Findings::default();
    rules::check(settings, Rules::new(None, &circumstances, &mut findings));
    for (module, group) in &settings.groups {
        group.check(&mut Rules::new(
            Some(module.spec),
            &circumstances,
            &mut findings,
        ));
    }
    findings
}

fn is_on(module: &ModuleGroup, texts: &BTreeMap<String, Found>) -> bool {
    let text = texts.get(&module.enabled.key());
    text.is_none_or(|found| bool::parse(&found.text) != Ok(false))
}

/// The given and right value of a key.
fn find(layers: &Layers, spec: &KeySpec) -> Result<Option<Found>, Mistake> {
    let found = layers.find(spec)?;
    found.map(|found| checked(spec, found)).transpose()
}

fn checked(spec: &KeySpec, found: Found) -> Result<Found, Mistake> {
    match spec.check(&found.text) {
        Ok(()) if shows_password(spec, &found.text) => Err(Mistake::new(
            spec.key(),
            found.origin,
            "the value holds a URL with a password, which would be shown",
            format!("write e.g. {}", spec.example()),
        )),
        Ok(()) => Ok(found),
        Err(invalid) => Err(not_right(spec, &found, invalid)),
    }
}

/// Whether a right value is shown as it is, and a password with it.
fn shows_password(spec: &KeySpec, text: &str) -> bool {
    holds_url_with_password(text) && (spec.kind.shown)(text).as_deref() == Some(text)
}

/// The text that a key is read from; empty if there is none.
fn text_of(spec: &KeySpec, facts: &Facts<'_>) -> Found {
    facts.found(&spec.key()).cloned().unwrap_or_else(|| {
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

fn entry(key: &CatalogueKey, texts: &BTreeMap<String, Found>) -> Option<Entry> {
    let name = key.spec.key();
    let Found { text, origin } = texts.get(&name)?;
    Some(Entry {
        key: name,
        spec: key.spec,
        module: key.module,
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
        settings: read_own(&texts)?,
        has_own_endpoint,
    })
}

/// Fills the struct of a group; `None` if a text is not right.
pub(crate) fn read<G: Group>(texts: &BTreeMap<String, Found>) -> Option<G> {
    let fields = G::SPEC.keys.iter().filter_map(|spec| {
        texts
            .get(&spec.key())
            .map(|found| (spec.field.to_owned(), found.text.to_string()))
    });
    // envy's own message may hold a value.
    envy::from_iter(fields).ok()
}

/// A group of the platform, each of whose keys has a default.
fn read_own<G: Group>(texts: &BTreeMap<String, Found>) -> Result<G, Mistake> {
    read(texts).ok_or_else(|| defect(G::SPEC, texts))
}

/// Given texts were checked, so a default is wrong: one that is computed, since fixed ones were checked too.
pub(crate) fn defect(group: &GroupSpec, texts: &BTreeMap<String, Found>) -> Mistake {
    let is_wrong = |spec: &&KeySpec| {
        let text = texts.get(&spec.key());
        text.is_some_and(|found| spec.check(&found.text).is_err())
    };
    match group.keys.iter().find(is_wrong) {
        Some(spec) => Mistake::new(
            spec.key(),
            Origin::Default,
            format!(
                "its default is not {}, which is a defect of the program",
                spec.expected()
            ),
            format!(
                "report it; until it is mended, set the key, e.g. to {}",
                spec.example()
            ),
        ),
        None => Mistake::new(
            "settings",
            None,
            format!(
                "the keys of the group {} do not fit its fields",
                group.title
            ),
            "report this as a defect of the program",
        ),
    }
}

/// The message for an operator: what is wrong with a value, and what would be right.
fn not_right(spec: &KeySpec, found: &Found, invalid: Invalid) -> Mistake {
    let key = spec.key();
    let shown = (spec.kind.shown)(&found.text);
    let quoted = shown.as_deref().and_then(quoted);
    let is_withheld = shown.is_some() && quoted.is_none();
    let mut problem = format!(
        "{} is not {}",
        quoted.as_deref().unwrap_or("the value"),
        spec.expected()
    );
    if let Some(reason) = invalid.reason {
        problem.push_str(&format!(": {reason}"));
    }
    if is_withheld {
        problem.push_str(" (it is not shown, since it looks as if it held a password)");
    }
    let remedy = if unknown::is_service_link("", OsStr::new(found.text.as_str())) {
        unknown::service_link_remedy()
    } else if let Some(remedy) = invalid.remedy {
        remedy
    } else {
        let text = shortened(&found.text).to_lowercase();
        let alike = |word: &&&str| strsim::damerau_levenshtein(&text, word) <= 2;
        match spec.kind.values.iter().find(alike) {
            Some(word) => format!("did you mean {word}?"),
            None => format!("write e.g. {}", spec.example()),
        }
    };
    Mistake::new(key, found.origin.clone(), problem, remedy)
}
