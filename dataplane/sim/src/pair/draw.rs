//! What appliances go through, drawn.

use block::WritePolicy;
use testkit::Random;

use super::disks::draw_disks;
use super::establish::Unestablished;
use super::secure::LinkTls;
use crate::clock::{MILLISECOND, Nanoseconds, SECOND};
use crate::disk::Trouble;
use crate::plan::{HOSTS_MAX, Plan, VolumePlan};
use crate::wire::{Between, Direction, Quality};

/// How long a link that was cut is there before another one is: TCP's and the lanes' patience, and a way that is tried in vain.
const SETTLED: Nanoseconds = 4 * SECOND;

/// Has other numbers come of a seed.
const FORGOTTEN: u64 = 0x666f_7267_6f74_0000;

/// What happens.
#[derive(Clone, Debug)]
pub(super) enum Event {
    Kill {
        appliance: usize,
        power: bool,
    },
    Start {
        appliance: usize,
    },
    Stop {
        appliance: usize,
    },
    /// None of its threads runs for so long.
    Pause {
        appliance: usize,
        length: Nanoseconds,
    },
    /// A direction of a link between two of them.
    Cut {
        link: Between,
        direction: Direction,
        is_cut: bool,
    },
    Link {
        link: Between,
        quality: Quality,
    },
    /// A drive of an appliance is in trouble, or no longer: those of its volumes, then its log's.
    Disk {
        appliance: usize,
        disk: usize,
        trouble: Trouble,
    },
    /// While it is off, an appliance's log gets another store, with nothing in it.
    LoseLog {
        appliance: usize,
    },
    /// Something happens to whichever one serves, when the pair is so far.
    Trap,
    /// The operator says that the other one is to be the source.
    Demote {
        appliance: usize,
    },
    /// The operator wants to know whether both have the same.
    Verify,
    /// The operator severs the pair, if the node is the source; or ends that.
    Sever {
        appliance: usize,
    },
    Reestablish {
        appliance: usize,
    },
    /// The operator says that a node gives up what it has, if the other one is the source.
    Discard {
        appliance: usize,
    },
    /// The operator says that volumes are to have so many eighths of what drives have beyond what hosts use.
    Resize {
        appliance: usize,
        eighths: u64,
    },
    /// The operator compares tables.
    Tables {
        appliance: usize,
    },
    /// The operator says how long frames are.
    Frames {
        appliance: usize,
        is_short: bool,
    },
    /// A node's way to the arbiter.
    ArbiterCut {
        appliance: usize,
        is_cut: bool,
    },
    Arbiter {
        is_down: bool,
    },
    /// It loses its data.
    ArbiterForgets,
}

/// Which appliances there are, what is between them, and which volumes they have in common.
#[derive(Clone, Debug)]
pub(super) struct Shape {
    pub(super) appliances: usize,
    /// Links between each two of them.
    pub(super) ports: usize,
    /// By appliance.
    pub(super) shards: Vec<usize>,
    /// By volume: who has it, the first source first.
    pub(super) nodes: Vec<[usize; 2]>,
    /// By volume: bytes that both drives have beyond those that hosts use.
    pub(super) spare: Vec<u64>,
    /// Nothing goes wrong but links, of which each two appliances have one all the while.
    pub(super) links_alone: bool,
    /// By volume: neither node is its source at first.
    pub(super) unestablished: Vec<Option<Unestablished>>,
    /// What links are encrypted by.
    pub(super) tls: LinkTls,
}

impl Shape {
    /// Fits the plan to it.
    pub(super) fn draw(plan: &mut Plan, links_alone: bool, random: &mut Random) -> Self {
        let appliances = if random.one_in(4) { 3 } else { 2 };
        let ports = if links_alone {
            2
        } else {
            random.range(1..=2usize)
        };
        plan.appliance.ports = ports;
        if appliances == 3 {
            let volumes = plan.volumes.clone();
            plan.volumes = volumes.into_iter().cycle().take(3).collect();
        }
        let nodes = |volume: usize| {
            let two = match volume {
                2 => [2, 0],
                1 if appliances == 3 => [1, 2],
                _ => [0, 1],
            };
            let [a, b] = two;
            if random.chance(1, 2) { [a, b] } else { [b, a] }
        };
        let nodes = (0..plan.volumes.len()).map(nodes).collect();
        let spare = |_: &VolumePlan| match random.chance(1, 2) {
            true => 4096 * random.range(1..=80u64),
            false => 0,
        };
        let spare = plan.volumes.iter().map(spare).collect();
        // Each host has one volume: those that serve are several.
        while plan.hosts.len() < plan.volumes.len() {
            plan.hosts.push(plan.hosts[0].clone());
        }
        debug_assert!(plan.hosts.len() <= HOSTS_MAX);
        for (i, host) in plan.hosts.iter_mut().enumerate() {
            host.only = Some(i % plan.volumes.len());
        }
        let all = plan.appliance.shards;
        let shards = (0..appliances).map(|_| match random.one_in(4) {
            true => random.range(1..=all),
            false => all,
        });
        Self {
            shards: shards.collect(),
            appliances,
            ports,
            nodes,
            spare,
            links_alone,
            unestablished: vec![None; plan.volumes.len()],
            tls: LinkTls::Off,
        }
    }

