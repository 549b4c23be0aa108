//! The socket's file: made private, never stolen from a running program, and
//! removed with it.

use std::fs::{self, DirBuilder, Permissions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

/// A listening socket whose file goes when this does.
pub(crate) struct Listening {
    path: PathBuf,
    identity: (u64, u64),
    listener: Option<UnixListener>,
}

/// Why there is no control socket.
#[derive(Debug)]
pub(crate) enum SocketError {
    /// Something answers there.
    InUse(PathBuf),
    /// What is there is no socket, so it is not ours to replace.
    Occupied(PathBuf),
    /// The system refused.
    Io(PathBuf, io::Error),
}

impl std::error::Error for SocketError {}

impl std::fmt::Display for SocketError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            SocketError::InUse(path) => write!(
                f,
                "another program answers on the control socket {}: stop it, or set another `socket` in [control]",
                path.display()
            ),
            SocketError::Occupied(path) => write!(
                f,
                "{} exists and is not a socket: set another `socket` in [control]",
                path.display()
            ),
            SocketError::Io(path, error) => write!(
                f,
                "cannot make the control socket {}: {error}; its directory must exist and be writable",
                path.display()
            ),
        }
    }
}

impl Listening {
    /// Listens at `path`, which only this user may open (mode 0600). A socket
    /// that a dead program left behind is replaced.
    pub(crate) fn open(path: &Path) -> Result<Self, SocketError> {
        let private = Private::make(path)?;
        let failed = |error| SocketError::Io(path.to_owned(), error);
        fs::rename(private.made_at(), path).map_err(failed)?;
        let metadata = fs::symlink_metadata(path).map_err(failed)?;
        let identity = (metadata.dev(), metadata.ino());
        Ok(Self {
            path: path.to_owned(),
            identity,
            listener: Some(private.listener.try_clone().map_err(failed)?),
        })
    }

    /// Whether [`Listening::open`] would succeed: all of it but the last step.
    pub(crate) fn probe(path: &Path) -> Result<(), SocketError> {
        Private::make(path).map(drop)
    }

    /// The listener, for the thread that will accept; the file stays with this.
    pub(super) fn take(&mut self) -> Option<UnixListener> {
        self.listener.take()
    }
}

/// A socket in a directory that nobody else can enter, to be moved to its place: at no
/// time is there a socket that others may open, and a stale one is replaced in one step.
struct Private {
    directory: PathBuf,
    listener: UnixListener,
}

impl Private {
    fn make(path: &Path) -> Result<Self, SocketError> {
        let failed = |error| SocketError::Io(path.to_owned(), error);
        match fs::symlink_metadata(path) {
            Ok(metadata) if !metadata.file_type().is_socket() => {
                return Err(SocketError::Occupied(path.to_owned()));
            }
            Ok(_) if UnixStream::connect(path).is_ok() => {
                return Err(SocketError::InUse(path.to_owned()));
            }
            _ => {}
        }
        let mut directory = path.as_os_str().to_owned();
        directory.push(format!(".{}", std::process::id()));
        let directory = PathBuf::from(directory);
        DirBuilder::new()
            .mode(0o700)
            .create(&directory)
            .map_err(failed)?;
        let made_at = directory.join("s");
        let listener = UnixListener::bind(&made_at).and_then(|listener| {
            fs::set_permissions(&made_at, Permissions::from_mode(0o600))?;
            Ok(listener)
        });
        match listener {
            Ok(listener) => Ok(Self {
                directory,
                listener,
            }),
            Err(error) => {
                remove(&directory);
                Err(failed(error))
            }
        }
    }

    fn made_at(&self) -> PathBuf {
        self.directory.join("s")
    }
}

impl Drop for Private {
    fn drop(&mut self) {
        remove(&self.directory);
    }
}

fn remove(private: &Path) {
    let _ = fs::remove_file(private.join("s"));
    let _ = fs::remove_dir(private);
}

impl Drop for Listening {
    fn drop(&mut self) {
        let ours = fs::symlink_metadata(&self.path)
            .is_ok_and(|metadata| (metadata.dev(), metadata.ino()) == self.identity);
        if ours
            && let Err(error) = fs::remove_file(&self.path)
            && error.kind() != ErrorKind::NotFound
        {
            log::warn!(
                "cannot remove the control socket {}: {error}",
                self.path.display()
            );
        }
    }
}
