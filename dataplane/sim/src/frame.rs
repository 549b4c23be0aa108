//! Frames as a NIC sees them: what it completes in those it sends, and where it
//! steers those that it receives.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use net::TxOffload;

#[derive(Clone, Debug)]
pub(crate) struct Frame {
    pub(crate) bytes: Vec<u8>,
    /// The wire broke it: what a NIC that looks would find.
    pub(crate) is_broken: bool,
}

impl Frame {
    pub(crate) fn new(bytes: Vec<u8>) -> Self {
        Self {
            bytes,
            is_broken: false,
        }
    }

    pub(crate) fn is_arp(&self) -> bool {
        let at = if self.bytes[12..14] == [0x81, 0] {
            16
        } else {
            12
        };
        self.bytes[at..at + 2] == [8, 6]
    }

    /// Source and destination of a TCP segment.
    pub(crate) fn flow(&self) -> Option<(SocketAddr, SocketAddr)> {
        let tagged = *self.bytes.get(12..14)? == [0x81, 0];
        let at = if tagged { 18 } else { 14 };
        let kind = self.bytes.get(at - 2..at)?;
        let ip = self.bytes.get(at..)?;
        let (source, destination, tcp): (IpAddr, IpAddr, &[u8]) = match kind {
            [8, 0] if *ip.get(9)? == 6 => {
                let address = |at: usize| {
                    let bytes: [u8; 4] = ip.get(at..at + 4)?.try_into().ok()?;
                    Some(Ipv4Addr::from(bytes).into())
                };
                let len = usize::from(ip[0] & 0xf) * 4;
                (address(12)?, address(16)?, ip.get(len..)?)
            }
            [0x86, 0xdd] if *ip.get(6)? == 6 => {
                let address = |at: usize| {
                    let bytes: [u8; 16] = ip.get(at..at + 16)?.try_into().ok()?;
                    Some(Ipv6Addr::from(bytes).into())
                };
                (address(8)?, address(24)?, ip.get(40..)?)
            }
            _ => return None,
        };
        let port = |at: usize| Some(u16::from_be_bytes([*tcp.get(at)?, *tcp.get(at + 1)?]));
        Some((
            SocketAddr::new(source, port(0)?),
            SocketAddr::new(destination, port(2)?),
        ))
    }
}

/// Cuts a frame into segments and completes their headers, as far as the stack left
/// that to the NIC; gives each to `out`.
pub(crate) fn complete(
    headers: &[u8],
    payload: &[u8],
    offload: &TxOffload,
    mut out: impl FnMut(Vec<u8>),
) {
    let mss = offload.tso_mss.map_or(payload.len().max(1), usize::from);
    let segments = payload.len().div_ceil(mss).max(1);
    for i in 0..segments {
        let part = &payload[i * mss..payload.len().min((i + 1) * mss)];
        let mut bytes = Vec::with_capacity(headers.len() + part.len());
        bytes.extend_from_slice(headers);
        bytes.extend_from_slice(part);
        if offload.l4_checksum {
            complete_headers(&mut bytes, offload, i * mss, i + 1 == segments, part.len());
        }
        out(bytes);
    }
}

fn complete_headers(bytes: &mut [u8], o: &TxOffload, offset: usize, is_last: bool, len: usize) {
    let l3 = usize::from(o.l2_len);
    let l4 = l3 + usize::from(o.l3_len);
    let segment = usize::from(o.l4_len) + len;
    if o.tso_mss.is_some() {
        let sequence =
            u32::from_be_bytes([bytes[l4 + 4], bytes[l4 + 5], bytes[l4 + 6], bytes[l4 + 7]]);
        let sequence = sequence.wrapping_add(offset as u32);
        bytes[l4 + 4..l4 + 8].copy_from_slice(&sequence.to_be_bytes());
        if !is_last {
            // FIN and PSH are the last segment's.
            bytes[l4 + 13] &= !0x09;
        }
        let (at, total) = match o.ipv6 {
            true => (l3 + 4, segment),
            false => (l3 + 2, segment + usize::from(o.l3_len)),
        };
        bytes[at..at + 2].copy_from_slice(&(total as u16).to_be_bytes());
        // The pseudo-header's sum came without the length.
        let sum = u32::from(u16::from_be_bytes([bytes[l4 + 16], bytes[l4 + 17]]));
        let sum = fold(sum + segment as u32);
        bytes[l4 + 16..l4 + 18].copy_from_slice(&sum.to_be_bytes());
    }
    let sum = !checksum(&bytes[l4..]);
    bytes[l4 + 16..l4 + 18].copy_from_slice(&sum.to_be_bytes());
    if o.ip_checksum || o.tso_mss.is_some() && !o.ipv6 {
        bytes[l3 + 10..l3 + 12].fill(0);
        let sum = !checksum(&bytes[l3..l4]);
        bytes[l3 + 10..l3 + 12].copy_from_slice(&sum.to_be_bytes());
    }
}

/// The Internet checksum (RFC 1071), not inverted.
fn checksum(bytes: &[u8]) -> u16 {
    let (pairs, rest) = bytes.as_chunks::<2>();
    let mut sum: u64 = pairs
        .iter()
        .map(|&pair| u64::from(u16::from_be_bytes(pair)))
        .sum();
    if let [last] = rest {
        sum += u64::from(*last) << 8;
    }
    while sum >> 16 != 0 {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

fn fold(sum: u32) -> u16 {
    ((sum & 0xffff) + (sum >> 16)) as u16
}
