//! The numbers of the protocol, each with a type of its own.
//!
//! Source: NVM Express Base Specification 2.0, NVM Command Set Specification 1.0.

use std::fmt;

macro_rules! number {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

number! {
    /// Command Identifier, chosen by the host (base 3.3.3.1).
    Cid(u16)
}
number! {
    /// Controller ID, unique in its NVM subsystem (base 3.1.1).
    Cntlid(u16)
}
number! {
    /// Namespace Identifier, valid from 1 (base 3.2.1).
    Nsid(u32)
}
number! {
    /// Queue Identifier: 0 is the Admin Queue (base 3.3).
    Qid(u16)
}
number! {
    /// Logical Block Address, in logical blocks of its namespace (NVM 2.1).
    Lba(u64)
}
number! {
    /// Transfer Tag, chosen by the controller (NVMe/TCP 3.6.2.10).
    Ttag(u16)
}
number! {
    /// Milliseconds since an origin that the engine chooses. Never goes back.
    Timestamp(u64)
}

impl Nsid {
    /// "All namespaces", or "no namespace" where a command names none.
    pub const BROADCAST: Nsid = Nsid(0xffff_ffff);
}

impl Cntlid {
    /// In Connect: the controller is to be chosen by the subsystem (dynamic model).
    pub const DYNAMIC: Cntlid = Cntlid(0xffff);
    /// In Connect: any static controller. Not offered here.
    pub const STATIC: Cntlid = Cntlid(0xfffe);
}

impl Qid {
    /// The Admin Queue.
    pub const ADMIN: Qid = Qid(0);
}

impl Timestamp {
    /// This time plus `ms` milliseconds.
    pub fn plus_ms(self, ms: u64) -> Timestamp {
        Timestamp(self.0.saturating_add(ms))
    }
}

/// A run of logical blocks of one namespace. Never empty, never past [`u64::MAX`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct BlockRange {
    first: Lba,
    blocks: u32,
}

impl BlockRange {
    /// `blocks` blocks from `first`; `None` if there are none or the end overflows.
    pub fn new(first: Lba, blocks: u32) -> Option<Self> {
        first.0.checked_add(u64::from(blocks))?;
        (blocks > 0).then_some(Self { first, blocks })
    }

    /// First block.
    pub fn first(&self) -> Lba {
        self.first
    }

    /// Number of blocks, at least one.
    pub fn blocks(&self) -> u32 {
        self.blocks
    }

    /// The block after the last.
    pub fn end(&self) -> Lba {
        Lba(self.first.0 + u64::from(self.blocks))
    }

    /// Offset of the first byte in a namespace whose blocks are `block_size` bytes.
    pub fn offset(&self, block_size: BlockSize) -> u64 {
        self.first.0 << block_size.shift()
    }

    /// Length in bytes with blocks of `block_size` bytes.
    pub fn len(&self, block_size: BlockSize) -> u64 {
        u64::from(self.blocks) << block_size.shift()
    }
}

/// Size of a logical block: 512 or 4096 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BlockSize {
    /// 512 bytes.
    B512,
    /// 4096 bytes.
    B4096,
}

impl BlockSize {
    /// The size of `bytes`, if it is one that is offered.
    pub fn from_bytes(bytes: u32) -> Option<Self> {
        match bytes {
            512 => Some(BlockSize::B512),
            4096 => Some(BlockSize::B4096),
            _ => None,
        }
    }

    /// Bytes in a block.
    pub const fn bytes(self) -> u32 {
        1 << self.shift()
    }

    /// Power of two of [`BlockSize::bytes`]: LBADS (NVM 4.1.5.1).
    pub const fn shift(self) -> u32 {
        match self {
            BlockSize::B512 => 9,
            BlockSize::B4096 => 12,
        }
    }
}
