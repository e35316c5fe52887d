//! A reload of live keys: applied by the module, or rejected; what needs a restart stays.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::{NotesSettings, load, notes};
use crate::settings::engine::appliers::Report;
use crate::settings::{Appliers, NoSettings, Settings};

fn loaded(more: &[(&str, &str)]) -> Settings {
    load(more).unwrap()
}

/// Applies what leads from `current` to `new`; each report as one line.
async fn apply(appliers: &Appliers, current: &mut Settings, new: &Settings) -> Vec<String> {
    let changes = current.diff(new);
    let reports = appliers.apply(current, new, &changes).await;
    let line = |Report { key, result }| match result {
        Ok(()) => format!("{key} applied"),
        Err(error) => format!("{key} rejected: {error}"),
    };
    reports.into_iter().map(line).collect()
}

/// The keys that differ, and whether they are live.
fn changed(current: &Settings, new: &Settings) -> Vec<(String, bool)> {
    let changes = current.diff(new).into_iter();
    changes.map(|change| (change.key, change.live)).collect()
}

#[tokio::test]
async fn live_keys_are_applied_by_the_module_and_the_others_wait() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let mut appliers = Appliers::default();
    let taken = Arc::clone(&seen);
    appliers.register("notes", move |new: &NotesSettings| {
        let seen = (
            new.page_size,
            new.keep.as_secs(),
            new.sweep_interval.as_secs(),
        );
        taken.lock().unwrap().push(seen);
    });
    let mut current = loaded(&[]);
    let new = loaded(&[
        ("DOTMAC_NOTES_PAGE_SIZE", "20"),
        ("DOTMAC_NOTES_SWEEP_INTERVAL", "1m"),
        ("DOTMAC_NOTES_SIGNING_KEY", "another-signing-key"),
        ("DOTMAC_PORT", "9000"),
    ]);
    let key = |key: &str, live| (format!("DOTMAC_{key}"), live);
    assert_eq!(
        changed(&current, &new),
        [
            key("PORT", false),
            key("NOTES_PAGE_SIZE", true),
            key("NOTES_SWEEP_INTERVAL", false),
            key("NOTES_SIGNING_KEY", true),
        ]
    );
    assert_eq!(
        apply(&appliers, &mut current, &new).await,
        ["DOTMAC_NOTES_PAGE_SIZE applied"]
    );
    assert_eq!(*seen.lock().unwrap(), [(20, 30 * 86_400, 600)]);
    assert_eq!(notes(&current).page_size, 20);
    // Waiting changes are reported again, and applied ones are not applied again.
    assert_eq!(
        changed(&current, &new),
        [key("PORT", false), key("NOTES_SWEEP_INTERVAL", false)]
    );
    assert!(apply(&appliers, &mut current, &new).await.is_empty());
    assert_eq!(seen.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn settings_can_be_read_afresh_by_each_piece_of_work() {
    let mut current = loaded(&[]);
    let mut appliers = Appliers::default();
    let live = appliers.live("notes", notes(&current).clone());
    let at_work = live.get();
    let new = loaded(&[("DOTMAC_NOTES_PAGE_SIZE", "20")]);
    assert_eq!(
        apply(&appliers, &mut current, &new).await,
        ["DOTMAC_NOTES_PAGE_SIZE applied"]
    );
    assert_eq!((at_work.page_size, live.clone().get().page_size), (50, 20));
}

#[tokio::test]
async fn a_module_can_reject_new_values_by_an_error_or_a_panic() {
    let mut current = loaded(&[]);
    let new = loaded(&[("DOTMAC_NOTES_PAGE_SIZE", "20")]);
    let mut appliers = Appliers::default();
    appliers.register("notes", |new: &NotesSettings| match new.page_size {
        20 => Err("twenty is not taken"),
        21 => panic!("on purpose"),
        _ => Ok(()),
    });
    for _ in 0..2 {
        assert_eq!(
            apply(&appliers, &mut current, &new).await,
            ["DOTMAC_NOTES_PAGE_SIZE rejected: twenty is not taken"]
        );
        assert_eq!(notes(&current).page_size, 50);
    }
    let new = loaded(&[("DOTMAC_NOTES_PAGE_SIZE", "21")]);
    assert_eq!(
        apply(&appliers, &mut current, &new).await,
        ["DOTMAC_NOTES_PAGE_SIZE rejected: the function of the module has panicked"]
    );
    let new = loaded(&[("DOTMAC_NOTES_PAGE_SIZE", "22")]);
    assert_eq!(
        apply(&appliers, &mut current, &new).await,
        ["DOTMAC_NOTES_PAGE_SIZE applied"]
    );
}

#[tokio::test]
async fn what_one_function_took_is_taken_back_when_another_rejects_it() {
    let mut current = loaded(&[]);
    let mut appliers = Appliers::default();
    let live = appliers.live("notes", notes(&current).clone());
    appliers.register("notes", |_: &NotesSettings| Err::<(), _>("no room"));
    let new = loaded(&[("DOTMAC_NOTES_PAGE_SIZE", "20")]);
    assert_eq!(
        apply(&appliers, &mut current, &new).await,
        ["DOTMAC_NOTES_PAGE_SIZE rejected: no room"]
    );
    assert_eq!((live.get().page_size, notes(&current).page_size), (50, 50));
}

#[tokio::test]
async fn live_keys_that_do_not_fit_what_waits_are_rejected() {
    let mut appliers = Appliers::default();
    appliers.register("notes", |_: &NotesSettings| ());
    let mut current = loaded(&[]);
    // Together they fit; the interval needs a restart.
    let new = loaded(&[
        ("DOTMAC_NOTES_KEEP", "5m"),
        ("DOTMAC_NOTES_SWEEP_INTERVAL", "1m"),
    ]);
    assert_eq!(
        apply(&appliers, &mut current, &new).await,
        [
            "DOTMAC_NOTES_KEEP rejected: they do not fit what needs a restart: DOTMAC_NOTES_SWEEP_INTERVAL: deleted \
             notes would stay longer than DOTMAC_NOTES_KEEP says; make it shorter, or keep them longer"
        ]
    );
    assert_eq!(notes(&current).keep, Duration::from_secs(30 * 86_400));
}

#[test]
fn live_keys_that_nothing_applies_are_refused_by_name() {
    let mut appliers = Appliers::default();
    let error = appliers.check(&loaded(&[])).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the module `notes` declares live keys and applies none of them (DOTMAC_NOTES_PAGE_SIZE, DOTMAC_NOTES_KEEP): \
         take them by `Mount::live` or `Mount::reload`, or take `live: true` from them"
    );
    let off = loaded(&[("DOTMAC_NOTES_ENABLED", "false")]);
    assert_eq!(appliers.check(&off), Ok(()));
    appliers.register("notes", |_: &NotesSettings| ());
    assert_eq!(appliers.check(&loaded(&[])), Ok(()));
    appliers.register("notes", |_: &NoSettings| ());
    assert_eq!(
        appliers.check(&loaded(&[])).unwrap_err().to_string(),
        "the module `notes` applies a reload of settings that are not its own: `Mount::live` and `Mount::reload` take \
         `Module::Settings`"
    );
}

#[test]
fn switching_a_module_needs_a_restart_and_nothing_else_of_it_changes() {
    let on = loaded(&[]);
    let off = [
        ("DOTMAC_NOTES_ENABLED", "false"),
        ("DOTMAC_NOTES_PAGE_SIZE", "20"),
    ];
    let mut new = loaded(&off);
    let switch = ("DOTMAC_NOTES_ENABLED".to_owned(), false);
    let page_size = ("DOTMAC_NOTES_PAGE_SIZE".to_owned(), true);
    assert_eq!(
        changed(&new, &on),
        std::slice::from_ref(&switch),
        "of a module that is off"
    );
    assert_eq!(changed(&on, &new), [switch, page_size]);
    // Until the restart it runs, and has its secrets.
    assert_eq!(new.literals_of_modules().count(), 0);
    new.keep_modules_of(&on);
    assert_eq!(new.literals_of_modules().count(), 1);
}
