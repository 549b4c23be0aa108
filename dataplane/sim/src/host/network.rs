//! A host's TCP: a stack of its own, and the memory behind it.

use std::collections::VecDeque;
use std::net::SocketAddr;

use super::channel::{Became, Channel, chunk, memory};
use net::{
    ConnectError, ConnectionId, Event, Instant, PortFull, RxFrame, Stack, Transmit, TxFrame,
};
use pages::{Arena, ClusterPool, CopyLedger, HeapRegion, PAGE_SIZE, Slice};
use testkit::Random;
use tls::TlsPsk;

use crate::appliance::{TCP_PORT, address, stack_config};
use crate::clock::{self, Nanoseconds};
use crate::frame::{self, Frame};
use crate::plan::NetworkPlan;
use crate::wire::Node;

/// Receive clusters, and pages to send from.
const CLUSTERS: usize = 512;
const PAGES: usize = 192;
const CLUSTER_SIZE: usize = 2048;

/// A host's end of its link.
pub(super) struct Network {
    pub(super) received: VecDeque<Frame>,
    stack: Stack,
    clusters: ClusterPool,
    pages: ClusterPool,
    remote: SocketAddr,
    /// What happened to connections, and was not yet taken.
    pub(super) events: VecDeque<Event>,
    sent: Sent,
    /// What connections are encrypted by from now on, and how often they take new keys; none: they are not.
    key: Option<(TlsPsk, u64)>,
    /// Those that are encrypted.
    channels: Vec<(ConnectionId, Channel)>,
    ledger: CopyLedger,
    random: Random,
}

#[derive(Default)]
struct Sent(Vec<Frame>);

impl Transmit for Sent {
    fn transmit(&mut self, frame: TxFrame<'_>) -> Result<(), PortFull> {
        let mut payload = Vec::with_capacity(frame.payload.len());
        for piece in frame.payload.pieces() {
            payload.extend_from_slice(piece.bytes());
        }
        frame::complete(frame.headers, &payload, &frame.offload, |bytes| {
            self.0.push(Frame::new(bytes));
        });
        Ok(())
    }
}

impl Network {
    pub(super) fn new(index: usize, plan: &NetworkPlan, window: usize, secret: u64) -> Self {
        let arena = Arena::new(HeapRegion::new(
            CLUSTERS * CLUSTER_SIZE / PAGE_SIZE + PAGES + 1,
        ));
        let carve = |count, size| ClusterPool::carve(&arena, count, size).expect("there is room");
        let (pages, clusters) = (carve(PAGES, PAGE_SIZE), carve(CLUSTERS, CLUSTER_SIZE));
        let mut config = stack_config(plan, Node::Host(index), secret);
        config.connections_max = 64;
        config.half_open_max = 16;
        config.receive_clusters = CLUSTERS;
        config.window_max_bytes = window;
        config.receive_headroom = 32;
        let frame = (plan.mtu + 18).div_ceil(CLUSTER_SIZE);
        config.cluster_payload = (plan.mtu - 72) / frame;
        Self {
            received: VecDeque::new(),
            stack: Stack::new(config).expect("a stack that is valid"),
            clusters,
            pages,
            remote: SocketAddr::new(address(plan, Node::Appliance(0)), TCP_PORT),
            events: VecDeque::new(),
            sent: Sent::default(),
            key: None,
            channels: Vec::new(),
            ledger: CopyLedger::new(),
            random: Random::new(secret),
        }
    }

    /// Connections are encrypted by that key from now on, which they change now and then, or are not encrypted.
    pub(super) fn set_key(&mut self, key: Option<(TlsPsk, u64)>) {
        self.key = key;
    }

    /// One of the encrypted connections.
    pub(super) fn channel(&mut self, connection: ConnectionId) -> Option<&mut Channel> {
        let mut channels = self.channels.iter_mut();
        let found = channels.find(|(id, _)| *id == connection);
        found.map(|(_, channel)| channel)
    }

    /// Goes on with handshakes: a connection is there when its is done.
    fn pump(&mut self) {
        for (id, channel) in &mut self.channels {
            match channel.pump(*id, &mut self.stack, &self.pages) {
                Became::Same => {}
                Became::Open => self.events.push_back(Event::Connected(*id)),
                Became::Over => self.events.push_back(Event::PeerClosed(*id)),
            }
        }
    }

    fn now() -> Instant {
        Instant(clock::now())
    }

