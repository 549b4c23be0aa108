//! The end of an appliance: a stop, in the order in which the engine does it, or its
//! taking apart after it was killed; and the look for what was not given back.

use std::cell::RefCell;
use std::rc::Rc;

use super::{Appliance, Running, Shard, Stopped, Stopping};
use crate::clock::{self, MICROSECOND, Nanoseconds, SECOND};
use crate::disk::Disk;
use crate::trace::event;

/// How long a stop may take: what the engine gives its devices.
const STOP: Nanoseconds = 30 * SECOND;
/// Turns that taking apart may take.
const TURNS_MAX: usize = 200_000;

/// Where a shard stands in a stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Stage {
    /// Until it has no connection.
    Disconnecting,
    /// Until no shard has one.
    Waiting,
    /// Until what it has under way is done.
    Finishing,
    /// Until what only its memory has is written.
    WritingBack,
    /// Until all are: then its ports can be closed.
    Idle,
}

impl Appliance {
    /// Begins a stop.
    pub(crate) fn stop(&mut self) {
        let Some(running) = &mut self.running else {
            return;
        };
        event!(self.trace, "stop", [self.index], "appliance {}", self.index);
        running.begin_stop();
    }

    /// Ends a stop that has come so far that everything can be given back.
    pub(crate) fn finish_stop(&mut self) -> Stopped {
        let Some(running) = &self.running else {
            return Stopped::NotYet;
        };
        let Some(stopping) = &running.stopping else {
            return Stopped::NotYet;
        };
        if clock::now() > stopping.deadline {
            let stuck = |disk: &Rc<RefCell<Disk>>| disk.borrow().stuck_until() == clock::now();
            if self.disks.iter().any(stuck) {
                return Stopped::Abandoned;
            }
            return Stopped::Wrong(format!(
                "the stop takes longer than {} s: {:?}",
                STOP / SECOND,
                stopping.stages
            ));
        }
        if stopping.stages.iter().any(|&stage| stage < Stage::Idle) {
            return Stopped::NotYet;
        }
        let Some(mut running) = self.running.take() else {
            return Stopped::NotYet;
        };
        if let Some(node) = &mut self.pair {
            node.goes_off(&mut running);
        }
        event!(
            self.trace,
            "stopped",
            [self.index],
            "appliance {}",
            self.index
        );
        // Where a device is gone, or fails, dirty pages stay behind.
        let is_clean = running.shards.iter().all(|shard| shard.dirty_pages() == 0);
        self.has_left_dirty = !is_clean;
        self.note_logs(&running, is_clean);
        self.offering.end();
        self.nics.iter().for_each(crate::port::Nic::clear);
        match running.give_back(is_clean) {
            Ok(()) => Stopped::Done,
            Err(what) => Stopped::Wrong(what),
        }
    }
}

impl Running {
    fn begin_stop(&mut self) {
        self.handle.stop();
        for shard in &mut self.shards {
            shard.abort_connections();
        }
        self.stopping = Some(Stopping {
            stages: vec![Stage::Disconnecting; self.shards.len()],
            deadline: clock::now() + STOP,
        });
        for index in 0..self.shards.len() {
            self.wake(index, MICROSECOND);
        }
    }

    /// A turn of a shard that is about to stop; whether there was work.
    pub(super) fn stop_step(&mut self, index: usize) -> bool {
        let Some(stopping) = &mut self.stopping else {
            return false;
        };
        let shard = &mut self.shards[index];
        let stage = stopping.stages[index];
        let next = match stage {
            Stage::Disconnecting if shard.is_quiet() => Stage::Waiting,
            Stage::Waiting if stopping.stages.iter().all(|&other| other >= Stage::Waiting) => {
                Stage::Finishing
            }
            Stage::Finishing if shard.requests_in_flight() == 0 => {
                shard.flush();
                Stage::WritingBack
            }
            Stage::WritingBack if shard.requests_in_flight() == 0 => Stage::Idle,
            // What the logs of others are to know of pairs, the shard with those writes.
            Stage::Idle => {
                let is_awaited = stopping.stages.iter().any(|&other| other < Stage::Idle);
                return is_awaited && shard.poll();
            }
            stage => {
                return {
                    stopping.stages[index] = stage;
                    shard.poll()
                };
            }
        };
        stopping.stages[index] = next;
        true
    }

    /// Takes apart what was killed `at` some time: as a stop does, with devices that say yes
    /// to everything and do nothing.
    pub(super) fn take_apart(mut self, at: Nanoseconds) -> Result<(), String> {
        self.is_dead.set(true);
        self.begin_stop();
        // What was at devices when it was killed ends as if it were done.
        let mut turns = 0;
        while let Some(stopping) = &self.stopping
            && stopping.stages.iter().any(|&stage| stage < Stage::Idle)
        {
            turns += 1;
            if turns > TURNS_MAX {
                clock::set(at);
                let requests: Vec<_> = self.shards.iter().map(Shard::requests_in_flight).collect();
                let stages = self.stopping.map(|stopping| stopping.stages);
                return Err(format!(
                    "what was killed does not come to rest: {stages:?}, requests {requests:?}"
                ));
            }
            clock::set(clock::now() + 100 * MICROSECOND);
            for index in 0..self.shards.len() {
                self.stop_step(index);
            }
        }
        let is_clean = self.shards.iter().all(|shard| shard.dirty_pages() == 0);
        let result = self.give_back(is_clean);
        clock::set(at);
        result
    }

    /// The last step of a stop. Then looks for what is still held.
    fn give_back(mut self, is_clean: bool) -> Result<(), String> {
        self.shards.iter_mut().for_each(Shard::stop_ports);
        let mut turns = 0;
        loop {
            let mut drained = true;
            for shard in &mut self.shards {
                drained &= shard.drain();
            }
            if drained {
                break;
            }
            turns += 1;
            if turns > 1000 {
                // Dirty pages may be another shard's.
                return match is_clean {
                    true => Err("what shards lent each other does not come back".into()),
                    false => Ok(()),
                };
            }
        }
        for shard in self.shards.iter().filter(|_| is_clean) {
            look_for_leaks(shard)?;
        }
        let controllers = self.target.controllers();
        if !controllers.is_empty() {
            return Err(format!("controllers without a connection: {controllers:?}"));
        }
        for shard in self.shards {
            shard.finish();
        }
        // Pools outlive their shard as long as something in them is held.
        match self
            .arenas
            .iter()
            .position(|arena| Rc::strong_count(arena) > 1)
        {
            Some(shard) => Err(format!("something still holds memory of shard {shard}")),
            None => Ok(()),
        }
    }
}

fn look_for_leaks(shard: &Shard) -> Result<(), String> {
    let snapshot = shard.snapshot(Vec::new());
    let held = |pool: &&shard::PoolSnapshot| pool.free != pool.size;
    if let Some(pool) = snapshot.pools.iter().find(held) {
        return Err(format!(
            "shard {}: {} of {} {} are not given back",
            shard.index(),
            pool.size - pool.free,
            pool.size,
            pool.name
        ));
    }
    match shard.command_slots_in_use() {
        0 => Ok(()),
        n => Err(format!(
            "shard {}: {n} command slots are not given back",
            shard.index()
        )),
    }
}
