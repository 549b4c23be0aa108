//! Receive-side scaling: which queue a port steers a flow to.
//!
//! A connection never crosses shards. For a connection that the stack opens,
//! it picks a local port whose *return* flow the port will steer to the
//! shard's own queue; this is the computation the NIC does.

use std::net::{IpAddr, SocketAddr};

/// A Toeplitz key that gives both directions of a flow the same hash
/// (Woo and Park, "Scalable TCP session monitoring with symmetric RSS").
pub const SYMMETRIC_KEY: [u8; 40] = {
    let mut key = [0; 40];
    let mut i = 0;
    while i < 40 {
        key[i] = if i % 2 == 0 { 0x6d } else { 0x5a };
        i += 1;
    }
    key
};

/// One of a port's queues.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct QueueIndex(pub u16);

impl QueueIndex {
    /// As a place in a list.
    #[inline]
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

/// How a port spreads flows over its queues.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Steering {
    /// The Toeplitz key the port was given.
    pub key: [u8; 40],
    /// The redirection table: queue by low bits of the hash. Its length is a power of two.
    pub table: Vec<QueueIndex>,
    /// The queue of this shard.
    pub queue: QueueIndex,
}

impl Steering {
    /// The queue that a frame from `source` to `destination` arrives in.
    pub fn queue_of(&self, source: SocketAddr, destination: SocketAddr) -> QueueIndex {
        let hash = toeplitz_tcp(&self.key, source, destination);
        self.table[hash as usize & (self.table.len() - 1)]
    }

    pub(crate) fn is_valid(&self) -> bool {
        self.table.len().is_power_of_two() && self.table.contains(&self.queue)
    }
}

/// The RSS hash of a TCP segment from `source` to `destination`, as NICs
/// compute it over addresses and ports (source first, network order).
pub fn toeplitz_tcp(key: &[u8; 40], source: SocketAddr, destination: SocketAddr) -> u32 {
    let mut input = [0; 36];
    let mut len = 0;
    let mut put = |bytes: &[u8]| {
        input[len..len + bytes.len()].copy_from_slice(bytes);
        len += bytes.len();
    };
    for address in [source.ip(), destination.ip()] {
        match address {
            IpAddr::V4(a) => put(&a.octets()),
            IpAddr::V6(a) => put(&a.octets()),
        }
    }
    put(&source.port().to_be_bytes());
    put(&destination.port().to_be_bytes());
    toeplitz(key, &input[..len])
}

fn toeplitz(key: &[u8; 40], input: &[u8]) -> u32 {
    let mut window = u32::from_be_bytes([key[0], key[1], key[2], key[3]]);
    let mut hash = 0;
    for (i, &byte) in input.iter().enumerate() {
        for bit in 0..8 {
            if byte & (0x80 >> bit) != 0 {
                hash ^= window;
            }
            let next = key[(i + 4) % 40] >> (7 - bit) & 1;
            window = window << 1 | u32::from(next);
        }
    }
    hash
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The verification suite of Microsoft's RSS specification.
    const KEY: [u8; 40] = [
        0x6d, 0x5a, 0x56, 0xda, 0x25, 0x5b, 0x0e, 0xc2, 0x41, 0x67, 0x25, 0x3d, 0x43, 0xa3, 0x8f,
        0xb0, 0xd0, 0xca, 0x2b, 0xcb, 0xae, 0x7b, 0x30, 0xb4, 0x77, 0xcb, 0x2d, 0xa3, 0x80, 0x30,
        0xf2, 0x0c, 0x6a, 0x42, 0xb7, 0x3b, 0xbe, 0xac, 0x01, 0xfa,
    ];

    fn at(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[test]
    fn hashes_are_those_of_the_specification() {
        let hash = |from: &str, to: &str| toeplitz_tcp(&KEY, at(from), at(to));
        assert_eq!(hash("66.9.149.187:2794", "161.142.100.80:1766"), 0x51ccc178);
        assert_eq!(hash("199.92.111.2:14230", "65.69.140.83:4739"), 0xc626b0ea);
        assert_eq!(
            hash("[3ffe:2501:200:1fff::7]:2794", "[3ffe:2501:200:3::1]:1766"),
            0x40207d3d
        );
    }

    #[test]
    fn the_symmetric_key_is_symmetric() {
        let (a, b) = (at("192.0.2.1:4420"), at("198.51.100.7:51234"));
        assert_eq!(
            toeplitz_tcp(&SYMMETRIC_KEY, a, b),
            toeplitz_tcp(&SYMMETRIC_KEY, b, a)
        );
        let (a, b) = (at("[2001:db8::1]:4420"), at("[2001:db8::2]:51234"));
        assert_eq!(
            toeplitz_tcp(&SYMMETRIC_KEY, a, b),
            toeplitz_tcp(&SYMMETRIC_KEY, b, a)
        );
    }
}
