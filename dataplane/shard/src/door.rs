//! Doors: the protocols that connections speak.

mod mirrored;

use std::net::SocketAddr;
use std::sync::Arc;

use block::{Buffers, Completion, Request, RequestId};
use nvmf::{CloseReason, CommandPool, Counters, Departure, Endpoints, Target, Timestamp, Wire};
use pages::Slice;

use crate::secure::{Proved, TlsDoor, link_fault};

/// What the connections of a listener speak, or an outgoing one does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum DoorKind {
    /// NVMe over TCP; we are the controller.
    #[default]
    Nvme,
    /// The mirror protocol, of other nodes.
    Mirror,
    /// For tests of connections.
    #[cfg(test)]
    Echo,
}

/// How a connection is to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// What was queued is sent first.
    Close,
    /// At once: the peer would not take a farewell either, and what was queued for it, or is yet to
    /// be, is freed.
    Abort,
}

/// One connection of a protocol: slices in, requests out, completions in,
/// chunks out, and time.
pub trait Door {
    /// What the sessions of a shard share.
    type Shared;

    /// Takes the next slice of the stream; not called while it is blocked.
    fn receive(
        &mut self,
        now: Timestamp,
        slice: Slice,
        buffers: &Buffers,
        shared: &mut Self::Shared,
    );

    /// The next request it has for a volume.
    fn next_request(&mut self, buffers: &Buffers, shared: &mut Self::Shared) -> Option<Request>;

    /// Takes the end of a request.
    fn complete(&mut self, completion: Completion, buffers: &Buffers, shared: &mut Self::Shared);

    /// The next request that its peer wants back, if none of it was begun; looked at after
    /// [`Door::advance`].
    fn next_abort(&mut self) -> Option<RequestId>;

    /// A request that its peer wants back was begun, and goes on.
    fn not_aborted(&mut self, id: RequestId, buffers: &Buffers, shared: &mut Self::Shared);

    /// Sends what it has, as far as there is room; whether all was sent.
    fn transmit(
        &mut self,
        wire: &mut impl Wire,
        buffers: &Buffers,
        shared: &mut Self::Shared,
    ) -> bool;

    /// Goes on, after it waited for a resource of the shard.
    fn resume(&mut self, now: Timestamp, buffers: &Buffers, shared: &mut Self::Shared);

    /// The peer has not acknowledged `bytes` of what was sent; to be said before anything
    /// is resumed or advanced.
    fn set_unacknowledged(&mut self, now: Timestamp, bytes: usize);

    /// TCP has no room for what the peer has to send; to be said before anything is advanced.
    fn hold_up(&mut self, now: Timestamp);

    /// Whether the peer takes too long over the end of what it was sent; asked after
    /// [`Door::close`].
    fn is_forsaken(&mut self, now: Timestamp, buffers: &Buffers, shared: &mut Self::Shared)
    -> bool;

    /// Runs its timers.
    fn advance(&mut self, now: Timestamp, buffers: &Buffers, shared: &mut Self::Shared);

    /// The connection is gone: what is not at a device is given back.
    fn close(&mut self, buffers: &Buffers, shared: &mut Self::Shared);

    /// Whether it takes no more of the stream for now.
    fn is_blocked(&self) -> bool;

    /// Whether it waits for a resource of the shard.
    fn is_waiting(&self) -> bool;

    /// Whether its peer proves who it is, and what is made of that elsewhere is still to come: it is to be resumed then.
    fn is_at_desk(&self) -> bool {
        false
    }

    /// Whether no other session may overtake it where it waits.
    fn is_first(&self, buffers: &Buffers, shared: &mut Self::Shared) -> bool;

    /// Requests at volumes.
    fn outstanding(&self) -> usize;

    /// Whether some of those are for what its peer is not to reach any more; asked after [`Door::advance`].
    fn has_withheld(&self, buffers: &Buffers, shared: &mut Self::Shared) -> bool;

    /// Whether the connection is to end, and how.
    fn ending(&self) -> Option<Ending>;

