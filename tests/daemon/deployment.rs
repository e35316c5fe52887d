//! The files of `deploy/` agree with the code: routes, names, time-outs, exit codes.

use std::{collections::BTreeSet, path::Path, time::Duration};

use dotmac_platform::{
    Exit,
    settings::{Catalogue, Settings, Sources},
};

/// A file of `deploy/`.
pub fn read(path: &str) -> String {
    std::fs::read_to_string(
        Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("deploy")
            .join(path),
    )
    .unwrap()
}

/// The settings of a production daemon where nobody has set more than must be.
fn production() -> Settings {
    let given = [
        ("DOTMAC_ENVIRONMENT", "production"),
        ("DOTMAC_DATABASE_ALLOW_SQLITE", "true"),
    ];
    Settings::from_sources(&Catalogue::platform(), &Sources::new(given)).unwrap()
}

/// The text behind `key` on its line, as in `key: value` or `key=value`.
pub fn value<'a>(text: &'a str, key: &str) -> &'a str {
    let found = text
        .lines()
        .find_map(|line| line.trim().strip_prefix(key)?.strip_prefix([':', '=']));
    found.unwrap_or_else(|| panic!("no `{key}`")).trim()
}

fn seconds(text: &str) -> Duration {
    Duration::from_secs(
        text.trim_end_matches('s')
            .parse()
            .unwrap_or_else(|_| panic!("{text:?} is no number of seconds")),
    )
}

/// Every key of ours that `text` sets; comments may speak of others.
fn keys(text: &str) -> BTreeSet<String> {
    let code: String = text
        .lines()
        .filter(|line| !line.trim_start().starts_with('#'))
        .collect::<Vec<_>>()
        .join("\n");
    let words = code.split(|c: char| !(c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_'));
    words
        .filter(|word| word.starts_with("DOTMAC_"))
        .map(|word| word.trim_end_matches("_FILE").to_owned())
        .collect()
}

#[test]
fn every_setting_in_a_deployment_file_exists() {
    let known: BTreeSet<String> = production()
        .effective()
        .into_iter()
        .map(|row| row.key)
        .collect();
    for file in [
        "kubernetes/deployment.yaml",
        "systemd/dotmac.service",
        "Dockerfile",
    ] {
        for key in keys(&read(file)) {
            assert!(
                known.contains(&key),
                "{file} has {key}, which nothing reads"
            );
        }
    }
}

#[test]
fn kubernetes_probes_ask_the_right_routes() {
    let manifest = read("kubernetes/deployment.yaml");
    for (probe, path) in [
        ("startupProbe:", "/health/startup"),
        ("livenessProbe:", "/health"),
        ("readinessProbe:", "/ready"),
    ] {
        let section = manifest
            .split(probe)
            .nth(1)
            .unwrap_or_else(|| panic!("no {probe}"));
        assert_eq!(value(section, "path"), path);
        assert_eq!(value(section, "port"), "management");
    }
    let after = |mark| manifest.split(mark).nth(1).unwrap();
    let port = value(after("name: http"), "containerPort");
    assert_eq!(port, production().app.port.to_string());
    let port = value(after("name: management"), "containerPort");
    let set = value(after("DOTMAC_MANAGEMENT_PORT"), "value");
    assert_eq!(set, format!("{port:?}"));
    assert_eq!(value(&manifest, "prometheus.io/port"), set);
}

#[test]
fn kubernetes_waits_longer_than_the_daemon_takes_to_stop() {
    let (manifest, settings) = (read("kubernetes/deployment.yaml"), production());
    assert!(seconds(value(&manifest, "terminationGracePeriodSeconds")) > settings.shutdown.timeout);
    let readiness = manifest.split("readinessProbe:").nth(1).unwrap();
    let noticed = seconds(value(readiness, "periodSeconds"))
        * value(readiness, "failureThreshold").parse().unwrap();
    assert!(
        noticed < settings.shutdown.drain_delay,
        "the drain is over before it is noticed"
    );
}

#[test]
fn systemd_waits_longer_than_the_daemon_takes_to_stop_and_to_be_called_hung() {
    let (unit, settings) = (read("systemd/dotmac.service"), production());
    assert!(seconds(value(&unit, "TimeoutStopSec")) > settings.shutdown.timeout);
    assert!(seconds(value(&unit, "WatchdogSec")) > settings.supervision.hang_after);
    assert_eq!(value(&unit, "Type"), "notify");
    let final_codes = format!("{} {}", Exit::Usage.code(), Exit::Settings.code());
    assert_eq!(value(&unit, "RestartPreventExitStatus"), final_codes);
    assert_eq!(
        value(&unit, "SuccessExitStatus"),
        Exit::Interrupted.code().to_string()
    );
}

#[test]
fn the_image_asks_the_daemon_itself_how_it_is() {
    let image = read("Dockerfile");
    assert!(image.contains(r#""probe", "live""#), "{image}");
    assert!(
        image.lines().any(|line| line.starts_with("USER 1")),
        "not root, and by number"
    );
}

#[test]
fn systemd_has_no_objection_to_the_unit() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("dotmac.service");
    // The program need not be installed for its unit to be checked.
    std::fs::write(
        &file,
        read("systemd/dotmac.service").replace("/usr/local/bin/dotmac serve", "/bin/true"),
    )
    .unwrap();
    let said = std::process::Command::new("systemd-analyze")
        .arg("verify")
        .arg(&file)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&said.stderr).into_owned();
    let about_us: Vec<&str> = said
        .lines()
        .filter(|line| line.contains("dotmac.service"))
        .collect();
    assert!(about_us.is_empty(), "{about_us:#?}");
}
