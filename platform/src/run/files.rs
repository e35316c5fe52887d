//! Notices when a file that a `_FILE` key names holds something else: Kubernetes rotates mounted
//! secrets by swapping a symbolic link, others write in place or rename.

use std::{
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    time::Duration,
};

use tokio::sync::mpsc;

/// Between two looks. A look is one `stat` for each file, which also network file systems answer truly,
/// unlike notifications.
const INTERVAL: Duration = Duration::from_secs(2);

/// What `stat` says of a file, through all links; `None` if there is none.
type Look = Option<(u64, u64, u64, i64, i64)>;

/// Watches `files` for as long as somebody receives: one message after each change.
pub(super) fn watch(files: Vec<PathBuf>) -> mpsc::Receiver<()> {
    let (sender, changes) = mpsc::channel(1);
    if !files.is_empty() {
        tokio::spawn(async move {
            let mut before = looks(files.clone()).await;
            loop {
                tokio::time::sleep(INTERVAL).await;
                let now = looks(files.clone()).await;
                if sender.is_closed() {
                    return;
                }
                if now != before {
                    before = now;
                    // A reload that is still to come will read this change too.
                    sender.try_send(()).ok();
                }
            }
        });
    } else {
        // Nothing will ever change, which is not the end of the channel.
        tokio::spawn(async move { sender.closed().await });
    }
    changes
}

/// Off the main thread: a network file system that hangs must hold up nobody.
async fn looks(files: Vec<PathBuf>) -> Vec<Look> {
    let looking = tokio::task::spawn_blocking(move || files.iter().map(|it| look(it)).collect());
    looking.await.unwrap_or_default()
}

fn look(file: &Path) -> Look {
    let seen = fs::metadata(file).ok()?;
    Some((
        seen.dev(),
        seen.ino(),
        seen.len(),
        seen.mtime(),
        seen.mtime_nsec(),
    ))
}
