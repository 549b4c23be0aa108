//! A shard: one core's queue pairs, connections, sessions and device
//! operations, and the loop that polls them. Nothing in it is shared.

use std::net::SocketAddr;
use std::time::Duration;

use block::{DeviceState, VolumeId};
use events::{Stage, StageClock};
use net::{ConnectError, ConnectionId, Instant, Tap};
use nvmf::Tls;
use volume::RingEnds;

use crate::change::Steps;
use crate::clock::Clock;
use crate::common::Common;
use crate::door::Session;
use crate::entrance::Entrance;
use crate::handle::Handle;
use crate::link::Link;
use crate::listing::Listing;
use crate::machine::{Machine, Memory};
use crate::notices::Notices;
use crate::pairs::Pairs;

/// How often devices are looked at: how they do, and whether they have another size.
const LOOK: Duration = Duration::from_millis(100);
/// How often an idle moment is used to write dirty pages back.
const IDLE: Duration = Duration::from_millis(1);

/// Times that what drives devices is polled in one turn, as long as it has work; and those in a row that end nothing: there are
/// pollers that always say that they were busy.
const MACHINE_POLLS: usize = 64;
const MACHINE_POLLS_IDLE: usize = 16;

/// One core's share of an appliance.
pub struct Shard<M: Machine> {
    pub(crate) index: usize,
    pub(crate) core: u32,
    pub(crate) common: Common<M>,
    pub(crate) links: Vec<Link<M::Port>>,
    pub(crate) notices: Notices,
    pub(crate) machine: M,
    pub(crate) clock: Clock<M::Ticks>,
    pub(crate) stages: StageClock<M::Ticks>,
    pub(crate) polls: u64,
    pub(crate) polls_busy: u64,
    /// The last question seen, and its answer if that takes long.
    pub(crate) answered: u64,
    pub(crate) listing: Option<Listing>,
    /// The last change of captures seen.
    captures_seen: u64,
    /// The last consistency point that was asked for, and whether it has not ended.
    pub(crate) point_seen: u64,
    pub(crate) is_point_wanted: bool,
    pub(crate) steps: Steps,
    pub(crate) pairs: Pairs,
    /// When devices are next looked at, and how they were when others were told last.
    look_next: Instant,
    told: Box<[DeviceState]>,
    /// Where the look for devices that were resized goes on.
    look_at: VolumeId,
    /// When an idle moment is next used.
    idle_at: Instant,
}

impl<M: Machine> Shard<M> {
    /// Shard number `index`, on `core`. `counter` is what its time, from tick `start` on, and its stages are counted by.
    pub fn new(
        index: usize,
        core: u32,
        mut common: Common<M>,
        links: Vec<Link<M::Port>>,
        machine: M,
        counter: M::Ticks,
        start: u64,
    ) -> Self {
        for (namespace, _) in common.volumes.namespaces() {
            common.doors.nvme.commands.offer(namespace);
        }
        let told = (common.volumes.device_states())
            .map(|_| DeviceState::Works)
            .collect();
        Self {
            index,
            core,
            told,
            common,
            links,
            notices: Notices::default(),
            machine,
            clock: Clock::since(start, counter),
            stages: StageClock::new(counter),
            polls: 0,
            polls_busy: 0,
            answered: 0,
            listing: None,
            captures_seen: 0,
            point_seen: 0,
            is_point_wanted: false,
            steps: Steps::default(),
            pairs: Pairs::default(),
            look_at: VolumeId(0),
            look_next: Instant::ZERO,
            idle_at: Instant::ZERO,
        }
    }

