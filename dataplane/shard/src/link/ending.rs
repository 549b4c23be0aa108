//! How connections end, and requests that their hosts want back.

use events::tracepoint;
use net::ConnectionId;
use nvmf::CloseReason;
use volume::Origin;

use super::Link;
use crate::common::Common;
use crate::door::Door;
use crate::machine::{Machine, Port};

impl<P: Port> Link<P> {
    /// Resets every connection, and takes no others; the shard stops. Those that are being
    /// opened find no listener when they are.
    pub(crate) fn abort_connections<M: Machine>(&mut self, common: &mut Common<M>) {
        for listener in self.listeners.drain(..) {
            self.stack.unlisten(listener.id);
        }
        for slot in 0..self.connections.len() {
            if let Some(id) = self.connections[slot].as_ref().map(|open| open.id) {
                self.stack.abort(id);
                self.detach(id, common);
            }
        }
        // Those that sessions have left behind are resets too.
        self.stack.abort_all();
    }

    /// Has volumes give back what they have not begun of the commands that are to be aborted.
    pub(super) fn abort<M: Machine>(&mut self, id: ConnectionId, common: &mut Common<M>) {
        let origin = Origin {
            link: self.index,
            slot: id.slot() as u32,
        };
        let Some(connection) = self.connections[id.slot()].as_deref_mut() else {
            return;
        };
        while let Some(request) = connection.session.next_abort() {
            if !common.volumes.abort(origin, request) {
                let (buffers, doors) = common.for_doors();
                connection.session.not_aborted(request, buffers, doors);
            }
        }
    }

    /// Ends a session; the slot is kept while the device works for it.
    pub(super) fn detach<M: Machine>(&mut self, id: ConnectionId, common: &mut Common<M>) {
        let Some(connection) = self.connections[id.slot()].as_deref_mut() else {
            return;
        };
        if connection.id != id {
            return;
        }
        if !connection.gone {
            connection.gone = true;
            let claimed = connection.secure.take().and_then(|secure| secure.claimed);
            if let Some(mut departure) = connection.session.departure() {
                if connection.is_unresponsive && departure.reason == CloseReason::ConnectionLost {
                    departure.reason = CloseReason::Unresponsive;
                }
                self.drops.note(&departure, claimed.as_deref());
            }
            let (buffers, doors) = common.for_doors();
            connection.session.close(buffers, doors);
            if connection.session.outstanding() > 0 {
                common.volumes.cancel(Origin {
                    link: self.index,
                    slot: id.slot() as u32,
                });
            }
            self.stack.close(id);
        }
        self.reap(id);
    }

    /// Frees the slot of a session that is gone, once no device needs it, nor the host what
    /// it said last: that pins memory, and is watched. Then TCP closes without it: its slot is
    /// free when the peer has acknowledged that, or when another needs it.
    pub(super) fn reap(&mut self, id: ConnectionId) {
        let Some(connection) = self.connection(id) else {
            return;
        };
        let is_done = connection.gone && connection.session.outstanding() == 0;
        if is_done && self.stack.unacknowledged(id) == 0 {
            let Some(connection) = self.connection(id) else {
                return;
            };
            let remote = connection.session.remote();
            tracepoint::connection_close(id.slot() as u64, remote.port().into());
            self.connections[id.slot()] = None;
            self.open -= 1;
            // A session that has ended by its protocol has no use for what came after that.
            self.stack.discard(id);
            self.stack.release(id);
        }
    }
}
