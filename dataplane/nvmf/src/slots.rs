//! Command slots: everything the target remembers of a command under way.
//!
//! A slot is in one state ([`SlotState`]) and in at most one [`Fifo`] of its
//! session; all slots of a session are chained, so that closing it finds them.

use std::ops::{Index, IndexMut};

use pages::{PAGE_SIZE, PageRun};

use crate::status::Status;
use crate::units::{BlockRange, BlockSize, Cid, Nsid, Qid, Timestamp};
use block::NamespaceIndex;

/// A slot's number; also the Transfer Tag of its R2Ts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SlotIndex(pub u16);

impl SlotIndex {
    /// No slot.
    pub const NONE: SlotIndex = SlotIndex(u16::MAX);

    fn get(self) -> Option<SlotIndex> {
        (self != Self::NONE).then_some(self)
    }
}

/// What a host that owes data has to bring in the time it has: a page, or the rest.
pub(crate) const PROGRESS_BYTES: u32 = PAGE_SIZE as u32;

/// Where a command is.
///
/// ```text
/// Receiving → Ready → AtDevice → Sending                    write, data in the capsule
/// Receiving → Asking → Owed → Ready → AtDevice …             write by R2T; Owed → Asking for the next R2T
/// Receiving → Waiting → Ready → AtDevice → Sending           read
/// Receiving → Waiting → Sending                              identify, log page
/// Receiving → Ready → AtDevice → Sending                     flush, shutdown
/// Receiving → Sending                                        everything else
/// ```
///
/// A write that may not be asked for yet, and an asynchronous event request
/// without an event, give their slots back until it is time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SlotState {
    /// Not in use.
    Free,
    /// Its capsule has come, and in-capsule data may be arriving.
    Receiving,
    /// Waits for a run or a page.
    Waiting,
    /// An R2T is to be sent.
    Asking,
    /// The host owes H2CData.
    Owed,
    /// A request for the engine.
    Ready,
    /// The engine has all of it.
    AtDevice,
    /// Data, a response or both are to be sent.
    Sending,
}

impl SlotState {
    /// Whether a command may go from here to `next`. From anywhere it may be
    /// dropped: that frees its slot.
    const fn may_become(self, next: SlotState) -> bool {
        use SlotState::{Asking, AtDevice, Free, Owed, Ready, Receiving, Sending, Waiting};
        match self {
            Free => matches!(next, Receiving),
            Receiving => matches!(next, Waiting | Asking | Ready | Sending),
            Waiting => matches!(next, Ready | Sending),
            Asking => matches!(next, Owed),
            Owed => matches!(next, Asking | Ready | Sending),
            Ready => matches!(next, AtDevice | Sending),
            AtDevice => matches!(next, Sending),
            Sending => false,
        }
    }
}

/// What a command is about.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Work {
    /// Nothing is left to do but to respond.
    Respond,
    Read {
        range: BlockRange,
        fua: bool,
    },
    Write {
        range: BlockRange,
        fua: bool,
    },
    WriteZeroes {
        range: BlockRange,
        fua: bool,
        deallocate: bool,
    },
    Flush,
    /// An asynchronous event request.
    Park,
    Disconnect,
    /// Flushes the namespaces that cache, `next` before others; then the
    /// controller is shut down.
    ShutDown {
        next: Option<Nsid>,
    },
    /// Dataset Management: `next` of `ranges` is the one to hand out.
    Dataset {
        ranges: u16,
        next: u16,
        deallocate: bool,
    },
    Connect {
        qid: Qid,
        sq_size: u16,
        no_flow_control: bool,
        keep_alive_ms: u32,
    },
    Identify {
        cns: u8,
        csi: u8,
    },
    LogPage {
        lid: u8,
        csi: u8,
        retain: bool,
        offset: u64,
    },
    /// Get Features of one whose value is data.
    FeatureData {
        fid: u8,
    },
    /// Set Features of Host Behavior Support, whose value is data.
    SetHostBehavior,
}

impl Work {
    /// Whether its data goes to the host.
    #[inline]
    pub fn is_to_host(&self) -> bool {
        matches!(
            self,
            Work::Read { .. }
                | Work::Identify { .. }
                | Work::LogPage { .. }
                | Work::FeatureData { .. }
        )
    }
}

/// The volume an I/O command is for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct VolumeRef {
    pub nsid: Nsid,
    pub volume: NamespaceIndex,
    pub block_size: BlockSize,
}

/// What a slot in use is counted as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Share {
    /// The one that is its session's own.
    Own,
    /// A shared one whose command waits for no host.
    Passing,
    /// A shared one whose host owes data.
    Asked,
}

