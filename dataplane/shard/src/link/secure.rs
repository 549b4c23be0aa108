//! Connections where there is TLS: handshakes, and records between TCP and the session.

use std::collections::VecDeque;

use block::Buffers;
use events::StageClock;
use net::{ConnectionId, Stack};
use nvmf::{CloseReason, HandshakeFault, Timestamp, Wire};
use pages::Chunk;
use tls::{Alert, Memory as TlsMemory, Next};

use super::{Connection, Link};
use crate::common::Common;
use crate::door::{Door, Doors, Ending};
use crate::machine::{Machine, Port};
use crate::secure::{Came, Heard, Records, Secure, State, alert_of};

/// Handshakes under way at a time, of a port and shard: the oldest gives way to a new one. Whoever begins thousands and does not go
/// on holds nothing that others need.
const HANDSHAKES_MAX: usize = 256;

/// What became of what was received.
#[derive(PartialEq, Eq)]
enum Read {
    /// All that there is for now.
    All,
    /// It goes on in the clear.
    InTheClear,
    /// The peer says that nothing more comes.
    Closed,
    /// The connection is to end.
    Fails(CloseReason),
    /// A handshake has begun.
    Begun,
}

/// What opening and sealing take of the shard's memory.
fn memory(buffers: &Buffers) -> TlsMemory<'_> {
    TlsMemory {
        pages: &buffers.pages,
        ledger: &buffers.ledger,
    }
}

impl<P: Port> Link<P> {
    /// As [`Link::read`], where there is TLS.
    #[inline(never)] // beside the path of connections in the clear
    pub(super) fn read_secure<M: Machine>(
        &mut self,
        id: ConnectionId,
        common: &mut Common<M>,
        stages: &mut StageClock<M::Ticks>,
        now: Timestamp,
    ) {
        loop {
            let Some(connection) = self.connections[id.slot()].as_deref_mut() else {
                return;
            };
            let Some(secure) = &mut connection.secure else {
                return self.read(id, common, stages, now);
            };
            let (buffers, doors) = common.for_doors();
            let mut inward = Inward {
                stack: &mut self.stack,
                id,
                session: &mut connection.session,
                received: &mut connection.received,
                now,
            };
            match inward.read(secure, buffers, doors) {
                Read::All => break,
                Read::InTheClear => connection.secure = None,
                Read::Begun => self.make_way(id, common),
                Read::Closed => {
                    self.after(id, common, stages);
                    self.part(id, common);
                    return;
                }
                Read::Fails(reason) => {
                    doors.tls.counters.note(reason);
                    connection.session.fail(reason, buffers, doors);
                    break;
                }
            }
        }
        if let Some(connection) = self.connection(id)
            && connection.session.is_waiting()
        {
            let unacknowledged = self.stack.unacknowledged(id);
            let Some(connection) = self.connection(id) else {
                return;
            };
            let (buffers, doors) = common.for_doors();
            connection.session.set_unacknowledged(now, unacknowledged);
            connection.session.resume(now, buffers, doors);
        }
        self.after(id, common, stages);
    }

    /// One more handshake is under way: if there are too many, the oldest ends.
    fn make_way<M: Machine>(&mut self, id: ConnectionId, common: &mut Common<M>) {
        self.handshakes.push_back(id);
        while self.handshakes.len() > HANDSHAKES_MAX {
            let Some(oldest) = self.handshakes.pop_front() else {
                return;
            };
            let Some(connection) = self
                .connection(oldest)
                .filter(|connection| !connection.gone)
            else {
                continue;
            };
            let secure = connection.secure.as_deref();
            if secure.is_some_and(Secure::is_in_handshake) {
                let (buffers, doors) = common.for_doors();
                let reason = CloseReason::NotSecured(HandshakeFault::Crowded);
                doors.tls.counters.note(reason);
                connection.session.fail(reason, buffers, doors);
                self.stack.abort(oldest);
                self.detach(oldest, common);
            }
        }
    }

