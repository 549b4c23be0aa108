//! Starting and stopping an engine: environments, ports, controllers, shards.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use nvmf::Target;
use sync::Progress;

use crate::build;
use crate::clock::{tsc, tsc_hz};
use crate::config::{Config, StoreDevice};
use crate::environment::Environment;
use crate::error::Error;
use crate::handle::Handle;
use crate::lcore;
use crate::port::Port;
use crate::shard::{self, Notices, Shard};
use crate::spdk::SpdkThread;
use crate::store::{Controller, Store};
use crate::volume::PeerEnds;

/// Runs an engine until `handle` is told to stop.
///
/// To be called on the process's main thread, once per process: the thread
/// becomes the first polling core.
///
/// # Errors
/// [`Error`] says what could not be started, and what the operator can do.
pub fn run(config: &Config, handle: &Handle) -> Result<(), Error> {
    let environment = Environment::start(config)?;
    let result = serve(config, handle, &environment);
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
    /// Ports are closed, or never started: let go of everything.
    Closing,
}

/// What the shards of an engine share while they start and stop.
struct Plan<'a> {
    config: &'a Config,
    handle: &'a Handle,
    ports: &'a [Port],
    controllers: &'a Controllers,
    target: &'a Arc<Target>,
    secret: [u8; 32],
    phase: Progress,
    /// How often shards have arrived at the next of the points where all wait
    /// for each other: built, or failed to be; without connections; without
    /// dirty pages.
    arrived: Progress,
    failure: Mutex<Option<Error>>,
    /// Taken while a shard is set up or taken down: DPDK's registries of memory,
    /// its pools and the queues of one port are for one thread at a time. Has
    /// each shard's ties to the others, until it takes them.
    control: Mutex<Vec<Ties>>,
}

/// A shard's ends of the rings to the others.
type Ties = (Vec<Option<PeerEnds>>, Notices);

/// NVMe controllers by transport id.
type Controllers = HashMap<String, Arc<Controller>>;

fn serve(config: &Config, handle: &Handle, environment: &Environment) -> Result<(), Error> {
    let lcores = lcore::all();
    let controllers = connect(config)?;
    let queues = lcores.len() as u16;
    let ports = Port::open(&config.ports, queues, config.memory.cluster_size)?;
    // The first shard's stores say what the namespaces look like.
    let spdk = SpdkThread::create("shard0", lcores[0])?;
    let stores = open_stores(config, &controllers)?;
    let target = build::target(config, &stores)?;
    let inventory = build::inventory(config);
    handle.expect_shards(lcores.len(), tsc_hz(), inventory, &target);
    let ties = (build::rings(config).into_iter()).zip(shard::between(lcores.len()));
    let plan = Plan {
        config,
        handle,
        ports: &ports,
        controllers: &controllers,
        target: &target,
        secret: build::secret(),
        phase: Progress::default(),
        arrived: Progress::default(),
        failure: Mutex::new(None),
        control: Mutex::new(ties.collect()),
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

impl Plan<'_> {
    /// The main shard: builds its own, starts the ports when all are built,
    /// polls, and closes the ports when all have stopped.
    fn lead(&self, core: u32, spdk: SpdkThread, stores: Vec<Store>, environment: &Environment) {
        let built = self.build(0, core, spdk, stores);
        self.arrive();
        self.wait_for_arrivals(1);
        match built.filter(|_| !self.has_failed()) {
            Some(mut shard) => {
                if let Err(error) = self.start_ports() {
                    self.fail(error);
                    self.handle.stop();
                }
                self.advance_to(Phase::Polling);
                if !self.has_failed() {
                    self.handle.set_ready(true);
                }
                let mut admin_at = 0;
                shard.run(self.handle, || {
                    environment.app().enter();
                    environment.app().poll();
                    if tsc() > admin_at {
                        admin_at = tsc() + tsc_hz() / 2;
                        self.controllers
                            .values()
                            .for_each(|controller| controller.poll_admin());
                    }
                });
                self.stop(&mut shard);
                self.wait_for_arrivals(3);
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
            .and_then(|spdk| Ok((spdk, open_stores(self.config, self.controllers)?)));
        let shard = opened
            .map_err(|error| self.fail(error))
            .ok()
            .and_then(|(spdk, stores)| self.build(index, core, spdk, stores));
        self.arrive();
        self.wait_until(Phase::Polling);
        let Some(mut shard) = shard else { return };
        if self.phase() == Phase::Polling as usize {
            shard.run(self.handle, || {});
            self.stop(&mut shard);
            self.wait_until(Phase::Closing);
        }
        self.finish(shard);
    }

    /// Ends a shard's work, in step with the others: while one of them has
    /// connections, all serve it with the pages that they own.
    fn stop(&self, shard: &mut Shard) {
        end(shard.hang_up());
        self.arrive();
        end(shard.poll_until(|_| self.have_arrived(2)));
        end(shard.write_back());
        self.arrive();
    }

    fn build(
        &self,
        index: usize,
        core: u32,
        spdk: SpdkThread,
        stores: Vec<Store>,
    ) -> Option<Shard> {
        // Held until the shard is built.
        let mut control = self.control.lock().unwrap_or_else(PoisonError::into_inner);
        let (ends, notices) = std::mem::take(&mut control[index]);
        build::shard(
            self.config,
            self.ports,
            self.target,
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
        if !shard.let_go() {
            self.fail(Error::Lent {
                shard: shard.index(),
            });
        }
        let _alone = self.control.lock().unwrap_or_else(PoisonError::into_inner);
        shard.finish();
    }

    fn start_ports(&self) -> Result<(), Error> {
        self.ports.iter().try_for_each(Port::start)
    }

    fn close_ports(&self) {
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

    fn wait_for_arrivals(&self, nth: usize) {
        while !self.have_arrived(nth) {
            thread::sleep(Duration::from_millis(1));
        }
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
            let controller = Controller::connect(&store.name, transport_id)?;
            controllers.insert(transport_id.clone(), Arc::new(controller));
        }
    }
    Ok(controllers)
}

/// Opens every store on the calling shard's SPDK thread.
fn open_stores(config: &Config, controllers: &Controllers) -> Result<Vec<Store>, Error> {
    let open = |store: &crate::config::StoreConfig| {
        let controller = match &store.device {
            StoreDevice::Nvme { transport_id, .. } => controllers.get(transport_id),
            StoreDevice::Bdev(_) => None,
        };
        Store::open(store, controller)
    };
    config.stores.iter().map(open).collect()
}
