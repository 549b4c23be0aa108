//! What a run consists of: everything that is drawn before it begins.

mod changes;
mod spans;
mod trouble;

use std::time::Duration;

use block::{Geometry, WritePolicy};
use shard::MemoryConfig;
use testkit::Random;

use crate::clock::{MICROSECOND, MILLISECOND, Nanoseconds, SECOND};
use crate::disk::DiskConfig;
use crate::guard::GuardPlan;
use crate::port::NicConfig;
use crate::secure::TlsPlan;
use crate::wire::Quality;
pub(crate) use changes::OfferChange;
pub(crate) use trouble::{Ambush, Event, Moment};

/// As many hosts as a plan may have.
pub(crate) const HOSTS_MAX: usize = 4;

/// The name of host `index`.
pub(crate) fn host_nqn(index: usize) -> String {
    format!("nqn.2026-01.com.example:host{index}")
}

/// The network that everybody is in.
#[derive(Clone, Debug)]
pub(crate) struct NetworkPlan {
    pub(crate) ipv6: bool,
    pub(crate) vlan: Option<u16>,
    pub(crate) mtu: usize,
    /// The appliance's NIC completes checksums; and cuts segments, if not 0.
    pub(crate) transmit_checksums: bool,
    pub(crate) tso_max_bytes: usize,
    pub(crate) duplicate_address_detection: bool,
    pub(crate) rto_max: Duration,
}

/// A namespace, and the device behind it.
#[derive(Clone, Debug)]
pub(crate) struct VolumePlan {
    /// As hosts know it.
    pub(crate) disk: DiskConfig,
    /// What it lies on, if that is several.
    pub(crate) parts: Vec<DiskConfig>,
    pub(crate) policy: WritePolicy,
    /// Bytes of a block as hosts see it.
    pub(crate) block: u32,
    /// Where most commands go: first byte and length.
    pub(crate) windows: Vec<(u64, u64)>,
    /// Write policies that it is offered with later, when its namespace was taken away and comes back.
    pub(crate) later: Vec<WritePolicy>,
}

impl VolumePlan {
    /// Acknowledged writes may be lost until they are flushed.
    pub(crate) fn is_volatile(&self) -> bool {
        match self.policy {
            WritePolicy::Through => {
                self.disk.geometry.write_cache || self.later.contains(&WritePolicy::Back)
            }
            WritePolicy::Back => true,
            // Once logged, a volume stays so.
            WritePolicy::Logged => false,
        }
    }

    /// Whether it is behind the page cache, now or later.
    pub(crate) fn is_cached(&self) -> bool {
        let mut policies = self.later.iter().chain([&self.policy]);
        policies.any(|&policy| policy != WritePolicy::Through)
    }

    /// What is deallocated reads as zeros: hosts are told so, or the log has it.
    pub(crate) fn deallocates_to_zeros(&self) -> bool {
        let geometry = &self.disk.geometry;
        let is_done = match self.policy {
            WritePolicy::Through => !self.later.contains(&WritePolicy::Back),
            WritePolicy::Back => false,
            WritePolicy::Logged => true,
        };
        let does = geometry.unmap && geometry.deallocated_zeros && is_done;
        does && self.disk.deallocated_unit <= geometry.block_size.into()
    }
}

#[derive(Clone, Debug)]
pub(crate) struct AppliancePlan {
    pub(crate) shards: usize,
    /// NICs; hosts are at the first one.
    pub(crate) ports: usize,
    pub(crate) memory: MemoryConfig,
    pub(crate) nic: NicConfig,
    pub(crate) max_io_bytes: u32,
    pub(crate) in_capsule_bytes: u32,
    pub(crate) queue_depth: u16,
    pub(crate) success_flag: bool,
    pub(crate) data_ms: u32,
    pub(crate) copy: bool,
    /// Bytes of a logged volume that are deallocated by one record, at most.
    pub(crate) deallocated_max: u64,
    /// How long a drive that has failed to deallocate is not asked to again.
    pub(crate) deallocation_rest: Duration,
    /// Shards of each start, in turn; empty: as many each time.
    pub(crate) starts: Vec<usize>,
    /// One poll in so many finds its shard held up by something else for a while; 0: none.
    pub(crate) held_up_one_in: u64,
    /// Hosts have to prove who they are.
    pub(crate) guard: Option<GuardPlan>,
    /// Hosts are encrypted.
    pub(crate) tls: Option<TlsPlan>,
}

