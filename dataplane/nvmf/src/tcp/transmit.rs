//! What goes to the host: PDU headers by value, data by reference.

use pages::{Chunk, Inline};

use super::Session;
use super::debt::Debt;
use super::pdu::{
    C2hData, CapsuleResp, DIGEST_LEN, FatalError, Format, HeaderBytes, IcResp, TermReq,
};
use super::r2t::R2ts;
use crate::bytes::crc32c;
use crate::config::TargetConfig;
use crate::queue::slots::{Fifo, Slot, SlotIndex, SlotState, Slots};
use crate::queue::{End, Transport};
use crate::resources::Resources;
use crate::status::Status;
use crate::units::Cid;
use crate::work::Work;

/// Where a session sends: the connection's TCP send queue.
pub trait Wire {
    /// Takes the next bytes of the stream.
    ///
    /// # Errors
    /// Gives the chunk back if there is no room now; [`Session::transmit`] is
    /// to be called again when there is.
    fn send(&mut self, chunk: Chunk) -> Result<(), Chunk>;

    /// Bytes that it has taken so far.
    fn taken(&self) -> u64;
}

/// What is to be sent, and how far it is.
#[derive(Debug)]
pub(super) struct Transmitter {
    format: Format,
    /// Whether the SUCCESS flag of data may stand for a response.
    success_flag: bool,
    /// R2Ts are sent from here; what they request comes to the receiver.
    pub r2ts: R2ts,
    /// ICResp or a terminate request.
    control: Option<Control>,
    /// The PDU under way.
    current: Option<Current>,
    /// Commands with an R2T, data or a response to send.
    outgoing: Fifo,
    /// Responses to commands that never got a slot.
    refused: [(Cid, Status); REFUSALS],
    refusals: usize,
    /// What the host has not acknowledged of what was sent.
    pub debt: Debt,
}

/// Refusals that can wait to be sent; with more of them the stream is blocked.
const REFUSALS: usize = 4;

#[derive(Clone, Copy)]
struct Control {
    bytes: HeaderBytes,
    sent: usize,
}

impl std::fmt::Debug for Control {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}+{}", self.bytes.bytes()[0], self.sent)
    }
}

/// A C2HData PDU, from its header to what stands behind the data.
#[derive(Clone, Copy, Debug)]
struct Current {
    index: SlotIndex,
    part: Part,
    /// CRC32C of the data so far, if digests are used.
    crc: u32,
}

#[derive(Clone, Copy, Debug)]
enum Part {
    /// The header, of which `sent` bytes are out.
    Header { sent: usize },
    /// The data; the slot knows how much is out.
    Data,
    /// Data digest and response capsule.
    Trailer,
}

impl Transmitter {
    /// The sending side of a connection that is not initialized.
    pub fn new(config: &TargetConfig) -> Self {
        Self {
            format: Format::default(),
            success_flag: config.success_flag,
            r2ts: R2ts::new(config.max_h2c_bytes),
            control: None,
            current: None,
            outgoing: Fifo::EMPTY,
            refused: [(Cid(0), Status::SUCCESS); REFUSALS],
            refusals: 0,
            debt: Debt::NONE,
        }
    }

    /// The connection is initialized: what follows `response` is in `format`.
    pub fn initialize(&mut self, response: &IcResp, format: Format) {
        let bytes = response.write();
        self.format = format;
        self.control = Some(Control { bytes, sent: 0 });
    }

    /// The connection is to be terminated for `error` in `header`.
    pub fn terminate(&mut self, error: FatalError, header: &[u8]) {
        let bytes = TermReq::from(error).write(header);
        // Should ICResp still be there, this says no less to the host.
        if self.control.is_none_or(|control| control.sent == 0) {
            self.control = Some(Control { bytes, sent: 0 });
        }
    }

    /// Whether there is room for one more refusal.
    pub fn can_refuse(&self) -> bool {
        self.refusals < REFUSALS
    }

    /// The command `cid` is refused.
    pub fn refuse(&mut self, cid: Cid, status: Status) {
        if let Some(refusal) = self.refused.get_mut(self.refusals) {
            *refusal = (cid, status);
            self.refusals += 1;
        }
    }
}

impl Transport for Transmitter {
    #[inline]
    fn fetch(&mut self, slots: &mut Slots, index: SlotIndex) {
        self.outgoing.push(slots, index);
    }