    /// Whose connection it is, and why it ends, for the log; none if that is of no interest.
    fn departure(&self) -> Option<Departure<'_>>;

    /// The peer's address.
    fn remote(&self) -> SocketAddr;

    /// Asks for the memory that the next slice will need.
    fn prefetch(&self);
}

/// What the sessions of a shard share, by door.
pub struct Doors {
    /// NVMe over TCP.
    pub nvme: NvmeDoor,
    /// The links to other nodes, if there are any.
    pub mirror: MirrorDoor,
    /// What is between TCP and sessions where a listener has TLS.
    pub tls: TlsDoor,
}

/// A session of whichever door its connection came in by, or goes out by.
#[allow(clippy::large_enum_variant)] // in a box of its connection's
pub enum Session {
    /// NVMe over TCP.
    Nvme(nvmf::Session),
    /// The mirror protocol.
    Mirror(mirror::Connection),
    /// Sends back what it receives; for tests of connections.
    #[cfg(test)]
    Echo(tests::Echo),
}

/// The same method of whichever session it is, with what its door shares.
macro_rules! each {
    ($session:ident, $doors:ident, $inner:ident, $door:ident => $call:expr) => {
        match $session {
            Session::Nvme($inner) => {
                let $door = &mut $doors.nvme;
                $call
            }
            Session::Mirror($inner) => {
                let $door = &mut $doors.mirror;
                $call
            }
            #[cfg(test)]
            Session::Echo($inner) => {
                let $door = &mut ();
                $call
            }
        }
    };
    ($session:ident, $inner:ident => $call:expr) => {
        match $session {
            Session::Nvme($inner) => $call,
            Session::Mirror($inner) => $call,
            #[cfg(test)]
            Session::Echo($inner) => $call,
        }
    };
}

impl Session {
    /// The session of a connection that came in at `local`.
    pub(crate) fn accept(
        kind: DoorKind,
        local: SocketAddr,
        remote: SocketAddr,
        doors: &Doors,
        now: Timestamp,
    ) -> Self {
        match kind {
            DoorKind::Nvme => {
                let endpoints = Endpoints {
                    local,
                    host: remote,
                };
                Session::Nvme(nvmf::Session::new(&doors.nvme.target, endpoints, now))
            }
            DoorKind::Mirror => Session::Mirror(doors.mirror.accept(remote)),
            #[cfg(test)]
            DoorKind::Echo => Session::Echo(tests::Echo::new(remote)),
        }
    }

    /// Its connection is encrypted, before anything was received.
    pub(crate) fn secure(&mut self, proved: Proved) {
        match (self, proved) {
            (Session::Nvme(session), Proved::Host(names)) => session.secure(names),
            (Session::Mirror(session), Proved::Node(identity, suite)) => {
                session.secure(identity, suite);
            }
            _ => unreachable!("what is proved is of the door's kind"),
        }
    }

    /// Handles by which it holds a page that it sends, and will not read again: what is sealed, is sealed there if there are no others.
    pub(crate) fn own_handles(&self) -> u32 {
        match self {
            // A run that is sent is not read again: its page is ours but for its own handle.
            Session::Nvme(_) => 1,
            // A change is sent again if it was not heard, and its log and its volume read it, too.
            Session::Mirror(_) => 0,
            #[cfg(test)]
            Session::Echo(_) => 0,
        }
    }

    /// Takes note of whether it is to end, while what is below it is not there yet.
    pub(crate) fn look(&mut self, doors: &mut Doors) {
        if let Session::Mirror(session) = self {
            session.look(&mut doors.mirror);
        }
    }

    /// Ends it for what its connection did below it.
    pub(crate) fn fail(&mut self, reason: CloseReason, buffers: &Buffers, doors: &mut Doors) {
        match self {
            Session::Nvme(session) => session.fail(reason, &mut doors.nvme.lend(buffers)),
            Session::Mirror(session) => session.fail(&link_fault(reason, session.is_ours())),
            #[cfg(test)]
            Session::Echo(_) => {}
        }
    }

