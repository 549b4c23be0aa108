//! A host as drivers are: an association of queues, many commands under way on each, data that
//! say where they belong.

mod rig;

use std::collections::BTreeMap;
use std::time::Duration;

use nvmf::Session;
use rig::wire::{Cut, Sent};
use rig::{HOST_NQN, NQN, Random, Rig, Sizes};
use testkit::pattern::Stamp;
use testkit::{Association, Cid, Command, Config, Format, Payload, poll_until};

const NSID: u32 = 2;
const BLOCK: usize = 4096;
/// Blocks that each queue has for itself.
const BLOCKS: u64 = 128;

/// A connection: the target's side of it.
struct End {
    session: Session,
    sent: Sent,
    backlog: Vec<u8>,
}

impl End {
    fn new(rig: &Rig) -> Self {
        Self {
            session: rig.session(),
            sent: Sent {
                room: usize::MAX,
                ..Sent::default()
            },
            backlog: Vec::new(),
        }
    }

    /// Carries some bytes each way.
    fn turn(&mut self, rig: &mut Rig, host: &mut testkit::Host, random: &mut Random) {
        let room = random.range(1..20_000);
        host.transmit(&mut self.backlog, room);
        let mut cut = Cut::Every(random.range(1..=1448));
        let left = rig
            .deliver(&mut self.session, &self.backlog, &mut cut)
            .len();
        self.backlog.drain(..self.backlog.len() - left);
        let now = rig.now;
        self.session.resume(now, &mut rig.shard());
        rig.serve(0, &mut self.session);
        self.session.transmit(&mut self.sent, &mut rig.shard());
        let n = random.range(0..=self.sent.bytes.len());
        host.receive(&self.sent.bytes[..n]).unwrap();
        self.sent.bytes.drain(..n);
        self.session.set_unacknowledged(now, self.sent.bytes.len());
        assert_eq!(self.session.closing(), None);
    }
}

/// Takes a turn with every connection there is by now.
fn turn(
    rig: &mut Rig,
    association: &mut Association,
    ends: &mut Vec<End>,
    random: &mut Random,
) -> bool {
    while ends.len() < association.connections() {
        ends.push(End::new(rig));
    }
    for (end, host) in ends.iter_mut().zip(association.hosts()) {
        end.turn(rig, host, random);
    }
    association.drive(Duration::ZERO).unwrap();
    association.is_ready() || association.is_shut_down()
}

/// What a queue has under way: of each command its blocks, and the version that they have
/// before it, and after.
#[derive(Default)]
struct Queue {
    versions: BTreeMap<u64, u32>,
    under_way: BTreeMap<Cid, (u64, usize)>,
    done: usize,
}

impl Queue {
    fn submit(&mut self, qid: u64, host: &mut testkit::Host, random: &mut Random) {
        let first = (qid - 1) * BLOCKS + random.below(BLOCKS - 4);
        let count = random.range(1..=4usize);
        let overlaps = |&(at, n): &(u64, usize)| at < first + count as u64 && first < at + n as u64;
        if self.under_way.values().any(overlaps) {
            return;
        }
        let nlb = count as u32;
        let command = match random.below(3) {
            0 => Command::read(NSID, first, nlb, count * BLOCK),
            asked => {
                let mut data = Vec::new();
                for block in first..first + count as u64 {
                    let version = self.versions.entry(block).or_default();
                    *version += 1;
                    data.extend(stamp(block, *version).bytes(BLOCK));
                }
                let payload = match (asked, count) {
                    (1, 1) => Payload::Capsule(data),
                    _ => Payload::Asked(data),
                };
                Command::write(NSID, first, nlb, payload)
            }
        };
        let cid = host.command(command);
        self.under_way.insert(cid, (first, count));
    }

    fn complete(&mut self, host: &mut testkit::Host) {
        while let Some(done) = host.next_completion() {
            assert_eq!(done.status, 0);
            let (first, count) = self.under_way.remove(&done.cid).expect("under way");
            self.done += 1;
            if !matches!(done.command.payload, Payload::In(_)) {
                continue;
            }
            assert_eq!(done.data.len(), count * BLOCK);
            for (block, got) in (first..).zip(done.data.chunks(BLOCK)) {
                match self.versions.get(&block) {
                    Some(&version) => stamp(block, version).check(got).unwrap(),
                    None => assert!(got.iter().all(|&byte| byte == 0)),
                }
            }
        }
    }
}

fn stamp(block: u64, version: u32) -> Stamp {
    Stamp {
        volume: NSID,
        block,
        version,
    }
}

#[test]
fn queues_of_an_association_do_all_at_once() {
    for seed in 0..12 {
        let mut random = Random::new(seed);
        let mut config = rig::config();
        config.success_flag = true;
        let in_capsule = config.in_capsule_bytes as usize;
        config.max_h2c_bytes = *random.pick(&[4096, 12_288]);
        let mut rig = Rig::with(config, Sizes::default());
        let mut host = Config::new(NQN);
        host.host = HOST_NQN.into();
        host.entries = random.range(2..40);
        host.no_flow_control = random.one_in(2);
        host.format = Format {
            header_digest: random.one_in(2),
            data_digest: random.one_in(2),
            hpda: random.below(32),
            cpda: 0,
        };
        let mut association = Association::new(host, 3);
        let mut ends = Vec::new();
        poll_until("all queues", 100_000, || {
            turn(&mut rig, &mut association, &mut ends, &mut random)
        });
        assert_eq!(association.connections(), 4);
        let controller = *association.controller();
        assert_eq!(controller.in_capsule, in_capsule);
        assert!(controller.has_volatile_write_cache);

        let mut queues: Vec<Queue> = (0..3).map(|_| Queue::default()).collect();
        let what = format!("200 commands on each of three queues, seed {seed}");
        poll_until(&what, 100_000, || {
            for (qid, queue) in (1..).zip(&mut queues) {
                let host = association.host(qid);
                if queue.done + queue.under_way.len() < 200 {
                    queue.submit(qid as u64, host, &mut random);
                }
                queue.complete(host);
            }
            turn(&mut rig, &mut association, &mut ends, &mut random);
            queues.iter().all(|queue| queue.done == 200)
        });
        for queue in &queues {
            for (&block, &version) in &queue.versions {
                let at = block as usize * BLOCK;
                let disk = &rig.disks.volumes[&(100 + NSID)][at..at + BLOCK];
                stamp(block, version).check(disk).unwrap();
            }
        }

        association.shut_down();
        poll_until("a shutdown", 100_000, || {
            ends[0].turn(&mut rig, association.host(0), &mut random);
            for io in &mut ends[1..] {
                io.session.advance(rig.now, &mut rig.shard());
            }
            association.drive(Duration::ZERO).unwrap();
            association.is_shut_down()
        });
        for mut end in ends {
            end.session.close(&mut rig.shard());
        }
        rig.assert_all_returned();
    }
}
