//! What a shard lends to its sessions: pools, ledger, command slots, counters.

use std::fmt;

use pages::{ClusterPool, CopyLedger, PageRun, PullUp, RunPool};

use crate::pdu::FatalStatus;
use crate::slots::{Held, Share, SlotIndex, Slots};
use crate::units::{Cid, Timestamp};

/// A shard's resources, borrowed for one call.
pub struct Shard<'a> {
    /// Page runs for data in both directions; made for at least `max_io_bytes`.
    pub runs: &'a RunPool,
    /// Whole pages for pull-ups and for control data (identify, log pages).
    pub pages: &'a ClusterPool,
    /// Where copies are counted. Payload accepted and given out is counted
    /// here by the sessions (`stored`, `loaded`).
    pub ledger: &'a CopyLedger,
    /// Slots for commands under way, shared by the shard's sessions.
    pub commands: &'a mut CommandPool,
    /// What happened.
    pub counters: &'a mut Counters,
}

impl<'a> Shard<'a> {
    /// What [`PageRun::place`] needs.
    #[inline]
    pub(crate) fn pull_up(&self) -> PullUp<'a> {
        PullUp::new(self.pages, self.ledger)
    }

    /// A run for data that is in the stream already. Every run may be taken:
    /// the command goes on to the device without waiting for the host.
    #[inline]
    pub(crate) fn run_for_capsule(&mut self) -> Option<Box<PageRun>> {
        self.runs.take()
    }

    /// A run for data that a volume gives. A part of the pool is left for
    /// in-capsule data, so that commands that wait can never stop the streams
    /// that what they wait for comes in.
    #[inline]
    pub(crate) fn run_for_read(&mut self) -> Option<Box<PageRun>> {
        self.run_beyond(self.commands.runs_reserved)
    }

    /// A run for data that is still to be asked for: half of the others at
    /// most, so that hosts that owe data do not stop those that read.
    #[inline]
    pub(crate) fn run_for_r2t(&mut self) -> Option<Box<PageRun>> {
        self.run_beyond(self.commands.runs_reserved + self.commands.runs_for_reads)
    }

    #[inline]
    fn run_beyond(&mut self, reserved: usize) -> Option<Box<PageRun>> {
        (self.runs.available() > reserved)
            .then(|| self.runs.take())
            .flatten()
    }
}

/// How long a command may wait for what others hold, in milliseconds. After that
/// hosts that hold it, and have been silent for as long, are given up.
pub(crate) const FORBEARANCE_MS: u64 = 1000;

/// The shard's command slots and the credit that its R2Ts draw on.
///
/// All memory for commands under way, whatever the number of connections:
/// made once, at start-up.
///
/// # Why no command waits for ever
///
/// The data that a host was asked for comes in the stream behind the capsules
/// that it has sent by then, as many as its queue has entries, and every capsule
/// needs a slot to be taken out of the stream. If writes whose data is still to
/// come held all the slots, capsules with that data behind them would wait for
/// slots, and nobody would move. Therefore:
///
/// 1. A write waits without a slot until it may be asked for. What is known of
///    it is kept by its session, which has room for as many as its queue has entries.
/// 2. Writes that were asked for, and whose data is not all there, have at most
///    `asked_max` of the shared slots. The others are only passed through, by
///    commands that wait for no host: they come back as devices get done. So there
///    is always a slot for the capsule in the way, however many are in the
///    way, until the data behind them has come: what was asked for gets done.
/// 3. Commands that pass through have at most `passing_max` of the shared slots,
///    so there is one for a write that waits, once those before it are done. Page
///    runs are divided likewise (`Shard::run_for_r2t`, `runs_reserved`).
/// 4. Each session has a slot of its own besides, and the session that found first
///    that there is nothing for it to ask with is not overtaken by another.
///
/// Where there is room the rules cost a few comparisons of counts.
pub struct CommandPool {
    pub(crate) slots: Slots,
    /// Slots that are one session's each, and how many of them are in use.
    own_max: usize,
    own: usize,
    /// Slots for all, and how many of them writes have whose data hosts owe.
    shared_max: usize,
    asked: usize,
    /// Most slots of `shared_max` that such writes have, and that other commands have.
    asked_max: usize,
    passing_max: usize,
    /// More shared slots, which I/O queues leave to connections and Admin Queues:
    /// keep-alives are answered whatever drives do.
    admin_more: usize,
    runs_reserved: usize,
    runs_for_reads: usize,
    write_bytes: u64,
    write_bytes_left: u64,
    /// When some command last found that it waited too long for a run or for credit.
    starved: Option<Timestamp>,
    /// The session that no other overtakes.
    first: Option<u64>,
}

