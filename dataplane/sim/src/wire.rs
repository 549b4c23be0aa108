//! Links between hosts and the appliance: what they do to frames, in either direction.

use std::collections::BTreeMap;

use testkit::Random;

use crate::clock::{self, Nanoseconds};
use crate::frame::Frame;
use crate::trace::{Trace, event};

/// Who is at the end of a link. Its number is the last byte of its Ethernet address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Node {
    /// By its first port.
    Appliance(usize),
    /// By its second port, where it has one: no host is there.
    Second(usize),
    Host(usize),
}

impl Node {
    pub(crate) fn mac(self) -> [u8; 6] {
        match self {
            Node::Appliance(i) => [2, 0, 0, 0, 0xaa, i as u8],
            Node::Second(i) => [2, 0, 0, 0, 0xbb, i as u8],
            Node::Host(i) => [2, 0, 0, 0, 0xcc, i as u8],
        }
    }

    fn of(mac: &[u8]) -> Option<Self> {
        match *mac {
            [2, 0, 0, 0, 0xaa, i] => Some(Node::Appliance(i.into())),
            [2, 0, 0, 0, 0xbb, i] => Some(Node::Second(i.into())),
            [2, 0, 0, 0, 0xcc, i] => Some(Node::Host(i.into())),
            _ => None,
        }
    }
}

/// How a link treats frames; chances in ten thousandths.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Quality {
    pub(crate) loss: u64,
    pub(crate) double: u64,
    pub(crate) corrupt: u64,
    pub(crate) reorder: u64,
    pub(crate) delay: Nanoseconds,
    pub(crate) jitter: Nanoseconds,
    /// Nanoseconds that a byte takes; 0: none.
    pub(crate) byte_time: Nanoseconds,
}

/// A direction of a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Direction {
    /// From the host, or from the first of two appliances.
    Up,
    /// To those.
    Down,
}

/// A link between two appliances.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Between {
    /// The lower number first.
    pub(crate) nodes: [usize; 2],
    /// Which of their ports.
    pub(crate) port: usize,
}

#[derive(Clone, Debug)]
struct Link {
    quality: Quality,
    /// By [`Direction`].
    is_cut: [bool; 2],
    busy_until: [Nanoseconds; 2],
    last_arrival: [Nanoseconds; 2],
}

/// All links, and the switch between them.
pub(crate) struct Wire {
    random: Random,
    trace: Trace,
    appliances: usize,
    links: Vec<Link>,
    hosts: usize,
    /// Behind those of hosts, between each two appliances, one for each of their ports.
    ports: usize,
    flying: BTreeMap<(Nanoseconds, u64), (Node, Frame)>,
    launched: u64,
}

/// Frames that wait for a slow link at most, in nanoseconds of it.
const QUEUE: Nanoseconds = 5 * clock::MILLISECOND;

impl Wire {
    pub(crate) fn new(
        appliances: usize,
        qualities: &[Quality],
        random: Random,
        trace: &Trace,
    ) -> Self {
        let link = |&quality: &Quality| Link {
            quality,
            is_cut: [false; 2],
            busy_until: [0; 2],
            last_arrival: [0; 2],
        };
        Self {
            random,
            trace: trace.clone(),
            appliances,
            links: qualities.iter().map(link).collect(),
            hosts: qualities.len(),
            ports: 0,
            flying: BTreeMap::new(),
            launched: 0,
        }
    }

    /// Joins each appliance to each other, by so many ports.
    pub(crate) fn join_appliances(&mut self, ports: usize, quality: Quality) {
        let each_two = self.appliances * (self.appliances - 1) / 2;
        self.ports = ports;
        let link = Link {
            quality,
            is_cut: [false; 2],
            busy_until: [0; 2],
            last_arrival: [0; 2],
        };
        self.links.resize(self.hosts + each_two * ports, link);
    }

    /// The number of a link between appliances.
    pub(crate) fn link(&self, between: Between) -> usize {
        let [low, high] = between.nodes;
        self.hosts + (high * (high - 1) / 2 + low) * self.ports + between.port
    }

    pub(crate) fn set_quality(&mut self, host: usize, quality: Quality) {
        self.links[host].quality = quality;
    }

    pub(crate) fn cut(&mut self, host: usize, direction: Direction, is_cut: bool) {
        self.links[host].is_cut[direction as usize] = is_cut;
    }

