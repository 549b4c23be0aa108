//! Devices under stores that the kernel lists as long as they are there. One that goes while
//! nobody asks it for anything is missed here first.

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::PathBuf;

use engine::{StoreConfig, StoreDevice};

use crate::config::{Program, transport_pci};

/// Where the kernel lists what stores are on.
#[derive(Debug, Default)]
pub(super) struct Presence {
    listed: Vec<(String, PathBuf)>,
    /// Stores of which it was missing. What is there later is another device, which nobody has
    /// opened.
    gone: Vec<String>,
}

impl Presence {
    pub(super) fn new(program: &Program) -> Self {
        let stores = program.engine.stores.iter();
        let listed = stores.filter_map(|store| Some((store.name.clone(), listed(program, store)?)));
        Self::of(listed.collect())
    }

    fn of(mut listed: Vec<(String, PathBuf)>) -> Self {
        listed.retain(|(_, path)| path.exists());
        Self {
            listed,
            gone: Vec::new(),
        }
    }

    /// Looks again.
    pub(super) fn look(&mut self) {
        let gone = &mut self.gone;
        self.listed.retain(|(store, path)| {
            let exists = path.exists();
            if !exists {
                gone.push(store.clone());
            }
            exists
        });
    }

    pub(super) fn is_gone(&self, store: &str) -> bool {
        self.gone.iter().any(|gone| gone == store)
    }
}

fn listed(program: &Program, store: &StoreConfig) -> Option<PathBuf> {
    match &store.device {
        StoreDevice::Nvme { transport_id, .. } => {
            let address = transport_pci(transport_id)?;
            Some(format!("/sys/bus/pci/devices/{address}").into())
        }
        StoreDevice::Bdev(name) => {
            let (_, file) = program.bdev_files.iter().find(|(bdev, _)| bdev == name)?;
            let metadata = fs::metadata(file).ok()?;
            let number = metadata.rdev();
            let (major, minor) = (libc::major(number), libc::minor(number));
            let block = metadata.file_type().is_block_device();
            block.then(|| format!("/sys/dev/block/{major}:{minor}").into())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn k06_a_device_that_went_is_not_the_one_that_comes() {
        let directory = tempfile::TempDir::new().unwrap();
        let at = |name: &str| (name.to_owned(), directory.path().join(name));
        for name in ["flash0", "flash1"] {
            fs::create_dir(at(name).1).unwrap();
        }
        // What was never listed cannot be missed.
        let mut presence = Presence::of(vec![at("flash0"), at("flash1"), at("flash2")]);
        presence.look();
        let gone = |presence: &Presence| {
            ["flash0", "flash1", "flash2"].map(|store| presence.is_gone(store))
        };
        assert_eq!(gone(&presence), [false; 3]);
        fs::remove_dir(at("flash1").1).unwrap();
        presence.look();
        assert_eq!(gone(&presence), [false, true, false]);
        fs::create_dir(at("flash1").1).unwrap();
        presence.look();
        assert_eq!(gone(&presence), [false, true, false]);
    }
}
