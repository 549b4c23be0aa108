//! What goes wrong in a run, and when.

use block::Fault;
use testkit::Random;

use crate::clock::{MICROSECOND, MILLISECOND, Nanoseconds};
use crate::disk::{Failing, Trouble};
use crate::plan::{LogPlan, OfferChange, Plan};
use crate::wire::{Direction, Quality};

/// Something that happens to a run.
#[derive(Clone, Debug)]
pub(crate) enum Event {
    /// A host's link treats frames so from now on.
    Link { host: usize, quality: Quality },
    /// A direction of a host's link carries nothing, or does so again.
    Cut {
        host: usize,
        direction: Direction,
        is_cut: bool,
    },
    /// A device is in trouble, or no longer.
    Disk { disk: usize, trouble: Trouble },
    /// A device goes away for good.
    Gone { disk: usize },
    /// The appliance is killed, with its devices' power or without.
    Kill { power: bool },
    /// The appliance is stopped as it should be.
    Stop,
    /// The appliance starts again.
    Start,
    /// A host gives its controller up and connects again.
    Reset { host: usize },
    /// A host stops to send, or goes on.
    Stall { host: usize, is_stalled: bool },
    /// A host stops to read, or goes on.
    Deaf { host: usize, is_deaf: bool },
    /// What the appliance offers changes.
    Offer(OfferChange),
}

impl Event {
    /// The host that it happens to.
    pub(super) fn host(&self) -> Option<usize> {
        match *self {
            Event::Link { host, .. }
            | Event::Cut { host, .. }
            | Event::Reset { host }
            | Event::Stall { host, .. }
            | Event::Deaf { host, .. } => Some(host),
            _ => None,
        }
    }
}

/// What happens because of what becomes of the log.
#[derive(Clone, Debug)]
pub(crate) struct Ambush {
    pub(crate) moment: Moment,
    /// How long after it.
    pub(crate) events: Vec<(Nanoseconds, Event)>,
}

/// What an ambush waits for, while the appliance serves.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Moment {
    /// A device of the log has failed.
    Failure,
    /// Its devices were given so many writes since it serves.
    Write(u64),
    /// So many copies of superblocks were written since it serves.
    Superblock(u64),
}

impl Ambush {
    /// The appliance is killed, and starts again.
    fn kill(random: &mut Random, moment: Moment, within: Nanoseconds) -> Self {
        let power = random.chance(2, 3);
        let after = random.below(within);
        Self {
            moment,
            events: vec![(after, Event::Kill { power }), (after, Event::Start)],
        }
    }
}

impl Failing {
    /// Reads, writes or flushes, or all of them.
    pub(crate) fn draw(random: &mut Random) -> Self {
        let fault = *random.pick(&[Fault::WriteError, Fault::Busy, Fault::Internal]);
        let (reads, writes, flushes) = *random.pick(&[
            (false, true, false),
            (false, false, true),
            (true, false, false),
            (true, true, true),
        ]);
        Self {
            ops: [reads, writes, writes, false, flushes],
            fault,
            one_in: random.range(1..=20),
            at_submit: random.one_in(4),
        }
    }
}

impl Plan {
    /// Draws what goes wrong between the beginning and `active`, and when that is over.
    pub(super) fn draw_trouble(&mut self, random: &mut Random, active: Nanoseconds) {
        let kinds: &[fn(&mut Plan, &mut Random, Nanoseconds)] = &[
            Plan::bad_links,
            Plan::bad_links,
            Plan::cuts,
            Plan::slow_disks,
            Plan::held_commands,
            Plan::hung_disk,
            Plan::failing_disks,
            Plan::gone_disk,
            Plan::kills,
            Plan::kills,
            Plan::stops,
            Plan::resets,
            Plan::stalls,
            Plan::deafness,
            Plan::deafness,
        ];
        for _ in 0..random.range(1..=4u32) {
            let draw = *random.pick(kinds);
            let at = random.below(active);
            draw(self, random, at);
        }
        self.events.sort_by_key(|&(at, _)| at);
        self.healed_at = self
            .events
            .iter()
            .map(|&(at, _)| at)
            .max()
            .unwrap_or(0)
            .max(active);
    }

