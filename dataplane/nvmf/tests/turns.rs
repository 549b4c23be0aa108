//! Few slots, many sessions, deep queues: the data that hosts were asked for
//! comes behind their other capsules, and everything gets done all the same.
//!
//! Time stands still here: nothing is refused because it took too long.

mod rig;

use std::collections::{BTreeMap, VecDeque};

use block::Request;
use nvmf::CommandPool;
use rig::host::{Host, Manners, Pdu, in_capsule, rw, sqe, transport, write_asked};
use rig::wire::Cut;
use rig::{Random, Rig, Sizes, config};

const BLOCK: usize = 4096;

/// `count` capsules of writes by R2T, and their data, to be sent.
fn writes(host: &mut Host, first: u64, count: u64) -> Vec<u16> {
    let lbas = first..first + count;
    let one = |lba| {
        let (cid, capsule) = host.asked_capsule(write_asked(lba, 1), &[lba as u8; BLOCK]);
        host.backlog.extend(capsule);
        cid
    };
    lbas.map(one).collect()
}

/// One queue asks for all slots at once, and for more.
#[test]
fn requested_data_behind_more_capsules_than_slots_arrives() {
    let sizes = Sizes {
        slots: 8,
        ..Sizes::default()
    };
    let mut rig = Rig::with(config(), sizes);
    let mut admin = Host::admin(&mut rig, Manners::default());
    let mut io = admin.io(&mut rig, 1, 64);
    let cids = writes(&mut io, 0, 60);
    io.run(&mut rig);
    for cid in cids {
        assert_eq!(io.answer(cid).status, 0);
    }
    assert!(
        rig.disks.volumes[&102][59 * BLOCK..60 * BLOCK]
            .iter()
            .all(|&byte| byte == 59)
    );
    assert_eq!(rig.counters.r2ts, 60);
    io.close(&mut rig);
    admin.close(&mut rig);
    rig.assert_all_returned();
}

/// Two queues, neither deeper than there are slots, each with capsules in front
/// of the data that it owes when all slots are taken.
#[test]
fn two_queues_do_not_deadlock_over_slots() {
    let sizes = Sizes {
        slots: 16,
        ..Sizes::default()
    };
    let mut rig = Rig::with(config(), sizes);
    let mut admin = Host::admin(&mut rig, Manners::default());
    let mut hosts = [1, 2].map(|qid| admin.io(&mut rig, qid, 16));
    let mut cids = Vec::new();
    for (i, host) in hosts.iter_mut().enumerate() {
        // R2Ts wait for the wire, and data for R2Ts.
        host.sent.room = 0;
        cids.push(writes(host, i as u64 * 100, 8));
        host.run(&mut rig);
    }
    for (i, host) in hosts.iter_mut().enumerate() {
        cids[i].extend(writes(host, i as u64 * 100 + 8, 7));
        host.sent.room = usize::MAX;
    }
    for _ in 0..2 {
        for host in &mut hosts {
            host.run(&mut rig);
        }
    }
    for (host, cids) in hosts.iter_mut().zip(cids) {
        for cid in cids {
            assert_eq!(host.answer(cid).status, 0);
        }
        host.close(&mut rig);
    }
    admin.close(&mut rig);
    rig.assert_all_returned();
}

