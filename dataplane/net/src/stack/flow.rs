//! What the flow table leads to.

use collections::{TableIndex, table_index};

use crate::event::ConnectionIndex;
use crate::tcp::TimeWaitIndex;

/// What has a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flow {
    Connection(ConnectionIndex),
    /// A connection that is over, as far as it is remembered.
    Remembered(TimeWaitIndex),
}

table_index! {
    /// The same in a word, for the table.
    pub(super) struct FlowIndex(u32);
}

/// Set in those of what is remembered.
const REMEMBERED: usize = 1 << 31;

impl FlowIndex {
    #[inline]
    pub(super) fn flow(self) -> Flow {
        let place = self.place();
        if place & REMEMBERED == 0 {
            Flow::Connection(ConnectionIndex::new(place))
        } else {
            Flow::Remembered(TimeWaitIndex::new(place & !REMEMBERED))
        }
    }
}

impl From<ConnectionIndex> for FlowIndex {
    fn from(connection: ConnectionIndex) -> Self {
        Self::new(connection.place())
    }
}

impl From<TimeWaitIndex> for FlowIndex {
    fn from(remembered: TimeWaitIndex) -> Self {
        Self::new(remembered.place() | REMEMBERED)
    }
}

impl Flow {
    /// The connection that has it, if one still does.
    #[inline]
    pub(super) fn connection(self) -> Option<ConnectionIndex> {
        match self {
            Flow::Connection(index) => Some(index),
            Flow::Remembered(_) => None,
        }
    }
}
