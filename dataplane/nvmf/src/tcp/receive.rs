//! The stream: headers, data and digests out of in-order slices.
//!
//! A header that lies whole in one slice is read where it is. One that is cut
//! is gathered; data never is.

use mutant::mutant;
use pages::{PageRun, PlaceError, Refusal, Slice};

use super::data_digest::DataDigest;
use super::pdu::{
    CapsuleCmd, FatalError, FatalStatus, Format, H2cData, HeaderView, IcReq, IcResp, PduType,
    TermReq,
};
use super::r2t::R2ts;
use super::{CloseReason, Progress, Session};
use crate::command::SqeView;
use crate::config::ADMIN_IN_CAPSULE_BYTES;
use crate::queue::slots::{PROGRESS_BYTES, Slot, SlotIndex, SlotState};
use crate::queue::{PATIENCE_MS, Taken, Transport};
use crate::resources::Resources;
use crate::status::Status;
use crate::units::{Cid, Timestamp};

/// Where in the stream we are.
#[derive(Debug)]
pub(super) struct Receiver {
    /// Whether ICReq has come.
    initialized: bool,
    format: Format,
    state: State,
    /// What was received but not taken, while blocked.
    kept: Option<Slice>,
    /// Since when nothing could be taken.
    blocked: Option<Timestamp>,
    /// The command that nothing was taken of, while blocked; whether it is to be aborted.
    blocked_by: Option<(Cid, bool)>,
    /// Until when nothing could be taken: so long the host was not late.
    freed: Timestamp,
    /// When the host was last seen to have no room to send in.
    held_up: Timestamp,
    /// When the PDU that is arriving began, or last brought [`PROGRESS_BYTES`] of data.
    progress_at: Timestamp,
    /// A header, or a data digest, that slices have cut.
    gather: [u8; GATHER],
}

/// How long a host that has data to send may be kept from it by a window that is shut, in milliseconds: hosts lose patience
/// by then.
const HELD_UP_MS: u64 = 30_000;

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
struct Body {
    sink: Sink,
    /// Bytes of padding to come.
    padding: u32,
    /// Bytes of data to come.
    left: u32,
    /// Of the data so far, if digests are used.
    digest: DataDigest,
    /// Bytes at the front of what is to come that are in `digest` already.
    digested: u32,
}

impl Body {
    /// Data of a command.
    fn for_slot(index: SlotIndex, slot: &Slot, padding: usize, left: u32) -> Self {
        Self {
            sink: Sink::Slot(index),
            padding: padding as u32,
            left,
            digest: DataDigest::new(slot.run.as_deref(), slot.moved),
            digested: 0,
        }
    }

    /// Data that nobody takes.
    fn refused(cid: Cid, status: Status, padding: usize, left: u32) -> Self {
        Self {
            sink: Sink::Refused(cid, status),
            padding: padding as u32,
            left,
            digest: DataDigest::new(None, 0),
            digested: 0,
        }
    }
}

/// Where data goes.
#[derive(Clone, Copy, Debug)]
enum Sink {
    /// To a command: into its run, or nowhere if it has none.
    Slot(SlotIndex),
    /// Nowhere: there was no slot for its command, which is to be refused with this status.
    Refused(Cid, Status),
}

/// What a step along the stream came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// Go on.
    On,
    /// More bytes are needed.
    More,
    /// Nothing was taken, for want of a resource.
    Blocked,
}

impl Receiver {
    /// The receiving side of a connection that is not initialized.
    pub fn new() -> Self {
        Self {
            initialized: false,
            format: Format::default(),
            state: State::Header { have: 0 },
            kept: None,
            blocked: None,
            blocked_by: None,
            freed: Timestamp(0),
            held_up: Timestamp(0),
            progress_at: Timestamp(0),
            gather: [0; GATHER],
        }
    }

    /// Whether nothing can be taken, for want of a resource.
    #[inline]
    pub fn is_blocked(&self) -> bool {
        self.blocked.is_some()
    }

    /// Since when nothing could be taken; `None` if something can.
    pub fn blocked_since(&self) -> Option<Timestamp> {
        self.blocked
    }

    /// Whether a header is being gathered, and may be whole.
    #[inline]
    fn is_gathering(&self) -> bool {
        matches!(self.state, State::Header { have: 1.. })
    }

