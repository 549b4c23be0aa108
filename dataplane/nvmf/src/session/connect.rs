//! Connect: what makes a connection a queue (base 6.3).

use super::{IoQueue, Phase, Queue, Session, flow};
use crate::command::{ConnectData, FabricsCommand};
use crate::controller::AdminQueue;
use crate::shard::Shard;
use crate::slots::{SlotIndex, Work};
use crate::status::Status;
use crate::subsystem::ConnectError;
use crate::units::Qid;

impl Session {
    /// Connect's data is there.
    pub(super) fn connect(&mut self, index: SlotIndex, shard: &mut Shard<'_>) {
        let mut bytes = [0; ConnectData::LEN];
        let slot = &shard.commands.slots[index];
        let work = slot.work;
        flow::gather(slot, 0, &mut bytes);
        let result = match ConnectData::read(&bytes) {
            Ok(data) => self.accept(&data, work),
            Err(field) => Err(ConnectError::data(field)),
        };
        match result {
            Ok(cntlid) => {
                shard.counters.connects += 1;
                shard.commands.slots[index].result = cntlid.into();
                self.respond(index, shard);
            }
            Err(error) => {
                shard.counters.connects_refused += 1;
                shard.commands.slots[index].result = error.result.into();
                self.fail(index, error.status, shard);
            }
        }
    }

    /// Makes this connection the queue that `work` asks for; gives its CNTLID.
    fn accept(&mut self, data: &ConnectData<'_>, work: Work) -> Result<u16, ConnectError> {
        let Work::Connect {
            qid,
            sq_size,
            no_flow_control,
            keep_alive_ms,
        } = work
        else {
            return Err(Status::INTERNAL_ERROR.into());
        };
        if self.phase != Phase::Unconnected {
            // Two Connects at once: the other one was first.
            return Err(Status::COMMAND_SEQUENCE_ERROR.into());
        }
        let cntlid = if qid == Qid::ADMIN {
            let controller = self.target.connect_admin(data, sq_size)?;
            let cntlid = controller.cntlid.0;
            let depth = self.target.config().queue_depth;
            let admin = AdminQueue::new(controller, depth, keep_alive_ms, self.now);
            self.queue = Queue::Admin(Box::new(admin));
            cntlid
        } else {
            self.accept_io(data, qid, sq_size)?
        };
        self.phase = Phase::Connected;
        if let Queue::Io(_) = self.queue {
            self.asking.reserve_exact(usize::from(sq_size) + 1);
        }
        self.sq.entries = sq_size + 1;
        self.sq.flow_control = !no_flow_control;
        Ok(cntlid)
    }

    fn accept_io(
        &mut self,
        data: &ConnectData<'_>,
        qid: Qid,
        sq_size: u16,
    ) -> Result<u16, ConnectError> {
        let (controller, enabled) = self.target.connect_io(data, qid, sq_size)?;
        let cntlid = controller.cntlid.0;
        let Some(subsystem) = &controller.subsystem else {
            return Err(ConnectError::command(FabricsCommand::CONNECT_QID_AT));
        };
        self.queue = Queue::Io(Box::new(IoQueue {
            namespaces: subsystem.namespaces(),
            controller,
            enabled,
            qid,
            reads: 0,
            writes: 0,
            units_read: 0,
            units_written: 0,
        }));
        Ok(cntlid)
    }
}
