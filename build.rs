//! Tells the daemon which build it is: revision and time, for release builds and where the environment says them.
//!
//! A debug build does not look: else each commit would compile all tests anew.

#![expect(
    clippy::disallowed_methods,
    reason = "cargo speaks to build scripts by the environment"
)]

use std::{env, path::Path, process::Command};

fn main() {
    println!("cargo::rerun-if-env-changed=DOTMAC_BUILD_REVISION");
    println!("cargo::rerun-if-env-changed=SOURCE_DATE_EPOCH");
    let given = env::var("DOTMAC_BUILD_REVISION").ok();
    let is_release = env::var("PROFILE").is_ok_and(|profile| profile == "release");
    if given.is_none() && !is_release {
        return println!("cargo::rerun-if-changed=build.rs");
    }
    if let Some(log) = output("git", &["rev-parse", "--git-path", "logs/HEAD"])
        && Path::new(&log).exists()
    {
        println!("cargo::rerun-if-changed={log}");
    }
    if let Some(revision) = given.or_else(|| output("git", &["rev-parse", "--short=12", "HEAD"])) {
        println!("cargo::rustc-env=DOTMAC_BUILD_REVISION={revision}");
    }
    // Reproducible builds say what time it is (reproducible-builds.org, SOURCE_DATE_EPOCH).
    let second =
        env::var("SOURCE_DATE_EPOCH").map_or("now".to_owned(), |second| format!("@{second}"));
    if let Some(time) = output("date", &["-u", "-d", &second, "+%Y-%m-%dT%H:%M:%SZ"]) {
        println!("cargo::rustc-env=DOTMAC_BUILD_TIME={time}");
    }
}

/// The first line that a program prints; `None` if it fails or is not there.
fn output(program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program).args(arguments).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let line = text.lines().next()?.trim();
    (output.status.success() && !line.is_empty()).then(|| line.to_owned())
}