    /// Some time, most often one at which hosts have work.
    fn sometime(&self, random: &mut Random) -> Nanoseconds {
        match random.chance(3, 4) {
            true => random.below(self.active),
            false => random.below(self.healed_at.max(1)),
        }
    }

    /// The appliance is killed, some times again while it starts.
    pub(super) fn draw_crashes(&mut self, random: &mut Random) {
        for _ in 0..random.range(1..=3u32) {
            let mut at = self.sometime(random);
            let power = random.chance(2, 3);
            self.interrupt(random, at, Event::Kill { power });
            for _ in 0..random.below(4u32) {
                at += random.range(1..=6000u64) * MICROSECOND;
                let power = random.chance(2, 3);
                self.interrupt(random, at, Event::Kill { power });
            }
        }
        self.events.sort_by_key(|&(at, _)| at);
        let last = self.events.iter().map(|&(at, _)| at).max();
        self.healed_at = self.healed_at.max(last.unwrap_or(0));
    }

    /// Devices of logged volumes that fail deallocations, and nothing else, for a while.
    pub(super) fn draw_failing_deallocations(&mut self, random: &mut Random) {
        for disk in 0..self.volumes.len() {
            let trouble = Trouble {
                failing: Some(Failing {
                    ops: [false, false, false, true, false],
                    fault: *random.pick(&[Fault::WriteError, Fault::Busy]),
                    one_in: random.range(1..=4),
                    at_submit: random.one_in(8),
                }),
                ..Trouble::default()
            };
            let at = random.below(self.healed_at.max(1));
            self.disk_trouble(random, at, disk, trouble);
        }
        self.events.sort_by_key(|&(at, _)| at);
        let last = self.events.iter().map(|&(at, _)| at).max();
        self.healed_at = self.healed_at.max(last.unwrap_or(0));
    }

    /// The log's device lies for a while, and there is no crash before somebody knows what was acknowledged then: what it
    /// has lost is to be said, unless a consistency point was quicker.
    pub(super) fn draw_early_lies(&mut self, random: &mut Random) {
        let Some(log) = &mut self.log else { return };
        let until = random.below(self.active);
        let rarely = *random.pick(&[3, 10, 30]);
        log.disk.lost_one_in = *random.pick(&[0, rarely]);
        log.disk.misdirected_one_in = *random.pick(&[0, rarely, rarely]);
        log.disk.honest_from = until;
        log.interval = *random.pick(&[log.interval, 10_000 * MILLISECOND]);
        log.ambushes.clear();
        let stops =
            |event: &Event| matches!(event, Event::Kill { .. } | Event::Stop | Event::Start);
        self.events.retain(|(_, event)| !stops(event));
        let at = until + random.range(200..=600u64) * MILLISECOND;
        let power = random.chance(2, 3);
        self.interrupt(random, at, Event::Kill { power });
        self.events.sort_by_key(|&(at, _)| at);
        let last = self.events.iter().map(|&(at, _)| at).max();
        self.healed_at = self.healed_at.max(last.unwrap_or(0));
    }

