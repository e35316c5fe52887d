//! Keeps what is in memory, secrets included, out of files and out of the sight of other processes.

use std::io;

/// From now on this process leaves no core dump, regardless of `core_pattern` and `ulimit -c`, and its user's other
/// processes can neither attach to it nor read its memory and its environment. Its own figures in `/proc/self` stay
/// readable to itself. Does nothing but on Linux.
///
/// Source: `PR_SET_DUMPABLE` in prctl(2).
///
/// # Errors
///
/// The error of the system.
pub(crate) fn keep_private() -> io::Result<()> {
    #[cfg(target_os = "linux")]
    {
        use rustix::process::{DumpableBehavior, set_dumpable_behavior};
        set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    }
    Ok(())
}
