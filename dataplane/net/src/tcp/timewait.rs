//! TIME-WAIT (RFC 9293, 3.6.1): connections that are over, remembered in a
//! table of their own for as long as their segments may still be on the way.

use std::time::Duration;

use crate::tcp::connection::Connection;
use crate::tcp::header::{Outgoing, Segment, flag};
use crate::tcp::key::FlowKey;
use crate::tcp::seq::Seq;
use crate::tcp::variables::flag as has;
use crate::time::Instant;
use crate::util::list::{Links, List};

/// What is remembered of a connection.
#[derive(Clone, Copy)]
pub(crate) struct Remembered {
    pub(crate) key: FlowKey,
    pub(crate) snd_nxt: Seq,
    rcv_nxt: Seq,
    window: u16,
    ts_recent: Option<u32>,
    ts_offset: u32,
    expires: Instant,
}

/// What a segment for a remembered connection calls for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Ignore,
    Acknowledge,
    /// A new connection may take its place (RFC 6191; RFC 1122, 4.2.2.13).
    Reuse,
}

/// The table: first in, first out, for all wait equally long.
pub(crate) struct TimeWaits {
    entries: Box<[Remembered]>,
    links: Links,
    waiting: List,
    free: Vec<u32>,
    span: Duration,
}

impl TimeWaits {
    pub(crate) fn new(max: usize, span: Duration) -> Self {
        let vacant = Remembered {
            key: FlowKey::NONE,
            snd_nxt: Seq(0),
            rcv_nxt: Seq(0),
            window: 0,
            ts_recent: None,
            ts_offset: 0,
            expires: Instant::ZERO,
        };
        Self {
            entries: vec![vacant; max].into_boxed_slice(),
            links: Links::new(max),
            waiting: List::EMPTY,
            free: (0..max as u32).rev().collect(),
            span,
        }
    }

    pub(crate) fn get(&self, index: u32) -> &Remembered {
        &self.entries[index as usize]
    }

    /// Whether another one can be remembered without forgetting one.
    pub(crate) fn has_room(&self) -> bool {
        !self.free.is_empty()
    }

    /// The one that has waited longest.
    pub(crate) fn oldest(&self) -> Option<u32> {
        self.waiting.front()
    }

    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        Some(self.entries[self.waiting.front()? as usize].expires)
    }

    /// One whose time is over; call until there is none.
    pub(crate) fn expired(&self, now: Instant) -> Option<u32> {
        let oldest = self.waiting.front()?;
        (self.entries[oldest as usize].expires <= now).then_some(oldest)
    }

    /// Remembers a connection; the caller has seen to it that there is room.
    pub(crate) fn remember(&mut self, connection: &Connection, now: Instant) -> Option<u32> {
        let index = self.free.pop()?;
        let rcv = &connection.rcv;
        self.entries[index as usize] = Remembered {
            key: connection.key,
            snd_nxt: connection.snd.nxt,
            rcv_nxt: rcv.nxt,
            window: (rcv.window() >> rcv.shift).min(0xffff) as u16,
            ts_recent: connection.has(has::TIMESTAMPS).then_some(rcv.ts_recent),
            ts_offset: connection.ts_offset,
            expires: now + self.span,
        };
        self.links.push_back(&mut self.waiting, index);
        Some(index)
    }

    pub(crate) fn forget(&mut self, index: u32) {
        self.links.remove(&mut self.waiting, index);
        self.free.push(index);
    }

    /// RFC 9293, 3.10.7.4 for TIME-WAIT, with RFC 1337: a reset does not end it.
    pub(crate) fn on_segment(&mut self, index: u32, segment: &Segment, now: Instant) -> Verdict {
        let entry = &mut self.entries[index as usize];
        if segment.has(flag::RST) {
            return Verdict::Ignore;
        }
        if segment.has(flag::SYN) && !segment.has(flag::ACK) {
            // RFC 6191, section 2: newer by its timestamp, or by its sequence number.
            let newer = match (segment.timestamp, entry.ts_recent) {
                (Some((value, _)), Some(recent)) => value.wrapping_sub(recent) as i32 > 0,
                _ => segment.seq > entry.rcv_nxt,
            };
            return if newer {
                Verdict::Reuse
            } else {
                Verdict::Acknowledge
            };
        }
        if segment.has(flag::FIN) && segment.seq + segment.seq_len() == entry.rcv_nxt {
            // Its FIN again: our last ACK was lost. The wait starts anew.
            entry.expires = now + self.span;
            self.links.remove(&mut self.waiting, index);
            self.links.push_back(&mut self.waiting, index);
            return Verdict::Acknowledge;
        }
        if segment.seq_len() == 0 && segment.seq == entry.rcv_nxt {
            return Verdict::Ignore;
        }
        Verdict::Acknowledge
    }

    /// The ACK that a remembered connection still gives.
    pub(crate) fn acknowledgment(&self, index: u32, now: Instant) -> Outgoing {
        let entry = &self.entries[index as usize];
        let key = &entry.key;
        let mut header = Outgoing::new(
            key.local_port(),
            key.remote_port(),
            entry.snd_nxt,
            flag::ACK,
        );
        header.ack = entry.rcv_nxt;
        header.window = entry.window;
        header.timestamp = entry.ts_recent.map(|recent| {
            let clock = (now.as_millis() as u32).wrapping_add(entry.ts_offset);
            (clock, recent)
        });
        header
    }
}
