//! What is remembered of connections that have no slot any more, in a table of their own:
//! those in TIME-WAIT (RFC 9293, 3.6.1), for as long as their segments may still be on the
//! way, and those in FIN-WAIT-2 whose application has gone, until the peer says its FIN.

use std::time::Duration;

use collections::{IndexTable, table_index};

use crate::config::TcpConfig;
use crate::tcp::connection::Connection;
use crate::tcp::header::{Outgoing, Segment, flag};
use crate::tcp::key::FlowKey;
use crate::tcp::seq::Seq;
use crate::tcp::state::State;
use crate::tcp::variables::flag as has;
use crate::time::Instant;
use crate::util::list::{Links, List};

table_index! {
    /// What is remembered of one connection.
    pub(crate) struct TimeWaitIndex(u32);
}

/// What is remembered of a connection.
#[derive(Clone, Copy)]
pub(crate) struct Remembered {
    pub(crate) key: FlowKey,
    pub(crate) snd_nxt: Seq,
    rcv_nxt: Seq,
    /// The right edge of the window that the peer was told.
    edge: Seq,
    window: u16,
    /// It is in FIN-WAIT-2.
    awaits_fin: bool,
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
    /// The peer reset it.
    Forget,
    /// Bytes that nobody will read (RFC 9293, 3.6.1): a reset says that they are lost.
    Reset,
}

/// The table. First in, first out in each of the two states, for all wait equally long.
pub(crate) struct TimeWaits {
    entries: IndexTable<TimeWaitIndex, Remembered>,
    links: Links<TimeWaitIndex>,
    /// In TIME-WAIT.
    waiting: List<TimeWaitIndex>,
    /// In FIN-WAIT-2.
    awaiting: List<TimeWaitIndex>,
    free: Vec<TimeWaitIndex>,
    time_wait: Duration,
    fin_wait_2: Duration,
}

impl TimeWaits {
    pub(crate) fn new(max: usize, tcp: &TcpConfig) -> Self {
        let vacant = Remembered {
            key: FlowKey::NONE,
            snd_nxt: Seq(0),
            rcv_nxt: Seq(0),
            edge: Seq(0),
            window: 0,
            awaits_fin: false,
            ts_recent: None,
            ts_offset: 0,
            expires: Instant::ZERO,
        };
        let entries = IndexTable::new(max, |_| vacant);
        Self {
            free: entries.indexes().rev().collect(),
            entries,
            links: Links::new(max),
            waiting: List::EMPTY,
            awaiting: List::EMPTY,
            time_wait: tcp.time_wait,
            fin_wait_2: tcp.fin_wait_2,
        }
    }

    pub(crate) fn get(&self, index: TimeWaitIndex) -> &Remembered {
        &self.entries[index]
    }

    /// Whether another one can be remembered without forgetting one.
    pub(crate) fn has_room(&self) -> bool {
        !self.free.is_empty()
    }