    /// Nothing goes wrong but that one of the first two drives hangs for a minute, without a timeout, while some hosts keep
    /// their queues full; of commands for it alone in half of the plans, in which the last host uses the other one.
    pub(super) fn draw_a_long_hang(&mut self, random: &mut Random) {
        let hangs = random.below(2usize);
        self.volumes[hangs].disk.timeout = None;
        self.events.clear();
        self.may_change = false;
        if let Some(log) = &mut self.log {
            log.ambushes.clear();
        }
        if self.hosts.len() < 2 {
            let host = self.hosts[0].clone();
            self.hosts.push(host);
        }
        let is_apart = random.chance(1, 2);
        let last = self.hosts.len() - 1;
        for host in 0..=last {
            if host == 0 || random.chance(1, 2) {
                self.make_greedy(host);
                self.hosts[host].weights = *random.pick(&[[47, 47, 2, 2, 2], [4, 90, 2, 2, 2]]);
            }
            self.hosts[host].only = is_apart.then_some(match host {
                _ if host == last => 1 - hangs,
                _ => hangs,
            });
        }
        let at = random.below(self.active);
        let trouble = Trouble {
            hangs: true,
            ..Trouble::default()
        };
        let disk = hangs;
        self.add(at, Event::Disk { disk, trouble });
        let trouble = Trouble::default();
        let until = at + 60_000 * MILLISECOND;
        self.add(until, Event::Disk { disk, trouble });
        self.healed_at = until;
    }

    /// Drives of volumes that lie on several, each by itself.
    pub(super) fn draw_trouble_of_parts(&mut self, random: &mut Random) {
        let (volumes, all) = (self.volumes.len(), self.disks());
        let logs = self.log.as_ref().map_or(0, LogPlan::disks);
        for disk in volumes + logs..all {
            if random.chance(2, 3) {
                continue;
            }
            let at = self.sometime(random);
            let most = *random.pick(&[50u64, 3000]);
            let trouble = match random.below(4u32) {
                0 => Trouble {
                    slow: random.range(2..=200),
                    is_full: random.one_in(4),
                    ..Trouble::default()
                },
                1 => Trouble {
                    held: random.range(1..=most) * MILLISECOND,
                    ..Trouble::default()
                },
                2 => {
                    let hangs = Trouble {
                        hangs: true,
                        ..Trouble::default()
                    };
                    self.add(
                        at,
                        Event::Disk {
                            disk,
                            trouble: hangs,
                        },
                    );
                    let most = *random.pick(&[1000, 10_000, 60_000u64]);
                    let until = at + random.range(1..=most) * MILLISECOND;
                    let trouble = Trouble::default();
                    self.add(until, Event::Disk { disk, trouble });
                    continue;
                }
                _ => Trouble {
                    failing: Some(Failing::draw(random)),
                    ..Trouble::default()
                },
            };
            self.disk_trouble(random, at, disk, trouble);
        }
        if self.log.is_none() && random.one_in(8) && all > volumes {
            let at = self.sometime(random);
            let disk = random.range(volumes..all);
            self.add(at, Event::Gone { disk });
        }
        self.events.sort_by_key(|&(at, _)| at);
        let last = self.events.iter().map(|&(at, _)| at).max();
        self.healed_at = self.healed_at.max(last.unwrap_or(0));
    }

    /// The log's device is slow, full, silent, or fails what it is told.
    pub(super) fn draw_trouble_of_the_log(&mut self, random: &mut Random) {
        let at = self.sometime(random);
        self.trouble_of_a_log(random, at, self.volumes.len(), &[0, 1, 2, 3]);
    }

    /// One of two devices of the log is in trouble, seldom both; the appliance is often killed a little later.
    pub(super) fn draw_loss_of_a_log(&mut self, random: &mut Random) {
        let at = self.sometime(random);
        let disk = self.volumes.len() + random.below(2usize);
        let mostly_failing = &[0, 1, 2, 3, 3, 3, 3];
        self.trouble_of_a_log(random, at, disk, mostly_failing);
        if random.one_in(6) {
            let other = 2 * self.volumes.len() + 1 - disk;
            let at = at + random.below(10 * MILLISECOND);
            self.trouble_of_a_log(random, at, other, mostly_failing);
        }
        if random.chance(2, 3) {
            let most = *random.pick(&[200, 2000, 20_000u64]);
            let at = at + random.range(1..=most) * MICROSECOND;
            let power = random.chance(2, 3);
            self.interrupt(random, at, Event::Kill { power });
        }
        self.events.sort_by_key(|&(at, _)| at);
        let last = self.events.iter().map(|&(at, _)| at).max();
        self.healed_at = self.healed_at.max(last.unwrap_or(0));
    }