/// The slots of a session.
#[derive(Debug)]
pub(crate) struct Held {
    /// The session.
    owner: u64,
    /// The first of them; they are chained.
    chain: SlotIndex,
    /// Whether one is its own.
    pub own: bool,
}

impl Held {
    /// None yet, for the session `owner`.
    pub fn by(owner: u64) -> Self {
        Self {
            owner,
            chain: SlotIndex::NONE,
            own: false,
        }
    }

    /// The first; [`Slots::after`] gives the next.
    pub fn first(&self) -> SlotIndex {
        self.chain
    }
}

/// One command under way.
#[derive(Debug)]
pub(crate) struct Slot {
    /// The session it belongs to.
    pub owner: u64,
    /// Dwords 0 and 1 of its completion.
    pub result: u64,
    /// Holds its data, in either direction.
    pub run: Option<Box<PageRun>>,
    pub work: Work,
    pub volume: VolumeRef,
    /// Bytes of data it transfers.
    pub len: u32,
    /// Bytes received so far, or sent.
    pub moved: u32,
    /// Where the R2T that is out ends.
    pub granted: u32,
    /// When it began to wait, an R2T of it was sent, or data worth a mention came.
    pub since: Timestamp,
    /// Write credit it holds, in bytes.
    pub credit: u32,
    /// Requests the engine has for it: one, up to 256 of Dataset Management, or a flush
    /// for each namespace.
    pub at_device: u16,
    /// Counts the slot's commands, so that no completion meets a later one.
    pub generation: u32,
    pub cid: Cid,
    pub status: Status,
    pub state: SlotState,
    pub share: Share,
    /// The next in its [`Fifo`].
    next: SlotIndex,
    /// Its neighbours among the session's slots.
    left: SlotIndex,
    right: SlotIndex,
}

impl Slot {
    /// Goes on to `next`.
    #[inline]
    pub fn enter(&mut self, next: SlotState) {
        debug_assert!(
            self.state.may_become(next),
            "a command went from {:?} to {next:?}",
            self.state
        );
        self.state = next;
    }

    /// `len` more bytes of its data have come. A byte now and then is no progress:
    /// less than [`PROGRESS_BYTES`] leave the host as late as it was.
    #[inline]
    pub fn took(&mut self, len: u32, now: Timestamp) {
        let moved = self.moved + len;
        if moved / PROGRESS_BYTES > self.moved / PROGRESS_BYTES {
            self.since = now;
        }
        self.moved = moved;
    }

    const EMPTY: Slot = Slot {
        owner: 0,
        result: 0,
        run: None,
        work: Work::Respond,
        volume: VolumeRef {
            nsid: Nsid(0),
            volume: NamespaceIndex(0),
            block_size: BlockSize::B512,
        },
        len: 0,
        moved: 0,
        granted: 0,
        since: Timestamp(0),
        credit: 0,
        at_device: 0,
        generation: 0,
        cid: Cid(0),
        status: Status::SUCCESS,
        state: SlotState::Free,
        share: Share::Passing,
        next: SlotIndex::NONE,
        left: SlotIndex::NONE,
        right: SlotIndex::NONE,
    };
}

/// All slots of a shard.
#[derive(Debug)]
pub(crate) struct Slots {
    slots: Box<[Slot]>,
    free: Vec<SlotIndex>,
}

impl Slots {
    pub fn new(count: u16) -> Self {
        // Numbers end before `SlotIndex::NONE`.
        Self {
            slots: (0..count).map(|_| Slot::EMPTY).collect(),
            free: (0..count).rev().map(SlotIndex).collect(),
        }
    }