    /// Volumes that are to be established. By numbers of their own: what is drawn besides stays what it was.
    pub(super) fn draw_first_roles(&mut self, seed: u64) {
        let mut random = Random::new(!seed);
        if !self.links_alone && random.one_in(4) {
            for volume in &mut self.unestablished {
                let at_once = random.chance(1, 2);
                *volume = random.chance(2, 3).then(|| Unestablished::new(at_once));
            }
        }
    }

    /// One of the others.
    fn other(&self, appliance: usize, random: &mut Random) -> usize {
        (appliance + 1 + random.below(self.appliances - 1)) % self.appliances
    }

    /// All links.
    pub(super) fn links(&self) -> Vec<Between> {
        let two = (0..self.appliances).flat_map(|high| (0..high).map(move |low| [low, high]));
        let of = |nodes| (0..self.ports).map(move |port| Between { nodes, port });
        two.flat_map(of).collect()
    }
}

pub(super) fn draw(random: &mut Random) -> Plan {
    let mut plan = Plan::draw_logged(random);
    plan.volumes.truncate(2);
    for volume in &mut plan.volumes {
        volume.policy = WritePolicy::Logged;
        volume.block = volume.block.max(volume.disk.geometry.block_size);
        volume.disk.timeout = None;
    }
    plan.appliance.starts.clear();
    plan.appliance.nic.other_queue = 0;
    plan.appliance.memory.clusters = plan.appliance.memory.clusters.max(512);
    plan.appliance.memory.pages = plan.appliance.memory.pages.max(512);
    // Each is of a pair.
    plan.network.duplicate_address_detection = false;
    if let Some(log) = &mut plan.log {
        log.mirror = None;
        log.ambushes.clear();
        log.through_after_failure = false;
        let geometry = &mut log.disk.geometry;
        let tables = (nvlog::ENTRY_PAGES + 8) * nvlog::UNIT;
        geometry.blocks += tables / u64::from(geometry.block_size);
    }
    plan.active = random.range(50..=2000u64) * MILLISECOND;
    let active = plan.active;
    for host in &mut plan.hosts {
        host.pause = active * u64::from(host.queues) / u64::from(host.commands) * 2;
        host.patience = *random.pick(&[5 * SECOND, 15 * SECOND]);
    }
    plan
}

pub(super) fn draw_events(
    plan: &Plan,
    shape: &Shape,
    has_arbiter: bool,
    random: &mut Random,
) -> Vec<(Nanoseconds, Event)> {
    let mut events = Vec::new();
    if shape.links_alone {
        draw_links(&mut events, shape, plan.active, random);
        heal(&mut events, shape, plan.active);
        return events;
    }
    let within = plan.active + 3 * SECOND;
    for _ in 0..random.range(0..=4u32) {
        let at = random.below(plan.active);
        let longest = *random.pick(&[50 * MILLISECOND, SECOND, 8 * SECOND]);
        let until = at + random.below(longest);
        let appliance = random.below(shape.appliances);
        match random.below(12u32) {
            10..=11 => {
                let length = until - at + random.below(longest);
                events.push((at, Event::Pause { appliance, length }));
            }
            0..=3 => {
                let power = random.chance(2, 3);
                events.push((at, Event::Kill { appliance, power }));
                events.push((until, Event::Start { appliance }));
                if random.chance(1, 3) {
                    let appliance = shape.other(appliance, random);
                    events.push((
                        at + random.below(within),
                        Event::Kill {
                            appliance,
                            power: random.chance(2, 3),
                        },
                    ));
                    events.push((until + random.below(within), Event::Start { appliance }));
                }
            }
            4 => {
                events.push((at, Event::Stop { appliance }));
                events.push((until, Event::Start { appliance }));
            }
            5..=7 => {
                let ways: &[Direction] = match random.below(3u32) {
                    0 => &[Direction::Up],
                    1 => &[Direction::Down],
                    _ => &[Direction::Up, Direction::Down],
                };
                for link in some_links(shape, random) {
                    for &direction in ways {
                        events.push((at, cut(link, direction, true)));
                        events.push((until, cut(link, direction, false)));
                    }
                }
            }
            _ => {
                let bad = Quality {
                    loss: random.below(500u64),
                    double: random.below(200u64),
                    corrupt: random.below(100u64),
                    reorder: random.below(500u64),
                    delay: random.range(1..=2000u64) * 1000,
                    jitter: random.range(1..=500u64) * 1000,
                    byte_time: 0,
                };
                for link in some_links(shape, random) {
                    let event = |quality| Event::Link { link, quality };
                    events.push((at, event(bad)));
                    events.push((until, event(good())));
                }
            }
        }
    }
    draw_orders(&mut events, shape, within, has_arbiter, random);
    if has_arbiter && random.one_in(4) {
        draw_flap(&mut events, shape, plan.active, random);
    }
    if random.one_in(4) {
        events.push((random.below(plan.active), Event::Trap));
    }
    draw_disks(&mut events, plan, shape.appliances, random);
    events.sort_by_key(|&(at, _)| at);
    heal(&mut events, shape, plan.active);
    events
}

