//! A host without manners: what a fuzzer's bytes, or a generator's, make it do.
//!
//! Whatever comes in, the session may not panic, hand out a request that is
//! not within its volume, or keep anything once it is closed.

use std::collections::VecDeque;

use block::{Fault, Op, Request};
use nvmf::{AnaState, BlockSize, Counters, NamespaceConfig, Nsid};

use super::host::{Host, Manners, crc32c, in_capsule, rw, set32, sqe, transport};
use super::wire::Cut;
use super::{Rig, Sizes, config, namespace};

/// Bytes to decide by; zeros when they are used up.
pub struct Script<'a> {
    bytes: &'a [u8],
}

impl<'a> Script<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes }
    }

    pub fn is_over(&self) -> bool {
        self.bytes.is_empty()
    }

    fn byte(&mut self) -> u8 {
        match self.bytes.split_first() {
            Some((&first, rest)) => {
                self.bytes = rest;
                first
            }
            None => 0,
        }
    }

    fn below(&mut self, n: usize) -> usize {
        (usize::from(self.byte()) << 8 | usize::from(self.byte())) % n
    }

    fn chance(&mut self, one_in: usize) -> bool {
        usize::from(self.byte()).is_multiple_of(one_in)
    }
}

/// Small pools, so that they run out.
fn rig() -> Rig {
    let mut config = config();
    for subsystem in &mut config.subsystems {
        subsystem.namespaces = vec![
            namespace(1, BlockSize::B512, 64 << 10),
            namespace(2, BlockSize::B4096, 128 << 10),
        ];
    }
    config.subsystems[0].ana = Some(AnaState::Optimized);
    config.max_io_bytes = 64 << 10;
    config.max_h2c_bytes = 8 << 10;
    config.success_flag = true;
    Rig::with(
        config,
        Sizes {
            frames: 256,
            frame_bytes: 2048,
            pages: 24,
            runs: 6,
            runs_reserved: 2,
            slots: 12,
            write_bytes: 48 << 10,
        },
    )
}

/// Plays `script` on two connections of a host; tells what came of it.
pub fn play(script: &mut Script<'_>) -> Counters {
    let mut rig = rig();
    let choice = script.byte();
    let manners = Manners {
        header_digest: choice & 1 != 0,
        data_digest: choice & 2 != 0,
        no_flow_control: choice & 4 != 0,
        hpda: (choice >> 3 & 3) * 10,
        h2c_bytes: 4096,
        keep_alive_ms: 60_000,
        ..Manners::default()
    };
    let mut hosts = if choice & 0xe0 == 0 {
        // From the first byte on.
        vec![Host::new(&rig, manners), Host::new(&rig, manners)]
    } else {
        let mut admin = Host::admin(&mut rig, manners);
        admin.set_features(&mut rig, 0x0b, 0x100);
        let io = admin.io(&mut rig, 1, 8);
        vec![admin, io]
    };
    let mut held: VecDeque<(usize, Request)> = VecDeque::new();
    for _ in 0..400 {
        if script.is_over() {
            break;
        }
        act(script, &mut rig, &mut hosts, &mut held);
    }
    for host in &mut hosts {
        host.close(&mut rig);
    }
    for (owner, request) in held {
        let completion = rig.execute(request);
        hosts[owner].session.complete(completion, &mut rig.shard());
    }
    assert!(hosts.iter().all(|host| host.session.outstanding() == 0));
    rig.assert_all_returned();
    assert!(rig.target.controllers().is_empty());
    rig.counters
}