    /// Since when a PDU that is partly there has brought less than [`PROGRESS_BYTES`].
    pub fn inside_since(&self) -> Option<Timestamp> {
        let inside = !matches!(self.state, State::Header { have: 0 });
        inside.then_some(self.progress_at.max(self.freed))
    }

    /// Until when the host could bring nothing, because nothing was taken.
    pub fn freed(&self) -> Timestamp {
        self.freed
    }

    /// TCP has no room for what the host has to send.
    pub fn hold_up(&mut self, now: Timestamp) {
        self.held_up = now;
    }

    /// Whether the host has owed data since `since`, and for longer than `patience_ms`: while it had no room to send in it owed
    /// nothing. That is no way to hold for ever what others wait for.
    pub fn is_late(&self, since: Timestamp, patience_ms: u64, now: Timestamp) -> bool {
        let late = |since: Timestamp, ms| now >= since.plus_ms(ms);
        late(since.max(self.held_up), patience_ms) || late(since, patience_ms.max(HELD_UP_MS))
    }

    /// Drops what was kept: nothing is taken any more.
    pub fn discard(&mut self) {
        self.kept = None;
        self.blocked = None;
        self.blocked_by = None;
    }

    /// `body` follows in the stream; a byte of data at least.
    #[inline]
    fn begin_body(&mut self, body: Body) {
        self.state = State::Body(body);
    }

    /// Whether the stream has been blocked for so long that the command in its
    /// way is to be refused rather than to wait on.
    fn out_of_patience(&self, now: Timestamp) -> bool {
        let since = self.blocked;
        since.is_some_and(|since| now >= since.plus_ms(PATIENCE_MS))
    }
}

impl Session {
    /// Takes `rest` as far as it can, and keeps what it cannot.
    pub(super) fn feed(
        &mut self,
        mut rest: Option<Slice>,
        resources: &mut Resources<'_>,
    ) -> Progress {
        loop {
            if self.queue.is_over() {
                self.rx.discard();
                return Progress::Closing;
            }
            if rest.as_ref().is_none_or(Slice::is_empty) {
                rest = None;
                if !self.rx.is_gathering() {
                    return Progress::Taken;
                }
            }
            let step = match self.rx.state {
                State::Header { have } => self.header(have, &mut rest, resources),
                State::Body(_) => self.body(&mut rest, resources),
                State::Digest { body, have } => self.digest(body, have, &mut rest, resources),
            };
            match step {
                Step::On => {
                    if self.rx.blocked.take().is_some() {
                        self.rx.freed = self.queue.now();
                        self.rx.blocked_by = None;
                    }
                }
                Step::More => return Progress::Taken,
                Step::Blocked => {
                    if self.rx.blocked.is_none() {
                        resources.counters.blocked += 1;
                        self.rx.blocked = Some(self.queue.now());
                    }
                    self.rx.kept = rest;
                    return Progress::Blocked;
                }
            }
        }
    }

    /// Tries again with what was kept.
    pub(super) fn unblock(&mut self, resources: &mut Resources<'_>) -> Progress {
        let kept = self.rx.kept.take();
        self.feed(kept, resources)
    }

    #[inline]
    fn header(
        &mut self,
        have: u8,
        rest: &mut Option<Slice>,
        resources: &mut Resources<'_>,
    ) -> Step {
        let Some(slice) = rest.as_mut().filter(|_| have == 0) else {
            return self.gather(have, rest, resources);
        };
        self.rx.progress_at = self.queue.now();
        let need = header_len(slice.bytes()[0], self.rx.format);
        if slice.len() < need {
            resources.counters.headers_gathered += 1;
            return self.gather(have, rest, resources);
        }
        // The usual case: it is all there, and is read in place.
        let step = self.on_header(&slice.bytes()[..need], resources);
        if step == Step::On {
            slice.advance(need);
        }
        step
    }

