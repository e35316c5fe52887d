//! The file to which checkpoints are handed out, in addition to the log of the program. It is only ever appended to, so a
//! copy of it on another disk shows what is not in the database any more.

use std::{
    collections::VecDeque,
    fs::OpenOptions,
    io,
    io::Write as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use tracing::{error, info};

use super::Checkpoint;

/// Checkpoints that wait while the file cannot be written; the oldest are given up beyond it, and are in the log alone.
const MOST_WAITING: usize = 1000;

/// What is to be written to the file, if there is one.
pub(super) struct Archive {
    path: Option<Arc<PathBuf>>,
    waiting: VecDeque<Checkpoint>,
    is_failing: bool,
}

impl Archive {
    pub(super) fn new(path: Option<Arc<PathBuf>>) -> Self {
        Self {
            path,
            waiting: VecDeque::new(),
            is_failing: false,
        }
    }

    /// Whether something could not be written.
    pub(super) fn is_failing(&self) -> bool {
        self.is_failing
    }

    /// Appends checkpoints, and those that wait, each as a line of JSON; returns once they are on the disk, or are not.
    pub(super) async fn add(&mut self, made: Vec<Checkpoint>) {
        let Some(path) = &self.path else { return };
        self.waiting.extend(made);
        if self.waiting.is_empty() {
            return;
        }
        let lines = self.waiting.iter().map(serde_json::to_string);
        let text: Result<Vec<_>, _> = lines.collect();
        // What failed may have left a part of a line.
        let end_of_former = if self.is_failing { "\n" } else { "" };
        let text = format!("{end_of_former}{}\n", text.unwrap_or_default().join("\n"));
        let file = Arc::clone(path);
        let written = tokio::task::spawn_blocking(move || append(&file, &text)).await;
        let written = written.unwrap_or_else(|died| Err(io::Error::other(died)));
        let was_failing = std::mem::replace(&mut self.is_failing, written.is_err());
        match written {
            Ok(()) => {
                self.waiting.clear();
                if was_failing {
                    info!(
                        "audit checkpoints are written to `{}` again",
                        path.display()
                    );
                }
            }
            Err(problem) => {
                let given_up = self.waiting.len().saturating_sub(MOST_WAITING);
                self.waiting.drain(..given_up);
                if !was_failing {
                    error!(
                        error = %problem,
                        "audit checkpoints cannot be written to `{}`: {problem}; retrying",
                        path.display()
                    );
                }
            }
        }
    }
}

/// In one piece, so that lines of several processes are not mixed.
fn append(path: &Path, text: &str) -> io::Result<()> {
    let mut file = OpenOptions::new().create(true).append(true).open(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_data()
}
