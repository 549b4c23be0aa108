//! The command slots of a shard, and who may have how many.

use std::fmt;

use block::NamespaceIndex;

use super::slots::{Credit, HeldSlots, QueueId, Share, SlotIndex, SlotState, Slots};
use crate::units::{Cid, Timestamp};
use crate::work::Work;

/// How long a command may wait for what others hold, in milliseconds. After that
/// hosts that hold it, and have neither sent nor read anything for as long, are disconnected.
pub(crate) const FORBEARANCE_MS: u64 = 1000;

/// The shard's command slots, and the credit that data is fetched on.
///
/// All memory for commands under way, whatever the number of connections:
/// made once, at start-up.
///
/// # Why no command waits for ever
///
/// In a byte stream the data that was requested of a host comes behind the
/// capsules that it has sent by then, as many as its queue has entries, and every
/// capsule needs a slot to be taken out of the stream. If writes whose data is still
/// to come held all the slots, capsules with that data behind them would wait for
/// slots, and none would ever go on. Therefore:
///
/// 1. A write waits without a slot until its data may be fetched. What is known of
///    it is kept by its queue, which has room for as many as it has entries.
/// 2. Writes whose data is being fetched have at most `fetching_max` of the shared
///    slots. The others are only passed through, by commands that wait for no host:
///    they come back as devices get done. So there is always a slot for the capsule
///    in the way, however many are in the way, until the data behind them has come:
///    what was requested arrives.
/// 3. Commands that pass through have at most `passing_max` of the shared slots,
///    so there is one for a write that waits, once those before it are done. Page
///    runs are divided likewise (`Resources::run_for_fetch`, `runs_reserved`).
/// 4. Commands that a device has of one namespace have no more slots, runs and credit than they leave
///    (`is_greedy`): what a device does not answer is bounded. The others of it
///    wait without a slot, and nothing waits behind them. A command with data in its capsule does
///    not wait for that: it would be in the way of data that others of its namespace were promised.
/// 5. Each queue has a slot of its own besides, and the queue that was first to find
///    nothing to fetch with is not overtaken by another.
///
/// Where there is room the rules cost a few comparisons of counts.
pub struct CommandPool {
    pub(crate) slots: Slots,
    /// Slots that are one queue's each, and how many of them are in use.
    own_max: usize,
    own: usize,
    /// Slots for all, and how many of them writes have whose data is being fetched.
    shared_max: usize,
    fetching: usize,
    /// Most slots of `shared_max` that such writes have, and that other commands have.
    fetching_max: usize,
    passing_max: usize,
    /// More shared slots, which I/O queues leave to connections and Admin Queues:
    /// Keep Alive commands complete whatever drives do.
    admin_more: usize,
    /// Runs that are kept for in-capsule data and for queues' own commands, and how many of them are in use.
    runs_reserved: usize,
    runs_kept: usize,
    runs_for_reads: usize,
    write_bytes: u64,
    write_bytes_left: u64,
    /// Bytes that volumes can still lend to reads, besides what is left of the pages.
    read_bytes_left: u64,
    /// When some command last found that it waited too long for what others hold.
    starved: Option<Timestamp>,
    /// The queue that no other overtakes.
    first: Option<QueueId>,
    namespaces: Namespaces,
}

/// What the devices of namespaces have.
struct Namespaces {
    /// By [`NamespaceIndex`].
    at_device: Vec<AtDevice>,
    /// Namespaces that are there, as far as anybody has said so, or that have had a command.
    used: usize,
}

impl Namespaces {
    /// What the device of a namespace has, which is there.
    #[inline]
    fn of(&mut self, namespace: NamespaceIndex) -> &mut AtDevice {
        let index = namespace.index();
        if (self.at_device.get(index)).is_some_and(|of| of.is_used) {
            return &mut self.at_device[index];
        }
        self.begin(index)
    }

    #[cold]
    fn begin(&mut self, index: usize) -> &mut AtDevice {
        if self.at_device.len() <= index {
            self.at_device.resize(index + 1, AtDevice::default());
        }
        self.used += 1;
        let of = &mut self.at_device[index];
        of.is_used = true;
        of
    }