fn act(
    script: &mut Script<'_>,
    rig: &mut Rig,
    hosts: &mut [Host],
    held: &mut VecDeque<(usize, Request)>,
) {
    let which = usize::from(script.chance(4));
    // Mostly the I/O queue.
    let owner = 1 - which;
    let host = &mut hosts[owner];
    match script.below(12) {
        0..=5 => {
            let mut pdu = some_pdu(script, host);
            if script.chance(30) && !pdu.is_empty() {
                let at = script.below(pdu.len().min(160));
                pdu[at] ^= script.byte() | 1;
                if pdu[0] == 0 && pdu.len() == 128 {
                    // The host must know what it agreed to.
                    pdu[10..12].copy_from_slice(&host.ic_req()[10..12]);
                }
            }
            if script.chance(80) {
                pdu.truncate(script.below(pdu.len() + 1));
            }
            host.backlog.extend(pdu);
        }
        6 => {
            let now = rig.now;
            host.session.resume(now, &mut rig.shard());
        }
        7 => {
            rig.now = rig.now.plus_ms(script.below(12_000) as u64);
            let now = rig.now;
            host.session.advance(now, &mut rig.shard());
        }
        8 => {
            // The device answers some request, or fails it.
            if let Some((owner, request)) = held.pop_front() {
                rig.disks.fail = script.chance(8).then_some(Fault::Internal);
                let enough = rig.pages.free() >= 9;
                if !enough && request.io.op == Op::Read {
                    rig.disks.fail = Some(Fault::Internal);
                }
                let completion = rig.execute(request);
                rig.disks.fail = None;
                hosts[owner].session.complete(completion, &mut rig.shard());
            }
        }
        9 => {
            host.sent.room = script.below(8);
            host.session.transmit(&mut host.sent, &mut rig.shard());
            host.session.set_unacknowledged(rig.now, script.below(8192));
            remember(host);
        }
        10 if script.chance(3) => change_access(script, rig, hosts),
        10 if script.chance(4) => {
            let blocks = 1 + script.below(32) as u64;
            let grown = NamespaceConfig {
                blocks,
                ..namespace(2, BlockSize::B4096, 0)
            };
            let kept = namespace(1, BlockSize::B512, 64 << 10);
            rig.target
                .set_namespaces(super::NQN, vec![kept, grown])
                .unwrap();
        }
        _ => {
            let pdu = some_pdu(script, host);
            host.backlog.extend(pdu);
        }
    }
    deliver(script, rig, &mut hosts[owner]);
    if hosts[owner].session.closing().is_some() {
        reconnect(rig, hosts, owner);
    }
    while let Some(request) = hosts[owner].session.next_request(&mut rig.shard()) {
        check(rig, &request);
        held.push_back((owner, request));
    }
}

/// Another connection in place of one that is closing, if the device has
/// nothing of it and the controller is still there.
fn reconnect(rig: &mut Rig, hosts: &mut [Host], owner: usize) {
    let manners = hosts[owner].manners;
    hosts[owner].close(rig);
    let free = rig.commands.in_use() < 8 && rig.frames.free() > 8 && rig.runs.available() > 2;
    if hosts[owner].session.outstanding() > 0 || !free || rig.pages.free() < 4 {
        return;
    }
    if owner == 0 {
        hosts[0] = Host::admin(rig, manners);
        hosts[0].set_features(rig, 0x0b, 0x100);
    } else {
        let mut io = Host::new(rig, manners);
        io.initialize(rig);
        let mut sqe = io.connect_sqe(1, 7);
        in_capsule(&mut sqe, 1024);
        let data = super::host::connect_data(hosts[0].cntlid, super::NQN, super::HOST_NQN);
        io.submit(rig, sqe, &data);
        hosts[1] = io;
    }
}

/// Hands over some of what there is, cut anyhow.
fn deliver(script: &mut Script<'_>, rig: &mut Rig, host: &mut Host) {
    let bytes = std::mem::take(&mut host.backlog);
    let n = match script.chance(3) {
        true => script.below(bytes.len() + 1),
        false => bytes.len(),
    };
    // A NIC without buffers receives nothing.
    let n = n.min(rig.frames.free() * 16);
    let mut cut = Cut::Every([16, 37, 512, 1448][script.below(4)]);
    let left = rig.deliver(&mut host.session, &bytes[..n], &mut cut).len();
    host.backlog = bytes[n - left..].to_vec();
    if host.session.closing().is_some() {
        host.backlog.clear();
    }
}

/// An ANA group, or all, enter a state; both sessions' turns come.
fn change_access(script: &mut Script<'_>, rig: &mut Rig, hosts: &mut [Host]) {
    // Nothing leaves the state Persistent Loss.
    let states = AnaState::ALL.map(|state| match state {
        AnaState::PersistentLoss => AnaState::Optimized,
        state => state,
    });
    let state = states[script.below(states.len())];
    let group = [None, Some(Nsid(1)), Some(Nsid(2))][script.below(3)];
    let listener = script.chance(2).then(|| super::endpoints().local.into());
    let set = rig.target.set_ana_state(super::NQN, listener, group, state);
    assert_eq!(set, Ok(true));
    for host in hosts {
        let now = rig.now;
        host.session.advance(now, &mut rig.shard());
    }
}

/// A request is for a namespace that commands get to, and inside its volume; a write is complete.
fn check(rig: &Rig, request: &Request) {
    let states = rig
        .target
        .ana_states(super::NQN, super::endpoints().local.into());
    let mut states = states.expect("ANA is reported").into_iter();
    let state = states.find(|(nsid, _)| nsid.0 + 100 == request.namespace.0);
    assert!(state.is_some_and(|(_, state)| state.is_accessible()));
    let disk = rig.disks.volumes[&request.namespace.0].len() as u64;
    let io = &request.io;
    match (io.op, &io.run) {
        (Op::Read, Some(run)) => {
            assert_eq!(run.len() as u64, io.len);
            assert_eq!(run.missing(), run.len());
        }
        (Op::Write, Some(run)) => {
            assert_eq!(run.len() as u64, io.len);
            assert!(run.is_complete());
        }
        (op, run) => assert!(!op.moves_data() && run.is_none()),
    }
    assert!(io.end() <= disk);
}

