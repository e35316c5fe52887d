//! The files of `deploy/` agree with the code: routes, names, time-outs, exit codes.

use std::{collections::BTreeSet, os::unix::fs::PermissionsExt as _, path::Path, time::Duration};

use dotmac_accounts::AccountsSettings;
use dotmac_files::FilesSettings;
use dotmac_platform::{
    Exit,
    settings::{Catalogue, Settings, Sources},
};

use crate::support::repository;

/// A file of `deploy/`.
pub fn read(path: &str) -> String {
    std::fs::read_to_string(
        Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("deploy")
            .join(path),
    )
    .unwrap()
}

/// The unit as systemd reads it when it has the name `program.service`: `%N` is the program, `%t` is `/run`.
pub fn unit(program: &str) -> String {
    read("systemd/dotmac.service")
        .replace("%N", program)
        .replace("%t", "/run")
}

/// The settings of a production daemon with the required keys only.
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
    let mut catalogue = Catalogue::platform();
    catalogue.add::<AccountsSettings>("accounts").unwrap();
    catalogue.add::<FilesSettings>("files").unwrap();
    let settings =
        Settings::from_sources(&catalogue, &Sources::new([("DOTMAC_ENVIRONMENT", "test")]));
    // `DOTMAC_BUILD_…` are for the compiler.
    let known: BTreeSet<String> = settings
        .unwrap()
        .effective()
        .into_iter()
        .map(|row| row.key)
        .collect();
    for file in [
        "kubernetes/deployment.yaml",
        "systemd/dotmac.service",
        "Dockerfile",
    ] {
        let keys = keys(&read(file)).into_iter();
        for key in keys.filter(|key| !key.starts_with("DOTMAC_BUILD_")) {
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
fn the_image_asks_its_program_itself_how_it_is() {
    let image = read("Dockerfile");
    assert!(image.contains(r#""probe", "live""#), "{image}");
    assert!(
        image.lines().any(|line| line.starts_with("USER 1")),
        "not root, and by number"
    );
}

/// The text from `mark` to the end of its instruction in the Dockerfile.
fn instruction<'a>(image: &'a str, mark: &str) -> &'a str {
    let (_, rest) = image
        .split_once(mark)
        .unwrap_or_else(|| panic!("no {mark}"));
    rest.split("\n\n").next().unwrap()
}

#[test]
fn the_image_is_of_the_program_that_is_asked_for_and_of_the_daemon_by_default() {
    let image = read("Dockerfile");
    let manifest = std::fs::read_to_string(repository().join("Cargo.toml")).unwrap();
    let daemon = image.split_once("ARG PROGRAM=").unwrap().1.lines().next();
    let binary = format!("[[bin]]\nname = {:?}", daemon.unwrap());
    assert!(manifest.contains(&binary), "{binary}");
    // The started program is a link to the built one.
    assert!(image.contains("/usr/local/bin/${PROGRAM}\n"));
    assert!(image.contains(r#"ln -s "${PROGRAM}" /usr/local/bin/program"#));
    assert!(image.contains(r#"ENTRYPOINT ["/usr/local/bin/program"]"#));
    assert!(instruction(&image, "HEALTHCHECK --").contains(r#"CMD ["/usr/local/bin/program", "#));
}

#[test]
fn the_image_builds_what_its_arguments_name() {
    let image = read("Dockerfile");
    let step = instruction(&image, "target=/usr/local/cargo/registry \\\n");
    let step = step.split_once("--mount=type=cache,target=/target \\\n");
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path().display().to_string();
    let step = step.unwrap().1.replace("\\\n", " ");
    let step = step
        .replace("=/target", &format!("={root}/target"))
        .replace("\"/target", &format!("\"{root}/target"))
        .replace(" /out", &format!(" {root}/out"));
    // In the place of cargo a script that writes down how it was called, and a program that is there already.
    let script =
        "#!/bin/sh\necho \"$PWD $* $DOTMAC_BUILD_REVISION ${DOTMAC_BUILD_TIME-unknown}\"\n";
    for (path, text) in [("bin/cargo", script), ("target/release/todo", "todo")] {
        let path = directory.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    std::fs::create_dir(directory.path().join("service")).unwrap();
    let built = std::process::Command::new("sh")
        .args(["-c", &step])
        .current_dir(&directory)
        .env_clear()
        .env("PATH", format!("{root}/bin:/usr/bin:/bin"))
        .envs([
            ("DIRECTORY", "service"),
            ("PROGRAM", "todo"),
            ("PACKAGE", "things"),
        ])
        .envs([("REVISION", "3f2c1ab"), ("BUILD_TIME", "")])
        .output()
        .unwrap();
    let errors = String::from_utf8_lossy(&built.stderr);
    assert!(built.status.success(), "{step}: {errors}");
    assert_eq!(
        String::from_utf8_lossy(&built.stdout).trim(),
        format!(
            "{root}/service build --locked --release --package things --bin todo 3f2c1ab unknown"
        )
    );
    let program = directory.path().join("out/program");
    assert_eq!(std::fs::read_to_string(program).unwrap(), "todo");
}

#[test]
fn the_unit_has_no_name_but_its_own() {
    let unit = unit("notes");
    for line in [
        "ExecStart=/usr/local/bin/notes serve",
        "EnvironmentFile=-/etc/notes/notes.env",
        "Environment=DOTMAC_ADMIN_SOCKET=/run/notes/admin.sock",
        "RuntimeDirectory=notes",
        "StateDirectory=notes",
    ] {
        assert!(unit.lines().any(|it| it == line), "no {line}");
    }
    let named = unit.lines().filter(|line| line.contains("dotmac"));
    let named: Vec<&str> = named.filter(|line| !line.starts_with(['#', 'D'])).collect();
    assert!(named.is_empty(), "{named:?}");
}

#[test]
fn the_manifests_of_another_program_differ_by_its_name_alone() {
    assert!(read("README.md").contains("sed 's/dotmac/notes/g'"));
    let renamed = |file: &str| read(&format!("kubernetes/{file}")).replace("dotmac", "notes");
    let deployment = renamed("deployment.yaml");
    let service = renamed("service.yaml");
    let selector = "app.kubernetes.io/name: notes";
    assert!(deployment.contains(selector) && service.contains(selector));
    assert!(renamed("poddisruptionbudget.yaml").contains(selector));
    assert_eq!(value(&deployment, "serviceAccountName"), "notes");
    assert_eq!(value(&renamed("serviceaccount.yaml"), "name"), "notes");
    assert!(value(&deployment, "image").starts_with("notes:"));
    // The socket is in the volume that is there for it.
    let socket = deployment
        .split("name: DOTMAC_ADMIN_SOCKET")
        .nth(1)
        .unwrap();
    let place = deployment.split("- name: run").nth(1).unwrap();
    assert!(value(socket, "value").starts_with(value(place, "mountPath")));
    let of_platform = read("kubernetes/deployment.yaml");
    assert_eq!(keys(&deployment), keys(&of_platform));
}

#[test]
fn systemd_has_no_objection_to_the_unit_under_either_name() {
    let directory = tempfile::tempdir().unwrap();
    for program in ["dotmac", "notes"] {
        let name = format!("{program}.service");
        let file = directory.path().join(&name);
        // The program need not be installed for its unit to be checked.
        let text = read("systemd/dotmac.service");
        let text = text.replace("/usr/local/bin/%N serve", "/bin/true");
        assert!(text.contains("/bin/true"));
        std::fs::write(&file, text).unwrap();
        let checked = std::process::Command::new("systemd-analyze")
            .arg("verify")
            .arg(&file)
            .output()
            .unwrap();
        let printed = String::from_utf8_lossy(&checked.stderr);
        let objections: Vec<&str> = printed
            .lines()
            .filter(|line| line.contains(&name))
            .collect();
        assert!(objections.is_empty(), "{objections:#?}");
    }
}
