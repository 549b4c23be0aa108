//! Command capsules: what each command is, and what it needs.

use super::receive::{Body, Sink, Step};
use super::{CloseReason, IoQueue, Queue, Session};
use crate::command::{ConnectData, FabricsCommand, NvmCommand, Sgl, SqeView};
use crate::config::ADMIN_IN_CAPSULE_BYTES;
use crate::controller::Reply;
use crate::pdu::{FatalError, FatalStatus};
use crate::shard::{Purpose, Shard};
use crate::slots::{SlotIndex, VolumeRef, Work};
use crate::status::Status;
use crate::units::{BlockRange, Nsid};

/// What a command comes to, before it holds anything but its slot.
#[derive(Clone, Copy, Debug)]
struct Plan {
    work: Work,
    volume: Option<VolumeRef>,
    transfer: Transfer,
    result: u64,
}

/// The data a command moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Transfer {
    None,
    /// From the host, in the capsule or by R2T.
    In {
        len: u32,
        in_capsule: bool,
    },
    /// To the host.
    Out {
        len: u32,
    },
}

impl Plan {
    /// Nothing more to do: `result` is dwords 0 and 1.
    fn done(result: u64) -> Self {
        Self {
            work: Work::Respond,
            volume: None,
            transfer: Transfer::None,
            result,
        }
    }

    fn of(work: Work, transfer: Transfer) -> Self {
        Self {
            work,
            volume: None,
            transfer,
            result: 0,
        }
    }
}

impl Session {
    /// A command capsule came, with `data_len` bytes of data behind `padding` bytes.
    pub(super) fn on_capsule(
        &mut self,
        sqe: &SqeView<'_>,
        data_len: u32,
        padding: usize,
        shard: &mut Shard<'_>,
    ) -> Result<Step, FatalError> {
        if let Queue::Io(io) = &self.queue
            && !io.controller.is_still(io.enabled)
        {
            // No answer: a status might be final for the host, while another
            // controller, or this one later, would do what it wants.
            self.shut(CloseReason::ControllerGone);
            return Ok(Step::On);
        }
        self.note_traffic();
        // In-capsule data beyond what any queue takes (NVMe/TCP 3.3.1).
        let config = self.target.config();
        if data_len > config.in_capsule_bytes.max(ADMIN_IN_CAPSULE_BYTES) {
            return Err(FatalError::invalid_field(4));
        }
        if self.sq.outstanding >= self.sq.entries {
            // More commands than the submission queue has entries.
            return Err(FatalError::plain(FatalStatus::SequenceError));
        }
        let purpose = match &self.queue {
            Queue::Io(_) => Purpose::Io,
            Queue::Admin(_) | Queue::None => Purpose::Admin,
        };
        let taken = (shard.commands).take(purpose, sqe.cid(), &mut self.held);
        let Some(index) = taken else {
            return Ok(self.no_slot(sqe, data_len, padding, shard));
        };
        self.sq.outstanding += 1;
        let plan = match self.plan(sqe, data_len, shard) {
            Ok(plan) => plan,
            Err(status) => {
                shard.commands.slots[index].status = status;
                Plan::done(0)
            }
        };
        if let Transfer::In {
            len,
            in_capsule: true,
        } = plan.transfer
            && !self.begin_run(index, &plan, len, shard)
        {
            if !self.out_of_patience() {
                self.release(index, shard);
                return Ok(Step::Blocked);
            }
            shard.commands.slots[index].status = self.interrupted(shard);
        }
        self.count(sqe, shard);
        let slot = &mut shard.commands.slots[index];
        slot.work = plan.work;
        slot.result = plan.result;
        if let Some(volume) = plan.volume {
            slot.volume = volume;
        } else {
            slot.volume.nsid = sqe.nsid();
        }
        if let Transfer::In { len, .. } | Transfer::Out { len } = plan.transfer {
            slot.len = len;
        }
        if data_len > 0 {
            // Placed if there is a run for it, else taken and dropped.
            self.expect(Body::new(Sink::Slot(index), padding, data_len));
            return Ok(Step::On);
        }
        match plan.transfer {
            Transfer::None => self.start(index, shard),
            Transfer::In { .. } => self.ask(index, shard),
            Transfer::Out { .. } => self.await_run(index, shard),
        }
        Ok(Step::On)
    }

    /// There is no slot: wait for one, or refuse when that took too long.
    fn no_slot(
        &mut self,
        sqe: &SqeView<'_>,
        data_len: u32,
        padding: usize,
        shard: &mut Shard<'_>,
    ) -> Step {
        if !self.out_of_patience() || !self.tx.can_refuse() {
            return Step::Blocked;
        }
        if data_len > 0 {
            self.expect(Body::new(Sink::Refused(sqe.cid()), padding, data_len));
        } else {
            self.refuse(sqe.cid(), shard);
        }
        Step::On
    }

