//! The host's side: PDUs by hand, as the specifications draw them.

use std::collections::{BTreeMap, VecDeque};

use nvmf::Session;

use super::pdu;
pub use super::pdu::{Pdu, crc32c};
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

pub struct Host {
    pub session: Session,
    pub sent: Sent,
    pub manners: Manners,
    pub cut: Cut,
    pub cid: u16,
    pub pdus: VecDeque<Pdu>,
    /// Data of writes that the controller will ask for.
    pub owes: BTreeMap<u16, Vec<u8>>,
    pub answers: BTreeMap<u16, Answer>,
    /// Bytes for the controller that it could not take yet.
    pub backlog: Vec<u8>,
    pub cntlid: u16,
    /// What held requests are filed under.
    pub owner: usize,
}

/// Bytes 0 to 63 of a command.
pub fn sqe(opcode: u8, nsid: u32) -> [u8; 64] {
    let mut sqe = [0; 64];
    sqe[0] = opcode;
    sqe[1] = 0x40;
    sqe[4..8].copy_from_slice(&nsid.to_le_bytes());
    // Transport SGL Data Block of no bytes.
    sqe[39] = 0x5a;
    sqe
}

pub fn set32(sqe: &mut [u8; 64], at: usize, value: u32) {
    sqe[at..at + 4].copy_from_slice(&value.to_le_bytes());
}

/// SGL: Transport Data Block of `len` bytes.
pub fn transport(sqe: &mut [u8; 64], len: u32) {
    set32(sqe, 32, len);
    sqe[39] = 0x5a;
}

/// A write of `blocks` of 4 KiB to namespace 2, whose data is to be asked for.
pub fn write_asked(lba: u64, blocks: u32) -> [u8; 64] {
    let mut sqe = rw(0x01, 2, lba, blocks);
    transport(&mut sqe, blocks * 4096);
    sqe
}

/// SGL: Data Block at offset 0 of the capsule.
pub fn in_capsule(sqe: &mut [u8; 64], len: u32) {
    set32(sqe, 32, len);
    sqe[39] = 0x01;
}

pub fn rw(opcode: u8, nsid: u32, lba: u64, blocks: u32) -> [u8; 64] {
    let mut sqe = sqe(opcode, nsid);
    sqe[40..48].copy_from_slice(&lba.to_le_bytes());
    set32(&mut sqe, 48, blocks - 1);
    sqe
}

/// An error status: type, code.
pub fn sc(status: u16) -> (u16, u16) {
    (status >> 8 & 7, status & 0xff)
}