    /// Sends a frame.
    pub(crate) fn send(&mut self, from: Node, frame: Frame) {
        let to = Node::of(&frame.bytes[..6]);
        match (from, to) {
            (Node::Host(host), Some(to @ Node::Appliance(_))) => {
                self.carry(host, Direction::Up, to, frame);
            }
            (Node::Appliance(_), Some(to @ Node::Host(host))) if host < self.hosts => {
                self.carry(host, Direction::Down, to, frame);
            }
            (Node::Host(host), None) => {
                for appliance in 0..self.appliances {
                    self.carry(
                        host,
                        Direction::Up,
                        Node::Appliance(appliance),
                        frame.clone(),
                    );
                }
            }
            (Node::Appliance(from), Some(Node::Appliance(to))) => {
                self.carry_between(from, to, 0, frame)
            }
            (Node::Second(from), Some(Node::Second(to))) => self.carry_between(from, to, 1, frame),
            (Node::Appliance(from), None) => {
                for host in 0..self.hosts {
                    self.carry(host, Direction::Down, Node::Host(host), frame.clone());
                }
                self.carry_to_others(from, 0, frame);
            }
            (Node::Second(from), None) => self.carry_to_others(from, 1, frame),
            _ => {}
        }
    }

    fn carry_to_others(&mut self, from: usize, port: usize, frame: Frame) {
        for to in (0..self.appliances).filter(|&to| to != from) {
            self.carry_between(from, to, port, frame.clone());
        }
    }

    fn carry_between(&mut self, from: usize, to: usize, port: usize, frame: Frame) {
        if port >= self.ports || from == to {
            return;
        }
        let direction = match from < to {
            true => Direction::Up,
            false => Direction::Down,
        };
        let nodes = [from.min(to), from.max(to)];
        let link = self.link(Between { nodes, port });
        let to = match port {
            0 => Node::Appliance(to),
            _ => Node::Second(to),
        };
        self.carry(link, direction, to, frame);
    }

    /// Puts a frame on a link.
    fn carry(&mut self, host: usize, direction: Direction, to: Node, mut frame: Frame) {
        let link = &mut self.links[host];
        let (quality, way) = (link.quality, direction as usize);
        let random = &mut self.random;
        if link.is_cut[way] || random.chance(quality.loss, 10_000) {
            return;
        }
        let mut at = clock::now();
        if quality.byte_time > 0 {
            let busy = &mut link.busy_until[way];
            if *busy > at + QUEUE {
                return;
            }
            *busy = (*busy).max(at) + quality.byte_time * frame.bytes.len() as u64;
            at = *busy;
        }
        at += quality.delay;
        match random.chance(quality.reorder, 10_000) {
            true => {
                at += random.below(quality.jitter + 1);
            }
            // In order, but for those that took longer.
            false => {
                at = at.max(link.last_arrival[way]);
                link.last_arrival[way] = at;
            }
        }
        if random.chance(quality.double, 10_000) {
            let later = at + random.below(quality.jitter + clock::MICROSECOND);
            self.launch(later, to, frame.clone());
        }
        let random = &mut self.random;
        // Ethernet's checksum covers the link; what it misses happens in switches and routers.
        // ARP has no other.
        if random.chance(quality.corrupt, 10_000) && !frame.is_arp() {
            let start = if frame.bytes[12..14] == [0x81, 0] {
                18
            } else {
                14
            };
            let byte = random.range(start..frame.bytes.len());
            frame.bytes[byte] ^= 1 << random.below(8u32);
            frame.is_broken = true;
        }
        self.launch(at, to, frame);
    }

    fn launch(&mut self, at: Nanoseconds, to: Node, frame: Frame) {
        self.launched += 1;
        self.flying.insert((at, self.launched), (to, frame));
    }

    /// When the next frame arrives.
    pub(crate) fn next_time(&self) -> Option<Nanoseconds> {
        self.flying.keys().next().map(|&(time, _)| time)
    }

    /// The next frame that has arrived, and where.
    pub(crate) fn arrive(&mut self) -> Option<(Node, Frame)> {
        if self.next_time()? > clock::now() {
            return None;
        }
        let ((_, number), (to, frame)) = self.flying.pop_first()?;
        let head = frame.bytes.iter().take(80).fold(0u64, |sum, &byte| {
            (sum.rotate_left(7) ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
        event!(
            self.trace,
            "frame",
            [number, frame.bytes.len(), head],
            "{number} to {to:?}, {} bytes{}",
            frame.bytes.len(),
            if frame.is_broken { ", broken" } else { "" }
        );
        Some((to, frame))
    }
}
