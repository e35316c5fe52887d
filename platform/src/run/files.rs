//! Notices when a file that a `_FILE` key names holds something else: Kubernetes rotates mounted
//! secrets by swapping a symbolic link, others write in place or rename.

use std::{
    io::ErrorKind,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    time::Duration,
};

use tokio::sync::mpsc;
use tracing::{info, warn};

/// Between two checks. A check is one `stat` for each file, which also network file systems answer
/// truly, unlike notifications.
const INTERVAL: Duration = Duration::from_secs(2);

/// The metadata of a file, through all links; `None` if there is none.
type Fingerprint = Option<(u64, u64, u64, i64, i64)>;

struct Watched {
    path: PathBuf,
    last: Fingerprint,
    answers: bool,
}

/// Watches `files` for as long as the receiver is there: one message after each change.
pub(super) fn watch(files: Vec<PathBuf>) -> mpsc::Receiver<()> {
    let (sender, changes) = mpsc::channel(1);
    if files.is_empty() {
        // Nothing will ever change, which is not the end of the channel.
        tokio::spawn(async move { sender.closed().await });
        return changes;
    }
    tokio::spawn(async move {
        let mut watched = Vec::with_capacity(files.len());
        for path in files {
            let (last, answers) = (fingerprint(&path).await.unwrap_or(None), true);
            watched.push(Watched {
                path,
                last,
                answers,
            });
        }
        loop {
            tokio::time::sleep(INTERVAL).await;
            let mut changed = false;
            for file in &mut watched {
                changed |= file.has_changed().await;
            }
            if sender.is_closed() {
                return;
            }
            if changed {
                // A reload that is still to come will read this change too.
                sender.try_send(()).ok();
            }
        }
    });
    changes
}

impl Watched {
    /// A file that does not answer has not changed; that is logged once.
    async fn has_changed(&mut self) -> bool {
        let now = fingerprint(&self.path).await;
        let path = self.path.display();
        match (now, self.answers) {
            (Ok(now), answered) => {
                if !answered {
                    info!(%path, "the file of a setting can be read again");
                }
                self.answers = true;
                std::mem::replace(&mut self.last, now) != now
            }
            (Err(error), true) => {
                warn!(%path, %error, "the file of a setting cannot be read");
                self.answers = false;
                false
            }
            (Err(_), false) => false,
        }
    }
}

/// # Errors
///
/// The file system does not answer.
async fn fingerprint(path: &Path) -> std::io::Result<Fingerprint> {
    match dotmac_bounded_read::metadata(path).await {
        Ok(file) => Ok(Some((
            file.dev(),
            file.ino(),
            file.len(),
            file.mtime(),
            file.mtime_nsec(),
        ))),
        Err(error) if error.kind() == ErrorKind::TimedOut => Err(error),
        Err(_) => Ok(None),
    }
}
