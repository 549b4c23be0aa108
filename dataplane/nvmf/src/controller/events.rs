//! Asynchronous events: requests parked until there is one to report (base 5.2).

use crate::units::Cid;

/// Requests a host may park, minus one (AERL).
pub(super) const LIMIT: u8 = 3;

/// Notice of the Asynchronous Event Configuration: Namespace Attribute Notices.
pub(super) const NAMESPACE_NOTICES: u32 = 1 << 8;

/// The log page with the namespaces that changed.
pub(super) const CHANGED_NAMESPACES_LOG: u8 = 0x04;

/// Dword 0 of a completion: type Notice, information Namespace Attribute
/// Changed, and the log page to read (base 5.2, Figures 146 and 150).
const NAMESPACE_CHANGED: u32 = 0x02 | (CHANGED_NAMESPACES_LOG as u32) << 16;

/// Parked requests and the one kind of event there is.
#[derive(Debug, Default)]
pub(crate) struct Events {
    parked: Vec<Cid>,
    /// Namespaces changed, and no event has reported it yet.
    pending: bool,
    /// Reported, and masked until the host reads the log page.
    masked: bool,
}

impl Events {
    /// No requests, no events; room for as many as may be parked.
    pub fn new() -> Self {
        Self {
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

    /// Namespaces changed.
    pub fn namespaces_changed(&mut self) {
        self.pending = true;
    }

    /// The host read the log page of the event.
    pub fn log_read(&mut self) {
        self.masked = false;
        self.pending = false;
    }

    /// A request to complete now, with its dword 0; `config` is the
    /// Asynchronous Event Configuration. It stays until [`Events::reported`].
    pub fn due(&self, config: u32) -> Option<(Cid, u32)> {
        if !self.pending || self.masked || config & NAMESPACE_NOTICES == 0 {
            return None;
        }
        let cid = *self.parked.last()?;
        Some((cid, NAMESPACE_CHANGED))
    }

    /// The request that was due is completed.
    pub fn reported(&mut self) {
        self.parked.pop();
        self.pending = false;
        self.masked = true;
    }

    /// Takes the parked request `cid` back, to be aborted; whether there was one.
    pub fn unpark(&mut self, cid: Cid) -> bool {
        let at = self.parked.iter().position(|&parked| parked == cid);
        if let Some(at) = at {
            self.parked.swap_remove(at);
        }
        at.is_some()
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
