//! Sessions of the mirror protocol, as doors have them.

use std::net::SocketAddr;

use block::{Buffers, Completion, Request, RequestId};
use nvmf::{Departure, Timestamp, Wire};
use pages::Slice;

use super::{Door, Ending, MirrorDoor};

impl Door for mirror::Connection {
    type Shared = MirrorDoor;

    fn receive(&mut self, _: Timestamp, slice: Slice, buffers: &Buffers, lanes: &mut MirrorDoor) {
        mirror::Connection::receive(self, slice, buffers, lanes);
    }

    fn next_request(&mut self, _: &Buffers, _: &mut MirrorDoor) -> Option<Request> {
        mirror::Connection::next_request(self)
    }

    fn complete(&mut self, completion: Completion, _: &Buffers, lanes: &mut MirrorDoor) {
        mirror::Connection::complete(self, completion, lanes);
    }

    fn next_abort(&mut self) -> Option<RequestId> {
        None
    }

    fn not_aborted(&mut self, _: RequestId, _: &Buffers, _: &mut MirrorDoor) {}

    fn transmit(
        &mut self,
        wire: &mut impl Wire,
        buffers: &Buffers,
        lanes: &mut MirrorDoor,
    ) -> bool {
        mirror::Connection::transmit(self, |chunk| wire.send(chunk), buffers, lanes)
    }

    fn resume(&mut self, _: Timestamp, buffers: &Buffers, lanes: &mut MirrorDoor) {
        mirror::Connection::resume(self, buffers, lanes);
    }

    fn set_unacknowledged(&mut self, _: Timestamp, _: usize) {}

    fn hold_up(&mut self, _: Timestamp) {}

    /// Links have their own patience.
    fn is_forsaken(&mut self, _: Timestamp, _: &Buffers, _: &mut MirrorDoor) -> bool {
        true
    }

    fn advance(&mut self, _: Timestamp, buffers: &Buffers, lanes: &mut MirrorDoor) {
        mirror::Connection::resume(self, buffers, lanes);
        self.look(lanes);
    }

    fn close(&mut self, _: &Buffers, lanes: &mut MirrorDoor) {
        mirror::Connection::close(self, lanes);
    }

    fn has_withheld(&self, _: &Buffers, _: &mut MirrorDoor) -> bool {
        false
    }

    fn is_blocked(&self) -> bool {
        mirror::Connection::is_waiting(self)
    }

    fn is_waiting(&self) -> bool {
        mirror::Connection::is_waiting(self)
    }

    fn is_first(&self, _: &Buffers, _: &mut MirrorDoor) -> bool {
        false
    }

    fn outstanding(&self) -> usize {
        mirror::Connection::outstanding(self)
    }

    fn ending(&self) -> Option<Ending> {
        self.is_over().then_some(match self.tells() {
            true => Ending::Close,
            false => Ending::Abort,
        })
    }

    fn departure(&self) -> Option<Departure<'_>> {
        None
    }

    fn remote(&self) -> SocketAddr {
        mirror::Connection::remote(self)
    }

    fn prefetch(&self) {}
}
