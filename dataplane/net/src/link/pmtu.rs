//! What is known of paths whose MTU is below the link's (RFC 1191, RFC 8201).

use std::net::IpAddr;
use std::time::Duration;

use crate::time::Instant;

/// RFC 1191, 6.3 and RFC 8201, 5.3: after ten minutes a larger size may be tried again.
pub(crate) const LIFETIME: Duration = Duration::from_secs(600);
/// Where paths narrower than this exist, TCP still works with segments of this size (RFC 791: 576).
pub(crate) const IPV4_MIN: usize = 576;
/// RFC 8200, section 5: no IPv6 link is narrower.
pub(crate) const IPV6_MIN: usize = 1280;

const PATHS: usize = 64;

#[derive(Clone, Copy)]
struct Path {
    remote: IpAddr,
    mtu: u16,
    expires: Instant,
}

/// The narrow paths seen lately; the oldest gives way.
pub(crate) struct PathMtus {
    paths: [Option<Path>; PATHS],
    next: usize,
}

impl PathMtus {
    pub(crate) fn new() -> Self {
        Self {
            paths: [None; PATHS],
            next: 0,
        }
    }

    /// The MTU to `remote`, if it is known to be below the link's.
    pub(crate) fn get(&self, remote: IpAddr, now: Instant) -> Option<usize> {
        let path = self.paths.iter().flatten();
        path.filter(|path| path.remote == remote && path.expires > now)
            .map(|path| path.mtu as usize)
            .next()
    }

    pub(crate) fn learn(&mut self, remote: IpAddr, mtu: usize, now: Instant) {
        let known = self
            .paths
            .iter()
            .position(|path| path.is_some_and(|path| path.remote == remote));
        let at = known.unwrap_or_else(|| {
            self.next = (self.next + 1) % PATHS;
            self.next
        });
        self.paths[at] = Some(Path {
            remote,
            mtu: mtu as u16,
            expires: now + LIFETIME,
        });
    }
}

/// The MTU that a "too big" of `told` means for a packet of `sent` bytes, or
/// `None` if it makes no sense. Routers older than RFC 1191 tell zero: then
/// the next lower plateau of its section 7.1.
pub(crate) fn lowered(told: usize, sent: usize, ipv6: bool) -> Option<usize> {
    const PLATEAUS: [usize; 8] = [32000, 17914, 8166, 4352, 2002, 1492, 1006, 576];
    let least = if ipv6 { IPV6_MIN } else { IPV4_MIN };
    let mtu = match told {
        0 if !ipv6 => *PLATEAUS.iter().find(|&&plateau| plateau < sent)?,
        told => told.max(least),
    };
    (mtu < sent).then_some(mtu)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc1191_7_1_old_routers_tell_nothing() {
        assert_eq!(lowered(0, 1500, false), Some(1492));
        assert_eq!(lowered(0, 9000, false), Some(8166));
        assert_eq!(lowered(0, 1500, true), Some(IPV6_MIN));
    }

    #[test]
    fn nonsense_lowers_nothing_and_no_path_is_below_the_least() {
        assert_eq!(lowered(1500, 1500, false), None);
        assert_eq!(lowered(9000, 1500, false), None);
        assert_eq!(lowered(68, 1500, false), Some(IPV4_MIN));
        assert_eq!(lowered(68, 1500, true), Some(IPV6_MIN));
    }

    #[test]
    fn rfc8201_5_3_knowledge_expires() {
        let mut paths = PathMtus::new();
        let remote: IpAddr = "2001:db8::9".parse().unwrap();
        paths.learn(remote, 1400, Instant::ZERO);
        assert_eq!(paths.get(remote, Instant::from_millis(1)), Some(1400));
        assert_eq!(paths.get(remote, Instant::ZERO + LIFETIME), None);
    }
}
