//! Whether what is configured is served: one truth for the log, the service manager, metrics,
//! statistics and `check`.
//!
//! It is looked at, not kept: the engine notes how ports and devices are (`engine::Health`),
//! and every [`Readiness`] is made of that anew.

mod addresses;
mod presence;
#[cfg(test)]
mod tests;

use std::fmt;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use engine::{DeviceState, Handle, Health, NamespaceName, PortState};
use serde::{Deserialize, Serialize};

use self::addresses::Addresses;
use self::presence::Presence;
use crate::config::{Program, ranges};

/// How much of what is configured is served.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum State {
    /// None of it: shards do not poll yet or any more, no port works, or no namespace does.
    #[default]
    Unready,
    /// Some of it.
    Degraded,
    /// All of it.
    Ready,
}

impl State {
    /// Whether anything is served.
    pub(crate) fn serves(self) -> bool {
        self != State::Unready
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            State::Unready => "unready",
            State::Degraded => "degraded",
            State::Ready => "ready",
        })
    }
}

/// A part of what is configured, and what is wrong with it and what to do, if anything is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Part<T> {
    pub(crate) name: T,
    pub(crate) wrong: Option<String>,
}

/// An address of a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Address {
    /// Its port, as a place in [`Readiness::ports`].
    pub(crate) port: usize,
    pub(crate) address: IpAddr,
    /// Hosts reach it, if maybe not always.
    pub(crate) is_used: bool,
    pub(crate) wrong: Option<String>,
}

/// How everything is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Readiness {
    /// What keeps shards from polling.
    pub(crate) shards: Option<String>,
    pub(crate) ports: Vec<Part<String>>,
    pub(crate) addresses: Vec<Address>,
    pub(crate) namespaces: Vec<Part<NamespaceName>>,
    /// The log's stores, if there are two.
    pub(crate) logs: Vec<Part<String>>,
}

/// Where readiness is seen.
#[derive(Clone)]
pub(crate) struct Source {
    handle: Handle,
    /// The devices of the ports.
    devices: Arc<[String]>,
    presence: Arc<Mutex<Presence>>,
    addresses: Arc<Mutex<Addresses>>,
    /// Cores whose shards stood still when they were last looked at.
    stuck: Arc<Mutex<Vec<u32>>>,
}

impl Source {
    pub(crate) fn new(handle: Handle, program: &Program) -> Self {
        let ports = program.engine.ports.iter();
        Self {
            handle,
            devices: ports.map(|port| port.device.clone()).collect(),
            presence: Arc::new(Mutex::new(Presence::new(program))),
            addresses: Arc::default(),
            stuck: Arc::default(),
        }
    }

    /// How everything is now.
    pub(crate) fn look(&self) -> Readiness {
        let shards = match lock(&self.stuck).as_slice() {
            _ if self.handle.is_stopping() => Some("the program stops".into()),
            _ if !self.handle.is_ready() => Some("the program starts".into()),
            _ if !self.has_claimed() => Some("the addresses of ports are being claimed".into()),
            [] => None,
            stuck => Some(format!(
                "{} does not poll: is it taken by something else, or isolated wrongly?",
                ranges(stuck)
            )),
        };
        let mut health = self.handle.health();
        let mut presence = lock(&self.presence);
        presence.look();
        for (span, store, state) in &mut health.parts {
            if presence.is_gone(store) {
                *state = DeviceState::Gone;
            }
            let mut namespaces = health.namespaces.iter_mut();
            if let Some((_, whole)) = namespaces.find(|(name, _)| name.store == *span) {
                *whole = (*whole).max(*state);
            }
        }
        for (name, state) in &mut health.namespaces {
            if presence.is_gone(&name.store) {
                *state = DeviceState::Gone;
            }
        }
        Readiness {
            addresses: lock(&self.addresses).look(&self.handle.addresses()),
            ..Readiness::new(shards, &health, &self.devices)
        }
    }

    /// Whether every address was claimed once: used since, or somebody else's.
    pub(crate) fn has_claimed(&self) -> bool {
        lock(&self.addresses).have_settled(&self.handle.addresses())
    }

    /// These cores' shards stand still.
    pub(crate) fn set_stuck(&self, cores: Vec<u32>) {
        *lock(&self.stuck) = cores;
    }
}

