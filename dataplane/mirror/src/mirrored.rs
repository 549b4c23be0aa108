//! A mirrored volume as all shards of a node see it: how changes are treated, and which granules the two replicas may not
//! have alike.
//!
//! One thread, which has the [`Pair`](crate::Pair), decides; shards act by it at their next look, and say that they do.
//! Nothing on the way of a change takes a lock.

use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::time::Duration;

use mutant::mutant;

use crate::admission::Admission;
use crate::marks::Marks;
use crate::record::{Changed, GRANULE, PER_PAGE};
use crate::verification::Verification;

/// How shards treat changes of a mirrored volume.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// Hosts are not served.
    #[default]
    Suspended,
    /// Hosts are served without the other node: what is changed is marked.
    Alone,
    /// Each change goes to the other node, and is answered when both have it; what is marked is copied there.
    Forward,
    /// Hosts are served no more; what they asked for before goes on as in [`Mode::Forward`]. Shards act by it when all of that has ended.
    Draining,
}

impl Mode {
    fn of(word: u64) -> Self {
        match word & 3 {
            1 => Self::Alone,
            2 => Self::Forward,
            3 => Self::Draining,
            _ => Self::Suspended,
        }
    }

    fn bits(self) -> u64 {
        match self {
            Self::Suspended => 0,
            Self::Alone => 1,
            Self::Forward => 2,
            Self::Draining => 3,
        }
    }
}

/// Bytes that a volume whose device had `device` when this node began may have before it begins again: what it keeps of granules has room
/// for so many.
pub fn room_of(device: u64) -> u64 {
    const SPARE: u64 = 16 << 30;
    device.saturating_mul(2).saturating_add(SPARE)
}

/// Pages of a record of `len` bytes.
fn pages_of(len: u64) -> usize {
    len.div_ceil(GRANULE).div_ceil(PER_PAGE) as usize
}

/// What all shards share of a mirrored volume.
///
/// Its *size* is what hosts may use, and what the record is of. It *reaches* further while it grows, and for a while after it has shrunk:
/// so far changes go to both nodes. The *device* may have more.
#[derive(Debug)]
pub struct Mirrored {
    len: AtomicU64,
    reach: AtomicU64,
    device: AtomicU64,
    /// Bytes that there is room for a record of.
    room: AtomicU64,
    /// The size that hosts were told last.
    shown: AtomicU64,
    /// The mode, and above it how often it was set.
    mode: AtomicU64,
    /// How often hosts' service was suspended.
    suspensions: AtomicU64,
    /// Until when this node may serve hosts while the other one is able to take over: nanoseconds of the shards' time.
    leased_until: AtomicU64,
    /// How often what this replica has began to be read as a backup, and ceased to: odd while it is.
    backups: AtomicU64,
    /// Hosts were served in this run, and the other node has not taken over what there was since: something of theirs may be under way.
    has_served: AtomicBool,
    /// By shard: the mode that it acts by.
    seen: Box<[AtomicU64]>,
    marks: Marks,
    /// Messages of changes of the other node that are under way.
    admission: Admission,
    /// What changes go to the other node with, and its number of the volume.
    ticket: AtomicU64,
    number: AtomicU64,
    /// Some change that went to the other node may be there, or not.
    is_broken: AtomicBool,
    /// The log of some shard has failed: nothing is changed in this run any more.
    has_failed: AtomicBool,
    verification: Verification,
}

impl Mirrored {
    /// A volume of `len` bytes, on a device of `device`, of a node of so many shards.
    pub fn new(len: u64, device: u64, shards: usize) -> Self {
        let room = room_of(device.max(len));
        Self {
            len: AtomicU64::new(len),
            reach: AtomicU64::new(len),
            device: AtomicU64::new(device),
            room: AtomicU64::new(room),
            shown: AtomicU64::new(len),
            mode: AtomicU64::new(0),
            suspensions: AtomicU64::new(0),
            leased_until: AtomicU64::new(u64::MAX),
            backups: AtomicU64::new(0),
            has_served: AtomicBool::new(false),
            seen: (0..shards).map(|_| AtomicU64::new(0)).collect(),
            marks: Marks::new(room.div_ceil(GRANULE)),
            admission: Admission::new(),
            ticket: AtomicU64::new(0),
            number: AtomicU64::new(0),
            is_broken: AtomicBool::new(false),
            has_failed: AtomicBool::new(false),
            verification: Verification::new(shards),
        }
    }

    /// The comparison of the two replicas.
    pub fn verification(&self) -> &Verification {
        &self.verification
    }

