//! The receive window: how much the peer may send (RFC 9293, 3.8.6), as far
//! as the budget of clusters goes (row Z12).

use std::time::Duration;

use crate::tcp::connection::Connection;
use crate::tcp::shared::Shared;
use crate::tcp::variables::flag;

/// A round of window growth lasts at least this long.
const ROUND_MIN: Duration = Duration::from_micros(200);

/// Clusters that a window may lack while they are short: the common part of the pool has them.
const LENT: u32 = 16;

/// A peer's initial window (RFC 6928).
const FIRST_SEGMENTS: u32 = 10;

impl Connection {
    /// Clusters that waiting bytes and promises may take together.
    fn target(&self, cx: &Shared) -> u32 {
        // As many as the largest window needs at the yield seen, within reason.
        let most = cx.params.window_max / self.rcv.cluster_yield.max(64);
        self.rcv.target.min(most.max(2))
    }

    /// The window that the target makes at the yield seen.
    #[inline]
    fn whole(&self, cx: &Shared) -> u32 {
        let whole = u64::from(self.rcv.target) * u64::from(self.rcv.cluster_yield);
        whole.min(u64::from(cx.params.window_max)) as u32
    }

    fn first_clusters(&self) -> u32 {
        FIRST_SEGMENTS * u32::from(self.rcv.mss).div_ceil(self.rcv.cluster_yield.max(1))
    }

    /// Clusters that two full segments take.
    fn least_clusters(&self, cx: &Shared) -> u32 {
        2 * u32::from(self.rcv.mss).div_ceil(cx.params.cluster_payload)
    }

    /// What a connection is told while clusters are short: four times what a round
    /// brought lately, so that it need not hear of its window after each, and two full segments.
    fn modest(&self, cx: &Shared) -> u32 {
        (4 * self.rcv.burst).max(self.least_clusters(cx))
    }

    /// How many of `wanted` clusters are set aside then: what two rounds brought; of a
    /// large window all but a few.
    fn reserve(&self, cx: &Shared, wanted: u32) -> u32 {
        let most = (2 * self.rcv.burst).max(self.modest(cx).saturating_sub(LENT));
        wanted.min(most)
    }

    /// Clusters that the window may take now of `most`, if there are so many.
    fn own(&self, most: u32) -> u32 {
        let own = most.saturating_sub(self.rcv.queue.pinned());
        if self.rcv.nxt == self.rcv.irs + 1 {
            // Nothing has come yet: what an initial window fills is enough.
            return own.min(self.first_clusters());
        }
        own
    }

    /// The window that the peer could be told now: clusters to set aside, and bytes from RCV.NXT on.
    fn affordable(&self, cx: &Shared) -> (u32, u32) {
        let (clusters, bytes) = if cx.budget.is_short() {
            self.affordable_when_short(cx)
        } else {
            let clusters = self.own(self.target(cx)).min(self.fair(cx));
            (clusters, clusters * self.rcv.cluster_yield)
        };
        let queue = &self.rcv.queue;
        // Unread bytes count against the largest window.
        let most = cx.params.window_max.saturating_sub(queue.ready_bytes);
        (clusters, (bytes + queue.out_of_order_bytes).min(most))
    }

    /// Of what is left, one connection takes no more than half: others come.
    fn fair(&self, cx: &Shared) -> u32 {
        (cx.budget.free() + self.rcv.grant).div_ceil(2)
    }

    #[cold]
    fn affordable_when_short(&self, cx: &Shared) -> (u32, u32) {
        let most = self.target(cx).min(self.modest(cx));
        let told = self.own(most).min(self.fair(cx));
        let wanted = self.reserve(cx, told);
        let reserved = wanted.min(self.rcv.grant + cx.budget.left());
        let lends = cx.budget.can_lend();
        let backed = if wanted == reserved || lends && wanted - reserved <= LENT {
            told
        } else {
            reserved
        };
        let mut bytes = backed * self.rcv.cluster_yield;
        if lends && self.rcv.queue.ready == 0 {
            // Less than that would keep a peer waiting that has a full segment to send,
            // for whoever sends small ones sends few.
            bytes = bytes.max(2 * u32::from(self.rcv.mss));
        }
        (reserved, bytes)
    }

    /// The least widening worth a word: silly window avoidance (RFC 9293, 3.8.6.2.2).
    fn worthwhile(&self, cx: &Shared) -> u32 {
        let whole = self.whole(cx);
        // What a full segment carries once options are in it, not what the SYN said.
        let segment = u32::from(self.rcv.mss).min(self.snd.mss);
        segment.min(whole / 2)
    }

