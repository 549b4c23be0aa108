//! The page engine: memory that a frame's payload is written to once and read
//! from once, and the views of it that move in between.
//!
//! * An [`Arena`] is one registered region of memory, split into 4 KB
//!   *physical pages*, each with a [`PageStructure`] (rows Z1, Z2).
//! * A [`ClusterPool`] hands out counted [`Cluster`]s of it: the NIC's receive
//!   buffers, or whole pages for reads and pull-ups.
//! * A [`Slice`] is a run of bytes of one cluster; a [`Segment`] is one that
//!   stays inside a physical page (row Z3).
//! * A [`LogicalPage`] is an aligned 4 KB view: at most four segments
//!   (rows Z3–Z8). A [`PageRun`] is the chain of them that a request covers.
//! * The [`CopyLedger`] counts every payload byte the CPU copies (row Z14).
//!
//! * What one shard lends to another crosses as a [`LentSegment`], which the
//!   lender keeps in its [`LentTable`] and the other takes into a [`BorrowedPool`].
//!
//! Nothing here does I/O, reads a clock, locks, or allocates after start-up.

mod arena;
mod chain;
mod cluster;
mod ledger;
mod lending;
mod logical;
mod merge;
mod prefetch;
mod pull_up;
mod refusal;
mod rewrite;
mod run;
mod segment;
mod whole;

pub use arena::{Arena, HeapRegion, PAGE_SIZE, PageIndex, PageState, PageStructure, Region};
pub use chain::{Chunk, Inline};
pub use cluster::{BorrowedPool, Cluster, ClusterPool, Fresh};
pub use ledger::{CopyLedger, CopyReason};
pub use lending::{LentSegment, LentTable, Return};
pub use logical::LogicalPage;
pub use prefetch::prefetch;
pub use pull_up::PullUp;
pub use refusal::{NullRead, Refusal, WriteError};
pub use run::{OutOfPages, PageRun, PlaceError, RunPool, TooLong};
pub use segment::{MAX_SEGMENTS, Segment, SegmentKind, Slice};