    /// Bytes that hosts may use.
    pub fn len(&self) -> u64 {
        self.len.load(SeqCst)
    }

    /// Whether hosts may use none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes that changes may be of.
    #[inline]
    pub fn reach(&self) -> u64 {
        self.reach.load(SeqCst)
    }

    /// Bytes of the device.
    pub fn device(&self) -> u64 {
        self.device.load(SeqCst)
    }

    /// The device has another size.
    pub fn set_device(&self, device: u64) {
        self.device.store(device, SeqCst);
    }

    /// The size that hosts were told last.
    pub fn shown(&self) -> u64 {
        self.shown.load(SeqCst)
    }

    /// Hosts are told that it has so many bytes.
    pub fn show(&self, len: u64) {
        self.shown.store(len, SeqCst);
    }

    /// Bytes that the volume may have before this node begins again.
    pub fn room(&self) -> u64 {
        self.room.load(SeqCst)
    }

    /// In stable storage there is room for a record of so many pages.
    pub fn set_pages(&self, pages: u64) {
        let bits = self.marks.room().saturating_mul(GRANULE);
        let room = pages.saturating_mul(PER_PAGE * GRANULE).min(bits);
        self.room.store(room, SeqCst);
    }

    fn granules(&self) -> u64 {
        self.len().div_ceil(GRANULE)
    }

    fn granules_of(&self, range: &Range<u64>) -> Range<u64> {
        range.start / GRANULE..range.end.min(self.reach()).div_ceil(GRANULE)
    }

    // What shards do.

    /// The mode, and what to [say](Mirrored::acts_by) when the shard acts by it.
    pub fn mode(&self) -> (Mode, u64) {
        let word = self.mode.load(SeqCst);
        (Mode::of(word), word)
    }

    /// Whether hosts are served at a time.
    #[inline]
    pub fn serves(&self, now: Duration) -> bool {
        match Mode::of(self.mode.load(SeqCst)) {
            Mode::Alone => true,
            Mode::Forward => self.is_leased(now),
            Mode::Suspended | Mode::Draining => false,
        }
    }

    /// Whether hosts may be told how what they asked for has ended: it was asked for when service had been suspended so often.
    #[inline]
    pub fn may_answer(&self, suspensions: u16, now: Duration) -> bool {
        let is_leased = match Mode::of(self.mode.load(SeqCst)) {
            Mode::Alone => true,
            Mode::Forward | Mode::Draining => self.is_leased(now),
            Mode::Suspended => false,
        };
        is_leased && self.suspensions() == suspensions
    }

    /// Whether the other node cannot have taken over.
    fn is_leased(&self, now: Duration) -> bool {
        let until = self.leased_until.load(SeqCst);
        until == u64::MAX || now < Duration::from_nanos(until) || mutant!("pair-served-past-lease")
    }

    /// How often service was suspended, of which the last 16 bits tell one time from the next.
    #[inline]
    pub fn suspensions(&self) -> u16 {
        self.suspensions.load(SeqCst) as u16
    }

    /// Which time it is that what this replica has may be read as a backup; `None`: it may not. The last 16 bits tell one time from
    /// the next.
    #[inline]
    pub fn backup(&self) -> Option<u16> {
        let times = self.backups.load(SeqCst);
        (times % 2 == 1).then_some(times as u16)
    }

    /// The shard acts by a mode from now on.
    pub fn acts_by(&self, shard: usize, word: u64) {
        self.seen[shard].store(word, SeqCst);
    }

    /// The shard's log has failed: it takes no change any more.
    pub fn log_failed(&self) {
        self.has_failed.store(true, SeqCst);
    }

    /// The other replica lacks bytes `range`.
    pub fn mark(&self, range: &Range<u64>) {
        if !mutant!("pair-change-unmarked") {
            self.granules_of(range)
                .for_each(|granule| self.marks.mark(granule));
        }
    }

    /// Bytes `range` are being changed because the other node asked for it.
    pub fn pend(&self, range: &Range<u64>) {
        self.granules_of(range)
            .for_each(|granule| self.marks.pend(granule));
    }

    /// The other node has a granule in stable storage as it is here.
    pub fn settle(&self, granule: u64) {
        self.marks.settle(granule);
    }

    /// A granule was copied, and not changed since.
    pub fn copied(&self, granule: u64) {
        self.marks.copied(granule);
    }

    /// Whether the other replica lacks a granule.
    pub fn lacks(&self, granule: u64) -> bool {
        self.marks.lacks(granule)
    }

