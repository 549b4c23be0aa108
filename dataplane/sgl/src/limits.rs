//! What a target accepts in one transfer.

/// What a target accepts in one descriptor (row C1). All sizes are in bytes.
///
/// [`Limits::NONE`] limits nothing; set what the target does limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Most bytes in one descriptor.
    pub max_transfer: u64,
    /// Most elements in one descriptor.
    pub max_segments: u32,
    /// Most bytes in one element; a longer one is cut in two.
    pub max_element: u64,
    /// Descriptors start and end at multiples of this on the remote side: the
    /// block size of a block device, 1 where bytes may be cut anywhere.
    pub block: u64,
    /// Addresses and lengths of elements are multiples of this: 4 where a
    /// controller wants dwords, 1 otherwise.
    pub alignment: u64,
    /// Inside a descriptor, elements meet at multiples of this: the memory
    /// page size where the device takes PRPs only, 1 otherwise.
    pub inner_edge: u64,
    /// No descriptor crosses a multiple of this on the remote side (a stripe);
    /// 0 where there is no such border.
    pub boundary: u64,
}

impl Limits {
    /// No limit at all.
    pub const NONE: Limits = Limits {
        max_transfer: u64::MAX,
        max_segments: u32::MAX,
        max_element: u64::MAX,
        block: 1,
        alignment: 1,
        inner_edge: 1,
        boundary: 0,
    };

    /// Whether a descriptor can be made at all: every size is at least one,
    /// `alignment` and `inner_edge` are powers of two, and a block fits into a
    /// transfer.
    pub fn is_usable(&self) -> bool {
        self.max_segments > 0
            && self.max_element > 0
            && self.block > 0
            && self.alignment.is_power_of_two()
            && self.inner_edge.is_power_of_two()
            && self.max_transfer >= self.block
            && self.max_element >= self.alignment
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self::NONE
    }
}