    /// Takes a run for in-capsule data; false if there is none.
    fn begin_run(
        &mut self,
        index: SlotIndex,
        plan: &Plan,
        len: u32,
        shard: &mut Shard<'_>,
    ) -> bool {
        let Some(mut run) = shard.run_for_capsule() else {
            return false;
        };
        let slot = &mut shard.commands.slots[index];
        let offset = match (plan.work, plan.volume) {
            (Work::Write { range, .. }, Some(volume)) => range.offset(volume.block_size),
            _ => 0,
        };
        if run.begin(offset, len as usize).is_ok() {
            slot.run = Some(run);
        } else {
            slot.status = Status::INTERNAL_ERROR;
            shard.runs.put(run);
        }
        true
    }

    fn count(&self, sqe: &SqeView<'_>, shard: &mut Shard<'_>) {
        let counters = &mut shard.counters;
        match (&self.queue, sqe.opcode()) {
            (Queue::Io(_), 0x02) => counters.reads += 1,
            (Queue::Io(_), 0x01) => counters.writes += 1,
            (Queue::Io(_), _) if !sqe.is_fabrics() => counters.io_others += 1,
            _ => counters.admin_commands += 1,
        }
    }

    /// What the command is. Commands without data are executed here, so this
    /// is called once for each, except for those with in-capsule data.
    #[inline]
    fn plan(
        &mut self,
        sqe: &SqeView<'_>,
        capsule_len: u32,
        shard: &mut Shard<'_>,
    ) -> Result<Plan, Status> {
        sqe.check()?;
        if sqe.is_fabrics() {
            return self.plan_fabrics(sqe, capsule_len, shard);
        }
        match &mut self.queue {
            Queue::Io(io) => {
                let config = self.target.config();
                io.plan(
                    sqe,
                    capsule_len,
                    config.max_io_bytes,
                    config.in_capsule_bytes,
                )
            }
            Queue::Admin(admin) => {
                let reply = admin.execute(sqe, self.target.subsystems(), self.now)?;
                self.plan_reply(reply, sqe, capsule_len, shard)
            }
            // Nothing but Connect may come first (base 6.3).
            Queue::None => Err(Status::COMMAND_SEQUENCE_ERROR),
        }
    }

    fn plan_fabrics(
        &mut self,
        sqe: &SqeView<'_>,
        capsule_len: u32,
        shard: &mut Shard<'_>,
    ) -> Result<Plan, Status> {
        let command = FabricsCommand::read(sqe)?;
        match (&mut self.queue, command) {
            (
                Queue::None,
                FabricsCommand::Connect {
                    record_format,
                    qid,
                    sq_size,
                    no_flow_control,
                    keep_alive_ms,
                },
            ) => {
                if record_format != 0 {
                    return Err(Status::CONNECT_INCOMPATIBLE_FORMAT);
                }
                let work = Work::Connect {
                    qid,
                    sq_size,
                    no_flow_control,
                    keep_alive_ms,
                };
                let len = ConnectData::LEN as u32;
                Ok(Plan::of(work, data_in(sqe, len, len, capsule_len)?))
            }
            (Queue::None, _) => Err(Status::COMMAND_SEQUENCE_ERROR),
            (Queue::Admin(admin), _) => {
                let reply = admin.fabrics(command)?;
                self.plan_reply(reply, sqe, capsule_len, shard)
            }
            (Queue::Io(_), FabricsCommand::Connect { .. }) => Err(Status::COMMAND_SEQUENCE_ERROR),
            (Queue::Io(_), FabricsCommand::Disconnect { record_format }) => {
                if record_format != 0 {
                    return Err(Status::CONNECT_INCOMPATIBLE_FORMAT);
                }
                Ok(Plan::of(Work::Disconnect, Transfer::None))
            }
            // Properties belong to the Admin Queue.
            (Queue::Io(_), _) => Err(Status::INVALID_FIELD),
        }
    }

    fn plan_reply(
        &mut self,
        reply: Reply,
        sqe: &SqeView<'_>,
        capsule_len: u32,
        shard: &mut Shard<'_>,
    ) -> Result<Plan, Status> {
        Ok(match reply {
            Reply::Done(result) => Plan::done(result),
            Reply::Park => Plan::of(Work::Park, Transfer::None),
            // Dword 0 bit 0: the command was not aborted (base 5.1).
            Reply::Abort(cid) => Plan::done(u64::from(!self.abort_parked(cid, shard))),
            Reply::Reset => {
                self.drop_parked();
                Plan::done(0)
            }
            Reply::ShutDown => {
                let next = Some(Nsid(1));
                Plan::of(Work::ShutDown { next }, Transfer::None)
            }
            Reply::Data { work, len } => match sqe.sgl()? {
                Sgl::Transport { len: room } if room >= len => {
                    Plan::of(work, Transfer::Out { len })
                }
                Sgl::Transport { .. } => return Err(Status::DATA_SGL_LENGTH_INVALID),
                Sgl::InCapsule { .. } => return Err(Status::SGL_DESCRIPTOR_TYPE_INVALID),
            },
            Reply::Receive { work, len } => Plan::of(
                work,
                data_in(sqe, len, ADMIN_IN_CAPSULE_BYTES, capsule_len)?,
            ),
        })
    }
}