    /// A header that slices have cut, of which `have` bytes are there.
    #[inline(never)]
    fn gather(
        &mut self,
        have: u8,
        rest: &mut Option<Slice>,
        resources: &mut Resources<'_>,
    ) -> Step {
        let mut have = usize::from(have);
        if let Some(slice) = rest {
            if have == 0 {
                self.rx.gather[0] = slice.bytes()[0];
                slice.advance(1);
                have = 1;
            }
            let need = header_len(self.rx.gather[0], self.rx.format);
            let n = slice.len().min(need - have);
            self.rx.gather[have..have + n].copy_from_slice(&slice.bytes()[..n]);
            slice.advance(n);
            have += n;
        }
        let need = header_len(self.rx.gather[0], self.rx.format);
        self.rx.state = State::Header { have: have as u8 };
        if have < need {
            return Step::More;
        }
        let gathered = self.rx.gather;
        // Whatever the header leads to replaces this state, unless it is blocked.
        self.rx.state = State::Header { have: 0 };
        let step = self.on_header(&gathered[..need], resources);
        if step == Step::Blocked {
            self.rx.state = State::Header { have: need as u8 };
        }
        step
    }

    /// Acts on a whole header.
    #[inline(never)]
    fn on_header(&mut self, bytes: &[u8], resources: &mut Resources<'_>) -> Step {
        let result = match HeaderView::check(bytes, self.rx.format) {
            Ok(view) => self.on_pdu(&view, resources),
            Err(error) => Err(error),
        };
        match result {
            Ok(step) => {
                resources.counters.pdus_in += u64::from(step == Step::On);
                step
            }
            Err(error) => {
                let hlen = bytes.len().min(HeaderView::LEN_MAX);
                self.terminate(error, &bytes[..hlen], resources);
                Step::On
            }
        }
    }

    #[inline]
    fn on_pdu(
        &mut self,
        view: &HeaderView<'_>,
        resources: &mut Resources<'_>,
    ) -> Result<Step, FatalError> {
        let initialized = self.rx.initialized;
        match view.pdu_type() {
            PduType::CapsuleCmd if initialized => {
                let sqe = CapsuleCmd::entry(view);
                let padding = view.data_offset() - self.rx.format.header_len(PduType::CapsuleCmd);
                self.on_capsule(&sqe, view.data_len(), padding, resources)
            }
            PduType::H2cData if initialized => {
                let data = H2cData::read(view)?;
                let padding = view.data_offset() - self.rx.format.header_len(PduType::H2cData);
                self.on_h2c_data(&data, padding, resources)?;
                Ok(Step::On)
            }
            PduType::IcReq if !initialized => {
                self.on_ic_req(&IcReq::read(view)?);
                Ok(Step::On)
            }
            PduType::H2cTermReq => {
                // No PDU follows it (NVMe/TCP 3.5.2).
                resources.counters.terminated_by_host += 1;
                let reason = CloseReason::TerminatedByHost(TermReq::read(view).status);
                self.shut(reason, resources);
                Ok(Step::On)
            }
            other if other.is_from_host() => Err(FatalError::plain(FatalStatus::SequenceError)),
            _ => Err(FatalError::invalid_field(0)),
        }
    }

    /// Initialize Connection Request (NVMe/TCP 3.4).
    fn on_ic_req(&mut self, request: &IcReq) {
        let config = self.queue.target().config();
        let response = IcResp {
            header_digest: request.header_digest && config.header_digest,
            data_digest: request.data_digest && config.data_digest,
            h2c_data_max: config.max_h2c_bytes,
        };
        let format = Format {
            header_digest: response.header_digest,
            data_digest: response.data_digest,
            alignment: request.host_alignment,
        };
        self.tx.initialize(&response, format);
        self.rx.format = format;
        self.rx.initialized = true;
    }

