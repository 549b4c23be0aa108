//! Where shards find what a capture copies to, and how they copy.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime};

use net::{Direction, Tap, pcap_bytes};
use sync::Watched;
use sync::slots::Writer;

/// Words before a frame's bytes: when, and its lengths.
pub(crate) const HEAD: usize = 2;

/// A shard's end of a capture.
pub(crate) struct Copier {
    pub(crate) ring: Writer<u64>,
    pub(crate) start: Start,
    /// Nanoseconds of the Unix epoch at the shard's time zero.
    pub(crate) epoch_ns: u64,
    /// A frame's first bytes in one piece; never longer than it is made.
    pub(crate) scratch: Vec<u8>,
    pub(crate) snap: usize,
}

impl Copier {
    /// The shard's time is `now`.
    pub(crate) fn begin(&mut self, now: net::Instant) {
        self.epoch_ns = self.start.unix_ns().saturating_sub(now.as_nanos());
    }
}

impl Tap for Copier {
    fn frame<'a>(
        &mut self,
        now: net::Instant,
        _direction: Direction,
        head: &'a [u8],
        rest: &mut dyn Iterator<Item = &'a [u8]>,
    ) {
        if !self.ring.has_room(HEAD + self.snap.div_ceil(8)) {
            self.ring.miss();
            return;
        }
        self.scratch.clear();
        let len = pcap_bytes(&mut self.scratch, self.snap, head, rest);
        let lengths = (self.scratch.len() as u64) << 32 | len as u64;
        let head = [self.epoch_ns + now.as_nanos(), lengths];
        let body = self.scratch.chunks(8).map(|bytes| {
            let mut word = [0; 8];
            word[..bytes.len()].copy_from_slice(bytes);
            u64::from_le_bytes(word)
        });
        (head.into_iter().chain(body)).for_each(|word| self.ring.put(word));
        self.ring.publish();
    }
}

/// The moment a capture starts: by the wall clock, and by one that nobody sets.
#[derive(Clone, Copy)]
pub(crate) struct Start {
    unix: Duration,
    pub(crate) at: Instant,
}

impl Start {
    pub(crate) fn now() -> Self {
        let unix = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
        Self {
            unix,
            at: Instant::now(),
        }
    }

    pub(crate) fn unix_ns(&self) -> u64 {
        (self.unix + self.at.elapsed()).as_nanos() as u64
    }
}

/// What the capture that runs offers to shards; nothing if none does.
#[derive(Default)]
pub(crate) struct CaptureDesk {
    busy: AtomicBool,
    /// Its number changes when a capture starts and when it ends.
    offer: Watched<Offer>,
}

#[derive(Default)]
pub(crate) struct Offer {
    pub(crate) port: usize,
    /// By shard, until it takes its own.
    pub(crate) copiers: Vec<Option<Box<Copier>>>,
}

impl CaptureDesk {
    /// Looked at between polls.
    pub(crate) fn change(&self) -> u64 {
        self.offer.number()
    }

    pub(crate) fn is_busy(&self) -> bool {
        self.busy.load(Ordering::Acquire)
    }

    /// A capture begins; false if another runs.
    pub(crate) fn begin(&self) -> bool {
        !self.busy.swap(true, Ordering::AcqRel)
    }

    /// Its file is finished.
    pub(crate) fn end(&self) {
        self.busy.store(false, Ordering::Release);
    }

    /// What a shard is to copy to from now on, and which port's frames; nothing if no capture runs.
    pub(crate) fn take(&self, shard: usize) -> Option<(usize, Box<Copier>)> {
        let mut offer = self.offer.lock();
        let port = offer.port;
        Some((port, offer.copiers.get_mut(shard)?.take()?))
    }

    pub(crate) fn put(&self, offer: Offer) {
        let mut place = self.offer.lock();
        *place = offer;
        self.offer.publish(&place, self.offer.number() + 1);
    }
}