    /// Opens listeners on the links that have their addresses.
    ///
    /// # Errors
    /// A sentence: no port has the address, or it cannot be listened on.
    pub fn listen(&mut self, entrances: &[Entrance]) -> Result<(), String> {
        for &entrance in entrances {
            if entrance.tls != Tls::Off && self.common.doors.tls.handshakes.is_none() {
                let address = entrance.address;
                return Err(format!(
                    "listener {address}: there is no TLS, and the log says why"
                ));
            }
            let mut found = false;
            for link in &mut self.links {
                found |= link.listen(entrance)?;
            }
            if !found {
                let address = entrance.address;
                return Err(format!("no port has the address of listener {address}"));
            }
        }
        Ok(())
    }

    /// Opens a connection from port number `link` for `session`.
    ///
    /// # Errors
    /// As [`net::Stack::connect`].
    pub fn connect(
        &mut self,
        link: usize,
        remote: SocketAddr,
        session: Session,
    ) -> Result<ConnectionId, ConnectError> {
        let now = self.now();
        self.links[link].connect(now, remote, session)
    }

    /// What is done between turns, now and then, off the I/O path: notices of other
    /// shards, hosts that were dropped, changes, questions, captures.
    pub fn housekeep(&mut self, handle: &Handle) {
        let now = self.now();
        if self.steps.ends.is_none() {
            self.steps.ends = handle.take_change_ends(self.index);
        }
        self.make_steps();
        if now >= self.look_next {
            self.look_next = now + LOOK;
            self.look_at_devices(handle);
        }
        for link in &mut self.links {
            link.look_at_port(now);
        }
        self.notices.exchange(&mut self.links, now);
        for link in &mut self.links {
            if let Some(more) = link.turned_away() {
                handle.turned_away(more);
            }
            if let Some(addresses) = link.addresses() {
                handle.addresses_stand(self.index, link.index(), addresses);
            }
            while let Some(line) = link.next_drop(now) {
                log::warn!("{line}");
            }
        }
        handle.heartbeat(self.index);
        self.answer(handle);
        self.capture(handle);
        self.point(handle);
        self.tell_of_pairs(handle, now);
    }

    /// Says which devices do otherwise than they did: each shard has its own way to them.
    fn look_at_devices(&mut self, handle: &Handle) {
        let states = self.common.volumes.device_states();
        for (volume, (told, state)) in (0..).map(VolumeId).zip(self.told.iter_mut().zip(states)) {
            // What is not noted now is at the next look.
            if *told != state && handle.note_device(self.index, volume, state) {
                *told = state;
            }
        }
        if self.index == 0 {
            self.look_for_resized(handle);
        }
    }