    /// The appliance is killed while a superblock is written, or a group, or soon after.
    pub(super) fn draw_ambushes(&mut self, random: &mut Random) {
        let count = random.below(5u32);
        let Some(log) = &mut self.log else { return };
        let within = 4 * log.disk.latency.1;
        let ambush = |random: &mut Random| {
            let count = {
                let most = *random.pick(&[4, 16, 64u64]);
                random.range(1..=most)
            };
            let moment = match random.chance(1, 2) {
                true => Moment::Superblock(count),
                false => Moment::Write(4 * count),
            };
            Ambush::kill(random, moment, within)
        };
        log.ambushes = (0..count).map(|_| ambush(random)).collect();
    }

    /// One of two devices of the log fails while it is written to, and the appliance is killed soon after: most often
    /// before what the other one says of that can be stable.
    pub(super) fn draw_failures_of_a_log(&mut self, random: &mut Random) {
        let (count, first) = (random.below(4u32), self.volumes.len());
        let Some(log) = &mut self.log else { return };
        let mirror = log.mirror.as_ref().map_or(0, |disk| disk.latency.1);
        let slower = log.disk.latency.1.max(mirror);
        for _ in 0..count {
            let writes = *random.pick(&[10, 100, 1000u64]);
            let failing = Failing {
                ops: [false, true, true, false, random.chance(1, 2)],
                fault: *random.pick(&[Fault::WriteError, Fault::Busy, Fault::Internal]),
                one_in: random.range(1..=3),
                at_submit: random.one_in(4),
            };
            let trouble = Trouble {
                failing: Some(failing),
                ..Trouble::default()
            };
            let disk = first + random.below(2usize);
            let lasting = random.range(1..=10u64) * MILLISECOND;
            let over = Trouble::default();
            let failure = Ambush {
                moment: Moment::Write(random.range(1..=writes)),
                events: vec![
                    (0, Event::Disk { disk, trouble }),
                    (
                        lasting,
                        Event::Disk {
                            disk,
                            trouble: over,
                        },
                    ),
                ],
            };
            let within = *random.pick(&[6 * slower, 6 * slower, 10 * MILLISECOND]);
            let kill = Ambush::kill(random, Moment::Failure, within);
            log.ambushes.extend([failure, kill]);
        }
    }

    /// `kinds`: 0, it is slow; 1, full; 2, silent; 3, failing.
    fn trouble_of_a_log(
        &mut self,
        random: &mut Random,
        at: Nanoseconds,
        disk: usize,
        kinds: &[u32],
    ) {
        let failing = Failing::draw(random);
        let kind = *random.pick(kinds);
        let trouble = Trouble {
            slow: if kind == 0 { random.range(2..=100) } else { 0 },
            is_full: kind == 1,
            hangs: kind == 2,
            failing: (kind == 3).then_some(failing),
            ..Trouble::default()
        };
        let most = if kind == 2 { 20_000 } else { 300u64 };
        let lasting = random.range(1..=most) * MILLISECOND;
        self.add(at, Event::Disk { disk, trouble });
        let trouble = Trouble::default();
        self.add(at + lasting, Event::Disk { disk, trouble });
        self.events.sort_by_key(|&(at, _)| at);
        self.healed_at = self.healed_at.max(at + lasting);
    }

    fn add(&mut self, at: Nanoseconds, event: Event) {
        self.events.push((at, event));
    }

