//! Asynchronous events: requests parked until there is one to report (base 5.2).

use super::log::lid;
use crate::units::Cid;

/// Requests a host may park, minus one (AERL).
pub(super) const LIMIT: u8 = 3;

/// Notice of the Asynchronous Event Configuration: Namespace Attribute Notices.
pub(super) const NAMESPACE_NOTICES: u32 = 1 << 8;

/// Notice of the Asynchronous Event Configuration: Discovery Log Page Change Notification.
pub(super) const DISCOVERY_NOTICES: u32 = 1 << 31;

/// What the host of a controller is told of by itself; each kind of controller has one such notice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Notice {
    /// Of an I/O controller: Namespace Attribute Changed.
    Namespaces,
    /// Of a discovery controller: Discovery Log Page Change.
    Discovery,
}

impl Notice {
    /// The bit of OAES that says it may come, and of the Asynchronous Event Configuration that
    /// lets it (base 5.17.2.1, 5.27.1.8).
    pub const fn enable(self) -> u32 {
        match self {
            Notice::Namespaces => NAMESPACE_NOTICES,
            Notice::Discovery => DISCOVERY_NOTICES,
        }
    }

    /// The log page that it is about: reading it lets the next one come.
    pub const fn log(self) -> u8 {
        match self {
            Notice::Namespaces => lid::CHANGED_NAMESPACES,
            Notice::Discovery => lid::DISCOVERY,
        }
    }

    /// Dword 0 of a completion: type Notice, which one, and the log page to read (base 5.2,
    /// Figures 146 and 150).
    const fn completion(self) -> u32 {
        let information = match self {
            Notice::Namespaces => 0x00,
            Notice::Discovery => 0xf0,
        };
        0x02 | information << 8 | (self.log() as u32) << 16
    }
}

/// Parked requests and the one kind of event there is.
#[derive(Debug)]
pub(crate) struct Events {
    notice: Notice,
    parked: Vec<Cid>,
    /// Something changed, and no event has reported it yet.
    pending: bool,
    /// Reported, and masked until the host reads the log page.
    masked: bool,
}

impl Events {
    /// No requests, no events; room for as many as may be parked.
    pub(super) fn new(notice: Notice) -> Self {
        Self {
            notice,
            parked: Vec::with_capacity(usize::from(LIMIT) + 1),
            pending: false,
            masked: false,
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

    /// What the notice is about changed.
    pub fn note_change(&mut self) {
        self.pending = true;
    }

    /// The host read the log page `lid`, perhaps the event's.
    pub fn log_read(&mut self, lid: u8) {
        if lid == self.notice.log() {
            self.masked = false;
            self.pending = false;
        }
    }

    /// A request to complete now, with its dword 0; `config` is the
    /// Asynchronous Event Configuration. It stays until [`Events::reported`].
    pub fn due(&self, config: u32) -> Option<(Cid, u32)> {
        if !self.pending || self.masked || config & self.notice.enable() == 0 {
            return None;
        }
        let cid = *self.parked.last()?;
        Some((cid, self.notice.completion()))
    }

    /// The request that was due is completed.
    pub fn reported(&mut self) {
        self.parked.pop();
        self.pending = false;
        self.masked = true;
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
        self.pending = false;
        self.masked = false;
    }
}
