//! The socket itself: who may open it, and who has.

use std::{
    any::Any,
    fmt, fs, io,
    os::unix::{
        fs::PermissionsExt,
        net::{UnixListener, UnixStream},
    },
    path::Path,
};

use actix_web::dev::Extensions;

/// For the owner alone.
const MODE: u32 = 0o600;

/// Binds a socket at `path` that no other user can open at any moment. The file of a daemon that is gone
/// is replaced.
///
/// # Errors
///
/// [`io::ErrorKind::AddrInUse`] if a process answers there or the file is no socket, or the error of the operating
/// system.
pub(super) fn bind(path: &Path) -> io::Result<UnixListener> {
    if UnixStream::connect(path).is_ok() {
        return Err(io::Error::new(
            io::ErrorKind::AddrInUse,
            "another process answers there",
        ));
    }
    let is_socket =
        |meta: fs::Metadata| std::os::unix::fs::FileTypeExt::is_socket(&meta.file_type());
    if fs::symlink_metadata(path).is_ok_and(|meta| !is_socket(meta)) {
        return Err(io::Error::new(
            io::ErrorKind::AddrInUse,
            "a file that is no socket exists there",
        ));
    }
    // Made under another name, so that it has its mode before it can be found.
    let mut hidden = path.as_os_str().to_owned();
    hidden.push(format!(".{}", uuid::Uuid::new_v4().simple()));
    let listener = UnixListener::bind(&hidden)?;
    fs::set_permissions(&hidden, fs::Permissions::from_mode(MODE))
        .and_then(|()| fs::rename(&hidden, path))
        .inspect_err(|_| drop(fs::remove_file(&hidden)))?;
    Ok(listener)
}

/// The process at the other end of a connection.
#[derive(Clone, Copy, Debug)]
pub(super) struct Peer {
    user: u32,
    process: Option<i32>,
}

/// Keeps the [`Peer`] of a new connection for its requests.
pub(super) fn note_peer(connection: &dyn Any, extensions: &mut Extensions) {
    let stream = connection.downcast_ref::<tokio::net::UnixStream>();
    if let Some(Ok(who)) = stream.map(tokio::net::UnixStream::peer_cred) {
        extensions.insert(Peer {
            user: who.uid(),
            process: who.pid(),
        });
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "user {}", self.user)?;
        match self.process {
            Some(process) => write!(f, ", process {process}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_socket_is_its_owners_alone_and_replaces_only_a_dead_one() -> io::Result<()> {
        let directory = tempfile::tempdir()?;
        let path = directory.path().join("admin.sock");
        let first = bind(&path)?;
        assert_eq!(fs::metadata(&path)?.permissions().mode() & 0o777, MODE);
        let second = bind(&path).map_err(|error| error.kind());
        assert_eq!(second.err(), Some(io::ErrorKind::AddrInUse));
        drop(first);
        bind(&path)?;
        assert_eq!(fs::read_dir(directory.path())?.count(), 1);
        let file = directory.path().join("file");
        fs::write(&file, "precious")?;
        assert!(bind(&file).is_err());
        assert_eq!(fs::read_to_string(&file)?, "precious");
        Ok(())
    }
}
