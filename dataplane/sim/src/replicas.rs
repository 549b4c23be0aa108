//! Two replicas of a volume that lose each other, go on alone, are promoted, crash at any step, and meet again (rows S8,
//! R7): what `mirror` says of standings is carried out step by step, each step stable before the next.
//!
//! Roles come from an arbiter that never fails: it knows the source, and whether the other one may be promoted. Sometimes an
//! operator promotes past it. What must hold: the source has every acknowledged write; two that are in sync have the
//! same; none that has writes of its own is overwritten before an operator says so; and every copy ends.

use std::collections::BTreeSet;

use mirror::{Claim, GRANULE, Generation, ReplicaId, Standing, Verdict, Which, Wholeness, meet};
use testkit::Random;

use crate::clock;
use crate::oracle::Violation;
use crate::trace::{Trace, event};
use crate::world::Summary;

/// Granules of the volume, each written as a whole.
const GRANULES: usize = 12;
const LEN: u64 = GRANULES as u64 * GRANULE;
const STEPS: [u64; 2] = [2000, 3000];

struct Node {
    /// In stable storage.
    standing: Standing,
    /// On its drive: the version of each granule.
    data: [u64; GRANULES],
    /// Granules with writes in its log that the other one has not confirmed.
    unconfirmed: BTreeSet<usize>,
    is_up: bool,
    /// Its run believes that it may answer hosts.
    serves: bool,
    /// Writes that it alone has answered, since both had the same.
    lone: u64,
    /// A copy of its drive, which an operator has.
    backup: Option<(Standing, [u64; GRANULES])>,
}

/// How far two that are connected are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Contact {
    None,
    /// They have told each other their standings.
    Met(Verdict),
    /// What was changed goes from `source` to the other one.
    Copies {
        source: usize,
    },
    /// The copy's end, step by step.
    Ends {
        source: usize,
        step: usize,
    },
    Mirrors {
        source: usize,
    },
}

struct World {
    random: Random,
    trace: Trace,
    goes_wrong: bool,
    nodes: [Node; 2],
    contact: Contact,
    /// The arbiter's: which node may answer hosts.
    source: usize,
    /// The arbiter's: the other one may be promoted, if it is of this generation.
    in_sync: bool,
    generation: Generation,
    /// Acknowledged version of each granule, by the history that hosts see.
    acknowledged: [u64; GRANULES],
    /// Versions that a host wrote and was not told of.
    in_doubt: [BTreeSet<u64>; GRANULES],
    version: u64,
    tag: u64,
    writes: u64,
    crashes: u64,
    copies: u64,
}

fn id(node: usize) -> ReplicaId {
    ReplicaId([node as u8 + 1; 16])
}

/// Runs the seed.
///
/// # Errors
/// Something that must not be.
pub(crate) fn run(seed: u64, trace: &Trace) -> Result<Summary, Violation> {
    clock::set(0);
    let mut world = World::new(Random::new(seed), trace);
    for _ in 0..STEPS[0] {
        world.step(true)?;
    }
    for _ in 0..STEPS[1] {
        world.step(false)?;
        if world.is_settled() {
            break;
        }
    }
    world.finish()
}

impl World {
    fn new(random: Random, trace: &Trace) -> Self {
        let nodes = [0, 1].map(|node| Node {
            standing: match node {
                0 => Standing::first(id(0), 1),
                _ => Standing::blank(id(1)),
            },
            data: [0; GRANULES],
            unconfirmed: BTreeSet::new(),
            is_up: true,
            serves: node == 0,
            lone: 0,
            backup: None,
        });
        Self {
            random,
            trace: trace.clone(),
            goes_wrong: true,
            nodes,
            contact: Contact::None,
            source: 0,
            in_sync: false,
            generation: Standing::blank(id(0)).generation,
            acknowledged: [0; GRANULES],
            in_doubt: std::array::from_fn(|_| BTreeSet::new()),
            version: 0,
            tag: 1,
            writes: 0,
            crashes: 0,
            copies: 0,
        }
    }

