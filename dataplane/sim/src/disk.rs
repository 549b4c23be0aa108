//! A device: blocks, a volatile cache, commands under way, and everything that can
//! go wrong with them. It outlives the appliance that uses it.

mod image;
mod pending;

use std::collections::{BTreeMap, BTreeSet};

use block::{Command, Completed, Fault, Geometry, NotStarted, Op, OpEnds, OpIndex};
use testkit::Random;

use crate::clock::{self, Nanoseconds};
use crate::dma::{List, Reach};
use crate::trace::{Trace, event};

use image::Image;
pub(crate) use image::Loss;
use pending::Pending;

/// Bytes that a device writes as a whole, whatever its blocks are.
pub(crate) const SECTOR: usize = 512;

/// What a device is.
#[derive(Clone, Debug)]
pub(crate) struct DiskConfig {
    pub(crate) geometry: Geometry,
    /// Nanoseconds that a command takes.
    pub(crate) latency: (Nanoseconds, Nanoseconds),
    /// Commands that it takes at a time.
    pub(crate) depth: usize,
    /// One command in so many ends at once, inside of `submit`; 0: none.
    pub(crate) immediate_one_in: u64,
    /// Bytes that it deallocates as a whole: of what a range covers in part it leaves everything as it is (NVM
    /// 3.2.3). Where that is more than a block it fails no deallocation.
    pub(crate) deallocated_unit: u64,
    /// One write in so many goes elsewhere and is told to be done; 0: none.
    pub(crate) misdirected_one_in: u64,
    /// One write in so many is told to be done and is not; 0: none.
    pub(crate) lost_one_in: u64,
    /// Since when it does what it says.
    pub(crate) honest_from: Nanoseconds,
    /// How long it may have a command; `None`: for ever.
    pub(crate) timeout: Option<Nanoseconds>,
    /// Nanoseconds that it takes to recover.
    pub(crate) recovery: Nanoseconds,
}

/// What is wrong with a device for a while.
#[derive(Clone, Debug, Default)]
pub(crate) struct Trouble {
    /// Commands take so many times longer; 0 and 1: no.
    pub(crate) slow: u64,
    /// Commands take so much longer: what it is given meanwhile, it holds.
    pub(crate) held: Nanoseconds,
    /// It ends nothing, and does not recover.
    pub(crate) hangs: bool,
    /// Commands that fail: which, how, and one in how many.
    pub(crate) failing: Option<Failing>,
    /// It starts none.
    pub(crate) is_full: bool,
}

/// Commands that fail.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Failing {
    /// Of these operations, by [`Op`]'s number.
    pub(crate) ops: [bool; 5],
    pub(crate) fault: Fault,
    pub(crate) one_in: u64,
    /// They are not even started.
    pub(crate) at_submit: bool,
}

/// What happens at a device at some time: an early part of a command, or its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Step {
    Early,
    End,
    /// It has recovered: of no command, or of those that it has.
    Recovered,
}

/// Who asked, and where the end goes.
pub(crate) struct Ticket {
    pub(crate) shard: usize,
    pub(crate) ends: OpEnds,
    pub(crate) op: OpIndex,
    pub(crate) request: u32,
}

impl Ticket {
    /// Gives the end to whoever asked.
    pub(crate) fn end(&self, result: Result<(), Fault>) {
        self.ends.push(Completed {
            op: self.op,
            request: self.request,
            result,
        });
    }
}

pub(crate) struct Disk {
    index: usize,
    config: DiskConfig,
    random: Random,
    trace: Trace,
    image: Image,
    pending: BTreeMap<u64, Pending>,
    /// By time and command.
    steps: BTreeMap<(Nanoseconds, u64, Step), ()>,
    /// Commands that ended and were not yet taken, oldest first.
    ended: Vec<(Ticket, Result<(), Fault>)>,
    commands: u64,
    is_gone: bool,
    /// It is gone for the appliance as it runs now: another start finds it again.
    is_given_up: bool,
    trouble: Trouble,
    /// Commands that have no end in sight.
    stuck: BTreeSet<u64>,
    /// Times it was told to recover since the appliance last started.
    recoveries: u64,
    /// It is being recovered, and takes nothing.
    is_recovering: bool,
    /// When it last had commands that it would not have ended by itself.
    stuck_until: Nanoseconds,
    /// Commands that failed.
    faults: u64,
    faults_at_start: u64,
    started_at: Nanoseconds,
    lied_at: Option<Nanoseconds>,
    /// Writes that it was given, and those that went where a log has its superblocks.
    log_writes: (u64, u64),
    reach: Reach,
    /// What the appliance asked for and must not.
    breach: Option<String>,
}

