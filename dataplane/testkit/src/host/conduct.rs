//! Hosts that do not do as they should.

use crate::pdu::{DDGST, HDGST};

use super::Host;

/// How a host behaves; as it should, by default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Conduct {
    /// Sends nothing.
    pub stalled: bool,
    /// Reads nothing: [`Host::is_reading`] says so to who holds the stream.
    pub deaf: bool,
    /// Sends no more than so many bytes at once.
    pub trickle: Option<usize>,
    /// Sends more commands than the submission queue has entries for.
    pub overrun: bool,
    /// Serves no PDU but ICResp by itself: [`Host::next_pdu`] gives them all, and
    /// [`Host::serve`] serves one.
    pub manual: bool,
}

/// Something wrong with one PDU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// A header digest that is wrong. Waits for a PDU that has one.
    HeaderDigest,
    /// A data digest that is wrong. Waits for a PDU that has one.
    DataDigest,
    /// These bits of the byte at `at` are inverted; of the last byte, if it is shorter.
    Flip {
        /// Which byte of the PDU.
        at: usize,
        /// Which of its bits.
        bits: u8,
    },
    /// Only so many bytes of the PDU are sent, and nothing after it: the host stalls.
    Cut(usize),
}

impl Host {
    /// Puts the next fault into the PDU that begins at `start`.
    pub(super) fn spoil(&mut self, start: usize) {
        if self.is_cut {
            self.outgoing.truncate(start);
            return;
        }
        let Some(&fault) = self.faults.front() else {
            return;
        };
        let pdu = &mut self.outgoing[start..];
        let (flags, hlen) = (pdu[1], usize::from(pdu[2]));
        match fault {
            // The first PDU, an ICReq, has no digests whatever its flags are.
            Fault::HeaderDigest if flags & HDGST != 0 => pdu[hlen] ^= 1,
            Fault::DataDigest if flags & DDGST != 0 => {
                let last = pdu.len() - 1;
                pdu[last] ^= 0x80;
            }
            Fault::Flip { at, bits } => {
                let at = at.min(pdu.len() - 1);
                pdu[at] ^= bits;
            }
            Fault::Cut(len) => {
                let end = start + len.min(pdu.len());
                self.outgoing.truncate(end);
                self.is_cut = true;
            }
            Fault::HeaderDigest | Fault::DataDigest => return,
        }
        self.faults.pop_front();
    }
}