/// Small writes of three queues, one after the other without an end, use up the
/// credit that a large write of a fourth waits for.
#[test]
fn small_writes_do_not_starve_a_large_one() {
    let sizes = Sizes {
        write_bytes: 4 * BLOCK as u64,
        ..Sizes::default()
    };
    let mut rig = Rig::with(config(), sizes);
    let mut admin = Host::admin(&mut rig, Manners::default());
    let mut small = [1, 2, 3].map(|qid| admin.io(&mut rig, qid, 16));
    let mut large = admin.io(&mut rig, 4, 16);
    // Whether a host was asked for its block; it is sent then, and written.
    let served = |rig: &mut Rig, host: &mut Host| {
        let (cid, ttag) = match host.pdus.pop_front() {
            Some(Pdu::R2t { cid, ttag, .. }) => (cid, ttag),
            None => return false,
            other => panic!("{other:?}"),
        };
        let data = host.h2c_data(cid, ttag, 0, &[1; BLOCK], true);
        host.send(rig, &data);
        assert_eq!(host.answer(cid).status, 0);
        true
    };
    for host in &mut small {
        host.submit(&mut rig, write_asked(0, 1), &[]);
    }
    let waits = large.submit_asked(&mut rig, write_asked(100, 4), &[7; 4 * BLOCK]);
    for round in 0.. {
        assert!(round < 10, "overtaken {round} times");
        for host in &mut small {
            // Each that is done is followed by the next.
            if served(&mut rig, host) {
                host.submit(&mut rig, write_asked(0, 1), &[]);
            }
        }
        large.run(&mut rig);
        if large.answers.contains_key(&waits) {
            break;
        }
    }
    assert_eq!(large.answer(waits).status, 0);
    // The others go on, and one that went away while it was first is in nobody's way.
    for host in &mut small {
        host.run(&mut rig);
    }
    large.submit(&mut rig, write_asked(100, 4), &[]);
    large.close(&mut rig);
    for host in &mut small {
        host.run(&mut rig);
        assert!(served(&mut rig, host), "an R2T");
        host.close(&mut rig);
    }
    admin.close(&mut rig);
    rig.assert_all_returned();
}

/// Reads of one queue are more than there are slots, always: they leave one for
/// the write of another that waits.
#[test]
fn endless_reads_do_not_starve_a_write() {
    let sizes = Sizes {
        slots: 8,
        write_bytes: BLOCK as u64,
        ..Sizes::default()
    };
    let mut rig = Rig::with(config(), sizes);
    let admin = Host::admin(&mut rig, Manners::default());
    let [mut reader, mut writer, mut other] = [1, 2, 3].map(|qid| admin.io(&mut rig, qid, 64));
    // Another has the credit.
    other.submit(&mut rig, write_asked(0, 1), &[]);
    let waits = writer.submit_asked(&mut rig, write_asked(1, 1), &[1; BLOCK]);
    rig.disks.hold = true;
    for _ in 0..20 {
        let mut read = rw(0x02, 2, 0, 1);
        transport(&mut read, BLOCK as u32);
        reader.submit(&mut rig, read, &[]);
    }
    assert!(reader.session.is_blocked());
    // And is gone; the reader is quicker.
    other.close(&mut rig);
    reader.run(&mut rig);
    let held = rig.disks.held.len();
    writer.run(&mut rig);
    assert_eq!(
        rig.disks.held.len(),
        held + 1,
        "the write has not come so far"
    );
    let (_, write) = rig.disks.held.pop().expect("the write");
    let completion = rig.execute(write);
    writer.session.complete(completion, &mut rig.shard());
    writer.run(&mut rig);
    assert_eq!(writer.answer(waits).status, 0);
    rig.disks.hold = false;
    rig.release(&mut reader.session);
    for mut host in [reader, writer, admin] {
        host.run(&mut rig);
        host.close(&mut rig);
    }
    rig.assert_all_returned();
}

/// What a client of the property below is to do, and has to hear.
struct Client {
    host: Host,
    depth: usize,
    /// Commands not sent yet.
    todo: usize,
    /// Commands without an answer: first block, and what is to be read or has been written.
    out: BTreeMap<u16, (u64, Vec<u8>)>,
    /// What the blocks hold, those of commands under way left out.
    blocks: Vec<u8>,
    /// R2Ts to answer: CID, TTAG, offset of what is next, end.
    asked: Vec<(u16, u16, u32, u32)>,
}

/// Blocks of each client.
const BLOCKS: u64 = 48;

