//! Whether the other node of a pair has the same, while hosts go on (row R3).
//!
//! A shard takes one granule of its own after the other, waits until no change of it is on its way, reads it, and asks the
//! other node, which has executed all changes of before by then, to compare. If they differ, and a change was forwarded
//! meanwhile, it is done again; if not, the blocks that do are looked for.

use std::collections::VecDeque;
use std::ops::Range;
use std::time::Duration;

use block::{Buffers, Device, Fault, Flags, Io, VolumeId};
use mirror::{COMPARED, Compare, Compared, GRANULE, Mode, sums};
use pages::PageRun;

use super::Log;
use super::forward::{owned_from, touches};
use crate::cached::Cached;
use crate::requester::{Ends, Requester};

/// How long a granule may take that hosts change all the while.
const GRANULE_MAX: Duration = Duration::from_secs(2);

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Step {
    /// All granules were looked at, or there is nothing to do.
    #[default]
    Over,
    /// The next piece is to be read.
    Waits,
    Reads,
    /// The other node is asked.
    Asks,
}

/// How far a shard is with the comparison of a volume.
#[derive(Debug, Default)]
pub(super) struct Check {
    /// The number of the comparison.
    run: u64,
    step: Step,
    granule: u64,
    since: Duration,
    /// What of the granule is still to be compared, and how much of it is under way.
    rest: Range<u64>,
    len: u64,
    /// Up to here each block is compared by itself: some differ.
    fine_to: u64,
    /// A change of the granule was forwarded since the piece was read.
    was_changed: bool,
    /// Some of it differs, and it is to be copied when all of it was compared.
    mends: bool,
}

impl Check {
    /// The comparison `run` begins.
    fn begin(run: u64, now: Duration) -> Self {
        Self {
            run,
            step: Step::Waits,
            since: now,
            ..Self::default()
        }
    }

    pub(super) fn reads(&self) -> bool {
        self.step == Step::Reads
    }

    /// A change is forwarded.
    pub(super) fn changes(&mut self, range: &Range<u64>) {
        self.was_changed |= touches(range, self.granule);
    }

    /// Goes to a granule; its bytes.
    fn enter(&mut self, granule: u64, len: u64, now: Duration) {
        let start = granule * GRANULE;
        (self.granule, self.since) = (granule, now);
        (self.rest, self.fine_to) = (start..(start + GRANULE).min(len), 0);
        self.mends = false;
    }
}

impl<D: Device> Log<D> {
    /// Comparisons go on, or begin.
    pub(super) fn verify(&mut self, cached: &mut Cached, buffers: &Buffers, ends: &mut Ends) {
        for at in 0..self.forwarding.entries.len() {
            let (shard, now) = (self.forwarding.shard, self.now);
            let entry = &mut self.forwarding.entries[at];
            let run = entry.shared.verification().run();
            if entry.check.run != run {
                entry.check = Check::begin(run, now);
                let first = owned_from(entry.volume, 0, shard, self.forwarding.shards);
                entry.check.enter(first, entry.shared.len(), now);
            }
            let forwards = matches!(entry.mode, Mode::Forward | Mode::Draining);
            if entry.check.step != Step::Waits {
                continue;
            }
            if !forwards || self.is_stopping {
                entry.check.step = Step::Over;
                entry.shared.verification().ends(shard, run, true);
                continue;
            }
            self.verify_on(at, cached, buffers, ends);
        }
    }

    /// The next piece, or the end.
    fn verify_on(&mut self, at: usize, cached: &mut Cached, buffers: &Buffers, ends: &mut Ends) {
        let (shard, shards, now) = (self.forwarding.shard, self.forwarding.shards, self.now);
        let entry = &mut self.forwarding.entries[at];
        let len = entry.shared.len();
        let (volume, check) = (entry.volume, &mut entry.check);
        let verification = entry.shared.verification();
        let is_late = now >= check.since + GRANULE_MAX;
        let begins = check.granule * GRANULE < len;
        if begins && (check.rest.is_empty() || is_late) {
            verification.compared(check.rest.is_empty());
            if check.mends {
                let start = check.granule * GRANULE;
                entry.shared.mark(&(start..(start + GRANULE).min(len)));
            }
            check.enter(check.granule + 1, len, now);
        }
        // What is this shard's.
        while check.granule * GRANULE < len {
            let owned = owned_from(volume, check.granule, shard, shards);
            if owned == check.granule {
                break;
            }
            check.enter(owned, len, now);
        }
        if check.granule * GRANULE >= len {
            check.step = Step::Over;
            return verification.ends(shard, check.run, false);
        }
        let (granule, rest) = (check.granule, check.rest.clone());
        // It is copied first, if it is to be.
        if entry.shared.lacks(granule) || self.has_change_of(volume, granule) {
            return;
        }
        let Some(mut run) = buffers.runs.take() else {
            return;
        };
        let check = &mut self.forwarding.entries[at].check;
        let most = match rest.start < check.fine_to {
            true => COMPARED,
            false => buffers.runs.max_bytes() as u64 / COMPARED * COMPARED,
        };
        let len = (rest.end - rest.start).min(most);
        if run.begin(rest.start, len as usize).is_err() {
            return buffers.runs.put(run);
        }
        (check.step, check.len, check.was_changed) = (Step::Reads, len, false);
        let io = Io::read(run, Flags::NONE);
        cached.start(Requester::Verify(volume), volume, io, buffers, ends);
    }

    /// A piece was read.
    pub(crate) fn verify_read(
        &mut self,
        volume: VolumeId,
        result: Result<(), Fault>,
        run: Option<Box<PageRun>>,
        buffers: &Buffers,
    ) {
        let Some(run) = run else { return };
        let mut entries = self.forwarding.entries.iter_mut();
        if let Some(entry) = entries.find(|entry| entry.volume == volume && entry.check.reads()) {
            let check = &mut entry.check;
            check.step = Step::Waits;
            if result.is_err() {
                entry.shared.verification().compared(false);
                check.enter(check.granule + 1, entry.shared.len(), self.now);
            } else if !check.was_changed {
                check.step = Step::Asks;
                self.forwarding.compares.push_back(Compare {
                    volume,
                    offset: check.rest.start,
                    len: check.len,
                    sums: sums(&run),
                });
            }
        }
        buffers.runs.put(run);
    }

    /// What is to be compared.
    pub(crate) fn compares(&mut self) -> &mut VecDeque<Compare> {
        &mut self.forwarding.compares
    }

    /// What the other node says of one.
    pub(crate) fn compared(&mut self, compared: &Compared) {
        let mut entries = self.forwarding.entries.iter_mut();
        let is_it = |check: &Check| check.step == Step::Asks && check.rest.start == compared.offset;
        let entry = entries.find(|entry| entry.volume == compared.volume && is_it(&entry.check));
        let Some(entry) = entry else { return };
        let check = &mut entry.check;
        check.step = Step::Waits;
        let range = check.rest.start..check.rest.start + check.len;
        match compared.is_same {
            Some(true) => check.rest.start = range.end,
            Some(false) if check.was_changed => {}
            Some(false) if check.len > COMPARED => check.fine_to = range.end,
            Some(false) => {
                check.rest.start = range.end;
                check.mends |= entry.shared.verification().differs(range);
            }
            None => {}
        }
    }
}