impl Disk {
    pub(crate) fn new(index: usize, config: DiskConfig, random: Random, trace: &Trace) -> Self {
        let image = Image::new(config.geometry.len() as usize, config.geometry.write_cache);
        Self {
            index,
            config,
            random,
            trace: trace.clone(),
            image,
            pending: BTreeMap::new(),
            steps: BTreeMap::new(),
            ended: Vec::new(),
            commands: 0,
            is_gone: false,
            is_given_up: false,
            trouble: Trouble::default(),
            stuck: BTreeSet::new(),
            recoveries: 0,
            is_recovering: false,
            stuck_until: 0,
            faults: 0,
            faults_at_start: 0,
            started_at: 0,
            lied_at: None,
            log_writes: (0, 0),
            reach: Reach::default(),
            breach: None,
        }
    }

    /// An empty one stands in its place from now on.
    pub(crate) fn replace(&mut self) {
        let geometry = self.config.geometry;
        self.image = Image::new(geometry.len() as usize, geometry.write_cache);
    }

    /// One write in so many is told to be done and is not from now on, and one in as many goes elsewhere; 0: none does.
    pub(crate) fn lie(&mut self, one_in: u64) {
        self.config.lost_one_in = one_in;
        self.config.misdirected_one_in = one_in;
    }

    /// Something else than what was written is there, for good.
    pub(crate) fn spoil(&mut self, sector: usize, bytes: &[u8]) {
        self.image.spoil(sector, bytes);
    }

    /// Whether a command has read the sector that was spoilt last.
    pub(crate) fn was_read(&self) -> bool {
        self.image.was_read()
    }

    /// What a sector reads as.
    pub(crate) fn sector(&self, index: usize) -> &[u8] {
        self.image.sector(index)
    }

    pub(crate) fn geometry(&self) -> Geometry {
        self.config.geometry
    }

    pub(crate) fn is_gone(&self) -> bool {
        self.is_gone
    }

    /// Commands that failed so far.
    pub(crate) fn faults(&self) -> u64 {
        self.faults
    }

    /// What the appliance did that a device does not allow.
    pub(crate) fn breach(&self) -> Option<&str> {
        self.breach.as_deref()
    }

    /// Whether it may deallocate less than it is told to.
    pub(crate) fn leaves_parts(&self) -> bool {
        self.config.deallocated_unit > self.config.geometry.block_size.into()
    }

    /// The memory that it may reach from now on.
    pub(crate) fn set_reach(&mut self, reach: Reach) {
        self.reach = reach;
    }

    pub(crate) fn reach(&self) -> &Reach {
        &self.reach
    }

    /// Something that must not be.
    pub(crate) fn report(&mut self, what: String) {
        self.breach.get_or_insert(what);
    }

    pub(crate) fn config(&self) -> &DiskConfig {
        &self.config
    }

    /// When it last had commands that it would not have ended by itself.
    pub(crate) fn stuck_until(&self) -> Nanoseconds {
        match self.is_recovering || self.trouble.hangs || !self.stuck.is_empty() {
            true => clock::now(),
            false => self.stuck_until,
        }
    }

    /// It is in this trouble from now on. What no longer hangs goes on, or waits to be recovered.
    pub(crate) fn set_trouble(&mut self, trouble: Trouble) {
        let hung = std::mem::replace(&mut self.trouble, trouble).hangs;
        if hung && !self.trouble.hangs {
            self.stuck_until = clock::now();
            if self.is_recovering && self.random.chance(1, 2) {
                return self.recovered();
            }
            if self.config.timeout.is_none() || self.random.chance(1, 2) {
                self.go_on();
            }
        }
    }

