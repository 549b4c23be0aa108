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

/// Whether connections to a listener are encrypted by TLS (TREQ, and SECTYPE of TSAS; NVMe/TCP 3.6.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Tls {
    /// None is.
    #[default]
    Off,
    /// Those of hosts that have a PSK are, and those of others are not.
    Allowed,
    /// All are.
    Required,
}

/// A listener, and how connections to it begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ListenerConfig {
    /// Where it is.
    pub listener: Listener,
    /// Whether connections to it are encrypted.
    pub tls: Tls,
}

impl Tls {
    /// Every way, by its name in configurations.
    pub const ALL: [(&'static str, Tls); 3] = [
        ("off", Tls::Off),
        ("allowed", Tls::Allowed),
        ("required", Tls::Required),
    ];

    /// Its name in configurations.
    pub fn name(self) -> &'static str {
        let mut all = Self::ALL.into_iter();
        all.find(|(_, tls)| *tls == self)
            .map_or("", |(name, _)| name)
    }

    /// The one of that name.
    pub fn of_name(name: &str) -> Option<Self> {
        let mut all = Self::ALL.into_iter();
        all.find(|(known, _)| *known == name).map(|(_, tls)| tls)
    }

    /// Whether a host gets in by it that has a PSK, or that has none.
    pub(crate) fn admits(self, has_psk: bool) -> bool {
        match self {
            Tls::Off => !has_psk,
            Tls::Allowed => true,
            Tls::Required => has_psk,
        }
    }
}

impl ListenerConfig {
    /// Its address and port.
    pub fn address(&self) -> SocketAddr {
        self.listener.into()
    }
}

impl From<SocketAddr> for Listener {
    fn from(address: SocketAddr) -> Self {
        Self {
            address: address.ip(),
            port: address.port(),
        }
    }
}

impl From<Listener> for SocketAddr {
    fn from(listener: Listener) -> Self {
        Self::new(listener.address, listener.port)
    }
}

/// One without TLS.
impl<T: Into<SocketAddr>> From<T> for ListenerConfig {
    fn from(address: T) -> Self {
        let listener = Listener::from(address.into());
        let tls = Tls::Off;
        Self { listener, tls }
    }
}