    /// A namespace is there no more.
    fn end(&mut self, namespace: NamespaceIndex) {
        let of = self.at_device.get_mut(namespace.index());
        if of.is_some_and(|of| std::mem::take(&mut of.is_used)) {
            self.used -= 1;
        }
    }
}

/// What the device of a namespace has.
#[derive(Clone, Copy, Debug, Default)]
struct AtDevice {
    /// Slots; commands with data have a run each.
    slots: usize,
    /// Credit of writes whose data was fetched.
    credit: u64,
    /// The same, and of those whose data still comes from their hosts.
    credit_of_all: u64,
    /// It is one of those that what there is is shared by.
    is_used: bool,
}

/// What a slot is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// A command of an I/O queue, as it comes out of the stream.
    Io,
    /// One of an Admin Queue, or of a connection that is no queue yet.
    Admin,
    /// A write whose data is to be fetched.
    Fetch,
}

/// Namespaces that there is room for before memory is allocated.
const NAMESPACES: usize = 256;

/// One slot of so many is set aside, for each thing that slots are set aside for.
const ASIDE_OF: usize = 16;

/// However many of the runs that are kept for in-capsule data are in use, one of so many is kept for more.
const KEPT_OF: usize = 4;

impl CommandPool {
    /// A pool of `slots` command slots (at least 2) whose writes may together
    /// pin `write_bytes` of receive buffers for data to fetch. `runs_reserved` page runs
    /// are kept for in-capsule data and admin commands; less than the run pool has.
    pub fn new(slots: u16, write_bytes: u64, runs_reserved: usize) -> Self {
        let slots = slots.max(2);
        let mut pool = Self {
            slots: Slots::new(slots),
            own_max: 0,
            own: 0,
            shared_max: 0,
            fetching: 0,
            fetching_max: 0,
            passing_max: 0,
            admin_more: usize::from(slots) / ASIDE_OF,
            runs_reserved,
            runs_kept: 0,
            runs_for_reads: 0,
            write_bytes,
            write_bytes_left: write_bytes,
            read_bytes_left: u64::MAX,
            starved: None,
            first: None,
            namespaces: Namespaces {
                at_device: vec![AtDevice::default(); NAMESPACES],
                used: 0,
            },
        };
        pool.divide();
        pool
    }

    /// Keeps what every one of `queues` queues needs to go on, whatever the
    /// others do: a slot each, of those there are, and `runs_for_reads` runs
    /// that no write which waits for data may take.
    pub fn keep(mut self, queues: usize, runs_for_reads: usize) -> Self {
        (self.own_max, self.runs_for_reads) = (queues, runs_for_reads);
        self.divide();
        self
    }

    /// A namespace is there: others leave it its share from now on, and not only once it has had a command. A device that
    /// does not answer would have everything by then.
    pub fn offer(&mut self, namespace: NamespaceIndex) {
        self.namespaces.of(namespace);
    }

    /// It is there no more.
    pub fn withdraw(&mut self, namespace: NamespaceIndex) {
        self.namespaces.end(namespace);
    }

    /// Divides the slots; of those that are shared there are two at least.
    fn divide(&mut self) {
        let rest = self.slots.available() - self.admin_more;
        self.own_max = self.own_max.min(rest - 2);
        self.shared_max = rest - self.own_max;
        let aside = (self.shared_max / ASIDE_OF).max(1);
        self.fetching_max = self.shared_max - aside;
        self.passing_max = self.shared_max - aside;
    }

    /// Takes a slot for a command of the queue that has `held`.
    #[inline]
    pub(crate) fn take(
        &mut self,
        purpose: Purpose,
        cid: Cid,
        held: &mut HeldSlots,
    ) -> Option<SlotIndex> {
        if !held.own && self.own < self.own_max {
            let index = self.slots.take(cid, Share::Own, held)?;
            self.own += 1;
            return Some(index);
        }
        let shared = self.shared();
        let free = match purpose {
            Purpose::Io => shared < self.shared_max && shared - self.fetching < self.passing_max,
            Purpose::Admin => shared < self.shared_max + self.admin_more,
            Purpose::Fetch => shared < self.shared_max && self.fetching < self.fetching_max,
        };
        if !free {
            return None;
        }
        self.slots.take(cid, Share::Passing, held)
    }

    /// Shared slots in use.
    #[inline]
    fn shared(&self) -> usize {
        self.slots.in_use() - self.own
    }

