//! Starting and stopping an engine: environments, ports, controllers, shards.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use handshake::OpenSsl;
use nvmf::{ListenerConfig, Target, Tls};
use shard::{Handle, Notices, SharedHandshakes};
use sync::Progress;
use volume::{LogPlan, LogStart, RingEnds};

use crate::authenticate::Authentication;
use crate::build::{self, Controllers, Stores};
use crate::config::{Config, StoreDevice};
use crate::environment::Environment;
use crate::error::Error;
use crate::lcore;
use crate::logged;
use crate::machine::Shard;
use crate::pair;
use crate::port::Port;
use crate::spdk::SpdkThread;
use crate::store::Controller;
use crate::tsc::{tsc, tsc_hz};
use crate::watch::Watch;

/// How long devices have to finish when the engine stops.
const STOP: Duration = Duration::from_secs(30);
/// How long other shards have to give back what they were lent when the engine stops.
const DRAIN: Duration = Duration::from_secs(5);

/// How often drives' admin queues are looked at, which keeps those over fabrics alive.
const ADMIN: Duration = Duration::from_millis(500);

/// Runs an engine until `handle` is told to stop.
///
/// To be called on the process's main thread, once per process: the thread
/// becomes the first polling core.
///
/// # Errors
/// [`Error`] says what could not be started, and what the operator can do.
pub fn run(config: &Config, handle: &Handle) -> Result<(), Error> {
    config.check_target(&[])?;
    (config.ports.iter()).try_for_each(|port| config.check_port(port))?;
    let watch = Watch::start(handle)?;
    let authentication = Authentication::start()?;
    let environment = Environment::start(config)?;
    let result = serve(config, handle, &environment, &watch, &authentication);
    handle.set_ready(false);
    environment.stop();
    result
}

/// Where the engine stands once its shards are built; they wait for it to move on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd)]
#[repr(usize)]
enum Phase {
    /// Ports are started: poll.
    Polling = 1,
    /// Ports are closed, or never started: everything is given back.
    Closing,
}

/// What the shards of an engine share while they start and stop.
struct Plan<'a> {
    config: &'a Config,
    handle: &'a Handle,
    watch: &'a Watch,
    ports: &'a [Port],
    controllers: &'a Controllers,
    target: &'a Arc<Target>,
    handshakes: Option<SharedHandshakes>,
    volumes: build::VolumePlan,
    log_plan: Option<LogPlan>,
    /// What the log begins with, once it was replayed.
    log_start: OnceLock<LogStart>,
    /// By store: bytes, and those of a block.
    sizes: Vec<(u64, u32)>,
    /// What all shards have of a pair, from then on.
    pair: OnceLock<pair::Started>,
    secret: [u8; 32],
    phase: Progress,
    /// How often shards have arrived at the next of the points where all wait
    /// for each other: built, or failed to be; without connections; without
    /// dirty pages.
    arrived: Progress,
    failure: Mutex<Option<Error>>,
    /// Taken while a shard is set up or taken down: DPDK's registries of memory,
    /// its pools and the queues of one port are for one thread at a time. Has
    /// each shard's links to the others, until it takes them.
    control: Mutex<Vec<Links>>,
}

/// A shard's ends of the rings to the others.
type Links = (Vec<Option<RingEnds>>, Notices);

fn serve(
    config: &Config,
    handle: &Handle,
    environment: &Environment,
    watch: &Watch,
    authentication: &Authentication,
) -> Result<(), Error> {
    let lcores = lcore::all();
    let controllers = connect(config)?;
    let queues = lcores.len() as u16;
    let ports = Port::open(&config.ports, queues, config.memory.cluster_size)?;
    // The first shard's stores say what the namespaces look like.
    let spdk = SpdkThread::create("shard0", lcores[0])?;
    let stores = Stores::open(config, &controllers)?;
    let spans = build::spans(config, &stores.volumes)?;
    let offer = build::offer(config, &stores.volumes, &spans)?;
    let sizes = build::sizes(&stores.volumes, &spans);
    let plan = |log| logged::plan(config, log, &stores.volumes, &spans);
    let log_plan = config.log.as_ref().map(plan);
    let target = build::target(config, &offer)?;
    authentication.begin(&target);
    let volumes = build::VolumePlan::new(&offer, spans);
    let names = config.ports.iter().map(|port| port.name.clone()).collect();
    handle.expect_shards(lcores.len(), tsc_hz(), names, offer, &target);
    let links = (build::rings(config).into_iter()).zip(shard::between(lcores.len()));
    let plan = Plan {
        config,
        handle,
        watch,
        ports: &ports,
        controllers: &controllers,
        target: &target,
        handshakes: handshakes(config)?,
        volumes,
        log_plan,
        log_start: OnceLock::new(),
        sizes,
        pair: OnceLock::new(),
        secret: build::secret(),
        phase: Progress::default(),
        arrived: Progress::default(),
        failure: Mutex::new(None),
        control: Mutex::new(links.collect()),
    };
    let workers: Vec<_> = (lcores.iter().enumerate().skip(1))
        .map(|(index, &core)| {
            (core, {
                let plan = &plan;
                move || plan.work(index, core)
            })
        })
        .collect();
    lcore::scope(&workers, || plan.lead(lcores[0], spdk, stores, environment))?;
    plan.failure
        .into_inner()
        .unwrap_or_else(PoisonError::into_inner)
        .map_or(Ok(()), Err)
}

