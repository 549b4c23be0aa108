//! A block device, or a file, under a store.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::host::Host;

/// What a path leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Device {
    path: PathBuf,
    /// A block device: its name and number.
    block: Option<(String, String)>,
    /// File system and inode of a file.
    inode: (u64, u64),
}

impl Device {
    /// `None` if there is nothing that could be had, which whoever opens it tells.
    pub(super) fn find(host: &Host, path: &Path) -> Option<Self> {
        let metadata = fs::metadata(path).ok()?;
        let of = metadata.file_type();
        let block = of.is_block_device().then(|| {
            let (major, minor) = (libc::major(metadata.rdev()), libc::minor(metadata.rdev()));
            let number = format!("{major}:{minor}");
            (host.block_name(&number), number)
        });
        (block.is_some() || of.is_file()).then(|| Self {
            path: fs::canonicalize(path).unwrap_or_else(|_| path.to_owned()),
            inode: (metadata.dev(), metadata.ino()),
            block,
        })
    }

    pub(super) fn key(&self) -> String {
        match &self.block {
            Some((_, number)) => format!("block-{number}"),
            None => format!("file-{}-{}", self.inode.0, self.inode.1),
        }
    }

    /// The file that a loop device is made of.
    pub(super) fn backing(&self, host: &Host) -> Option<Self> {
        let (name, _) = self.block.as_ref()?;
        Self::find(host, &host.backing_file(name)?)
    }

    /// Has a block device for this process alone. Why not, and what to do.
    pub(super) fn claim(&self, host: &Host) -> Result<Option<File>, String> {
        let Some((name, _)) = &self.block else {
            let loops = host.loops_of(|path| {
                Self::find(host, path).is_some_and(|other| other.inode == self.inode)
            });
            return match loops.first() {
                Some(name) => Err(format!(
                    "{name} is a loop device of this file: losetup -d /dev/{name}"
                )),
                None => Ok(None),
            };
        };
        let mut options = OpenOptions::new();
        let options = options.read(true);
        let exclusive = options.custom_flags(libc::O_EXCL | libc::O_NONBLOCK);
        match exclusive.open(&self.path) {
            Ok(file) => Ok(Some(file)),
            Err(error) if error.raw_os_error() == Some(libc::EBUSY) => {
                let used = host.block_use(name);
                let used = used.unwrap_or_else(|| format!("another program has {name} to itself"));
                Err(format!(
                    "{used}: its data would be lost; unmount or stop that (`lsblk /dev/{name}`, \
                     `fuser -v /dev/{name}`)"
                ))
            }
            // Whoever serves it says what is wrong with it.
            Err(error) if is_absent(&error) => Ok(None),
            Err(error) => Err(format!("cannot be opened: {error}; see to it")),
        }
    }
}

fn is_absent(error: &io::Error) -> bool {
    error.kind() == ErrorKind::NotFound
        || matches!(
            error.raw_os_error(),
            Some(libc::ENXIO | libc::ENODEV | libc::ENOMEDIUM)
        )
}
