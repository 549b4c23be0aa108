//! What every test of the two -sys crates needs: an EAL of its own, and an arena of hugepages. One EAL per process, so
//! each file here holds one test. Root and hugepages (`./ci/setup`) are required; a test without them fails and says so.
#![allow(dead_code, unsafe_code)]

use dpdk_sys as d;
use std::ffi::{CString, c_char};
use std::ptr;

pub const PAGE: u64 = 2 << 20;
pub const CLUSTER: u32 = 2048;

/// Initialises the EAL with what every test has in common, plus `extra` arguments.
pub fn eal(lcores: &str, extra: &[&str]) {
    let fixed = [
        "throughline-test",
        "-l",
        lcores,
        "--no-pci",
        "--in-memory",
        "--no-telemetry",
        "-m",
        "256",
        "--iova-mode=pa",
        "--base-virtaddr=0x200000000000",
        "--match-allocations",
        "--log-level=4",
    ];
    let mut argv: Vec<*mut c_char> = fixed
        .iter()
        .chain(extra)
        .map(|text| {
            CString::new(*text)
                .expect("no NUL in an argument")
                .into_raw()
        })
        .collect();
    // SAFETY: the strings are leaked above, so they live as long as the process; called once per process.
    let rc = unsafe { d::tl_eal_init(argv.len() as i32, argv.as_mut_ptr()) };
    assert!(
        rc >= 0,
        "EAL: {} (root and hugepages are needed: ./ci/setup)",
        error(rc)
    );
}

pub fn error(rc: i32) -> String {
    // SAFETY: the result is a NUL-terminated string of this thread's.
    let text = unsafe { std::ffi::CStr::from_ptr(d::tl_strerror(rc)) };
    format!("{} ({rc})", text.to_string_lossy())
}

#[track_caller]
pub fn ok(rc: i32) -> i32 {
    assert!(rc >= 0, "{}", error(rc));
    rc
}

pub fn c(text: &str) -> CString {
    CString::new(text).expect("no NUL")
}

/// Hugepages, known to DPDK for as long as the process runs.
pub struct Arena {
    pub base: *mut u8,
    pub len: u64,
}

impl Arena {
    pub fn new(pages: u64) -> Self {
        let len = pages * PAGE;
        let flags =
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_HUGETLB | libc::MAP_POPULATE;
        // SAFETY: a fresh anonymous mapping.
        let base = unsafe {
            libc::mmap(
                ptr::null_mut(),
                len as usize,
                libc::PROT_READ | libc::PROT_WRITE,
                flags,
                -1,
                0,
            )
        };
        assert!(
            base != libc::MAP_FAILED,
            "{pages} hugepages: {}",
            std::io::Error::last_os_error()
        );
        // SAFETY: the mapping is populated, aligned, and never unmapped.
        ok(unsafe { d::tl_extmem_register(base, len, PAGE) });
        Self {
            base: base.cast(),
            len,
        }
    }

    /// The address `offset` bytes into the arena.
    pub fn at(&self, offset: usize) -> *mut u8 {
        assert!((offset as u64) < self.len);
        // SAFETY: within the mapping.
        unsafe { self.base.add(offset) }
    }

    /// `len` bytes at `offset`. The caller keeps devices away from them meanwhile.
    #[allow(clippy::mut_from_ref)]
    pub fn bytes(&self, offset: usize, len: usize) -> &mut [u8] {
        assert!((offset + len) as u64 <= self.len);
        // SAFETY: within the mapping, which lives as long as the process; initialised, because the kernel zeroed it.
        unsafe { std::slice::from_raw_parts_mut(self.at(offset), len) }
    }

    /// A receive pool on the clusters that start one hugepage into the arena (a headroom lies before them).
    pub fn pool(&self, name: &str, count: u32, shift: u32) -> *mut d::tl_cluster_pool {
        let mut pool = ptr::null_mut();
        // SAFETY: the clusters lie in the arena, one page away from its start.
        ok(unsafe {
            d::tl_cluster_pool_create(
                c(name).as_ptr(),
                self.at(PAGE as usize).cast(),
                count,
                CLUSTER,
                shift,
                32,
                -1,
                &mut pool,
            )
        });
        pool
    }

    pub fn cluster(&self, index: u32) -> *mut u8 {
        self.at(PAGE as usize + index as usize * CLUSTER as usize)
    }
}

/// Finds a port, configures one queue each way, and starts it.
pub fn start_port(name: &str, pool: *mut d::tl_cluster_pool, offloads: u32) -> u16 {
    let mut port = 0;
    let config = d::tl_port_config {
        rx_queues: 1,
        tx_queues: 1,
        offloads,
        ..Default::default()
    };
    let (mut granted, mut rx_descriptors, mut tx_descriptors) = (0, 256, 256);
    // SAFETY: the pool outlives the port; the out-parameters are this frame's.
    unsafe {
        ok(d::tl_port_find(c(name).as_ptr(), &mut port));
        ok(d::tl_port_configure(port, &config, &mut granted));
        ok(d::tl_rx_queue_setup(port, 0, &mut rx_descriptors, -1, pool));
        ok(d::tl_tx_queue_setup(port, 0, &mut tx_descriptors, -1));
        ok(d::tl_port_start(port));
    }
    port
}

pub fn receive(port: u16, pool: *mut d::tl_cluster_pool, max: usize) -> Vec<d::tl_rx_frame> {
    let mut frames = vec![d::tl_rx_frame::default(); max];
    // SAFETY: room for max frames.
    let n = unsafe { d::tl_rx_burst(port, 0, pool, frames.as_mut_ptr(), max as u16) };
    frames.truncate(n.into());
    frames
}

/// The segments of a frame, broken apart and owned one by one.
pub fn unchain(pool: *mut d::tl_cluster_pool, frame: &d::tl_rx_frame) -> Vec<d::tl_rx_seg> {
    let mut segs = vec![d::tl_rx_seg::default(); 64];
    // SAFETY: the frame was received and is owned; room for 64.
    let n = ok(unsafe { d::tl_mbuf_unchain(pool, frame.mbuf, segs.as_mut_ptr(), 64) });
    segs.truncate(n as usize);
    segs
}

/// A capture file with these frames, as net_pcap reads it.
pub fn pcap(frames: &[Vec<u8>]) -> Vec<u8> {
    let mut file = Vec::new();
    file.extend(0xa1b2_c3d4_u32.to_le_bytes());
    for half in [2_u16, 4] {
        file.extend(half.to_le_bytes());
    }
    for word in [0_u32, 0, 65535, 1] {
        file.extend(word.to_le_bytes());
    }
    for frame in frames {
        for word in [0, 0, frame.len() as u32, frame.len() as u32] {
            file.extend(word.to_le_bytes());
        }
        file.extend(frame);
    }
    file
}

/// The frames of a capture file.
pub fn pcap_frames(file: &[u8]) -> Vec<Vec<u8>> {
    let mut rest = file.get(24..).unwrap_or_default();
    let mut frames = Vec::new();
    while rest.len() >= 16 {
        let len = u32::from_le_bytes(rest[8..12].try_into().expect("four bytes")) as usize;
        frames.push(rest[16..16 + len].to_vec());
        rest = &rest[16 + len..];
    }
    frames
}

/// Bytes that differ everywhere, `seed` by `seed`.
pub fn pattern(len: usize, seed: u32) -> Vec<u8> {
    testkit::pattern::stream::bytes(seed.into(), 0, len)
}
