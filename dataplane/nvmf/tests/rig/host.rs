//! The host's side: the test kit's host, and the session that it speaks with.

use std::collections::{BTreeMap, VecDeque};

use nvmf::Session;
use testkit::command::{Sqe, property};
use testkit::pdu::ic_req;
use testkit::{Command, Completion, Config, Payload};
pub use testkit::{Pdu, command, crc32c};

use super::wire::{Cut, Sent};
use super::{HOST_NQN, NQN, Rig};

/// What a command came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answer {
    pub status: u16,
    pub result: u64,
    pub sq_head: u16,
    pub data: Vec<u8>,
}

/// How the host is to behave.
#[derive(Clone, Copy, Debug)]
pub struct Manners {
    pub header_digest: bool,
    pub data_digest: bool,
    /// HPDA as sent: dwords minus one.
    pub hpda: u8,
    /// Largest in-capsule data it uses for I/O.
    pub in_capsule: usize,
    /// Largest H2CData it sends.
    pub h2c_bytes: usize,
    pub no_flow_control: bool,
    pub keep_alive_ms: u32,
}

impl Default for Manners {
    fn default() -> Self {
        Self {
            header_digest: false,
            data_digest: false,
            hpda: 0,
            in_capsule: 4096,
            h2c_bytes: usize::MAX,
            no_flow_control: false,
            keep_alive_ms: 0,
        }
    }
}

impl Manners {
    fn config(&self) -> Config {
        let mut config = Config::new(NQN);
        config.host = HOST_NQN.into();
        config.format.header_digest = self.header_digest;
        config.format.data_digest = self.data_digest;
        config.format.hpda = self.hpda;
        config.h2c_bytes = self.h2c_bytes;
        config
    }
}

pub struct Host {
    pub session: Session,
    pub sent: Sent,
    pub manners: Manners,
    pub cut: Cut,
    /// Knows the commands under way, and serves the PDUs that it is given.
    pub kit: testkit::Host,
    /// PDUs that nobody served yet.
    pub pdus: VecDeque<Pdu>,
    pub answers: BTreeMap<u16, Answer>,
    /// Bytes for the controller that it could not take yet.
    pub backlog: Vec<u8>,
    pub cntlid: u16,
    /// What held requests are filed under.
    pub owner: usize,
}

/// Bytes 0 to 63 of a command.
pub fn sqe(opcode: u8, nsid: u32) -> Sqe {
    Command::new(opcode, nsid).sqe
}

pub fn set32(sqe: &mut Sqe, at: usize, value: u32) {
    sqe[at..at + 4].copy_from_slice(&value.to_le_bytes());
}

/// SGL: Transport Data Block of `len` bytes.
pub fn transport(sqe: &mut Sqe, len: u32) {
    set32(sqe, 32, len);
    sqe[39] = 0x5a;
}

/// A write of `blocks` of 4 KiB to namespace 2, whose data is to be asked for.
pub fn write_asked(lba: u64, blocks: u32) -> Sqe {
    Command::write(2, lba, blocks, Payload::Withheld(blocks as usize * 4096)).sqe
}

/// SGL: Data Block at offset 0 of the capsule.
pub fn in_capsule(sqe: &mut Sqe, len: u32) {
    set32(sqe, 32, len);
    sqe[39] = 0x01;
}

pub fn rw(opcode: u8, nsid: u32, lba: u64, blocks: u32) -> Sqe {
    Command::on_blocks(opcode, nsid, lba, blocks).sqe
}

/// An error status: type, code.
pub fn sc(status: u16) -> (u16, u16) {
    (status >> 8 & 7, status & 0xff)
}

impl Host {
    pub fn new(rig: &Rig, manners: Manners) -> Self {
        let kit = testkit::Host::new(manners.config());
        Self {
            session: rig.session(),
            sent: Sent {
                room: usize::MAX,
                ..Sent::default()
            },
            manners,
            cut: Cut::Every(1448),
            kit,
            pdus: VecDeque::new(),
            answers: BTreeMap::new(),
            backlog: Vec::new(),
            cntlid: 0,
            owner: 0,
        }
    }

    /// Connected to the Admin Queue, and the controller enabled.
    pub fn admin(rig: &mut Rig, manners: Manners) -> Self {
        let mut host = Self::new(rig, manners);
        host.initialize(rig);
        let answer = host.connect(rig, 0, 0xffff, 31);
        assert_eq!(answer.status, 0, "Connect");
        host.cntlid = answer.result as u16;
        assert_eq!(
            host.set_property(rig, property::CC, command::CC_ENABLED)
                .status,
            0
        );
        host
    }

    /// Another connection of the same host: I/O queue `qid`.
    pub fn io(&self, rig: &mut Rig, qid: u16, entries: u16) -> Self {
        let mut host = Self::new(rig, self.manners);
        host.initialize(rig);
        let answer = host.connect(rig, qid, self.cntlid, entries - 1);
        assert_eq!(answer.status, 0, "Connect");
        host.cntlid = self.cntlid;
        host
    }

