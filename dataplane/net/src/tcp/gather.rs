//! What waits a little: output for more of it, and acknowledgments for data that carries them.
//!
//! A peer that has left several segments unacknowledged has enough to do, and what fills no segment of its own is one more frame, one
//! more interrupt and one more turn for it, which make it slower yet. So such output waits for more, as NICs moderate
//! interrupts, and not as Nagle's algorithm does (RFC 9293, 3.7.4), whose wait has no bound but the peer's.

use std::time::Duration;

use mutant::mutant;

use crate::tcp::connection::Connection;
use crate::tcp::loss::Phase;
use crate::tcp::shared::{NEVER, Shared};
use crate::tcp::variables::flag as has;

/// Segments that a peer has not acknowledged when it is behind. One that keeps up has fewer: nothing waits for it.
const BEHIND: u32 = 4;
/// Of the time for which segments wait on their way and at the peer, output waits this part more.
const PART: u64 = 4;
/// A wait that is shorter is not worth a timer.
const LEAST_NS: u64 = 2_000;
/// Bytes that leave at once where the port cuts segments: fewer gain something from more in the same frame.
const ENOUGH: u32 = 16 << 10;
/// Full segments that an acknowledgment which waits for an answer is of, at most: a peer that begins has sent no more (RFC 6928).
const UNANSWERED: u32 = 8;

impl Connection {
    /// Whether the last `len` bytes of the queue wait for more. A wait has its end from its beginning on.
    #[inline]
    pub(crate) fn gathers(&mut self, cx: &mut Shared, len: u32) -> bool {
        if self.snd.flight.count < BEHIND && !mutant!("gathered-kept") {
            return false;
        }
        self.is_behind(cx, len)
    }

    fn is_behind(&mut self, cx: &mut Shared, len: u32) -> bool {
        /// What has waited for long enough; what nothing can follow; what is sent to learn something; what keeps the application waiting.
        const AT_ONCE: u32 =
            has::GATHERED | has::FIN_QUEUED | has::OVERRIDE | has::SEND_TAIL | has::WANTS_ROOM;
        let enough = match cx.params.offload.tso_max_bytes {
            0 => self.snd.mss,
            _ => self.snd.mss.max(ENOUGH),
        };
        if len >= enough || self.has(AT_ONCE) || self.recovery.phase != Phase::Open {
            return false;
        }
        if self.timers.gather_at == NEVER {
            let wait = (self.rtt.queueing() / PART).min(cx.params.gather_max);
            if wait < LEAST_NS {
                return false;
            }
            self.timers.gather_at = cx.now + Duration::from_nanos(wait);
            cx.counters.tcp_gathered += 1;
        }
        true
    }

    /// What was gathered has waited for as long as it may.
    pub(crate) fn on_gathered(&mut self, cx: &mut Shared) {
        if !mutant!("gathered-kept") {
            self.set(has::GATHERED);
        }
        cx.wake(self.index);
    }

    /// Whether the acknowledgment that is due waits: data is being gathered, which carries it, or the application is about to
    /// answer. What tells of a hole, a window or a FIN does not wait (RFC 5681, 4.2).
    #[inline]
    pub(crate) fn ack_waits(&mut self, cx: &Shared) -> bool {
        if self.has(has::ACK_NOW) {
            return false;
        }
        if self.timers.gather_at != NEVER {
            return true;
        }
        let few = self.rcv.unacked < UNANSWERED * self.snd.mss;
        if !few || !self.has(has::ANSWERS) || cx.params.gather_max == 0 {
            return false;
        }
        let by = cx.now + Duration::from_nanos(cx.params.gather_max);
        self.timers.ack_at = self.timers.ack_at.min(by);
        true
    }
}
