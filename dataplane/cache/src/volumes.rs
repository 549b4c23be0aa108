//! The volumes of a cache, and what each has in it.

use std::ops::{Index, IndexMut};

use block::{Fault, VolumeId, WritePolicy};
use collections::List;

use crate::VolumeConfig;
use crate::entry::{Entry, EntryIndex};
use crate::share::Share;
use crate::slot::RequestIndex;

/// One volume, as far as the cache has to do with it.
pub(crate) struct Volume {
    pub config: VolumeConfig,
    /// False of a place that no volume was added for.
    pub held: bool,
    /// What of the cache it holds.
    pub share: Share,
    /// Its entries; the least recently used is last.
    pub lru: List<EntryIndex>,
    /// The last search for a page to reclaim that found none here.
    pub searched: u32,
    /// Dirty pages with no write in flight, by the age of their oldest write.
    pub dirty: List<EntryIndex>,
    /// Number of the last write.
    pub writes: u64,
    /// Writes up to this number are wanted on the device.
    pub wanted: u64,
    /// Dirty pages whose last device write failed; they wait for a flush.
    pub failed: List<EntryIndex>,
    /// How the last device write that failed did.
    pub last_error: Option<Fault>,
    /// Requests that lack something to go on, oldest first.
    pub stalled_reads: List<RequestIndex>,
    pub stalled_writes: List<RequestIndex>,
    /// Requests that wait until pages are no longer in flight.
    pub blocked: List<RequestIndex>,
    pub flushing: List<RequestIndex>,
    /// Deallocations under way, oldest first.
    pub deallocating: List<RequestIndex>,
    /// Requests that wait for one of them to end, in their order.
    pub held_back: List<RequestIndex>,
    /// One has ended: some of those may go on.
    pub lets_go: bool,
}

impl Volume {
    /// Whether requests lack something to go on.
    pub fn has_stalled(&self) -> bool {
        !self.stalled_reads.is_empty() || !self.stalled_writes.is_empty()
    }

    /// A volume without a byte, so that every request is outside it.
    fn absent() -> Self {
        Self {
            config: VolumeConfig {
                len: 0,
                block: 512,
                policy: WritePolicy::Through,
                device_cache: false,
            },
            held: false,
            share: Share::default(),
            lru: List::new(Entry::LRU),
            searched: 0,
            dirty: List::new(Entry::DIRTY),
            writes: 0,
            wanted: 0,
            failed: List::new(Entry::DIRTY),
            last_error: None,
            stalled_reads: List::new(0),
            stalled_writes: List::new(0),
            blocked: List::new(0),
            flushing: List::new(0),
            deallocating: List::new(0),
            held_back: List::new(0),
            lets_go: false,
        }
    }
}

/// All volumes up to the last that was added.
#[derive(Default)]
pub(crate) struct Volumes(Vec<Volume>);

impl Volumes {
    /// One that was added.
    #[inline]
    pub fn get(&self, volume: VolumeId) -> Option<&Volume> {
        self.0.get(volume.index()).filter(|volume| volume.held)
    }

    /// Adds one. Those before it that are not there are without a byte until they are added.
    pub fn add(&mut self, volume: VolumeId, config: VolumeConfig) {
        while self.0.len() <= volume.index() {
            self.0.push(Volume::absent());
        }
        let added = &mut self[volume];
        (added.config, added.held) = (config, true);
    }

    /// All, those too that were not added.
    #[inline]
    pub fn iter(&self) -> impl Iterator<Item = &Volume> {
        self.0.iter()
    }

    /// Their names, from the first on.
    #[inline]
    pub fn ids(&self) -> impl DoubleEndedIterator<Item = VolumeId> + use<> {
        (0..self.0.len()).map(|place| VolumeId(place as u16))
    }

    /// The same, from `first` on, and then those before it.
    pub fn ids_from(&self, first: VolumeId) -> impl Iterator<Item = VolumeId> + use<> {
        let (first, len) = (first.index(), self.0.len());
        let places = (first..len).chain(0..first);
        places.map(|place| VolumeId(place as u16))
    }

    /// The one behind `volume`; behind the last comes the first again.
    pub fn behind(&self, volume: VolumeId) -> VolumeId {
        let next = volume.index() + 1;
        VolumeId(if next < self.0.len() { next as u16 } else { 0 })
    }
}

impl Index<VolumeId> for Volumes {
    type Output = Volume;
    #[inline]
    fn index(&self, volume: VolumeId) -> &Volume {
        &self.0[volume.index()]
    }
}

impl IndexMut<VolumeId> for Volumes {
    #[inline]
    fn index_mut(&mut self, volume: VolumeId) -> &mut Volume {
        &mut self.0[volume.index()]
    }
}