    /// Whole segments in numbers the header can say.
    fn unit(&self) -> u32 {
        let mss = self.snd.mss.max(1);
        let shift = u32::from(self.rcv.shift);
        mss << (shift - shift.min(mss.trailing_zeros()))
    }

    /// Rounded down to where a full segment ends, in numbers the header can
    /// say: a sender that fills a window to its edge then never cuts a segment
    /// in two there, and pages keep to four segments (row Z8). A window of
    /// less than a segment stays as it is.
    fn whole_segments(&self, bytes: u32) -> u32 {
        let (mss, unit) = (self.snd.mss.max(1), self.unit());
        match bytes {
            _ if bytes >= unit => bytes - bytes % unit,
            _ if bytes >= mss => bytes - bytes % mss,
            _ => bytes,
        }
    }

    /// What of `most` bytes is told: whole segments.
    fn worded(&self, cx: &Shared, most: u32) -> u32 {
        let (whole, told) = (self.whole_segments(most), self.rcv.window());
        if told < self.snd.mss && whole < told + self.worthwhile(cx) {
            // Less than a segment is left, and a whole one is not worth a word when nearly
            // two could be told: the peer would wait for its own probe.
            return most;
        }
        whole
    }

    /// Widens the window as far as it can be, and returns the number for the
    /// header. The right edge never moves back (RFC 9293, 3.8.6: SHLD-14).
    pub(crate) fn advertise(&mut self, cx: &mut Shared) -> u32 {
        let (clusters, most) = self.affordable(cx);
        let told = self.rcv.window();
        let bytes = self.worded(cx, most);
        if bytes >= told + self.worthwhile(cx) {
            cx.budget.adjust(&mut self.rcv.grant, clusters);
            self.rcv.edge = self.rcv.nxt + bytes;
        } else {
            // What is promised is backed at the yield seen now, as far as it can be:
            // small segments need more clusters for the same bytes.
            let short = cx.budget.is_short();
            let mut window = self.kept(told);
            if short && window > bytes || self.backing(window) > 2 * self.target(cx) {
                window = told;
            }
            let mut needed = self.backing(window);
            if short {
                needed = self.reserve(cx, needed);
            }
            cx.budget.adjust(&mut self.rcv.grant, needed);
            let lacks = needed.saturating_sub(self.rcv.grant);
            if lacks == 0 || short && lacks <= LENT && cx.budget.can_lend() {
                self.rcv.edge = self.rcv.nxt + window;
            }
        }
        let window = self.rcv.window();
        if window < 2 * u32::from(self.rcv.mss) && clusters < self.own(self.target(cx)) {
            // The peer may be waiting for it; wider windows widen as data comes.
            self.go_hungry(cx);
        }
        window
    }

    /// Whether the peer cannot send what it has, for want of clusters here: its window has no room for a full segment, so that
    /// it can only probe (RFC 9293, 3.8.6.1); or what it sent within it was dropped, and has not come again.
    pub(crate) fn is_held_up(&self, cx: &Shared) -> bool {
        self.rcv.window() < self.worthwhile(cx) || self.rcv.refused == self.rcv.nxt
    }

    /// Clusters that a window takes at the yield seen now.
    fn backing(&self, window: u32) -> u32 {
        let open = window.saturating_sub(self.rcv.queue.out_of_order_bytes);
        open.div_ceil(self.rcv.cluster_yield.max(1))
    }

    /// The window as the last acknowledgment told it, if it was one of whole
    /// segments. It stays so, though small segments have made clusters yield less,
    /// as long as the reader keeps up: else its edge falls into the middle of one.
    fn kept(&self, told: u32) -> u32 {
        let before = told + self.rcv.nxt.since(self.rcv.last_ack);
        let whole = before.is_multiple_of(self.unit());
        if whole && self.rcv.queue.ready_bytes == 0 {
            before
        } else {
            told
        }
    }

    pub(crate) fn go_hungry(&mut self, cx: &mut Shared) {
        if !cx.hungry_links.is_linked(self.index) {
            cx.hungry_links.push_back(&mut cx.hungry, self.index);
        }
    }

    /// Whether the reader has made so much room that the peer should hear of it at once.
    #[inline]
    pub(crate) fn wants_wider_window(&self, cx: &Shared) -> bool {
        let told = self.rcv.window();
        let whole = self.whole(cx);
        if told > whole / 2 {
            return false;
        }
        let (_, most) = self.affordable(cx);
        let bytes = self.worded(cx, most);
        bytes >= 2 * told && bytes >= told + self.worthwhile(cx)
    }

