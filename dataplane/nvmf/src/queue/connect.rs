//! Connect: how a connection becomes a queue of a controller (base 6.3).

use super::slots::SlotIndex;
use super::{IoQueue, Queue, Role, State, Transport, flow};
use crate::command::{ConnectData, FabricsCommand};
use crate::controller::AdminQueue;
use crate::resources::Resources;
use crate::status::Status;
use crate::subsystem::ConnectError;
use crate::target::Admission;
use crate::units::Qid;
use crate::work::Work;

impl Queue {
    /// Connect's data is there.
    pub(super) fn connect(
        &mut self,
        index: SlotIndex,
        transport: &mut impl Transport,
        resources: &mut Resources<'_>,
    ) {
        let mut bytes = [0; ConnectData::LEN];
        let slot = &resources.commands.slots[index];
        let work = slot.work;
        flow::gather(slot, 0, &mut bytes);
        let result = match ConnectData::read(&bytes) {
            Ok(data) => {
                let result = self.accept(&data, work);
                let is_host = |error: &ConnectError| error.status == Status::CONNECT_INVALID_HOST;
                let is_refused = result.as_ref().is_err_and(is_host);
                self.not_let_in = is_refused.then(|| data.host.into());
                result
            }
            Err(field) => Err(ConnectError::data(field)),
        };
        match result {
            Ok(result) => {
                resources.counters.connects += 1;
                resources.commands.slots[index].result = result.into();
                self.respond(index, transport, resources);
            }
            Err(error) => {
                resources.counters.connects_refused += 1;
                resources.commands.slots[index].result = error.result.into();
                self.fail(index, error.status, transport, resources);
            }
        }
    }

    /// Makes this the queue that `work` names; returns its CNTLID, and AUTHREQ.
    fn accept(&mut self, data: &ConnectData<'_>, work: Work) -> Result<u32, ConnectError> {
        let Work::Connect {
            qid,
            sq_size,
            no_flow_control,
            keep_alive_ms,
        } = work
        else {
            return Err(Status::INTERNAL_ERROR.into());
        };
        if self.state != State::Unconnected {
            // Two Connects at once: the other one was first.
            return Err(Status::COMMAND_SEQUENCE_ERROR.into());
        }
        let (cntlid, admission) = if qid == Qid::ADMIN {
            let (controller, admission) =
                (self.target).connect_admin(data, sq_size, self.listener, &self.security)?;
            let cntlid = controller.cntlid.0;
            let depth = self.target.config().queue_depth;
            let admin = AdminQueue::new(controller, depth, keep_alive_ms, self.now);
            self.role = Role::Admin(Box::new(admin));
            (cntlid, admission)
        } else {
            self.accept_io(data, qid, sq_size)?
        };
        self.state = State::Connected;
        self.submission.connect(sq_size + 1, !no_flow_control);
        match admission {
            Admission::AtOnce => {
                if let Role::Io(_) = self.role {
                    self.waiting.reserve(usize::from(sq_size) + 1);
                }
                Ok(cntlid.into())
            }
            Admission::Proved => {
                self.authentication.owe(self.now);
                Ok(u32::from(cntlid) | FabricsCommand::AUTHENTICATION_REQUIRED)
            }
        }
    }

    fn accept_io(
        &mut self,
        data: &ConnectData<'_>,
        qid: Qid,
        sq_size: u16,
    ) -> Result<(u16, Admission), ConnectError> {
        let (controller, enabled, admission) =
            (self.target).connect_io(data, qid, sq_size, &self.security)?;
        let cntlid = controller.cntlid.0;
        let Some(namespaces) = controller.namespaces() else {
            return Err(ConnectError::command(FabricsCommand::CONNECT_QID_AT));
        };
        let io = IoQueue::new(controller, enabled, qid, namespaces, admission);
        self.role = Role::Io(Box::new(io));
        Ok((cntlid, admission))
    }
}