    /// The one that is missed least: whose peer should have closed long ago, or that has
    /// waited longest.
    pub(crate) fn oldest(&self) -> Option<TimeWaitIndex> {
        self.awaiting.front().or(self.waiting.front())
    }

    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        let fronts = [self.awaiting.front(), self.waiting.front()];
        let expires = |index| self.entries[index].expires;
        fronts.into_iter().flatten().map(expires).min()
    }

    /// One whose time is over; call until there is none.
    pub(crate) fn expired(&self, now: Instant) -> Option<TimeWaitIndex> {
        let fronts = [self.awaiting.front(), self.waiting.front()];
        let is_over = |index: &TimeWaitIndex| self.entries[*index].expires <= now;
        fronts.into_iter().flatten().find(is_over)
    }

    /// Remembers a connection in TIME-WAIT or FIN-WAIT-2; the caller has seen to it that
    /// there is room.
    pub(crate) fn remember(
        &mut self,
        connection: &Connection,
        now: Instant,
    ) -> Option<TimeWaitIndex> {
        let index = self.free.pop()?;
        let rcv = &connection.rcv;
        let awaits_fin = connection.state == State::FinWait2;
        self.entries[index] = Remembered {
            key: connection.key,
            snd_nxt: connection.snd.nxt,
            rcv_nxt: rcv.nxt,
            edge: rcv.edge,
            window: (rcv.window() >> rcv.shift).min(0xffff) as u16,
            awaits_fin,
            ts_recent: connection.has(has::TIMESTAMPS).then_some(rcv.ts_recent),
            ts_offset: connection.ts_offset,
            expires: now,
        };
        self.wait(index, now);
        Some(index)
    }

    /// The wait that its state calls for begins.
    fn wait(&mut self, index: TimeWaitIndex, now: Instant) {
        let entry = &mut self.entries[index];
        let (list, span) = if entry.awaits_fin {
            (&mut self.awaiting, self.fin_wait_2)
        } else {
            (&mut self.waiting, self.time_wait)
        };
        entry.expires = now + span;
        self.links.push_back(list, index);
    }

    fn unlink(&mut self, index: TimeWaitIndex) {
        let list = if self.entries[index].awaits_fin {
            &mut self.awaiting
        } else {
            &mut self.waiting
        };
        self.links.remove(list, index);
    }

    pub(crate) fn forget(&mut self, index: TimeWaitIndex) {
        self.unlink(index);
        self.free.push(index);
    }

    pub(crate) fn on_segment(
        &mut self,
        index: TimeWaitIndex,
        segment: &Segment,
        now: Instant,
    ) -> Verdict {
        if self.entries[index].awaits_fin {
            self.on_segment_in_fin_wait_2(index, segment, now)
        } else {
            self.on_segment_in_time_wait(index, segment, now)
        }
    }

    /// RFC 9293, 3.10.7.4 for TIME-WAIT, with RFC 1337: a reset does not end it.
    fn on_segment_in_time_wait(
        &mut self,
        index: TimeWaitIndex,
        segment: &Segment,
        now: Instant,
    ) -> Verdict {
        let entry = &mut self.entries[index];
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
            self.unlink(index);
            self.wait(index, now);
            return Verdict::Acknowledge;
        }
        if segment.seq_len() == 0 && segment.seq == entry.rcv_nxt {
            return Verdict::Ignore;
        }
        Verdict::Acknowledge
    }

    /// RFC 9293, 3.10.7.4 for FIN-WAIT-2, where nobody reads what is received.
    fn on_segment_in_fin_wait_2(
        &mut self,
        index: TimeWaitIndex,
        segment: &Segment,
        now: Instant,
    ) -> Verdict {
        let entry = &mut self.entries[index];
        let nxt = entry.rcv_nxt;
        if segment.has(flag::RST) {
            // RFC 5961, 3.2: only the very next sequence number resets.
            return match segment.seq {
                seq if seq == nxt => Verdict::Forget,
                seq if seq > nxt && seq < entry.edge => Verdict::Acknowledge,
                _ => Verdict::Ignore,
            };
        }
        if let Some(recent) = entry.ts_recent {
            match segment.timestamp {
                // RFC 7323, 3.2 and 5.3 (R1).
                None => return Verdict::Ignore,
                Some((value, _)) if (value.wrapping_sub(recent) as i32) < 0 => {
                    return Verdict::Acknowledge;
                }
                Some((value, _)) if segment.seq <= nxt => entry.ts_recent = Some(value),
                Some(_) => {}
            }
        }
        // RFC 5961, 4.2: a SYN is challenged; whoever has forgotten us answers with a reset.
        if segment.has(flag::SYN) || segment.ack > entry.snd_nxt {
            return Verdict::Acknowledge;
        }
        if !segment.has(flag::ACK) {
            return Verdict::Ignore;
        }
        let end = segment.seq + segment.seq_len();
        if segment.has(flag::FIN) && end == nxt + 1 && segment.seq <= nxt {
            self.unlink(index);
            let entry = &mut self.entries[index];
            entry.rcv_nxt = end;
            entry.edge = entry.edge.max(end);
            entry.awaits_fin = false;
            self.wait(index, now);
            return Verdict::Acknowledge;
        }
        // A byte into a closed window counts too: the window will not open.
        if end > nxt && segment.seq <= entry.edge {
            return Verdict::Reset;
        }
        if segment.seq_len() == 0 && segment.seq == nxt {
            return Verdict::Ignore;
        }
        Verdict::Acknowledge
    }

    /// The ACK that a remembered connection still gives.
    pub(crate) fn acknowledgment(&self, index: TimeWaitIndex, now: Instant) -> Outgoing {
        let entry = &self.entries[index];
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
