//! `system.echo`: a job to try and to probe the queue with; every caller may enqueue it.

use std::time::{Duration, Instant};

use dotmac_platform::jobs::{Backoff, Job, JobError, MAX_RESULT, Rules, Run};
use serde::{Deserialize, Serialize};

/// The longest that it sleeps, in milliseconds.
const MAX_SLEEP: u64 = 600_000;

/// Results in its text, after some time and some failures.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "EchoArgs")]
pub(crate) struct Echo {
    text: String,
    sleep_ms: u64,
    fail_times: u32,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct EchoArgs {
    text: String,
    #[serde(default)]
    sleep_ms: u64,
    #[serde(default)]
    fail_times: u32,
}

impl TryFrom<EchoArgs> for Echo {
    type Error = String;

    fn try_from(args: EchoArgs) -> Result<Self, String> {
        let EchoArgs {
            text,
            sleep_ms,
            fail_times,
        } = args;
        // Its result is the text as JSON, where a character may take six bytes.
        let bytes = serde_json::to_string(&text).map_or(usize::MAX, |it| it.len());
        if bytes > MAX_RESULT {
            return Err(format!(
                "`text` has {bytes} bytes as JSON; {MAX_RESULT} are allowed"
            ));
        }
        if sleep_ms > MAX_SLEEP {
            return Err(format!("`sleep_ms` is {sleep_ms}; {MAX_SLEEP} is the most"));
        }
        Ok(Self {
            text,
            sleep_ms,
            fail_times,
        })
    }
}

impl Job for Echo {
    const KIND: &'static str = "system.echo";
    type Output = String;
    const RULES: Rules = Rules {
        backoff: Backoff::fixed(Duration::from_secs(1)),
        is_public: true,
        shown: &["text", "sleep_ms", "fail_times"],
        ..Rules::DEFAULT
    };
}

/// Does it.
pub(crate) async fn echo(run: Run<Echo>) -> Result<String, JobError> {
    let (began, whole) = (Instant::now(), Duration::from_millis(run.sleep_ms));
    loop {
        let slept = began.elapsed().min(whole);
        let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        run.progress(millis(slept), Some(run.sleep_ms), "sleeping");
        if slept == whole {
            break;
        }
        tokio::select! {
            () = tokio::time::sleep((whole - slept).min(Duration::from_secs(1))) => {}
            () = run.cancelled() => return Err(JobError::cancelled()),
        }
    }
    if run.attempt() <= run.fail_times {
        let message = format!(
            "failure {} of {}, as requested",
            run.attempt(),
            run.fail_times
        );
        return Err(JobError::again("echo_failed", message));
    }
    Ok(run.text.clone())
}

#[cfg(test)]
mod tests {
    use serde_json::{from_value, json};

    use super::*;

    #[test]
    fn arguments_are_checked() {
        let echo: Echo =
            from_value(json!({"text": "hello"})).unwrap_or_else(|error| unreachable!("{error}"));
        assert_eq!(
            (&*echo.text, echo.sleep_ms, echo.fail_times),
            ("hello", 0, 0)
        );
        let longest = json!({"text": "a".repeat(MAX_RESULT - 2)});
        assert!(from_value::<Echo>(longest).is_ok());
        for (wrong, expected) in [
            (json!({}), "missing field `text`"),
            (json!({"text": "a", "colour": 1}), "unknown field `colour`"),
            (
                json!({"text": "a", "sleep_ms": 600_001}),
                "600000 is the most",
            ),
            (
                json!({"text": "a".repeat(MAX_RESULT - 1)}),
                "16385 bytes as JSON; 16384 are allowed",
            ),
            (json!({"text": "\u{1}".repeat(3000)}), "18002 bytes as JSON"),
        ] {
            let error = from_value::<Echo>(wrong)
                .err()
                .map(|error| error.to_string());
            assert!(
                error.as_deref().is_some_and(|it| it.contains(expected)),
                "{error:?}"
            );
        }
    }
}