    /// The command in `index` is ready: it is one that the device of its namespace has from now on, with
    /// its credit: how much of that is its queue's no longer. A shutdown is no namespace's.
    #[inline(always)] // Once for each command.
    pub(crate) fn charge(&mut self, index: SlotIndex) -> u64 {
        let slot = &mut self.slots[index];
        slot.enter(SlotState::Ready);
        if let Work::ShutDown { .. } = slot.work {
            return 0;
        }
        slot.is_charged = true;
        if slot.share == Share::Own && slot.run.is_some() {
            self.runs_kept += usize::from(!std::mem::replace(&mut slot.has_kept_run, true));
        }
        let of = self.namespaces.of(slot.namespace.index);
        of.slots += 1;
        if self.namespaces.used < 2 {
            // Nobody but this device has any use for it.
            return 0;
        }
        slot.is_credit_at_device = true;
        let credit = u64::from(slot.credit);
        self.namespaces.of(slot.namespace.index).credit += credit;
        credit
    }

    /// Whether there is no other namespace to leave anything to.
    #[inline]
    pub(crate) fn is_one_namespace(&self) -> bool {
        self.namespaces.used < 2
    }

    /// Whether commands that the device of a namespace has have more than they leave: slots, credit for
    /// `bytes` more, or the runs of which `runs_left` can still be taken (the dynamic threshold of shared buffers: Choudhury
    /// and Hahne, 1998). One whose device does not answer ends up with half of what there is.
    #[inline]
    pub(crate) fn is_greedy(
        &self,
        namespace: NamespaceIndex,
        bytes: u64,
        runs_left: usize,
    ) -> bool {
        let left = (self.shared_max.saturating_sub(self.shared())).min(runs_left);
        let at_device = self.namespaces.at_device.get(namespace.index());
        at_device.is_some_and(|at_device| {
            let credit = at_device.credit;
            at_device.slots > left
                || bytes > 0 && takes_too_much(credit, bytes, self.write_bytes_left)
        })
    }

    /// Frees a slot.
    #[inline]
    pub(crate) fn free(&mut self, index: SlotIndex, held: &mut HeldSlots) {
        let slot = &mut self.slots[index];
        if std::mem::take(&mut slot.is_charged) {
            self.namespaces.at_device[slot.namespace.index.index()].slots -= 1;
        }
        self.runs_kept -= usize::from(std::mem::take(&mut slot.has_kept_run));
        match self.slots.free(index, held) {
            Share::Own => self.own -= 1,
            Share::Fetching => self.fetching -= 1,
            Share::Passing => {}
        }
    }

    /// The command in `index` has a run for data in its capsule.
    #[inline]
    pub(crate) fn keep_run(&mut self, index: SlotIndex) {
        self.slots[index].has_kept_run = true;
        self.runs_kept += 1;
    }

    /// The command in `index` has given its run back.
    #[inline]
    pub(crate) fn end_run(&mut self, index: SlotIndex) {
        self.runs_kept -= usize::from(std::mem::take(&mut self.slots[index].has_kept_run));
    }

    /// All data that the command in `index` takes has been fetched.
    #[inline]
    pub(crate) fn fetched(&mut self, index: SlotIndex) {
        let share = &mut self.slots[index].share;
        if *share == Share::Fetching {
            *share = Share::Passing;
            self.fetching -= 1;
        }
    }

    /// Volumes can lend `bytes` more to reads: of what they have cached, and of what other shards have.
    #[inline]
    pub fn set_read_bytes_left(&mut self, bytes: u64) {
        self.read_bytes_left = bytes;
    }

    /// What [`CommandPool::set_read_bytes_left`] said last.
    #[inline]
    pub(crate) fn read_bytes_left(&self) -> u64 {
        self.read_bytes_left
    }

    /// A command has waited since `since` for what others hold: a slot, a run, credit, memory.
    #[inline]
    pub fn note_wait(&mut self, since: Timestamp, now: Timestamp) {
        if now >= since.plus_ms(FORBEARANCE_MS) {
            self.starved = Some(now);
        }
    }

    /// Whether commands wait too long because others hold what they need: then no
    /// host that holds it has more time than that.
    pub(crate) fn is_starved(&self, now: Timestamp) -> bool {
        self.starved
            .is_some_and(|starved| now < starved.plus_ms(FORBEARANCE_MS))
    }