    /// What it has is done after all.
    fn go_on(&mut self) {
        for id in std::mem::take(&mut self.stuck) {
            let at = clock::now() + self.latency();
            self.steps.insert((at, id, Step::End), ());
        }
    }

    fn latency(&mut self) -> Nanoseconds {
        let (least, most) = self.config.latency;
        self.random.range(least..=most) * self.trouble.slow.max(1) + self.trouble.held
    }

    /// Its controller is reset: nothing is done until that is over.
    pub(crate) fn recover(&mut self) {
        event!(
            self.trace,
            "disk-recover",
            [self.index],
            "disk {}",
            self.index
        );
        self.steps.clear();
        self.stuck.extend(self.pending.keys());
        self.recoveries += 1;
        self.is_recovering = true;
        let at = clock::now() + self.config.recovery;
        self.steps.insert((at, 0, Step::Recovered), ());
    }

    /// Its controller was reset: what it had is done once more, or never; if it does not hang.
    fn recovered(&mut self) {
        self.stuck_until = clock::now();
        if self.trouble.hangs {
            return;
        }
        self.is_recovering = false;
        if self.random.chance(1, 2) {
            return self.go_on();
        }
        self.stuck.clear();
        for (_, mut pending) in std::mem::take(&mut self.pending) {
            if pending.command.op == Op::Deallocate && self.leaves_parts() {
                let zeroes = self.config.geometry.deallocated_zeros;
                pending.do_all(&mut self.image, &mut self.random, zeroes);
                self.ended.push((pending.ticket, Ok(())));
                continue;
            }
            pending.do_some(&mut self.image, &mut self.random);
            self.faults += 1;
            let aborted = Fault::Device {
                code_type: 0,
                code: 7,
            };
            self.ended.push((pending.ticket, Err(aborted)));
        }
    }

    /// Nobody waits for it any longer: only for what could not be recovered.
    pub(crate) fn give_up(&mut self) {
        if self.recoveries == 0 {
            self.report(format!(
                "disk {} is given up, and nobody tried to recover it",
                self.index
            ));
        }
        self.is_given_up |= !self.is_gone;
        self.go();
    }

    /// It goes away for good.
    pub(crate) fn leave(&mut self) {
        self.is_given_up = false;
        self.go();
    }

    /// Whether commands failed, or were not answered, since the appliance was started.
    pub(crate) fn had_trouble(&self) -> bool {
        self.faults > self.faults_at_start
            || self.is_given_up
            || self.stuck_until() > self.started_at
    }

    /// Whether commands failed since the appliance was started.
    pub(crate) fn has_failed(&self) -> bool {
        self.faults > self.faults_at_start
    }

    /// When it last said that it had written what it had not, or elsewhere.
    pub(crate) fn lied_at(&self) -> Option<Nanoseconds> {
        self.lied_at
    }

    /// Writes that it was given so far, and those of them that went where a log has its superblocks.
    pub(crate) fn log_writes(&self) -> (u64, u64) {
        self.log_writes
    }

    /// The appliance is started.
    pub(crate) fn attach(&mut self) {
        (self.faults_at_start, self.started_at) = (self.faults, clock::now());
        if std::mem::take(&mut self.is_given_up) {
            self.is_gone = false;
        }
    }

    /// It is gone: what is under way fails.
    fn go(&mut self) {
        event!(self.trace, "disk-gone", [self.index], "{}", self.index);
        self.stuck_until = clock::now();
        (self.is_gone, self.is_recovering) = (true, false);
        self.steps.clear();
        self.stuck.clear();
        for (_, pending) in std::mem::take(&mut self.pending) {
            self.faults += 1;
            self.ended.push((pending.ticket, Err(Fault::Gone)));
        }
    }

    /// When something happens next.
    pub(crate) fn next_time(&self) -> Option<Nanoseconds> {
        self.steps.keys().next().map(|&(time, ..)| time)
    }