/// Keeps R2Ts to answer later; with damaged input the rest need not make sense.
fn remember(host: &mut Host) {
    host.parse();
    host.answers.clear();
    while host.pdus.len() > 8 {
        host.pdus.pop_front();
    }
}

/// A PDU that is right, or nearly.
fn some_pdu(script: &mut Script<'_>, host: &mut Host) -> Vec<u8> {
    let r2t = host.pdus.iter().rev().find_map(|pdu| match *pdu {
        super::host::Pdu::R2t {
            cid,
            ttag,
            offset,
            len,
        } => Some((cid, ttag, offset, len)),
        _ => None,
    });
    match (script.below(16), r2t) {
        (0..=6, Some((cid, ttag, offset, len))) => {
            let n = match script.chance(4) {
                true => 4 * (1 + script.below(2048)),
                false => len as usize,
            };
            let last = n == len as usize;
            let offset = if script.chance(8) {
                offset + 512
            } else {
                offset
            };
            if !script.chance(8) {
                host.pdus.retain(
                    |pdu| !matches!(pdu, super::host::Pdu::R2t { cid: c, .. } if *c == cid),
                );
            }
            host.h2c_data(cid, ttag, offset, &vec![0xd1; n], last)
        }
        (0 | 1, _) => {
            let blocks = 1 + script.below(8) as u32;
            let mut sqe = rw(0x01, 1, script.below(130) as u64, blocks);
            in_capsule(&mut sqe, blocks * 512);
            host.capsule(sqe, &vec![0x11; blocks as usize * 512]).1
        }
        (2 | 3, _) => {
            let blocks = 1 + script.below(8) as u32;
            let mut sqe = rw(0x01, 2, script.below(32) as u64, blocks);
            transport(&mut sqe, blocks * 4096);
            host.capsule(sqe, &[]).1
        }
        (4 | 5, _) => {
            let blocks = 1 + script.below(8) as u32;
            let mut sqe = rw(0x02, 2, script.below(32) as u64, blocks);
            transport(&mut sqe, blocks * 4096);
            host.capsule(sqe, &[]).1
        }
        (6, _) => {
            let ranges = 1 + script.below(4);
            let mut sqe = sqe(0x09, 1);
            set32(&mut sqe, 40, ranges as u32 - 1);
            set32(&mut sqe, 44, 4);
            in_capsule(&mut sqe, ranges as u32 * 16);
            let mut data = vec![0; ranges * 16];
            for range in data.chunks_mut(16) {
                range[4] = script.byte() & 15;
                range[8] = script.byte() & 127;
            }
            host.capsule(sqe, &data).1
        }
        (7, _) if script.chance(20) => host.ic_req(),
        (8, _) if script.chance(8) => {
            let data = super::host::connect_data(
                if script.chance(2) { 0xffff } else { 1 },
                super::NQN,
                super::HOST_NQN,
            );
            let mut sqe = host.connect_sqe(script.byte() as u16 & 3, 7);
            in_capsule(&mut sqe, 1024);
            host.capsule(sqe, &data).1
        }
        (9, _) => host.capsule(sqe(0x0c, 0), &[]).1,
        (10, _) => {
            let mut sqe = super::host::log_page(script.byte() & 0x13, 0, 4096);
            transport(&mut sqe, 4096);
            host.capsule(sqe, &[]).1
        }
        (11, _) => {
            let mut sqe = sqe(0x06, u32::from(script.byte() & 3));
            sqe[40] = script.byte() & 0x1f;
            transport(&mut sqe, 4096);
            host.capsule(sqe, &[]).1
        }
        (12, _) if script.chance(4) => {
            let mut sqe = sqe(0x7f, 0);
            sqe[44] = 0x14;
            sqe[48] = script.byte() & 1;
            host.capsule(sqe, &[]).1
        }
        (13, _) => {
            let mut sqe = sqe(script.byte(), u32::from(script.byte() & 3));
            for byte in &mut sqe[24..64] {
                *byte = script.byte();
            }
            host.capsule(sqe, &[]).1
        }
        (14, _) if script.chance(10) => {
            // Any header, with a digest that is right.
            let hlen = [24, 72, 128][script.below(3)];
            let mut pdu: Vec<u8> = (0..hlen).map(|_| script.byte()).collect();
            pdu[0] = (pdu[0] & 7).max(1);
            pdu[2] = hlen as u8;
            if host.manners.header_digest {
                pdu.extend(crc32c(&pdu).to_le_bytes());
            }
            pdu
        }
        _ => host.capsule(sqe(0x00, 1), &[]).1,
    }
}