/// What a slot is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// A command of an I/O queue, as it comes out of the stream.
    Io,
    /// One of an Admin Queue, or of a connection that is no queue yet.
    Admin,
    /// A write that is to be asked for.
    Ask,
}

/// One slot of so many is set aside, for each thing that slots are set aside for.
const ASIDE_OF: usize = 16;

impl CommandPool {
    /// A pool of `slots` command slots (at least 2) whose writes may together
    /// pin `write_bytes` of receive buffers by R2T. `runs_reserved` page runs
    /// are kept for in-capsule data and admin commands; less than the run pool has.
    pub fn new(slots: u16, write_bytes: u64, runs_reserved: usize) -> Self {
        let slots = slots.max(2);
        let mut pool = Self {
            slots: Slots::new(slots),
            own_max: 0,
            own: 0,
            shared_max: 0,
            asked: 0,
            asked_max: 0,
            passing_max: 0,
            admin_more: usize::from(slots) / ASIDE_OF,
            runs_reserved,
            runs_for_reads: 0,
            write_bytes,
            write_bytes_left: write_bytes,
            starved: None,
            first: None,
        };
        pool.divide();
        pool
    }

    /// Keeps what every one of `sessions` sessions needs to go on, whatever the
    /// others do: a slot each, of those there are, and `runs_for_reads` runs
    /// that no write which waits for data may take.
    pub fn keep(mut self, sessions: usize, runs_for_reads: usize) -> Self {
        (self.own_max, self.runs_for_reads) = (sessions, runs_for_reads);
        self.divide();
        self
    }

    /// Divides the slots; of those that are shared there are two at least.
    fn divide(&mut self) {
        let rest = self.slots.available() - self.admin_more;
        self.own_max = self.own_max.min(rest - 2);
        self.shared_max = rest - self.own_max;
        let aside = (self.shared_max / ASIDE_OF).max(1);
        self.asked_max = self.shared_max - aside;
        self.passing_max = self.shared_max - aside;
    }

    /// Takes a slot for a command of the session that has `held`.
    #[inline]
    pub(crate) fn take(
        &mut self,
        purpose: Purpose,
        cid: Cid,
        held: &mut Held,
    ) -> Option<SlotIndex> {
        if !held.own && self.own < self.own_max {
            let index = self.slots.take(cid, Share::Own, held)?;
            self.own += 1;
            return Some(index);
        }
        let shared = self.shared();
        let free = match purpose {
            Purpose::Io => shared < self.shared_max && shared - self.asked < self.passing_max,
            Purpose::Admin => shared < self.shared_max + self.admin_more,
            Purpose::Ask => shared < self.shared_max && self.asked < self.asked_max,
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

    /// Frees a slot.
    #[inline]
    pub(crate) fn free(&mut self, index: SlotIndex, held: &mut Held) {
        match self.slots.free(index, held) {
            Share::Own => self.own -= 1,
            Share::Asked => self.asked -= 1,
            Share::Passing => {}
        }
    }

    /// All data that the command in `index` takes has come.
    #[inline]
    pub(crate) fn answered(&mut self, index: SlotIndex) {
        let share = &mut self.slots[index].share;
        if *share == Share::Asked {
            *share = Share::Passing;
            self.asked -= 1;
        }
    }

    /// A command has waited for a run or credit since `since`.
    #[inline]
    pub(crate) fn waits(&mut self, since: Timestamp, now: Timestamp) {
        if now >= since.plus_ms(FORBEARANCE_MS) {
            self.starved = Some(now);
        }
    }

    /// Whether commands wait too long because others hold what they need: then
    /// nobody who holds it is waited for any longer than that.
    pub(crate) fn is_starved(&self, now: Timestamp) -> bool {
        self.starved
            .is_some_and(|starved| now < starved.plus_ms(FORBEARANCE_MS))
    }

    /// Slots in use: commands under way on all connections of the shard.
    pub fn in_use(&self) -> usize {
        self.slots.in_use()
    }

    /// Bytes that hosts have been asked for and whose writes are not complete.
    pub fn write_bytes_granted(&self) -> u64 {
        self.write_bytes - self.write_bytes_left
    }

    /// Takes what the write in `slot` needs, besides its run, to be asked for;
    /// `held` is what its session has already. Returns the credit; none if that is
    /// for others.
    ///
    /// A session that has more than is left gets no more: one alone has half, and
    /// N that all want more have an N+1st each, whoever came first, and leave one to
    /// the next (the dynamic threshold of shared buffers: Choudhury and Hahne, 1998).
    /// One write is always allowed, however large: otherwise it would never be.
    #[inline]
    pub(crate) fn take_credit(&mut self, slot: SlotIndex, held: u64) -> Option<u64> {
        let (bytes, share, owner) = {
            let slot = &self.slots[slot];
            (slot.len, slot.share, slot.owner)
        };
        let overtakes = self.first.is_some_and(|first| first != owner);
        let greedy = held > self.write_bytes_left;
        let whole = self.write_bytes_left == self.write_bytes;
        let short = u64::from(bytes) > self.write_bytes_left && !whole;
        let crowded = share == Share::Passing && self.asked >= self.asked_max;
        if overtakes || greedy || short || crowded {
            return None;
        }
        let taken = u64::from(bytes).min(self.write_bytes_left);
        self.write_bytes_left -= taken;
        let slot = &mut self.slots[slot];
        slot.credit = taken as u32;
        if share == Share::Passing {
            slot.share = Share::Asked;
            self.asked += 1;
        }
        self.first = None;
        Some(taken)
    }

    /// Gives the credit of `slot` back; how much that is.
    #[inline]
    pub(crate) fn return_credit(&mut self, slot: SlotIndex) -> u64 {
        let credit = u64::from(std::mem::take(&mut self.slots[slot].credit));
        self.write_bytes_left += credit;
        credit
    }

    /// The session `id` has nothing to ask with: from now on nobody overtakes it,
    /// unless another has waited for longer.
    pub(crate) fn queue_up(&mut self, id: u64) {
        self.first.get_or_insert(id);
    }

    /// The session `id` has nothing to ask for any more.
    pub(crate) fn step_back(&mut self, id: u64) {
        if self.first == Some(id) {
            self.first = None;
        }
    }

    /// Whether nobody overtakes the session `id`.
    pub(crate) fn is_first(&self, id: u64) -> bool {
        self.first == Some(id)
    }
}

impl fmt::Debug for CommandPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CommandPool")
            .field("in_use", &self.in_use())
            .field("write_bytes_granted", &self.write_bytes_granted())
            .finish_non_exhaustive()
    }
}