impl Host {
    pub fn new(rig: &Rig, manners: Manners) -> Self {
        Self {
            session: rig.session(),
            sent: Sent {
                room: usize::MAX,
                ..Sent::default()
            },
            manners,
            cut: Cut::Every(1448),
            cid: 0,
            pdus: VecDeque::new(),
            owes: BTreeMap::new(),
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
        assert_eq!(host.set_property(rig, 0x14, 0x0046_0001).status, 0);
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
        let pdu = self.pdus.pop_front().expect("ICResp");
        let Pdu::IcResp {
            header_digest,
            data_digest,
            h2c_max,
        } = pdu
        else {
            panic!("{pdu:?} for ICResp");
        };
        assert_eq!(header_digest, self.manners.header_digest);
        assert_eq!(data_digest, self.manners.data_digest);
        self.manners.h2c_bytes = self.manners.h2c_bytes.min(h2c_max as usize);
    }

    pub fn ic_req(&self) -> Vec<u8> {
        let mut pdu = vec![0; 128];
        pdu[2] = 128;
        pdu[4] = 128;
        pdu[10] = self.manners.hpda;
        pdu[11] = u8::from(self.manners.header_digest) | u8::from(self.manners.data_digest) << 1;
        pdu
    }

    pub fn connect(&mut self, rig: &mut Rig, qid: u16, cntlid: u16, sq_size: u16) -> Answer {
        self.connect_with(rig, qid, sq_size, &connect_data(cntlid, NQN, HOST_NQN))
    }

    pub fn connect_with(&mut self, rig: &mut Rig, qid: u16, sq_size: u16, data: &[u8]) -> Answer {
        let sqe = self.connect_sqe(qid, sq_size);
        self.with_data(rig, sqe, data)
    }

    pub fn connect_sqe(&self, qid: u16, sq_size: u16) -> [u8; 64] {
        let mut sqe = sqe(0x7f, 1);
        sqe[42..44].copy_from_slice(&qid.to_le_bytes());
        sqe[44..46].copy_from_slice(&sq_size.to_le_bytes());
        sqe[46] = u8::from(self.manners.no_flow_control) << 2;
        set32(&mut sqe, 48, self.manners.keep_alive_ms);
        sqe
    }

    pub fn get_property(&mut self, rig: &mut Rig, offset: u32, wide: bool) -> Answer {
        let mut sqe = sqe(0x7f, 4);
        sqe[40] = wide.into();
        set32(&mut sqe, 44, offset);
        self.without_data(rig, sqe)
    }

    pub fn set_property(&mut self, rig: &mut Rig, offset: u32, value: u32) -> Answer {
        let cid = self.start_setting_property(rig, offset, value);
        self.answer(cid)
    }

    /// As [`Host::set_property`], without waiting for the answer.
    pub fn start_setting_property(&mut self, rig: &mut Rig, offset: u32, value: u32) -> u16 {
        let mut sqe = sqe(0x7f, 0);
        set32(&mut sqe, 44, offset);
        set32(&mut sqe, 48, value);
        self.submit(rig, sqe, &[])
    }

    pub fn disconnect(&mut self, rig: &mut Rig) -> Answer {
        self.without_data(rig, sqe(0x7f, 8))
    }

    pub fn identify(&mut self, rig: &mut Rig, cns: u8, nsid: u32) -> Answer {
        let mut sqe = sqe(0x06, nsid);
        sqe[40] = cns;
        self.reading(rig, sqe, 4096)
    }

    pub fn log_page(&mut self, rig: &mut Rig, lid: u8, offset: u64, len: u32) -> Answer {
        self.reading(rig, log_page(lid, offset, len), len)
    }

    pub fn set_features(&mut self, rig: &mut Rig, fid: u8, value: u32) -> Answer {
        let mut sqe = sqe(0x09, 0);
        sqe[40] = fid;
        set32(&mut sqe, 44, value);
        self.without_data(rig, sqe)
    }

    pub fn get_features(&mut self, rig: &mut Rig, fid: u8, select: u8) -> Answer {
        let mut sqe = sqe(0x0a, 0);
        sqe[40] = fid;
        sqe[41] = select;
        self.without_data(rig, sqe)
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

    pub fn submit_asked(&mut self, rig: &mut Rig, mut sqe: [u8; 64], data: &[u8]) -> u16 {
        transport(&mut sqe, data.len() as u32);
        self.owes.insert(self.cid + 1, data.to_vec());
        self.submit(rig, sqe, &[])
    }

    /// Sends a capsule and lets everything run until it rests.
    pub fn submit(&mut self, rig: &mut Rig, sqe: [u8; 64], data: &[u8]) -> u16 {
        let (cid, capsule) = self.capsule(sqe, data);
        self.send(rig, &capsule);
        cid
    }

    /// A capsule with the next CID.
    pub fn capsule(&mut self, mut sqe: [u8; 64], data: &[u8]) -> (u16, Vec<u8>) {
        self.cid += 1;
        sqe[2..4].copy_from_slice(&self.cid.to_le_bytes());
        (self.cid, self.pdu(4, 0, &sqe, data))
    }

    /// A PDU with `fields` behind the common header.
    pub fn pdu(&self, pdu_type: u8, flags: u8, fields: &[u8], data: &[u8]) -> Vec<u8> {
        let (hd, dd) = (
            self.manners.header_digest,
            self.manners.data_digest && !data.is_empty(),
        );
        let hlen = 8 + fields.len();
        let pdo = hlen + if hd { 4 } else { 0 };
        let plen = pdo + data.len() + if dd { 4 } else { 0 };
        let mut pdu = vec![
            pdu_type,
            flags | u8::from(hd) | u8::from(dd) << 1,
            hlen as u8,
            if data.is_empty() { 0 } else { pdo as u8 },
        ];
        pdu.extend((plen as u32).to_le_bytes());
        pdu.extend(fields);
        if hd {
            pdu.extend(crc32c(&pdu).to_le_bytes());
        }
        pdu.extend(data);
        if dd {
            pdu.extend(crc32c(data).to_le_bytes());
        }
        pdu
    }

    pub fn h2c_data(&self, cid: u16, ttag: u16, offset: u32, data: &[u8], last: bool) -> Vec<u8> {
        let mut fields = Vec::new();
        fields.extend(cid.to_le_bytes());
        fields.extend(ttag.to_le_bytes());
        fields.extend(offset.to_le_bytes());
        fields.extend((data.len() as u32).to_le_bytes());
        fields.extend([0; 4]);
        self.pdu(6, u8::from(last) << 2, &fields, data)
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
            let now = rig.now;
            self.session.resume(now, &mut rig.shard());
            rig.serve(self.owner, &mut self.session);
            self.session.transmit(&mut self.sent, &mut rig.shard());
            // What was sent has given its slots and runs back.
            let sent = self.parse();
            let asked = self.react();
            if !progress && !sent && !asked {
                return;
            }
        }
    }

    /// Reads the PDUs the controller has sent so far; whether there were any.
    pub fn parse(&mut self) -> bool {
        let mut at = 0;
        while let Some((pdu, len)) = pdu::read(&self.sent.bytes[at..], &self.manners) {
            self.pdus.push_back(pdu);
            at += len;
        }
        self.sent.bytes.drain(..at);
        at > 0
    }

    /// Answers R2Ts and collects answers; what is neither stays in `pdus`.
    fn react(&mut self) -> bool {
        let mut asked = false;
        for pdu in std::mem::take(&mut self.pdus) {
            match pdu {
                Pdu::R2t {
                    cid,
                    ttag,
                    offset,
                    len,
                } if self.owes.contains_key(&cid) => {
                    let data = self.owes[&cid].clone();
                    let part = &data[offset as usize..][..len as usize];
                    let mut at = 0;
                    for piece in part.chunks(self.manners.h2c_bytes) {
                        let last = at + piece.len() == part.len();
                        let at_offset = offset + at as u32;
                        let pdu = self.h2c_data(cid, ttag, at_offset, piece, last);
                        self.backlog.extend(pdu);
                        at += piece.len();
                    }
                    asked = true;
                }
                Pdu::Data {
                    cid,
                    offset,
                    data,
                    last,
                    success,
                } => {
                    let answer = self.answers.entry(cid).or_default();
                    assert_eq!(answer.data.len(), offset as usize, "DATAO");
                    answer.data.extend(data);
                    assert!(last || !success);
                    if success {
                        answer.sq_head = 0xffff;
                    } else {
                        answer.status = u16::MAX;
                    }
                }
                Pdu::Resp {
                    cid,
                    status,
                    result,
                    sq_head,
                } => {
                    let answer = self.answers.entry(cid).or_default();
                    answer.status = status;
                    answer.result = result;
                    answer.sq_head = sq_head;
                    self.owes.remove(&cid);
                }
                other => self.pdus.push_back(other),
            }
        }
        asked
    }

    /// The answer to `cid`, which must be there.
    #[track_caller]
    pub fn answer(&mut self, cid: u16) -> Answer {
        match self.answers.remove(&cid) {
            Some(answer) if answer.status != u16::MAX => answer,
            other => panic!("no answer to {cid}: {other:?}; pdus {:?}", self.pdus),
        }
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

pub fn log_page(lid: u8, offset: u64, len: u32) -> [u8; 64] {
    let mut sqe = sqe(0x02, 0xffff_ffff);
    let numd = len / 4 - 1;
    set32(&mut sqe, 40, u32::from(lid) | numd << 16);
    set32(&mut sqe, 44, numd >> 16);
    sqe[48..56].copy_from_slice(&offset.to_le_bytes());
    sqe
}

pub fn connect_data(cntlid: u16, subsystem: &str, host: &str) -> Vec<u8> {
    let mut data = vec![0; 1024];
    data[..16].copy_from_slice(&[7; 16]);
    data[16..18].copy_from_slice(&cntlid.to_le_bytes());
    data[256..256 + subsystem.len()].copy_from_slice(subsystem.as_bytes());
    data[512..512 + host.len()].copy_from_slice(host.as_bytes());
    data
}
