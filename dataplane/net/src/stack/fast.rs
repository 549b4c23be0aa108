//! The short way in. Segments come in trains: the next one is nearly always of
//! the connection that the last one was for, with headers of the same shape.
//! Those are recognised by comparing a few words; everything else, and
//! everything doubtful, goes the long way.

use crate::frame::{RxFrame, Verdict};
use crate::link::ecn;
use crate::stack::Stack;
use crate::tcp::{Body, Reply, Segment, has};
use crate::util::list::NONE;

/// Ethernet and IPv4 without options.
const IP_AT: usize = 14;
const TCP_AT: usize = IP_AT + 20;
const TCP: u8 = 6;

impl Stack {
    /// Takes the frame if it is the next of its train; gives it back otherwise.
    #[inline]
    pub(super) fn receive_plain<'a>(&mut self, frame: RxFrame<'a>) -> Option<RxFrame<'a>> {
        let vouched = frame.ip_checksum == Verdict::Good && frame.l4_checksum == Verdict::Good;
        if !vouched || !frame.tail.is_empty() || frame.vlan.is_some() {
            return Some(frame);
        }
        let bytes = frame.head.bytes();
        let Some(header) = bytes.first_chunk::<{ TCP_AT + 20 }>() else {
            return Some(frame);
        };
        let total_len = u16::from_be_bytes([header[16], header[17]]) as usize;
        let fragment = u16::from_be_bytes([header[20], header[21]]) & 0x3fff;
        let same = header[26..38] == self.train
            && header[..6] == self.interface.mac.0
            && header[12..15] == [0x08, 0x00, 0x45]
            && header[23] == TCP
            && fragment == 0
            && total_len >= TCP_AT - IP_AT
            && IP_AT + total_len <= bytes.len();
        let index = self.last_found;
        let connection = &mut self.connections[index as usize];
        let known = connection.neighbor != NONE && !connection.has(has::UNHOOKED);
        if !same || !known || self.tap.is_some() || self.interface.vlan.is_some() {
            return Some(frame);
        }
        let l4_len = total_len - (TCP_AT - IP_AT);
        let Some(mut segment) = Segment::parse_plain(&bytes[TCP_AT..IP_AT + total_len], l4_len)
        else {
            return Some(frame);
        };
        segment.ce = header[15] & 3 == ecn::CE;
        if !connection.is_predicted(&segment) {
            return Some(frame);
        }
        self.cx.counters.rx_frames += 1;
        self.cx.counters.rx_bytes += bytes.len() as u64;
        let una = connection.snd.una;
        let from = TCP_AT + segment.header_len;
        let mut body = Body::new(frame.head, from, &[], segment.len as usize);
        let reply = connection.on_predicted(&mut self.cx, &segment, &mut body);
        debug_assert_eq!(reply, Reply::Nothing);
        if connection.snd.una != una {
            self.neighbors.confirm(connection.neighbor, self.cx.now);
        }
        self.settle(index);
        None
    }
}
