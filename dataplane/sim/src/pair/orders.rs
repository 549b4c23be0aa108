//! An operator who severs the pair on purpose, and ends that: what is severed stays so, whoever restarts. And one who gives up what a
//! node has, after split brain too: what nobody else has is not lost.

use super::{PHASE_MAX, World};
use crate::appliance::Appliance;
use crate::clock;
use crate::oracle::{SECTOR, Violation};
use crate::trace::event;
use crate::wire::Direction;

/// What an operator says of a volume.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Order {
    Sever,
    Reestablish,
    Discard,
    Resize,
    Tables,
}

/// What the operator has said, and was told.
pub(super) struct Operator {
    /// By appliance and volume: what has no answer yet.
    open: Vec<Vec<Option<Order>>>,
    /// By volume: the appliance that has said that it is.
    severed: Vec<Option<usize>>,
}

impl Operator {
    pub(super) fn new(appliances: usize, volumes: usize) -> Self {
        Self {
            open: vec![vec![None; volumes]; appliances],
            severed: vec![None; volumes],
        }
    }

    /// Whether an appliance is about to do something: the arbiter may have it already.
    pub(super) fn waits(&self) -> bool {
        self.open.iter().flatten().any(Option::is_some)
    }

    /// An appliance is off: it answers nothing any more.
    pub(super) fn forget(&mut self, at: usize) {
        self.open[at].fill(None);
    }
}

impl World {
    pub(super) fn sever(&mut self, at: usize) {
        for volume in 0..self.plan.volumes.len() {
            let since = 1 + clock::now() / clock::SECOND;
            if self.appliances[at].sever(volume, since) {
                self.operator_knows.open[at][volume] = Some(Order::Sever);
            }
        }
    }

    /// Of all volumes that were severed there.
    pub(super) fn reestablish(&mut self, at: usize) {
        for volume in 0..self.plan.volumes.len() {
            if self.appliances[at].reestablish(volume) {
                event!(
                    self.trace,
                    "reestablish",
                    [at, volume],
                    "appliance {at}, volume {volume}"
                );
                self.operator_knows.open[at][volume] = Some(Order::Reestablish);
                self.operator_knows.severed[volume] = None;
            }
        }
    }

    pub(super) fn discard(&mut self, at: usize) {
        for volume in 0..self.plan.volumes.len() {
            let is_begun = self.appliances[at].discard(volume);
            if is_begun {
                self.operator_knows.open[at][volume] = Some(Order::Discard);
            }
            event!(
                self.trace,
                "discard",
                [at, volume, is_begun],
                "appliance {at}: {is_begun}"
            );
        }
    }

    pub(super) fn resize(&mut self, at: usize, eighths: u64) {
        for volume in 0..self.plan.volumes.len() {
            let used = self.plan.volumes[volume].disk.geometry.len();
            let len = used + self.shape.spare[volume] / 4096 * eighths / 8 * 4096;
            let is_begun = self.appliances[at].resize(volume, len);
            if is_begun {
                self.operator_knows.open[at][volume] = Some(Order::Resize);
            }
            event!(
                self.trace,
                "resize",
                [at, volume, len, is_begun],
                "appliance {at}, volume {volume}: {len}: {is_begun}"
            );
        }
    }

    /// Both nodes have one size of each volume, and hosts know it.
    pub(super) fn sizes_have_settled(&mut self) -> bool {
        (0..self.plan.volumes.len()).all(|volume| {
            let nodes = self.shape.nodes[volume];
            let lens = nodes.map(|at| self.appliances[at].volume_len(volume));
            lens[0] == lens[1]
                && nodes
                    .iter()
                    .all(|&at| self.appliances[at].has_settled_size(volume))
        })
    }

    pub(super) fn update_tables(&mut self, at: usize) {
        for volume in 0..self.plan.volumes.len() {
            if self.appliances[at].update_tables(volume) {
                self.operator_knows.open[at][volume] = Some(Order::Tables);
            }
        }
    }