/// The log, and the device that it is on, or the two.
#[derive(Clone, Debug)]
pub(crate) struct LogPlan {
    pub(crate) disk: DiskConfig,
    pub(crate) mirror: Option<DiskConfig>,
    /// What happens because of what becomes of the log, in any order.
    pub(crate) ambushes: Vec<Ambush>,
    /// Bytes of a half.
    pub(crate) half_len: u64,
    /// Bytes of the tables area that is asked for from some start on; 0: none has tables.
    pub(crate) tables_len: u64,
    pub(crate) tables_from: usize,
    /// Between two consistency points.
    pub(crate) interval: Nanoseconds,
    /// A log that has failed is done without, once it is empty.
    pub(crate) through_after_failure: bool,
}

#[derive(Clone, Debug)]
pub(crate) struct HostPlan {
    pub(crate) link: Quality,
    pub(crate) queues: u16,
    pub(crate) entries: u16,
    pub(crate) header_digest: bool,
    pub(crate) data_digest: bool,
    pub(crate) hpda: u8,
    pub(crate) max_r2t: u32,
    pub(crate) no_flow_control: bool,
    pub(crate) keep_alive: Duration,
    /// Bytes that its TCP takes of what it does not read, at most.
    pub(crate) window: usize,
    /// How long it waits for a command before it gives its controller up.
    pub(crate) patience: Nanoseconds,
    /// Commands that it gives altogether.
    pub(crate) commands: u32,
    /// Between two commands of a queue, at most.
    pub(crate) pause: Nanoseconds,
    /// Bytes of a command at most.
    pub(crate) bytes_max: u32,
    /// Every command is as large as may be.
    pub(crate) is_greedy: bool,
    /// Its commands are for this volume alone.
    pub(crate) only: Option<usize>,
    /// One command with data in so many has a wrong digest; 0: none.
    pub(crate) wrong_digest_one_in: u64,
    /// Weights: read, write, write zeroes, deallocate, flush.
    pub(crate) weights: [u64; 5],
    /// An Abort of some command follows one command in so many; 0: none.
    pub(crate) abort_one_in: u64,
    /// It can prove who it is.
    pub(crate) guard: Option<GuardPlan>,
    /// It may be encrypted.
    pub(crate) tls: Option<TlsPlan>,
    /// It has no key, and tries to get in without.
    pub(crate) is_stranger: bool,
}

#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) network: NetworkPlan,
    pub(crate) appliance: AppliancePlan,
    pub(crate) volumes: Vec<VolumePlan>,
    pub(crate) log: Option<LogPlan>,
    pub(crate) hosts: Vec<HostPlan>,
    /// What goes wrong, and when.
    pub(crate) events: Vec<(Nanoseconds, Event)>,
    /// Until when hosts have work, if nothing holds it up.
    pub(crate) active: Nanoseconds,
    /// When everything that goes wrong ends.
    pub(crate) healed_at: Nanoseconds,
    /// What happens when all is done, before anything is looked at.
    pub(crate) last_blow: LastBlow,
    /// What is offered may change meanwhile.
    pub(crate) may_change: bool,
}

/// What happens when the hosts have done their work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LastBlow {
    None,
    /// The power of everything fails.
    Power,
    /// Hosts shut their controllers down, then the power of everything fails.
    ShutdownThenPower,
}

impl Plan {
    /// The plan that `random` draws.
    pub(crate) fn draw(random: &mut Random) -> Self {
        let network = NetworkPlan::draw(random);
        let appliance = AppliancePlan::draw(random, network.mtu);
        let volumes = (0..random.range(1..=3u32)).map(|_| VolumePlan::draw(random));
        let mut volumes: Vec<_> = volumes.collect();
        if volumes.len() > 1 && random.chance(1, 2) {
            volumes[0].policy = WritePolicy::Back;
        }
        let active = random.range(20..=400u64) * MILLISECOND;
        let hosts = (0..*random.pick(&[1, 1, 2, 2, 3, 4]))
            .map(|_| HostPlan::draw(random, &appliance, active))
            .collect();
        let mut plan = Self {
            network,
            appliance,
            volumes,
            log: None,
            hosts,
            events: Vec::new(),
            active,
            healed_at: active,
            last_blow: *random.pick(&[
                LastBlow::None,
                LastBlow::None,
                LastBlow::Power,
                LastBlow::ShutdownThenPower,
            ]),
            may_change: true,
        };
        if !random.chance(3, 20) {
            plan.draw_trouble(random, active);
        }
        plan
    }

