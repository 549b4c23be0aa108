//! The world of a shard: DPDK's ports, SPDK's stores, hugepages and the time-stamp counter.

use crate::memory::Memory;
use crate::port::PortQueue;
use crate::spdk::SpdkThread;
use crate::store::Store;
use crate::tsc::Tsc;

/// A core with its SPDK thread.
pub(crate) struct Core {
    spdk: SpdkThread,
}

impl Core {
    /// The calling lcore, whose SPDK thread this is.
    pub(crate) fn new(spdk: SpdkThread) -> Self {
        Self { spdk }
    }
}

impl shard::Machine for Core {
    type Ticks = Tsc;
    type Memory = Memory;
    type Port = PortQueue;
    type Device = Store;

    #[inline]
    fn enter(&self) {
        self.spdk.enter();
    }

    #[inline]
    fn poll(&mut self) -> bool {
        self.spdk.poll()
    }
}

/// A shard on a core of this machine.
pub(crate) type Shard = shard::Shard<Core>;