    pub fn initialize(&mut self, rig: &mut Rig) {
        let ic_req = self.ic_req();
        self.send(rig, &ic_req);
        let agreed = self.kit.initialized().expect("ICResp");
        assert_eq!(agreed.format, self.manners.config().format);
    }

    pub fn ic_req(&self) -> Vec<u8> {
        ic_req(&self.manners.config().format, 0).to_vec()
    }

    pub fn connect(&mut self, rig: &mut Rig, qid: u16, cntlid: u16, sq_size: u16) -> Answer {
        self.connect_with(rig, qid, sq_size, &connect_data(cntlid, NQN, HOST_NQN))
    }

    pub fn connect_with(&mut self, rig: &mut Rig, qid: u16, sq_size: u16, data: &[u8]) -> Answer {
        let sqe = self.connect_sqe(qid, sq_size);
        self.with_data(rig, sqe, data)
    }

    pub fn connect_sqe(&self, qid: u16, sq_size: u16) -> Sqe {
        let Manners {
            no_flow_control,
            keep_alive_ms,
            ..
        } = self.manners;
        Command::connect(qid, sq_size, no_flow_control, keep_alive_ms, Vec::new()).sqe
    }

    pub fn get_property(&mut self, rig: &mut Rig, offset: u32, wide: bool) -> Answer {
        self.without_data(rig, Command::property_get(offset, wide).sqe)
    }

    pub fn set_property(&mut self, rig: &mut Rig, offset: u32, value: u32) -> Answer {
        let cid = self.start_setting_property(rig, offset, value);
        self.answer(cid)
    }

    /// As [`Host::set_property`], without waiting for the answer.
    pub fn start_setting_property(&mut self, rig: &mut Rig, offset: u32, value: u32) -> u16 {
        self.submit(rig, Command::property_set(offset, value).sqe, &[])
    }

    pub fn disconnect(&mut self, rig: &mut Rig) -> Answer {
        self.without_data(rig, Command::disconnect().sqe)
    }

    pub fn identify(&mut self, rig: &mut Rig, cns: u8, nsid: u32) -> Answer {
        self.without_data(rig, Command::identify(cns, nsid).sqe)
    }

    pub fn log_page(&mut self, rig: &mut Rig, lid: u8, offset: u64, len: u32) -> Answer {
        self.without_data(rig, log_page(lid, offset, len))
    }

    pub fn set_features(&mut self, rig: &mut Rig, fid: u8, value: u32) -> Answer {
        self.without_data(rig, Command::set_features(fid, value).sqe)
    }

    pub fn get_features(&mut self, rig: &mut Rig, fid: u8, select: u8) -> Answer {
        self.without_data(rig, Command::get_features(fid, select).sqe)
    }

    pub fn read(&mut self, rig: &mut Rig, nsid: u32, lba: u64, blocks: u32, len: u32) -> Answer {
        self.reading(rig, rw(0x02, nsid, lba, blocks), len)
    }

    pub fn write(
        &mut self,
        rig: &mut Rig,
        nsid: u32,
        lba: u64,
        blocks: u32,
        data: &[u8],
    ) -> Answer {
        let sqe = rw(0x01, nsid, lba, blocks);
        if data.len() <= self.manners.in_capsule {
            self.with_data(rig, sqe, data)
        } else {
            self.asked_for(rig, sqe, data)
        }
    }

    /// A command whose data comes back.
    pub fn reading(&mut self, rig: &mut Rig, mut sqe: [u8; 64], len: u32) -> Answer {
        transport(&mut sqe, len);
        self.without_data(rig, sqe)
    }

    pub fn without_data(&mut self, rig: &mut Rig, sqe: [u8; 64]) -> Answer {
        let cid = self.submit(rig, sqe, &[]);
        self.answer(cid)
    }

    /// A command with in-capsule data.
    pub fn with_data(&mut self, rig: &mut Rig, mut sqe: [u8; 64], data: &[u8]) -> Answer {
        in_capsule(&mut sqe, data.len() as u32);
        let cid = self.submit(rig, sqe, data);
        self.answer(cid)
    }

    /// A command whose data is fetched by R2T.
    pub fn asked_for(&mut self, rig: &mut Rig, sqe: [u8; 64], data: &[u8]) -> Answer {
        let cid = self.submit_asked(rig, sqe, data);
        self.answer(cid)
    }

    pub fn submit_asked(&mut self, rig: &mut Rig, sqe: [u8; 64], data: &[u8]) -> u16 {
        let (cid, capsule) = self.asked_capsule(sqe, data);
        self.send(rig, &capsule);
        cid
    }