/// What makes handshakes of TLS; none, where nobody wants any, if the library cannot be used.
pub(crate) fn handshakes(config: &Config) -> Result<Option<SharedHandshakes>, Error> {
    let is_wanted = |listener: &ListenerConfig| listener.tls != Tls::Off;
    let is_wanted =
        config.target.listeners.iter().any(is_wanted) || config.pairs.iter().any(|pair| pair.tls);
    match OpenSsl::new() {
        Ok(library) => Ok(Some(Arc::new(Mutex::new(Box::new(library))))),
        Err(error) if is_wanted => Err(Error::Target(error.to_string())),
        Err(error) => {
            log::warn!("no listener can have TLS: {error}");
            Ok(None)
        }
    }
}

impl Plan<'_> {
    /// The main shard: builds its own, starts the ports when all are built,
    /// polls, and closes the ports when all have stopped.
    fn lead(&self, core: u32, spdk: SpdkThread, stores: Stores, environment: &Environment) {
        let built = self.build(0, core, spdk, stores);
        self.arrive();
        self.wait_for_arrivals(1, || thread::sleep(Duration::from_millis(1)));
        match built.filter(|_| !self.has_failed()) {
            Some(mut shard) => {
                let started = self
                    .replay_log(&mut shard, environment)
                    .and_then(|()| self.start_ports());
                if let Err(error) = started {
                    self.fail(error);
                    self.handle.stop();
                }
                self.advance_to(Phase::Polling);
                if !self.has_failed() {
                    self.handle.set_ready(true);
                }
                let mut admin_at = 0;
                poll(&mut shard, self.handle, || {
                    environment.app().enter();
                    environment.app().poll();
                    if tsc() > admin_at {
                        admin_at = tsc() + tsc_hz() / 2;
                        self.poll_admin();
                    }
                });
                self.stop(&mut shard);
                // What the logs of others are to know of pairs, this shard writes.
                self.wait_for_arrivals(3, || {
                    shard.poll();
                });
                self.close_ports();
                self.advance_to(Phase::Closing);
                self.finish(shard);
            }
            None => {
                self.close_ports();
                self.advance_to(Phase::Closing);
            }
        }
    }

    /// A worker shard.
    fn work(&self, index: usize, core: u32) {
        let opened = SpdkThread::create(&format!("shard{index}"), core)
            .and_then(|spdk| Ok((spdk, Stores::open(self.config, self.controllers)?)));
        let shard = opened
            .map_err(|error| self.fail(error))
            .ok()
            .and_then(|(spdk, stores)| self.build(index, core, spdk, stores));
        self.arrive();
        self.wait_until(Phase::Polling);
        let Some(mut shard) = shard else { return };
        if self.phase() == Phase::Polling as usize {
            if let Some(start) = self.log_start.get() {
                shard.start_log(start);
            }
            if let Some(pair) = self.pair.get() {
                pair.join(&mut shard, index);
            }
            poll(&mut shard, self.handle, || {});
            self.stop(&mut shard);
            self.wait_until(Phase::Closing);
        }
        self.finish(shard);
    }

    /// Ends a shard's work, in step with the others: while one of them has
    /// connections, all serve it with the pages that they own.
    fn stop(&self, shard: &mut Shard) {
        end(disconnect(shard, || {}));
        self.arrive();
        end(poll_until(shard, |_| self.have_arrived(2)));
        end(write_back(shard));
        self.arrive();
    }

    fn build(&self, index: usize, core: u32, spdk: SpdkThread, stores: Stores) -> Option<Shard> {
        // Held until the shard is built.
        let mut control = self.control.lock().unwrap_or_else(PoisonError::into_inner);
        let (ends, notices) = std::mem::take(&mut control[index]);
        build::shard(
            self.config,
            self.ports,
            self.target,
            self.handshakes.clone(),
            &self.volumes,
            &self.secret,
            index,
            core,
            spdk,
            stores,
        )
        .map(|mut shard| {
            shard.join(ends, notices);
            shard
        })
        .map_err(|error| self.fail(error))
        .ok()
    }

    fn finish(&self, mut shard: Shard) {
        if !drain(&mut shard) {
            self.fail(Error::Lent {
                shard: shard.index(),
            });
        }
        let _alone = self.control.lock().unwrap_or_else(PoisonError::into_inner);
        shard.finish();
    }

    /// Replays the log, if there is one, before any shard takes a request.
    fn replay_log(&self, shard: &mut Shard, environment: &Environment) -> Result<(), Error> {
        let (Some(plan), Some(log)) = (&self.log_plan, &self.config.log) else {
            return Ok(());
        };
        let between = || {
            environment.app().enter();
            environment.app().poll();
            self.poll_admin();
            !self.handle.is_stopping()
        };
        let Some(start) = logged::replay(log, plan.clone(), shard, between)? else {
            // What was not replayed is as it was, and replayed next time.
            std::process::exit(0);
        };
        if let Some(first) = self.config.pairs.first() {
            let started = pair::Started::new(self.config, first.node, &start, &self.sizes)?;
            started.join(shard, 0);
            self.handle.expect_pairs(pair::names(self.config));
            for volume in started.volumes() {
                self.handle.expect_mirrored(volume.volume, &volume.shared);
            }
            let _ = self.pair.set(started);
        }
        // Nobody else sets them.
        let _ = self.log_start.set(start);
        Ok(())
    }

    fn start_ports(&self) -> Result<(), Error> {
        self.ports.iter().try_for_each(Port::start)?;
        self.watch
            .begin(self.ports.iter().map(Port::watch).collect());
        Ok(())
    }

    fn close_ports(&self) {
        self.watch.cease();
        self.ports.iter().for_each(Port::close);
    }

    fn fail(&self, error: Error) {
        self.failure
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get_or_insert(error);
    }

    fn has_failed(&self) -> bool {
        self.failure
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .is_some()
    }

    fn arrive(&self) {
        self.arrived.step();
    }

    /// Whether every shard has arrived for the `nth` time.
    fn have_arrived(&self, nth: usize) -> bool {
        self.arrived.place() >= nth * self.config.cores.len()
    }

    /// Drives over fabrics are kept alive meanwhile: other shards may take long.
    fn wait_for_arrivals(&self, nth: usize, mut between: impl FnMut()) {
        let mut admin_at = Instant::now();
        while !self.have_arrived(nth) {
            if Instant::now() >= admin_at {
                admin_at = Instant::now() + ADMIN;
                self.poll_admin();
            }
            between();
        }
    }

    fn poll_admin(&self) {
        (self.controllers.values()).for_each(|controller| controller.poll_admin());
    }

    fn phase(&self) -> usize {
        self.phase.place()
    }

    fn advance_to(&self, phase: Phase) {
        self.phase.advance_to(phase as usize);
    }

    fn wait_until(&self, phase: Phase) {
        while self.phase() < phase as usize {
            thread::sleep(Duration::from_millis(1));
        }
    }
}