impl IoQueue {
    /// What an I/O command is (NVM 3).
    #[inline]
    fn plan(
        &mut self,
        sqe: &SqeView<'_>,
        capsule_len: u32,
        max_io_bytes: u32,
        in_capsule_bytes: u32,
    ) -> Result<Plan, Status> {
        let command = NvmCommand::read(sqe)?;
        let nsid = sqe.nsid();
        let cached = self.controller.write_cache();
        let namespace = self
            .namespaces()
            .get(nsid)
            .ok_or(Status::INVALID_NAMESPACE)?;
        let block_size = namespace.block_size;
        let volume = VolumeRef {
            nsid,
            volume: namespace.index,
            block_size,
        };
        let blocks = namespace.blocks;
        let within = |range: BlockRange| {
            if range.end().0 > blocks {
                return Err(Status::LBA_OUT_OF_RANGE);
            }
            Ok(range)
        };
        // MDTS (base 5.17.2.1).
        let data_len = |range: BlockRange| {
            let len = range.len(block_size);
            if len > u64::from(max_io_bytes) {
                return Err(Status::INVALID_FIELD);
            }
            Ok(len as u32)
        };
        let (work, transfer) = match command {
            NvmCommand::Read { range, fua } => {
                let range = within(range)?;
                let len = data_len(range)?;
                match sqe.sgl()? {
                    Sgl::Transport { len: room } if room == len => {}
                    Sgl::Transport { .. } => return Err(Status::DATA_SGL_LENGTH_INVALID),
                    Sgl::InCapsule { .. } => return Err(Status::SGL_DESCRIPTOR_TYPE_INVALID),
                }
                (Work::Read { range, fua }, Transfer::Out { len })
            }
            NvmCommand::Write { range, fua } => {
                let range = within(range)?;
                let transfer = data_in(sqe, data_len(range)?, in_capsule_bytes, capsule_len)?;
                let fua = fua || !cached;
                (Work::Write { range, fua }, transfer)
            }
            NvmCommand::WriteZeroes {
                range,
                fua,
                deallocate,
            } => {
                let work = Work::WriteZeroes {
                    range: within(range)?,
                    fua: fua || !cached,
                    deallocate,
                };
                (work, Transfer::None)
            }
            NvmCommand::Flush => (Work::Flush, Transfer::None),
            NvmCommand::DatasetManagement { ranges, deallocate } => {
                let work = Work::Dataset {
                    ranges,
                    next: 0,
                    deallocate,
                };
                // Room for all 256 ranges may come with fewer, as Linux does it.
                let (least, most) = (u32::from(ranges) * 16, 256 * 16);
                let len = sqe.sgl()?.data_len().clamp(least, most);
                (work, data_in(sqe, len, in_capsule_bytes, capsule_len)?)
            }
        };
        Ok(Plan {
            work,
            volume: Some(volume),
            transfer,
            result: 0,
        })
    }

    /// Blocks of the namespace of `volume` now.
    pub(super) fn blocks_of(&mut self, volume: VolumeRef) -> Option<u64> {
        let namespace = self.namespaces().get(volume.nsid)?;
        (namespace.index == volume.volume).then_some(namespace.blocks)
    }
}

/// Where the `len` bytes that a command takes are (base 4.1.2).
#[inline]
fn data_in(
    sqe: &SqeView<'_>,
    len: u32,
    in_capsule_max: u32,
    capsule_len: u32,
) -> Result<Transfer, Status> {
    let sgl = sqe.sgl()?;
    let in_capsule = match sgl {
        Sgl::InCapsule { offset, .. } => {
            // All of the capsule's data is the command's.
            if offset != 0 {
                return Err(Status::SGL_OFFSET_INVALID);
            }
            if capsule_len != len || len > in_capsule_max {
                return Err(Status::DATA_SGL_LENGTH_INVALID);
            }
            true
        }
        // Data in the capsule that the descriptor does not speak of.
        Sgl::Transport { .. } if capsule_len > 0 => return Err(Status::INVALID_FIELD),
        Sgl::Transport { .. } => false,
    };
    if sgl.data_len() != len {
        return Err(Status::DATA_SGL_LENGTH_INVALID);
    }
    Ok(Transfer::In { len, in_capsule })
}
