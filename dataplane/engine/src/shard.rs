//! A shard: one core's queue pairs, connections, sessions and device
//! operations, and the loop that polls them. Nothing in it is shared.

mod answer;
mod link;
mod notices;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use net::{Instant, Tap};
use nvmf::{CommandPool, Target};

pub(crate) use link::Link;
pub(crate) use notices::{NoticeCounters, Notices, between};

use crate::clock::{Clock, StageClock, tsc};
use crate::handle::Handle;
use crate::memory::Memory;
use crate::snapshot::Stage;
use crate::spdk::SpdkThread;
use crate::volume::{PeerEnds, Volumes};

/// How long devices have to finish when the engine stops.
const STOP_NS: u64 = 30_000_000_000;
/// How long other shards have to give back what they were lent when the engine stops.
const LET_GO_NS: u64 = 5_000_000_000;
/// How often an idle moment is used to write dirty pages back.
const IDLE: Duration = Duration::from_millis(1);

/// What every link of a shard uses besides its own connections.
pub(crate) struct Common {
    pub(crate) memory: Memory,
    pub(crate) volumes: Volumes,
    pub(crate) commands: CommandPool,
    pub(crate) counters: nvmf::Counters,
    pub(crate) target: Arc<Target>,
}

/// How much of what sessions wait for is free.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Resources {
    runs: usize,
    pages: usize,
    commands_in_use: usize,
    write_bytes_granted: u64,
}

impl Common {
    pub(crate) fn resources(&self) -> Resources {
        Resources {
            runs: self.memory.runs.available(),
            pages: self.memory.pages.unheld(),
            commands_in_use: self.commands.in_use(),
            write_bytes_granted: self.commands.write_bytes_granted(),
        }
    }

    /// The shard's resources as sessions borrow them.
    pub(crate) fn lend(&mut self) -> nvmf::Shard<'_> {
        nvmf::Shard {
            runs: &self.memory.runs,
            pages: &self.memory.pages,
            ledger: &self.memory.ledger,
            commands: &mut self.commands,
            counters: &mut self.counters,
        }
    }
}

/// One core's share of the engine.
pub(crate) struct Shard {
    index: usize,
    core: u32,
    common: Common,
    links: Vec<Link>,
    notices: Notices,
    spdk: SpdkThread,
    clock: Clock,
    stages: StageClock,
    polls: u64,
    polls_busy: u64,
    /// The last question seen, and its answer if that takes long.
    answered: u64,
    listing: Option<answer::Listing>,
    /// The last change of captures seen.
    captures_seen: u64,
    /// When an idle moment is next used.
    idle_at: Instant,
}

impl Shard {
    pub(crate) fn new(
        index: usize,
        core: u32,
        common: Common,
        links: Vec<Link>,
        spdk: SpdkThread,
    ) -> Self {
        Self {
            index,
            core,
            common,
            links,
            notices: Notices::default(),
            spdk,
            clock: Clock::start(),
            stages: StageClock::new(),
            polls: 0,
            polls_busy: 0,
            answered: 0,
            listing: None,
            captures_seen: 0,
            idle_at: Instant::ZERO,
        }
    }

    /// Opens the target's listeners on the links that have their addresses.
    pub(crate) fn listen(&mut self, listeners: &[SocketAddr]) -> Result<(), String> {
        for listener in listeners {
            let mut heard = false;
            for link in &mut self.links {
                heard |= link.listen(*listener)?;
            }
            if !heard {
                return Err(format!("no port has the address of listener {listener}"));
            }
        }
        Ok(())
    }

    /// Polls until the engine is asked to stop. `between` runs now and then, off the I/O path.
    pub(crate) fn run(&mut self, handle: &Handle, mut between: impl FnMut()) {
        while !handle.is_stopping() {
            for _ in 0..64 {
                self.poll();
            }
            let now = self.now();
            self.notices.exchange(&mut self.links, now);
            handle.come_round(self.index);
            self.answer(handle);
            self.capture(handle);
            between();
        }
    }

    /// Begins or ends a capture, if there is news of one.
    fn capture(&mut self, handle: &Handle) {
        let change = handle.captures().change();
        if change == self.captures_seen {
            return;
        }
        self.captures_seen = change;
        let (now, mut taken) = (self.now(), handle.captures().take(self.index));
        for (index, link) in self.links.iter_mut().enumerate() {
            let tap = taken.take_if(|(port, _)| *port == index);
            link.set_tap(tap.map(|(_, mut copier)| {
                copier.begin(now);
                copier as Box<dyn Tap>
            }));
        }
    }