    /// The first granule to be copied, from `granule` on.
    pub fn first_from(&self, granule: u64) -> Option<u64> {
        let reach = self.reach().div_ceil(GRANULE);
        let first = self.marks.first_from(granule);
        first.filter(|&granule| granule < reach)
    }

    /// Wants all marks that were made by now in stable storage: what to [ask](Mirrored::has_stored) for; `None` if they are.
    pub fn want_stored(&self) -> Option<u64> {
        self.marks.want_stored(pages_of(self.len()))
    }

    /// Whether they are.
    pub fn has_stored(&self, wanted: u64) -> bool {
        self.marks.has_stored(wanted)
    }

    /// Whether what was to be stored last could not be.
    pub fn stores_in_vain(&self) -> bool {
        self.marks.stores_in_vain()
    }

    /// Whether changes of the other node with this ticket are let in. If so, [`Mirrored::executed`] is to follow.
    pub fn lets_in(&self, ticket: u64) -> bool {
        self.admission.enter(ticket)
    }

    /// They were executed, or were not and never will be.
    pub fn executed(&self) {
        self.admission.leave();
    }

    /// The ticket that changes go with, and the other node's number of the volume.
    pub fn ticket(&self) -> (u64, u16) {
        (self.ticket.load(SeqCst), self.number.load(SeqCst) as u16)
    }

    /// A change that went to the other node may be there, or not: the pair is to be severed.
    pub fn breaks(&self) {
        self.is_broken.store(true, SeqCst);
    }

    // What the one that decides does.

    /// Sets the mode.
    pub(crate) fn set_mode(&self, mode: Mode) {
        let word = self.mode.load(SeqCst);
        if Mode::of(word) != mode {
            if mode == Mode::Suspended {
                self.suspensions.fetch_add(1, SeqCst);
            } else {
                self.has_served.store(true, SeqCst);
                self.end_backup();
            }
            self.mode.store(((word & !3) + 4) | mode.bits(), SeqCst);
        }
    }

    /// Until when hosts may be served in [`Mode::Forward`]; `None`: there are no leases.
    pub(crate) fn set_lease(&self, until: Option<Duration>) {
        let until = until.map_or(u64::MAX, |until| until.as_nanos() as u64);
        self.leased_until.store(until, SeqCst);
    }

    /// Whether all shards act by the mode.
    pub(crate) fn is_settled(&self) -> bool {
        let word = self.mode.load(SeqCst);
        self.seen.iter().all(|seen| seen.load(SeqCst) == word)
    }

    pub(crate) fn set_ticket(&self, ticket: u64, number: u16) {
        self.number.store(number.into(), SeqCst);
        self.ticket.store(ticket, SeqCst);
    }

    /// Lets changes in that come with a ticket; 0: none.
    pub(crate) fn let_in(&self, ticket: u64) {
        if ticket != 0 {
            self.end_backup();
        }
        self.admission.open(ticket);
    }

    /// Whether no change of the other node is under way.
    pub(crate) fn is_quiet(&self) -> bool {
        self.admission.is_quiet()
    }

    /// Whether the log of some shard has failed.
    pub(crate) fn has_failed(&self) -> bool {
        self.has_failed.load(SeqCst)
    }

    /// What this replica has may be read as a backup from now on, if nobody changes it: no host of this node, and not the other node.
    /// It ends before either can.
    pub(crate) fn begin_backup(&self) {
        let is_left_alone = Mode::of(self.mode.load(SeqCst)) == Mode::Suspended
            && !self.has_served.load(SeqCst)
            && !self.admission.is_open()
            && self.is_quiet();
        if is_left_alone && self.backup().is_none() {
            self.backups.fetch_add(1, SeqCst);
        }
    }

    /// It may not any more: what was read since then is not answered.
    pub(crate) fn end_backup(&self) {
        if self.backup().is_some() {
            self.backups.fetch_add(1, SeqCst);
        }
    }

    pub(crate) fn take_broken(&self) -> bool {
        self.is_broken.swap(false, SeqCst)
    }

    /// Granules that the other replica lacks.
    pub fn changed(&self) -> u64 {
        self.marks.changed(self.granules())
    }

    /// Granules that are to be copied before the volume has grown.
    pub fn growing(&self) -> u64 {
        let all = self.marks.changed(self.reach().div_ceil(GRANULE));
        all.saturating_sub(self.changed())
    }

    /// Granules of `len` bytes that may differ, for either reason.
    pub(crate) fn differing(&self, len: u64) -> Changed {
        self.marks.differing(len.div_ceil(GRANULE))
    }

