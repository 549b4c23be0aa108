//! Where hosts reach the target.

use std::net::{IpAddr, SocketAddr};

/// An address where hosts reach the target: the discovery log advertises it for every subsystem.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Listener {
    /// Address (TRADDR, ADRFAM).
    pub address: IpAddr,
    /// TCP port (TRSVCID).
    pub port: u16,
}

impl From<SocketAddr> for Listener {
    fn from(address: SocketAddr) -> Self {
        Self {
            address: address.ip(),
            port: address.port(),
        }
    }
}