    fn step(&mut self, goes_wrong: bool) -> Result<(), Violation> {
        self.goes_wrong = goes_wrong;
        clock::set(clock::now() + self.random.below(100) * clock::MILLISECOND);
        let node = self.random.below(2usize);
        match self.random.below(200) {
            0..60 => self.write(node)?,
            60..64 if goes_wrong => self.cut(),
            64..67 if goes_wrong => self.crash(node),
            67..71 => self.start(node),
            71..74 if goes_wrong => self.promote(node),
            74 if goes_wrong && self.random.one_in(20) => self.force(node),
            75 if goes_wrong && self.random.one_in(20) => self.lose_standing(node),
            76..80 => self.discard()?,
            80 => self.back_up(node),
            81 if goes_wrong => self.restore(node),
            _ => self.advance()?,
        }
        self.check()
    }

    /// What every step leaves.
    fn check(&self) -> Result<(), Violation> {
        for (at, node) in self.nodes.iter().enumerate() {
            if !(node.is_up && node.serves && at == self.source) {
                continue;
            }
            for granule in 0..GRANULES {
                let version = node.data[granule];
                let is_good = version == self.acknowledged[granule]
                    || self.in_doubt[granule].contains(&version);
                if !is_good {
                    return Err(Violation(format!(
                        "node {at} serves version {version} of granule {granule}, of which {} was acknowledged",
                        self.acknowledged[granule]
                    )));
                }
            }
        }
        Ok(())
    }

    fn tag(&mut self) -> u64 {
        self.tag += 1;
        self.tag
    }

    /// A step of a node's run may be its last.
    fn survives(&mut self, node: usize) -> bool {
        if self.goes_wrong && self.random.one_in(40) {
            self.crash(node);
            return false;
        }
        true
    }

    fn persist(&mut self, node: usize, standing: Standing) {
        let generation = standing.generation;
        event!(
            self.trace,
            "persist",
            [node, generation.tag],
            "{node}: {standing:?}"
        );
        self.nodes[node].standing = standing;
    }

    /// A host writes a granule at a node that serves.
    fn write(&mut self, node: usize) -> Result<(), Violation> {
        if !(self.nodes[node].is_up && self.nodes[node].serves) || node != self.source {
            return Ok(());
        }
        let granule = self.random.below(GRANULES);
        let other = 1 - node;
        // The end of a copy is short, and writes wait for it.
        if matches!(self.contact, Contact::Ends { .. }) {
            return Ok(());
        }
        let mirrors = self.contact == Contact::Mirrors { source: node };
        if !mirrors && !self.goes_alone(node) {
            return Ok(());
        }
        self.version += 1;
        let version = self.version;
        self.in_doubt[granule].insert(version);
        self.nodes[node].unconfirmed.insert(granule);
        if mirrors {
            // In either order, and either run may end in between.
            let order = if self.random.chance(1, 2) {
                [node, other]
            } else {
                [other, node]
            };
            for at in order {
                self.nodes[at].unconfirmed.insert(granule);
                self.nodes[at].data[granule] = version;
                if !self.survives(at) {
                    return Ok(());
                }
            }
            // Confirmed both ways.
            self.nodes[other].unconfirmed.remove(&granule);
        } else {
            let place = granule as u64 * GRANULE;
            self.nodes[node].lone += 1;
            let record = self.nodes[node].standing.record.as_mut();
            // Stable before the answer.
            record.map(|record| record.changed.mark(place..place + 1));
            self.nodes[node].data[granule] = version;
            if !self.survives(node) {
                return Ok(());
            }
        }
        self.nodes[node].unconfirmed.remove(&granule);
        self.acknowledged[granule] = version;
        self.in_doubt[granule].clear();
        self.writes += 1;
        event!(
            self.trace,
            "write",
            [node, granule, version],
            "{granule} at {node}: {version}"
        );
        Ok(())
    }

