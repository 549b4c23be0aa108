//! What a shard lends to its sessions: pools, ledger, command slots, counters.

use std::fmt;

use pages::{ClusterPool, CopyLedger, PageRun, PullUp, RunPool};

use crate::pdu::FatalStatus;
use crate::slots::{SlotIndex, Slots};
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

impl Shard<'_> {
    /// What [`PageRun::place`] needs.
    #[inline]
    pub(crate) fn pull_up(&self) -> PullUp<'_> {
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
pub struct CommandPool {
    pub(crate) slots: Slots,
    /// Slots that commands of I/O queues leave to connections and admin queues:
    /// keep-alives are answered whatever drives do.
    pub(crate) slots_reserved: usize,
    runs_reserved: usize,
    runs_for_reads: usize,
    write_bytes: u64,
    write_bytes_left: u64,
    /// Sessions that a slot is kept for, and how many of them have one.
    sessions: usize,
    sessions_active: usize,
    /// When some command last found that it waited too long for a run or for credit.
    starved: Option<Timestamp>,
}

/// One slot of so many is reserved.
const RESERVED_OF: usize = 16;

impl CommandPool {
    /// A pool of `slots` command slots (at least 1) whose writes may together
    /// pin `write_bytes` of receive buffers by R2T. `runs_reserved` page runs
    /// are kept for in-capsule data and admin commands; less than the run pool has.
    pub fn new(slots: u16, write_bytes: u64, runs_reserved: usize) -> Self {
        Self {
            slots: Slots::new(slots.max(1)),
            slots_reserved: usize::from(slots) / RESERVED_OF,
            runs_reserved,
            runs_for_reads: 0,
            write_bytes,
            write_bytes_left: write_bytes,
            sessions: 0,
            sessions_active: 0,
            starved: None,
        }
    }

    /// Keeps what every one of `sessions` sessions needs to go on, whatever the
    /// others do: a slot each, of those there are, and `runs_for_reads` runs
    /// that no write which waits for data may take.
    pub fn keep(mut self, sessions: usize, runs_for_reads: usize) -> Self {
        (self.sessions, self.runs_for_reads) = (sessions, runs_for_reads);
        self
    }

    /// Takes a slot for a session that holds `held`, those of parked commands
    /// left out, and leaves `reserved` to others. Of the last ones each is for a
    /// session that has none.
    #[inline]
    pub(crate) fn take(
        &mut self,
        held: u16,
        reserved: usize,
        owner: u64,
        cid: Cid,
        chain: &mut SlotIndex,
    ) -> Option<SlotIndex> {
        let without = self.sessions.saturating_sub(self.sessions_active);
        let left = self.slots.available();
        if left <= reserved || held > 0 && left <= without {
            return None;
        }
        let first = *chain == SlotIndex::NONE;
        let index = self.slots.take(owner, cid, chain)?;
        self.sessions_active += usize::from(first);
        Some(index)
    }

    /// Frees a slot.
    #[inline]
    pub(crate) fn free(&mut self, index: SlotIndex, chain: &mut SlotIndex) {
        self.slots.free(index, chain);
        self.sessions_active -= usize::from(*chain == SlotIndex::NONE);
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

    /// Takes `bytes` of write credit for `slot`; `another`: its session has some
    /// already. The last half is for sessions that have none. One write is
    /// always allowed, however large: otherwise it would never be.
    pub(crate) fn take_credit(&mut self, slot: SlotIndex, bytes: u32, another: bool) -> bool {
        if another && self.write_bytes_left < self.write_bytes / 2 {
            return false;
        }
        let whole = self.write_bytes_left == self.write_bytes;
        if u64::from(bytes) > self.write_bytes_left && !whole {
            return false;
        }
        let taken = u64::from(bytes).min(self.write_bytes_left);
        self.write_bytes_left -= taken;
        self.slots[slot].credit = taken as u32;
        true
    }

    /// Gives the credit of `slot` back; whether it had any.
    #[inline]
    pub(crate) fn return_credit(&mut self, slot: SlotIndex) -> bool {
        let credit = std::mem::take(&mut self.slots[slot].credit);
        self.write_bytes_left += u64::from(credit);
        credit > 0
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
