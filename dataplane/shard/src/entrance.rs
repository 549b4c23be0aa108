//! Where connections come in.

use std::net::SocketAddr;

use nvmf::{ListenerConfig, Tls};

use crate::door::DoorKind;

/// Where connections come in, how they begin, and what they speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Entrance {
    /// The address.
    pub address: SocketAddr,
    /// What is spoken there.
    pub door: DoorKind,
    /// Whether it is encrypted.
    pub tls: Tls,
}

impl From<ListenerConfig> for Entrance {
    /// One of NVMe over TCP.
    fn from(listener: ListenerConfig) -> Self {
        Self {
            address: listener.address(),
            door: DoorKind::Nvme,
            tls: listener.tls,
        }
    }
}

impl Entrance {
    /// Where other nodes come in, which may be several: `tls` says of each whether its link is encrypted.
    pub fn of_nodes(address: SocketAddr, tls: impl IntoIterator<Item = bool>) -> Self {
        let (mut has_tls, mut has_clear) = (false, false);
        for tls in tls {
            has_tls |= tls;
            has_clear |= !tls;
        }
        let tls = match (has_tls, has_clear) {
            (true, false) => Tls::Required,
            (true, true) => Tls::Allowed,
            (false, _) => Tls::Off,
        };
        let door = DoorKind::Mirror;
        Self { address, door, tls }
    }
}

impl From<(SocketAddr, DoorKind)> for Entrance {
    /// One without TLS.
    fn from((address, door): (SocketAddr, DoorKind)) -> Self {
        let tls = Tls::Off;
        Self { address, door, tls }
    }
}
