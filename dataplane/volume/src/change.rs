//! Changes of logged volumes: the cache hands them to the log, and is given them back to be merged.

use block::{Fault, Io, VolumeId};

use crate::requester::{End, Requester};

/// One change of a volume, on its way through the log.
pub(crate) struct Change {
    pub(crate) requester: Requester,
    pub(crate) volume: VolumeId,
    pub(crate) io: Io,
}

impl Change {
    /// Its end, for whoever asked.
    pub(crate) fn ended(self, result: Result<(), Fault>) -> End {
        (self.requester, result, self.io.run)
    }
}

/// What the cache is told of a change that it merges, and gives back when it has.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Merging {
    /// Its place among those that are being merged.
    pub(crate) place: u32,
}