    /// One turn: frames in, requests out, completions in, frames out.
    pub(crate) fn poll(&mut self) {
        let tsc = self.stages.begin();
        let now = Instant(self.clock.nanoseconds(tsc));
        let common = &mut self.common;
        let mut busy = false;
        for link in &mut self.links {
            let frames = link.receive(common, &mut self.stages, now);
            busy |= frames > 0;
            busy |= link.serve(common, &mut self.stages, now);
        }
        self.spdk.enter();
        let mut completed = self.spdk.poll();
        completed |= common.volumes.poll(&common.memory);
        if completed && common.volumes.has_completed() {
            busy = true;
            self.stages.end(Stage::Complete);
            while let Some(answer) = (common.volumes).next_completion(&common.memory, &self.stages)
            {
                self.links[answer.owner.link as usize].complete(common, answer);
            }
            self.stages.end(Stage::Protocol);
        }
        for link in &mut self.links {
            busy |= link.transmit(common, &mut self.stages, now);
        }
        if !busy && now >= self.idle_at {
            self.idle_at = now + IDLE;
            common.volumes.idle(&common.memory);
        }
        self.polls += 1;
        self.polls_busy += u64::from(busy);
    }

    /// Shares pages and news with other shards from now on; `ends` by shard.
    pub(crate) fn join(&mut self, ends: Vec<Option<PeerEnds>>, notices: Notices) {
        self.notices = notices;
        self.common.volumes.join(ends);
    }

    /// Ends every connection, and waits until nobody here waits for a device or
    /// another shard. False if that was not in time.
    pub(crate) fn hang_up(&mut self) -> bool {
        self.hang_up_with(|| {})
    }

    /// The same, with somebody who takes the farewells off the wire.
    pub(crate) fn hang_up_with(&mut self, mut between: impl FnMut()) -> bool {
        for link in &mut self.links {
            link.abort_all(&mut self.common);
        }
        self.poll_until(|shard| {
            between();
            shard.links.iter().all(Link::is_quiet)
        })
    }

    /// Writes what only memory holds, once no shard asks for anything any more.
    /// False if a device did not finish in time.
    pub(crate) fn write_back(&mut self) -> bool {
        let quiet = |shard: &mut Self| shard.common.volumes.in_flight() == 0;
        if !self.poll_until(quiet) {
            return false;
        }
        if self.common.volumes.dirty_pages() == 0 {
            return true;
        }
        self.common.volumes.flush(&self.common.memory);
        self.poll_until(quiet)
    }

    /// Polls until `done` holds; false if it does not in the time that devices have.
    pub(crate) fn poll_until(&mut self, mut done: impl FnMut(&mut Self) -> bool) -> bool {
        let deadline = self.now().0 + STOP_NS;
        while !done(self) {
            self.poll();
            if self.now().0 > deadline {
                let requests = self.common.volumes.in_flight();
                log::error!(
                    "shard {}: {requests} requests are still at their devices",
                    self.index
                );
                return false;
            }
        }
        true
    }

    /// Takes back what the NIC holds, and what other shards were lent; gives
    /// them back what is theirs. Every port is closed by now, and no device
    /// works for any shard. False if some of it does not come back: then the
    /// memory stays where it is, and nobody frees it.
    pub(crate) fn let_go(&mut self) -> bool {
        for link in &mut self.links {
            link.finish();
        }
        let deadline = self.now().0 + LET_GO_NS;
        self.spdk.enter();
        while !self.common.volumes.let_go(&self.common.memory) {
            if self.now().0 > deadline {
                return false;
            }
        }
        true
    }

    /// Ends the SPDK thread, frees the memory; after [`Shard::let_go`].
    pub(crate) fn finish(self) {
        drop(self.links);
        self.spdk.enter();
        drop(self.common);
    }

    pub(crate) fn index(&self) -> usize {
        self.index
    }

    fn now(&self) -> Instant {
        Instant(self.clock.nanoseconds(tsc()))
    }

    pub(crate) fn memory(&self) -> &Memory {
        &self.common.memory
    }

    pub(crate) fn ticks_by_stage(&self) -> [u64; Stage::ALL.len()] {
        self.stages.by_stage()
    }
}