    /// The queue of a controller that it is: controller ID, queue ID, entries.
    pub(crate) fn queue(&self) -> Option<(u16, u16, u16)> {
        match self {
            Session::Nvme(session) => {
                let (cntlid, qid) = session.queue()?;
                Some((cntlid.0, qid.0, session.queue_entries()))
            }
            Session::Mirror(_) => None,
            #[cfg(test)]
            Session::Echo(_) => None,
        }
    }
}

impl Door for Session {
    type Shared = Doors;

    #[inline]
    fn receive(&mut self, now: Timestamp, slice: Slice, buffers: &Buffers, doors: &mut Doors) {
        each!(self, doors, session, door => Door::receive(session, now, slice, buffers, door));
    }

    #[inline]
    fn next_request(&mut self, buffers: &Buffers, doors: &mut Doors) -> Option<Request> {
        each!(self, doors, session, door => Door::next_request(session, buffers, door))
    }

    #[inline]
    fn complete(&mut self, completion: Completion, buffers: &Buffers, doors: &mut Doors) {
        each!(self, doors, session, door => Door::complete(session, completion, buffers, door));
    }

    fn next_abort(&mut self) -> Option<RequestId> {
        each!(self, session => Door::next_abort(session))
    }

    fn not_aborted(&mut self, id: RequestId, buffers: &Buffers, doors: &mut Doors) {
        each!(self, doors, session, door => Door::not_aborted(session, id, buffers, door));
    }

    #[inline]
    fn transmit(&mut self, wire: &mut impl Wire, buffers: &Buffers, doors: &mut Doors) -> bool {
        each!(self, doors, session, door => Door::transmit(session, wire, buffers, door))
    }

    fn resume(&mut self, now: Timestamp, buffers: &Buffers, doors: &mut Doors) {
        each!(self, doors, session, door => Door::resume(session, now, buffers, door));
    }

    #[inline]
    fn set_unacknowledged(&mut self, now: Timestamp, bytes: usize) {
        each!(self, session => Door::set_unacknowledged(session, now, bytes));
    }

    fn hold_up(&mut self, now: Timestamp) {
        each!(self, session => Door::hold_up(session, now));
    }

    fn is_forsaken(&mut self, now: Timestamp, buffers: &Buffers, doors: &mut Doors) -> bool {
        each!(self, doors, session, door => Door::is_forsaken(session, now, buffers, door))
    }

    fn advance(&mut self, now: Timestamp, buffers: &Buffers, doors: &mut Doors) {
        each!(self, doors, session, door => Door::advance(session, now, buffers, door));
    }

    fn close(&mut self, buffers: &Buffers, doors: &mut Doors) {
        each!(self, doors, session, door => Door::close(session, buffers, door));
    }

    #[inline]
    fn is_blocked(&self) -> bool {
        each!(self, session => Door::is_blocked(session))
    }

    #[inline]
    fn is_waiting(&self) -> bool {
        each!(self, session => Door::is_waiting(session))
    }

    #[inline]
    fn is_at_desk(&self) -> bool {
        each!(self, session => Door::is_at_desk(session))
    }

    fn is_first(&self, buffers: &Buffers, doors: &mut Doors) -> bool {
        each!(self, doors, session, door => Door::is_first(session, buffers, door))
    }

    #[inline]
    fn outstanding(&self) -> usize {
        each!(self, session => Door::outstanding(session))
    }

    fn has_withheld(&self, buffers: &Buffers, doors: &mut Doors) -> bool {
        each!(self, doors, session, door => Door::has_withheld(session, buffers, door))
    }

    fn ending(&self) -> Option<Ending> {
        each!(self, session => Door::ending(session))
    }

    fn departure(&self) -> Option<Departure<'_>> {
        each!(self, session => Door::departure(session))
    }

    fn remote(&self) -> SocketAddr {
        each!(self, session => Door::remote(session))
    }

    #[inline]
    fn prefetch(&self) {
        each!(self, session => Door::prefetch(session));
    }
}

