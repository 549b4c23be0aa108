//! A shard's memory: one arena of hugepages, known to DPDK and SPDK, and the
//! pools carved from it. Sizes are sums fixed at start.
#![allow(unsafe_code)]

use std::alloc::Layout;
use std::ffi::{CString, c_void};
use std::ptr::{self, NonNull};
use std::rc::Rc;

use arrayvec::ArrayVec;
use block::Buffers;
use pages::{Arena, ClusterPool, CopyLedger, PAGE_SIZE, Region, RunPool};

use crate::error::{Error, strerror};
use crate::numa;
use shard::MemoryConfig;

/// Hugepages of this size; 1 GiB pages would waste most of one on a small shard.
pub(crate) const HUGEPAGE: usize = 2 << 20;

/// Hugepages registered with DPDK (external memory) and SPDK.
struct HugeRegion {
    base: NonNull<u8>,
    layout: Layout,
}

impl HugeRegion {
    /// For the shard on `core`, on that core's node if it has pages left.
    fn new(bytes: usize, core: u32) -> Result<Self, Error> {
        let len = bytes.next_multiple_of(HUGEPAGE);
        let no_memory = || Error::Hugepages {
            mib: (len >> 20) as u64,
        };
        let layout = Layout::from_size_align(len, HUGEPAGE).map_err(|_| no_memory())?;
        // SAFETY: the layout has a non-zero size.
        let base = NonNull::new(unsafe { hugepage_rs::alloc(layout) }).ok_or_else(no_memory)?;
        let region = Self { base, layout };
        let node = numa::of_lcore(core);
        numa::prefer(base, len, node);
        for page in (0..len).step_by(HUGEPAGE) {
            // Populates the page now: a device may not fault. The kernel reserved
            // the pages at mmap, so this write cannot raise SIGBUS.
            // SAFETY: `page` is inside the mapping just made, which nobody else knows of.
            unsafe { ptr::write_volatile(base.as_ptr().add(page), 0) };
        }
        if let Some(astray @ 1..) = numa::astray(base, len, HUGEPAGE, node) {
            log::warn!(
                "core {core} is on node {node}, but {astray} of its {} hugepages are not: reserve more there \
                 (/sys/devices/system/node/node{node}/hugepages)",
                len / HUGEPAGE
            );
        }
        let (va, len) = (base.as_ptr().cast::<c_void>(), len as u64);
        // SAFETY: the range is populated hugepages and stays mapped until `drop` unregisters it.
        let code = unsafe { dpdk_sys::tl_extmem_register(va, len, HUGEPAGE as u64) };
        if code < 0 {
            return Err(Error::Eal {
                code,
                args: "external memory".into(),
            });
        }
        // SAFETY: as above.
        let code = unsafe { spdk_sys::tl_spdk_mem_register(va, len) };
        if code < 0 {
            return Err(Error::Spdk {
                what: "registering the arena for DMA",
                code,
            });
        }
        Ok(region)
    }
}

impl Drop for HugeRegion {
    fn drop(&mut self) {
        let (va, len) = (
            self.base.as_ptr().cast::<c_void>(),
            self.layout.size() as u64,
        );
        // SAFETY: the range was registered in `new` (a refusal is harmless), its last
        // cluster is gone, and the mapping is released exactly once.
        unsafe {
            spdk_sys::tl_spdk_mem_unregister(va, len);
            dpdk_sys::tl_extmem_unregister(va, len);
            hugepage_rs::dealloc(self.base.as_ptr(), self.layout);
        }
    }
}

// SAFETY: hugepages are page-aligned and stay mapped as long as the value; devices
// write only to clusters that no shared handle refers to.
unsafe impl Region for HugeRegion {
    fn base(&self) -> NonNull<u8> {
        self.base
    }
    fn len(&self) -> usize {
        self.layout.size()
    }
}

/// The NIC's side of the receive clusters.
pub(crate) struct ReceivePool {
    pool: NonNull<dpdk_sys::tl_cluster_pool>,
    /// Clusters on their way back to the NIC, in bulks.
    returning: [u32; ReceivePool::BULK],
}

impl ReceivePool {
    const BULK: usize = 64;

    fn new(name: &str, clusters: &ClusterPool, shift: u32) -> Result<Self, Error> {
        let name = CString::new(name).expect("pool names have no NUL");
        let base = clusters.base().expect("a shard has clusters");
        // DPDK takes no cache of more than two thirds of a pool (rte_mempool_create_empty).
        let cache = (clusters.len() as u32 * 2 / 3).min(256);
        let mut pool = ptr::null_mut();
        // SAFETY: the clusters lie side by side from `base` in a registered region, with
        // the page pool (not the region's edge) before them.
        let code = unsafe {
            dpdk_sys::tl_cluster_pool_create(
                name.as_ptr(),
                base.as_ptr().cast(),
                clusters.len() as u32,
                clusters.cluster_size() as u32,
                shift,
                cache,
                -1,
                &mut pool,
            )
        };
        match NonNull::new(pool) {
            Some(pool) if code >= 0 => Ok(Self {
                pool,
                returning: [0; Self::BULK],
            }),
            _ => Err(Error::Memory(format!(
                "the receive pool could not be made: {}",
                strerror(code)
            ))),
        }
    }