fn cut(link: Between, direction: Direction, is_cut: bool) -> Event {
    Event::Cut {
        link,
        direction,
        is_cut,
    }
}

/// All links between two appliances, or one of them.
fn some_links(shape: &Shape, random: &mut Random) -> Vec<Between> {
    let all = shape.links();
    let chosen = *random.pick(&all);
    let is_all = random.chance(1, 2);
    let is_it = |link: &Between| link.nodes == chosen.nodes && (is_all || *link == chosen);
    all.into_iter().filter(is_it).collect()
}

/// Links are cut by turns, one way or both: one that is there again is so for a while before the other one is cut.
fn draw_links(
    events: &mut Vec<(Nanoseconds, Event)>,
    shape: &Shape,
    active: Nanoseconds,
    random: &mut Random,
) {
    for nodes in shape
        .links()
        .into_iter()
        .filter(|link| link.port == 0)
        .map(|link| link.nodes)
    {
        let mut at = random.below(active);
        for _ in 0..random.range(1..=6u32) {
            let link = Between {
                nodes,
                port: random.below(shape.ports),
            };
            let until = at + *random.pick(&[SECOND / 20, SECOND, 10 * SECOND]);
            let ways: &[Direction] = match random.below(4u32) {
                0 => &[Direction::Up],
                1 => &[Direction::Down],
                _ => &[Direction::Up, Direction::Down],
            };
            for &direction in ways {
                events.push((at, cut(link, direction, true)));
                events.push((until, cut(link, direction, false)));
            }
            at = until + SETTLED + random.below(2 * SECOND);
        }
    }
    events.sort_by_key(|&(at, _)| at);
}

/// At the end everything is there.
fn heal(events: &mut Vec<(Nanoseconds, Event)>, shape: &Shape, active: Nanoseconds) {
    let end = events.last().map_or(0, |&(at, _)| at).max(active);
    events.push((end, Event::Arbiter { is_down: false }));
    for appliance in 0..shape.appliances {
        let is_cut = false;
        events.push((end, Event::ArbiterCut { appliance, is_cut }));
    }
    for link in shape.links() {
        let quality = good();
        events.push((end, Event::Link { link, quality }));
        for direction in [Direction::Up, Direction::Down] {
            events.push((end, cut(link, direction, false)));
        }
    }
    for appliance in 0..shape.appliances {
        events.push((end + MILLISECOND, Event::Start { appliance }));
    }
}

/// How fast a clock goes: so many nanoseconds in a microsecond. Of two, none goes by a quarter slower than the other one.
pub(super) fn draw_rate(shape: &Shape, random: &mut Random) -> u64 {
    match shape.links_alone || random.chance(1, 2) {
        true => 1000,
        false => random.range(900..=1170u64),
    }
}

/// How long after another node serves a host knows it: until then it asks the one that it knew, which may be back.
pub(super) fn draw_lag(random: &mut Random) -> Nanoseconds {
    match random.below(4u32) {
        0..=1 => 0,
        2 => random.below(SECOND),
        _ => random.below(12 * SECOND),
    }
}

/// The nodes lose each other while the arbiter is away, meet again on a slow link, and one is lost before the other one has what
/// was under way.
fn draw_flap(
    events: &mut Vec<(Nanoseconds, Event)>,
    shape: &Shape,
    active: Nanoseconds,
    random: &mut Random,
) {
    let at = random.below(active);
    let until = at + SECOND + random.below(2 * SECOND);
    let slow = Quality {
        loss: random.below(300u64),
        delay: random.range(1..=20u64) * MILLISECOND,
        ..Quality::default()
    };
    for link in shape.links() {
        for direction in [Direction::Up, Direction::Down] {
            events.push((at, cut(link, direction, true)));
            events.push((until, cut(link, direction, false)));
        }
        let quality = slow;
        events.push((until, Event::Link { link, quality }));
    }
    events.push((at, Event::Arbiter { is_down: true }));
    events.push((until, Event::Arbiter { is_down: false }));
    let appliance = random.below(shape.appliances);
    let lost = until + random.below(SECOND);
    events.push((
        lost,
        Event::Kill {
            appliance,
            power: random.chance(1, 2),
        },
    ));
    events.push((lost + random.below(12 * SECOND), Event::Start { appliance }));
}

