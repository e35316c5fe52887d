//! A file system with little room, which a test fills.

use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
};

/// A file system in memory, gone when dropped. Part of it is taken by a file that can be removed.
pub struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    /// One of `size` KiB; `None` where this user may not mount.
    pub fn mount(size: usize) -> Option<Self> {
        let directory = tempfile::tempdir().unwrap();
        let options = format!("size={size}k,mode=777");
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &options, "tmpfs"])
            .arg(directory.path())
            .output()
            .is_ok_and(|output| output.status.success());
        if !mounted {
            eprintln!("skipped: only root may mount a small disk");
            return None;
        }
        fs::set_permissions(directory.path(), Permissions::from_mode(0o777)).unwrap();
        Some(Self(directory))
    }

    /// Where it is mounted.
    pub fn path(&self) -> &Path {
        self.0.path()
    }

    /// Takes `size` KiB away, until [`free`](Self::free).
    pub fn take(&self, size: usize) {
        fs::write(self.filler(), vec![1_u8; size * 1024]).unwrap();
    }

    /// Gives back what [`take`](Self::take) took.
    pub fn free(&self) {
        fs::remove_file(self.filler()).unwrap();
    }

    fn filler(&self) -> PathBuf {
        self.0.path().join("filler")
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily, since a server may still be on its way out.
        Command::new("umount")
            .arg("-l")
            .arg(self.0.path())
            .status()
            .ok();
    }
}