    /// Takes a command. Its list has been checked for where it lies, and nothing else.
    pub(crate) fn submit(
        &mut self,
        ticket: Ticket,
        list: List,
        command: Command,
    ) -> Result<(), NotStarted> {
        if let Err(what) = self.check(&command, &list) {
            self.report(format!("disk {}: {what}: {command:?}", self.index));
            return Err(NotStarted::Failed(Fault::Internal));
        }
        if self.is_gone {
            self.faults += 1;
            return Err(NotStarted::Failed(Fault::Gone));
        }
        if self.trouble.is_full || self.is_recovering || self.pending.len() >= self.config.depth {
            return Err(NotStarted::Full);
        }
        let failure = self.trouble.failing.filter(|failing| {
            let may_fail = command.op != Op::Deallocate || !self.leaves_parts();
            failing.ops[command.op as usize] && may_fail && self.random.one_in(failing.one_in)
        });
        self.commands += 1;
        let id = self.commands;
        self.count_for_a_log(&command);
        let (shard, blocks) = (ticket.shard, command.blocks);
        let (op, block) = (command.op, command.block);
        event!(
            self.trace,
            "disk-submit",
            [
                self.index,
                id,
                op as u64,
                block,
                blocks,
                list.elements().len()
            ],
            "disk {} command {id}: {op:?} {blocks} at {block} in {} elements, shard {shard}",
            self.index,
            list.elements().len()
        );
        if let Some(failing) = failure.filter(|failing| failing.at_submit) {
            self.faults += 1;
            return Err(NotStarted::Failed(failing.fault));
        }
        let unit = (self.config.deallocated_unit / SECTOR as u64) as usize;
        let block_size = self.config.geometry.block_size;
        let mut pending = Pending::new(ticket, list, command, block_size, unit);
        pending.failure = failure.map(|failing| failing.fault);
        pending.flush_to = self.image.now();
        if self.random.chance(1, 2) {
            pending.capture(&self.image);
        }
        let now = clock::now();
        let immediate = self.config.immediate_one_in;
        if immediate > 0 && !self.trouble.hangs && self.random.one_in(immediate) {
            self.pending.insert(id, pending);
            self.end(id);
            return Ok(());
        }
        let latency = self.latency();
        if op != Op::Flush && self.random.one_in(8) {
            let early = now + self.random.below(latency);
            self.steps.insert((early, id, Step::Early), ());
        }
        if self.trouble.hangs {
            self.stuck.insert(id);
        } else {
            self.steps.insert((now + latency, id, Step::End), ());
        }
        self.pending.insert(id, pending);
        Ok(())
    }

    /// Does what is due; the shards whose commands ended.
    pub(crate) fn advance(&mut self, woken: &mut Vec<usize>) {
        while let Some((&(time, id, step), ())) = self.steps.first_key_value()
            && time <= clock::now()
        {
            self.steps.pop_first();
            match step {
                Step::Early => {
                    if let Some(pending) = self.pending.get_mut(&id) {
                        pending.do_some(&mut self.image, &mut self.random);
                    }
                }
                Step::End => {
                    if let Some(pending) = self.pending.get(&id) {
                        woken.push(pending.ticket.shard);
                    }
                    self.end(id);
                }
                Step::Recovered => {
                    woken.extend(self.pending.values().map(|pending| pending.ticket.shard));
                    self.recovered();
                }
            }
        }
    }

    /// The next command of `shard` that ended.
    pub(crate) fn next_ended(&mut self, shard: usize) -> Option<(Ticket, Result<(), Fault>)> {
        let at = (self.ended.iter()).position(|(ticket, _)| ticket.shard == shard)?;
        Some(self.ended.remove(at))
    }