/// In place of all else: a node goes on alone, of which the arbiter takes note, and then loses its data. The other node does not hear that
/// the source is there, nor that it ever was. By numbers of their own, as [`Shape::draw_first_roles`].
pub(super) fn draw_forgotten(
    events: &mut Vec<(Nanoseconds, Event)>,
    shape: &Shape,
    active: Nanoseconds,
    seed: u64,
) {
    let mut random = Random::new(seed ^ FORGOTTEN);
    if !random.one_in(12) {
        return;
    }
    events.clear();
    // While hosts write: they go on when the source does.
    let at = active / 4 + random.below(active / 2);
    let forgets = at + random.range(6..=12u64) * SECOND;
    let until = forgets + random.range(8..=16u64) * SECOND;
    for link in shape.links() {
        for direction in [Direction::Up, Direction::Down] {
            events.push((at, cut(link, direction, true)));
            events.push((until, cut(link, direction, false)));
        }
    }
    events.push((forgets, Event::ArbiterForgets));
    let appliance = random.below(shape.appliances);
    for (at, is_cut) in [(forgets, true), (until, false)] {
        events.push((at, Event::ArbiterCut { appliance, is_cut }));
    }
    events.sort_by_key(|&(at, _)| at);
    heal(events, shape, active);
}

/// What an operator says, and ways to the arbiter that are cut.
fn draw_orders(
    events: &mut Vec<(Nanoseconds, Event)>,
    shape: &Shape,
    within: Nanoseconds,
    has_arbiter: bool,
    random: &mut Random,
) {
    for _ in 0..random.below(3u32) {
        let appliance = random.below(shape.appliances);
        events.push((random.below(within), Event::Demote { appliance }));
    }
    for _ in 0..random.below(3u32) {
        events.push((random.below(within), Event::Verify));
    }
    draw_severing(events, within, random);
    for _ in 0..random.below(4u32) {
        let at = random.below(within);
        let eighths = random.range(0..=8u64);
        // Which one is the source then, nobody knows yet.
        for appliance in 0..shape.appliances {
            events.push((at, Event::Resize { appliance, eighths }));
        }
    }
    if random.one_in(4) {
        let appliance = random.below(2usize);
        events.push((random.below(within), Event::Discard { appliance }));
    }
    for _ in 0..random.below(3u32) {
        let appliance = random.below(2usize);
        events.push((random.below(within), Event::Tables { appliance }));
        let is_short = random.chance(2, 3);
        let event = Event::Frames {
            appliance,
            is_short,
        };
        events.push((random.below(within), event));
    }
    if has_arbiter && random.one_in(4) {
        events.push((random.below(within), Event::ArbiterForgets));
    }
    for _ in 0..if has_arbiter { random.below(4u32) } else { 0 } {
        let at = random.below(within);
        let until = at + random.below(12 * SECOND);
        let appliance = random.below(shape.appliances);
        let event = |is_bad: bool, is_down: bool| match is_down {
            true => Event::Arbiter { is_down: is_bad },
            false => Event::ArbiterCut {
                appliance,
                is_cut: is_bad,
            },
        };
        let is_down = random.chance(1, 3);
        events.push((at, event(true, is_down)));
        events.push((until, event(false, is_down)));
    }
}

/// The operator severs the pair now and then, and ends that, or leaves it to the end. Nodes restart meanwhile more often than not.
fn draw_severing(events: &mut Vec<(Nanoseconds, Event)>, within: Nanoseconds, random: &mut Random) {
    if !random.one_in(3) {
        return;
    }
    for _ in 0..random.range(1..=2u32) {
        let at = random.below(within);
        let until = at + random.below(6 * SECOND);
        // Which one is the source then, nobody knows yet.
        for appliance in 0..2 {
            events.push((at, Event::Sever { appliance }));
            if random.chance(2, 3) {
                events.push((until, Event::Reestablish { appliance }));
            }
        }
        if random.chance(2, 3) {
            let appliance = random.below(2usize);
            let power = random.chance(1, 2);
            let killed = at + random.below(2 * SECOND);
            events.push((killed, Event::Kill { appliance, power }));
            let back = killed + random.below(2 * SECOND);
            events.push((back, Event::Start { appliance }));
        }
    }
}

pub(super) fn good() -> Quality {
    Quality {
        delay: 20_000,
        jitter: 10_000,
        ..Quality::default()
    }
}