    /// Takes the frames that came, and lets time pass.
    pub(super) fn receive(&mut self) {
        while let Some(frame) = self.received.pop_front() {
            let mut slices: Vec<Slice> = Vec::new();
            for part in frame.bytes.chunks(CLUSTER_SIZE) {
                if let Some(mut fresh) = self.clusters.alloc() {
                    fresh[..part.len()].copy_from_slice(part);
                    slices.push(fresh.freeze_filled(part.len()).slice(0..part.len()));
                }
            }
            let whole = slices.iter().map(Slice::len).sum::<usize>() == frame.bytes.len();
            if !whole {
                continue;
            }
            let unheld = self.clusters.unheld() + slices.len();
            self.stack.set_budget(unheld, self.clusters.len());
            let head = slices.remove(0);
            let frame = RxFrame {
                tail: &slices,
                ..RxFrame::new(head)
            };
            self.stack.receive(Self::now(), frame);
        }
        self.stack
            .set_budget(self.clusters.unheld(), self.clusters.len());
        self.stack.advance(Self::now());
        while let Some(event) = self.stack.poll_event() {
            if let Event::Connected(id) = event
                && let Some(channel) = self.channel(id)
            {
                channel.begin();
                continue;
            }
            self.events.push_back(event);
        }
        self.pump();
    }

    /// It connects to that appliance from now on.
    pub(super) fn aim(&mut self, plan: &NetworkPlan, appliance: usize) {
        self.remote = SocketAddr::new(address(plan, Node::Appliance(appliance)), TCP_PORT);
    }

    pub(super) fn connect(&mut self) -> Result<ConnectionId, ConnectError> {
        let id = self.stack.connect(Self::now(), self.remote, None)?;
        if let Some((key, update_one_in)) = &self.key {
            let channel = Channel::new(key, *update_one_in, self.random.fork());
            self.channels.push((id, channel));
        }
        Ok(id)
    }

    pub(super) fn recv(&mut self, connection: ConnectionId) -> Option<Slice> {
        let mut channels = self.channels.iter_mut();
        let Some((_, channel)) = channels.find(|(id, _)| *id == connection) else {
            return self.stack.recv(connection);
        };
        let memory = memory(&self.pages, &self.ledger);
        match channel.recv(connection, &mut self.stack, memory) {
            Ok(slice) => slice,
            Err(_) => {
                self.events.push_back(Event::PeerClosed(connection));
                None
            }
        }
    }

    /// Queues bytes of `bytes`, as many as there is room for; how many.
    pub(super) fn send(&mut self, connection: ConnectionId, bytes: &[u8]) -> usize {
        let mut channels = self.channels.iter_mut();
        if let Some((_, channel)) = channels.find(|(id, _)| *id == connection) {
            let memory = memory(&self.pages, &self.ledger);
            return channel.send(connection, bytes, &mut self.stack, memory);
        }
        let mut sent = 0;
        while sent < bytes.len() && self.stack.send_room(connection).chunks > 0 {
            let rest = &bytes[sent..];
            let n = rest.len().min(PAGE_SIZE);
            let Some(chunk) = chunk(&rest[..n], &self.pages) else {
                return sent;
            };
            if self.stack.send(connection, chunk).is_err() {
                return sent;
            }
            sent += n;
        }
        sent
    }

    /// Ends a connection: with a FIN behind what is queued, or with a reset.
    pub(super) fn end(&mut self, connection: ConnectionId, graceful: bool) {
        if let Some(at) = (self.channels.iter()).position(|(id, _)| *id == connection) {
            let (_, mut channel) = self.channels.swap_remove(at);
            if graceful {
                let memory = memory(&self.pages, &self.ledger);
                channel.farewell(connection, &mut self.stack, memory);
            }
        }
        match graceful {
            true => self.stack.close(connection),
            false => self.stack.abort(connection),
        }
        self.stack.release(connection);
    }

    pub(super) fn next_deadline(&self) -> Option<Nanoseconds> {
        match self.stack.wants_transmit() {
            true => Some(clock::now()),
            false => self.stack.next_deadline().map(|at| at.0),
        }
    }

    pub(super) fn transmit(&mut self, send: impl FnMut(Frame)) {
        if self.stack.wants_transmit() {
            self.stack.transmit(Self::now(), &mut self.sent);
            self.sent.0.drain(..).for_each(send);
        }
    }
}