    /// Takes what the desk made of a handshake; false if there is nothing yet.
    pub(super) fn take_handshake<M: Machine>(
        &mut self,
        id: ConnectionId,
        common: &mut Common<M>,
        stages: &mut StageClock<M::Ticks>,
        now: Timestamp,
    ) -> bool {
        let Some(connection) = self.connection(id) else {
            return false;
        };
        let (limits, updates_keys) = (common.doors.tls.limits, common.doors.tls.updates_keys);
        let secure = connection.secure.as_deref_mut();
        let came = secure.and_then(|secure| secure.answer(limits, updates_keys));
        let Some(came) = came else {
            self.after(id, common, stages);
            return false;
        };
        let (buffers, doors) = common.for_doors();
        match came {
            Came::On => {}
            Came::Open(proved) => {
                doors.tls.counters.handshakes += 1;
                connection.session.secure(proved);
            }
            Came::Failed(reason) => {
                doors.tls.counters.note(reason);
                connection.session.fail(reason, buffers, doors);
            }
        }
        if connection.session.ending().is_some()
            && let Some(secure) = &mut connection.secure
        {
            secure.end();
        }
        self.read_secure(id, common, stages, now);
        true
    }

    /// Ends the records that were begun in this turn: what is answered in one turn is one record, as far as it goes in.
    pub(super) fn seal<M: Machine>(&mut self, common: &mut Common<M>) {
        for _ in 0..self.unsealed.len() {
            let Some(id) = self.unsealed.pop_front() else {
                return;
            };
            let Some(connection) = self.connections[id.slot()].as_deref_mut() else {
                continue;
            };
            if connection.id != id || connection.gone {
                continue;
            }
            let Some(secure) = &mut connection.secure else {
                continue;
            };
            let State::Open(records) = &mut secure.state else {
                continue;
            };
            records.is_listed = false;
            let own = connection.session.own_handles();
            let (buffers, doors) = common.for_doors();
            let mut wire = SealingWire::new(&mut self.stack, id, records, buffers, own);
            wire.flush();
            let came = wire.came();
            connection.note(&came, doors);
            if came.lacks_page && !connection.waiting {
                connection.waiting = true;
                self.waiting.push_back(id);
            }
        }
    }

    /// A connection that was opened here is there: the node that opens it is the client.
    pub(super) fn connected<M: Machine>(&mut self, id: ConnectionId, common: &mut Common<M>) {
        if let Some(connection) = self.connection(id)
            && let Some(secure) = &mut connection.secure
        {
            let (_, doors) = common.for_doors();
            let peer = connection.session.remote().ip();
            secure.connect(peer, &doors.nvme.target, &doors.tls);
        }
        self.write(id, common);
    }

    /// The peer sends nothing more: it is told that nothing more comes, as far as there is room, and the connection ends.
    pub(super) fn part<M: Machine>(&mut self, id: ConnectionId, common: &mut Common<M>) {
        if let Some(connection) = self.connections[id.slot()].as_deref_mut()
            && connection.id == id
            && let Some(secure) = &mut connection.secure
            && let State::Open(records) = &mut secure.state
        {
            let (buffers, _) = common.for_doors();
            let own = connection.session.own_handles();
            let mut wire = SealingWire::new(&mut self.stack, id, records, buffers, own);
            wire.farewell();
            connection.sent += wire.sent;
        }
        self.detach(id, common);
        self.stack.close(id);
    }
}

/// What an encrypted connection waits for, into the link's lists.
pub(super) fn note(
    connection: &mut Connection,
    waiting: &mut VecDeque<ConnectionId>,
    at_desk: &mut VecDeque<ConnectionId>,
    unsealed: &mut VecDeque<ConnectionId>,
) {
    let Some(secure) = &mut connection.secure else {
        return;
    };
    if let State::Open(records) = &mut secure.state
        && records.holds()
        && !std::mem::replace(&mut records.is_listed, true)
    {
        unsealed.push_back(connection.id);
    }
    if secure.wants_page && !connection.waiting {
        connection.waiting = true;
        waiting.push_back(connection.id);
    }
    if secure.is_at_desk() && !connection.at_desk {
        connection.at_desk = true;
        at_desk.push_back(connection.id);
    }
}

