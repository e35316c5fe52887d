//! `telemetry::install` in its own process: the global subscriber, a panic hook that logs, an output without a reader.

#![expect(
    clippy::disallowed_methods,
    reason = "the test program is its own child, marked by a variable, and ends as requested"
)]

use std::error::Error;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use dotmac_telemetry::{Config, TelemetryError, install};
use tracing::{error, info, info_span};

type Outcome = Result<(), Box<dyn Error>>;

/// Which program a child process is to be. The test binary runs itself.
const ROLE: &str = "DOTMAC_TEST_ROLE";

fn program(role: &str) -> std::io::Result<Command> {
    let mut command = Command::new(std::env::current_exe()?);
    command
        .args(["--exact", "child", "--nocapture"])
        .env(ROLE, role)
        .stdin(Stdio::null())
        .stderr(Stdio::null());
    Ok(command)
}

/// The child's program; an ordinary test run passes it by.
#[test]
fn child() -> Outcome {
    match std::env::var(ROLE).as_deref() {
        Ok("speak") => speak(),
        Ok("flood") => flood(),
        _ => Ok(()),
    }
}

#[expect(clippy::panic, reason = "what is tested")]
fn speak() -> Outcome {
    let telemetry = install(&Config::default())?;
    assert!(matches!(
        install(&Config::default()),
        Err(TelemetryError::AlreadyInstalled)
    ));
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(ToString::to_string);
        error!(place, "panicked");
    }));
    let span = info_span!("request", request_id = "r-1");
    span.in_scope(|| info!("inside"));
    info!(parent: &span, "beside");
    let entered = span.enter();
    drop(std::panic::catch_unwind(|| panic!("on purpose")));
    drop(entered);
    assert!(telemetry.flush(Duration::from_secs(1)).is_complete());
    Ok(())
}

fn flood() -> Outcome {
    let telemetry = install(&Config::default())?;
    for round in 0..2000 {
        info!(round, padding = "x".repeat(200), "more than a pipe holds");
    }
    drop(telemetry);
    std::process::exit(7);
}

#[test]
fn a_panic_is_logged_with_its_request_and_every_line_with_its_trace() -> Outcome {
    let output = program("speak")?.output()?;
    let text = String::from_utf8(output.stdout)?;
    // A line of the test harness may stand before the first one.
    let json = text
        .lines()
        .filter_map(|line| line.find("{\"timestamp\"").map(|start| &line[start..]));
    let lines = json
        .map(serde_json::from_str)
        .collect::<Result<Vec<serde_json::Value>, _>>()?;
    let said: Vec<_> = lines
        .iter()
        .map(|line| line["message"].as_str().unwrap_or_default())
        .collect();
    assert_eq!(said, ["inside", "beside", "panicked"], "{text}");
    for line in &lines {
        assert_eq!(line["request_id"], "r-1");
        assert!(
            line["trace_id"].is_string() && line["trace_id"] == lines[0]["trace_id"],
            "{text}"
        );
        assert_eq!(line["span_id"], lines[0]["span_id"]);
    }
    assert!(
        lines[2]["place"]
            .as_str()
            .is_some_and(|place| place.contains("tests/install.rs")),
        "{text}"
    );
    Ok(())
}

#[test]
fn a_reader_that_has_stopped_does_not_keep_the_process_from_ending() -> Outcome {
    let mut child = program("flood")?.stdout(Stdio::piped()).spawn()?;
    let deadline = Instant::now() + Duration::from_secs(10);
    let status = loop {
        match child.try_wait()? {
            Some(status) => break status,
            None if Instant::now() > deadline => {
                child.kill()?;
                return Err("still blocked on its output after 10 s".into());
            }
            None => std::thread::sleep(Duration::from_millis(10)),
        }
    };
    assert_eq!(status.code(), Some(7));
    Ok(())
}
