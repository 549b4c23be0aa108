//! What each command is, and what it needs.

use super::abort::NOT_ABORTED;
use super::pool::Purpose;
use super::slots::SlotIndex;
use super::{End, IoQueue, Queue, Role, Transport};
use crate::command::{ConnectData, FabricsCommand, NvmCommand, Sgl, SqeView};
use crate::config::ADMIN_IN_CAPSULE_BYTES;
use crate::controller::Reply;
use crate::resources::Resources;
use crate::status::Status;
use crate::units::{BlockRange, Nsid, Qid};
use crate::work::{NamespaceRef, Work};

/// What became of a command that a transport handed over.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Taken {
    /// It is under way.
    Started,
    /// Its data follows in the capsule and goes to this slot: to its run, or nowhere
    /// if it has none. When all is there, [`Queue::start`] is to be called.
    DataFollows(SlotIndex),
    /// Nothing was taken: there is no slot for it. To be handed over again when
    /// resources of the shard were given back, or refused.
    NoSlot,
    /// Nothing was taken: there is no run for its data. To be handed over again.
    NoRun,
}

/// The host has sent more commands than the Submission Queue has entries.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Overrun;

/// What a command comes to, before it holds anything but its slot.
#[derive(Clone, Copy, Debug)]
pub(super) struct Plan {
    work: Work,
    namespace: Option<NamespaceRef>,
    transfer: Transfer,
    result: u64,
}

/// The data a command moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Transfer {
    None,
    FromHost { len: u32, in_capsule: bool },
    ToHost { len: u32 },
}

impl Plan {
    /// Nothing more to do: `result` is dwords 0 and 1.
    fn done(result: u64) -> Self {
        Self {
            work: Work::Respond,
            namespace: None,
            transfer: Transfer::None,
            result,
        }
    }

    pub(super) fn of(work: Work, transfer: Transfer) -> Self {
        Self {
            work,
            namespace: None,
            transfer,
            result: 0,
        }
    }
}

impl Queue {
    /// Takes a command with `capsule_len` bytes of data in its capsule. It `may_wait`
    /// if the transport can hand it over again; else it is completed with an error if
    /// there is no run for its data.
    ///
    /// # Errors
    /// If the host may not have as many commands outstanding.
    pub fn take(
        &mut self,
        sqe: &SqeView<'_>,
        capsule_len: u32,
        may_wait: bool,
        transport: &mut impl Transport,
        resources: &mut Resources<'_>,
    ) -> Result<Taken, Overrun> {
        if let Role::Io(io) = &self.role
            && !io.is_valid()
        {
            // No response: a status might be final for the host, while another
            // controller, or this one later, would do what it wants.
            self.end(End::ControllerGone, resources);
            return Ok(Taken::Started);
        }
        self.note_traffic();
        if self.submission.is_full() {
            return Err(Overrun);
        }
        let purpose = match &self.role {
            Role::Io(_) => Purpose::Io,
            Role::Admin(_) | Role::None => Purpose::Admin,
        };
        let taken = (resources.commands).take(purpose, sqe.cid(), &mut self.held);
        let Some(index) = taken else {
            return Ok(Taken::NoSlot);
        };
        self.submission.take();
        let plan = match self.plan(sqe, capsule_len, transport, resources) {
            Ok(plan) => plan,
            Err(status) => {
                resources.commands.slots[index].status = status;
                Plan::done(0)
            }
        };
        if let Transfer::FromHost {
            len,
            in_capsule: true,
        } = plan.transfer
            && !self.begin_run(index, &plan, len, resources)
        {
            if may_wait {
                self.release(index, resources);
                return Ok(Taken::NoRun);
            }
            resources.commands.slots[index].status = self.interrupted(resources);
        }
        self.count(sqe, resources);
        let slot = &mut resources.commands.slots[index];
        slot.work = plan.work;
        slot.result = plan.result;
        if let Some(namespace) = plan.namespace {
            slot.namespace = namespace;
        } else {
            slot.namespace.nsid = sqe.nsid();
        }
        if let Transfer::FromHost { len, .. } | Transfer::ToHost { len } = plan.transfer {
            slot.len = len;
        }
        let len = slot.len;
        if let Some(namespace) = plan.namespace
            && capsule_len == 0
            && resources.is_greedy(namespace.index, &plan.work, len)
        {
            self.hold_back(index, resources);
            return Ok(Taken::Started);
        }
        if capsule_len > 0 {
            // Placed if there is a run for it, else taken and dropped.
            return Ok(Taken::DataFollows(index));
        }
        match plan.transfer {
            Transfer::None => self.start(index, transport, resources),
            Transfer::FromHost { .. } => self.fetch(index, transport, resources),
            Transfer::ToHost { .. } => self.await_run(index, transport, resources),
        }
        Ok(Taken::Started)
    }

    /// Takes a run for in-capsule data; false if there is none.
    fn begin_run(
        &mut self,
        index: SlotIndex,
        plan: &Plan,
        len: u32,
        resources: &mut Resources<'_>,
    ) -> bool {
        let Some(mut run) = resources.run_for_capsule() else {
            return false;
        };
        let slot = &mut resources.commands.slots[index];
        let offset = match (plan.work, plan.namespace) {
            (Work::Write { range, .. }, Some(namespace)) => range.offset(namespace.block_size),
            _ => 0,
        };
        if run.begin(offset, len as usize).is_ok() {
            slot.run = Some(run);
            resources.commands.keep_run(index);
        } else {
            slot.status = Status::INTERNAL_ERROR;
            resources.runs.put(run);
        }
        true
    }

