//! What SQLite does: killed under load, a full disk, a locked file; and backups.