/// What the session of an encrypted connection has to say, as far as there is room, and what the stream itself has; whether all of
/// it is out, and the farewell if the connection is to close.
#[inline(never)] // as above
pub(super) fn send(
    stack: &mut Stack,
    connection: &mut Connection,
    buffers: &Buffers,
    doors: &mut Doors,
) -> bool {
    let (id, session) = (connection.id, &mut connection.session);
    let Some(secure) = &mut connection.secure else {
        return true;
    };
    let mut sent = 0;
    let said = secure.say(|chunk| {
        let len = chunk.len() as u64;
        stack.send(id, chunk).map_err(net::SendError::into_chunk)?;
        sent += len;
        Ok(())
    });
    connection.sent += sent;
    let State::Open(records) = &mut secure.state else {
        session.look(doors);
        return said;
    };
    if !said {
        return false;
    }
    let own = session.own_handles();
    let mut wire = SealingWire::new(stack, id, records, buffers, own);
    // Behind the last record the session has nothing to say.
    let mut done = wire.records.is_ended || session.transmit(&mut wire, buffers, doors);
    if done && session.ending() == Some(Ending::Close) {
        done = wire.flush() && wire.farewell();
    }
    let came = wire.came();
    connection.note(&came, doors);
    done
}

impl Connection {
    /// What became of its records.
    fn note(&mut self, came: &Sent, doors: &mut Doors) {
        self.sent += came.sent;
        let counters = &mut doors.tls.counters;
        counters.sealed_bytes += came.taken;
        let Some(secure) = &mut self.secure else {
            return;
        };
        if came.lacks_page {
            counters.page_waits += 1;
            secure.wants_page = true;
        }
    }
}

/// One connection's way from TCP to its session.
struct Inward<'a> {
    stack: &'a mut Stack,
    id: ConnectionId,
    session: &'a mut crate::door::Session,
    received: &'a mut u64,
    now: Timestamp,
}

impl Inward<'_> {
    /// What TCP has, as far as the session takes it.
    fn read(&mut self, secure: &mut Secure, buffers: &Buffers, doors: &mut Doors) -> Read {
        secure.wants_page = false;
        match &mut secure.state {
            State::Fresh => self.begin(secure, buffers, doors),
            State::Handshake(_) => self.hear(secure, doors),
            State::Open(_) => self.open(secure, buffers, doors),
            State::Over => {
                self.stack.discard(self.id);
                Read::All
            }
        }
    }

    /// The next slice of the stream.
    fn recv(&mut self, secure: &mut Secure) -> Option<pages::Slice> {
        let rest = secure.rest.take().filter(|rest| !rest.is_empty());
        rest.or_else(|| {
            let slice = self.stack.recv(self.id)?;
            *self.received += slice.len() as u64;
            Some(slice)
        })
    }

    /// The first octet tells.
    fn begin(&mut self, secure: &mut Secure, buffers: &Buffers, doors: &mut Doors) -> Read {
        let Some(slice) = self.recv(secure) else {
            return Read::All;
        };
        match secure.begin(&slice) {
            Ok(true) => {
                secure.rest = Some(slice);
                Read::Begun
            }
            Ok(false) => {
                self.session.receive(self.now, slice, buffers, doors);
                Read::InTheClear
            }
            Err(reason) => {
                secure.end();
                Read::Fails(reason)
            }
        }
    }

    /// Records of a handshake, one at a time, to the desk.
    fn hear(&mut self, secure: &mut Secure, doors: &mut Doors) -> Read {
        while !secure.is_at_desk()
            && let Some(mut slice) = self.recv(secure)
        {
            let State::Handshake(handshake) = &mut secure.state else {
                break;
            };
            let heard = handshake.hear(&mut slice);
            secure.rest = Some(slice);
            match heard {
                Heard::Wants => {}
                Heard::Record(record) => {
                    let peer = self.session.remote().ip();
                    secure.ask(peer, record, &doors.nvme.target, &doors.tls);
                }
                Heard::Fault(fault) => {
                    secure.end();
                    return Read::Fails(CloseReason::NotSecured(fault));
                }
            }
        }
        Read::All
    }

    /// Records, opened where they lie, to the session.
    fn open(&mut self, secure: &mut Secure, buffers: &Buffers, doors: &mut Doors) -> Read {
        let memory = memory(buffers);
        while !self.session.is_blocked() && self.session.ending().is_none() {
            let State::Open(records) = &mut secure.state else {
                break;
            };
            match records.opener.next(memory) {
                Ok(Next::Plain(slice)) => {
                    doors.tls.counters.opened_bytes += slice.len() as u64;
                    self.session.receive(self.now, slice, buffers, doors);
                }
                Ok(Next::Wants) => {
                    let Some(slice) = self.recv(secure) else {
                        break;
                    };
                    let State::Open(records) = &mut secure.state else {
                        break;
                    };
                    if let Err(slice) = records.opener.push(slice, memory) {
                        secure.rest = Some(slice);
                        secure.wants_page = true;
                        break;
                    }
                }
                Ok(Next::NoPage) => {
                    secure.wants_page = true;
                    break;
                }
                Ok(Next::KeyUpdate) => {
                    doors.tls.counters.key_updates += 1;
                    records.sealer.update_key(false);
                }
                Ok(Next::Closed) => return Read::Closed,
                Err(failure) => {
                    let (alert, reason) = alert_of(failure);
                    if let Some(alert) = alert {
                        records.sealer.alert(alert);
                    }
                    records.is_ended = reason != CloseReason::KeyWornOut;
                    return Read::Fails(reason);
                }
            }
        }
        if secure.wants_page {
            doors.tls.counters.page_waits += 1;
        }
        if let State::Open(records) = &mut secure.state
            && self.session.ending().is_none()
        {
            return renew(records);
        }
        Read::All
    }
}