    pub(crate) fn as_ptr(&self) -> *mut dpdk_sys::tl_cluster_pool {
        self.pool.as_ptr()
    }

    /// Lends every cluster that became free to the NIC again.
    pub(crate) fn replenish(&mut self, clusters: &ClusterPool) {
        loop {
            let n = clusters.post(&mut self.returning);
            if n == 0 {
                return;
            }
            // SAFETY: `lend` gave these indices to us alone; each is out of the NIC's pool
            // and was unchained when it was received.
            unsafe {
                dpdk_sys::tl_cluster_pool_return(self.as_ptr(), self.returning.as_ptr(), n as u32);
            }
        }
    }

    /// Takes one free cluster from the NIC's pool, to copy a foreign frame into.
    pub(crate) fn take(&self) -> Option<u32> {
        let mut index = 0;
        // SAFETY: room for the one index asked for.
        (unsafe { dpdk_sys::tl_cluster_pool_take(self.as_ptr(), &mut index, 1) } == 1)
            .then_some(index)
    }

    /// Fills `out`, which is empty, with free clusters from the NIC's pool; with one when there are few.
    pub(crate) fn take_bulk<const N: usize>(&self, out: &mut ArrayVec<u32, N>) {
        let mut bulk = [0; N];
        // SAFETY: room for as many as are asked for.
        let n =
            unsafe { dpdk_sys::tl_cluster_pool_take(self.as_ptr(), bulk.as_mut_ptr(), N as u32) };
        if n as usize == N {
            out.extend(bulk);
        } else {
            out.extend(self.take());
        }
    }
}

impl Drop for ReceivePool {
    fn drop(&mut self) {
        // SAFETY: ports are closed before a shard's memory is dropped.
        unsafe { dpdk_sys::tl_cluster_pool_destroy(self.as_ptr()) }
    }
}

/// Everything a shard allocates from.
pub(crate) struct Memory {
    pub(crate) receive: ReceivePool,
    pub(crate) buffers: Buffers,
    pub(crate) arena: Rc<Arena>,
}

impl Memory {
    /// Lays out the memory of the shard on `core`. `shift`: where frames start in a cluster (0 or 2).
    pub(crate) fn new(
        shard: usize,
        core: u32,
        config: &MemoryConfig,
        max_io_bytes: usize,
        shift: u32,
    ) -> Result<Self, Error> {
        let cluster_size = config.cluster_size as usize;
        // A guard: the NIC's headroom reaches 128 bytes below the clusters, which start at a
        // multiple of their size.
        let before = PAGE_SIZE + config.pages as usize * PAGE_SIZE;
        let guard = (before + PAGE_SIZE).next_multiple_of(cluster_size) - before;
        // The sum, a line per consumer.
        let bytes = PAGE_SIZE // the page of zeros
            + config.pages as usize * PAGE_SIZE // reads, pull-ups, control data
            + guard
            + (config.clusters as usize * cluster_size).next_multiple_of(PAGE_SIZE);
        let arena = Arena::new(HugeRegion::new(bytes, core)?);
        let carve = |count: usize, size: usize, what: &str| {
            ClusterPool::carve(&arena, count, size).ok_or_else(|| {
                Error::Memory(format!("{count} {what} of {size} bytes do not tile pages"))
            })
        };
        let zero_page = arena
            .zero_page()
            .ok_or_else(|| Error::Memory("no page for zeros".into()))?;
        let pages = carve(config.pages as usize, PAGE_SIZE, "pages")?;
        carve(guard / PAGE_SIZE, PAGE_SIZE, "guard")?;
        let clusters = carve(config.clusters as usize, cluster_size, "clusters")?;
        let receive = ReceivePool::new(&format!("clusters{shard}"), &clusters, shift)?;
        let mut posted = [0; 256];
        while clusters.post(&mut posted) > 0 {}
        Ok(Self {
            receive,
            buffers: Buffers {
                clusters,
                pages,
                runs_len: config.runs() as usize,
                runs: RunPool::new(config.runs() as usize, max_io_bytes),
                ledger: Rc::new(CopyLedger::new()),
                zero_page,
            },
            arena,
        })
    }
}

impl shard::Memory for Memory {
    #[inline]
    fn buffers(&self) -> &Buffers {
        &self.buffers
    }

    #[inline]
    fn replenish(&mut self) {
        self.receive.replenish(&self.buffers.clusters);
    }
}