/// Locks, whatever a panicking holder may have left: these values are whole between calls.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Readiness {
    fn new(shards: Option<String>, health: &Health, devices: &[String]) -> Self {
        let port = |((name, state), device): (&(String, PortState), &String)| Part {
            name: name.clone(),
            wrong: wrong_with_port(*state, device),
        };
        let namespace = |(name, state): &(NamespaceName, DeviceState)| Part {
            name: name.clone(),
            wrong: match worst_part(health, &name.store) {
                Some((store, state)) => {
                    let whole = format!(", a part of `{}`,", name.store);
                    wrong_with_device(state, &format!("`{store}`{whole}"))
                }
                None => wrong_with_device(*state, &format!("`{}`", name.store)),
            },
        };
        let log = |(name, state): &(String, DeviceState)| Part {
            name: name.clone(),
            wrong: wrong_with_log(*state, name),
        };
        Self {
            shards,
            ports: health.ports.iter().zip(devices).map(port).collect(),
            addresses: Vec::new(),
            namespaces: health.namespaces.iter().map(namespace).collect(),
            logs: health.logs.iter().map(log).collect(),
        }
    }

    pub(crate) fn state(&self) -> State {
        fn none_works<T>(parts: &[Part<T>]) -> bool {
            !parts.is_empty() && parts.iter().all(|part| part.wrong.is_some())
        }
        let none_is_used =
            !self.addresses.is_empty() && self.addresses.iter().all(|one| !one.is_used);
        let none = none_works(&self.ports) || none_is_used;
        if self.shards.is_some() || none || none_works(&self.namespaces) {
            State::Unready
        } else if self.wrongs().next().is_some() {
            State::Degraded
        } else {
            State::Ready
        }
    }

    /// What is wrong, a sentence for each part.
    pub(crate) fn reasons(&self) -> Vec<String> {
        let shards = self.shards.iter().cloned();
        shards.chain(self.wrongs().map(|(_, why)| why)).collect()
    }

    /// State and reasons in one line.
    pub(crate) fn line(&self) -> String {
        let reasons = self.reasons();
        match reasons.is_empty() {
            true => self.state().to_string(),
            false => format!("{}: {}", self.state(), reasons.join("; ")),
        }
    }

    /// Whether hosts reach an address, as far as it is a port's.
    pub(crate) fn is_reached(&self, address: IpAddr) -> bool {
        let of_it = self.addresses.iter().find(|one| one.address == address);
        of_it.is_none_or(|one| one.is_used)
    }

    /// Whether a port works, with an address at least.
    pub(crate) fn port_works(&self, port: usize) -> bool {
        let mut own = (self.addresses.iter()).filter(|one| one.port == port);
        let reached = own.clone().any(|one| one.is_used);
        self.ports[port].wrong.is_none() && (reached || own.next().is_none())
    }

    /// Addresses that are wrong, and their sentences.
    fn wrong_addresses(&self) -> impl Iterator<Item = (String, String)> {
        let addresses = (self.addresses.iter()).map(|one| {
            let port = self.ports.get(one.port).map_or("?", |port| &port.name);
            (format!("{} of {port}", one.address), &one.wrong)
        });
        addresses.filter_map(with_sentence)
    }

    /// Ports, namespaces and stores of the log that are wrong, and their sentences.
    fn wrong_devices(&self) -> impl Iterator<Item = (String, String)> {
        let ports = (self.ports.iter()).map(|part| (part.name.clone(), &part.wrong));
        let namespaces = (self.namespaces.iter()).map(|part| {
            let NamespaceName {
                subsystem, nsid, ..
            } = &part.name;
            (format!("namespace {nsid} of {subsystem}"), &part.wrong)
        });
        let logs = (self.logs.iter()).map(|part| (format!("log store {}", part.name), &part.wrong));
        ports
            .chain(namespaces)
            .chain(logs)
            .filter_map(with_sentence)
    }

    /// The parts that are wrong, and their sentences.
    fn wrongs(&self) -> impl Iterator<Item = (String, String)> {
        self.wrong_devices().chain(self.wrong_addresses())
    }

    /// News for the log since `earlier`: ports and namespaces that are wrong now, or otherwise, by
    /// their sentences; and those that are right again, by their names. Addresses are left out: the
    /// engine has a line for each change of one ([`Handle::tend`]), with who has it and since when it is free.
    pub(crate) fn since(&self, earlier: &Self) -> (Vec<String>, Vec<String>) {
        let before: Vec<_> = earlier.wrong_devices().collect();
        let now: Vec<_> = self.wrong_devices().collect();
        let news = now.iter().filter(|wrong| !before.contains(wrong));
        let broken = news.map(|(_, why)| why.clone()).collect();
        let still = |name: &String| now.iter().any(|(known, _)| known == name);
        let mended = before.into_iter().map(|(name, _)| name);
        (broken, mended.filter(|name| !still(name)).collect())
    }
}

fn with_sentence((name, wrong): (String, &Option<String>)) -> Option<(String, String)> {
    let sentence = format!("{name}: {}", wrong.as_ref()?);
    Some((name, sentence))
}

fn wrong_with_port(state: PortState, device: &str) -> Option<String> {
    match state {
        PortState::Up => None,
        PortState::NoLink => Some(format!(
            "{device} has no link: plug in the cable, or see to the other end"
        )),
        PortState::Off => Some(format!("{device} is down: ip link set {device} up")),
        PortState::Gone => Some(format!(
            "{device} is gone: nobody reaches its addresses; it is taken again when there is \
             an interface of that name (`ip link`)"
        )),
    }
}

fn wrong_with_log(state: DeviceState, store: &str) -> Option<String> {
    (state != DeviceState::Works).then(|| {
        format!(
            "`{store}` is out, and the log on the other store alone: see to its drive, and restart throughline"
        )
    })
}

/// Of the stores that a store lies on the one that is worst off, if one does not work.
fn worst_part<'h>(health: &'h Health, store: &str) -> Option<(&'h str, DeviceState)> {
    let parts = health.parts.iter().filter(|(span, ..)| span == store);
    let worst = parts.max_by_key(|(_, _, state)| *state)?;
    (worst.2 != DeviceState::Works).then_some((worst.1.as_str(), worst.2))
}

fn wrong_with_device(state: DeviceState, store: &str) -> Option<String> {
    match state {
        DeviceState::Works => None,
        DeviceState::Failing => Some(format!(
            "the device of store {store} fails whatever it is asked: see `dmesg`, and to the device"
        )),
        DeviceState::Gone => Some(format!(
            "the device of store {store} is gone: put it back, and restart throughline"
        )),
    }
}
