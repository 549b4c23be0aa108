//! Which granules the two replicas of a volume may not have alike, as all shards mark them, and what of that is in stable storage.

use std::ops::Range;
use std::sync::atomic::Ordering::SeqCst;

use crate::atomics::{AtomicBool, AtomicU64};
use crate::record::{Changed, PER_PAGE};

/// Bits for granules, which any thread may set. Those that there is no room for are never set.
#[derive(Debug)]
struct Bits(Box<[AtomicU64]>);

impl Bits {
    fn new(granules: u64) -> Self {
        let words = 0..granules.div_ceil(64);
        Self(words.map(|_| AtomicU64::new(0)).collect())
    }

    /// Whether it can be set, and is not.
    fn is_clear(&self, granule: u64) -> bool {
        let word = self.0.get((granule / 64) as usize);
        word.is_some_and(|word| word.load(SeqCst) >> (granule % 64) & 1 == 0)
    }

    /// Whether it was not set.
    fn set(&self, granule: u64) -> bool {
        let (word, bit) = (self.0.get((granule / 64) as usize), 1 << (granule % 64));
        word.is_some_and(|word| word.fetch_or(bit, SeqCst) & bit == 0)
    }

    fn clear(&self, granule: u64) -> bool {
        let (word, bit) = (self.0.get((granule / 64) as usize), 1 << (granule % 64));
        word.is_some_and(|word| word.fetch_and(!bit, SeqCst) & bit != 0)
    }

    fn word(&self, at: usize) -> u64 {
        self.0.get(at).map_or(0, |word| word.load(SeqCst))
    }

    /// Of the first `granules` of them, those of word `at`.
    fn word_of(&self, at: usize, granules: u64) -> u64 {
        match granules.saturating_sub(at as u64 * 64) {
            0 => 0,
            left @ 1..64 => self.word(at) & ((1 << left) - 1),
            _ => self.word(at),
        }
    }

    /// The first that is set, of those from `granule` on and before the words' end.
    fn first_of(&self, granule: u64, words: Range<usize>) -> Option<u64> {
        let first = (granule / 64) as usize;
        let words = words.start.max(first)..words.end.min(self.0.len());
        let mut words = words.map(|at| match at == first {
            true => (at, self.word(at) & u64::MAX << (granule % 64)),
            false => (at, self.word(at)),
        });
        let (at, word) = words.find(|&(_, word)| word != 0)?;
        Some(at as u64 * 64 + u64::from(word.trailing_zeros()))
    }
}

/// Words of bits that are counted together: 2 GiB of a volume.
const GROUP: usize = 512;

/// Bits of which each turn of a shard asks for the first one, of volumes with millions of granules: where none is set it is not looked.
#[derive(Debug)]
struct CountedBits {
    bits: Bits,
    /// How many are set, and are about to be: of all, and of each group.
    set: AtomicU64,
    groups: Box<[AtomicU64]>,
}

impl CountedBits {
    fn new(granules: u64) -> Self {
        let bits = Bits::new(granules);
        let groups = 0..bits.0.len().div_ceil(GROUP);
        Self {
            bits,
            set: AtomicU64::new(0),
            groups: groups.map(|_| AtomicU64::new(0)).collect(),
        }
    }

    fn group(&self, granule: u64) -> Option<&AtomicU64> {
        self.groups.get((granule / 64) as usize / GROUP)
    }

    /// Whether it was not set. It is counted before: what is set is never missed.
    fn set(&self, granule: u64) -> bool {
        self.count(granule, 1);
        let is_new = self.bits.set(granule);
        if !is_new {
            self.count(granule, 1u64.wrapping_neg());
        }
        is_new
    }

    fn clear(&self, granule: u64) -> bool {
        let was_set = self.bits.clear(granule);
        if was_set {
            self.count(granule, 1u64.wrapping_neg());
        }
        was_set
    }

    fn count(&self, granule: u64, more: u64) {
        if let Some(group) = self.group(granule) {
            group.fetch_add(more, SeqCst);
            self.set.fetch_add(more, SeqCst);
        }
    }

