//! Addresses of ports: hosts do not reach one, or not always, that another station has.

use std::collections::BTreeMap;
use std::net::IpAddr;

use engine::{AddressState, PortAddress};

use super::Address;

/// What is known of addresses besides how they stand now.
#[derive(Debug, Default)]
pub(super) struct Addresses {
    /// What was said of those that were taken when they were tried last.
    taken: BTreeMap<(usize, IpAddr), String>,
    settled: bool,
}

impl Addresses {
    /// Whether each was claimed once.
    pub(super) fn have_settled(&mut self, now: &[PortAddress]) -> bool {
        let probing = |one: &PortAddress| one.state == AddressState::Probing;
        self.settled |= !now.is_empty() && !now.iter().any(probing);
        self.settled
    }

    /// How each is.
    pub(super) fn look(&mut self, now: &[PortAddress]) -> Vec<Address> {
        let one = |one: &PortAddress| Address {
            port: one.port,
            address: one.address,
            is_used: matches!(one.state, AddressState::InUse | AddressState::Contested(_)),
            wrong: self.wrong_with((one.port, one.address), one.state),
        };
        now.iter().map(one).collect()
    }

    fn wrong_with(&mut self, name: (usize, IpAddr), state: AddressState) -> Option<String> {
        let remedy = "give one of the two another address";
        if let AddressState::Taken(mac) = state {
            let why = format!("not used, the station {mac} has it: {remedy}");
            self.taken.insert(name, why.clone());
            return Some(why);
        }
        // An attempt at one that was taken is no news before its end.
        if state == AddressState::Probing {
            let why = self.taken.get(&name).cloned();
            return why.or_else(|| Some("being claimed".into()));
        }
        self.taken.remove(&name);
        match state {
            AddressState::Contested(mac) => {
                Some(format!("the station {mac} uses it too: {remedy}"))
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use engine::MacAddress;

    use super::*;

    #[test]
    fn k06_an_address_that_somebody_else_has_is_wrong_until_it_is_ours() {
        let mut addresses = Addresses::default();
        let mac = MacAddress([2, 0, 0, 0, 0x66, 1]);
        let one = |state| {
            [PortAddress {
                port: 1,
                address: "192.0.2.1".parse().unwrap(),
                state,
            }]
        };
        assert!(!addresses.have_settled(&[]), "no shard has said anything");
        assert!(!addresses.have_settled(&one(AddressState::Probing)));
        let taken = addresses.look(&one(AddressState::Taken(mac)));
        let why = taken[0].wrong.as_deref().unwrap();
        assert!(
            why.starts_with("not used, the station 02:00:00:00:66:01 has it"),
            "{why}"
        );
        assert!(addresses.have_settled(&one(AddressState::Taken(mac))));
        // Tried again every minute.
        assert!(addresses.have_settled(&one(AddressState::Probing)));
        assert_eq!(addresses.look(&one(AddressState::Probing)), taken);
        let contested = addresses.look(&one(AddressState::Contested(mac)));
        assert!(contested[0].wrong.is_some() && contested[0].is_used && !taken[0].is_used);
        assert!(addresses.look(&one(AddressState::InUse))[0].wrong.is_none());
    }
}
