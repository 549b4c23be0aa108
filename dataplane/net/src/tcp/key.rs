//! What names a connection on the wire.

use std::net::{IpAddr, SocketAddr};

use crate::util::siphash::SipKey;

/// Both ends of a connection; IPv4 addresses mapped into IPv6 for comparing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FlowKey {
    remote: u128,
    local: u128,
    ports: u32,
}

const V4: u128 = 0xffff << 32;

fn map(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => V4 | u128::from(u32::from(address)),
        IpAddr::V6(address) => u128::from(address),
    }
}

fn unmap(bits: u128) -> IpAddr {
    if bits >> 32 == 0xffff {
        IpAddr::V4((bits as u32).into())
    } else {
        IpAddr::V6(bits.into())
    }
}

impl FlowKey {
    pub(crate) const NONE: FlowKey = FlowKey {
        remote: 0,
        local: 0,
        ports: 0,
    };

    #[inline]
    pub(crate) fn new(local: IpAddr, local_port: u16, remote: IpAddr, remote_port: u16) -> Self {
        Self {
            remote: map(remote),
            local: map(local),
            ports: u32::from(local_port) << 16 | u32::from(remote_port),
        }
    }

    /// Of addresses and ports as the headers of an IPv4 packet have them, the peer's first.
    #[inline]
    pub(crate) fn of_v4(addresses: u64, ports: u32) -> Self {
        Self {
            remote: V4 | u128::from(addresses >> 32),
            local: V4 | u128::from(addresses & 0xffff_ffff),
            ports: ports.rotate_left(16),
        }
    }

    pub(crate) fn of(local: SocketAddr, remote: SocketAddr) -> Self {
        Self::new(local.ip(), local.port(), remote.ip(), remote.port())
    }

    pub(crate) fn local(&self) -> SocketAddr {
        SocketAddr::new(unmap(self.local), (self.ports >> 16) as u16)
    }

    pub(crate) fn remote(&self) -> SocketAddr {
        SocketAddr::new(unmap(self.remote), self.ports as u16)
    }

    pub(crate) fn local_port(&self) -> u16 {
        (self.ports >> 16) as u16
    }

    pub(crate) fn remote_port(&self) -> u16 {
        self.ports as u16
    }

    pub(crate) fn is_v4(&self) -> bool {
        self.remote >> 32 == 0xffff
    }

    /// Both addresses of an IPv4 flow, the peer's first, as its packets have them.
    #[inline]
    pub(crate) fn v4_addresses(&self) -> Option<u64> {
        self.is_v4()
            .then_some((self.remote as u64) << 32 | self.local as u64 & 0xffff_ffff)
    }

    /// Whether these are the addresses in the packets of an IPv6 flow: the peer's, then ours.
    pub(crate) fn is_between_v6(&self, addresses: &[u8]) -> bool {
        addresses.len() == 32
            && addresses[..16] == self.remote.to_be_bytes()
            && addresses[16..] == self.local.to_be_bytes()
    }

    /// Both ports, the peer's first, as its segments have them.
    #[inline]
    pub(crate) fn wire_ports(&self) -> u32 {
        self.ports.rotate_left(16)
    }

    /// Both ports, ours first, as our segments have them.
    #[inline]
    pub(crate) fn own_ports(&self) -> u32 {
        self.ports
    }

    fn words(&self) -> [u64; 5] {
        [
            (self.remote >> 64) as u64,
            self.remote as u64,
            (self.local >> 64) as u64,
            self.local as u64,
            u64::from(self.ports),
        ]
    }

    /// For tables: IPv4 takes two words.
    #[inline]
    pub(crate) fn hash(&self, key: SipKey) -> u64 {
        match self.v4_addresses() {
            Some(addresses) => key.quick(&[addresses, u64::from(self.ports)]),
            None => key.quick(&self.words()),
        }
    }

    /// Where a peer sees (part of) the result; `extra` is hashed with it.
    pub(crate) fn secret(&self, key: SipKey, extra: u64) -> u64 {
        let [a, b, c, d, e] = self.words();
        key.strong(&[a, b, c, d, e, extra])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ends_come_back() {
        let v4 = FlowKey::of(
            "192.0.2.1:4420".parse().unwrap(),
            "198.51.100.2:50000".parse().unwrap(),
        );
        let again = v4
            .v4_addresses()
            .map(|a| FlowKey::of_v4(a, v4.wire_ports()));
        assert_eq!(again, Some(v4), "as a packet has them");
        for (local, remote) in [
            ("192.0.2.1:4420", "198.51.100.2:50000"),
            ("[2001:db8::1]:80", "[2001:db8::2]:1"),
        ] {
            let (local, remote) = (local.parse().unwrap(), remote.parse().unwrap());
            let key = FlowKey::of(local, remote);
            assert_eq!((key.local(), key.remote()), (local, remote));
        }
    }
}
