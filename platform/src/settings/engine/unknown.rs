//! Keys with our prefix that do not exist: most often a slip of the pen.

use std::collections::BTreeSet;
use std::ffi::OsStr;

use super::catalogue::Catalogue;
use super::declare::TelemetrySignal;
use super::error::Mistake;
use super::group::PREFIX;
use super::source::Layers;
use crate::shown::shortened;

/// How alike two names must be, from 0 to 1, for one to be suggested in place of the other.
const ALIKE: f64 = 0.6;

/// Variables of build scripts for the compiler. `cargo run` and `cargo test` set the same variables for the program
/// that they run.
const OF_THE_BUILD: [&str; 3] = [
    "DOTMAC_BUILD_REVISION",
    "DOTMAC_BUILD_TIME",
    "DOTMAC_MIGRATIONS",
];

/// A mistake for each variable with our prefix that is neither one of `keys` nor its `_FILE` twin.
pub(crate) fn mistakes(layers: &Layers, keys: &BTreeSet<String>) -> Vec<Mistake> {
    let is_known = |name: &str| {
        keys.contains(name)
            || OF_THE_BUILD.contains(&name)
            || name
                .strip_suffix("_FILE")
                .is_some_and(|key| keys.contains(key))
    };
    layers
        .ours()
        .filter(|(name, ..)| !is_known(name))
        .map(|(name, origin, value)| {
            let remedy = if is_service_link(name, value) {
                service_link_remedy()
            } else {
                suggestion(name, keys)
            };
            Mistake::new(name, origin.clone(), "there is no such key", remedy)
        })
        .collect()
}

/// The standard's variables that are set and that neither we nor the SDK within us reads.
pub(crate) fn of_opentelemetry(layers: &Layers, catalogue: &Catalogue) -> Vec<String> {
    /// Variables that the SDK reads itself (opentelemetry_sdk 0.33, `trace/config.rs`).
    const BY_THE_SDK: [&str; 3] = [
        "OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT",
        "OTEL_SPAN_EVENT_COUNT_LIMIT",
        "OTEL_SPAN_LINK_COUNT_LIMIT",
    ];
    let mut read: BTreeSet<String> = BY_THE_SDK.map(str::to_owned).into();
    let fallbacks = catalogue.keys().flat_map(|key| key.spec.fallbacks);
    for fallback in
        fallbacks.filter(|fallback| fallback.argument_of.is_none_or(|of| layers.is_set(of)))
    {
        read.insert(fallback.name.to_owned());
        let for_one = TelemetrySignal::ALL.map(|signal| fallback.name_for(signal));
        read.extend(for_one.into_iter().flatten());
    }
    layers
        .names("OTEL_")
        .filter(|name| !read.contains(*name))
        .map(|name| shortened(name).into_owned())
        .collect()
}

/// Whether Kubernetes set the variable, as it does for each Service in the namespace.
pub(crate) fn is_service_link(name: &str, value: &OsStr) -> bool {
    let value = value.as_encoded_bytes();
    value.starts_with(b"tcp://")
        || value.starts_with(b"udp://")
        || [
            "_SERVICE_HOST",
            "_SERVICE_PORT",
            "_TCP_ADDR",
            "_TCP_PORT",
            "_TCP_PROTO",
        ]
        .iter()
        .any(|part| format!("_{}", name.trim_start_matches(PREFIX)).contains(part))
}

/// The remedy for a variable that Kubernetes set.
pub(crate) fn service_link_remedy() -> String {
    "Kubernetes sets it for a Service of that name: put `enableServiceLinks: false` into the pod's spec"
        .to_owned()
}

fn suggestion(name: &str, keys: &BTreeSet<String>) -> String {
    let bare = |key: &str| {
        key.trim_start_matches(PREFIX)
            .trim_end_matches("_FILE")
            .to_ascii_uppercase()
    };
    let name = &*shortened(name);
    let likeness = |key: &String| strsim::normalized_damerau_levenshtein(&bare(name), &bare(key));
    let nearest = keys
        .iter()
        .max_by(|a, b| likeness(a).total_cmp(&likeness(b)));
    match nearest.filter(|key| likeness(key) >= ALIKE) {
        Some(key) if name.ends_with("_FILE") => format!("did you mean {key}_FILE?"),
        Some(key) => format!("did you mean {key}?"),
        None => "remove it; the command `config` lists all keys".to_owned(),
    }
}