    /// Says which devices have another size than they had. The first shard does it for all.
    fn look_for_resized(&mut self, handle: &Handle) {
        let volumes = &self.common.volumes;
        let Some((volume, blocks)) = volumes.resized(self.look_at) else {
            self.look_at = VolumeId(0);
            return;
        };
        self.look_at = VolumeId(volume.0 + 1);
        handle.note_resized(volume, blocks);
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

    /// One turn: frames in, requests out, completions in, frames out; whether there was work.
    pub fn poll(&mut self) -> bool {
        let tick = self.stages.begin();
        let now = Instant(self.clock.nanoseconds(tick));
        let common = &mut self.common;
        common.lend();
        let mut busy = false;
        for link in &mut self.links {
            let frames = link.receive(common, &mut self.stages, now);
            busy |= frames > 0;
            busy |= link.serve(common, &mut self.stages, now);
        }
        let mut completed = self.poll_machine();
        let common = &mut self.common;
        completed |= (common.volumes).poll(Duration::from_nanos(now.0), common.memory.buffers());
        if !common.doors.mirror.is_empty() {
            self.mirror(now);
        }
        let common = &mut self.common;
        if completed && common.volumes.has_completed() {
            busy = true;
            self.stages.end(Stage::Complete);
            while let Some(ended) =
                (common.volumes).next_completion(common.memory.buffers(), &self.stages)
            {
                self.links[ended.origin.link as usize].complete(common, ended);
            }
            self.stages.end(Stage::Protocol);
        }
        for link in &mut self.links {
            busy |= link.transmit(common, &mut self.stages, now);
        }
        if !busy && now >= self.idle_at {
            self.idle_at = now + IDLE;
            common.volumes.idle(common.memory.buffers());
        }
        self.polls += 1;
        self.polls_busy += u64::from(busy);
        busy
    }

    /// Lets what drives devices work until it has nothing more to do, within bounds. SPDK runs eight messages a poll, and a bdev
    /// that is done with a request while it is submitted ends it by a message, to which another one on top of it may add its own:
    /// polled once a turn, hundreds of requests would end eight at a time in the order they came in, which are of as many
    /// connections, and each response would have a frame of its own.
    pub(crate) fn poll_machine(&mut self) -> bool {
        self.machine.enter();
        let (mut worked, mut idle) = (false, 0);
        for _ in 0..MACHINE_POLLS {
            let ended = self.common.volumes.ended();
            if !self.machine.poll() {
                break;
            }
            worked = true;
            idle = if self.common.volumes.ended() > ended {
                0
            } else {
                idle + 1
            };
            if idle == MACHINE_POLLS_IDLE {
                break;
            }
        }
        worked
    }

    /// Shares pages and notices with other shards from now on; `ends` by shard.
    pub fn join(&mut self, ends: Vec<Option<RingEnds>>, notices: Notices) {
        self.notices = notices;
        self.common.volumes.join(ends);
    }

    /// Resets every connection, and lets none come in again: the first step of a stop.
    /// The shard is then polled until it [is quiet](Shard::is_quiet).
    pub fn abort_connections(&mut self) {
        self.common.doors.mirror.stop();
        for link in &mut self.links {
            link.abort_connections(&mut self.common);
        }
    }

    /// Whether no connection is left, nor anything to send.
    pub fn is_quiet(&self) -> bool {
        self.links.iter().all(Link::is_quiet)
    }

    /// Requests and device jobs not yet at their end.
    pub fn requests_in_flight(&self) -> usize {
        self.common.volumes.in_flight()
    }

    /// Command slots that sessions hold.
    pub fn command_slots_in_use(&self) -> usize {
        self.common.doors.nvme.commands.in_use()
    }

    /// Pages that only memory holds.
    pub fn dirty_pages(&self) -> usize {
        self.common.volumes.dirty_pages()
    }

    /// Asks for what only memory holds to be written, and for the last consistency point: the second
    /// step of a stop, when no shard has connections. The shard is then polled until nothing is in flight.
    pub fn flush(&mut self) {
        self.common.volumes.flush(self.common.memory.buffers());
    }

    /// Takes back what ports hold: the third step of a stop, when every port is closed.
    pub fn stop_ports(&mut self) {
        for link in &mut self.links {
            link.stop();
        }
    }

    /// Takes back what other shards were lent, and gives them back what is theirs:
    /// the last step of a stop, when no device works for any shard. To be called until
    /// it is true on every shard.
    pub fn drain(&mut self) -> bool {
        self.machine.enter();
        let now = Duration::from_nanos(self.now().0);
        self.common.volumes.drain(now, self.common.memory.buffers())
    }

    /// Frees what the shard has. The machine is the last to go.
    pub fn finish(self) -> M {
        drop(self.links);
        self.machine.enter();
        drop(self.common);
        self.machine
    }

    /// Its number.
    pub fn index(&self) -> usize {
        self.index
    }

    /// Its time.
    pub fn now(&self) -> Instant {
        Instant(self.clock.now())
    }

    /// Where its frames and pages lie.
    pub fn memory(&self) -> &M::Memory {
        &self.common.memory
    }

    /// What it polls its devices by.
    pub fn machine(&self) -> &M {
        &self.machine
    }

    /// Ticks by stage, in the order of [`Stage::ALL`].
    pub fn ticks_by_stage(&self) -> [u64; Stage::ALL.len()] {
        self.stages.by_stage()
    }
}