events::counters! {
    /// What happened on a shard's NVMe/TCP connections since it started.
    pub struct Counters {
        /// PDUs received.
        pdus_in,
        /// PDUs sent.
        pdus_out,
        /// Connects accepted, admin and I/O.
        connects,
        /// Connects refused.
        connects_refused,
        /// Read commands taken.
        reads,
        /// Write commands taken.
        writes,
        /// Other I/O commands taken.
        io_others,
        /// Admin and Fabrics commands taken.
        admin_commands,
        /// Commands completed with an error status.
        errors,
        /// Bytes of payload received for writes.
        bytes_in,
        /// Bytes of payload sent for reads.
        bytes_out,
        /// R2Ts sent.
        r2ts,
        /// Data digests that did not match.
        data_digest_errors,
        /// Headers that had to be gathered because slices cut them.
        headers_gathered,
        /// Times a stream was blocked for want of a slot, a run or a page.
        blocked,
        /// Commands refused because a stream stayed blocked too long.
        interrupted,
        /// Connections that closed because a timer expired.
        timeouts,
        /// Terminate requests received from hosts.
        terminated_by_host,
        /// Connections terminated for an invalid field of a PDU's header.
        invalid_header_field,
        /// Connections terminated for a PDU that may not come then.
        sequence_error,
        /// Connections terminated for a header digest that did not match.
        header_digest_error,
        /// Connections terminated for data outside the range asked for.
        data_out_of_range,
        /// Connections terminated for more data in a PDU than allowed.
        data_limit_exceeded,
        /// Connections terminated for a parameter that is not supported.
        unsupported_parameter,
    }
}

impl Counters {
    /// A connection is terminated for a malformed PDU.
    pub(crate) fn count_malformed(&mut self, status: FatalStatus) {
        *match status {
            FatalStatus::InvalidHeaderField => &mut self.invalid_header_field,
            FatalStatus::SequenceError => &mut self.sequence_error,
            FatalStatus::HeaderDigestError => &mut self.header_digest_error,
            FatalStatus::DataOutOfRange => &mut self.data_out_of_range,
            FatalStatus::DataLimitExceeded => &mut self.data_limit_exceeded,
            FatalStatus::UnsupportedParameter => &mut self.unsupported_parameter,
        } += 1;
    }
}
