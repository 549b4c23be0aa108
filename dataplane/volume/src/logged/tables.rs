//! Tables of volumes in the log's stores: what has to be known of a volume beside its data, and the record of what of it was
//! changed (rows R4, R7). A start reads them; the shard of the log's first region writes them.

use std::fmt;
use std::ops::Range;

use block::{Device, Fault, VolumeId};
use mirror::{Changed, ReplicaId};
use nvlog::{LogId, NoTable, Tables};

use super::Log;

/// A volume's table, as a start found it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableEntry {
    /// The volume.
    pub volume: VolumeId,
    /// What was written last. With a record it begins with a [standing](mirror::OnDisk) that has its number.
    pub content: Vec<u8>,
    /// What was changed, if it has a record: what that said, and all that was in the log.
    pub changed: Option<Changed>,
}

/// The tables area that a run has.
#[derive(Clone, Debug)]
pub struct TableArea {
    pub(super) tables: Tables,
    /// Names and drives, by [`VolumeId`].
    pub(super) volumes: Vec<(String, [u8; 16])>,
}

impl Default for TableArea {
    /// There is none.
    fn default() -> Self {
        Self {
            tables: Tables::new(LogId([0; 16]), 0),
            volumes: Vec::new(),
        }
    }
}

impl TableArea {
    /// An area with `tables`, for volumes with these names and drives, by [`VolumeId`].
    pub fn new(tables: Tables, volumes: Vec<(String, [u8; 16])>) -> Self {
        Self { tables, volumes }
    }

    /// Bytes of it.
    pub fn len(&self) -> u64 {
        self.tables.len()
    }

    /// Whether no volume has a table.
    pub fn is_empty(&self) -> bool {
        self.tables.is_empty()
    }
}

/// Pages of a record that are to be written.
#[derive(Clone, Debug)]
pub struct RecordPages<'a> {
    /// What was changed.
    pub changed: &'a Changed,
    /// The replica that it is of.
    pub replica: ReplicaId,
    /// The record's number.
    pub number: u64,
    /// Which pages of it. All are, where it has none in the area yet.
    pub pages: Range<u64>,
}

/// What is to become stable of a volume's table: first the pages, then the entry.
#[derive(Clone, Debug)]
pub struct TableWrite<'a> {
    /// The volume.
    pub volume: VolumeId,
    /// The next version of its entry: of at most [`nvlog::CONTENT_MAX`] bytes; none of them and no record, it has no table any
    /// more. `None`: the entry stays as it is.
    pub content: Option<&'a [u8]>,
    /// Its record. `None`, and a next version: it has none from then on.
    pub record: Option<RecordPages<'a>>,
}

/// Names a write of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TableToken(pub(super) u64);

/// Why a table cannot be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TableRefusal {
    /// The log takes nothing on this shard: there is none, or another shard writes tables.
    NotHere,
    /// As many writes wait as may.
    Busy,
    /// The log knows of no such volume.
    NoVolume,
    /// Pages of a record that the entry does not name.
    NoRecord,
    /// There is no room.
    No(NoTable),
}

impl fmt::Display for TableRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotHere => f.write_str("the first shard alone writes tables, to a log"),
            Self::Busy => f.write_str("tables are being written: try again"),
            Self::NoVolume => f.write_str("the log knows of no such volume"),
            Self::NoRecord => f.write_str("the table has no such record"),
            Self::No(why) => why.fmt(f),
        }
    }
}

impl std::error::Error for TableRefusal {}

impl<D: Device> Log<D> {
    /// Begins to make a table stable.
    pub(crate) fn write_table(
        &mut self,
        write: &TableWrite<'_>,
    ) -> Result<TableToken, TableRefusal> {
        self.stores.write_table(write)
    }

    /// Pages that the record of a volume may have.
    pub(crate) fn table_room(&self, volume: VolumeId) -> Option<u64> {
        self.stores.table_room(volume)
    }

    /// The next write of a table that ended.
    pub(crate) fn next_table_end(&mut self) -> Option<(TableToken, Result<(), Fault>)> {
        self.stores.next_table_end()
    }
}