    /// The words of groups from that of word `from` on in which some are set.
    fn filled(&self, from: usize) -> impl Iterator<Item = Range<usize>> {
        let is_empty = self.set.load(SeqCst) == 0;
        let first = if is_empty {
            self.groups.len()
        } else {
            from / GROUP
        };
        let groups = (first..self.groups.len()).filter(|&at| self.groups[at].load(SeqCst) != 0);
        groups.map(|at| at * GROUP..((at + 1) * GROUP).min(self.bits.0.len()))
    }

    fn first_from(&self, granule: u64) -> Option<u64> {
        let mut filled = self.filled((granule / 64) as usize);
        filled.find_map(|words| self.bits.first_of(granule, words))
    }

    /// How many of the first `granules` are set.
    fn among(&self, granules: u64) -> u64 {
        let ones = |at| u64::from(self.bits.word_of(at, granules).count_ones());
        self.filled(0).flatten().map(ones).sum()
    }
}

/// Of a page of the record: it is not in stable storage as it is.
const DIRTY: u64 = 1;
/// A mark in it is being made: who sees its bit must not take it for stable because nobody has said yet that the page is dirty.
const UNDER_WAY: u64 = 2;

/// The marks of a volume. Any shard makes them; one thread stores them.
#[derive(Debug)]
pub(crate) struct Marks {
    /// What the other replica lacks.
    changed: CountedBits,
    /// What the other node asked for, and has not said to have in stable storage itself.
    pending: Bits,
    /// By page of the record: whether it is [dirty](DIRTY), and marks that are [under way](UNDER_WAY).
    pages: Box<[AtomicU64]>,
    /// Times that they were begun to be written; that they were, the last time of which marks are stable; and that is wanted.
    begun: AtomicU64,
    done: AtomicU64,
    wanted: AtomicU64,
    /// What was to be stored last could not be.
    is_in_vain: AtomicBool,
}

impl Marks {
    /// With room for so many granules.
    pub(crate) fn new(granules: u64) -> Self {
        let pages = 0..granules.div_ceil(PER_PAGE);
        Self {
            changed: CountedBits::new(granules),
            pending: Bits::new(granules),
            pages: pages.map(|_| AtomicU64::new(0)).collect(),
            begun: AtomicU64::new(0),
            done: AtomicU64::new(0),
            wanted: AtomicU64::new(0),
            is_in_vain: AtomicBool::new(false),
        }
    }

    /// Granules that there is room for.
    pub(crate) fn room(&self) -> u64 {
        self.changed.bits.0.len() as u64 * 64
    }

    /// The other replica lacks a granule.
    pub(crate) fn mark(&self, granule: u64) {
        self.set(&self.changed.bits, || self.changed.set(granule), granule);
    }

    /// A granule is being changed because the other node asked for it.
    pub(crate) fn pend(&self, granule: u64) {
        self.set(&self.pending, || self.pending.set(granule), granule);
    }

    /// `sets`: whether it set the granule's bit of `bits`.
    fn set(&self, bits: &Bits, sets: impl FnOnce() -> bool, granule: u64) {
        // Of one that is set somebody else has said that its page is dirty, or is about to.
        if let Some(page) = self.page(granule)
            && bits.is_clear(granule)
        {
            page.fetch_add(UNDER_WAY, SeqCst);
            if sets() {
                page.fetch_or(DIRTY, SeqCst);
            }
            page.fetch_sub(UNDER_WAY, SeqCst);
        }
    }

    fn page(&self, granule: u64) -> Option<&AtomicU64> {
        self.pages.get((granule / PER_PAGE) as usize)
    }

    fn dirty(&self, granule: u64) {
        if let Some(page) = self.page(granule) {
            page.fetch_or(DIRTY, SeqCst);
        }
    }

    /// The other node has a granule in stable storage as it is here.
    pub(crate) fn settle(&self, granule: u64) {
        self.pending.clear(granule);
    }

    /// The other replica has a granule now.
    pub(crate) fn copied(&self, granule: u64) {
        if self.changed.clear(granule) {
            self.dirty(granule);
        }
    }