/// A shard's links to other nodes.
pub type MirrorDoor = mirror::Lanes;

/// What NVMe sessions of a shard share.
pub struct NvmeDoor {
    /// Command slots, and credit for writes.
    pub commands: CommandPool,
    /// What they count.
    pub counters: Counters,
    /// Subsystems and their controllers: of all shards.
    pub target: Arc<Target>,
}

impl NvmeDoor {
    /// The shard's resources as NVMe sessions borrow them.
    #[inline]
    fn lend<'a>(&'a mut self, buffers: &'a Buffers) -> nvmf::Resources<'a> {
        nvmf::Resources {
            runs: &buffers.runs,
            pages: &buffers.pages,
            ledger: &buffers.ledger,
            commands: &mut self.commands,
            counters: &mut self.counters,
        }
    }
}

impl Door for nvmf::Session {
    type Shared = NvmeDoor;

    #[inline]
    fn receive(&mut self, now: Timestamp, slice: Slice, buffers: &Buffers, shared: &mut NvmeDoor) {
        // A session that is not blocked takes every slice.
        let _ = nvmf::Session::receive(self, now, slice, &mut shared.lend(buffers));
    }

    #[inline]
    fn next_request(&mut self, buffers: &Buffers, shared: &mut NvmeDoor) -> Option<Request> {
        nvmf::Session::next_request(self, &mut shared.lend(buffers))
    }

    #[inline]
    fn complete(&mut self, completion: Completion, buffers: &Buffers, shared: &mut NvmeDoor) {
        nvmf::Session::complete(self, completion, &mut shared.lend(buffers));
    }

    fn next_abort(&mut self) -> Option<RequestId> {
        nvmf::Session::next_abort(self)
    }

    fn not_aborted(&mut self, id: RequestId, buffers: &Buffers, shared: &mut NvmeDoor) {
        nvmf::Session::not_aborted(self, id, &shared.lend(buffers));
    }

    #[inline]
    fn transmit(&mut self, wire: &mut impl Wire, buffers: &Buffers, shared: &mut NvmeDoor) -> bool {
        nvmf::Session::transmit(self, wire, &mut shared.lend(buffers))
    }

    fn resume(&mut self, now: Timestamp, buffers: &Buffers, shared: &mut NvmeDoor) {
        nvmf::Session::resume(self, now, &mut shared.lend(buffers));
    }

    #[inline]
    fn set_unacknowledged(&mut self, now: Timestamp, bytes: usize) {
        nvmf::Session::set_unacknowledged(self, now, bytes);
    }

    fn hold_up(&mut self, now: Timestamp) {
        nvmf::Session::hold_up(self, now);
    }

    fn is_forsaken(&mut self, now: Timestamp, buffers: &Buffers, shared: &mut NvmeDoor) -> bool {
        nvmf::Session::is_forsaken(self, now, &mut shared.lend(buffers))
    }

    fn advance(&mut self, now: Timestamp, buffers: &Buffers, shared: &mut NvmeDoor) {
        nvmf::Session::advance(self, now, &mut shared.lend(buffers));
    }

    fn close(&mut self, buffers: &Buffers, shared: &mut NvmeDoor) {
        nvmf::Session::close(self, &mut shared.lend(buffers));
    }

    #[inline]
    fn is_blocked(&self) -> bool {
        nvmf::Session::is_blocked(self)
    }

    #[inline]
    fn is_waiting(&self) -> bool {
        nvmf::Session::is_waiting(self)
    }

    #[inline]
    fn is_at_desk(&self) -> bool {
        nvmf::Session::is_at_desk(self)
    }

    fn is_first(&self, buffers: &Buffers, shared: &mut NvmeDoor) -> bool {
        nvmf::Session::is_first(self, &shared.lend(buffers))
    }

    #[inline]
    fn outstanding(&self) -> usize {
        nvmf::Session::outstanding(self)
    }

