//! The stream: headers, data and digests out of in-order slices.
//!
//! A header that lies whole in one slice is read where it is. One that is cut
//! is gathered; data never is.

use pages::{PlaceError, Refusal, Slice};

use super::{CloseReason, PATIENCE_MS, Phase, Progress, Session};
use crate::bytes::crc32c;
use crate::pdu::{
    CapsuleCmd, FatalError, FatalStatus, Format, H2cData, HeaderView, IcReq, IcResp, PduType,
    TermReq,
};
use crate::shard::Shard;
use crate::slots::{PROGRESS_BYTES, SlotIndex, SlotState};
use crate::status::Status;
use crate::units::{Cid, Timestamp};

/// Where in the stream we are.
#[derive(Debug)]
pub(super) struct Receiver {
    state: State,
    /// What was received but not taken, while blocked.
    kept: Option<Slice>,
    /// Since when nothing could be taken.
    blocked: Option<Timestamp>,
    /// Until when nothing could be taken: so long the host was not late.
    freed: Timestamp,
    /// When the PDU that is arriving began, or last brought data worth a mention.
    heard: Timestamp,
    /// A header, or a data digest, that slices have cut.
    gather: [u8; GATHER],
}

/// Longest header with its digest.
const GATHER: usize = HeaderView::LEN_MAX + 4;

#[derive(Clone, Copy, Debug)]
enum State {
    /// In a header of which `have` bytes are gathered.
    Header { have: u8 },
    /// In padding and data.
    Body(Body),
    /// In a data digest of which `have` bytes are gathered.
    Digest { body: Body, have: u8 },
}

/// The rest of a PDU behind its header.
#[derive(Clone, Copy, Debug)]
pub(super) struct Body {
    pub sink: Sink,
    /// Bytes of padding to come.
    pub padding: u32,
    /// Bytes of data to come.
    pub left: u32,
    /// CRC32C of the data so far, if digests are used.
    crc: u32,
    /// Bytes at the front of what is to come that are in `crc` already.
    digested: u32,
}

impl Body {
    pub fn new(sink: Sink, padding: usize, left: u32) -> Self {
        Self {
            sink,
            padding: padding as u32,
            left,
            crc: 0,
            digested: 0,
        }
    }
}

/// Where data goes.
#[derive(Clone, Copy, Debug)]
pub(super) enum Sink {
    /// To a command: into its run, or nowhere if it has none.
    Slot(SlotIndex),
    /// Nowhere: there was no slot for its command, which is to be refused.
    Refused(Cid),
}

/// What a step along the stream came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Go on.
    On,
    /// More bytes are needed.
    More,
    /// Nothing was taken, for want of a resource.
    Blocked,
}

impl Receiver {
    pub fn new() -> Self {
        Self {
            state: State::Header { have: 0 },
            kept: None,
            blocked: None,
            freed: Timestamp(0),
            heard: Timestamp(0),
            gather: [0; GATHER],
        }
    }

    pub fn is_blocked(&self) -> bool {
        self.blocked.is_some()
    }

    /// Whether a header is being gathered, and may be whole.
    #[inline]
    fn is_gathering(&self) -> bool {
        matches!(self.state, State::Header { have: 1.. })
    }

    /// Since when a PDU that is partly there has brought nothing worth a mention.
    pub fn inside_since(&self) -> Option<Timestamp> {
        let inside = !matches!(self.state, State::Header { have: 0 });
        inside.then_some(self.heard.max(self.freed))
    }

    /// Until when the host could bring nothing, because nothing was taken.
    pub fn freed(&self) -> Timestamp {
        self.freed
    }

    /// Drops what was kept: nothing is taken any more.
    pub fn let_go(&mut self) {
        self.kept = None;
        self.blocked = None;
    }
}