/// Has keys replaced in time (RFC 8446, 5.5), or the connection end, if the host may not take new ones.
fn renew(records: &mut Records) -> Read {
    let Records { opener, sealer, .. } = records;
    if !sealer.takes_updates() {
        return match opener.is_near_limit() || sealer.is_near_limit() {
            true => Read::Fails(CloseReason::KeyWornOut),
            false => Read::All,
        };
    }
    // Until it has taken the key that it was asked to.
    let is_near = opener.is_near_limit();
    if is_near && !records.has_asked {
        sealer.update_key(true);
    }
    records.has_asked = is_near;
    Read::All
}

/// What went through a [`SealingWire`].
struct Sent {
    taken: u64,
    sent: u64,
    lacks_page: bool,
}

/// A session's way into the TCP send queue, through records. What is sealed and finds no room waits here: no more is sealed before it is gone.
struct SealingWire<'a> {
    stack: &'a mut Stack,
    connection: ConnectionId,
    records: &'a mut Records,
    buffers: &'a Buffers,
    /// Handles of a page by which the session holds what it will not read again.
    own: u32,
    /// Bytes of plaintext.
    taken: u64,
    /// Bytes of the stream.
    sent: u64,
    lacks_page: bool,
}

impl<'a> SealingWire<'a> {
    fn new(
        stack: &'a mut Stack,
        connection: ConnectionId,
        records: &'a mut Records,
        buffers: &'a Buffers,
        own: u32,
    ) -> Self {
        Self {
            stack,
            connection,
            records,
            buffers,
            own,
            taken: 0,
            sent: 0,
            lacks_page: false,
        }
    }

    fn came(&self) -> Sent {
        Sent {
            taken: self.taken,
            sent: self.sent,
            lacks_page: self.lacks_page,
        }
    }

    /// Seals and sends as far as there is room; whether TCP has more.
    fn drain(&mut self) -> bool {
        let (records, memory) = (&mut *self.records, memory(self.buffers));
        while let Some(chunk) = (records.held.take()).or_else(|| records.sealer.next(memory)) {
            let len = chunk.len() as u64;
            if let Err(error) = self.stack.send(self.connection, chunk) {
                records.held = Some(error.into_chunk());
                return false;
            }
            self.sent += len;
        }
        true
    }

    /// Ends the record that is begun, and sends it; whether all is out.
    fn flush(&mut self) -> bool {
        if !self.records.is_ended {
            self.records.sealer.flush();
        }
        if !self.drain() {
            return false;
        }
        // A record that is ended waits for pages alone.
        self.lacks_page |= !self.records.sealer.is_empty();
        !self.lacks_page
    }

    /// Says that nothing more comes; whether that is out.
    fn farewell(&mut self) -> bool {
        if !std::mem::replace(&mut self.records.is_ended, true) {
            self.records.sealer.alert(Alert::CloseNotify);
        }
        self.drain()
    }
}

impl Wire for SealingWire<'_> {
    fn send(&mut self, chunk: Chunk) -> Result<(), Chunk> {
        if self.records.is_ended || !self.drain() {
            return Err(chunk);
        }
        let len = chunk.len() as u64;
        let pushed = (self.records.sealer).push(chunk, self.own, memory(self.buffers));
        if pushed.is_err() {
            self.lacks_page = true;
        }
        pushed?;
        self.taken += len;
        Ok(())
    }

    fn taken(&self) -> u64 {
        self.taken
    }
}

