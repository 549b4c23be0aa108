//! Operations on volumes, as values.

use pages::PageRun;

/// What an operation does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Op {
    /// Fill the run from the range.
    Read,
    /// Store the run in the range.
    Write,
    /// Make the range read as zeros.
    WriteZeroes,
    /// The range is needed no more. Advice: success without doing anything is right.
    Deallocate,
    /// Make all that was written before non-volatile.
    Flush,
}

impl Op {
    /// Every operation, in the order of their numbers.
    pub const ALL: [Op; 5] = [
        Op::Read,
        Op::Write,
        Op::WriteZeroes,
        Op::Deallocate,
        Op::Flush,
    ];

    /// Whether it changes what the range holds.
    pub const fn changes_data(self) -> bool {
        matches!(self, Op::Write | Op::WriteZeroes | Op::Deallocate)
    }

    /// Whether it comes with a run of pages.
    pub const fn moves_data(self) -> bool {
        matches!(self, Op::Read | Op::Write)
    }
}

/// How an operation is to be done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Flags {
    /// Force unit access: done only when data are, or come from what is, non-volatile.
    pub fua: bool,
    /// Of [`Op::WriteZeroes`]: the range should be deallocated if it then reads as zeros.
    pub deallocate: bool,
    /// Of a change: it comes from the other node of a mirrored pair, which is the volume's source.
    pub forwarded: bool,
}

impl Flags {
    /// None of them.
    pub const NONE: Flags = Flags {
        fua: false,
        deallocate: false,
        forwarded: false,
    };

    /// Of a change that comes from a volume's source.
    pub const FORWARDED: Flags = Flags {
        forwarded: true,
        ..Flags::NONE
    };

    /// Force unit access, if `fua`.
    pub const fn fua(fua: bool) -> Flags {
        Flags { fua, ..Flags::NONE }
    }
}

/// An operation, its range, and the memory that it moves.
///
/// [`Io::run`] is there exactly if the operation [moves data](Op::moves_data)
/// and covers exactly the range; the constructors see to it.
#[derive(Debug)]
pub struct Io {
    /// What to do.
    pub op: Op,
    /// How.
    pub flags: Flags,
    /// First byte; 0 of a flush of everything.
    pub offset: u64,
    /// Bytes; 0 of a flush of everything. A flush of a range may make more non-volatile.
    pub len: u64,
    /// Of a read: begun on the range, empty. Of a write: begun on it, complete.
    pub run: Option<Box<PageRun>>,
}

impl Io {
    /// Fills `run`, which was begun on the range to read.
    #[inline]
    pub fn read(run: Box<PageRun>, flags: Flags) -> Self {
        Self::with_run(Op::Read, run, flags)
    }

    /// Stores `run`, which is complete.
    #[inline]
    pub fn write(run: Box<PageRun>, flags: Flags) -> Self {
        Self::with_run(Op::Write, run, flags)
    }

    /// Makes `len` bytes from `offset` read as zeros.
    pub fn write_zeroes(offset: u64, len: u64, flags: Flags) -> Self {
        Self::without_run(Op::WriteZeroes, offset, len, flags)
    }

    /// Gives up `len` bytes from `offset`.
    pub fn deallocate(offset: u64, len: u64) -> Self {
        Self::without_run(Op::Deallocate, offset, len, Flags::NONE)
    }

    /// Makes what was written non-volatile.
    pub fn flush() -> Self {
        Self::without_run(Op::Flush, 0, 0, Flags::NONE)
    }

    /// Makes what was written to `len` bytes from `offset`, at least, non-volatile.
    pub fn flush_range(offset: u64, len: u64) -> Self {
        Self::without_run(Op::Flush, offset, len, Flags::NONE)
    }

    #[inline]
    fn with_run(op: Op, run: Box<PageRun>, flags: Flags) -> Self {
        Self {
            op,
            flags,
            offset: run.offset(),
            len: run.len() as u64,
            run: Some(run),
        }
    }

    fn without_run(op: Op, offset: u64, len: u64, flags: Flags) -> Self {
        Self {
            op,
            flags,
            offset,
            len,
            run: None,
        }
    }

    /// The byte after the last.
    pub fn end(&self) -> u64 {
        self.offset + self.len
    }
}

/// A volume: what one store holds, on all shards. Its place in the list of volumes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VolumeId(pub u16);

impl VolumeId {
    /// As a place in a list.
    #[inline]
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

/// A namespace: a volume as one subsystem shows it. Its place in the engine's
/// list of namespaces, which counters have an entry for each of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NamespaceIndex(pub u32);

impl NamespaceIndex {
    /// Of changes that come from the other node of a mirrored pair; no host sees it.
    pub const fn mirrored(number: u16) -> Self {
        Self(1 << 31 | number as u32)
    }

    /// As a place among those, if it is one.
    #[inline]
    pub const fn as_mirrored(self) -> Option<usize> {
        match self.0 >> 31 {
            0 => None,
            _ => Some((self.0 & !(1 << 31)) as usize),
        }
    }

    /// As a place in a list.
    #[inline]
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

/// Names a request until its completion; chosen by whoever asks, and opaque to
/// whoever answers. No other request that is under way in the shard has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RequestId(pub u64);

/// What a door asks of a volume. Its range was checked against the namespace's size.
#[derive(Debug)]
pub struct Request {
    /// To be given back in the [`Completion`].
    pub id: RequestId,
    /// The namespace it is for.
    pub namespace: NamespaceIndex,
    /// What to do.
    pub io: Io,
}

/// How a request ended. The run comes back whether it went well or not.
#[derive(Debug)]
pub struct Completion {
    /// The request's.
    pub id: RequestId,
    /// How it ended.
    pub result: Result<(), crate::Fault>,
    /// The run that came with the request, if one did; complete after a read that succeeded.
    pub run: Option<Box<PageRun>>,
}