impl Session {
    /// Takes `rest` as far as it can, and keeps what it cannot.
    pub(super) fn feed(&mut self, mut rest: Option<Slice>, shard: &mut Shard<'_>) -> Progress {
        loop {
            if matches!(self.phase, Phase::Closing(_) | Phase::Closed(_)) {
                return Progress::Closing;
            }
            if rest.as_ref().is_none_or(Slice::is_empty) {
                rest = None;
                if !self.rx.is_gathering() {
                    return Progress::Taken;
                }
            }
            let step = match self.rx.state {
                State::Header { have } => self.header(have, &mut rest, shard),
                State::Body(body) => self.body(body, &mut rest, shard),
                State::Digest { body, have } => self.digest(body, have, &mut rest, shard),
            };
            match step {
                Step::On => {
                    if self.rx.blocked.take().is_some() {
                        self.rx.freed = self.now;
                    }
                }
                Step::More => return Progress::Taken,
                Step::Blocked => {
                    if self.rx.blocked.is_none() {
                        shard.counters.blocked += 1;
                        self.rx.blocked = Some(self.now);
                    }
                    self.rx.kept = rest;
                    return Progress::Blocked;
                }
            }
        }
    }

    /// Tries again with what was kept.
    pub(super) fn unblock(&mut self, shard: &mut Shard<'_>) -> Progress {
        let kept = self.rx.kept.take();
        self.feed(kept, shard)
    }

    /// Whether the stream has been blocked for so long that the command in its
    /// way is to be refused rather than to wait on.
    pub(super) fn out_of_patience(&self) -> bool {
        let since = self.rx.blocked;
        since.is_some_and(|since| self.now >= since.plus_ms(PATIENCE_MS))
    }

    #[inline]
    fn header(&mut self, have: u8, rest: &mut Option<Slice>, shard: &mut Shard<'_>) -> Step {
        let Some(slice) = rest.as_mut().filter(|_| have == 0) else {
            return self.gather(have, rest, shard);
        };
        self.rx.heard = self.now;
        let need = header_len(slice.bytes()[0], self.format);
        if slice.len() < need {
            shard.counters.headers_gathered += 1;
            return self.gather(have, rest, shard);
        }
        // The usual case: it is all there, and is read in place.
        let step = self.on_header(&slice.bytes()[..need], shard);
        if step == Step::On {
            slice.advance(need);
        }
        step
    }

    /// A header that slices have cut, of which `have` bytes are there.
    #[inline(never)]
    fn gather(&mut self, have: u8, rest: &mut Option<Slice>, shard: &mut Shard<'_>) -> Step {
        let mut have = usize::from(have);
        if let Some(slice) = rest {
            if have == 0 {
                self.rx.gather[0] = slice.bytes()[0];
                slice.advance(1);
                have = 1;
            }
            let need = header_len(self.rx.gather[0], self.format);
            let n = slice.len().min(need - have);
            self.rx.gather[have..have + n].copy_from_slice(&slice.bytes()[..n]);
            slice.advance(n);
            have += n;
        }
        let need = header_len(self.rx.gather[0], self.format);
        self.rx.state = State::Header { have: have as u8 };
        if have < need {
            return Step::More;
        }
        let gathered = self.rx.gather;
        // Whatever the header leads to replaces this state, unless it is blocked.
        self.rx.state = State::Header { have: 0 };
        let step = self.on_header(&gathered[..need], shard);
        if step == Step::Blocked {
            self.rx.state = State::Header { have: need as u8 };
        }
        step
    }

    /// Acts on a whole header.
    #[inline(never)]
    fn on_header(&mut self, bytes: &[u8], shard: &mut Shard<'_>) -> Step {
        let result = match HeaderView::check(bytes, self.format) {
            Ok(view) => self.on_pdu(&view, shard),
            Err(error) => Err(error),
        };
        match result {
            Ok(step) => {
                shard.counters.pdus_in += u64::from(step == Step::On);
                step
            }
            Err(error) => {
                let hlen = bytes.len().min(HeaderView::LEN_MAX);
                self.terminate(error, &bytes[..hlen], shard);
                Step::On
            }
        }
    }