    /// A granule is alike on both.
    pub(crate) fn clear(&self, granule: u64) {
        if self.changed.clear(granule) | self.pending.clear(granule) {
            self.dirty(granule);
        }
    }

    /// What of the first `granules` the other node asked for is what it lacks from now on.
    pub(crate) fn join_pending(&self, granules: u64) {
        let mut from = 0;
        while let Some(granule) = self
            .pending
            .first_of(from, 0..granules.div_ceil(64) as usize)
            .filter(|&at| at < granules)
        {
            self.mark(granule);
            self.pending.clear(granule);
            from = granule + 1;
        }
    }

    /// The first granule that the other replica lacks, from one on.
    pub(crate) fn first_from(&self, granule: u64) -> Option<u64> {
        self.changed.first_from(granule)
    }

    /// Whether the other replica lacks a granule.
    pub(crate) fn lacks(&self, granule: u64) -> bool {
        self.changed.bits.word((granule / 64) as usize) >> (granule % 64) & 1 == 1
    }

    /// How many of the first `granules` the other replica lacks.
    pub(crate) fn changed(&self, granules: u64) -> u64 {
        self.changed.among(granules)
    }

    /// Those of the first `granules` that may differ, for either reason.
    pub(crate) fn differing(&self, granules: u64) -> Changed {
        let word =
            |at| self.changed.bits.word_of(at, granules) | self.pending.word_of(at, granules);
        Changed::of_words(granules, (0..granules.div_ceil(64) as usize).map(word))
    }

    /// Those of the first `granules` that the other replica lacks.
    pub(crate) fn lacking(&self, granules: u64) -> Changed {
        let word = |at| self.changed.bits.word_of(at, granules);
        Changed::of_words(granules, (0..granules.div_ceil(64) as usize).map(word))
    }

    /// Wants all marks of the first `pages` that were made by now in stable storage: what to [ask](Marks::has_stored) for; `None` if they are.
    pub(crate) fn want_stored(&self, pages: usize) -> Option<u64> {
        // In this order: what is being stored is dirty no more. And by a change (of nothing), as a store begins by one: it either comes
        // before, and is seen here, or finds all of these marks.
        let mut list = self.pages.iter().take(pages);
        let is_dirty = list.any(|page| page.load(SeqCst) != 0);
        let begun = self.begun.fetch_add(0, SeqCst);
        if !is_dirty && begun == self.done.load(SeqCst) {
            return None;
        }
        // The one that was begun last may be without some of them.
        self.wanted.fetch_max(begun + 1, SeqCst);
        Some(begun + 1)
    }

    /// Whether they are.
    pub(crate) fn has_stored(&self, wanted: u64) -> bool {
        self.done.load(SeqCst) >= wanted
    }

    /// Whether what was to be stored last could not be.
    pub(crate) fn stores_in_vain(&self) -> bool {
        self.is_in_vain.load(SeqCst)
    }

    /// Whether somebody wants marks to be stored that are not.
    pub(crate) fn wants_to_be_stored(&self) -> bool {
        self.wanted.load(SeqCst) > self.done.load(SeqCst)
    }

    /// Which of the first `pages` are to be stored now, as they are from now on: until [`Marks::stored`] they are on their way.
    pub(crate) fn begins_to_store(&self, pages: usize) -> Vec<u64> {
        self.begun.fetch_add(1, SeqCst);
        let list = (0..).zip(self.pages.iter().take(pages));
        let list = list.filter(|(_, page)| page.fetch_and(!DIRTY, SeqCst) != 0);
        list.map(|(page, _)| page).collect()
    }