    /// A command capsule came, with `data_len` bytes of data behind `padding` bytes.
    fn on_capsule(
        &mut self,
        sqe: &SqeView<'_>,
        data_len: u32,
        padding: usize,
        resources: &mut Resources<'_>,
    ) -> Result<Step, FatalError> {
        // In-capsule data beyond what any queue takes (NVMe/TCP 3.3.1).
        let config = self.queue.target().config();
        if data_len > config.in_capsule_bytes.max(ADMIN_IN_CAPSULE_BYTES) {
            return Err(FatalError::invalid_field(4));
        }
        if let Some((cid, true)) = self.rx.blocked_by
            && cid == sqe.cid()
        {
            self.refuse_command(cid, Status::ABORT_REQUESTED, data_len, padding, resources);
            return Ok(Step::On);
        }
        let may_wait = !self.rx.out_of_patience(self.queue.now());
        let taken = (self.queue).take(sqe, data_len, may_wait, &mut self.tx, resources);
        match taken.map_err(|_| FatalError::plain(FatalStatus::SequenceError))? {
            Taken::Started => {}
            Taken::DataFollows(index) => {
                let slot = &resources.commands.slots[index];
                let body = Body::for_slot(index, slot, padding, data_len);
                self.rx.begin_body(body);
            }
            Taken::NoSlot if !may_wait && self.tx.can_refuse() => {
                let status = self.queue.interrupted(resources);
                self.refuse_command(sqe.cid(), status, data_len, padding, resources);
            }
            Taken::NoRun | Taken::NoSlot => {
                self.rx.blocked_by.get_or_insert((sqe.cid(), false));
                return Ok(Step::Blocked);
            }
        }
        Ok(Step::On)
    }

    /// Aborts the command that the stream is blocked by, for want of a slot or of a run, if it is `cid`;
    /// what is behind it in the stream nobody has seen yet.
    pub(super) fn abort_blocked(&mut self, cid: Cid, resources: &mut Resources<'_>) -> bool {
        if self.rx.blocked_by != Some((cid, false)) || !self.tx.can_refuse() {
            return false;
        }
        self.rx.blocked_by = Some((cid, true));
        self.unblock(resources);
        true
    }

    /// The command `cid` is not taken, and its data in the capsule are dropped.
    fn refuse_command(
        &mut self,
        cid: Cid,
        status: Status,
        data_len: u32,
        padding: usize,
        resources: &mut Resources<'_>,
    ) {
        if data_len > 0 {
            let body = Body::refused(cid, status, padding, data_len);
            self.rx.begin_body(body);
        } else {
            self.refuse(cid, status, resources);
        }
    }

    /// Responds to a command that never got a slot.
    fn refuse(&mut self, cid: Cid, status: Status, resources: &mut Resources<'_>) {
        resources.counters.errors += 1;
        self.tx.refuse(cid, status);
    }

    /// Data that the host was requested to send (NVMe/TCP 3.6.2.8).
    fn on_h2c_data(
        &mut self,
        data: &H2cData,
        padding: usize,
        resources: &mut Resources<'_>,
    ) -> Result<(), FatalError> {
        let index = SlotIndex(data.ttag.0);
        let slot = resources.commands.slots.get(index);
        // TTAG must be that of an R2T of this connection.
        let slot = slot
            .filter(|slot| self.queue.owns(slot) && R2ts::is_outstanding(slot))
            .ok_or(FatalError::invalid_field(10))?;
        self.tx.r2ts.check(data, slot)?;
        let body = Body::for_slot(index, slot, padding, data.len);
        self.rx.begin_body(body);
        Ok(())
    }