    /// Of two appliances, both nodes go on without each other, by an operator's word, and each has something that the other one lacks. Nothing is
    /// overwritten until one of them is to give up what it has, or both are: then one does at most.
    pub(super) fn split_brain(&mut self) -> Result<(), Violation> {
        if self.appliances.len() != 2 {
            return Ok(());
        }
        event!(self.trace, "split", [self.steps], "");
        self.is_split = true;
        self.cut_all(true);
        let deadline = clock::now() + PHASE_MAX;
        self.run_until("the split", deadline, |world| {
            let volumes = 0..world.plan.volumes.len();
            volumes.into_iter().all(|volume| {
                let mut both = world.appliances.iter_mut();
                both.all(|it| it.serves(volume) || (it.promote(volume, false) && it.serves(volume)))
            })
        })?;
        let is_alone = |world: &mut World, at: usize| {
            let mut states =
                (0..world.plan.volumes.len()).map(|volume| world.appliances[at].pair_state(volume));
            states.all(|state| state == Some("apart"))
        };
        self.run_until("going on alone", deadline, |world| {
            is_alone(world, 0) && is_alone(world, 1)
        })?;
        let loser = self.random.below(2usize);
        let at_once = self.random.chance(1, 2);
        for volume in 0..self.plan.volumes.len() {
            let len = self.plan.volumes[volume].disk.geometry.len();
            for appliance in &self.appliances {
                appliance.mark(volume, 0..1);
            }
            if !at_once {
                self.spoil(loser, volume, len);
            }
        }
        self.cut_all(false);
        self.run_until("finding split brain", deadline, World::all_refused)?;
        self.give_up(loser, at_once)?;
        self.is_split = false;
        self.come_in_sync()
    }

    fn cut_all(&mut self, is_cut: bool) {
        for between in self.shape.links() {
            let link = self.wire.link(between);
            for direction in [Direction::Up, Direction::Down] {
                self.wire.cut(link, direction, is_cut);
            }
        }
    }

    fn all_refused(&mut self) -> bool {
        let volumes = 0..self.plan.volumes.len();
        self.appliances.iter_mut().all(|appliance| {
            let mut states = volumes.clone().map(|volume| appliance.pair_state(volume));
            states.all(|state| state == Some("refused"))
        })
    }

    /// What a node has that is about to give it up is anything.
    fn spoil(&mut self, at: usize, volume: usize, len: u64) {
        for _ in 0..8 {
            let sector = self.random.below(len / SECTOR as u64);
            let bytes = [self.random.word() as u8; SECTOR];
            let mut disk = self.appliances[at].disks()[volume].borrow_mut();
            disk.spoil(sector as usize, &bytes);
        }
    }

    /// By volume, one of both gives up what it has.
    fn give_up(&mut self, loser: usize, at_once: bool) -> Result<(), Violation> {
        for volume in 0..self.plan.volumes.len() {
            let deadline = clock::now() + PHASE_MAX;
            let mut both = at_once;
            loop {
                let mut outcomes = [None; 2];
                let mut is_begun = [false; 2];
                let asked = |at: usize| both || at == loser;
                // What was said before may not be done yet: then the operator says it again, until one has given up.
                self.run_until("giving up", deadline, |world| {
                    let is_over = outcomes.contains(&Some(true));
                    for at in (0..2).filter(|&at| asked(at)) {
                        let appliance = &mut world.appliances[at];
                        match is_begun[at] {
                            true => outcomes[at] = outcomes[at].or(appliance.outcome(volume)),
                            false if is_over => outcomes[at] = Some(false),
                            false => is_begun[at] = appliance.discard(volume),
                        }
                    }
                    (0..2).all(|at| !asked(at) || outcomes[at].is_some())
                })?;
                match outcomes
                    .iter()
                    .filter(|outcome| **outcome == Some(true))
                    .count()
                {
                    1 => break,
                    0 => both = false,
                    _ => {
                        return Err(Violation(format!(
                            "both nodes have given up what they had of volume {volume}"
                        )));
                    }
                }
            }
        }
        Ok(())
    }

    /// What an appliance has said to be severed does not come together.
    pub(super) fn look_at_orders(&mut self) -> Result<(), Violation> {
        for at in 0..self.appliances.len() {
            if !self.appliances[at].is_running() {
                self.operator_knows.forget(at);
                continue;
            }
            for volume in 0..self.plan.volumes.len() {
                if let Some(order) = self.operator_knows.open[at][volume]
                    && let Some(is_done) = self.appliances[at].outcome(volume)
                {
                    event!(
                        self.trace,
                        "ordered",
                        [at, volume, is_done],
                        "appliance {at}: {order:?}: {is_done}"
                    );
                    self.operator_knows.open[at][volume] = None;
                    if is_done && order == Order::Sever {
                        self.operator_knows.severed[volume] = Some(at);
                    }
                }
                if self.operator_knows.severed[volume] == Some(at) {
                    stays_apart(&mut self.appliances[at], at, volume)?;
                }
            }
        }
        Ok(())
    }
}

fn stays_apart(appliance: &mut Appliance, at: usize, volume: usize) -> Result<(), Violation> {
    let state = appliance.pair_state(volume).unwrap_or_default();
    let meets = ["source_", "destination_"];
    match meets.iter().any(|prefix| state.starts_with(prefix)) {
        true => Err(Violation(format!(
            "an operator severed volume {volume} at appliance {at}, which is {state}"
        ))),
        false => Ok(()),
    }
}
