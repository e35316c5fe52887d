//! Has the daemon's relocations packed, and gives it the revision and the time of its build: for release builds, and
//! where the environment has them.
//!
//! A debug build does not look for them: else each commit would compile all tests again.

#![expect(
    clippy::disallowed_methods,
    reason = "cargo speaks to build scripts by the environment"
)]

use std::{env, path::Path, process::Command};

fn main() {
    pack_relocations();
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

/// Has the linker write the addresses of constant data as a bitmap, not as 24 bytes each: all of them are read at the
/// start and stay in memory. The loader has to know that form: glibc from 2.36 on. LLD and GNU ld from 2.38 on write it;
/// gold refuses the flag. `DOTMAC_PACK_RELOCATIONS=0` leaves it out, for gold or an older glibc than this machine's.
fn pack_relocations() {
    println!("cargo::rerun-if-env-changed=DOTMAC_PACK_RELOCATIONS");
    let variable = |name| env::var(name).unwrap_or_default();
    if variable("DOTMAC_PACK_RELOCATIONS") == "0" {
        return;
    }
    let is_gnu =
        variable("CARGO_CFG_TARGET_OS") == "linux" && variable("CARGO_CFG_TARGET_ENV") == "gnu";
    // Of another machine the version is not known.
    if is_gnu && variable("HOST") == variable("TARGET") && glibc() >= Some((2, 36)) {
        println!("cargo::rustc-link-arg=-Wl,-z,pack-relative-relocs");
    }
}

/// The version of this machine's glibc.
fn glibc() -> Option<(u32, u32)> {
    let text = output("getconf", &["GNU_LIBC_VERSION"])?;
    let (major, minor) = text.strip_prefix("glibc ")?.split_once('.')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

/// The first line that a program prints; `None` if it fails or is not there.
fn output(program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program).args(arguments).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let line = text.lines().next()?.trim();
    (output.status.success() && !line.is_empty()).then(|| line.to_owned())
}
