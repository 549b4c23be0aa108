//! A queue on a transport that is not TCP: it reads and writes the memory of its
//! host, as RDMA does.

use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;

use block::{Completion, LastSmart, NamespaceIndex, Op};
use pages::{Arena, ClusterPool, CopyLedger, HeapRegion, PAGE_SIZE, RunPool};

use super::slots::Slots;
use super::*;
use crate::command::{
    AdminCommand, ConnectData, FabricsCommand, NvmCommand, PropertyWidth, Sgl, Sqe,
};
use crate::config::{Hosts, NamespaceConfig, SubsystemConfig, TargetConfig};
use crate::counters::Counters;
use crate::units::{BlockRange, BlockSize, Lba, Nsid};
use pool::CommandPool;

const NQN: &str = "nqn.2026-01.io.throughline:lab";
const HOST: &str = "nqn.2014-08.org.nvmexpress:uuid:1";

/// What the queue called for, in order.
#[derive(Default)]
struct Memory {
    calls: VecDeque<Call>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Call {
    Fetch(SlotIndex),
    Respond(SlotIndex),
}

impl Transport for Memory {
    fn fetch(&mut self, slots: &mut Slots, index: SlotIndex) {
        assert_eq!(slots[index].state, SlotState::Fetching);
        self.calls.push_back(Call::Fetch(index));
    }

    fn cancel_fetch(&mut self, _: &mut Slots, index: SlotIndex) -> bool {
        let called = self.calls.len();
        self.calls.retain(|&call| call != Call::Fetch(index));
        self.calls.len() < called
    }

    fn respond(&mut self, slots: &mut Slots, index: SlotIndex) {
        assert_eq!(slots[index].state, SlotState::Sending);
        self.calls.push_back(Call::Respond(index));
    }

    fn owed(&self) -> u64 {
        0
    }
}

/// A shard's pools.
struct Pools {
    runs: RunPool,
    pages: ClusterPool,
    ledger: CopyLedger,
    commands: CommandPool,
    counters: Counters,
    _arena: Rc<Arena>,
}

impl Pools {
    fn new() -> Self {
        let arena = Arena::new(HeapRegion::new(64));
        Self {
            runs: RunPool::new(8, 1 << 17),
            pages: ClusterPool::carve(&arena, 64, PAGE_SIZE).unwrap(),
            ledger: CopyLedger::new(),
            commands: CommandPool::new(16, 1 << 20, 1),
            counters: Counters::default(),
            _arena: arena,
        }
    }

    fn lend(&mut self) -> Resources<'_> {
        Resources {
            runs: &self.runs,
            pages: &self.pages,
            ledger: &self.ledger,
            commands: &mut self.commands,
            counters: &mut self.counters,
        }
    }
}

fn target() -> Arc<Target> {
    let namespace = NamespaceConfig {
        nsid: Nsid(1),
        index: NamespaceIndex(7),
        block_size: BlockSize::B4096,
        blocks: 256,
        uuid: [1; 16],
        nguid: [0; 16],
        eui64: [0; 8],
        volatile_write_cache: false,
        deallocated_reads_zero: true,
        is_backup: false,
        smart: LastSmart::default(),
    };
    Target::new(TargetConfig {
        subsystems: vec![SubsystemConfig {
            nqn: NQN.into(),
            serial: "1".into(),
            model: "Throughline".into(),
            namespaces: vec![namespace],
            hosts: Hosts::Any,
            max_queues: 1,
            ana: None,
            cntlids: SubsystemConfig::CNTLIDS,
            peers: Vec::new(),
        }],
        ..TargetConfig::default()
    })
    .unwrap()
}

fn listener() -> Listener {
    Listener {
        address: [192, 0, 2, 1].into(),
        port: 4420,
    }
}

/// A queue, its transport, and the shard that it is on.
struct Host {
    queue: Queue,
    memory: Memory,
    pools: Pools,
}

impl Host {
    fn new(target: &Arc<Target>) -> Self {
        Self {
            queue: Queue::new(target, listener(), listener().address, Timestamp(0)),
            memory: Memory::default(),
            pools: Pools::new(),
        }
    }