    /// The appliance is killed: every command under way is done in part, in whole, or not.
    /// With its power a volatile cache loses some or all of what it has.
    ///
    /// After this no command refers to the appliance's memory.
    pub(crate) fn kill(&mut self, power: bool) {
        self.steps.clear();
        self.stuck.clear();
        (self.is_recovering, self.recoveries) = (false, 0);
        self.stuck_until = clock::now();
        for (_, mut pending) in std::mem::take(&mut self.pending) {
            pending.do_some(&mut self.image, &mut self.random);
            self.ended.push((pending.ticket, Ok(())));
        }
        // What is left of the appliance is taken apart as if everything were done.
        for (ticket, result) in self.ended.drain(..) {
            ticket.end(result);
        }
        let loss = if !power {
            Loss::Nothing
        } else {
            *(self.random).pick(&[Loss::Everything, Loss::Everything, Loss::Some])
        };
        let lost = self.image.lose(loss, &mut self.random);
        event!(
            self.trace,
            "disk-kill",
            [self.index, lost],
            "disk {}: {loss:?}, {lost} sectors go back",
            self.index
        );
    }

    /// Whether the command is one that the device takes.
    fn check(&self, command: &Command, list: &List) -> Result<(), &'static str> {
        let Geometry {
            block_size,
            blocks,
            alignment,
            prp,
            max_elements,
            max_bytes,
            ..
        } = self.config.geometry;
        let ensure = |holds, what| if holds { Ok(()) } else { Err(what) };
        let bytes = command.blocks * u64::from(block_size);
        ensure(command.block + command.blocks <= blocks, "beyond the end")?;
        match command.op {
            Op::Flush => return ensure(list.elements().is_empty(), "a flush with data"),
            Op::WriteZeroes => ensure(self.config.geometry.write_zeroes, "does not write zeroes")?,
            Op::Deallocate => ensure(self.config.geometry.unmap, "does not deallocate")?,
            Op::Read | Op::Write => {
                ensure(bytes == list.len(), "a list of another length")?;
                ensure(bytes <= max_bytes.into(), "too many bytes")?;
            }
        }
        ensure(command.blocks > 0, "no block")?;
        let elements = list.elements();
        ensure(elements.len() <= max_elements as usize, "too many elements")?;
        let aligned = |n: u64| n.is_multiple_of(alignment.into());
        let each = elements
            .iter()
            .all(|e| aligned(e.address) && aligned(e.len) && e.len > 0);
        ensure(each, "elements that are not aligned")?;
        let at_page = |n: u64| n.is_multiple_of(pages::PAGE_SIZE as u64);
        let meet = |pair: &[sgl::Element]| at_page(pair[0].end()) && at_page(pair[1].address);
        ensure(
            !prp || elements.windows(2).all(meet),
            "elements that do not meet at pages",
        )
    }

    /// A log has its superblocks in two areas in front, and two at the end.
    fn count_for_a_log(&mut self, command: &Command) {
        if command.op == Op::Write {
            let areas = 2 * nvlog::AREA / u64::from(self.config.geometry.block_size);
            let halves = areas..self.config.geometry.blocks.saturating_sub(areas);
            self.log_writes.0 += 1;
            self.log_writes.1 += u64::from(!halves.contains(&command.block));
        }
    }

    fn end(&mut self, id: u64) {
        let Some(mut pending) = self.pending.remove(&id) else {
            return;
        };
        let config = &self.config;
        let may_lie = pending.command.op == Op::Write && clock::now() < config.honest_from;
        let is_lost = may_lie && config.lost_one_in > 0 && self.random.one_in(config.lost_one_in);
        let misdirected = config.misdirected_one_in;
        if may_lie && misdirected > 0 && self.random.one_in(misdirected) {
            self.lied_at = Some(clock::now());
            let room = config.geometry.blocks - pending.command.blocks;
            pending.command.block = self.random.range(0..=room);
        }
        let result = match pending.failure {
            Some(fault) => {
                self.faults += 1;
                pending.do_some(&mut self.image, &mut self.random);
                Err(fault)
            }
            None if is_lost => {
                self.lied_at = Some(clock::now());
                Ok(())
            }
            None => {
                // Else some of them do.
                let zeroes = config.geometry.deallocated_zeros;
                pending.do_all(&mut self.image, &mut self.random, zeroes);
                Ok(())
            }
        };
        event!(
            self.trace,
            "disk-end",
            [self.index, id, result.is_ok()],
            "disk {} command {id}: {result:?}",
            self.index
        );
        self.ended.push((pending.ticket, result));
    }
}
