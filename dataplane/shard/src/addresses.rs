//! How the addresses of ports stand, for the control side: what shards say of them, put
//! together, and told to the log when it changes.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};

use net::AddressState;

/// An address of a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PortAddress {
    /// Its port, as a place in [`Inventory::ports`](crate::Inventory::ports).
    pub port: usize,
    /// The address.
    pub address: IpAddr,
    /// How it stands, on the shard where it stands worst.
    pub state: AddressState,
}

/// What shards said last.
#[derive(Default)]
pub(crate) struct Addresses(Mutex<Known>);

#[derive(Default)]
struct Known {
    /// By shard and port.
    said: BTreeMap<(usize, usize), Vec<(IpAddr, AddressState)>>,
    /// What the log was told, by port and address.
    told: BTreeMap<(usize, IpAddr), AddressState>,
}

fn severity(state: AddressState) -> u8 {
    match state {
        AddressState::InUse => 0,
        AddressState::Contested(_) => 1,
        AddressState::Probing => 2,
        AddressState::Taken(_) => 3,
    }
}

impl Known {
    fn all(&self) -> BTreeMap<(usize, IpAddr), AddressState> {
        let mut all = BTreeMap::new();
        for (&(_, port), addresses) in &self.said {
            for &(address, state) in addresses {
                let worst = all.entry((port, address)).or_insert(state);
                if severity(state) > severity(*worst) {
                    *worst = state;
                }
            }
        }
        all
    }
}

impl Addresses {
    /// The addresses of a shard's port stand so now.
    pub(crate) fn say(&self, shard: usize, port: usize, now: Vec<(IpAddr, AddressState)>) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.said.insert((shard, port), now);
    }

    pub(crate) fn all(&self) -> Vec<PortAddress> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let all = known.all().into_iter();
        all.map(|((port, address), state)| PortAddress {
            port,
            address,
            state,
        })
        .collect()
    }

    /// Lines for the log: what is new. `names`, asked for if there is any, are those of the ports.
    pub(crate) fn poll(&self, names: impl FnOnce() -> Vec<String>) -> Vec<(log::Level, String)> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // An attempt at an address that was taken is no news before its end.
        let mut news = known.all();
        news.retain(|key, state| {
            *state != AddressState::Probing && known.told.get(key) != Some(state)
        });
        if news.is_empty() {
            return Vec::new();
        }
        let (names, mut lines) = (names(), Vec::new());
        for (key @ (port, address), state) in news {
            let before = known.told.insert(key, state);
            let port = names.get(port).map_or("?", String::as_str);
            lines.extend(line(port, address, before, state));
        }
        lines
    }
}

fn line(
    port: &str,
    address: IpAddr,
    before: Option<AddressState>,
    state: AddressState,
) -> Option<(log::Level, String)> {
    Some(match (before, state) {
        (_, AddressState::Taken(mac)) => (
            log::Level::Error,
            format!(
                "{port}: {address} is not used, as the station with Ethernet address {mac} \
                 has it: give one of the two another address; it is tried again every minute"
            ),
        ),
        (_, AddressState::Contested(mac)) => (
            log::Level::Error,
            format!(
                "{port}: {address} is also used by the station with Ethernet address {mac}, \
                 and hosts may reach that one: give one of the two another address"
            ),
        ),
        (Some(AddressState::Taken(_)), _) => (
            log::Level::Info,
            format!("{port}: {address} is free now, and in use"),
        ),
        (Some(AddressState::Contested(_)), _) => (
            log::Level::Info,
            format!("{port}: {address} was used by no other station for a minute"),
        ),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use net::MacAddress;

    use super::*;

    const MAC: MacAddress = MacAddress([2, 0, 0, 0, 0x66, 1]);

    #[test]
    fn rfc4862_5_4_5_the_log_is_told_who_has_an_address_once() {
        let (addresses, names) = (Addresses::default(), || vec!["eth0".to_string()]);
        let address: IpAddr = "192.0.2.1".parse().unwrap();
        let say = |shard, state| addresses.say(shard, 0, vec![(address, state)]);
        let state = || addresses.all()[0].state;
        assert!(addresses.all().is_empty(), "nobody has said anything");
        for shard in 0..2 {
            say(shard, AddressState::Probing);
        }
        assert_eq!(addresses.poll(names), []);
        say(0, AddressState::InUse);
        assert_eq!(state(), AddressState::Probing, "not on every shard");
        say(1, AddressState::Taken(MAC));
        assert_eq!(state(), AddressState::Taken(MAC));
        let lines = addresses.poll(names);
        assert_eq!(lines.len(), 1);
        for part in ["eth0", "192.0.2.1", "02:00:00:00:66:01", "another address"] {
            assert!(lines[0].1.contains(part), "{lines:?}");
        }
        // Tried again, and still taken: no news.
        say(1, AddressState::Probing);
        assert_eq!(addresses.poll(names), []);
        say(1, AddressState::Taken(MAC));
        assert_eq!(addresses.poll(names), []);
        say(1, AddressState::InUse);
        assert_eq!(addresses.poll(names)[0].0, log::Level::Info);
        say(0, AddressState::Contested(MAC));
        assert_eq!(addresses.poll(names)[0].0, log::Level::Error);
        assert_eq!(addresses.poll(names), []);
    }
}