    /// They are stable; or not, and are to be written again.
    pub(crate) fn stored(&self, pages: &[u64], is_good: bool) {
        self.is_in_vain.store(!is_good, SeqCst);
        if is_good {
            return self.done.store(self.begun.load(SeqCst), SeqCst);
        }
        for &page in pages {
            self.pages[page as usize].fetch_or(DIRTY, SeqCst);
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    /// However far apart marks are, the next one is found from anywhere, and all are counted.
    #[test]
    fn r07_marks_of_a_large_volume_are_found_and_counted() {
        const GRANULES: u64 = 5 * 64 * GROUP as u64 + 70;
        let marks = Marks::new(GRANULES);
        assert_eq!((marks.first_from(0), marks.changed(GRANULES)), (None, 0));
        let group = 64 * GROUP as u64;
        let marked = [3, 64, group - 1, 3 * group, 3 * group + 65, GRANULES - 1];
        for granule in marked.into_iter().chain(marked) {
            marks.mark(granule);
        }
        for (at, granule) in marked.into_iter().enumerate() {
            let before = if at == 0 { 0 } else { marked[at - 1] + 1 };
            for from in [before, granule.saturating_sub(1).max(before), granule] {
                assert_eq!(marks.first_from(from), Some(granule), "from {from}");
            }
            assert!(marks.lacks(granule) && !marks.lacks(granule ^ 1));
            assert_eq!(marks.changed(granule), at as u64);
            assert_eq!(marks.changed(granule + 1), at as u64 + 1);
        }
        assert_eq!(marks.first_from(GRANULES), None);
        for (left, granule) in marked.into_iter().enumerate().rev() {
            marks.copied(granule);
            marks.clear(granule);
            assert_eq!(marks.changed(GRANULES), left as u64);
            assert_eq!(marks.first_from(granule), None);
        }
        assert!(
            marks
                .changed
                .groups
                .iter()
                .all(|group| group.load(SeqCst) == 0)
        );
    }
}

#[cfg(all(test, loom))]
mod loom_tests {
    use loom::sync::Arc;
    use loom::thread;

    use super::*;

    /// Stable storage, of one page with one word.
    fn store(marks: &Marks, stable: &AtomicU64) {
        let pages = marks.begins_to_store(1);
        if !pages.is_empty() {
            stable.store(marks.differing(64).count(), SeqCst);
        }
        marks.stored(&pages, true);
    }

    /// Two threads mark one granule while a third one stores what there is: whoever is told that marks are stable finds them there.
    #[test]
    fn r07_what_is_said_to_be_stored_is() {
        let mut model = loom::model::Builder::new();
        model.preemption_bound = Some(3);
        model.check(|| {
            let (marks, stable) = (Arc::new(Marks::new(64)), Arc::new(AtomicU64::new(0)));
            let shared = Arc::clone(&marks);
            let other = thread::spawn(move || shared.mark(3));
            let (shared, there) = (Arc::clone(&marks), Arc::clone(&stable));
            let one = thread::spawn(move || {
                shared.mark(3);
                let wanted = shared.want_stored(1);
                if wanted.is_none_or(|wanted| shared.has_stored(wanted)) {
                    assert_eq!(there.load(SeqCst), 1, "it is stable");
                }
                wanted
            });
            store(&marks, &stable);
            other.join().unwrap();
            let wanted = one.join().unwrap();
            while wanted.is_some_and(|wanted| !marks.has_stored(wanted)) {
                assert!(marks.wants_to_be_stored());
                store(&marks, &stable);
            }
            assert_eq!(stable.load(SeqCst), 1);
        });
    }

    /// While one thread marks what another one has copied, a mark that was made and is not cleared is found.
    #[test]
    fn r07_what_is_marked_is_found() {
        let mut model = loom::model::Builder::new();
        model.preemption_bound = Some(3);
        model.check(|| {
            let marks = Arc::new(Marks::new(128));
            marks.mark(3);
            let shared = Arc::clone(&marks);
            let copier = thread::spawn(move || shared.copied(3));
            let shared = Arc::clone(&marks);
            let other = thread::spawn(move || {
                shared.mark(70);
                assert_eq!(shared.first_from(4), Some(70));
                assert_ne!(shared.changed(128), 0);
            });
            marks.mark(70);
            assert_eq!(marks.first_from(4), Some(70));
            copier.join().unwrap();
            other.join().unwrap();
            assert_eq!((marks.first_from(0), marks.changed(128)), (Some(70), 1));
            marks.copied(70);
            assert_eq!(marks.changed.set.load(SeqCst), 0);
        });
    }
}
