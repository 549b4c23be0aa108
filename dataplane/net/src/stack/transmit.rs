//! A frame's way out.

use collections::TableIndex;

use crate::event::ConnectionIndex;
use crate::frame::{PortFull, Transmit, TxFrame};
use crate::link::neighbor::{NeighborIndex, Way};
use crate::pcap::{Direction, Tap};
use crate::stack::Stack;
use crate::tcp::{NEVER, Turn, has};
use crate::time::Instant;

impl Stack {
    /// Sends what is due until nothing is left or the port is full; returns the number of frames.
    pub fn transmit(&mut self, now: Instant, port: &mut impl Transmit) -> usize {
        self.begin(now);
        let before = self.cx.counters.tx_frames;
        // Out of the stack while it is in use: the tapped port borrows it.
        let mut tap = self.tap.take();
        let full = match &mut tap {
            None => self.transmit_all(port),
            Some(tap) => self.transmit_all(&mut Tapped { port, tap, now }),
        };
        self.tap = tap;
        if full.is_err() {
            self.cx.counters.tx_port_full += 1;
        }
        (self.cx.counters.tx_frames - before) as usize
    }

    fn transmit_all(&mut self, port: &mut impl Transmit) -> Result<(), PortFull> {
        self.transmit_control(port)?;
        // Each connection that is ready now has its turns; what becomes ready
        // meanwhile waits its turn at the end of the line.
        while let Some(index) = self.cx.transmit_links.pop_front(&mut self.cx.ready) {
            if !self.find_way(index) {
                continue;
            }
            let connection = &mut self.connections[index];
            let turn = connection.output(&mut self.cx, port);
            match turn {
                Ok(Turn::Done) => {}
                Ok(Turn::More) => self.cx.wake(index),
                Ok(Turn::Gone) => {
                    let reason = connection.reason;
                    connection.finish(&mut self.cx, reason);
                }
                Err(full) => {
                    if !self.cx.transmit_links.is_linked(index) {
                        let ready = &mut self.cx.ready;
                        self.cx.transmit_links.push_front(ready, index);
                    }
                    self.settle(index);
                    return Err(full);
                }
            }
            self.settle(index);
        }
        // What the connections asked for: neighbours.
        self.transmit_control(port)
    }

    fn transmit_control(&mut self, port: &mut impl Transmit) -> Result<(), PortFull> {
        let counters = &mut self.cx.counters;
        self.control.transmit(port, |frame| {
            counters.tx_frames += 1;
            counters.tx_bytes += frame.len() as u64;
        })
    }

    /// Sees to it that the connection's headers name the neighbour's Ethernet
    /// address, or parks it until that is known.
    #[inline]
    fn find_way(&mut self, index: ConnectionIndex) -> bool {
        let connection = &mut self.connections[index];
        if connection.neighbor == NeighborIndex::NONE {
            return true;
        }
        let way = self.neighbors.resolve(connection.neighbor, self.cx.now);
        match way {
            Way::Known(mac) => {
                connection.headers.set_destination(mac);
                true
            }
            Way::Ask(_) | Way::Wait => {
                connection.set(has::PARKED);
                let waiting = self.neighbors.waiting(connection.neighbor);
                self.cx.transmit_links.push_back(waiting, index);
                if connection.timers.alarm_at == NEVER {
                    // A neighbour that never answers counts like a peer that does not.
                    connection.await_neighbor(&self.cx);
                    self.settle(index);
                }
                if let Way::Ask(address) = way {
                    self.solicit(address, None);
                }
                false
            }
        }
    }
}

/// A port that shows every frame it takes to a tap.
struct Tapped<'a, P> {
    port: &'a mut P,
    tap: &'a mut Box<dyn Tap>,
    now: Instant,
}

impl<P: Transmit> Transmit for Tapped<'_, P> {
    fn transmit(&mut self, frame: TxFrame<'_>) -> Result<(), PortFull> {
        let TxFrame {
            headers,
            payload,
            offload,
        } = frame;
        let again = payload.clone();
        self.port.transmit(TxFrame {
            headers,
            payload,
            offload,
        })?;
        let mut pieces = again.pieces().map(|piece| piece.bytes());
        self.tap
            .frame(self.now, Direction::Sent, headers, &mut pieces);
        Ok(())
    }
}