    /// A plan in which hosts prove who they are, and strangers try to get in.
    pub(crate) fn draw_guarded(random: &mut Random) -> Self {
        let mut plan = Self::draw(random);
        let guard = GuardPlan::draw(random);
        plan.hosts.truncate(HOSTS_MAX - 1);
        let mut stranger = plan.hosts[0].clone();
        (stranger.is_stranger, stranger.commands) = (true, 0);
        plan.hosts.push(stranger);
        for host in &mut plan.hosts {
            host.guard = Some(guard.clone());
        }
        let strange = plan.hosts.len() - 1;
        plan.events
            .retain(|(_, event)| event.host() != Some(strange));
        plan.appliance.guard = Some(guard);
        plan
    }

    /// A plan in which hosts are encrypted, some of which prove in-band who they are, too, and somebody tries to get past it.
    pub(crate) fn draw_encrypted(random: &mut Random) -> Self {
        let mut plan = Self::draw_guarded(random);
        if !random.chance(1, 3) {
            plan.appliance.guard = None;
            plan.hosts.iter_mut().for_each(|host| host.guard = None);
        }
        let tls = TlsPlan::draw(random);
        for host in &mut plan.hosts {
            host.tls = Some(tls.clone());
        }
        plan.appliance.tls = Some(tls);
        // Who may connect is changed for the guest alone.
        plan.may_change = false;
        plan
    }

    /// A plan with a log, in which the appliance is killed, often again while it replays.
    pub(crate) fn draw_logged(random: &mut Random) -> Self {
        let mut plan = Self::draw(random);
        for (i, volume) in plan.volumes.iter_mut().enumerate() {
            if i == 0 || random.chance(2, 3) {
                let block = volume.disk.geometry.block_size;
                volume.policy = WritePolicy::Logged;
                volume.block = volume.block.max(block);
                if random.chance(2, 3) {
                    let geometry = &mut volume.disk.geometry;
                    (geometry.unmap, geometry.deallocated_zeros) = (true, true);
                }
            }
        }
        for host in &mut plan.hosts {
            if random.chance(1, 3) {
                host.weights = [30, 35, 5, 22, 8];
            }
        }
        if random.chance(1, 2) {
            // A log that so many shards wrote is replayed by so many.
            let most = plan.appliance.shards;
            let starts = (0..random.range(2..=5usize)).map(|_| random.range(1..=most));
            plan.appliance.starts = starts.collect();
            plan.appliance.nic.other_queue = 0;
        }
        plan.log = Some(LogPlan::draw(random, &plan.appliance));
        // What the log has of a drive that is gone for good cannot be replayed: it does not start.
        let volumes = &plan.volumes;
        let is_logged = |disk: usize| volumes[disk].policy == WritePolicy::Logged;
        plan.events.retain(|(_, event)| match event {
            Event::Gone { disk } => !is_logged(*disk),
            _ => true,
        });
        plan.draw_crashes(random);
        if random.chance(1, 4) {
            plan.draw_trouble_of_the_log(random);
        }
        plan.draw_ambushes(random);
        if random.chance(1, 4) {
            plan.draw_failing_deallocations(random);
        }
        let rests = [0, 1, 20, 60_000].map(Duration::from_millis);
        plan.appliance.deallocation_rest = *random.pick(&rests);
        plan
    }

    /// The same on a log store that loses some writes, and writes others elsewhere.
    pub(crate) fn draw_lies(random: &mut Random) -> Self {
        let mut plan = Self::draw_logged(random);
        if let Some(log) = &mut plan.log {
            let rarely = *random.pick(&[100, 1000, 10_000]);
            log.disk.lost_one_in = *random.pick(&[0, rarely]);
            log.disk.misdirected_one_in = *random.pick(&[0, rarely, rarely]);
        }
        if random.chance(1, 2) {
            plan.draw_early_lies(random);
        }
        plan
    }