    fn bad_links(&mut self, random: &mut Random, at: Nanoseconds) {
        let host = random.below(self.hosts.len());
        let good = self.hosts[host].link;
        let most = *random.pick(&[20u64, 200, 1500]);
        let mut chance = |of: u64| {
            if random.chance(1, of) {
                random.below(most)
            } else {
                0
            }
        };
        let quality = Quality {
            loss: chance(2),
            double: chance(2),
            corrupt: chance(2),
            reorder: chance(2),
            ..good
        };
        let lasting = random.range(1..=500u64) * MILLISECOND;
        self.add(at, Event::Link { host, quality });
        self.add(
            at + lasting,
            Event::Link {
                host,
                quality: good,
            },
        );
    }

    fn cuts(&mut self, random: &mut Random, at: Nanoseconds) {
        let host = random.below(self.hosts.len());
        let most = *random.pick(&[20u64, 300, 3000]);
        let lasting = random.range(1..=most) * MILLISECOND;
        let both = [Direction::Up, Direction::Down];
        let directions = match random.below(3u32) {
            0 => &both[..],
            1 => &both[..1],
            _ => &both[1..],
        };
        for &direction in directions {
            let cut = |is_cut| Event::Cut {
                host,
                direction,
                is_cut,
            };
            self.add(at, cut(true));
            self.add(at + lasting, cut(false));
        }
    }

    fn slow_disks(&mut self, random: &mut Random, at: Nanoseconds) {
        let disk = random.below(self.volumes.len());
        let trouble = Trouble {
            slow: random.range(2..=200),
            is_full: random.one_in(4),
            ..Trouble::default()
        };
        self.disk_trouble(random, at, disk, trouble);
    }

    /// A device that holds what it was given, while hosts give their controllers up, and serves
    /// what they give next at once.
    fn held_commands(&mut self, random: &mut Random, at: Nanoseconds) {
        let disk = random.below(self.volumes.len());
        // Longer than a reset waits for it, too.
        let most = *random.pick(&[3000, 9000u64]);
        let trouble = Trouble {
            held: random.range(20..=most) * MILLISECOND,
            ..Trouble::default()
        };
        let lasting = random.range(1..=30u64) * MILLISECOND;
        self.add(at, Event::Disk { disk, trouble });
        for host in 0..self.hosts.len() {
            self.add(at + random.below(2 * lasting), Event::Reset { host });
        }
        let trouble = Trouble::default();
        self.add(at + lasting, Event::Disk { disk, trouble });
    }

    /// A device that ends nothing any more, for longer than hosts wait, or than it may have commands.
    /// Most that do were given all that it takes: what is left has to be enough for others.
    fn hung_disk(&mut self, random: &mut Random, at: Nanoseconds) {
        let disk = random.below(self.volumes.len());
        if random.chance(2, 3) {
            let host = random.below(self.hosts.len());
            self.make_greedy(host);
            // Some write little else.
            self.hosts[host].weights = *random.pick(&[[47, 47, 2, 2, 2], [4, 90, 2, 2, 2]]);
        }
        let most = *random.pick(&[1000, 10_000, 60_000u64]);
        let trouble = Trouble {
            hangs: true,
            ..Trouble::default()
        };
        self.add(at, Event::Disk { disk, trouble });
        let trouble = Trouble::default();
        let lasting = random.range(1..=most) * MILLISECOND;
        self.add(at + lasting, Event::Disk { disk, trouble });
    }

    fn failing_disks(&mut self, random: &mut Random, at: Nanoseconds) {
        let disk = random.below(self.volumes.len());
        let (ops, faults): (_, &[Fault]) = match random.below(6u32) {
            0 => (
                [true, false, false, false, false],
                &[Fault::ReadError, Fault::Busy],
            ),
            1 | 2 => (
                [false, true, true, false, false],
                &[Fault::WriteError, Fault::NoSpace, Fault::Busy],
            ),
            3 => (
                [false, false, false, false, true],
                &[Fault::WriteError, Fault::Internal],
            ),
            4 => (
                [false, false, false, true, false],
                &[Fault::WriteError, Fault::Busy],
            ),
            _ => (
                [true; 5],
                &[
                    Fault::Busy,
                    Fault::Internal,
                    Fault::Gone,
                    Fault::Device {
                        code_type: 2,
                        code: 0x80,
                    },
                ],
            ),
        };
        let trouble = Trouble {
            failing: Some(Failing {
                ops,
                fault: *random.pick(faults),
                one_in: random.range(1..=8),
                at_submit: random.one_in(4),
            }),
            ..Trouble::default()
        };
        self.disk_trouble(random, at, disk, trouble);
    }