#[cfg(test)]
mod tests {
    use pages::{Arena, ClusterPool, CopyLedger, HeapRegion, Inline};
    use tls::{Established, Limits, Opener, Sealer, Secret, Side, Suite};

    use super::*;

    fn established(side: Side) -> Established {
        let secret = Secret::new(&[7; 32]).unwrap();
        Established {
            side,
            identity: Vec::new(),
            suite: Suite::Aes128GcmSha256,
            read_secret: secret.clone(),
            write_secret: secret,
            read_sequence: 0,
            write_sequence: 0,
            unread: Vec::new(),
            record_size_limit: None,
        }
    }

    /// Ours, with keys of 16 KiB.
    fn sealer() -> Sealer {
        Sealer::new(&established(Side::Server)).with_limits(Limits::of_bytes(16 << 10))
    }

    fn records(sealer: Sealer) -> Records {
        Records {
            opener: Opener::new(&established(Side::Server)).with_limits(Limits::of_bytes(16 << 10)),
            sealer,
            held: None,
            is_ended: false,
            has_asked: false,
            is_listed: false,
        }
    }

    /// Seals so many short records, and returns them.
    fn seal(sealer: &mut Sealer, count: usize, memory: TlsMemory<'_>) -> Vec<u8> {
        let mut stream = Vec::new();
        for _ in 0..count {
            let chunk = Chunk::Inline(Inline::new(&[1; 32]).unwrap());
            sealer.push(chunk, 0, memory).unwrap();
            sealer.flush();
            while let Some(chunk) = sealer.next(memory) {
                stream.extend_from_slice(chunk.bytes());
            }
        }
        stream
    }

    #[test]
    fn k07_a_worn_out_key_is_replaced_only_where_hosts_take_new_ones() {
        let pages = ClusterPool::carve(&Arena::new(HeapRegion::new(64)), 64, 4096).unwrap();
        let ledger = CopyLedger::new();
        let memory = TlsMemory {
            pages: &pages,
            ledger: &ledger,
        };
        let slice = |bytes: &[u8]| {
            let mut fresh = pages.alloc().unwrap();
            fresh[..bytes.len()].copy_from_slice(bytes);
            fresh.freeze_filled(bytes.len()).slice(0..bytes.len())
        };
        let worn = CloseReason::KeyWornOut;
        // What we send: a record of 32 bytes is five blocks of the 1024.
        for takes_updates in [true, false] {
            let fresh = match takes_updates {
                true => sealer(),
                false => sealer().without_updates(),
            };
            let mut ours = records(fresh);
            assert!(renew(&mut ours) == Read::All);
            seal(&mut ours.sealer, 400, memory);
            let expected = match takes_updates {
                true => Read::All,
                false => Read::Fails(worn),
            };
            assert!(renew(&mut ours) == expected, "{takes_updates}");
        }
        // What the host sends: it is asked once, and once more when it has taken the key that it was asked to.
        let mut host = Sealer::new(&established(Side::Client));
        let mut ours = records(sealer());
        for round in 0..3 {
            for _ in 0..20 {
                let stream = seal(&mut host, 20, memory);
                ours.opener.push(slice(&stream), memory).unwrap();
                while let Ok(Next::Plain(_)) = ours.opener.next(memory) {}
            }
            assert!(renew(&mut ours) == Read::All && ours.has_asked, "{round}");
            assert!(ours.sealer.next(memory).is_some(), "{round}");
            while ours.sealer.next(memory).is_some() {}
            assert!(renew(&mut ours) == Read::All && ours.sealer.next(memory).is_none());
            // It takes one.
            host.update_key(false);
            let mut stream = Vec::new();
            while let Some(chunk) = host.next(memory) {
                stream.extend_from_slice(chunk.bytes());
            }
            ours.opener.push(slice(&stream), memory).unwrap();
            assert!(matches!(ours.opener.next(memory), Ok(Next::Wants)));
            assert!(renew(&mut ours) == Read::All && !ours.has_asked);
        }
        // A host that asks for one takes them.
        let mut ours = records(sealer().without_updates());
        ours.sealer.update_key(false);
        assert!(ours.sealer.takes_updates());
    }
}