    /// The same on two log stores. One of them fails now and then, or is silent, or is not there at a start; both do
    /// seldom.
    pub(crate) fn draw_two(random: &mut Random) -> Self {
        let mut plan = Self::draw_logged(random);
        plan.draw_mirror(random);
        for _ in 0..random.range(0..=2u32) {
            plan.draw_loss_of_a_log(random);
        }
        if let Some(log) = &mut plan.log {
            // So that hosts have their answers while a store still says that it is alone.
            let slower = *random.pick(&[1, 1, 5, 20]);
            for disk in [Some(&mut log.disk), log.mirror.as_mut()] {
                let (least, most) = &mut disk.expect("two").latency;
                (*least, *most) = (*least * slower, *most * slower);
            }
        }
        plan.draw_failures_of_a_log(random);
        plan
    }

    /// The same, one of which lies, and does nothing else that is wrong.
    pub(crate) fn draw_two_lies(random: &mut Random) -> Self {
        let mut plan = Self::draw_logged(random);
        plan.draw_mirror(random);
        let logs = plan.volumes.len();
        plan.events.retain(|(_, event)| match event {
            Event::Disk { disk, .. } => *disk < logs,
            _ => true,
        });
        if let Some(log) = &mut plan.log {
            let rarely = *random.pick(&[50, 100, 1000, 10_000]);
            let liar = match (random.chance(1, 2), &mut log.mirror) {
                (true, Some(mirror)) => mirror,
                _ => &mut log.disk,
            };
            liar.lost_one_in = *random.pick(&[0, rarely]);
            liar.misdirected_one_in = *random.pick(&[rarely, rarely, 2 * rarely]);
        }
        plan
    }

    /// The same on one log store or two, and nothing goes wrong but that the drive of one volume hangs for a minute, and is
    /// never given up: hosts keep their queues full of commands for it.
    pub(crate) fn draw_hangs(random: &mut Random) -> Self {
        let mut plan = Self::draw_logged(random);
        if plan.volumes.len() < 2 {
            plan.volumes.push(VolumePlan::draw(random));
        }
        for volume in &mut plan.volumes[..2] {
            volume.policy = WritePolicy::Logged;
            volume.block = volume.block.max(volume.disk.geometry.block_size);
        }
        if random.chance(1, 2) {
            plan.draw_mirror(random);
        }
        plan.draw_a_long_hang(random);
        plan
    }

    /// The same with tables of logged volumes, or not.
    pub(crate) fn with_tables(mut self, random: &mut Random) -> Self {
        if let Some(log) = self.log.as_mut().filter(|_| random.chance(1, 2)) {
            log.tables_len = (nvlog::ENTRY_PAGES + random.range(8..=32u64)) * nvlog::UNIT;
            log.tables_from = *random.pick(&[0, 0, 1, 2]);
            let disks = [Some(&mut log.disk), log.mirror.as_mut()];
            for DiskConfig { geometry, .. } in disks.into_iter().flatten() {
                geometry.blocks += log.tables_len / u64::from(geometry.block_size);
            }
        }
        self
    }

    /// Every device: those of volumes, of the log, and what else volumes lie on.
    fn disks(&self) -> usize {
        let logs = self.log.as_ref().map_or(0, LogPlan::disks);
        let parts = self.volumes.iter();
        let more = parts.map(|volume| volume.parts.len().saturating_sub(1));
        self.volumes.len() + logs + more.sum::<usize>()
    }

    fn draw_mirror(&mut self, random: &mut Random) {
        let mut other = LogPlan::draw(random, &self.appliance).disk;
        if let Some(log) = &mut self.log {
            // Of any size that its halves have room in.
            let geometry = &mut other.geometry;
            let bytes = log.disk.geometry.len() + random.below(4u64) * 4096;
            geometry.blocks = bytes / u64::from(geometry.block_size);
            log.mirror = Some(other);
        }
    }
}

impl NetworkPlan {
    fn draw(random: &mut Random) -> Self {
        let transmit_checksums = random.chance(1, 2);
        let tso = transmit_checksums && random.chance(1, 2);
        Self {
            ipv6: random.chance(1, 4),
            vlan: random.one_in(6).then(|| random.range(1..=4094)),
            mtu: *random.pick(&[1500, 1500, 1500, 1280, 4000, 9000]),
            transmit_checksums,
            tso_max_bytes: if tso { random.range(4000..=60_000) } else { 0 },
            duplicate_address_detection: random.one_in(8),
            rto_max: Duration::from_millis(random.range(1000..=4000)),
        }
    }
}

