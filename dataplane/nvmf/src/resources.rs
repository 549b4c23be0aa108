//! What a shard lends to its sessions: pools, ledger, command slots, counters.

use block::NamespaceIndex;
use pages::{ClusterPool, CopyLedger, PAGE_SIZE, PageRun, PullUp, RunPool};

use crate::counters::Counters;
use crate::queue::pool::CommandPool;
use crate::work::Work;

/// A shard's resources, borrowed for one call.
pub struct Resources<'a> {
    /// Page runs for data in both directions; made for at least `max_io_bytes`.
    pub runs: &'a RunPool,
    /// Whole pages for pull-ups and for control data (identify, log pages).
    pub pages: &'a ClusterPool,
    /// Where copies are counted. Payload accepted and given out is counted
    /// here by the queues (`stored`, `loaded`).
    pub ledger: &'a CopyLedger,
    /// Slots for commands under way, shared by the shard's sessions.
    pub commands: &'a mut CommandPool,
    /// What happened.
    pub counters: &'a mut Counters,
}

impl<'a> Resources<'a> {
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
        self.run_beyond(self.commands.runs_reserved())
    }

    /// A run for data that is still to be fetched: half of the others at most, so
    /// that hosts that are slow to send do not stop those that read.
    #[inline]
    pub(crate) fn run_for_fetch(&mut self) -> Option<Box<PageRun>> {
        self.run_beyond(self.commands.runs_for_others())
    }

    /// Whether a session that owes its host `owed` bytes may read `len` more.
    ///
    /// What was read pins memory until the host has acknowledged it. A session that
    /// owes more than there is left reads no more until its host has taken some
    /// ([`CommandPool::take_credit`] is the same for writes): one host that reads nothing
    /// pins half at most, each that comes after it half of the rest, and time ends them all.
    /// One read is always allowed.
    #[inline]
    pub(crate) fn may_read(&self, len: u32, owed: u64) -> bool {
        if owed == 0 {
            return true;
        }
        let pages = (self.pages.unheld() * PAGE_SIZE) as u64;
        owed + u64::from(len) <= pages.min(self.commands.read_bytes_left())
    }

    /// Whether commands of `namespace` are to wait until others of it are done: it has its
    /// share of what commands take. Its reads leave runs to writes of others, too.
    #[inline]
    pub(crate) fn is_greedy(&self, namespace: NamespaceIndex, work: &Work, len: u32) -> bool {
        if self.commands.is_one_namespace() {
            return false;
        }
        let reserved = self.commands.runs_for_others();
        let left = self.runs.available().saturating_sub(reserved);
        let bytes = match work {
            Work::Write { .. } | Work::Dataset { .. } => len,
            _ => 0,
        };
        (self.commands).is_greedy(namespace, bytes.into(), left)
    }

    #[inline]
    fn run_beyond(&mut self, reserved: usize) -> Option<Box<PageRun>> {
        (self.runs.available() > reserved)
            .then(|| self.runs.take())
            .flatten()
    }
}