    pub fn in_use(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    pub fn available(&self) -> usize {
        self.free.len()
    }

    /// The slot numbered `index`, if there is one.
    #[inline]
    pub fn get(&self, index: SlotIndex) -> Option<&Slot> {
        self.slots.get(index.0 as usize)
    }

    /// Takes a slot for a command, and chains it to those `held`.
    #[inline]
    pub fn take(&mut self, cid: Cid, share: Share, held: &mut Held) -> Option<SlotIndex> {
        let index = self.free.pop()?;
        let right = std::mem::replace(&mut held.chain, index);
        if let Some(right) = right.get() {
            self[right].left = index;
        }
        let slot = &mut self[index];
        slot.owner = held.owner;
        slot.share = share;
        held.own |= share == Share::Own;
        slot.result = 0;
        slot.work = Work::Respond;
        slot.len = 0;
        slot.moved = 0;
        slot.granted = 0;
        slot.generation = slot.generation.wrapping_add(1);
        slot.cid = cid;
        slot.status = Status::SUCCESS;
        slot.enter(SlotState::Receiving);
        slot.left = SlotIndex::NONE;
        slot.right = right;
        Some(index)
    }

    /// Unchains and frees a slot, which holds no run and no credit any more; tells
    /// what it was counted as.
    #[inline]
    pub fn free(&mut self, index: SlotIndex, held: &mut Held) -> Share {
        let slot = &mut self[index];
        debug_assert!(slot.run.is_none() && slot.credit == 0 && slot.at_device == 0);
        debug_assert_ne!(slot.state, SlotState::Free);
        slot.state = SlotState::Free;
        let (left, right, share) = (slot.left, slot.right, slot.share);
        held.own &= share != Share::Own;
        match left.get() {
            Some(left) => self[left].right = right,
            None => held.chain = right,
        }
        if let Some(right) = right.get() {
            self[right].left = left;
        }
        self.free.push(index);
        share
    }

    /// The slot chained behind `index`.
    pub fn after(&self, index: SlotIndex) -> SlotIndex {
        self[index].right
    }
}

impl Index<SlotIndex> for Slots {
    type Output = Slot;
    #[inline]
    fn index(&self, index: SlotIndex) -> &Slot {
        &self.slots[index.0 as usize]
    }
}

impl IndexMut<SlotIndex> for Slots {
    #[inline]
    fn index_mut(&mut self, index: SlotIndex) -> &mut Slot {
        &mut self.slots[index.0 as usize]
    }
}

/// A first-in, first-out list through the slots themselves.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fifo {
    head: SlotIndex,
    tail: SlotIndex,
}

impl Fifo {
    pub const EMPTY: Fifo = Fifo {
        head: SlotIndex::NONE,
        tail: SlotIndex::NONE,
    };

    #[inline]
    pub fn is_empty(&self) -> bool {
        self.head == SlotIndex::NONE
    }

    #[inline]
    pub fn head(&self) -> Option<SlotIndex> {
        self.head.get()
    }

    #[inline]
    pub fn push(&mut self, slots: &mut Slots, index: SlotIndex) {
        slots[index].next = SlotIndex::NONE;
        match self.tail.get() {
            Some(tail) => slots[tail].next = index,
            None => self.head = index,
        }
        self.tail = index;
    }

    #[inline]
    pub fn pop(&mut self, slots: &Slots) -> Option<SlotIndex> {
        let index = self.head.get()?;
        self.head = slots[index].next;
        if self.head == SlotIndex::NONE {
            self.tail = SlotIndex::NONE;
        }
        Some(index)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_states_of_a_command() {
        use SlotState::*;
        let all = [
            Free, Receiving, Waiting, Asking, Owed, Ready, AtDevice, Sending,
        ];
        let mut table = String::new();
        for from in all {
            let next: Vec<_> = all.into_iter().filter(|&to| from.may_become(to)).collect();
            table += &format!("{from:?} → {next:?}\n");
        }
        let expected = "\
Free → [Receiving]
Receiving → [Waiting, Asking, Ready, Sending]
Waiting → [Ready, Sending]
Asking → [Owed]
Owed → [Asking, Ready, Sending]
Ready → [AtDevice, Sending]
AtDevice → [Sending]
Sending → []
";
        assert_eq!(table, expected);
    }

    #[test]
    fn slots_leave_a_chain_from_either_end_and_the_middle() {
        let mut slots = Slots::new(4);
        let mut held = Held::by(1);
        let taken: Vec<_> = (0..4)
            .map(|i| slots.take(Cid(i), Share::Passing, &mut held).unwrap())
            .collect();
        assert!(slots.take(Cid(9), Share::Passing, &mut held).is_none());
        for index in [taken[1], taken[3], taken[0], taken[2]] {
            slots.free(index, &mut held);
        }
        assert_eq!((slots.in_use(), held.first()), (0, SlotIndex::NONE));
    }

    #[test]
    fn a_slot_used_again_has_another_generation() {
        let mut slots = Slots::new(1);
        let mut held = Held::by(1);
        let first = slots.take(Cid(0), Share::Passing, &mut held).unwrap();
        let generation = slots[first].generation;
        slots.free(first, &mut held);
        let second = slots.take(Cid(0), Share::Passing, &mut held).unwrap();
        assert_eq!(first, second);
        assert_ne!(slots[second].generation, generation);
    }

    #[test]
    fn a_fifo_keeps_its_order() {
        let mut slots = Slots::new(3);
        let mut held = Held::by(1);
        let mut fifo = Fifo::EMPTY;
        let taken: Vec<_> = (0..3)
            .map(|i| slots.take(Cid(i), Share::Passing, &mut held).unwrap())
            .collect();
        for &index in &taken {
            fifo.push(&mut slots, index);
        }
        for &index in &taken {
            assert_eq!(fifo.pop(&slots), Some(index));
        }
        assert!(fifo.is_empty() && fifo.pop(&slots).is_none());
    }
}
