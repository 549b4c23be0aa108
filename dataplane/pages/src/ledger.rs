//! The copy ledger (row Z14): every payload byte the CPU copies, by reason.

use std::cell::Cell;

use events::tracepoint::Name;

/// Why the CPU copied payload bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(usize)]
pub enum CopyReason {
    /// A fifth segment was brought back to four (row Z8).
    PullUp,
    /// A page that pinned more clusters than it was worth was rewritten (row Z12).
    Compaction,
    /// A partial block was completed from the device (row Z11).
    ReadModifyWrite,
    /// The device takes PRPs, or fewer elements than the page has.
    DeviceBounce,
    /// A frame arrived outside the arena (a software port handed over a foreign buffer).
    ForeignBuffer,
    /// The log wrote payload beside its own header.
    LogHeader,
    /// `--copy`: the ablation assembles into aligned pages by memcpy.
    Ablation,
    /// TLS opened a record into other memory than it came in. Not a copy beside another pass: opening reads and writes
    /// each byte anyway. So it is a line of its own, and not in the total.
    Open,
    /// TLS sealed into other memory than the payload is in, which others refer to. As above.
    Seal,
}

impl CopyReason {
    /// Every reason, in the order reports print them.
    pub const ALL: [CopyReason; 9] = [
        CopyReason::PullUp,
        CopyReason::Compaction,
        CopyReason::ReadModifyWrite,
        CopyReason::DeviceBounce,
        CopyReason::ForeignBuffer,
        CopyReason::LogHeader,
        CopyReason::Ablation,
        CopyReason::Open,
        CopyReason::Seal,
    ];

    /// Whether it is in the total of copied bytes: nothing else reads or writes them in the same pass.
    pub const fn is_copy(self) -> bool {
        !matches!(self, CopyReason::Open | CopyReason::Seal)
    }

    /// The name logs, metrics and reports use.
    pub const fn name(self) -> &'static str {
        self.trace_name().text()
    }

    /// The name in tracepoints, which end at a NUL.
    const fn trace_name(self) -> Name {
        Name::new(match self {
            CopyReason::PullUp => "pull_up\0",
            CopyReason::Compaction => "compaction\0",
            CopyReason::ReadModifyWrite => "read_modify_write\0",
            CopyReason::DeviceBounce => "device_bounce\0",
            CopyReason::ForeignBuffer => "foreign_buffer\0",
            CopyReason::LogHeader => "log_header\0",
            CopyReason::Ablation => "ablation\0",
            CopyReason::Open => "open\0",
            CopyReason::Seal => "seal\0",
        })
    }
}

/// Counts copied payload bytes by [`CopyReason`], and the bytes stored and
/// loaded that they are set against. One per shard; not shared.
#[derive(Debug, Default)]
pub struct CopyLedger {
    copied: [Cell<u64>; CopyReason::ALL.len()],
    copies: [Cell<u64>; CopyReason::ALL.len()],
    stored: Cell<u64>,
    loaded: Cell<u64>,
}

impl CopyLedger {
    /// An empty ledger.
    pub fn new() -> Self {
        Self::default()
    }

    /// Records that the CPU copied `bytes` of payload.
    // One place in the program for its tracepoint: a body that is inlined everywhere leaves
    // a note about a place that the linker dropped. A call is nothing beside a copy.
    #[inline(never)]
    pub fn copied(&self, reason: CopyReason, bytes: usize) {
        events::tracepoint::copy(reason.trace_name(), bytes as u64);
        let cell = &self.copied[reason as usize];
        cell.set(cell.get() + bytes as u64);
        let cell = &self.copies[reason as usize];
        cell.set(cell.get() + 1);
    }

    /// Records `bytes` of payload accepted for writing.
    pub fn stored(&self, bytes: usize) {
        self.stored.set(self.stored.get() + bytes as u64);
    }

    /// Records `bytes` of payload given out to a reader.
    pub fn loaded(&self, bytes: usize) {
        self.loaded.set(self.loaded.get() + bytes as u64);
    }

    /// Bytes copied for `reason` so far.
    pub fn bytes_copied(&self, reason: CopyReason) -> u64 {
        self.copied[reason as usize].get()
    }

    /// How often bytes were copied for `reason` so far.
    pub fn copies(&self, reason: CopyReason) -> u64 {
        self.copies[reason as usize].get()
    }

    /// Bytes copied so far, for any reason that [is a copy](CopyReason::is_copy).
    pub fn bytes_copied_total(&self) -> u64 {
        (CopyReason::ALL.iter())
            .filter(|reason| reason.is_copy())
            .map(|&reason| self.bytes_copied(reason))
            .sum()
    }

    /// Payload bytes stored so far.
    pub fn bytes_stored(&self) -> u64 {
        self.stored.get()
    }

    /// Payload bytes loaded so far.
    pub fn bytes_loaded(&self) -> u64 {
        self.loaded.get()
    }
}
