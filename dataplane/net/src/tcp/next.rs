//! The next segment of a train that brings bytes and nothing else: what storage
//! peers send most. All of SEGMENT ARRIVES (RFC 9293, 3.10.7.4) that matters for
//! it, and no more; `input`, `ack` and `text` have the whole.

use std::time::Duration;

use pages::Slice;

use crate::tcp::connection::Connection;
use crate::tcp::seq::Seq;
use crate::tcp::shared::{NEVER, Shared};
use crate::tcp::state::State;
use crate::tcp::variables::{event, flag as has};

/// A header with a timestamp for its only option.
type Header = [u8; 32];

/// Two NOPs and a timestamp's kind and length (RFC 7323, appendix A).
const TIMESTAMP: u32 = 0x0101_080a;
/// PSH, in the fourth word: it changes nothing.
const PSH: u32 = 0x0008_0000;

#[inline(always)]
fn word(header: &Header, at: usize) -> u32 {
    u32::from_be_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]])
}

impl Connection {
    /// Header prediction (Van Jacobson, 1990): whether a segment brings the next
    /// `len` bytes in order and tells nothing that the last one did not.
    #[inline(always)]
    pub(crate) fn is_next(&self, cx: &Shared, header: &Header, len: u32) -> bool {
        let (snd, rcv) = (&self.snd, &self.rcv);
        word(header, 4) == rcv.nxt.0
            && word(header, 8) == snd.una.0
            && word(header, 12) & !PSH == snd.word
            && word(header, 20) == TIMESTAMP
            && word(header, 24).wrapping_sub(rcv.ts_recent) as i32 >= 0
            && self.flags & has::UNUSUAL == has::TIMESTAMPS
            && self.state == State::Established
            // At least a byte, and at most the window.
            && len.wrapping_sub(1) < rcv.window()
            && rcv.queue.out_of_order == 0
            && rcv.grant > 0
            && cx.slices.free_count() > 0
    }

    /// Takes such a segment: `len` bytes of `slice` from `from` on are its text, and
    /// its header is before them.
    #[inline(always)]
    pub(crate) fn take_next(&mut self, cx: &mut Shared, slice: Slice, from: usize, len: u32) {
        cx.counters.tcp_segments_received += 1;
        cx.counters.tcp_predicted += 1;
        self.heard_at = cx.now;
        self.snd.keepalives = 0;
        let rcv = &mut self.rcv;
        let seq = rcv.nxt;
        // RFC 7323, 4.3 (2): only what begins where the last acknowledgment ended.
        if rcv.last_ack == seq
            && let Some(value) = slice.bytes().get(from - 8..).and_then(<[u8]>::first_chunk)
        {
            rcv.ts_recent = u32::from_be_bytes(*value);
            rcv.ts_recent_at = cx.now;
        }
        (self.snd.wl1, self.snd.wl2) = (seq, self.snd.una);
        rcv.nxt = Seq(seq.0.wrapping_add(len));
        cx.budget.spend_one(&mut rcv.grant);
        let mut text = slice;
        text.advance(from);
        text.truncate(len as usize);
        rcv.queue.push(&mut cx.slices, text, seq);
        self.note_yield(len, 1);
        self.grow_window(cx, len);
        self.publish(cx, event::READABLE);
        if self.owes_ack(len, false) {
            self.ack_soon(cx);
        } else if self.timers.ack_at == NEVER {
            self.timers.ack_at = cx.now + Duration::from_nanos(cx.params.ack_delay);
            cx.arm(self.index, self.timers.ack_at);
        }
    }
}