impl AppliancePlan {
    fn draw(random: &mut Random, mtu: usize) -> Self {
        let shards = *random.pick(&[1, 1, 2, 2, 2, 3, 4]);
        let max_io_bytes = 8192u32 << random.below(5u32);
        let small = random.chance(1, 2);
        let of = |random: &mut Random, least: u32, most: u32| match small {
            true => least + random.below(least / 2 + 1),
            false => random.range(least..=most),
        };
        let memory = MemoryConfig {
            // The least that the program takes.
            clusters: of(random, 256, 1024),
            cluster_size: *random.pick(&[2048, 2048, 2048, 4096, 16384]),
            pages: of(random, 256, 768),
            requests: of(random, 16, 64),
            connections: 64,
        };
        Self {
            shards,
            ports: 1,
            nic: NicConfig {
                receive_ring: random.range(16..=256),
                transmit_ring: random.range(8..=256),
                verifies: random.chance(1, 2),
                shift: random.below(2usize) * 2,
                other_queue: random.below(shards),
            },
            memory,
            max_io_bytes,
            in_capsule_bytes: *random.pick(&[0, 512, 4096, 8192]),
            queue_depth: *random.pick(&[16, 32, 128]),
            success_flag: random.chance(1, 2),
            data_ms: random.range(500..=3000),
            copy: random.one_in(10),
            deallocated_max: *random.pick(&[4096, 65536, 64 << 20]),
            deallocation_rest: Duration::from_secs(60),
            starts: Vec::new(),
            held_up_one_in: *random.pick(&[0, 0, 500, 5000]),
            guard: None,
            tls: None,
        }
        .fit(mtu)
    }

    /// Frames of large MTUs fill many small clusters: fewer of them would not carry a window.
    fn fit(mut self, mtu: usize) -> Self {
        if mtu > 4000 && self.memory.cluster_size < 4096 {
            self.memory.clusters = self.memory.clusters.max(512);
        }
        self
    }
}

impl VolumePlan {
    fn draw(random: &mut Random) -> Self {
        let block_size = *random.pick(&[512u32, 512, 4096, 4096, 4096]);
        let policy = *random.pick(&[WritePolicy::Through, WritePolicy::Back]);
        let block = match (policy, block_size) {
            (WritePolicy::Back, 4096) if random.chance(1, 2) => 512,
            (_, 512) if random.one_in(4) => 4096,
            _ => block_size,
        };
        let bytes = (random.range(1..=4u64) << 20) + random.below(16u64) * 4096;
        let (alignment, prp) = *random.pick(&[(1, false), (4, false), (4, true), (512, false)]);
        let mut geometry = Geometry {
            block_size,
            blocks: bytes / u64::from(block_size),
            metadata: 0,
            alignment,
            prp,
            max_elements: *random.pick(&[1, 2, 4, 16, 250, 250]),
            max_bytes: *random.pick(&[4096, 16384, 65536, 1 << 20]),
            write_cache: random.chance(1, 2),
            write_zeroes: random.chance(1, 2),
            unmap: random.chance(1, 2),
            deallocated_zeros: false,
        };
        let least = random.range(1..=50u64) * MICROSECOND;
        let latency = (least, least * random.range(1..=20u64));
        let depth = random.range(1..=64);
        let immediate_one_in = *random.pick(&[0, 0, 0, 20, 3]);
        geometry.deallocated_zeros = random.chance(1, 2);
        Self {
            disk: DiskConfig {
                geometry,
                latency,
                depth,
                immediate_one_in,
                deallocated_unit: (*random.pick(&[512, 512, 16384, 65536])).max(block_size.into()),
                misdirected_one_in: 0,
                lost_one_in: 0,
                honest_from: Nanoseconds::MAX,
                timeout: *random.pick(&[
                    None,
                    Some(SECOND / 2),
                    Some(2 * SECOND),
                    Some(5 * SECOND),
                ]),
                recovery: random.range(1..=1000u64) * MILLISECOND,
            },
            parts: Vec::new(),
            policy,
            block,
            windows: Self::draw_windows(random, bytes),
            later: Vec::new(),
        }
    }

    /// A few places, some of them at the borders of what one shard owns, and at the end.
    fn draw_windows(random: &mut Random, bytes: u64) -> Vec<(u64, u64)> {
        let len = 4096 * random.range(1..=32u64);
        let window = |random: &mut Random| {
            let middle = match random.below(4u32) {
                0 => 0,
                1 => bytes,
                2 => random.range(0..=bytes >> 20) << 20,
                _ => random.below(bytes),
            };
            (middle.saturating_sub(len / 2) / 4096 * 4096, len)
        };
        (0..random.range(1..=3u32))
            .map(|_| window(random))
            .collect()
    }
}

