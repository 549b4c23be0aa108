//! What each shard does of a change, as words of the ring that it crosses.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use block::{NamespaceIndex, VolumeId, WritePolicy};

use crate::door::DoorKind;

/// Words of a step, and of its answer.
pub(crate) const WORDS: usize = 3;

/// One step of a change, to be made by every shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// A volume is one more namespace.
    AddNamespace {
        index: NamespaceIndex,
        volume: VolumeId,
        policy: WritePolicy,
    },
    /// A namespace takes no more requests; done when it has none.
    CloseNamespace(NamespaceIndex),
    /// What is dirty of a volume is written; done when it is.
    FlushVolume(VolumeId),
    /// A closed namespace is no more.
    RemoveNamespace(NamespaceIndex),
    /// A volume's device has another size.
    Resize(VolumeId),
    /// Listens at an address.
    Listen(SocketAddr, DoorKind),
    /// Listens there no more.
    Unlisten(SocketAddr),
}

/// How a shard answers a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// It is made.
    Done,
    /// It cannot be made; the log says why.
    Refused,
}

const ADD: u64 = 0;
const CLOSE: u64 = 1;
const FLUSH: u64 = 2;
const REMOVE: u64 = 3;
const RESIZE: u64 = 4;
const LISTEN: u64 = 5;
const UNLISTEN: u64 = 6;
/// Of an address: it is one of IPv6.
const V6: u64 = 1 << 8;
/// Of a namespace: writes go back.
const BACK: u64 = 1 << 8;

impl Step {
    /// The kind is in bits 0 to 7 of the first word, a flag in bit 8, a port or a
    /// volume in bits 16 to 31, the namespace in bits 32 to 63; an address is in the others.
    pub(crate) fn into_words(self) -> [u64; WORDS] {
        let volume = |volume: VolumeId| u64::from(volume.0) << 16;
        let index = |index: NamespaceIndex| u64::from(index.0) << 32;
        let address = |kind: u64, address: SocketAddr| {
            let (flag, ip) = match address.ip() {
                IpAddr::V4(ip) => (0, ip.to_ipv6_mapped()),
                IpAddr::V6(ip) => (V6, ip),
            };
            let bits = ip.to_bits();
            let head = kind | flag | u64::from(address.port()) << 16;
            [head, (bits >> 64) as u64, bits as u64]
        };
        match self {
            Step::AddNamespace {
                index: namespace,
                volume: of,
                policy,
            } => {
                let back = if policy == WritePolicy::Back { BACK } else { 0 };
                [ADD | back | volume(of) | index(namespace), 0, 0]
            }
            Step::CloseNamespace(namespace) => [CLOSE | index(namespace), 0, 0],
            Step::FlushVolume(of) => [FLUSH | volume(of), 0, 0],
            Step::RemoveNamespace(namespace) => [REMOVE | index(namespace), 0, 0],
            Step::Resize(of) => [RESIZE | volume(of), 0, 0],
            Step::Listen(at, DoorKind::Nvme) => address(LISTEN, at),
            #[cfg(test)]
            Step::Listen(_, DoorKind::Echo) => unreachable!("tests listen by themselves"),
            Step::Unlisten(at) => address(UNLISTEN, at),
        }
    }

    /// The step whose words these are.
    pub(crate) fn from_words([head, high, low]: [u64; WORDS]) -> Self {
        let volume = VolumeId((head >> 16) as u16);
        let index = NamespaceIndex((head >> 32) as u32);
        let address = || {
            let ip = Ipv6Addr::from_bits(u128::from(high) << 64 | u128::from(low));
            let ip = match head & V6 {
                0 => ip.to_ipv4_mapped().map_or(IpAddr::V6(ip), IpAddr::V4),
                _ => IpAddr::V6(ip),
            };
            SocketAddr::new(ip, (head >> 16) as u16)
        };
        match head & 0xff {
            ADD => Step::AddNamespace {
                index,
                volume,
                policy: match head & BACK {
                    0 => WritePolicy::Through,
                    _ => WritePolicy::Back,
                },
            },
            CLOSE => Step::CloseNamespace(index),
            FLUSH => Step::FlushVolume(volume),
            REMOVE => Step::RemoveNamespace(index),
            RESIZE => Step::Resize(volume),
            LISTEN => Step::Listen(address(), DoorKind::Nvme),
            _ => Step::Unlisten(address()),
        }
    }
}

impl Answer {
    pub(crate) fn into_words(self) -> [u64; WORDS] {
        [u64::from(self == Answer::Refused), 0, 0]
    }

    pub(crate) fn from_words([word, ..]: [u64; WORDS]) -> Self {
        match word {
            0 => Answer::Done,
            _ => Answer::Refused,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_and_answers_come_through_as_they_were_sent() {
        let (index, volume) = (NamespaceIndex(0xfedc_ba98), VolumeId(0x7654));
        let addresses = [
            "192.0.2.1:4420",
            "[2001:db8::1]:8009",
            "[::ffff:c000:201]:1",
        ];
        let addresses = addresses.map(|text| text.parse().unwrap());
        let policies = [WritePolicy::Through, WritePolicy::Back];
        let steps = [
            Step::CloseNamespace(index),
            Step::FlushVolume(volume),
            Step::RemoveNamespace(index),
            Step::Resize(volume),
        ]
        .into_iter()
        .chain(policies.map(|policy| Step::AddNamespace {
            index,
            volume,
            policy,
        }))
        .chain(addresses.map(|at| Step::Listen(at, DoorKind::Nvme)))
        .chain(addresses.map(Step::Unlisten));
        for step in steps {
            assert_eq!(Step::from_words(step.into_words()), step);
        }
        for answer in [Answer::Done, Answer::Refused] {
            assert_eq!(Answer::from_words(answer.into_words()), answer);
        }
    }
}
