//! The NVLog: what was acknowledged is in stable storage, until a consistency point has brought it to
//! its drives (rows S1, S6, S7). Sans I/O: offsets and bytes go out, what became of them comes in.
//!
//! * A *log store* is any store with blocks of 512 or 4096 bytes. [`Layout`] says where things lie in it.
//! * It has a *region* for each shard, of two *halves*. A shard's [`Region`] makes *groups* of records and
//!   says where they go; while a consistency point frees one half, groups go to the other.
//! * A *record* is one change of a volume. A group is a header with the description of its records, and
//!   behind it their payload. It is valid if the headers before it are, the checksum of its own, and those of
//!   its payload: no barrier is needed between the two.
//! * [`Tables`] are what a run has to know of volumes beside their data: entries, and pages of records of what was
//!   changed. They outlive the log's beginning anew (rows R4, R7).
//! * [`recovery`] reads a store when a run begins, replays what no consistency point finished, and
//!   makes it ready.
//!
//! # On disk
//!
//! Version 2; the superblock of a store with tables, and their entries, are of version 3; that of a log with volumes that lie on
//! several drives, with tables or without, is of version 4. Numbers are little-endian, offsets and lengths bytes, checksums CRC32C (RFC 3720, B.4).
//! A checksum covers what it is in, with its own four bytes taken as zeros. Fields that are not named
//! are written as zeros. What has another version is refused, and so is what cannot be. Generations, epochs and
//! sequences are less than 2^56; sequences begin at 1.
//!
//! | where | what |
//! | --- | --- |
//! | 0, 524288 | management areas 0 and 1, of 524288 bytes |
//! | 1048576 | the tables area, of *tables_len* bytes |
//! | 1048576 + *tables_len* + (2·*region* + *half*) · *half_len* | the halves |
//! | *len* − 1048576, *len* − 524288 | management areas 2 and 3; *len* is the store's, rounded down to 4096 |
//!
//! **Management area.** The store's superblock (16384 bytes); from 16384 on the superblocks of regions 0 to
//! 63 (512 bytes, one every 4096). The rest is for later versions.
//!
//! | store's superblock | bytes | |
//! | --- | --- | --- |
//! | 0 | 8 | `TL-NVLOG` |
//! | 8 | 4 | version: 3, or without tables 2: a program that knows none would take their place for halves; 4 if a drive is part of a volume |
//! | 12 | 4 | checksum of the 16384 bytes |
//! | 16 | 16 | which log it is |
//! | 32 | 8 | generation |
//! | 40 | 8 | *len* |
//! | 48 | 4 | bytes of a block |
//! | 52 | 4 | regions |
//! | 56 | 8 | *half_len* |
//! | 64 | 4 | version of the map of owners, by which pages have regions |
//! | 68 | 4 | volumes, at most 254 |
//! | 72 | 1 | which of the log's stores this one is: 0 or 1 |
//! | 80 | 8 | *tables_len*: at least 2080768, a multiple of 4096; without tables 0 |
//! | 128 + 64·*i* | 64 | volume *i*: identity of its drive (16), bytes (8), bytes of a block (4), what it is part of: number of that volume, from 1 on, or 0 (2), and drives of that volume before this one (2), name (32, UTF-8, zeros behind it) |
//!
//! A volume that lies on several drives has an entry of its own, with an identity of zeros and the bytes of all, and each of
//! its drives has one. It begins with its first drive; each but the last gives as many of its bytes as are a multiple of 65536.
//!
//! | region's superblock | bytes | |
//! | --- | --- | --- |
//! | 0 | 8 | `TL-REGIO` |
//! | 8 | 4 | version: 2 |
//! | 12 | 4 | checksum of the 512 bytes |
//! | 16 | 16 | which log it is |
//! | 32 | 4 | region |
//! | 36 | 4 | the half with the oldest groups |
//! | 40 | 8 | generation |
//! | 48 | 16 | epoch of half 0, of half 1; the oldest half has the lesser one |
//! | 64 | 8 | sequence of the first group of the oldest half |
//! | 72 | 4 | checksum of the header before that |
//! | 76 | 1 | the stores that have all of the region: 1 (store 0), 2 (store 1) or 3 (both) |
//! | 77 | 1 | 1: the region is empty, and the program has stopped as it should; else 0 |
//!
//! Of each superblock there are four copies. A new version goes to copies 0 and 2, then to 1 and 3, with a flush
//! after each two; it counts when all are flushed. The newest version that two agree on is taken. Copies that a crash, or a
//! write that failed, has left otherwise are made like those before the next version is written, or are the first two that get
//! it: wherever that is cut off, two agree. When a log begins anew, regions that it had and has no more get one, too: what
//! they said of stores is over. One of another log says nothing of this one.
//!
//! | header of a group | bytes | |
//! | --- | --- | --- |
//! | 0 | 4 | `TLGR` |
//! | 4 | 2 | version: 2 |
//! | 6 | 2 | region |
//! | 8 | 16 | which log it is |
//! | 24 | 1 | half |
//! | 26 | 2 | records |
//! | 28 | 4 | bytes of the header: a multiple of the block, at most 4096 |
//! | 32 | 8 | epoch of the half |
//! | 40 | 8 | sequence: one more than that of the group before, in whichever half |
//! | 48 | 8 | sequence of the last group that was acknowledged when this was written |
//! | 56 | 8 | where it lies in the store |
//! | 64 | 4 | checksum of the header before |
//! | 68 | 4 | bytes of payload |
//! | 76 | 4 | checksum of the header |
//! | 80 | | records |
//!
//! | record | bytes | |
//! | --- | --- | --- |
//! | 0 | 8 | transfer ID: sequence of its group · 256, and its place in the group |
//! | 8 | 8 | object: 0, the volume itself |
//! | 16 | 4 | volume: its place in the store's superblock |
//! | 20 | 1 | 1: write, 2: write zeroes, 3: deallocate |
//! | 21 | 1 | flags: 0 |
//! | 22 | 2 | checksums |
//! | 24 | 8 | first byte |
//! | 32 | 8 | bytes |
//! | 40 | 4 | where its payload is in the group's |
//! | 48 | 4 each | of a write: checksums of the payload, of each 4096 bytes of the volume that it touches |
//!
//! Payload lies behind the header, record after record without gaps; zeros fill the last block up.
//!
//! What is zeroed reads as zeros. A range that is deallocated was deallocated on its drive, in its place among the
//! records, and is once more in a replay. That is logged of drives alone whose deallocated blocks read as zeros; what such a drive leaves as it is
//! (NVM command set, 3.2.3) has what the records before say. If a drive failed to deallocate a range, a record follows that zeroes it.
//!
//! # Tables
//!
//! The tables area is of pages of 4096 bytes. The first 508 have the entries: that of slot *i* has two copies, in pages 2·*i* and
//! 2·*i* + 1. Which slot is of which volume the entry says; a volume's is the one with its name and the identity of its drive.
//! Behind the entries are the pages of records of what was changed, each record's in one piece. What content and these pages
//! say is their owner's.
//!
//! | entry | bytes | |
//! | --- | --- | --- |
//! | 0 | 8 | `TL-TABLE` |
//! | 8 | 4 | version: 3 |
//! | 12 | 4 | checksum of the 4096 bytes |
//! | 16 | 16 | which log it is |
//! | 32 | 8 | sequence: from 1 on, one more than that of the version before |
//! | 40 | 4 | slot |
//! | 44 | 4 | bytes of content, at most 3840 |
//! | 48 | 16 | identity of the volume's drive |
//! | 64 | 32 | name of the volume's store (UTF-8, zeros behind it) |
//! | 96 | 8 | first page of its record; none: 0 |
//! | 104 | 8 | pages of its record; none: 0 |
//! | 256 | 3840 | content, zeros behind it |
//!
//! A new version overwrites the copy that is older, or is none, and is flushed; it counts then. Pages of its record that are new
//! are flushed before. Of what two copies say the higher sequence counts: a write that was cut off leaves the other
//! copy. If neither is as it was written, and none is zeros, the table is lost, and said. A slot whose entry has neither
//! content nor record is free.
//!
//! A page of a record is overwritten where it lies. One that was torn does not say what it should, and counts as that all of it was
//! changed.
//!
//! The area stays where it is, and as it is, when a log begins anew; it becomes longer at a start, and never shorter. The entries of an area
//! that was none are made zeros once the superblocks of all regions say that they have nothing, and before the store's says
//! that there is one.
//!
//! # Two stores
//!
//! A log is on one store, or on two that have the same: each group and each superblock of a region goes to both, and is
//! stable when both have it. They have the same log, layout of halves, epochs and sequences; *len* is each one's own,
//! halves fit in the lesser, and a block is the larger one's. What they do not have in common is the superblock's
//! *which of the log's stores*.
//!
//! When one fails, the other one writes the region's superblock anew, with a higher generation and itself as the only
//! store that has all of it. When that counts, what it has alone is acknowledged. Each region says so for itself: one may
//! be on store 0 alone, and another one on store 1.
//!
//! A start takes of each region the superblock with the highest generation that either store has. Groups are read from
//! the stores that have all of it, each group from the first one where it is as it was. Then:
//!
//! * A store that does not have all of some region is *behind*. When everything is replayed, the log begins anew on it
//!   first, and then on the other one: so its own superblocks are never those of the log while it has less.
//! * A store that is blank becomes one of the log's as the first store of a log is made, with generation 1. Of a new log on
//!   two stores both say then that it is closed, and on both: one of them counts if the other one is there, and blank.
//! * If a region is on both, and one of them is not there, the start is refused: that one may have gone on alone. It is
//!   not if an operator gives up what that one has; nor if the region is closed and one store alone is configured.
//!   Generations go up by 2^40 then, so that what the other one says later, if it comes back, does not count.
//! * Two stores that each say of a region that they alone have all of it, with generations that are less than 2^39
//!   apart, went on without each other, and are refused.
//!
//! Tables are written to both stores, by the shard of region 0: its superblock says which stores have all of them. A start
//! makes both alike: what one alone has was not acknowledged, but is taken. To a store that does not have all of them they
//! are copied; the log has begun on the other one alone before, so that nothing counts that is overwritten.
//!
//! At a stop each region that is on both stores is closed, which counts before the program ends. What is logged later is
//! not acknowledged before a superblock that is not closed counts.
//!
//! # Examples
//!
//! Bytes as they lie on disk; where places are left out, the line before goes on.
//!
//! The superblock of a log of two regions with halves of 8 MiB, in a store of 64 MiB with blocks of 512 bytes, which is
//! store 1 of two, and of two volumes:
//!
//! ```text
//! 0000  54 4c 2d 4e 56 4c 4f 47 02 00 00 00 84 e5 b5 2a
//! 0010  30 31 32 33 34 35 36 37 38 39 61 62 63 64 65 66
//! 0020  05 00 00 00 00 00 00 00 00 00 00 04 00 00 00 00
//! 0030  00 02 00 00 02 00 00 00 00 00 80 00 00 00 00 00
//! 0040  01 00 00 00 02 00 00 00 01 00 00 00 00 00 00 00
//! 0050  00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00
//! 0080  64 72 69 76 65 20 6f 66 20 76 6f 6c 75 6d 65 30
//! 0090  00 00 00 00 00 01 00 00 00 10 00 00 00 00 00 00
//! 00a0  6e 76 6d 65 30 00 00 00 00 00 00 00 00 00 00 00
//! 00b0  00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00
//! 00d0  00 00 00 40 00 00 00 00 00 02 00 00 00 00 00 00
//! 00e0  66 69 6c 65 73 00 00 00 00 00 00 00 00 00 00 00
//! 00f0  00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00
//! ```
//!
//! The superblock of its region 1, whose oldest groups are in half 1, and which has gone on without store 0:
//!
//! ```text
//! 0000  54 4c 2d 52 45 47 49 4f 02 00 00 00 32 71 96 a4
//! 0010  30 31 32 33 34 35 36 37 38 39 61 62 63 64 65 66
//! 0020  01 00 00 00 01 00 00 00 07 00 00 00 00 00 00 00
//! 0030  0a 00 00 00 00 00 00 00 09 00 00 00 00 00 00 00
//! 0040  e8 03 00 00 00 00 00 00 78 56 34 12 02 00 00 00
//! 0050  00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00
//! ```
//!
//! The header of the first group of a half, half 1 of region 1. Its records are a write of 5120 bytes (0, 1, 2, …, 255, 0, …)
//! to volume 1, in the middle of a page, and a write zeroes of 1 MiB of volume 0:
//!
//! ```text
//! 0000  54 4c 47 52 02 00 01 00 30 31 32 33 34 35 36 37
//! 0010  38 39 61 62 63 64 65 66 01 00 02 00 00 02 00 00
//! 0020  09 00 00 00 00 00 00 00 e8 03 00 00 00 00 00 00
//! 0030  e7 03 00 00 00 00 00 00 00 00 90 01 00 00 00 00
//! 0040  78 56 34 12 00 14 00 00 00 00 00 00 59 b3 f1 c4
//! 0050  00 e8 03 00 00 00 00 00 00 00 00 00 00 00 00 00
//! 0060  01 00 00 00 01 00 03 00 00 3e 12 00 00 00 00 00
//! 0070  00 14 00 00 00 00 00 00 00 00 00 00 00 00 00 00
//! 0080  5a ee 10 ae 32 fe 71 9c 5a ee 10 ae 01 e8 03 00
//! 0090  00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00
//! 00a0  02 00 00 00 00 00 00 40 00 00 00 00 00 00 10 00
//! 00b0  00 00 00 00 00 14 00 00 00 00 00 00 00 00 00 00
//! 00c0  00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00
//! ```
//!
//! The header of the group after that, whose record deallocates 16 MiB of volume 0, from 1 GiB on:
//!
//! ```text
//! 0000  54 4c 47 52 02 00 01 00 30 31 32 33 34 35 36 37
//! 0010  38 39 61 62 63 64 65 66 01 00 01 00 00 02 00 00
//! 0020  09 00 00 00 00 00 00 00 e9 03 00 00 00 00 00 00
//! 0030  e8 03 00 00 00 00 00 00 00 16 90 01 00 00 00 00
//! 0040  59 b3 f1 c4 00 00 00 00 00 00 00 00 33 38 04 02
//! 0050  00 e9 03 00 00 00 00 00 00 00 00 00 00 00 00 00
//! 0060  00 00 00 00 03 00 00 00 00 00 00 40 00 00 00 00
//! 0070  00 00 00 01 00 00 00 00 00 00 00 00 00 00 00 00
//! 0080  00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00
//! ```
//!
//! The first version of the entry of slot 1, of volume 1, whose record has the first three pages behind the entries; its content
//! is `content`:
//!
//! ```text
//! 0000  54 4c 2d 54 41 42 4c 45 03 00 00 00 87 1c 00 67
//! 0010  30 31 32 33 34 35 36 37 38 39 61 62 63 64 65 66
//! 0020  01 00 00 00 00 00 00 00 01 00 00 00 07 00 00 00
//! 0030  00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00
//! 0040  66 69 6c 65 73 00 00 00 00 00 00 00 00 00 00 00
//! 0050  00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00
//! 0060  fc 01 00 00 00 00 00 00 03 00 00 00 00 00 00 00
//! 0070  00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00
//! 0100  63 6f 6e 74 65 6e 74 00 00 00 00 00 00 00 00 00
//! 0110  00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00
//! ```
//!
//! The superblock of a store like the first one's with tables, of 2 MiB, which is store 0 and knows no volumes:
//!
//! ```text
//! 0000  54 4c 2d 4e 56 4c 4f 47 03 00 00 00 5a 6a 14 74
//! 0010  30 31 32 33 34 35 36 37 38 39 61 62 63 64 65 66
//! 0020  06 00 00 00 00 00 00 00 00 00 00 04 00 00 00 00
//! 0030  00 02 00 00 02 00 00 00 00 00 80 00 00 00 00 00
//! 0040  01 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00
//! 0050  00 00 20 00 00 00 00 00 00 00 00 00 00 00 00 00
//! 0060  00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00
//! ```
//!
//! # Recovery
//!
//! From the superblock on, each group has to be where the one before ended, with the epoch of its half, the
//! next sequence, and the checksum of the header before. Where that ends, the log ends. If some group of this
//! epoch further on says that what is missing had been acknowledged, then it is lost, and said; else it is a
//! torn tail, and dropped. So that the last group's acknowledgement is known, too, a header without records
//! follows when there is nothing to write. A store that lies about the very last groups, which no later header
//! says were acknowledged, cannot be found out. Of two stores that have the same, one that lies takes nothing away.
//!
//! What a region has lost is said of all regions at once, and what the others have is replayed before.
//!
//! A store in which no two superblocks agree is made a log store without a word only if its management areas are
//! zeros, but for what the first two steps of making a log leave there: so that neither somebody else's data is
//! overwritten, nor a log of which little is left.
#![forbid(unsafe_code)]

mod bytes;
mod header;
mod layout;
pub mod recovery;
mod region;
mod superblock;
mod table;

pub use header::{Checksums, Crcs, HEADER_MAX, Header, PAGE, PAGES_MAX, Record, RecordOp};
pub use layout::{
    AREA, AREAS, ENTRY_PAGES, HALF_MIN, Layout, REGION_SUPERBLOCK, REGIONS_MAX, SUPERBLOCK, TABLES,
    UNIT, Unfit, VOLUMES_MAX,
};
pub use region::{Group, Region};
pub use superblock::{Bad, Members, PartOf, RegionSuperblock, Superblock, Volume, WAVES};
pub use table::{CONTENT_MAX, ENTRY, Entry, NoTable, Put, Tables};

/// What generations, epochs and sequences are less than: a transfer ID has no room for more.
pub(crate) const NUMBERS_END: u64 = 1 << 56;

/// Version of what is on disk.
pub const VERSION: u32 = 2;

/// Version of the superblock of a store with tables, and of their entries.
pub const VERSION_TABLES: u32 = 3;

/// That of the superblock of a log with volumes that lie on several drives.
pub const VERSION_SPANS: u32 = 4;

/// Which log something is of: chosen at random when it is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct LogId(pub [u8; 16]);