/// Polls until the shard is asked to stop. `between` runs now and then, off the I/O path.
fn poll(shard: &mut Shard, handle: &Handle, mut between: impl FnMut()) {
    while !handle.is_stopping() {
        for _ in 0..64 {
            shard.poll();
        }
        shard.housekeep(handle);
        between();
    }
}

/// Polls until `done` holds; false if it does not in the time that devices have.
fn poll_until(shard: &mut Shard, mut done: impl FnMut(&mut Shard) -> bool) -> bool {
    let deadline = shard.now() + STOP;
    while !done(shard) {
        shard.poll();
        if shard.now() > deadline {
            let (index, requests) = (shard.index(), shard.requests_in_flight());
            log::error!("shard {index}: {requests} requests are still at their devices");
            return false;
        }
    }
    true
}

/// Ends every connection, and polls until none waits for a device or another shard.
/// `between` takes the farewells off a wire. False if that was not in time.
pub(crate) fn disconnect(shard: &mut Shard, mut between: impl FnMut()) -> bool {
    shard.abort_connections();
    poll_until(shard, |shard| {
        between();
        shard.is_quiet()
    })
}

/// Writes what only memory holds, once no shard asks for anything any more.
/// False if a device did not finish in time.
pub(crate) fn write_back(shard: &mut Shard) -> bool {
    let finished = |shard: &mut Shard| shard.requests_in_flight() == 0;
    if !poll_until(shard, finished) {
        return false;
    }
    shard.flush();
    poll_until(shard, finished)
}

/// Takes back what the ports hold, and what other shards were lent; gives
/// them back what is theirs. Every port is closed by now, and no device
/// works for any shard. False if some of it does not come back: then the
/// memory stays where it is, and is never freed.
pub(crate) fn drain(shard: &mut Shard) -> bool {
    shard.stop_ports();
    let deadline = shard.now() + DRAIN;
    while !shard.drain() {
        if shard.now() > deadline {
            return false;
        }
    }
    true
}

/// A device that still works on our memory does not let us free it: then the
/// process ends here, and the kernel takes the memory when the device is reset.
fn end(quiet: bool) {
    if !quiet {
        std::process::exit(1);
    }
}

fn connect(config: &Config) -> Result<Controllers, Error> {
    let mut controllers = Controllers::new();
    for store in &config.stores {
        if let StoreDevice::Nvme { transport_id, .. } = &store.device
            && !controllers.contains_key(transport_id)
        {
            match Controller::connect(&store.name, transport_id) {
                Ok(controller) => {
                    controllers.insert(transport_id.clone(), Arc::new(controller));
                }
                // Stores say then that it is not connected.
                Err(error) if config.can_do_without(&store.name) => log::error!("{error}"),
                Err(error) => return Err(error),
            }
        }
    }
    Ok(controllers)
}