    fn has_withheld(&self, buffers: &Buffers, shared: &mut NvmeDoor) -> bool {
        nvmf::Session::has_withheld(self, &shared.lend(buffers))
    }

    fn ending(&self) -> Option<Ending> {
        self.closing().map(|reason| match reason {
            CloseReason::DataTimeout | CloseReason::SendTimeout | CloseReason::WantOfResources => {
                Ending::Abort
            }
            _ => Ending::Close,
        })
    }

    fn departure(&self) -> Option<Departure<'_>> {
        Some(nvmf::Session::departure(self))
    }

    fn remote(&self) -> SocketAddr {
        self.endpoints().host
    }

    #[inline]
    fn prefetch(&self) {
        nvmf::Session::prefetch(self);
    }
}

#[cfg(test)]
pub mod tests {
    use std::cell::RefCell;
    use std::collections::VecDeque;
    use std::rc::Rc;

    use pages::Chunk;

    use super::*;

    /// Sends back what it receives, or what it was given to say first.
    pub struct Echo {
        remote: SocketAddr,
        chunks: VecDeque<Chunk>,
        /// It sends nothing back.
        is_mute: bool,
        /// Bytes that came.
        heard: Rc<RefCell<Vec<u8>>>,
    }

    impl Echo {
        pub(crate) fn new(remote: SocketAddr) -> Self {
            Self {
                remote,
                chunks: VecDeque::new(),
                is_mute: false,
                heard: Rc::default(),
            }
        }

        pub(crate) fn heard(&self) -> Rc<RefCell<Vec<u8>>> {
            Rc::clone(&self.heard)
        }

        pub(crate) fn be_mute(&mut self) {
            self.is_mute = true;
        }

        pub(crate) fn say(&mut self, chunk: Chunk) {
            self.chunks.push_back(chunk);
        }
    }

    impl Door for Echo {
        type Shared = ();

        fn receive(&mut self, _: Timestamp, slice: Slice, _: &Buffers, (): &mut ()) {
            self.heard.borrow_mut().extend_from_slice(slice.bytes());
            if !self.is_mute {
                self.chunks.push_back(Chunk::Slice(slice));
            }
        }

        fn next_request(&mut self, _: &Buffers, (): &mut ()) -> Option<Request> {
            None
        }

        fn complete(&mut self, _: Completion, _: &Buffers, (): &mut ()) {}

        fn next_abort(&mut self) -> Option<RequestId> {
            None
        }

        fn not_aborted(&mut self, _: RequestId, _: &Buffers, (): &mut ()) {}

        fn transmit(&mut self, wire: &mut impl Wire, _: &Buffers, (): &mut ()) -> bool {
            while let Some(chunk) = self.chunks.pop_front() {
                if let Err(chunk) = wire.send(chunk) {
                    self.chunks.push_front(chunk);
                    return false;
                }
            }
            true
        }

        fn resume(&mut self, _: Timestamp, _: &Buffers, (): &mut ()) {}

        fn set_unacknowledged(&mut self, _: Timestamp, _: usize) {}

        fn hold_up(&mut self, _: Timestamp) {}

        fn is_forsaken(&mut self, _: Timestamp, _: &Buffers, (): &mut ()) -> bool {
            false
        }

        fn advance(&mut self, _: Timestamp, _: &Buffers, (): &mut ()) {}

        fn close(&mut self, _: &Buffers, (): &mut ()) {
            self.chunks.clear();
        }

        fn is_blocked(&self) -> bool {
            false
        }

        fn is_waiting(&self) -> bool {
            false
        }

        fn is_first(&self, _: &Buffers, (): &mut ()) -> bool {
            false
        }

        fn outstanding(&self) -> usize {
            0
        }

        fn has_withheld(&self, _: &Buffers, (): &mut ()) -> bool {
            false
        }

        fn ending(&self) -> Option<Ending> {
            None
        }

        fn departure(&self) -> Option<Departure<'_>> {
            None
        }

        fn remote(&self) -> SocketAddr {
            self.remote
        }

        fn prefetch(&self) {}
    }
}