    /// The first window, for a SYN: what a peer's initial window fills (RFC 6928).
    pub(crate) fn first_window(&mut self, cx: &mut Shared) -> u16 {
        let mut clusters = self.first_clusters();
        if cx.budget.is_short() {
            clusters = clusters.min(self.least_clusters(cx));
        }
        let clusters = clusters.min(cx.budget.free().div_ceil(8));
        cx.budget.adjust(&mut self.rcv.grant, clusters);
        let bytes = (clusters * self.rcv.cluster_yield).min(0xffff);
        let bytes = bytes.min(cx.params.window_max);
        let told = self.rcv.window();
        if bytes > told {
            self.rcv.edge = self.rcv.nxt + bytes;
        }
        if clusters == 0 {
            self.go_hungry(cx);
        }
        self.rcv.window().min(0xffff) as u16
    }

    /// `bytes` of payload came in `clusters` clusters.
    #[inline]
    pub(crate) fn note_yield(&mut self, bytes: u32, clusters: u32) {
        let seen = if clusters == 1 {
            bytes
        } else {
            bytes / clusters
        };
        self.rcv.cluster_yield = ((7 * self.rcv.cluster_yield + seen) / 8).max(1);
    }

    /// Lets the window grow with what the peer makes of it: a connection that
    /// fills half of its window in a round trip is given twice the clusters.
    #[inline]
    pub(crate) fn grow_window(&mut self, cx: &Shared, bytes: u32) {
        self.rcv.round_bytes = self.rcv.round_bytes.saturating_add(bytes);
        if cx.now >= self.rcv.round_ends {
            self.end_round(cx);
        }
    }

    fn end_round(&mut self, cx: &Shared) {
        let whole = self.whole(cx);
        let (burst, came) = (self.rcv.burst, self.rcv.round_bytes);
        let came = came.div_ceil(self.rcv.cluster_yield.max(1));
        self.rcv.burst = came.max(burst - burst.div_ceil(4));
        if self.rcv.round_bytes >= whole / 2 && whole < cx.params.window_max {
            self.rcv.target = self.rcv.target.saturating_mul(2).min(1 << 20);
        }
        self.begin_round(cx);
    }

    /// A round of window growth begins: as long as a round trip.
    pub(crate) fn begin_round(&mut self, cx: &Shared) {
        let round = match self.rtt.smoothed() {
            Some(rtt) => Duration::from_nanos(rtt).max(ROUND_MIN),
            None => Duration::from_millis(10),
        };
        self.rcv.round_bytes = 0;
        self.rcv.round_ends = cx.now + round;
    }

    /// Pays for a segment's clusters. Whether the budget has them.
    #[inline]
    pub(crate) fn pay(&mut self, cx: &mut Shared, clusters: u32) -> bool {
        if clusters > self.rcv.grant && cx.budget.is_short() {
            // Beyond its own, one connection takes no more than half: a peer that sends
            // one-byte segments to a reader that does not read is not alone.
            let pinned = self.rcv.queue.pinned();
            if pinned + clusters > (cx.budget.free() + self.rcv.grant + pinned).div_ceil(2) {
                return false;
            }
        }
        cx.budget.spend(&mut self.rcv.grant, clusters)
    }

    /// Pays for a segment out of what is set aside for frames on their way, if the application wants the peer heard in any case
    /// and has read all that came before.
    pub(crate) fn pay_in_need(&mut self, cx: &mut Shared, clusters: u32) -> bool {
        self.has(flag::HEARD) && self.rcv.queue.pinned() == 0 && cx.budget.spend_headroom(clusters)
    }

    /// Makes room for bytes in order by giving up bytes out of order: without
    /// the former the latter are of no use to anybody.
    pub(crate) fn renege_for(&mut self, cx: &mut Shared, clusters: u32) -> bool {
        let waiting = self.rcv.queue.out_of_order;
        if waiting == 0 {
            return false;
        }
        let keep = waiting.saturating_sub(clusters);
        let (freed, end) = self.rcv.queue.renege(&mut cx.slices, keep);
        cx.counters.tcp_reneged += u64::from(freed);
        cx.budget.refund(freed);
        match end {
            Some(end) => self.rcv.sacks.cut(end),
            None => self.rcv.sacks.clear(),
        }
        self.set(flag::ACK_NOW);
        freed >= clusters && self.pay(cx, clusters)
    }
}