    #[inline]
    fn on_pdu(&mut self, view: &HeaderView<'_>, shard: &mut Shard<'_>) -> Result<Step, FatalError> {
        let initialized = self.phase != Phase::Initialize;
        match view.pdu_type() {
            PduType::CapsuleCmd if initialized => {
                let sqe = CapsuleCmd::entry(view);
                let padding = view.data_offset() - self.format.header_len(PduType::CapsuleCmd);
                self.on_capsule(&sqe, view.data_len(), padding, shard)
            }
            PduType::H2cData if initialized => {
                let data = H2cData::read(view)?;
                let padding = view.data_offset() - self.format.header_len(PduType::H2cData);
                self.on_h2c_data(&data, padding, shard)?;
                Ok(Step::On)
            }
            PduType::IcReq if !initialized => {
                self.on_ic_req(&IcReq::read(view)?);
                Ok(Step::On)
            }
            PduType::H2cTermReq => {
                // It needs no answer (NVMe/TCP 3.5.2).
                shard.counters.terminated_by_host += 1;
                self.shut(CloseReason::TerminatedByHost(TermReq::read(view).status));
                Ok(Step::On)
            }
            other if other.is_from_host() => Err(FatalError::plain(FatalStatus::SequenceError)),
            _ => Err(FatalError::invalid_field(0)),
        }
    }

    /// Initialize Connection Request (NVMe/TCP 3.4).
    fn on_ic_req(&mut self, request: &IcReq) {
        let config = self.target.config();
        let response = IcResp {
            header_digest: request.header_digest && config.header_digest,
            data_digest: request.data_digest && config.data_digest,
            h2c_data_max: config.max_h2c_bytes,
        };
        self.tx.initialize(&response);
        self.format = Format {
            header_digest: response.header_digest,
            data_digest: response.data_digest,
            alignment: request.host_alignment,
        };
        // MAXR2T needs no memory: one R2T per command is out at a time.
        self.phase = Phase::Unconnected;
    }

    /// Data the host was asked for (NVMe/TCP 3.6.2.8).
    fn on_h2c_data(
        &mut self,
        data: &H2cData,
        padding: usize,
        shard: &mut Shard<'_>,
    ) -> Result<(), FatalError> {
        let index = SlotIndex(data.ttag.0);
        let slot = shard.commands.slots.get(index);
        // TTAG and CCCID must be those of an R2T of this connection.
        let slot = slot
            .filter(|slot| slot.owner == self.id && slot.state == SlotState::Owed)
            .ok_or(FatalError::invalid_field(10))?;
        if slot.cid != data.cid {
            return Err(FatalError::invalid_field(8));
        }
        if data.len > self.target.config().max_h2c_bytes {
            return Err(FatalError::plain(FatalStatus::DataLimitExceeded));
        }
        // In order, without gaps, within the R2T.
        let end = data.offset.checked_add(data.len);
        let end = end.filter(|&end| data.offset == slot.moved && end <= slot.granted);
        let end = end.ok_or(FatalError::plain(FatalStatus::DataOutOfRange))?;
        if data.last && end < slot.granted {
            // LAST_PDU in FLAGS, but the R2T is not answered.
            return Err(FatalError::invalid_field(1));
        }
        self.expect(Body::new(Sink::Slot(index), padding, data.len));
        Ok(())
    }

    /// `body` follows in the stream; a byte of data at least.
    pub(super) fn expect(&mut self, body: Body) {
        self.rx.state = State::Body(body);
    }

    fn body(&mut self, mut body: Body, rest: &mut Option<Slice>, shard: &mut Shard<'_>) -> Step {
        let Some(mut slice) = rest.take() else {
            return Step::More;
        };
        if body.padding > 0 {
            let n = slice.len().min(body.padding as usize);
            slice.advance(n);
            body.padding -= n as u32;
            self.rx.state = State::Body(body);
            *rest = Some(slice);
            return Step::On;
        }
        let data = if slice.len() > body.left as usize {
            let data = slice.split_to(body.left as usize);
            *rest = Some(slice);
            data
        } else {
            slice
        };
        let left = body.left;
        let back = self.take_data(&mut body, data, shard);
        if left / PROGRESS_BYTES > body.left / PROGRESS_BYTES {
            self.rx.heard = self.now;
        }
        self.rx.state = State::Body(body);
        if let Some(data) = back {
            // Nothing was lost: what was split off is joined again.
            *rest = Some(match rest.take() {
                Some(behind) => join(data, &behind),
                None => data,
            });
            return Step::Blocked;
        }
        if body.left == 0 {
            self.rx.state = State::Header { have: 0 };
            if self.format.data_digest {
                self.rx.state = State::Digest { body, have: 0 };
            } else {
                self.end_of_body(body.sink, shard);
            }
        }
        Step::On
    }

