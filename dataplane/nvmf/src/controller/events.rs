//! Asynchronous events: requests parked until there is one to report (base 5.2).

use super::log::lid;
use crate::units::Cid;

/// Requests a host may park, minus one (AERL).
pub(super) const LIMIT: u8 = 3;

/// Notice of the Asynchronous Event Configuration: Namespace Attribute Notices.
pub(super) const NAMESPACE_NOTICES: u32 = 1 << 8;

/// Notice of the Asynchronous Event Configuration: Asymmetric Namespace Access Change Notices.
pub(super) const ACCESS_NOTICES: u32 = 1 << 11;

/// Notice of the Asynchronous Event Configuration: Discovery Log Page Change Notification.
pub(super) const DISCOVERY_NOTICES: u32 = 1 << 31;

/// What the host of a controller is told of by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Notice {
    /// Of an I/O controller: Namespace Attribute Changed.
    Namespaces,
    /// Of an I/O controller whose subsystem reports asymmetric access: Asymmetric Namespace Access Change.
    Access,
    /// Of a discovery controller: Discovery Log Page Change.
    Discovery,
}

impl Notice {
    /// Every notice, in the order in which hosts get them.
    const ALL: [Notice; 3] = [Notice::Namespaces, Notice::Access, Notice::Discovery];

    const fn bit(self) -> u8 {
        1 << self as u8
    }

    /// The bit of OAES that says it may come, and of the Asynchronous Event Configuration that
    /// lets it (base 5.17.2.1, 5.27.1.8).
    pub const fn enable(self) -> u32 {
        match self {
            Notice::Namespaces => NAMESPACE_NOTICES,
            Notice::Access => ACCESS_NOTICES,
            Notice::Discovery => DISCOVERY_NOTICES,
        }
    }

    /// The log page that it is about: reading it lets the next one come.
    pub const fn log(self) -> u8 {
        match self {
            Notice::Namespaces => lid::CHANGED_NAMESPACES,
            Notice::Access => lid::ACCESS,
            Notice::Discovery => lid::DISCOVERY,
        }
    }

    /// Dword 0 of a completion: type Notice, which one, and the log page to read (base 5.2,
    /// Figures 146 and 150).
    pub const fn completion(self) -> u32 {
        let information = match self {
            Notice::Namespaces => 0x00,
            Notice::Access => 0x03,
            Notice::Discovery => 0xf0,
        };
        0x02 | information << 8 | (self.log() as u32) << 16
    }
}

/// Parked requests, and the events that there are for them.
#[derive(Debug)]
pub(crate) struct Events {
    parked: Vec<Cid>,
    /// Notices of something that changed and no event has reported yet: bits by [`Notice::bit`].
    pending: u8,
    /// Those reported, and masked until the host reads the log page.
    masked: u8,
}

impl Events {
    /// No requests, no events; room for as many as may be parked.
    pub(super) fn new() -> Self {
        Self {
            parked: Vec::with_capacity(usize::from(LIMIT) + 1),
            pending: 0,
            masked: 0,
        }
    }

    /// Parks a request; false if there are too many.
    pub fn park(&mut self, cid: Cid) -> bool {
        let room = self.parked.len() <= usize::from(LIMIT);
        if room {
            self.parked.push(cid);
        }
        room
    }

    /// What `notice` is about changed.
    pub fn note_change(&mut self, notice: Notice) {
        self.pending |= notice.bit();
    }

    /// The host read the log page `lid`, perhaps an event's.
    pub fn log_read(&mut self, lid: u8) {
        for notice in Notice::ALL {
            if lid == notice.log() {
                self.masked &= !notice.bit();
                self.pending &= !notice.bit();
            }
        }
    }

    /// A request to complete now, and with what; `config` is the Asynchronous Event
    /// Configuration. It stays until [`Events::reported`].
    pub fn due(&self, config: u32) -> Option<(Cid, Notice)> {
        let due = self.pending & !self.masked;
        if due == 0 {
            return None;
        }
        let is_due = |notice: &Notice| due & notice.bit() != 0 && config & notice.enable() != 0;
        let notice = Notice::ALL.into_iter().find(is_due)?;
        Some((*self.parked.last()?, notice))
    }

    /// The request that was due for `notice` is completed.
    pub fn reported(&mut self, notice: Notice) {
        self.parked.pop();
        self.pending &= !notice.bit();
        self.masked |= notice.bit();
    }

    /// Whether the request `cid` is parked.
    pub fn is_parked(&self, cid: Cid) -> bool {
        self.parked.contains(&cid)
    }

    /// Takes the parked request `cid` back, to be aborted, if there is one.
    pub fn unpark(&mut self, cid: Cid) {
        self.parked.retain(|&parked| parked != cid);
    }

    /// Takes all parked requests back; how many there were.
    pub fn unpark_all(&mut self) -> u16 {
        let count = self.parked.len();
        self.parked.clear();
        count as u16
    }

    /// Forgets every event, as a reset does.
    pub fn reset(&mut self) {
        self.pending = 0;
        self.masked = 0;
    }
}