    /// Data, and padding in front of it. The body is changed where it lies: this is done for every segment of a write.
    fn body(&mut self, rest: &mut Option<Slice>, resources: &mut Resources<'_>) -> Step {
        let (Some(mut slice), State::Body(body)) = (rest.take(), &mut self.rx.state) else {
            return Step::More;
        };
        if body.padding > 0 {
            let n = slice.len().min(body.padding as usize);
            slice.advance(n);
            body.padding -= n as u32;
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
        let len = data.len() as u32;
        if self.rx.format.data_digest {
            let fresh = &data.bytes()[body.digested.min(len) as usize..];
            body.digest.take(fresh, run_of(body.sink, resources));
            body.digested = body.digested.max(len) - len;
        }
        let left = body.left;
        if let Sink::Slot(index) = body.sink {
            let pull_up = resources.pull_up();
            let slot = &mut resources.commands.slots[index];
            if let Err(error) = slot.place(data, &pull_up) {
                return self.not_placed(index, error, len, rest, resources);
            }
            slot.add_received(len, self.queue.now());
        }
        body.left -= len;
        self.after_data(left, resources)
    }

    /// Data of the body was taken, of which `left` bytes were to come before.
    #[inline]
    fn after_data(&mut self, left: u32, resources: &mut Resources<'_>) -> Step {
        let State::Body(body) = &self.rx.state else {
            return Step::On;
        };
        if left / PROGRESS_BYTES > body.left / PROGRESS_BYTES {
            self.rx.progress_at = self.queue.now();
        }
        if body.left == 0 {
            if self.rx.format.data_digest {
                let body = *body;
                self.rx.state = State::Digest { body, have: 0 };
            } else {
                let sink = body.sink;
                self.rx.state = State::Header { have: 0 };
                self.end_of_body(sink, resources);
            }
        }
        Step::On
    }

    /// `len` bytes for the command were taken as far as could be; what is left goes in front of `rest`, or is dropped.
    #[cold]
    fn not_placed(
        &mut self,
        index: SlotIndex,
        error: PlaceError,
        len: u32,
        rest: &mut Option<Slice>,
        resources: &mut Resources<'_>,
    ) -> Step {
        let now = self.queue.now();
        let is_patient = !self.rx.out_of_patience(now);
        let State::Body(body) = &mut self.rx.state else {
            return Step::On;
        };
        let left = body.left;
        let moved = resources.commands.slots[index].moved;
        if error.reason == Refusal::OutOfPages && is_patient {
            let taken = error.at as u32 - moved;
            body.left -= taken;
            body.digested += len - taken;
            if left / PROGRESS_BYTES > body.left / PROGRESS_BYTES {
                self.rx.progress_at = now;
            }
            resources.commands.slots[index].add_received(taken, now);
            // Nothing was lost: what was split off is joined again.
            *rest = Some(match rest.take() {
                Some(behind) => join(error.slice, &behind),
                None => error.slice,
            });
            return Step::Blocked;
        }
        body.left -= len;
        // The command fails; the rest of its data is of no use.
        let status = match error.reason {
            Refusal::OutOfPages => self.queue.interrupted(resources),
            _ => Status::INTERNAL_ERROR,
        };
        if let Some(run) = resources.commands.slots[index].run.take() {
            resources.runs.put(run);
        }
        let slot = &mut resources.commands.slots[index];
        slot.add_received(len, now);
        slot.status = status;
        self.after_data(left, resources)
    }

    #[inline(never)]
    fn digest(
        &mut self,
        body: Body,
        have: u8,
        rest: &mut Option<Slice>,
        resources: &mut Resources<'_>,
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
        let digest = body.digest.end(run_of(body.sink, resources));
        if self.rx.gather[..4] != digest.to_le_bytes() && !mutant!("digest-unverified") {
            resources.counters.data_digest_errors += 1;
            // Not fatal: the command alone fails (NVMe/TCP 3.3.2.2, 3.5.1).
            if let Sink::Slot(index) = body.sink {
                let slot = &mut resources.commands.slots[index];
                if slot.status.is_success() {
                    slot.status = Status::TRANSIENT_TRANSPORT_ERROR;
                }
            }
        }
        self.end_of_body(body.sink, resources);
        Step::On
    }

    /// All data of a PDU is there.
    fn end_of_body(&mut self, sink: Sink, resources: &mut Resources<'_>) {
        match sink {
            Sink::Refused(cid, status) => self.refuse(cid, status, resources),
            Sink::Slot(index) => {
                let slot = &resources.commands.slots[index];
                if slot.state == SlotState::Receiving {
                    self.queue.start(index, &mut self.tx, resources);
                } else if slot.moved == slot.requested {
                    self.on_r2t_complete(index, resources);
                }
            }
        }
    }
    /// All data of the command's R2T is there: the next R2T, or the command goes on.
    fn on_r2t_complete(&mut self, index: SlotIndex, resources: &mut Resources<'_>) {
        let slots = &mut resources.commands.slots;
        if self.tx.r2ts.complete(&slots[index]) {
            self.tx.fetch(slots, index);
        } else {
            self.queue.fetched(index, &mut self.tx, resources);
        }
    }
}

/// Where data go, if there is such a place.
#[inline]
fn run_of<'r>(sink: Sink, resources: &'r mut Resources<'_>) -> Option<&'r mut PageRun> {
    match sink {
        Sink::Slot(index) => resources.commands.slots[index].run.as_deref_mut(),
        Sink::Refused(..) => None,
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