    /// Before the first write that a source alone answers.
    fn goes_alone(&mut self, node: usize) -> bool {
        let other = 1 - node;
        // The arbiter knows it before it is so.
        self.in_sync = false;
        let is_copying = self.contact == Contact::Copies { source: node };
        if self.nodes[node].standing.is_alone(id(other)) || is_copying {
            return true;
        }
        let tag = self.tag();
        let Ok(mut standing) = self.nodes[node].standing.alone(id(other), tag, LEN) else {
            return false;
        };
        if let Some(record) = &mut standing.record {
            for &granule in &self.nodes[node].unconfirmed {
                let place = granule as u64 * GRANULE;
                record.changed.mark(place..place + 1);
            }
        }
        self.persist(node, standing);
        self.survives(node)
    }

    fn cut(&mut self) {
        self.contact = Contact::None;
    }

    fn crash(&mut self, node: usize) {
        if self.nodes[node].is_up {
            self.crashes += 1;
            event!(self.trace, "crash", [node], "{node}");
            let of = &mut self.nodes[node];
            (of.is_up, of.serves) = (false, false);
            self.cut();
        }
    }

    fn start(&mut self, node: usize) {
        let of = &mut self.nodes[node];
        if !of.is_up {
            of.is_up = true;
            // Alone it serves only as the source, and if its data are whole.
            of.serves = node == self.source && of.standing.wholeness == Wholeness::Whole;
        }
    }

    /// The arbiter makes a node the source, if it may be.
    fn promote(&mut self, node: usize) {
        let is_connected = self.contact != Contact::None;
        let is_whole = self.nodes[node].standing.wholeness == Wholeness::Whole;
        let is_known = self.nodes[node].standing.generation == self.generation;
        let may = self.in_sync && is_known && self.nodes[node].is_up && is_whole && !is_connected;
        if node != self.source && may {
            event!(self.trace, "promote", [node], "{node}");
            // The old one's lease is over.
            self.nodes[1 - node].serves = false;
            self.source = node;
            self.nodes[node].serves = true;
        }
    }

    /// An operator makes a node the source that the arbiter would not.
    fn force(&mut self, node: usize) {
        let of = &self.nodes[node];
        let is_whole = of.standing.wholeness == Wholeness::Whole;
        if node == self.source || !of.is_up || !is_whole || self.contact != Contact::None {
            return;
        }
        event!(self.trace, "force", [node], "{node}");
        self.nodes[1 - node].serves = false;
        (self.source, self.in_sync) = (node, false);
        self.nodes[node].serves = true;
        self.rebase(node);
    }

    /// Hosts go on with what a node has, whatever was acknowledged elsewhere.
    fn rebase(&mut self, node: usize) {
        self.acknowledged = self.nodes[node].data;
        self.in_doubt.iter_mut().for_each(BTreeSet::clear);
    }

    /// A node's metadata are gone, while its run is down.
    fn lose_standing(&mut self, node: usize) {
        // With those of the source, the source is gone.
        if !self.nodes[node].is_up && node != self.source {
            event!(self.trace, "lose", [node], "{node}");
            self.nodes[node].standing = Standing::blank(id(node));
            self.nodes[node].lone = 0;
            self.in_sync = false;
        }
    }

    fn back_up(&mut self, node: usize) {
        let of = &mut self.nodes[node];
        if of.standing.wholeness == Wholeness::Whole {
            of.backup = Some((of.standing.clone(), of.data));
        }
    }

    /// An operator puts back what a node's drive had in an earlier generation.
    fn restore(&mut self, node: usize) {
        let is_source = node == self.source;
        let of = &mut self.nodes[node];
        let generation = of.standing.generation;
        let is_older = |backup: &mut (Standing, _)| backup.0.generation < generation;
        if !is_source
            && !of.is_up
            && let Some((standing, data)) = of.backup.take_if(is_older)
        {
            event!(self.trace, "restore", [node], "{node}");
            (of.standing, of.data, of.lone) = (standing, data, 0);
            of.unconfirmed.clear();
        }
    }

