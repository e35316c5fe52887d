//! What follows the end of an attempt.

use std::time::Duration;

use tracing::{debug, info, warn};

use super::super::{
    JobError, JobState,
    error::Then,
    run::RunState,
    settle::{End, Failure},
};

/// The end of an attempt of `run` with the result `outcome`.
pub(super) fn end_of(run: &RunState, outcome: Result<Option<String>, JobError>) -> End {
    let failed = |error: &JobError| Failure {
        code: error.code.clone().into_owned(),
        message: error.message.clone(),
        started_at: Some(run.started_at),
    };
    let end = End {
        kind: Some(run.spec.kind),
        crashes: Some(0),
        progress: run.take_progress(),
        ..End::new(run.lease, run.attempt, JobState::Completed)
    };
    let error = match outcome {
        Ok(result) => return End { result, ..end },
        Err(error) => error,
    };
    let failure = Some(failed(&error));
    let (state, wait) = what_follows(run, error.then);
    // Neither was an attempt: one was cut off by a stop, the other has not begun.
    let is_returned = matches!(state, JobState::Ready | JobState::Scheduled);
    report(run, &error, state, wait);
    End {
        state,
        wait,
        is_uncounted: is_returned || error.is_uncounted() && !state.is_finished(),
        failure: failure.filter(|_| !is_returned),
        ..end
    }
}

/// The state after a failed attempt, and how long the next one waits.
fn what_follows(run: &RunState, then: Then) -> (JobState, Option<Duration>) {
    if run.is_cancelled() {
        return (JobState::Cancelled, None);
    }
    let wait = match then {
        Then::Cancel => return (JobState::Cancelled, None),
        Then::Fail => return (JobState::Failed, None),
        _ if run.is_stopping() => return (JobState::Ready, Some(Duration::ZERO)),
        Then::Uncounted(wait) => return (JobState::Retrying, Some(wait)),
        Then::NotYet(wait) => return (JobState::Scheduled, Some(wait)),
        Then::After(wait) => wait,
        Then::Again => {
            let attempt = u32::try_from(run.attempt).unwrap_or(1);
            run.spec.rules.backoff.wait(attempt)
        }
    };
    if run.attempt >= run.max_attempts {
        return (JobState::Failed, None);
    }
    (JobState::Retrying, Some(wait))
}

fn report(run: &RunState, error: &JobError, state: JobState, wait: Option<Duration>) {
    let (kind, id, attempt) = (run.spec.kind, run.lease.id, run.attempt);
    let JobError { code, message, .. } = error;
    match state {
        JobState::Failed => warn!(
            job.kind = kind, job.id = %id, attempt, code = &**code, error = message,
            "job `{kind}` failed at attempt {attempt}; no retry"
        ),
        JobState::Retrying => warn!(
            job.kind = kind, job.id = %id, attempt, code = &**code, error = message,
            wait_ms = wait.unwrap_or_default().as_millis() as u64,
            "job `{kind}` failed at attempt {attempt}; retrying"
        ),
        JobState::Scheduled => debug!(
            job.kind = kind, job.id = %id, code = &**code, reason = message,
            wait_ms = wait.unwrap_or_default().as_millis() as u64,
            "job `{kind}` waits for what it needs"
        ),
        _ => info!(
            job.kind = kind, job.id = %id, attempt,
            "job `{kind}` ended early: {state}"
        ),
    }
}