    /// Sends a capsule and lets everything run until it rests.
    pub fn submit(&mut self, rig: &mut Rig, sqe: [u8; 64], data: &[u8]) -> u16 {
        let (cid, capsule) = self.capsule(sqe, data);
        self.send(rig, &capsule);
        cid
    }

    /// A capsule with the next CID.
    pub fn capsule(&mut self, sqe: [u8; 64], data: &[u8]) -> (u16, Vec<u8>) {
        self.kit.capsule(Command::of(sqe, data))
    }

    /// As [`Host::capsule`], of a command whose data is sent when the controller asks for it.
    pub fn asked_capsule(&mut self, mut sqe: [u8; 64], data: &[u8]) -> (u16, Vec<u8>) {
        transport(&mut sqe, data.len() as u32);
        let payload = Payload::Asked(data.to_vec());
        self.kit.capsule(Command { sqe, payload })
    }

    /// A PDU with `fields` behind the common header.
    pub fn pdu(&self, pdu_type: u8, flags: u8, fields: &[u8], data: &[u8]) -> Vec<u8> {
        let mut pdu = Vec::new();
        (self.kit.format()).write(&mut pdu, pdu_type, flags, fields, data);
        pdu
    }

    pub fn h2c_data(&self, cid: u16, ttag: u16, offset: u32, data: &[u8], last: bool) -> Vec<u8> {
        let mut pdu = Vec::new();
        (self.kit.format()).h2c_data(&mut pdu, cid, ttag, offset, data, last);
        pdu
    }

    /// Sends raw bytes and lets everything run until it rests.
    pub fn send(&mut self, rig: &mut Rig, bytes: &[u8]) {
        self.backlog.extend_from_slice(bytes);
        self.run(rig);
    }

    /// Moves everything that can move: both directions, the volumes, R2Ts.
    pub fn run(&mut self, rig: &mut Rig) {
        loop {
            let bytes = std::mem::take(&mut self.backlog);
            let left = rig.deliver(&mut self.session, &bytes, &mut self.cut).len();
            let progress = left < bytes.len();
            self.backlog = bytes[bytes.len() - left..].to_vec();
            let (now, unacknowledged) = (rig.now, self.sent.unacknowledged());
            self.session.set_unacknowledged(now, unacknowledged);
            self.session.resume(now, &mut rig.shard());
            rig.serve(self.owner, &mut self.session);
            self.session.transmit(&mut self.sent, &mut rig.shard());
            let unacknowledged = self.sent.unacknowledged();
            self.session.set_unacknowledged(now, unacknowledged);
            // What was sent has given its slots and runs back.
            let sent = self.read_sent();
            let asked = self.react();
            if !progress && !sent && !asked {
                return;
            }
        }
    }

    /// Reads the PDUs the controller has sent so far, and leaves them all to the test.
    pub fn parse(&mut self) {
        self.kit.conduct.manual = true;
        self.read_sent();
        self.kit.conduct.manual = false;
    }

    /// Whether the controller has sent anything.
    fn read_sent(&mut self) -> bool {
        self.kit.receive(&self.sent.bytes).unwrap();
        self.pdus.append(self.kit.pdus());
        let some = !self.sent.bytes.is_empty();
        self.sent.bytes.clear();
        some
    }

    /// Collects answers, and data that R2Ts asked for. Whether there are such data.
    fn react(&mut self) -> bool {
        while let Some(Completion {
            cid,
            status,
            result,
            sq_head,
            data,
            ..
        }) = self.kit.next_completion()
        {
            let sq_head = sq_head.unwrap_or(0xffff);
            let answer = Answer {
                status,
                result,
                sq_head,
                data,
            };
            self.answers.insert(cid, answer);
        }
        self.kit.transmit(&mut self.backlog, usize::MAX) > 0
    }

    /// The answer to `cid`, which must be there.
    #[track_caller]
    pub fn answer(&mut self, cid: u16) -> Answer {
        let answer = self.answers.remove(&cid);
        answer.unwrap_or_else(|| panic!("no answer to {cid}; pdus {:?}", self.pdus))
    }

    /// The terminate request, which must be there: FES and FEI.
    #[track_caller]
    pub fn terminated(&mut self) -> (u16, u32) {
        assert!(self.session.closing().is_some(), "not closing");
        match self.pdus.pop_back() {
            Some(Pdu::Term {
                status,
                information,
                ..
            }) => (status, information),
            other => panic!("{other:?} for a terminate request"),
        }
    }

    /// The connection is gone.
    pub fn close(&mut self, rig: &mut Rig) {
        self.session.close(&mut rig.shard());
    }
}

pub fn log_page(lid: u8, offset: u64, len: u32) -> Sqe {
    Command::log_page(lid, offset, len).sqe
}

pub fn connect_data(cntlid: u16, subsystem: &str, host: &str) -> Vec<u8> {
    command::connect_data(&[7; 16], cntlid, subsystem, host)
}
