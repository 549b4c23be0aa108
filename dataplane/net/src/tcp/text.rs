//! The text of segments, and the FIN after it (RFC 9293, section 3.10.7.4,
//! seventh and eighth): in order to the reader, out of order to wait.

use std::time::Duration;

use crate::event::CloseReason;
use crate::tcp::body::Body;
use crate::tcp::connection::Connection;
use crate::tcp::header::Segment;
use crate::tcp::seq::Seq;
use crate::tcp::shared::{NEVER, Shared};
use crate::tcp::slices::Inserted;
use crate::tcp::state::{Input, State};
use crate::tcp::variables::{event, flag as has};

impl Connection {
    /// The text of a segment that overlaps the window: what of it is new is taken.
    pub(crate) fn take_text(&mut self, cx: &mut Shared, segment: &Segment, body: &mut Body<'_>) {
        if !self.state.can_receive() {
            // RFC 9293, 3.10.7.4: after the peer's FIN there can be none.
            return;
        }
        let mut seq = segment.seq;
        if seq < self.rcv.nxt {
            let known = self.rcv.nxt.since(seq);
            let known = known.min(body.len() as u32);
            events::dropped!(cx.counters, tcp_duplicates_received);
            self.note_duplicate(seq, known);
            body.trim_front(known as usize);
            seq += known;
            self.ack_now(cx);
        }
        let room = self.rcv.edge.since(seq);
        if body.len() as u32 > room {
            body.truncate(room as usize);
            self.ack_now(cx);
        }
        if body.len() == 0 {
            return;
        }
        if self.has(has::ORPHAN) {
            // RFC 9293, 3.6.1 and 3.10.7.4 (and RFC 1122, 4.2.2.13): nobody will read it. A
            // peer that has not got all of ours yet is reset when it has, lest it lose that.
            events::dropped!(cx.counters, tcp_data_after_close);
            if self.state == State::FinWait2 {
                self.abort(cx, CloseReason::Aborted);
            }
            return;
        }
        if seq == self.rcv.nxt {
            self.take_in_order(cx, segment, body);
        } else {
            self.take_out_of_order(cx, seq, body);
        }
    }

    /// The next bytes in order.
    pub(crate) fn take_in_order(
        &mut self,
        cx: &mut Shared,
        segment: &Segment,
        body: &mut Body<'_>,
    ) {
        let len = body.len() as u32;
        let clusters = body.clusters();
        let room = cx.slices.free_count() >= clusters as usize;
        let pays = |connection: &mut Self, cx: &mut Shared| {
            connection.pay(cx, clusters)
                || connection.renege_for(cx, clusters)
                || connection.pay_in_need(cx, clusters)
        };
        if !room || !pays(self, cx) {
            events::dropped!(cx.counters, tcp_budget_dropped);
            self.rcv.refused = self.rcv.nxt;
            self.go_hungry(cx);
            self.ack_now(cx);
            return;
        }
        while let Some(slice) = body.next() {
            let seq = self.rcv.nxt;
            self.rcv.nxt += slice.len() as u32;
            self.rcv.queue.push(&mut cx.slices, slice, seq);
        }
        self.note_yield(len, clusters);
        self.grow_window(cx, len);
        let waited = self.rcv.queue.out_of_order > 0;
        if waited {
            let (nxt, freed) = self.rcv.queue.advance(&mut cx.slices, self.rcv.nxt);
            self.rcv.nxt = nxt;
            cx.budget.refund(freed);
            self.rcv.sacks.advance(nxt);
        }
        self.publish(cx, event::READABLE);
        self.schedule_ack(cx, segment, waited);
    }

    /// RFC 9293, 3.8.6.3 and RFC 5681, 4.2: an ACK at once for every second full
    /// segment and while a hole is being filled, soon for anything else.
    #[inline]
    fn schedule_ack(&mut self, cx: &mut Shared, segment: &Segment, waited: bool) {
        if self.owes_ack(segment.len, waited) {
            if waited {
                self.ack_now(cx);
            } else {
                self.ack_soon(cx);
            }
        } else if self.timers.ack_at == NEVER {
            self.timers.ack_at = cx.now + Duration::from_nanos(cx.params.ack_delay);
        }
    }

    /// Counts a segment of `len` bytes. Whether it is to be acknowledged at once.
    #[inline]
    pub(crate) fn owes_ack(&mut self, len: u32, waited: bool) -> bool {
        let rcv = &mut self.rcv;
        rcv.segment = rcv.segment.max(len.min(0xffff) as u16);
        rcv.unacked += len;
        let full = u32::from(rcv.segment.min(rcv.mss));
        let at_once = waited || rcv.unacked >= 2 * full || rcv.quick > 0;
        rcv.quick = rcv.quick.saturating_sub(u8::from(at_once));
        at_once
    }

    /// Bytes beyond the next: they wait in their clusters (row Z6).
    fn take_out_of_order(&mut self, cx: &mut Shared, from: Seq, body: &mut Body<'_>) {
        // RFC 5681, 4.2: an immediate ACK tells the sender of the hole.
        self.ack_now(cx);
        let clusters = body.clusters();
        let room = cx.slices.free_count() > clusters as usize;
        // The last clusters of a grant are for the bytes that fill the hole.
        let affordable = self.rcv.grant > clusters || cx.budget.free() > clusters;
        if !room || !affordable || !self.pay(cx, clusters) {
            events::dropped!(cx.counters, tcp_budget_dropped);
            return;
        }
        cx.counters.tcp_out_of_order += 1;
        self.note_yield(body.len() as u32, clusters);
        let mut seq = from;
        while let Some(slice) = body.next() {
            let len = slice.len() as u32;
            match self.rcv.queue.insert(&mut cx.slices, slice, seq) {
                Inserted::Waits { freed } => cx.budget.refund(freed),
                Inserted::Duplicate => {
                    events::dropped!(cx.counters, tcp_duplicates_received);
                    cx.budget.refund(1);
                    if self.has(has::SACK) {
                        self.rcv.sacks.duplicate(seq, seq + len);
                    }
                }
                Inserted::NoRoom => cx.budget.refund(1),
            }
            seq += len;
        }
        if self.has(has::SACK) {
            self.rcv.sacks.add(from, seq);
        }
    }

    /// The peer's FIN is next in order (RFC 9293, 3.10.7.4, eighth).
    pub(crate) fn take_fin(&mut self, cx: &mut Shared) {
        if self.has(has::PEER_CLOSED) {
            return;
        }
        self.set(has::PEER_CLOSED);
        self.rcv.nxt += 1;
        self.rcv.edge = self.rcv.edge.max(self.rcv.nxt);
        cx.budget.adjust(&mut self.rcv.grant, 0);
        self.step(Input::Fin);
        self.publish(cx, event::PEER_CLOSED);
        self.ack_now(cx);
    }
}