    fn take(&mut self, sqe: Sqe, capsule: u32) -> Taken {
        let resources = &mut self.pools.lend();
        let taken = (self.queue).take(&sqe.view(), capsule, true, &mut self.memory, resources);
        taken.unwrap()
    }

    /// Puts the host's bytes into the run of the command, page by page.
    fn write_into(&mut self, index: SlotIndex, bytes: &[u8]) {
        let resources = self.pools.lend();
        for part in bytes.chunks(PAGE_SIZE) {
            let mut page = resources.pages.alloc().unwrap();
            page[..part.len()].copy_from_slice(part);
            let slice = page.freeze().slice(0..part.len());
            let slot = &mut resources.commands.slots[index];
            let pull_up = pages::PullUp::new(resources.pages, resources.ledger);
            assert!(slot.place(slice, &pull_up).is_ok());
            slot.add_received(part.len() as u32, Timestamp(0));
        }
    }

    /// A command with its data in the capsule.
    fn with_data(&mut self, sqe: Sqe, bytes: &[u8]) {
        let taken = self.take(sqe, bytes.len() as u32);
        let Taken::DataFollows(index) = taken else {
            panic!("{taken:?}");
        };
        self.write_into(index, bytes);
        (self.queue).start(index, &mut self.memory, &mut self.pools.lend());
    }

    /// Takes the one response that is due: status, result and data.
    fn response(&mut self) -> (Status, u64, Vec<u8>) {
        let call = self.memory.calls.pop_front();
        let Some(Call::Respond(index)) = call else {
            panic!("{call:?} in place of a response");
        };
        let slot = &self.pools.commands.slots[index];
        let data = match &slot.run {
            Some(run) => run.slices(0..slot.len as usize).collect(),
            None => Vec::new(),
        };
        let data = data.iter().flat_map(|s| s.bytes().to_vec()).collect();
        let response = (slot.status, slot.result, data);
        self.queue.responded(index, &mut self.pools.lend());
        assert!(self.memory.calls.is_empty());
        response
    }

    fn connect(&mut self, qid: u16, cntlid: Cntlid) -> Cntlid {
        let command = FabricsCommand::Connect {
            record_format: 0,
            qid: Qid(qid),
            sq_size: 7,
            no_flow_control: false,
            keep_alive_ms: 0,
        };
        let data = ConnectData {
            host_id: [3; 16],
            cntlid,
            subsystem: NQN,
            host: HOST,
        };
        let len = ConnectData::LEN as u32;
        let sgl = Sgl::InCapsule { offset: 0, len };
        self.with_data(command.write(Cid(0), sgl), &data.write());
        let (status, result, _) = self.response();
        assert_eq!(status, Status::SUCCESS);
        Cntlid(result as u16)
    }

    fn assert_all_returned(&mut self) {
        self.queue.close(&mut self.pools.lend());
        assert_eq!(self.pools.commands.in_use(), 0);
        assert_eq!(self.pools.commands.write_bytes_granted(), 0);
        assert_eq!(self.pools.runs.available(), 8);
        assert_eq!(self.pools.pages.held(), 0);
    }
}

/// An enabled controller and its first I/O queue.
fn connected(target: &Arc<Target>) -> (Host, Host) {
    let mut admin = Host::new(target);
    let cntlid = admin.connect(0, Cntlid::DYNAMIC);
    let enable = FabricsCommand::PropertySet {
        offset: 0x14,
        width: PropertyWidth::Four,
        value: 0x0046_0001,
    };
    let none = Sgl::Transport { len: 0 };
    admin.take(enable.write(Cid(1), none), 0);
    assert_eq!(admin.response().0, Status::SUCCESS);
    let mut io = Host::new(target);
    io.connect(1, cntlid);
    (admin, io)
}