    /// What of `len` bytes the other replica lacks.
    pub(crate) fn lacking(&self, len: u64) -> Changed {
        self.marks.lacking(len.div_ceil(GRANULE))
    }

    /// The volume has so many bytes.
    pub(crate) fn set_len(&self, len: u64) {
        self.len.store(len, SeqCst);
        self.reach.fetch_max(len, SeqCst);
    }

    /// Changes may be of so many bytes: of those that are new, the other replica lacks all.
    pub(crate) fn grow(&self, len: u64) {
        let before = self.reach.fetch_max(len, SeqCst);
        self.mark(&(before.min(self.len())..len));
    }

    /// Changes may be of so many bytes, and not of fewer than before.
    pub(crate) fn let_reach(&self, len: u64) {
        self.reach.fetch_max(len, SeqCst);
    }

    /// What is beyond the size is nobody's any more.
    pub(crate) fn crop(&self) {
        self.reach.store(self.len(), SeqCst);
    }

    /// What is `in` it was changed, too.
    pub(crate) fn join(&self, changed: &Changed) {
        let mut from = 0;
        while let Some(granule) = changed.first_from(from) {
            self.mark(&(granule * GRANULE..(granule + 1) * GRANULE));
            from = granule + 1;
        }
    }

    /// What this node did for the other one, that may not have it: it lacks that from now on.
    pub(crate) fn join_pending(&self) {
        self.marks.join_pending(self.reach().div_ceil(GRANULE));
    }

    /// The other node has taken over what there was: nothing differs that it does not know of.
    pub(crate) fn clear(&self) {
        self.has_served.store(false, SeqCst);
        (0..self.reach().div_ceil(GRANULE)).for_each(|granule| self.marks.clear(granule));
    }

    /// Whether somebody wants marks to be stored that are not.
    pub(crate) fn wants_to_be_stored(&self) -> bool {
        self.marks.wants_to_be_stored()
    }

    /// Pages of a record of `len` bytes to be stored now: until [`Mirrored::stored`] they are on their way.
    pub(crate) fn begins_to_store(&self, len: u64) -> Vec<u64> {
        self.marks.begins_to_store(pages_of(len))
    }

    /// They are stable; or not, and are to be written again.
    pub(crate) fn stored(&self, pages: &[u64], is_good: bool) {
        self.marks.stored(pages, is_good);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn r03_what_is_beyond_the_size_is_marked_while_it_grows_and_counted_apart() {
        let shared = Mirrored::new(3 * GRANULE + 512, 70 * GRANULE, 1);
        shared.mark(&(2 * GRANULE..100 * GRANULE));
        assert_eq!((shared.changed(), shared.growing()), (2, 0));
        assert_eq!(shared.first_from(4), None);
        shared.grow(66 * GRANULE);
        assert_eq!((shared.changed(), shared.growing()), (2, 62));
        assert_eq!(shared.first_from(4), Some(4));
        let record = shared.differing(shared.len());
        assert_eq!((record.granules(), record.count()), (4, 2));
        assert_eq!(shared.differing(66 * GRANULE).count(), 64);
        (4..66).for_each(|granule| shared.copied(granule));
        assert_eq!((shared.changed(), shared.growing()), (2, 0));
        shared.set_len(66 * GRANULE);
        assert_eq!((shared.len(), shared.reach()), (66 * GRANULE, 66 * GRANULE));
        // Changes that are under way reach as far as they did.
        shared.set_len(GRANULE);
        assert_eq!((shared.len(), shared.reach()), (GRANULE, 66 * GRANULE));
        assert_eq!((shared.changed(), shared.growing()), (0, 2));
        shared.crop();
        assert_eq!((shared.reach(), shared.growing()), (GRANULE, 0));
        assert_eq!(shared.first_from(0), None);
        // What it grows by again may be otherwise, whatever was known of it.
        shared.grow(2 * GRANULE);
        assert_eq!(shared.first_from(0), Some(1));
    }

    #[test]
    fn r03_what_there_is_no_room_for_is_left_alone() {
        let shared = Mirrored::new(GRANULE, GRANULE, 1);
        let room = shared.room();
        assert!(room >= 2 * GRANULE);
        shared.set_pages(1);
        assert_eq!(shared.room(), PER_PAGE * GRANULE);
        shared.set_pages(u64::MAX);
        assert!(shared.room() >= room);
        shared.grow(room + 200 * GRANULE);
        shared.copied(u64::MAX / GRANULE);
        shared.settle(u64::MAX / GRANULE);
    }
}