    /// Counts the command by what it is.
    fn count(&self, sqe: &SqeView<'_>, resources: &mut Resources<'_>) {
        let counters = &mut resources.counters;
        match (&self.role, sqe.opcode()) {
            (Role::Io(_), 0x02) => counters.reads += 1,
            (Role::Io(_), 0x01) => counters.writes += 1,
            (Role::Io(_), _) if !sqe.is_fabrics() => counters.io_others += 1,
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
        transport: &mut impl Transport,
        resources: &mut Resources<'_>,
    ) -> Result<Plan, Status> {
        sqe.check()?;
        if self.authentication.is_owed() && !FabricsCommand::is_authentication(sqe) {
            return Err(Status::AUTHENTICATION_REQUIRED);
        }
        if sqe.is_fabrics() {
            return self.plan_fabrics(sqe, capsule_len, transport, resources);
        }
        match &mut self.role {
            Role::Io(io) => {
                let config = self.target.config();
                io.plan(
                    sqe,
                    capsule_len,
                    config.max_io_bytes,
                    config.in_capsule_bytes,
                )
            }
            Role::Admin(admin) => {
                let reply = admin.execute(sqe, &self.target, self.now)?;
                self.plan_reply(reply, sqe, capsule_len, transport, resources)
            }
            // Nothing but Connect may come first (base 6.3).
            Role::None => Err(Status::COMMAND_SEQUENCE_ERROR),
        }
    }

    fn plan_fabrics(
        &mut self,
        sqe: &SqeView<'_>,
        capsule_len: u32,
        transport: &mut impl Transport,
        resources: &mut Resources<'_>,
    ) -> Result<Plan, Status> {
        if FabricsCommand::is_authentication(sqe) && !self.may_authenticate() {
            return Err(Status::INVALID_OPCODE);
        }
        let command = FabricsCommand::read(sqe)?;
        match (&mut self.role, command) {
            (
                Role::None,
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
            (Role::None, _) => Err(Status::COMMAND_SEQUENCE_ERROR),
            (_, FabricsCommand::AuthenticationSend { len }) => {
                self.plan_auth_send(sqe, len, capsule_len)
            }
            (_, FabricsCommand::AuthenticationReceive { len }) => self.plan_auth_receive(sqe, len),
            (Role::Admin(admin), _) => {
                let reply = admin.fabrics(command, &self.target, self.now)?;
                self.plan_reply(reply, sqe, capsule_len, transport, resources)
            }
            (Role::Io(_), FabricsCommand::Connect { .. }) => Err(Status::COMMAND_SEQUENCE_ERROR),
            (Role::Io(_), FabricsCommand::Disconnect { record_format }) => {
                if record_format != 0 {
                    return Err(Status::CONNECT_INCOMPATIBLE_FORMAT);
                }
                Ok(Plan::of(Work::Disconnect, Transfer::None))
            }
            // Properties belong to the Admin Queue.
            (Role::Io(_), _) => Err(Status::INVALID_FIELD),
        }
    }

    fn plan_reply(
        &mut self,
        reply: Reply,
        sqe: &SqeView<'_>,
        capsule_len: u32,
        transport: &mut impl Transport,
        resources: &mut Resources<'_>,
    ) -> Result<Plan, Status> {
        Ok(match reply {
            Reply::Done(result) => Plan::done(result),
            Reply::Park => Plan::of(Work::Park, Transfer::None),
            // Itself.
            Reply::Abort { qid, cid } if (qid, cid) == (Qid::ADMIN, sqe.cid()) => {
                Plan::done(NOT_ABORTED)
            }
            Reply::Abort { qid, cid } => match self.begin_abort(qid, cid, transport, resources)? {
                Ok(result) => Plan::done(result),
                Err(id) => Plan::of(Work::Abort { id }, Transfer::None),
            },
            Reply::Reset => {
                self.drop_parked();
                self.drop_aborts(resources);
                Plan::done(0)
            }
            Reply::ShutDown => {
                let next = Some(Nsid(1));
                Plan::of(Work::ShutDown { next }, Transfer::None)
            }
            Reply::Data { work, len } => match sqe.sgl()? {
                Sgl::Transport { len: room } if room >= len => {
                    Plan::of(work, Transfer::ToHost { len })
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
        let namespaces = self.namespaces();
        let Some(namespace) = namespaces.serving(nsid) else {
            return Err(namespaces.refusal(nsid));
        };
        if namespace.is_backup && !matches!(command, NvmCommand::Read { .. } | NvmCommand::Flush) {
            return Err(Status::NAMESPACE_WRITE_PROTECTED);
        }
        let block_size = namespace.block_size;
        let found = NamespaceRef {
            nsid,
            index: namespace.index,
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
                (Work::Read { range, fua }, Transfer::ToHost { len })
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
            namespace: Some(found),
            transfer,
            result: 0,
        })
    }
}

/// Where the `len` bytes that a command takes are (base 4.1.2).
#[inline]
pub(super) fn data_in(
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
        // Data in the capsule that the descriptor does not describe.
        Sgl::Transport { .. } if capsule_len > 0 => return Err(Status::INVALID_FIELD),
        Sgl::Transport { .. } => false,
    };
    if sgl.data_len() != len {
        return Err(Status::DATA_SGL_LENGTH_INVALID);
    }
    Ok(Transfer::FromHost { len, in_capsule })
}
