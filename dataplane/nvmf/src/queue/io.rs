//! What an I/O Queue holds besides its commands.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::abort::Wanted;
use crate::controller::{Controller, Enabled};
use crate::namespaces::Namespaces;
use crate::status::Status;
use crate::target::Admission;
use crate::units::{Cid, Qid};
use crate::work::{NamespaceRef, Work};

/// The state of an I/O Queue that is connected.
#[derive(Debug)]
pub(super) struct IoQueue {
    pub controller: Arc<Controller>,
    pub qid: Qid,
    enabled: Enabled,
    /// It is one of the controller's queues.
    has_joined: bool,
    /// As last seen.
    namespaces: Arc<Namespaces>,
    /// Generation of those that its waiting commands were last compared with.
    compared: u64,
    usage: Usage,
    /// How often queues of the controller had been asked to abort a command when it last looked.
    aborts_seen: u64,
    /// Requests that volumes are to give back.
    pub wanted: Wanted,
}

/// What the queue moved and has not added to its controller's sum.
#[derive(Debug, Default)]
struct Usage {
    reads: u64,
    writes: u64,
    /// In 512-byte units.
    units_read: u64,
    /// In 512-byte units.
    units_written: u64,
}

impl IoQueue {
    /// Queue `qid` of `controller`, which was `enabled` when the queue was connected.
    pub fn new(
        controller: Arc<Controller>,
        enabled: Enabled,
        qid: Qid,
        namespaces: Arc<Namespaces>,
        admission: Admission,
    ) -> Self {
        Self {
            controller,
            qid,
            enabled,
            has_joined: admission == Admission::AtOnce,
            compared: namespaces.generation,
            namespaces,
            usage: Usage::default(),
            aborts_seen: 0,
            wanted: Wanted::default(),
        }
    }

    /// Whether the controller is enabled as it was when the queue was connected.
    #[inline]
    pub fn is_valid(&self) -> bool {
        self.controller.is_still(self.enabled)
    }

    /// The namespaces as they are now.
    #[inline]
    pub fn namespaces(&mut self) -> &Namespaces {
        if let Some(subsystem) = &self.controller.subsystem
            && !subsystem.is_current(&self.namespaces)
        {
            self.namespaces = subsystem.namespaces_at(self.controller.listener);
        }
        &self.namespaces
    }

    /// The namespaces, if they are other ones than those that its waiting commands were last compared with.
    pub fn news(&mut self) -> Option<Arc<Namespaces>> {
        let generation = self.namespaces().generation;
        if std::mem::replace(&mut self.compared, generation) == generation {
            return None;
        }
        Some(Arc::clone(&self.namespaces))
    }

    /// Blocks of `namespace` now.
    ///
    /// # Errors
    /// If commands do not get to it, or it is gone, or another has its number.
    pub fn blocks_of(&mut self, namespace: NamespaceRef) -> Result<u64, Status> {
        let namespaces = self.namespaces();
        match namespaces.serving(namespace.nsid) {
            Some(current) if current.index == namespace.index => Ok(current.blocks),
            _ => Err(namespaces.refusal(namespace.nsid)),
        }
    }

    /// The next command of the queue that an Abort names.
    pub fn next_abort(&mut self) -> Option<Cid> {
        let asked = self.controller.aborts_asked();
        if asked == self.aborts_seen {
            return None;
        }
        let next = self.controller.next_abort(self.qid);
        if next.is_none() {
            self.aborts_seen = asked;
        }
        next
    }

    /// A command that moved `len` bytes succeeded.
    #[inline]
    pub fn count(&mut self, work: &Work, len: u32) {
        let units = u64::from(len.div_ceil(512));
        match work {
            Work::Read { .. } => {
                self.usage.reads += 1;
                self.usage.units_read += units;
            }
            Work::Write { .. } => {
                self.usage.writes += 1;
                self.usage.units_written += units;
            }
            _ => {}
        }
    }

    /// Adds what was moved to the controller's sum.
    pub fn publish_usage(&mut self) {
        let (mine, sums) = (&mut self.usage, &self.controller.usage);
        for (mine, sum) in [
            (&mut mine.reads, &sums.reads),
            (&mut mine.writes, &sums.writes),
            (&mut mine.units_read, &sums.units_read),
            (&mut mine.units_written, &sums.units_written),
        ] {
            if *mine > 0 {
                sum.fetch_add(std::mem::take(mine), Ordering::Relaxed);
            }
        }
    }

    /// Becomes one of the controller's queues; false if there is one of that number by now, or the controller is not what it was.
    pub fn join(&mut self) -> bool {
        if !self.is_valid() || self.has_joined {
            return false;
        }
        let Ok(enabled) = self.controller.add_queue(self.qid) else {
            return false;
        };
        self.enabled = enabled;
        self.has_joined = true;
        true
    }

    /// Leaves the controller, if it was one of its queues; whether it was.
    pub fn disconnect(&mut self) -> bool {
        self.publish_usage();
        if self.has_joined {
            self.controller.remove_queue(self.qid, self.enabled);
        }
        self.has_joined
    }
}
