//! What can become of a job.

use dotmac_db::words;
use serde::{Deserialize, Serialize};

words! {
    /// The state of a job: its name as in the database and over HTTP.
    #[derive(Serialize, Deserialize)]
    #[serde(rename_all = "snake_case")]
    pub enum JobState {
        /// It waits for its time.
        Scheduled = "scheduled",
        /// It waits for a worker.
        Ready = "ready",
        /// A worker has it.
        Running = "running",
        /// An attempt failed; it waits for the time of the next one.
        Retrying = "retrying",
        /// It succeeded.
        Completed = "completed",
        /// All its attempts failed, or one in a way that another would not mend.
        Failed = "failed",
        /// It was cancelled.
        Cancelled = "cancelled",
        /// It was running when its process ended, too often to be tried again unasked.
        Parked = "parked",
    }
}

impl JobState {
    /// Whether nothing happens to the job any more unless it is asked for.
    #[must_use]
    pub const fn is_finished(self) -> bool {
        matches!(
            self,
            Self::Completed | Self::Failed | Self::Cancelled | Self::Parked
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_are_read_as_they_are_written() {
        for &state in JobState::ALL {
            assert_eq!(state.to_string().parse(), Ok(state));
            assert_eq!(
                serde_json::to_value(state).ok(),
                Some(state.as_str().into())
            );
        }
        assert!("done".parse::<JobState>().is_err());
    }
}