    /// What is to be done between the two goes a step further.
    fn advance(&mut self) -> Result<(), Violation> {
        if self.nodes.iter().any(|node| !node.is_up) {
            return Ok(());
        }
        match self.contact {
            Contact::None => {
                let [a, b] = self.nodes.each_ref().map(|node| node.standing.claim());
                let verdict = meet(&a, &b);
                self.is_fair(verdict, &a, &b)?;
                event!(self.trace, "meet", [], "{verdict:?}");
                self.contact = Contact::Met(verdict);
            }
            Contact::Met(verdict) => self.begin(verdict)?,
            Contact::Copies { source } => self.copy(source),
            Contact::Ends { source, step } => self.end(source, step)?,
            Contact::Mirrors { source } if source != self.source => self.cut(),
            Contact::Mirrors { .. } => {}
        }
        Ok(())
    }

    /// The same whoever is first; and what only one has is never overwritten.
    fn is_fair(&self, verdict: Verdict, a: &Claim, b: &Claim) -> Result<(), Violation> {
        let turned = match meet(b, a) {
            Verdict::CopyChanged { source } => Verdict::CopyChanged {
                source: turn(source),
            },
            Verdict::CopyAll { source } => Verdict::CopyAll {
                source: turn(source),
            },
            other => other,
        };
        if turned != verdict {
            return Err(Violation(format!(
                "{verdict:?} one way round, {turned:?} the other: {a:?} {b:?}"
            )));
        }
        Ok(())
    }

    fn begin(&mut self, verdict: Verdict) -> Result<(), Violation> {
        let unconfirmed = self.nodes.iter().any(|node| !node.unconfirmed.is_empty());
        let (source, all) = match verdict {
            Verdict::Refused(_) => return Ok(()),
            Verdict::InSync if !unconfirmed => {
                // What was begun to be dropped is.
                for node in 0..2 {
                    let Some(standing) = self.nodes[node].standing.in_sync() else {
                        // One has gone on since they met.
                        self.cut();
                        return Ok(());
                    };
                    self.persist(node, standing);
                    if !self.survives(node) {
                        return Ok(());
                    }
                }
                let source = self.source;
                (self.contact, self.in_sync) = (Contact::Mirrors { source }, true);
                self.generation = self.nodes[source].standing.generation;
                self.nodes.iter_mut().for_each(|node| node.lone = 0);
                self.nodes[source].serves = true;
                return Ok(());
            }
            Verdict::InSync => (self.source, false),
            Verdict::CopyChanged { source } => (source as usize, false),
            Verdict::CopyAll { source } => (source as usize, true),
        };
        // Only the arbiter's source may be copied from.
        if source != self.source {
            let has_changed = self.nodes[source].standing.claim().record;
            let is_nothing = has_changed.is_none_or(|record| record.changed == 0);
            if all || !is_nothing || !self.in_sync {
                return Ok(());
            }
        }
        let source = self.source;
        let target = &self.nodes[1 - source];
        if target.lone > 0 && target.standing.wholeness == Wholeness::Whole {
            return Err(Violation(format!(
                "node {} is overwritten, though it alone has answered {} writes",
                1 - source,
                target.lone
            )));
        }
        self.begin_copy(source, all);
        Ok(())
    }

    fn begin_copy(&mut self, source: usize, all: bool) {
        let target = 1 - source;
        let theirs = self.nodes[target].standing.claim();
        let mine = &self.nodes[source].standing;
        let standing = match (all, &mine.record) {
            (true, _) => mine.copies_all(&theirs, LEN),
            (false, Some(record)) if record.peer == theirs.replica => Ok(mine.clone()),
            // What neither has confirmed to the other.
            (false, _) => mine.copies_all(&theirs, LEN).map(|mut standing| {
                if let Some(record) = &mut standing.record {
                    for granule in 0..GRANULES as u64 {
                        record.changed.clear(granule);
                    }
                }
                standing
            }),
        };
        let Ok(mut standing) = standing else { return };
        if let Some(record) = &mut standing.record {
            let granules = self.nodes.iter().flat_map(|node| &node.unconfirmed);
            for &granule in granules {
                let place = granule as u64 * GRANULE;
                record.changed.mark(place..place + 1);
            }
        }
        self.in_sync = false;
        self.persist(source, standing);
        if !self.survives(source) {
            return;
        }
        let standing = self.nodes[target].standing.copying(id(source));
        self.persist(target, standing);
        self.nodes[target].serves = false;
        if !self.survives(target) {
            return;
        }
        let theirs = self.nodes[target].standing.claim();
        let standing = self.nodes[source].standing.copies(&theirs);
        self.persist(source, standing);
        if !self.survives(source) {
            return;
        }
        // Its log has nothing that is not in the record.
        self.nodes[target].unconfirmed.clear();
        self.nodes[target].lone = 0;
        self.nodes[source].unconfirmed.clear();
        self.copies += 1;
        self.nodes[source].serves = true;
        self.contact = Contact::Copies { source };
    }

