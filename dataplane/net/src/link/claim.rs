//! Whether an address of ours is ours: nobody else has it when we begin to use it (RFC
//! 5227, 2.1; RFC 4862, 5.4), and it stays that way (RFC 5227, 2.4).

use std::time::Duration;

use crate::address::MacAddress;
use crate::time::Instant;

/// Probes of an IPv4 address, and the time after each. RFC 5227, 1.1 has three of them in
/// up to seven seconds, for links as slow as any; a host that has the address answers in
/// milliseconds on a storage network, and hosts wait for us.
const ARP_PROBES: u8 = 3;
const ARP_PROBE_WAIT: Duration = Duration::from_millis(100);
/// RFC 4862, 5.1: DupAddrDetectTransmits of 1, and RetransTimer after it.
const ND_PROBES: u8 = 1;
const ND_PROBE_WAIT: Duration = Duration::from_secs(1);
/// RFC 5227, 1.1: ANNOUNCE_NUM, ANNOUNCE_INTERVAL, DEFEND_INTERVAL.
const ANNOUNCEMENTS: u8 = 2;
const ANNOUNCE_INTERVAL: Duration = Duration::from_secs(2);
const DEFEND_INTERVAL: Duration = Duration::from_secs(10);
/// RFC 5227, 1.1: RATE_LIMIT_INTERVAL, between one attempt at an address that is taken and
/// the next. As long after the last sign of another user, an address in use has one user again.
const RETRY_INTERVAL: Duration = Duration::from_secs(60);

/// How an address of ours stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AddressState {
    /// The link is asked whether somebody has it: it is not used yet.
    Probing,
    /// In use.
    InUse,
    /// In use, and so it is by the station with this Ethernet address: frames go to the one or the other.
    Contested(MacAddress),
    /// Not used: the station with this Ethernet address has it. It is tried again every minute.
    Taken(MacAddress),
}

/// What there is to do for an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Due {
    /// Ask whether somebody has it.
    Probe,
    /// Say that we have it.
    Announce,
    /// It is another's no more.
    Calm,
}

/// What to do about another station that uses an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Conflict {
    /// We do not use it.
    GivenWay,
    /// We say that it is ours.
    Defend,
    /// We have said so a short while ago.
    Endure,
}

/// A claim to an address.
pub(crate) struct Claim {
    state: AddressState,
    ipv4: bool,
    /// This shard speaks for the port.
    speaks: bool,
    /// Probes or announcements sent.
    sent: u8,
    /// When the next thing is due.
    at: Option<Instant>,
    contested_at: Instant,
    defended_at: Option<Instant>,
}

impl Claim {
    pub(crate) fn new(ipv4: bool) -> Self {
        Self {
            state: AddressState::InUse,
            ipv4,
            speaks: false,
            sent: 0,
            at: None,
            contested_at: Instant::ZERO,
            defended_at: None,
        }
    }

    /// The stack starts; `asks` first whether somebody has the address.
    pub(crate) fn begin(&mut self, now: Instant, asks: bool, speaks: bool) {
        self.speaks = speaks;
        self.enter(
            if asks {
                AddressState::Probing
            } else {
                AddressState::InUse
            },
            now,
        );
    }

    fn enter(&mut self, state: AddressState, now: Instant) {
        self.state = state;
        self.sent = 0;
        self.at = match state {
            AddressState::Probing | AddressState::InUse => Some(now),
            AddressState::Contested(_) => self.at,
            AddressState::Taken(_) => self.speaks.then_some(now + RETRY_INTERVAL),
        };
    }

    pub(crate) fn state(&self) -> AddressState {
        self.state
    }

    pub(crate) fn is_usable(&self) -> bool {
        matches!(self.state, AddressState::InUse | AddressState::Contested(_))
    }

    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        let calm = self.calm_at();
        self.at.into_iter().chain(calm).min()
    }

    fn calm_at(&self) -> Option<Instant> {
        matches!(self.state, AddressState::Contested(_))
            .then_some(self.contested_at + RETRY_INTERVAL)
    }

    /// What is due; to be asked until there is nothing.
    pub(crate) fn poll(&mut self, now: Instant) -> Option<Due> {
        if self.calm_at().is_some_and(|at| at <= now) {
            self.state = AddressState::InUse;
            return Some(Due::Calm);
        }
        let due = self.at.filter(|&at| at <= now)?;
        let (probes, wait) = if self.ipv4 {
            (ARP_PROBES, ARP_PROBE_WAIT)
        } else {
            (ND_PROBES, ND_PROBE_WAIT)
        };
        match self.state {
            AddressState::Probing if self.sent < probes => {
                self.sent += 1;
                self.at = Some(now + wait);
                Some(Due::Probe)
            }
            AddressState::Probing => {
                self.enter(AddressState::InUse, now);
                self.poll(now)
            }
            AddressState::InUse | AddressState::Contested(_) => {
                self.sent += 1;
                self.at = (self.sent < ANNOUNCEMENTS).then_some(due.max(now) + ANNOUNCE_INTERVAL);
                Some(Due::Announce)
            }
            AddressState::Taken(_) => {
                self.enter(AddressState::Probing, now);
                self.poll(now)
            }
        }
    }

    /// The station with this Ethernet address uses it, or asks for it while we do.
    pub(crate) fn conflict(&mut self, mac: MacAddress, now: Instant) -> Conflict {
        match self.state {
            AddressState::Probing => {
                self.enter(AddressState::Taken(mac), now);
                Conflict::GivenWay
            }
            AddressState::Taken(_) => Conflict::GivenWay,
            AddressState::InUse | AddressState::Contested(_) => {
                if self.state == AddressState::InUse {
                    self.state = AddressState::Contested(mac);
                }
                self.contested_at = now;
                let defended = self.defended_at;
                if defended.is_some_and(|at| now.since(at) < DEFEND_INTERVAL) {
                    return Conflict::Endure;
                }
                self.defended_at = Some(now);
                Conflict::Defend
            }
        }
    }

    /// Another shard of the port says that the address is taken, or, after that, ours.
    pub(crate) fn hear(&mut self, taken: Option<MacAddress>, now: Instant) {
        match (taken, self.state) {
            (Some(mac), _) => self.enter(AddressState::Taken(mac), now),
            (None, AddressState::Taken(_) | AddressState::Probing) => {
                self.enter(AddressState::InUse, now);
            }
            (None, _) => {}
        }
    }
}
