//! Moments that times which were drawn beforehand seldom hit: what happens to whichever node serves a volume follows from how far the
//! pair is.
//!
//! * *Unseen*: nodes that are in sync lose each other while changes are on their way, and meet again in the same generation, on a slow
//!   link; the source is lost before the other one, which stays whole, has what was under way. What hosts have read until then, that one has.
//! * *Late*: what the arbiter answers to the source's renewals comes late; then the source loses the arbiter, and the other node. It
//!   serves no longer than that one does not.

use testkit::Random;

use super::World;
use super::draw::good;
use crate::clock::{self, MILLISECOND, Nanoseconds, SECOND};
use crate::oracle::Violation;
use crate::trace::event;
use crate::wire::{Between, Direction, Quality};

/// How long a trap waits for what it needs.
const PATIENCE: Nanoseconds = 20 * SECOND;

/// What is to happen.
#[derive(Clone, Copy, Debug)]
enum Kind {
    Unseen {
        /// For how long the nodes do not hear each other.
        apart: Nanoseconds,
        /// The source ends meanwhile, and begins again: or else the arbiter is away.
        restarts: bool,
        /// What a byte takes on the link when they meet again.
        byte_time: Nanoseconds,
        /// How long after the copy has begun the source is lost.
        after: Nanoseconds,
    },
    Late {
        /// By how much answers are late.
        late: Nanoseconds,
        /// When the way to the arbiter is cut, and the links are.
        alone: Nanoseconds,
        apart: Nanoseconds,
    },
}

/// How far it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// The pair is to be in sync.
    Waiting,
    /// Links are cut until then.
    Apart(Nanoseconds),
    /// They are there, and slow, and the copy is to begin.
    Meeting,
    /// It has.
    Copying(Nanoseconds),
    /// Answers are late, and what is cut when.
    Late {
        arbiter: Nanoseconds,
        links: Nanoseconds,
    },
    /// It was sprung, and all is well again from then on.
    Sprung(Nanoseconds),
}

/// One trap.
#[derive(Debug)]
pub(super) struct Trap {
    kind: Kind,
    volume: usize,
    power: bool,
    /// How long the source is off.
    off: Nanoseconds,
    stage: Stage,
    source: usize,
    until: Nanoseconds,
}

impl Trap {
    fn draw(volumes: usize, has_arbiter: bool, random: &mut Random) -> Self {
        let kind = match has_arbiter && random.chance(1, 2) {
            false => Kind::Unseen {
                apart: random.range(1..=400u64) * MILLISECOND,
                restarts: !has_arbiter || random.chance(1, 2),
                byte_time: random.range(100..=2000u64),
                after: random.below(300 * MILLISECOND),
            },
            true => Kind::Late {
                late: random.range(1500..=2900u64) * MILLISECOND,
                alone: SECOND + random.below(3 * SECOND),
                apart: SECOND / 2 + random.below(5 * SECOND),
            },
        };
        Self {
            kind,
            volume: random.below(volumes),
            power: random.chance(1, 2),
            off: 2 * SECOND + random.below(12 * SECOND),
            stage: Stage::Waiting,
            source: 0,
            until: 0,
        }
    }
}

impl World {
    /// A trap is set.
    pub(super) fn set_trap(&mut self) {
        let mut trap = Trap::draw(
            self.plan.volumes.len(),
            self.arbiter.is_some(),
            &mut self.random,
        );
        trap.until = clock::now() + PATIENCE;
        event!(self.trace, "trap", [trap.volume], "{trap:?}");
        self.trap = Some(trap);
    }

    /// Looks whether it is sprung.
    pub(super) fn look_at_trap(&mut self) -> Result<(), Violation> {
        let Some(mut trap) = self.trap.take() else {
            return Ok(());
        };
        let before = trap.stage;
        let is_over = self.go_on_with(&mut trap)?;
        if trap.stage != before {
            let stage = trap.stage;
            event!(self.trace, "trap", [trap.volume], "{stage:?}");
            self.disturb();
        }
        let now = clock::now();
        if is_over || now > trap.until {
            self.part_links(trap.volume, false, good());
            if let Some(arbiter) = &mut self.arbiter {
                arbiter.set_late(trap.source, 0);
                arbiter.cut(trap.source, false);
            }
            self.start(trap.source);
        } else {
            self.trap = Some(trap);
        }
        Ok(())
    }

