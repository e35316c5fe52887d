//! The files of `deploy/` agree with the code: routes, names, time-outs, exit codes.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    time::Duration,
};

use dotmac_platform::{
    Exit,
    settings::{Catalogue, Settings, Sources},
};

use crate::support::files;

fn read(path: &str) -> String {
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
fn value<'a>(text: &'a str, key: &str) -> &'a str {
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
fn every_deployment_has_an_admin_socket_and_a_place_for_it() {
    let socket = "/run/dotmac/admin.sock";
    let manifest = read("kubernetes/deployment.yaml");
    let variable = manifest.split("name: DOTMAC_ADMIN_SOCKET").nth(1).unwrap();
    assert_eq!(value(variable, "value"), socket);
    let mount = manifest.split("- name: run").nth(1).unwrap();
    assert_eq!(value(mount, "mountPath"), "/run/dotmac");
    let volume = manifest.split("- name: run").nth(2).unwrap();
    assert_eq!(value(volume, "emptyDir"), "");

    // systemd's %t is /run.
    let unit = read("systemd/dotmac.service").replace("%t", "/run");
    assert!(unit.contains(&format!("Environment=DOTMAC_ADMIN_SOCKET={socket}\n")));
    assert_eq!(value(&unit, "RuntimeDirectory"), "dotmac");
    assert_eq!(value(&unit, "RuntimeDirectoryMode"), "0700");

    let image = read("Dockerfile");
    assert!(image.contains(&format!("DOTMAC_ADMIN_SOCKET={socket}")));
    assert!(image.contains("-m 0700 -o 10001 -g 10001 /run/dotmac"));
    let volumes = image
        .lines()
        .find(|line| line.starts_with("VOLUME"))
        .unwrap();
    assert!(volumes.contains("\"/run/dotmac\""), "{volumes}");
}

#[test]
fn the_pods_have_the_token_that_the_kubernetes_login_reads() {
    let manifest = read("kubernetes/deployment.yaml");
    let mount = manifest.split("- name: vault-token").nth(1).unwrap();
    let directory = value(mount, "mountPath");
    let volume = manifest.split("- name: vault-token").nth(2).unwrap();
    let file = value(volume.split("serviceAccountToken").nth(1).unwrap(), "path");
    let token = format!("{directory}/{file}");
    let reads_it = |path: &PathBuf| std::fs::read_to_string(path).unwrap().contains(&token);
    assert!(
        files(&["platform/src"], "rs").iter().any(reads_it),
        "{token}"
    );

    let account = value(&manifest, "serviceAccountName").to_owned();
    assert_eq!(
        value(&read("kubernetes/serviceaccount.yaml"), "name"),
        account
    );
    let role = read("README.md");
    assert!(role.contains(&format!("bound_service_account_names={account}")));
    let audience = value(volume, "audience");
    assert!(role.contains(&format!("audience={audience}")));
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
