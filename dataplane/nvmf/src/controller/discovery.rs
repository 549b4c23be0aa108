//! The discovery log page (base 5.16.1.23).

use std::net::IpAddr;

use std::hash::{DefaultHasher, Hash, Hasher};

use super::window::Window;
use crate::config::ADMIN_QUEUE_DEPTH;
use crate::listener::{Listener, ListenerConfig};
use crate::subsystem::{Subsystem, Subsystems};
use crate::units::Cntlid;

/// Length of the header, and of each entry, in bytes.
const ENTRY_LEN: u64 = 1024;

/// TRTYPE: TCP.
const TRTYPE_TCP: u8 = 3;
/// SUBTYPE: NVM subsystem.
const SUBTYPE_NVM: u8 = 2;
/// TREQ: SQ flow control may be disabled (2), and a secure channel is required (1:0 = 01b) or is not (10b).
const TREQ_SECURE: u8 = 0b101;
const TREQ_CLEAR: u8 = 0b110;
/// SECTYPE of TSAS: TLS 1.3 (NVMe/TCP 3.6.1, Figure 7); 0 is none.
const SECTYPE_TLS13: u8 = 2;

/// Where a subsystem is: here, and where other nodes show it.
fn addresses<'a>(
    subsystems: &'a Subsystems,
    subsystem: &'a Subsystem,
) -> impl Iterator<Item = &'a ListenerConfig> {
    (subsystems.listeners().iter()).chain(&subsystem.config.peers)
}

/// Those of them that `host` gets in by, with their places among all, and whether it needs TLS for that: a host with a PSK always
/// does, one without has none.
fn entrances<'a>(
    subsystems: &'a Subsystems,
    subsystem: &'a Subsystem,
    host: &str,
) -> impl Iterator<Item = (usize, &'a Listener, bool)> {
    let is_secure = subsystem.has_psk(host);
    (addresses(subsystems, subsystem).enumerate())
        .filter(move |(_, known)| known.tls.admits(is_secure))
        .map(move |(place, known)| (place, &known.listener, is_secure))
}

/// PORTID of the `place`th of a subsystem's addresses, from 1. Where another node shows it too, it is the address's
/// place among all when they are sorted, which is the same on that node.
fn port_id(
    subsystems: &Subsystems,
    subsystem: &Subsystem,
    place: usize,
    listener: &Listener,
) -> u16 {
    let before = match subsystem.config.peers.is_empty() {
        true => place,
        false => addresses(subsystems, subsystem)
            .filter(|other| other.listener < *listener)
            .count(),
    };
    (before as u16).wrapping_add(1)
}

/// Bytes of the log for `host`.
pub(super) fn len(subsystems: &Subsystems, host: &str) -> u64 {
    let records = |subsystem| entrances(subsystems, subsystem, host).count() as u64;
    let records = subsystems.allowed(host).map(records);
    ENTRY_LEN * (1 + records.sum::<u64>())
}

/// Writes the part of the log for `host` that `w` shows.
pub(super) fn fill(subsystems: &Subsystems, host: &str, w: &mut Window<'_>) {
    let mut records = 0;
    for subsystem in subsystems.allowed(host) {
        for (place, listener, is_secure) in entrances(subsystems, subsystem, host) {
            records += 1;
            let at = ENTRY_LEN * records;
            if w.sees(at, ENTRY_LEN) {
                let port = port_id(subsystems, subsystem, place, listener);
                entry(port, listener, is_secure, &subsystem.config.nqn, at, w);
            }
        }
    }
    // GENCTR: another one whenever the log may say something else.
    w.put(0, subsystems.generation().to_le_bytes());
    // NUMREC; RECFMT is 0.
    w.put(8, records.to_le_bytes());
}

/// A log as a host could read it at some time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Seen {
    generation: u64,
    /// Of what its entries are made from.
    digest: u64,
}

impl Seen {
    /// The log for `host` now.
    pub fn new(subsystems: &Subsystems, host: &str) -> Self {
        let mut digest = DefaultHasher::new();
        for subsystem in subsystems.allowed(host) {
            subsystem.config.nqn.hash(&mut digest);
            subsystem.config.peers.hash(&mut digest);
            subsystem.has_psk(host).hash(&mut digest);
        }
        subsystems.listeners().hash(&mut digest);
        Self {
            generation: subsystems.generation(),
            digest: digest.finish(),
        }
    }

    /// Looks again; whether `host` would read something else. A change that concerns other hosts
    /// alone moves GENCTR, which is the log's, and is no event for this one.
    pub fn refresh(&mut self, subsystems: &Subsystems, host: &str) -> bool {
        if self.generation == subsystems.generation() {
            return false;
        }
        let before = std::mem::replace(self, Self::new(subsystems, host));
        before.digest != self.digest
    }
}

/// Discovery Log Page Entry (Figure 254) at `at`.
fn entry(port: u16, listener: &Listener, is_secure: bool, nqn: &str, at: u64, w: &mut Window<'_>) {
    let adrfam = match listener.address {
        IpAddr::V4(_) => 1,
        IpAddr::V6(_) => 2,
    };
    let (treq, sectype) = match is_secure {
        true => (TREQ_SECURE, SECTYPE_TLS13),
        false => (TREQ_CLEAR, 0),
    };
    w.put(at, [TRTYPE_TCP, adrfam, SUBTYPE_NVM, treq]);
    // PORTID; CNTLID: dynamic controllers; ASQSZ.
    w.put(at + 4, port.to_le_bytes());
    w.put(at + 6, Cntlid::DYNAMIC.0.to_le_bytes());
    w.put(at + 8, ADMIN_QUEUE_DEPTH.to_le_bytes());
    let mut text = Text {
        bytes: [0; 64],
        len: 0,
    };
    w.put_text(
        at + 32,
        32,
        text.of(format_args!("{}", listener.port)),
        b' ',
    );
    w.put_text(at + 256, 256, nqn, 0);
    w.put_text(
        at + 512,
        256,
        text.of(format_args!("{}", listener.address)),
        b' ',
    );
    // TSAS.
    w.put(at + 768, [sectype]);
}

/// A few characters on the stack: an address or a port.
struct Text {
    bytes: [u8; 64],
    len: usize,
}

impl Text {
    fn of(&mut self, arguments: std::fmt::Arguments<'_>) -> &str {
        self.len = 0;
        // The longest IPv6 address has 45 characters: it fits.
        let _ = std::fmt::Write::write_fmt(self, arguments);
        str::from_utf8(&self.bytes[..self.len]).unwrap_or_default()
    }
}

impl std::fmt::Write for Text {
    fn write_str(&mut self, s: &str) -> std::fmt::Result {
        let room = self.bytes.get_mut(self.len..self.len + s.len());
        room.ok_or(std::fmt::Error)?.copy_from_slice(s.as_bytes());
        self.len += s.len();
        Ok(())
    }
}
