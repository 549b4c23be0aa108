//! The neighbour cache: who on the link has which Ethernet address.
//!
//! One state machine for both versions, that of RFC 4861, section 7.3; RFC 826
//! says nothing about ageing, and RFC 1122 (2.3.2.1) asks for it. TCP's
//! progress confirms neighbours (RFC 4861, 7.3.1), so busy ones are never probed.

use std::net::IpAddr;
use std::time::Duration;

use collections::{IndexTable, table_index};

use crate::address::MacAddress;
use crate::event::ConnectionIndex;
use crate::time::Instant;
use crate::util::list::List;
use crate::util::siphash::SipKey;
use crate::util::table::Table;
use crate::util::wheel::Wheel;

/// RFC 4861, section 10: REACHABLE_TIME, in nanoseconds; DELAY_FIRST_PROBE_TIME, RETRANS_TIMER.
const REACHABLE_NS: u64 = 30_000_000_000;
const DELAY_FIRST_PROBE: Duration = Duration::from_secs(5);
const RETRANS: Duration = Duration::from_secs(1);
/// RFC 4861, section 10: MAX_MULTICAST_SOLICIT and MAX_UNICAST_SOLICIT.
const SOLICITS_MAX: u8 = 3;

/// RFC 4861, section 7.3.2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Free,
    /// Asked for, not answered yet.
    Incomplete,
    Reachable,
    Stale,
    /// In use while stale: probed soon unless TCP confirms it first.
    Delay,
    Probe,
}

table_index! {
    /// A neighbour's entry in the cache.
    pub(crate) struct NeighborIndex(u32);
}

struct Neighbor {
    address: IpAddr,
    mac: MacAddress,
    state: State,
    solicits: u8,
    /// Connections that send through it.
    users: u32,
    confirmed: Instant,
    /// Connections that wait for the answer.
    waiting: List<ConnectionIndex>,
}

/// What a timer asks for.
pub(crate) enum Action {
    /// Ask who has the address; ask the neighbour itself if its old Ethernet address is given.
    Solicit(IpAddr, Option<MacAddress>),
    /// Nobody answers; who waits for it is to know.
    Failed(NeighborIndex),
}

/// The way to a neighbour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    Known(MacAddress),
    /// Not known, and to be asked for at once.
    Ask(IpAddr),
    /// Asked for already.
    Wait,
}

/// What a neighbour says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Heard {
    /// An answer to a question of ours.
    pub(crate) solicited: bool,
    /// Replace another address that we know.
    pub(crate) replace: bool,
    /// Worth remembering although nobody asked for it.
    pub(crate) remember: bool,
}

/// The cache.
pub(crate) struct Neighbors {
    entries: IndexTable<NeighborIndex, Neighbor>,
    table: Table<NeighborIndex>,
    wheel: Wheel<NeighborIndex>,
    key: SipKey,
}

