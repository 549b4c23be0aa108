//! The station: our place on the link, which may become another one.

use crate::address::MacAddress;
use crate::stack::Stack;
use crate::time::Instant;

/// An Ethernet address as a number.
pub(super) fn number(mac: MacAddress) -> u64 {
    (mac.0.iter()).fold(0, |sum, &byte| sum << 8 | u64::from(byte))
}

impl Stack {
    /// The port's device is another one from now on, with this Ethernet address, maybe the
    /// same: the link it is on may know nothing of us. Our addresses are claimed there anew
    /// (RFC 4862, 5.4; RFC 5227, 2.1: whenever an interface becomes active), which also tells
    /// whoever knows us by another Ethernet address. Connections go on.
    pub fn set_mac_address(&mut self, now: Instant, mac: MacAddress) {
        self.config.mac = mac;
        self.interface.mac = mac;
        self.station = number(mac);
        self.train.stop();
        for connection in self.connections.iter_mut() {
            connection.headers.set_source(mac);
        }
        self.claims.begun = false;
        self.begin(now);
    }
}