impl Client {
    /// Sends another command, if its queue has room and some blocks are free.
    fn submit(&mut self, random: &mut Random) {
        if self.todo == 0 || self.out.len() + 1 >= self.depth {
            return;
        }
        let base = self.host.owner as u64 * BLOCKS;
        let (first, count) = (
            random.below(BLOCKS as usize - 3) as u64,
            1 + random.below(4),
        );
        let range = first..first + count as u64;
        let busy = |(at, data): &(u64, Vec<u8>)| {
            *at < range.end && range.start < *at + (data.len() / BLOCK) as u64
        };
        if self.out.values().any(busy) {
            return;
        }
        let bytes = first as usize * BLOCK..(first as usize + count) * BLOCK;
        let lba = base + first;
        let (cid, data, capsule) = match random.below(6) {
            0 => {
                let (cid, capsule) = self.host.capsule(sqe(0x00, 2), &[]);
                (cid, vec![], capsule)
            }
            1 => {
                let mut read = rw(0x02, 2, lba, count as u32);
                transport(&mut read, (count * BLOCK) as u32);
                let (cid, capsule) = self.host.capsule(read, &[]);
                (cid, self.blocks[bytes].to_vec(), capsule)
            }
            2 => {
                let mut write = rw(0x01, 2, lba, 1);
                in_capsule(&mut write, BLOCK as u32);
                let data = random.bytes(BLOCK);
                self.blocks[bytes][..BLOCK].copy_from_slice(&data);
                let (cid, capsule) = self.host.capsule(write, &data);
                (cid, data, capsule)
            }
            _ => {
                let data = random.bytes(count * BLOCK);
                self.blocks[bytes].copy_from_slice(&data);
                let write = write_asked(lba, count as u32);
                let (cid, capsule) = self.host.capsule(write, &[]);
                (cid, data, capsule)
            }
        };
        self.host.backlog.extend(capsule);
        self.out.insert(cid, (first, data));
        self.todo -= 1;
    }

    /// Sends the next piece of the data of any R2T.
    fn answer(&mut self, random: &mut Random) {
        if self.asked.is_empty() {
            return;
        }
        let which = random.below(self.asked.len());
        let (cid, ttag, at, end) = self.asked[which];
        let len = (end - at).min(4 * (1 + random.below(3000)) as u32);
        let data = &self.out[&cid].1[at as usize..(at + len) as usize];
        let pdu = self.host.h2c_data(cid, ttag, at, data, at + len == end);
        self.host.backlog.extend(pdu);
        self.asked[which].2 += len;
        if at + len == end {
            self.asked.swap_remove(which);
        }
    }

    /// Delivers some of what was sent.
    fn deliver(&mut self, random: &mut Random, rig: &mut Rig) {
        let bytes = std::mem::take(&mut self.host.backlog);
        let n = match random.below(3) {
            0 => random.below(bytes.len() + 1),
            _ => bytes.len(),
        };
        let mut cut = Cut::Random(random.clone(), 1448);
        let left = rig
            .deliver(&mut self.host.session, &bytes[..n], &mut cut)
            .len();
        self.host.backlog = bytes[n - left..].to_vec();
        assert_eq!(self.host.session.closing(), None);
    }

    /// Hears some of what the controller has to say.
    fn hear(&mut self, random: &mut Random, rig: &mut Rig) {
        self.host.sent.room = random.below(12);
        self.host
            .session
            .transmit(&mut self.host.sent, &mut rig.shard());
        self.host.session.set_unacknowledged(rig.now, 0);
        self.host.parse();
        let mut read = BTreeMap::<u16, Vec<u8>>::new();
        for pdu in std::mem::take(&mut self.host.pdus) {
            match pdu {
                Pdu::R2t {
                    cid,
                    ttag,
                    offset,
                    len,
                } => {
                    self.asked.push((cid, ttag, offset, offset + len));
                }
                Pdu::Data { cid, data, .. } => {
                    assert_eq!(data, self.out[&cid].1, "read at {}", self.out[&cid].0);
                    read.insert(cid, data);
                }
                Pdu::Resp { cid, status, .. } => {
                    assert_eq!(status, 0, "{cid}");
                    self.out.remove(&cid).expect("a command under way");
                }
                other => panic!("{other:?}"),
            }
        }
    }

