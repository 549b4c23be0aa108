//! An interface that goes, and comes back: as another one of its name, with another index and
//! maybe another Ethernet address. Sockets belong to an interface, not to its name; new ones
//! are handed to the shards, which go on with them.

use std::sync::Arc;

use net::MacAddress;
use packet::{Interface, InterfaceState, Receiver, Sender};
use shard::PortState;
use sync::Watched;

use super::open;
use crate::config::PortConfig;

/// A queue pair's sockets.
pub(super) struct Sockets {
    pub(super) receiver: Receiver,
    pub(super) sender: Sender,
}

/// Where a queue pair finds new sockets, and leaves its old ones.
pub(super) type Exchange = Watched<Exchanged>;

#[derive(Default)]
pub(super) struct Exchanged {
    /// Of another interface, with its Ethernet address.
    pub(super) new: Option<(Sockets, MacAddress)>,
    /// To be closed, which takes a while, by who offered the new ones.
    pub(super) old: Option<Sockets>,
}

/// What looks at an interface.
pub(crate) struct Watch {
    config: PortConfig,
    /// The interface that the sockets are bound to, while it is there.
    interface: Option<Interface>,
    exchanges: Vec<Arc<Exchange>>,
    /// Why it was not taken again, said once.
    said: Option<String>,
}

impl Watch {
    pub(super) fn new(
        config: PortConfig,
        interface: Interface,
        exchanges: Vec<Arc<Exchange>>,
    ) -> Self {
        Self {
            config,
            interface: Some(interface),
            exchanges,
            said: None,
        }
    }

    /// How the port is; takes its interface again if it is back.
    pub(crate) fn look(&mut self) -> PortState {
        for exchange in &self.exchanges {
            let old = exchange.lock().old.take();
            drop(old);
        }
        if let Some(interface) = &self.interface {
            match interface.state() {
                InterfaceState::Gone => self.interface = None,
                state => return port_state(state),
            }
        }
        let Ok(interface) = Interface::find(&self.config.device) else {
            self.said = None;
            return PortState::Gone;
        };
        let state = interface.state();
        // Sockets of an interface that is off join no group (PACKET_FANOUT).
        if matches!(state, InterfaceState::Off | InterfaceState::Gone) {
            return port_state(state);
        }
        if let Err(why) = self.take(&interface) {
            if self.said.as_ref() != Some(&why) {
                log::error!("{why}; trying again");
                self.said = Some(why);
            }
            return PortState::Gone;
        }
        self.said = None;
        self.interface = Some(interface);
        port_state(state)
    }

    /// Opens sockets on the interface, as at the start, and hands them to the shards.
    fn take(&self, interface: &Interface) -> Result<(), String> {
        let (sockets, mac) = open(&self.config, interface, self.exchanges.len())
            .map_err(|error| format!("{} is back, but: {error}", self.config.device))?;
        for (exchange, sockets) in self.exchanges.iter().zip(sockets) {
            let mut offered = exchange.lock();
            offered.new = Some((sockets, mac));
            exchange.publish(&offered, exchange.number() + 1);
        }
        Ok(())
    }
}

fn port_state(interface: InterfaceState) -> PortState {
    match interface {
        InterfaceState::Up => PortState::Up,
        InterfaceState::NoLink => PortState::NoLink,
        InterfaceState::Off => PortState::Off,
        InterfaceState::Gone => PortState::Gone,
    }
}
