//! Command slots: everything the target remembers of a command under way.
//!
//! A slot is in one state ([`SlotState`]) and in at most one [`Fifo`] of its
//! queue; all slots of a queue are chained, so that closing it finds them.

use std::ops::{Index, IndexMut};

use block::{FenceId, NamespaceIndex};
use pages::{PAGE_SIZE, PageRun, PlaceError, PullUp, Slice};

use crate::status::Status;
use crate::units::{BlockSize, Cid, Nsid, Timestamp};
use crate::work::{NamespaceRef, Work};

/// A slot's number in its shard. No other command under way there has it, so that
/// a transport may name a command's data by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SlotIndex(pub u16);

impl SlotIndex {
    /// No slot.
    pub const NONE: SlotIndex = SlotIndex(u16::MAX);

    fn get(self) -> Option<SlotIndex> {
        (self != Self::NONE).then_some(self)
    }
}

/// What a host has to send of the data that was requested of it in the time it
/// has: a page, or the rest.
pub(crate) const PROGRESS_BYTES: u32 = PAGE_SIZE as u32;

/// Where a command is.
///
/// ```text
/// Receiving → Ready → AtDevice → Sending                    write, data in the capsule
/// Receiving → Fetching → Ready → AtDevice → Sending          write, data fetched
/// Receiving → Waiting → Ready → AtDevice → Sending           read
/// Receiving → Waiting → Sending                              identify, log page
/// Receiving → Ready → AtDevice → Sending                     flush, shutdown
/// Receiving → Sending                                        everything else
/// ```
///
/// A write whose data may not be fetched yet, and an asynchronous event request
/// without an event, give their slots back until it is time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SlotState {
    /// Not in use.
    Free,
    /// Its capsule has come, and in-capsule data may be arriving.
    Receiving,
    /// Waits for a run or a page.
    Waiting,
    /// The transport fetches its data from the host.
    Fetching,
    /// A request for the volumes.
    Ready,
    /// The volumes have all of it.
    AtDevice,
    /// Data, a response or both are to be sent.
    Sending,
}

impl SlotState {
    /// Whether a command may go from here to `next`. From anywhere it may be
    /// dropped: that frees its slot.
    const fn may_become(self, next: SlotState) -> bool {
        use SlotState::{AtDevice, Fetching, Free, Ready, Receiving, Sending, Waiting};
        match self {
            Free => matches!(next, Receiving),
            Receiving => matches!(next, Waiting | Fetching | Ready | Sending),
            Waiting => matches!(next, Ready | Sending),
            Fetching => matches!(next, Ready | Sending),
            Ready => matches!(next, AtDevice | Sending),
            AtDevice => matches!(next, Sending),
            Sending => false,
        }
    }
}

/// What a slot in use is counted as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Share {
    /// The one that is its queue's own.
    Own,
    /// A shared one whose command waits for no host.
    Passing,
    /// A shared one whose data is fetched from the host.
    Fetching,
}

/// A queue's number: no other queue of the target has had it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct QueueId(pub u64);

/// The slots of a queue.
#[derive(Debug)]
pub(crate) struct HeldSlots {
    queue: QueueId,
    /// The first of them; they are chained.
    chain: SlotIndex,
    /// Whether one is its own.
    pub own: bool,
}

impl HeldSlots {
    /// None yet, for `queue`.
    pub fn by(queue: QueueId) -> Self {
        Self {
            queue,
            chain: SlotIndex::NONE,
            own: false,
        }
    }

    /// The first; [`Slots::after`] gives the next.
    pub fn first(&self) -> SlotIndex {
        self.chain
    }
}

/// Credit that was taken out of a slot, to be given back.
pub(crate) struct Credit {
    pub bytes: u32,
    pub namespace: NamespaceIndex,
    /// It counts for the namespace, and no longer for the queue.
    pub is_at_device: bool,
}

/// One command under way.
#[derive(Debug)]
pub(crate) struct Slot {
    /// The queue that its command came in.
    pub queue: QueueId,
    /// Dwords 0 and 1 of its completion.
    pub result: u64,
    /// Holds its data, in either direction.
    pub run: Option<Box<PageRun>>,
    pub work: Work,
    pub namespace: NamespaceRef,
    /// Bytes of data it transfers.
    pub len: u32,
    /// Bytes received so far, or sent.
    pub moved: u32,
    /// Bytes of the data to fetch that the transport has requested of the host.
    pub requested: u32,
    /// When it began to wait, its data was requested, or [`PROGRESS_BYTES`] more had come.
    pub since: Timestamp,
    /// Write credit it holds, in bytes.
    pub credit: u32,
    /// Of a read that has a run: its bytes, until TCP has them all.
    pub owed: u32,
    /// Requests that the volumes have of it: one, up to 256 of Dataset Management, or a
    /// flush for each namespace.
    pub at_device: u16,
    /// Around the blocks that the volumes may still change for it, though its queue has ended.
    pub fence: Option<FenceId>,
    /// Counts the slot's commands, so that no completion meets a later one.
    pub generation: u32,
    pub cid: Cid,
    pub status: Status,
    pub state: SlotState,
    pub share: Share,
    /// It counts as one of its namespace.
    pub is_charged: bool,
    /// Its run is one of those that are kept for in-capsule data and for queues' own commands.
    pub has_kept_run: bool,
    /// Its credit counts for its namespace, and no longer for its queue.
    pub is_credit_at_device: bool,
    /// The next in its [`Fifo`].
    next: SlotIndex,
    /// Its neighbours among the queue's slots.
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

