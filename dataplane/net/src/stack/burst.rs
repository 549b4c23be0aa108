//! Whose frames a burst has. Segments of one connection after another find its state
//! in the caches; those of thousands of connections, each with its own, find it in
//! memory, line by line. So a burst is looked at before its first frame is taken: the
//! state of all its connections is then on its way at once.

use collections::TableIndex;
use pages::prefetch;

use crate::event::ConnectionIndex;
use crate::stack::Stack;
use crate::stack::fast::{V4Flow, is_v4_tcp, v4_flow};
use crate::tcp::{FlowKey, has};

/// Changes of connection within a burst that are looked at.
const CHANGES: usize = 32;

/// The connections of a burst, in the order of their frames.
pub(super) struct Burst {
    flows: [Prefetched; CHANGES],
    len: usize,
    /// Those before it have come.
    next: usize,
}

#[derive(Clone, Copy)]
struct Prefetched {
    flow: V4Flow,
    hash: u64,
    /// What the table has for the hash; whether it is that flow is seen when it comes.
    index: ConnectionIndex,
}

impl Burst {
    pub(super) const NONE: Burst = Burst {
        flows: [Prefetched {
            flow: V4Flow::NONE,
            hash: 0,
            index: ConnectionIndex::NONE,
        }; CHANGES],
        len: 0,
        next: 0,
    };
}

impl Stack {
    /// Looks at the frames that [`Stack::receive`] is given next, by their first bytes, so
    /// that what it needs for them is in the caches by then. It is right to leave that
    /// out, or to give others: nothing but time depends on it. IPv4 only.
    pub fn prefetch_burst<'a>(&mut self, heads: impl Iterator<Item = &'a [u8]>) {
        let burst = &mut self.burst;
        (burst.len, burst.next) = (0, 0);
        let mut last = self.train.v4_flow();
        for header in heads.filter_map(<[u8]>::first_chunk) {
            let flow = v4_flow(header);
            // The next of a train; or nothing of ours.
            if flow == last || !is_v4_tcp(header) {
                continue;
            }
            last = flow;
            let Some(known) = burst.flows.get_mut(burst.len) else {
                break;
            };
            let hash = FlowKey::of_v4(flow.addresses, flow.ports).hash(self.table_key);
            *known = Prefetched {
                flow,
                hash,
                index: ConnectionIndex::NONE,
            };
            burst.len += 1;
            self.table.prefetch(hash);
        }
        // A step for all before the next: each finds what the one before asked for.
        for known in &mut self.burst.flows[..self.burst.len] {
            let found = self.table.find(known.hash, |_| true);
            let connection = found.and_then(|found| found.flow().connection());
            known.index = connection.unwrap_or(ConnectionIndex::NONE);
            if let Some(connection) = self.connections.get(known.index) {
                prefetch(connection);
                self.cx.prefetch(known.index);
            }
        }
        for index in self.known() {
            self.connections[index].prefetch(&self.cx);
        }
    }

    /// The connections, by [`ConnectionId::slot`](crate::ConnectionId::slot), whose frames
    /// were [prefetched](Stack::prefetch_burst), but for those of the connection that was the last before.
    pub fn prefetched(&self) -> impl Iterator<Item = usize> {
        self.known().map(ConnectionIndex::place)
    }

    /// The connections that flows of the burst are likely to be of.
    fn known(&self) -> impl Iterator<Item = ConnectionIndex> {
        let flows = &self.burst.flows[..self.burst.len];
        flows.iter().filter_map(|flow| flow.index.some())
    }

    /// Begins the train of the frame, if it was prefetched and is of a connection.
    #[inline]
    pub(super) fn turn_to(&mut self, head: &[u8]) {
        let flows = &self.burst.flows[self.burst.next..self.burst.len];
        if flows.is_empty() {
            return;
        }
        let Some(header) = head.first_chunk() else {
            return;
        };
        let flow = v4_flow(header);
        let Some(at) = flows.iter().position(|known| known.flow == flow) else {
            return;
        };
        let index = flows[at].index;
        self.burst.next += at + 1;
        if let Some(connection) = self.connections.get(index) {
            let key = connection.key;
            if key == FlowKey::of_v4(flow.addresses, flow.ports) && !connection.has(has::UNHOOKED) {
                self.follow(index, &key);
            }
        }
    }
}