#[test]
fn data_is_fetched_and_sent_without_a_stream() {
    let target = target();
    let (mut admin, mut io) = connected(&target);
    let range = BlockRange::new(Lba(3), 2).unwrap();
    let sgl = Sgl::Transport { len: 8192 };
    let write = NvmCommand::Write { range, fua: true };
    let taken = io.take(write.write(Cid(1), Nsid(1), sgl), 0);
    assert!(matches!(taken, Taken::Started), "{taken:?}");
    let Some(Call::Fetch(index)) = io.memory.calls.pop_front() else {
        panic!("nothing to fetch");
    };
    assert_eq!(io.pools.commands.write_bytes_granted(), 8192);
    // No request before all is there, however the transport fetches it.
    let bytes: Vec<u8> = (0..8192u32).map(|n| (n / 3) as u8).collect();
    let (front, back) = bytes.split_at(4096);
    io.write_into(index, front);
    assert!((io.queue.next_request(&mut io.memory, &mut io.pools.lend())).is_none());
    io.write_into(index, back);
    (io.queue).fetched(index, &mut io.memory, &mut io.pools.lend());
    let request = (io.queue).next_request(&mut io.memory, &mut io.pools.lend());
    let request = request.unwrap();
    assert_eq!(request.namespace, NamespaceIndex(7));
    assert_eq!((request.io.op, request.io.flags.fua), (Op::Write, true));
    assert_eq!((request.io.offset, request.io.len), (3 * 4096, 8192));
    let run = request.io.run.unwrap();
    let stored: Vec<u8> = (run.slices(0..8192))
        .flat_map(|slice| slice.bytes().to_vec())
        .collect();
    assert_eq!(stored, bytes);
    let completion = Completion {
        id: request.id,
        result: Ok(()),
        run: Some(run),
    };
    (io.queue).complete(completion, &mut io.memory, &mut io.pools.lend());
    assert_eq!(io.response(), (Status::SUCCESS, 0, Vec::new()));
    // After Connect and this one, the next response is the third.
    assert_eq!(io.queue.sq_head(), Some(3));
    assert_eq!(io.pools.ledger.bytes_copied_total(), 0);
    // And to the host, in the run of the response.
    let identify = AdminCommand::Identify {
        cns: 0,
        cntlid: Cntlid(0),
        csi: 0,
    };
    let sgl = Sgl::Transport { len: 4096 };
    admin.take(identify.write(Cid(2), Nsid(1), sgl), 0);
    let (status, _, data) = admin.response();
    assert_eq!(status, Status::SUCCESS);
    assert_eq!(data.len(), 4096);
    assert_eq!(data[..8], 256u64.to_le_bytes());
    io.assert_all_returned();
    admin.assert_all_returned();
}

#[test]
fn a_fetch_that_fails_fails_the_command() {
    let target = target();
    let (mut admin, mut io) = connected(&target);
    let range = BlockRange::new(Lba(0), 1).unwrap();
    let sgl = Sgl::Transport { len: 4096 };
    let write = NvmCommand::Write { range, fua: false };
    io.take(write.write(Cid(1), Nsid(1), sgl), 0);
    let Some(Call::Fetch(index)) = io.memory.calls.pop_front() else {
        panic!("nothing to fetch");
    };
    let status = Status::DATA_TRANSFER_ERROR;
    io.pools.commands.slots[index].status = status;
    (io.queue).fetched(index, &mut io.memory, &mut io.pools.lend());
    assert!((io.queue.next_request(&mut io.memory, &mut io.pools.lend())).is_none());
    assert_eq!(io.response(), (status, 0, Vec::new()));
    io.assert_all_returned();
    admin.assert_all_returned();
}

#[test]
fn more_commands_than_entries_are_an_overrun() {
    let target = target();
    let (mut admin, mut io) = connected(&target);
    let flush = || NvmCommand::Flush.write(Cid(1), Nsid(1), Sgl::Transport { len: 0 });
    for _ in 0..8 {
        assert!(matches!(io.take(flush(), 0), Taken::Started));
    }
    let resources = &mut io.pools.lend();
    let taken = (io.queue).take(&flush().view(), 0, true, &mut io.memory, resources);
    assert!(taken.is_err());
    io.assert_all_returned();
    admin.assert_all_returned();
}