    /// A command is among those with something to send until its R2T is sent.
    fn cancel_fetch(&mut self, slots: &mut Slots, index: SlotIndex) -> bool {
        self.outgoing.remove(slots, index)
    }

    #[inline]
    fn respond(&mut self, slots: &mut Slots, index: SlotIndex) {
        self.outgoing.push(slots, index);
    }

    #[inline]
    fn owed(&self) -> u64 {
        self.debt.bytes()
    }
}

impl Session {
    /// Sends as much as `wire` takes. True if nothing is left to send.
    pub fn transmit(&mut self, wire: &mut impl Wire, resources: &mut Resources<'_>) -> bool {
        let before = wire.taken();
        let done = self.send_all(wire, resources);
        let bytes = wire.taken() - before;
        if bytes > 0 {
            self.tx.debt.add(bytes, self.queue.now());
        }
        done
    }

    fn send_all(&mut self, wire: &mut impl Wire, resources: &mut Resources<'_>) -> bool {
        loop {
            if self.queue.is_closed() {
                return true;
            }
            let sent = if let Some(current) = self.tx.current {
                self.send_current(current, wire, resources)
            } else if self.tx.control.is_some() {
                self.send_control(wire, resources)
            } else if !self.may_send_more() {
                return true;
            } else if self.tx.refusals > 0 {
                self.send_refusal(wire, resources)
            } else if let Some(index) = self.tx.outgoing.head() {
                self.send_next(index, wire, resources)
            } else {
                return true;
            };
            if !sent {
                return false;
            }
        }
    }

    /// Whether another PDU may follow what was sent: nothing comes after a
    /// terminate request, nor for a controller that is gone. A host that could not prove who it is hears why.
    fn may_send_more(&self) -> bool {
        matches!(
            self.queue.ended(),
            None | Some(End::Disconnected | End::AuthenticationFailed)
        )
    }

    #[cold]
    fn send_control(&mut self, wire: &mut impl Wire, resources: &mut Resources<'_>) -> bool {
        let Some(control) = &mut self.tx.control else {
            return true;
        };
        let whole = send_from(wire, control.bytes.bytes(), &mut control.sent);
        if whole {
            self.tx.control = None;
            resources.counters.pdus_out += 1;
        }
        whole
    }

    #[cold]
    fn send_refusal(&mut self, wire: &mut impl Wire, resources: &mut Resources<'_>) -> bool {
        let (cid, status) = self.tx.refused[0];
        let response = CapsuleResp {
            result: 0,
            sq_head: self.queue.sq_head(),
            cid,
            status,
        };
        if !send_header(wire, &response.write(self.tx.format), &mut 0) {
            return false;
        }
        self.tx.refused.copy_within(1.., 0);
        self.tx.refusals -= 1;
        self.queue.refused(cid, status);
        resources.counters.pdus_out += 1;
        true
    }

    /// Begins with the command that has waited longest.
    #[inline]
    fn send_next(
        &mut self,
        index: SlotIndex,
        wire: &mut impl Wire,
        resources: &mut Resources<'_>,
    ) -> bool {
        let slot = &mut resources.commands.slots[index];
        if slot.state == SlotState::Fetching {
            let r2t = self.tx.r2ts.next(index, slot);
            if !send_header(wire, &r2t.write(self.tx.format), &mut 0) {
                return false;
            }
            self.tx.r2ts.sent(&r2t, slot, self.queue.now());
            resources.counters.r2ts += 1;
            resources.counters.pdus_out += 1;
            self.tx.outgoing.pop(&resources.commands.slots);
            return true;
        }
        if slot.run.is_none() {
            // Nothing but the response.
            let response = self.response(slot);
            if !send_header(wire, &response.write(self.tx.format), &mut 0) {
                return false;
            }
            resources.counters.pdus_out += 1;
            self.tx.outgoing.pop(&resources.commands.slots);
            self.queue.responded(index, resources);
            return true;
        }
        self.tx.outgoing.pop(&resources.commands.slots);
        let current = Current {
            index,
            part: Part::Header { sent: 0 },
            crc: 0,
        };
        self.send_current(current, wire, resources)
    }

    /// The response to a command that is over.
    #[inline]
    fn response(&self, slot: &Slot) -> CapsuleResp {
        CapsuleResp {
            result: slot.result,
            sq_head: self.queue.sq_head(),
            cid: slot.cid,
            status: slot.status,
        }
    }