    fn is_done(&self) -> bool {
        self.todo == 0 && self.out.is_empty()
    }
}

/// Sessions, depths and pools of any size; everybody does something at any time,
/// and devices answer in any order. Every command succeeds.
#[test]
fn every_command_gets_its_turn() {
    let mut blocked = 0;
    for seed in 0..200 {
        let mut random = Random::new(seed);
        let outcome = std::panic::catch_unwind(move || crowd(&mut random));
        match outcome {
            Ok(times) => blocked += times,
            Err(panic) => {
                eprintln!("seed {seed}");
                std::panic::resume_unwind(panic);
            }
        }
    }
    assert!(blocked > 500, "there was room for all: no test");
}

/// One run; how often a stream was blocked.
fn crowd(random: &mut Random) -> u64 {
    let sessions = 1 + random.below(8);
    let reserved = 1 + random.below(3);
    let reads = 1 + random.below(3);
    let sizes = Sizes {
        runs: reserved + reads + 1 + random.below(6),
        runs_reserved: reserved,
        slots: (2 + random.below(30)) as u16,
        write_bytes: (BLOCK * (1 + random.below(20))) as u64,
        ..Sizes::default()
    };
    let mut config = config();
    config.max_io_bytes = 16 << 10;
    config.max_h2c_bytes = [4096, 8192, 16384][random.below(3)];
    let mut rig = Rig::with(config, sizes);
    let kept = random.below(sessions + 2);
    rig.commands = CommandPool::new(sizes.slots, sizes.write_bytes, reserved).keep(kept, reads);
    let manners = Manners {
        header_digest: random.one_in(4),
        data_digest: random.one_in(4),
        ..Manners::default()
    };
    let mut admin = Host::admin(&mut rig, manners);
    let mut clients: Vec<Client> = (0..sessions)
        .map(|owner| {
            let depth = 2 + random.below(62);
            let mut host = admin.io(&mut rig, 1 + owner as u16, depth as u16);
            host.owner = owner;
            Client {
                host,
                depth,
                todo: 20 + random.below(60),
                out: BTreeMap::new(),
                blocks: vec![0; BLOCKS as usize * BLOCK],
                asked: Vec::new(),
            }
        })
        .collect();
    let mut held: VecDeque<(usize, Request)> = VecDeque::new();
    let mut steps = 0;
    while clients.iter().any(|client| !client.is_done()) {
        steps += 1;
        assert!(steps < 200_000, "nobody moves: {:?}", rig.commands);
        let at = random.below(sessions);
        let client = &mut clients[at];
        match random.below(8) {
            0 | 1 => client.submit(random),
            2 => client.answer(random),
            3 => client.deliver(random, &mut rig),
            4 => client.hear(random, &mut rig),
            5 => {
                let now = rig.now;
                client.host.session.resume(now, &mut rig.shard());
            }
            6 => {
                while let Some(request) = client.host.session.next_request(&mut rig.shard()) {
                    held.push_back((at, request));
                }
            }
            _ if held.is_empty() => {}
            _ => {
                let which = random.below(held.len());
                let (owner, request) = held.remove(which).expect("one of them");
                let completion = rig.execute(request);
                let session = &mut clients[owner].host.session;
                session.complete(completion, &mut rig.shard());
            }
        }
    }
    for client in &mut clients {
        let start = client.host.owner * BLOCKS as usize * BLOCK;
        let disk = &rig.disks.volumes[&102][start..start + client.blocks.len()];
        assert!(
            disk == client.blocks,
            "the disk does not hold what was written"
        );
        client.host.close(&mut rig);
    }
    admin.close(&mut rig);
    rig.assert_all_returned();
    assert_eq!((rig.counters.interrupted, rig.counters.errors), (0, 0));
    rig.counters.blocked
}