    /// Slots in use: commands under way on all connections of the shard.
    pub fn in_use(&self) -> usize {
        self.slots.in_use()
    }

    /// Bytes that have been requested of hosts and whose writes are not complete.
    pub fn write_bytes_granted(&self) -> u64 {
        self.write_bytes - self.write_bytes_left
    }

    /// Takes what the write in `slot` needs, besides its run, for its data to be
    /// fetched; `held` is what its queue has already. Returns the credit; none if
    /// that is for others.
    ///
    /// A queue that has more than is left gets no more: one alone has half, and
    /// N that all want more have an N+1st each, whoever came first, and leave one to
    /// the next (the dynamic threshold of shared buffers: Choudhury and Hahne, 1998).
    /// One write is always allowed, however large: otherwise it would never be.
    #[inline]
    pub(crate) fn take_credit(&mut self, slot: SlotIndex, held: u64) -> Option<u64> {
        let slot = &mut self.slots[slot];
        let bytes = u64::from(slot.len);
        let overtakes = self.first.is_some_and(|first| first != slot.queue);
        let left = self.write_bytes_left;
        let greedy = match self.namespaces.used < 2 {
            true => held > left,
            // The namespace leaves as much to others, and the queue to others of the namespace.
            false => {
                let credit = self.namespaces.of(slot.namespace.index).credit_of_all;
                takes_too_much(credit, bytes, left) || held > left.saturating_sub(credit) / 2
            }
        };
        let short = bytes > left && left != self.write_bytes;
        let crowded = slot.share == Share::Passing && self.fetching >= self.fetching_max;
        if overtakes || greedy || short || crowded {
            return None;
        }
        let taken = bytes.min(left);
        self.write_bytes_left -= taken;
        slot.credit = taken as u32;
        if slot.share == Share::Passing {
            slot.share = Share::Fetching;
            self.fetching += 1;
        }
        self.first = None;
        self.namespaces.of(slot.namespace.index).credit_of_all += taken;
        Some(taken)
    }

    /// `credit` that a slot had comes back; how much of that its queue had.
    #[inline]
    pub(crate) fn return_credit(&mut self, credit: Credit) -> u64 {
        let bytes = u64::from(credit.bytes);
        if bytes == 0 {
            return 0;
        }
        self.write_bytes_left += bytes;
        let of = &mut self.namespaces.at_device[credit.namespace.index()];
        of.credit_of_all -= bytes;
        if !credit.is_at_device {
            return bytes;
        }
        of.credit -= bytes;
        0
    }

    /// `queue` has nothing to fetch with: from now on none overtakes it, unless
    /// another has waited for longer.
    pub(crate) fn reserve_turn(&mut self, queue: QueueId) {
        self.first.get_or_insert(queue);
    }

    /// `queue` has nothing to fetch any more.
    pub(crate) fn yield_turn(&mut self, queue: QueueId) {
        if self.first == Some(queue) {
            self.first = None;
        }
    }

    /// Whether none overtakes `queue`.
    pub(crate) fn is_first(&self, queue: QueueId) -> bool {
        self.first == Some(queue)
    }

    /// Runs that are kept for in-capsule data and admin commands, besides those that such data has already: it would
    /// take the runs of all others, too, if a device did not answer. A part of them is always kept.
    #[inline]
    pub(crate) fn runs_reserved(&self) -> usize {
        (self.runs_reserved.saturating_sub(self.runs_kept)).max(self.runs_reserved / KEPT_OF)
    }

    /// Runs that are kept for whatever waits for no host.
    #[inline]
    pub(crate) fn runs_for_others(&self) -> usize {
        self.runs_reserved() + self.runs_for_reads
    }
}

/// Whether a namespace that has so much credit would, with `bytes` more, have more than it leaves of `left`.
#[inline]
fn takes_too_much(credit: u64, bytes: u64, left: u64) -> bool {
    credit > 0 && credit + 2 * bytes > left
}

impl fmt::Debug for CommandPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CommandPool")
            .field("in_use", &self.in_use())
            .field("write_bytes_granted", &self.write_bytes_granted())
            .finish_non_exhaustive()
    }
}