    /// Takes `data`, the next bytes of `body`; what cannot be placed now comes back.
    fn take_data(&mut self, body: &mut Body, data: Slice, shard: &mut Shard<'_>) -> Option<Slice> {
        let len = data.len() as u32;
        if self.format.data_digest {
            let fresh = &data.bytes()[body.digested.min(len) as usize..];
            body.crc = crc32c(body.crc, fresh);
            body.digested = body.digested.max(len) - len;
        }
        let Sink::Slot(index) = body.sink else {
            body.left -= len;
            return None;
        };
        let pull_up = shard.pull_up();
        let slot = &mut shard.commands.slots[index];
        let moved = slot.moved;
        let placed = match &mut slot.run {
            Some(run) => run.place(moved as usize, data, &pull_up),
            None => Ok(()),
        };
        let Err(error) = placed else {
            body.left -= len;
            slot.took(len, self.now);
            return None;
        };
        self.not_placed(body, index, error, len, shard)
    }

    /// `len` bytes for the command were taken as far as could be; what is left comes back, or is dropped.
    #[cold]
    fn not_placed(
        &mut self,
        body: &mut Body,
        index: SlotIndex,
        error: PlaceError,
        len: u32,
        shard: &mut Shard<'_>,
    ) -> Option<Slice> {
        let moved = shard.commands.slots[index].moved;
        if error.reason == Refusal::OutOfPages && !self.out_of_patience() {
            let taken = error.at as u32 - moved;
            body.left -= taken;
            body.digested += len - taken;
            shard.commands.slots[index].took(taken, self.now);
            return Some(error.slice);
        }
        // The command fails; the rest of its data is of no use.
        let status = match error.reason {
            Refusal::OutOfPages => self.interrupted(shard),
            _ => Status::INTERNAL_ERROR,
        };
        if let Some(run) = shard.commands.slots[index].run.take() {
            shard.runs.put(run);
        }
        body.left -= len;
        let slot = &mut shard.commands.slots[index];
        slot.took(len, self.now);
        slot.status = status;
        None
    }

    #[inline(never)]
    fn digest(
        &mut self,
        body: Body,
        have: u8,
        rest: &mut Option<Slice>,
        shard: &mut Shard<'_>,
    ) -> Step {
        let Some(slice) = rest else {
            return Step::More;
        };
        let have = usize::from(have);
        let n = slice.len().min(4 - have);
        self.rx.gather[have..have + n].copy_from_slice(&slice.bytes()[..n]);
        slice.advance(n);
        let have = have + n;
        if have < 4 {
            let have = have as u8;
            self.rx.state = State::Digest { body, have };
            return Step::On;
        }
        self.rx.state = State::Header { have: 0 };
        if self.rx.gather[..4] != body.crc.to_le_bytes() {
            shard.counters.data_digest_errors += 1;
            // Not fatal: the command alone fails (NVMe/TCP 3.3.2.2, 3.5.1).
            if let Sink::Slot(index) = body.sink {
                let slot = &mut shard.commands.slots[index];
                if slot.status.is_success() {
                    slot.status = Status::TRANSIENT_TRANSPORT_ERROR;
                }
            }
        }
        self.end_of_body(body.sink, shard);
        Step::On
    }

    /// All data of a PDU is there.
    fn end_of_body(&mut self, sink: Sink, shard: &mut Shard<'_>) {
        match sink {
            Sink::Refused(cid) => self.refuse(cid, shard),
            Sink::Slot(index) => {
                let slot = &shard.commands.slots[index];
                if slot.state == SlotState::Receiving {
                    self.start(index, shard);
                } else if slot.moved == slot.granted {
                    self.r2t_answered(index, shard);
                }
            }
        }
    }
}

/// Bytes of header and digest of a PDU whose first byte is `first`; of an
/// unknown one, the common header.
#[inline]
fn header_len(first: u8, format: Format) -> usize {
    match PduType::from_byte(first) {
        Some(pdu_type) => format.header_len(pdu_type),
        None => HeaderView::COMMON_LEN,
    }
}

/// The slice that `front` and `behind`, side by side in one cluster, were cut from.
fn join(front: Slice, behind: &Slice) -> Slice {
    let start = front.offset();
    debug_assert_eq!(start + front.len(), behind.offset());
    front
        .cluster()
        .clone()
        .slice(start..behind.offset() + behind.len())
}