    fn disk_trouble(
        &mut self,
        random: &mut Random,
        at: Nanoseconds,
        disk: usize,
        trouble: Trouble,
    ) {
        let lasting = random.range(1..=300u64) * MILLISECOND;
        self.add(at, Event::Disk { disk, trouble });
        let trouble = Trouble::default();
        self.add(at + lasting, Event::Disk { disk, trouble });
    }

    fn gone_disk(&mut self, random: &mut Random, at: Nanoseconds) {
        // One device at least stays.
        if self.volumes.len() > 1 && random.chance(1, 2) {
            let disk = random.below(self.volumes.len());
            let is_gone = |(_, event): &_| matches!(event, Event::Gone { .. });
            if !self.events.iter().any(is_gone) {
                self.add(at, Event::Gone { disk });
            }
        }
    }

    fn kills(&mut self, random: &mut Random, at: Nanoseconds) {
        let power = random.chance(2, 3);
        self.interrupt(random, at, Event::Kill { power });
    }

    fn stops(&mut self, random: &mut Random, at: Nanoseconds) {
        self.interrupt(random, at, Event::Stop);
    }

    /// Ends the appliance, and starts it again; the last such event decides when.
    fn interrupt(&mut self, random: &mut Random, at: Nanoseconds, event: Event) {
        self.add(at, event);
        let most = *random.pick(&[5u64, 200]);
        let lasting = random.range(1..=most) * MILLISECOND;
        self.add(at + lasting, Event::Start);
    }

    fn resets(&mut self, random: &mut Random, at: Nanoseconds) {
        let host = random.below(self.hosts.len());
        self.add(at, Event::Reset { host });
    }

    fn stalls(&mut self, random: &mut Random, at: Nanoseconds) {
        let host = random.below(self.hosts.len());
        let most = *random.pick(&[50u64, 500, 4000]);
        let lasting = random.range(1..=most) * MILLISECOND;
        let stall = |is_stalled| Event::Stall { host, is_stalled };
        self.add(at, stall(true));
        self.add(at + lasting, stall(false));
    }

    /// A host that keeps its queues full of the largest commands.
    fn make_greedy(&mut self, host: usize) {
        let greedy = &mut self.hosts[host];
        greedy.queues = 3;
        greedy.entries = self.appliance.queue_depth;
        greedy.commands += 400;
        greedy.pause = 0;
        (greedy.is_greedy, greedy.bytes_max) = (true, self.appliance.max_io_bytes);
    }

    /// A host that stops to read, for as long as it likes. Most that do have asked for more than
    /// the appliance has memory for, and ask for more.
    fn deafness(&mut self, random: &mut Random, at: Nanoseconds) {
        let host = random.below(self.hosts.len());
        let most = *random.pick(&[50u64, 500, 4000, 60_000, 60_000]);
        let mut lasting = random.range(1..=most) * MILLISECOND;
        if random.chance(2, 3) {
            self.hosts[host].window = 1 << 14;
            self.hosts[host].weights = [94, 2, 2, 1, 1];
            self.make_greedy(host);
            lasting += random.below(2u64) * 40_000 * MILLISECOND;
        }
        let deaf = |is_deaf| Event::Deaf { host, is_deaf };
        self.add(at, deaf(true));
        self.add(at + lasting, deaf(false));
    }
}