    /// Goes on with a C2HData PDU and what stands behind it, as far as there is room.
    #[inline(never)]
    fn send_current(
        &mut self,
        mut current: Current,
        wire: &mut impl Wire,
        resources: &mut Resources<'_>,
    ) -> bool {
        let success = self.success_by_flag(current.index, resources);
        let slot = &mut resources.commands.slots[current.index];
        if let Part::Header { sent } = &mut current.part {
            let header = C2hData {
                cid: slot.cid,
                offset: 0,
                len: slot.len,
                last: true,
                success,
            };
            let header = header.write(self.tx.format);
            if !send_header(wire, &header, sent) {
                self.tx.current = Some(current);
                return false;
            }
            current.part = Part::Data;
        }
        if let (Part::Data, Some(run)) = (current.part, &slot.run) {
            for slice in run.slices(slot.moved as usize..slot.len as usize) {
                let n = slice.len() as u32;
                let mut crc = current.crc;
                if self.tx.format.data_digest {
                    crc = crc32c(crc, slice.bytes());
                }
                if wire.send(Chunk::Slice(slice)).is_err() {
                    self.tx.current = Some(current);
                    return false;
                }
                current.crc = crc;
                slot.moved += n;
            }
            current.part = Part::Trailer;
            resources.counters.pdus_out += 1;
        }
        let whole = self.send_trailer(current, success, wire, resources);
        self.tx.current = (!whole).then_some(current);
        whole
    }

    /// Data digest and response in one chunk; then the command is over.
    fn send_trailer(
        &mut self,
        current: Current,
        success: bool,
        wire: &mut impl Wire,
        resources: &mut Resources<'_>,
    ) -> bool {
        let slot = &resources.commands.slots[current.index];
        let format = self.tx.format;
        let response = (!success).then(|| self.response(slot).write(format));
        let sent = match (format.data_digest, response) {
            (false, None) => true,
            (false, Some(response)) => send_header(wire, &response, &mut 0),
            (true, response) => {
                let mut bytes = [0; Inline::CAPACITY];
                let (digest, behind) = bytes.split_at_mut(DIGEST_LEN);
                digest.copy_from_slice(&current.crc.to_le_bytes());
                let response = response.as_ref().map_or(&[][..], HeaderBytes::bytes);
                behind[..response.len()].copy_from_slice(response);
                send(wire, Inline::first(DIGEST_LEN + response.len(), &bytes))
            }
        };
        if !sent {
            return false;
        }
        resources.counters.pdus_out += u64::from(!success);
        if let Work::Read { .. } = slot.work {
            resources.counters.bytes_out += u64::from(slot.len);
        }
        self.queue.responded(current.index, resources);
        true
    }

    /// Whether the SUCCESS flag of the data stands for the response: it
    /// carries neither a result nor SQHD (NVMe/TCP 3.6.2.9).
    #[inline]
    fn success_by_flag(&self, index: SlotIndex, resources: &Resources<'_>) -> bool {
        // The slot is looked at last: most configurations have no such flag.
        if !self.tx.success_flag || self.queue.sq_head().is_some() {
            return false;
        }
        let slot = &resources.commands.slots[index];
        slot.run.is_some() && slot.status.is_success() && slot.result == 0
    }
}

/// Sends what fits in one chunk.
#[inline]
fn send(wire: &mut impl Wire, bytes: Inline) -> bool {
    wire.send(Chunk::Inline(bytes)).is_ok()
}

/// Sends a header from `sent` on, most often all of it in one chunk; whether all is out.
#[inline]
fn send_header(wire: &mut impl Wire, header: &HeaderBytes, sent: &mut usize) -> bool {
    match header.inline() {
        Some(inline) if *sent == 0 => send(wire, inline),
        _ => send_from(wire, header.bytes(), sent),
    }
}

/// Sends `bytes` from `sent` on, in as many chunks as it takes; whether all are out.
#[inline(never)] // Longer than most headers are.
fn send_from(wire: &mut impl Wire, bytes: &[u8], sent: &mut usize) -> bool {
    while *sent < bytes.len() {
        let n = (bytes.len() - *sent).min(Inline::CAPACITY);
        let Some(inline) = Inline::new(&bytes[*sent..*sent + n]) else {
            return false;
        };
        if wire.send(Chunk::Inline(inline)).is_err() {
            return false;
        }
        *sent += n;
    }
    true
}