impl LogPlan {
    /// Its devices.
    pub(crate) fn disks(&self) -> usize {
        1 + usize::from(self.mirror.is_some())
    }

    /// Whether a device of it says of some writes that they are done, and they are not.
    pub(crate) fn lies(&self) -> bool {
        let mut disks = [Some(&self.disk), self.mirror.as_ref()]
            .into_iter()
            .flatten();
        disks.any(|disk| disk.lost_one_in > 0 || disk.misdirected_one_in > 0)
    }

    fn draw(random: &mut Random, appliance: &AppliancePlan) -> Self {
        let block_size = *random.pick(&[512u32, 512, 4096]);
        let (alignment, prp) = *random.pick(&[(1, false), (1, false), (4, false), (4, true)]);
        let least = u64::from(appliance.max_io_bytes) + (64 << 10);
        let half_len = (least + random.below(256u64 << 10)) / 4096 * 4096;
        let regions = 2 * appliance.shards as u64;
        let bytes = (2 << 20) + regions * half_len + random.below(4u64) * 4096;
        let geometry = Geometry {
            block_size,
            blocks: bytes / u64::from(block_size),
            metadata: 0,
            alignment,
            prp,
            max_elements: *random.pick(&[4, 16, 250, 250]),
            max_bytes: *random.pick(&[16384, 65536, 1 << 20]),
            write_cache: random.chance(1, 2),
            write_zeroes: false,
            unmap: false,
            deallocated_zeros: false,
        };
        // Some are so slow that hosts would hear much of what is not stable, were they told.
        let slower = *random.pick(&[1, 1, 1, 10]);
        let fastest = slower * random.range(1..=30u64) * MICROSECOND;
        Self {
            disk: DiskConfig {
                geometry,
                latency: (fastest, fastest * random.range(1..=20u64)),
                depth: random.range(1..=64),
                immediate_one_in: *random.pick(&[0, 0, 20]),
                deallocated_unit: block_size.into(),
                misdirected_one_in: 0,
                lost_one_in: 0,
                honest_from: Nanoseconds::MAX,
                timeout: Some(5 * SECOND),
                recovery: random.range(1..=100u64) * MILLISECOND,
            },
            mirror: None,
            ambushes: Vec::new(),
            half_len,
            tables_len: 0,
            tables_from: 0,
            interval: *random.pick(&[2u64, 20, 200, 10_000]) * MILLISECOND,
            through_after_failure: random.chance(1, 2),
        }
    }
}

impl HostPlan {
    fn draw(random: &mut Random, appliance: &AppliancePlan, active: Nanoseconds) -> Self {
        let commands = random.range(30..=200u32);
        let queues = random.range(1..=3u16);
        let pause = active * u64::from(queues) / u64::from(commands) * 2;
        let data_digest = random.chance(1, 2);
        Self {
            link: Quality {
                delay: random.range(1..=100u64) * MICROSECOND,
                jitter: random.range(1..=300u64) * MICROSECOND,
                byte_time: random.below(3u64),
                ..Quality::default()
            },
            queues,
            entries: random.range(2..=appliance.queue_depth.min(17)),
            header_digest: random.chance(1, 2),
            data_digest,
            hpda: *random.pick(&[0, 0, 0, 1, 15, 31]),
            max_r2t: random.below(4u32),
            no_flow_control: random.chance(1, 3),
            keep_alive: Duration::from_millis(*random.pick(&[0, 2000, 5000])),
            window: *random.pick(&[1 << 22, 1 << 22, 1 << 16, 1 << 14]),
            patience: *random.pick(&[2 * SECOND, 5 * SECOND, 15 * SECOND]),
            commands,
            // Some keep their queues full.
            pause: if random.chance(1, 3) { 0 } else { pause },
            bytes_max: 512 << random.range(3..=8u32),
            is_greedy: false,
            only: None,
            wrong_digest_one_in: if data_digest && random.one_in(4) {
                20
            } else {
                0
            },
            weights: *random.pick(&[
                [40, 40, 5, 5, 10],
                [30, 60, 2, 2, 6],
                [60, 30, 4, 2, 4],
                [25, 25, 25, 10, 15],
            ]),
            abort_one_in: *random.pick(&[0, 0, 30, 8, 2]),
            guard: None,
            tls: None,
            is_stranger: false,
        }
    }
}