    fn is_source_in(&mut self, trap: &Trap, state: &str) -> bool {
        self.appliances[trap.source].pair_state(trap.volume) == Some(state)
    }

    /// Whether it is over.
    fn go_on_with(&mut self, trap: &mut Trap) -> Result<bool, Violation> {
        let (now, volume) = (clock::now(), trap.volume);
        match (trap.stage, trap.kind) {
            (Stage::Waiting, kind) => {
                let Some(source) = self.serving[volume].by else {
                    return Ok(false);
                };
                trap.source = source;
                if !self.is_source_in(trap, "source_in_sync") {
                    return Ok(false);
                }
                trap.until = now + PATIENCE + trap.off;
                trap.stage = match kind {
                    Kind::Unseen {
                        apart, restarts, ..
                    } => {
                        self.part_links(volume, true, good());
                        if let Some(arbiter) = self.arbiter.as_mut().filter(|_| !restarts) {
                            arbiter.cut(source, true);
                        }
                        Stage::Apart(now + apart)
                    }
                    Kind::Late { late, alone, apart } => {
                        if let Some(arbiter) = &mut self.arbiter {
                            arbiter.set_late(source, late);
                        }
                        Stage::Late {
                            arbiter: now + alone,
                            links: now + apart,
                        }
                    }
                };
            }
            (
                Stage::Apart(until),
                Kind::Unseen {
                    byte_time,
                    restarts,
                    ..
                },
            ) if now >= until => {
                // One that serves alone is not what this is about.
                let waits = !restarts && self.serving[volume].by.is_some();
                if waits && !self.appliances[trap.source].goes_alone(volume) {
                    return Ok(false);
                }
                let slow = Quality {
                    byte_time,
                    ..good()
                };
                self.part_links(volume, false, slow);
                if restarts {
                    self.kill(trap.source, trap.power)?;
                    self.start(trap.source);
                }
                trap.stage = Stage::Meeting;
            }
            (Stage::Meeting, Kind::Unseen { after, .. }) => {
                if self.is_source_in(trap, "source_copying") {
                    trap.stage = Stage::Copying(now + after);
                }
            }
            (Stage::Copying(at), _) if now >= at => {
                if !self.is_source_in(trap, "source_copying") {
                    return Ok(true);
                }
                self.kill(trap.source, trap.power)?;
                trap.stage = Stage::Sprung(now + trap.off);
            }
            (Stage::Late { arbiter, links }, _) => {
                if let Some(known) = self.arbiter.as_mut().filter(|_| now >= arbiter) {
                    known.cut(trap.source, true);
                }
                if now >= links {
                    self.part_links(volume, true, good());
                }
                if now >= arbiter.max(links) {
                    trap.stage = Stage::Sprung(now + trap.off);
                }
            }
            (Stage::Sprung(until), _) => return Ok(now >= until),
            (Stage::Apart(_) | Stage::Copying(_) | Stage::Meeting, _) => {}
        }
        Ok(false)
    }

    /// Links between the two nodes of a volume are cut, or not, and of this quality.
    fn part_links(&mut self, volume: usize, is_cut: bool, quality: Quality) {
        let mut nodes = self.shape.nodes[volume];
        nodes.sort_unstable();
        for port in 0..self.shape.ports {
            let link = self.wire.link(Between { nodes, port });
            self.wire.set_quality(link, quality);
            for direction in [Direction::Up, Direction::Down] {
                self.wire.cut(link, direction, is_cut);
            }
        }
    }

    /// When one that is set goes on.
    pub(super) fn trap_time(&self) -> Option<Nanoseconds> {
        let trap = self.trap.as_ref()?;
        let next = match trap.stage {
            Stage::Apart(at) | Stage::Copying(at) | Stage::Sprung(at) => at,
            Stage::Late { arbiter, links } => arbiter.max(links),
            Stage::Waiting | Stage::Meeting => return None,
        };
        Some(next.max(clock::now() + MILLISECOND))
    }
}