    fn copy(&mut self, source: usize) {
        let target = 1 - source;
        let record = self.nodes[source].standing.record.as_mut();
        let Some(record) = record else {
            return self.cut();
        };
        match record
            .changed
            .first_from(self.random.below(GRANULES as u64))
        {
            Some(granule) => {
                let version = self.nodes[source].data[granule as usize];
                self.nodes[target].data[granule as usize] = version;
                if self.survives(target)
                    && let Some(record) = &mut self.nodes[source].standing.record
                {
                    record.changed.clear(granule);
                }
            }
            None if record.changed.count() == 0 => {
                self.contact = Contact::Ends { source, step: 0 };
            }
            None => {}
        }
    }

    fn end(&mut self, source: usize, step: usize) -> Result<(), Violation> {
        let target = 1 - source;
        let generation = self.nodes[source].standing.generation;
        let (node, standing) = match step {
            0 => (source, self.nodes[source].standing.ends_copy()),
            1 => (target, Some(self.nodes[target].standing.copied(generation))),
            _ => (source, self.nodes[source].standing.in_sync()),
        };
        let Some(standing) = standing else {
            return Err(Violation(
                "a copy ends with something left to be copied".into(),
            ));
        };
        if step == 2 {
            let [a, b] = self.nodes.each_ref().map(|node| node.data);
            if a != b {
                return Err(Violation(format!("in sync, but {a:?} and {b:?}")));
            }
            (self.in_sync, self.generation) = (true, generation);
        }
        if step == 1 {
            // Both have the same from now on.
            self.nodes.iter_mut().for_each(|node| node.lone = 0);
        }
        self.persist(node, standing);
        if !self.survives(node) {
            return Ok(());
        }
        self.contact = Contact::Ends {
            source,
            step: step + 1,
        };
        if step == 2 {
            self.contact = Contact::Mirrors { source };
        }
        Ok(())
    }

    /// An operator says which one is discarded, where the two were refused.
    fn discard(&mut self) -> Result<(), Violation> {
        let is_refused = matches!(self.contact, Contact::Met(_));
        if !is_refused || !self.random.one_in(4) {
            return Ok(());
        }
        let source = self.source;
        let is_whole = self.nodes[source].standing.wholeness == Wholeness::Whole;
        if is_whole && self.nodes.iter().all(|node| node.is_up) {
            event!(self.trace, "discard", [1 - source], "{}", 1 - source);
            self.begin_copy(source, true);
        }
        Ok(())
    }

    fn is_settled(&self) -> bool {
        matches!(self.contact, Contact::Mirrors { source } if source == self.source)
    }

    fn finish(&self) -> Result<Summary, Violation> {
        if !self.is_settled() {
            let standings = self.nodes.each_ref().map(|node| &node.standing);
            return Err(Violation(format!(
                "no end: {:?}, {standings:?}",
                self.contact
            )));
        }
        let [a, b] = self.nodes.each_ref().map(|node| node.data);
        if a != b {
            return Err(Violation(format!("in the end {a:?} and {b:?}")));
        }
        Ok(Summary {
            digest: self.trace.digest(),
            steps: STEPS[0],
            nanoseconds: clock::now(),
            requests: self.writes,
            sectors: self.copies,
            crashes: self.crashes,
        })
    }
}

fn turn(which: Which) -> Which {
    match which {
        Which::First => Which::Second,
        Which::Second => Which::First,
    }
}