    /// Takes out the credit that it has.
    #[inline]
    pub fn take_credit(&mut self) -> Credit {
        Credit {
            bytes: std::mem::take(&mut self.credit),
            namespace: self.namespace.index,
            is_at_device: self.is_credit_at_device,
        }
    }

    /// It waits for a run or a page from `now` on.
    #[inline]
    pub fn begin_wait(&mut self, now: Timestamp) {
        self.since = now;
        self.enter(SlotState::Waiting);
    }

    /// Places `data`, the next bytes of its data, if it has a run for them.
    ///
    /// # Errors
    /// What was not placed comes back, and why.
    #[inline]
    pub fn place(&mut self, data: Slice, pull_up: &PullUp<'_>) -> Result<(), PlaceError> {
        match &mut self.run {
            Some(run) => run.place(self.moved as usize, data, pull_up),
            None => Ok(()),
        }
    }

    /// `len` more bytes of its data have come. A byte now and then is no progress:
    /// less than [`PROGRESS_BYTES`] leave the host as late as it was.
    #[inline]
    pub fn add_received(&mut self, len: u32, now: Timestamp) {
        let moved = self.moved + len;
        if moved / PROGRESS_BYTES > self.moved / PROGRESS_BYTES {
            self.since = now;
        }
        self.moved = moved;
    }

    const EMPTY: Slot = Slot {
        queue: QueueId(0),
        result: 0,
        run: None,
        work: Work::Respond,
        namespace: NamespaceRef {
            nsid: Nsid(0),
            index: NamespaceIndex(0),
            block_size: BlockSize::B512,
        },
        len: 0,
        moved: 0,
        requested: 0,
        since: Timestamp(0),
        credit: 0,
        owed: 0,
        at_device: 0,
        fence: None,
        generation: 0,
        cid: Cid(0),
        status: Status::SUCCESS,
        state: SlotState::Free,
        share: Share::Passing,
        is_charged: false,
        has_kept_run: false,
        is_credit_at_device: false,
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
    pub fn take(&mut self, cid: Cid, share: Share, held: &mut HeldSlots) -> Option<SlotIndex> {
        let index = self.free.pop()?;
        let right = std::mem::replace(&mut held.chain, index);
        if let Some(right) = right.get() {
            self[right].left = index;
        }
        let slot = &mut self[index];
        slot.queue = held.queue;
        slot.share = share;
        held.own |= share == Share::Own;
        slot.result = 0;
        slot.work = Work::Respond;
        slot.len = 0;
        slot.moved = 0;
        slot.requested = 0;
        slot.generation = slot.generation.wrapping_add(1);
        slot.cid = cid;
        slot.is_credit_at_device = false;
        slot.status = Status::SUCCESS;
        slot.enter(SlotState::Receiving);
        slot.left = SlotIndex::NONE;
        slot.right = right;
        Some(index)
    }

    /// Unchains and frees a slot, which holds no run and no credit any more; returns
    /// what it was counted as.
    #[inline]
    pub fn free(&mut self, index: SlotIndex, held: &mut HeldSlots) -> Share {
        let slot = &mut self[index];
        debug_assert!(
            slot.run.is_none() && slot.credit == 0 && slot.owed == 0 && slot.at_device == 0
        );
        debug_assert!(slot.fence.is_none());
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

impl Default for Fifo {
    fn default() -> Self {
        Self::EMPTY
    }
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

    /// Takes `index` out, wherever it is in the list; false if it is not in it.
    pub fn remove(&mut self, slots: &mut Slots, index: SlotIndex) -> bool {
        let (mut before, mut at) = (SlotIndex::NONE, self.head);
        while at != index {
            if at == SlotIndex::NONE {
                return false;
            }
            (before, at) = (at, slots[at].next);
        }
        let next = slots[index].next;
        match before.get() {
            Some(before) => slots[before].next = next,
            None => self.head = next,
        }
        if self.tail == index {
            self.tail = before;
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_states_of_a_command() {
        use SlotState::*;
        let all = [Free, Receiving, Waiting, Fetching, Ready, AtDevice, Sending];
        let mut table = String::new();
        for from in all {
            let next: Vec<_> = all.into_iter().filter(|&to| from.may_become(to)).collect();
            table += &format!("{from:?} → {next:?}\n");
        }
        let expected = "\
Free → [Receiving]
Receiving → [Waiting, Fetching, Ready, Sending]
Waiting → [Ready, Sending]
Fetching → [Ready, Sending]
Ready → [AtDevice, Sending]
AtDevice → [Sending]
Sending → []
";
        assert_eq!(table, expected);
    }

    #[test]
    fn slots_leave_a_chain_from_either_end_and_the_middle() {
        let mut slots = Slots::new(4);
        let mut held = HeldSlots::by(QueueId(1));
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
        let mut held = HeldSlots::by(QueueId(1));
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
        let mut held = HeldSlots::by(QueueId(1));
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
        for gone in 0..3 {
            taken.iter().for_each(|&index| fifo.push(&mut slots, index));
            assert!(fifo.remove(&mut slots, taken[gone]));
            assert!(!fifo.remove(&mut slots, taken[gone]));
            fifo.push(&mut slots, taken[gone]);
            for &index in taken.iter().filter(|&&index| index != taken[gone]) {
                assert_eq!(fifo.pop(&slots), Some(index));
            }
            assert_eq!(fifo.pop(&slots), Some(taken[gone]));
            assert!(fifo.is_empty() && !fifo.remove(&mut slots, taken[gone]));
        }
    }
}