impl Neighbors {
    pub(crate) fn new(max: usize, key: SipKey) -> Self {
        let free = |_| Neighbor {
            address: IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED),
            mac: MacAddress::default(),
            state: State::Free,
            solicits: 0,
            users: 0,
            confirmed: Instant::ZERO,
            waiting: List::EMPTY,
        };
        Self {
            entries: IndexTable::new(max, free),
            table: Table::new(max),
            wheel: Wheel::new(max),
            key,
        }
    }

    fn hash(&self, address: IpAddr) -> u64 {
        match address {
            IpAddr::V4(a) => self.key.quick(&[u64::from(u32::from(a))]),
            IpAddr::V6(a) => {
                let bits = u128::from(a);
                self.key.quick(&[(bits >> 64) as u64, bits as u64])
            }
        }
    }

    fn find(&self, address: IpAddr) -> Option<NeighborIndex> {
        let entries = &self.entries;
        self.table
            .find(self.hash(address), |i| entries[i].address == address)
    }

    /// The entry for `address`, made if need be; `None` if all are in use.
    fn find_or_make(&mut self, address: IpAddr, evicted: &mut u64) -> Option<NeighborIndex> {
        if let Some(index) = self.find(address) {
            return Some(index);
        }
        let unused = |entry: &&Neighbor| entry.users == 0 && entry.waiting.is_empty();
        let oldest = self
            .entries
            .iter()
            .filter(unused)
            .min_by_key(|entry| (entry.state != State::Free, entry.confirmed))
            .map(|entry| entry.address);
        let index = match self.entries.position(|e| e.state == State::Free) {
            Some(index) => index,
            None => {
                *evicted += 1;
                let index = self.find(oldest?)?;
                self.free(index);
                index
            }
        };
        self.table.insert(self.hash(address), index);
        let entry = &mut self.entries[index];
        entry.address = address;
        entry.mac = MacAddress::default();
        entry.state = State::Stale;
        entry.solicits = 0;
        Some(index)
    }

    fn free(&mut self, index: NeighborIndex) {
        self.wheel.cancel(index);
        let hash = self.hash(self.entries[index].address);
        self.table.remove(hash, index);
        self.entries[index].state = State::Free;
    }

    /// Says that a connection will send through the neighbour. `heard` is the
    /// Ethernet address its frames come from, believed if nothing is known:
    /// who completed a handshake through it has proved the way (RFC 4861, 7.3.1).
    pub(crate) fn bind(
        &mut self,
        address: IpAddr,
        heard: Option<MacAddress>,
        now: Instant,
        evicted: &mut u64,
    ) -> Option<NeighborIndex> {
        let index = self.find_or_make(address, evicted)?;
        let entry = &mut self.entries[index];
        entry.users += 1;
        if let Some(mac) = heard
            && entry.mac == MacAddress::default()
            && mac.is_unicast()
        {
            entry.mac = mac;
            entry.state = State::Reachable;
            entry.confirmed = now;
            self.wheel.cancel(index);
        }
        Some(index)
    }

    pub(crate) fn unbind(&mut self, index: NeighborIndex) {
        let entry = &mut self.entries[index];
        entry.users = entry.users.saturating_sub(1);
    }

    /// The Ethernet address to send to, if it is known.
    #[inline]
    pub(crate) fn resolve(&mut self, index: NeighborIndex, now: Instant) -> Way {
        let entry = &mut self.entries[index];
        if entry.state == State::Reachable && now.nanos_since(entry.confirmed) < REACHABLE_NS {
            return Way::Known(entry.mac);
        }
        self.resolve_slowly(index, now)
    }

    #[cold]
    fn resolve_slowly(&mut self, index: NeighborIndex, now: Instant) -> Way {
        let entry = &mut self.entries[index];
        match entry.state {
            State::Reachable | State::Stale if entry.mac != MacAddress::default() => {
                entry.state = State::Delay;
                self.wheel.set(index, now + DELAY_FIRST_PROBE);
                Way::Known(entry.mac)
            }
            State::Delay | State::Probe => Way::Known(entry.mac),
            State::Incomplete => Way::Wait,
            State::Free | State::Reachable | State::Stale => {
                entry.state = State::Incomplete;
                entry.solicits = 1;
                self.wheel.set(index, now + RETRANS);
                Way::Ask(entry.address)
            }
        }
    }

    /// Packets through the neighbour arrived lately: TCP made progress.
    #[inline]
    pub(crate) fn confirm(&mut self, index: NeighborIndex, now: Instant) {
        let entry = &mut self.entries[index];
        entry.confirmed = now;
        if matches!(entry.state, State::Stale | State::Delay | State::Probe)
            && entry.mac != MacAddress::default()
        {
            entry.state = State::Reachable;
            self.wheel.cancel(index);
        }
    }

    /// A connection's place in line for the answer.
    pub(crate) fn waiting(&mut self, index: NeighborIndex) -> &mut List<ConnectionIndex> {
        &mut self.entries[index].waiting
    }

    /// Takes what a neighbour said of itself (RFC 826; RFC 4861, 7.2.3 and
    /// 7.2.5). Returns the entry if it can be sent to from now on and could
    /// not before, and whether the Ethernet address is news.
    pub(crate) fn hear(
        &mut self,
        address: IpAddr,
        mac: MacAddress,
        heard: Heard,
        now: Instant,
        evicted: &mut u64,
    ) -> (Option<NeighborIndex>, bool) {
        if !mac.is_unicast() {
            return (None, false);
        }
        let known = self.find(address);
        let index = match known {
            None if heard.remember => self.find_or_make(address, evicted),
            known => known,
        };
        let Some(index) = index else {
            return (None, false);
        };
        let entry = &mut self.entries[index];
        let unknown = entry.mac == MacAddress::default();
        let changed = entry.mac != mac;
        if changed && !unknown && !heard.replace {
            // RFC 4861, 7.2.5: without the override flag doubt it, and no more.
            if entry.state == State::Reachable {
                entry.state = State::Stale;
            }
            return (None, false);
        }
        entry.mac = mac;
        if heard.solicited {
            entry.state = State::Reachable;
            entry.confirmed = now;
            self.wheel.cancel(index);
        } else if changed || entry.state == State::Incomplete {
            entry.state = State::Stale;
            self.wheel.cancel(index);
        }
        (unknown.then_some(index), changed)
    }

    /// One thing that is due; call until there is none.
    pub(crate) fn expire(&mut self, now: Instant) -> Option<Action> {
        while let Some(index) = self.wheel.pop(now) {
            let entry = &mut self.entries[index];
            match entry.state {
                State::Incomplete => {
                    if entry.solicits == SOLICITS_MAX {
                        entry.solicits += 1;
                        // Whoever still waits after being told is asked for at the same pace.
                        self.wheel.set(index, now + RETRANS);
                        return Some(Action::Failed(index));
                    }
                    if entry.solicits > SOLICITS_MAX && entry.waiting.is_empty() {
                        if entry.users == 0 {
                            self.free(index);
                        } else {
                            entry.state = State::Stale;
                        }
                        continue;
                    }
                    entry.solicits = entry.solicits.saturating_add(1);
                    self.wheel.set(index, now + RETRANS);
                    return Some(Action::Solicit(entry.address, None));
                }
                State::Delay => {
                    entry.state = State::Probe;
                    entry.solicits = 1;
                    self.wheel.set(index, now + RETRANS);
                    return Some(Action::Solicit(entry.address, Some(entry.mac)));
                }
                State::Probe if entry.solicits < SOLICITS_MAX => {
                    entry.solicits += 1;
                    self.wheel.set(index, now + RETRANS);
                    return Some(Action::Solicit(entry.address, Some(entry.mac)));
                }
                State::Probe => {
                    // RFC 4861, 7.3.3: the old address is forgotten; ask everybody when next used.
                    entry.mac = MacAddress::default();
                    entry.state = State::Stale;
                    if entry.users == 0 {
                        self.free(index);
                    }
                }
                State::Free | State::Reachable | State::Stale => {}
            }
        }
        None
    }

    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.wheel.next_deadline()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAC: MacAddress = MacAddress([2, 0, 0, 0, 0, 9]);
    const ANSWER: Heard = Heard {
        solicited: true,
        replace: true,
        remember: false,
    };

    fn cache() -> (Neighbors, IpAddr) {
        let cache = Neighbors::new(2, SipKey::new(&[1; 16]));
        (cache, "192.0.2.9".parse().unwrap())
    }

    /// A little later than the second, as polls are.
    fn at(seconds: u64) -> Instant {
        Instant::from_millis(seconds * 1001)
    }

    #[test]
    fn rfc4861_7_3_3_an_unanswered_question_is_repeated_and_fails() {
        let (mut cache, address) = cache();
        let index = cache.bind(address, None, at(0), &mut 0).unwrap();
        assert_eq!(cache.resolve(index, at(0)), Way::Ask(address));
        assert_eq!(cache.resolve(index, at(0)), Way::Wait);
        for second in 1..3 {
            assert!(
                matches!(cache.expire(at(second)), Some(Action::Solicit(a, None)) if a == address)
            );
            assert!(cache.expire(at(second)).is_none());
        }
        assert!(matches!(cache.expire(at(3)), Some(Action::Failed(i)) if i == index));
        cache.unbind(index);
        assert!(cache.expire(at(5)).is_none());
        assert!(cache.next_deadline().is_none());
    }

    #[test]
    fn rfc4861_7_3_1_progress_keeps_a_neighbour_reachable() {
        let (mut cache, address) = cache();
        let index = cache.bind(address, None, at(0), &mut 0).unwrap();
        cache.resolve(index, at(0));
        assert_eq!(
            cache.hear(address, MAC, ANSWER, at(0), &mut 0).0,
            Some(index)
        );
        for second in (0..300).step_by(20) {
            cache.confirm(index, at(second));
            assert_eq!(cache.resolve(index, at(second + 10)), Way::Known(MAC));
        }
        assert!(cache.expire(at(400)).is_none(), "never probed");
        // Left alone it is stale, used with caution, probed, and forgotten.
        assert_eq!(cache.resolve(index, at(400)), Way::Known(MAC));
        for second in 405..408 {
            assert!(matches!(
                cache.expire(at(second)),
                Some(Action::Solicit(_, Some(MAC)))
            ));
        }
        assert!(cache.expire(at(408)).is_none());
        assert_eq!(cache.resolve(index, at(408)), Way::Ask(address));
    }

    #[test]
    fn the_cache_is_bounded_and_keeps_what_is_used() {
        let (mut cache, address) = cache();
        let used = cache.bind(address, Some(MAC), at(0), &mut 0).unwrap();
        let remember = Heard {
            solicited: false,
            replace: true,
            remember: true,
        };
        let mut evicted = 0;
        for host in 10..200u8 {
            let other = IpAddr::from([192, 0, 2, host]);
            let (ready, news) = cache.hear(other, MAC, remember, at(1), &mut evicted);
            assert!(ready.is_some() && news);
        }
        assert_eq!(evicted, 189);
        assert_eq!(cache.resolve(used, at(1)), Way::Known(MAC));
    }
}
