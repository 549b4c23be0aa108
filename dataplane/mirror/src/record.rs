//! What was changed, in granules of 64 KiB: in memory, and in pages on disk (row R7).
//!
//! On disk a record is pages of 4096 bytes. Numbers are little-endian, the checksum is CRC32C of the page with its
//! own four bytes taken as zeros.
//!
//! | page | bytes | |
//! | --- | --- | --- |
//! | 0 | 8 | `TL-CHNGD` |
//! | 8 | 4 | version: 1 |
//! | 12 | 4 | checksum |
//! | 16 | 16 | the replica that it is of |
//! | 32 | 8 | the number that its owner has given this record: another one, another number |
//! | 40 | 8 | which page it is: the first granule divided by 32256 |
//! | 48 | 16 | zeros |
//! | 64 | 4032 | a bit for each granule, the lowest of the first byte first; 1: changed |
//!
//! A page that is not what it should be (torn, of another record, lost) says that all of its granules were changed: what is not
//! known is copied.

use std::ops::Range;

use mutant::mutant;

use crate::bytes::{array, put, u32_at, u64_at};
use crate::replica::ReplicaId;

/// Bytes of a granule.
pub const GRANULE: u64 = 64 << 10;
/// Bytes of a page.
pub const PAGE: usize = 4096;
/// Granules of a page.
pub const PER_PAGE: u64 = 8 * (PAGE - BITS) as u64;

const MAGIC: [u8; 8] = *b"TL-CHNGD";
const CHECKSUM: usize = 12;
const BITS: usize = 64;

/// Which granules of a volume were changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Changed {
    granules: u64,
    /// 64 to a word; those behind the last one are 0.
    words: Vec<u64>,
    count: u64,
}

impl Changed {
    /// None of a volume of `len` bytes.
    pub fn none(len: u64) -> Self {
        let granules = len.div_ceil(GRANULE);
        Self {
            granules,
            words: vec![0; granules.div_ceil(64) as usize],
            count: 0,
        }
    }

    /// All of it.
    pub fn all(len: u64) -> Self {
        let mut changed = Self::none(len);
        changed.mark_granules(0..changed.granules);
        changed
    }

    /// Of bits, 64 to a word, that somebody else has.
    pub(crate) fn of_words(granules: u64, words: impl Iterator<Item = u64>) -> Self {
        let words: Vec<u64> = words.collect();
        debug_assert_eq!(words.len() as u64, granules.div_ceil(64));
        let count = words.iter().map(|word| u64::from(word.count_ones())).sum();
        Self {
            granules,
            words,
            count,
        }
    }

    /// How many there are.
    pub fn granules(&self) -> u64 {
        self.granules
    }

    /// How many were changed.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Whether a granule was.
    pub fn has(&self, granule: u64) -> bool {
        let word = self.words.get((granule / 64) as usize);
        word.is_some_and(|word| word >> (granule % 64) & 1 != 0)
    }

    /// Bytes `range` of the volume are changed; the pages to be written, if that was not known. What is outside the volume
    /// is left out.
    pub fn mark(&mut self, range: Range<u64>) -> Option<Range<u64>> {
        let end = range.end.div_ceil(GRANULE).min(self.granules);
        self.mark_granules(range.start / GRANULE..end)
    }

    fn mark_granules(&mut self, granules: Range<u64>) -> Option<Range<u64>> {
        let mut news: Option<Range<u64>> = None;
        for granule in granules {
            let word = &mut self.words[(granule / 64) as usize];
            let bit = 1 << (granule % 64);
            if *word & bit == 0 && !mutant!("replicas-bit-forgotten") {
                *word |= bit;
                self.count += 1;
                let page = granule / PER_PAGE;
                news = Some(news.map_or(page, |news| news.start)..page + 1);
            }
        }
        news
    }

    /// A granule was copied, and not changed since the copy began.
    pub fn clear(&mut self, granule: u64) {
        if self.has(granule) {
            self.words[(granule / 64) as usize] &= !(1 << (granule % 64));
            self.count -= 1;
        }
    }

    /// What others of the same volume say was changed was.
    pub fn extend<'a>(&mut self, others: impl IntoIterator<Item = &'a Changed>) {
        for other in others {
            for (word, more) in self.words.iter_mut().zip(&other.words) {
                self.count += u64::from((more & !*word).count_ones());
                *word |= more;
            }
        }
        debug_assert!(self.first_from(self.granules).is_none());
    }

    /// Nothing of page `number` was changed.
    pub fn clear_page(&mut self, number: u64) {
        let granules = number * PER_PAGE..((number + 1) * PER_PAGE).min(self.granules);
        granules.for_each(|granule| self.clear(granule));
    }

    /// The first that was changed, from `granule` on.
    pub fn first_from(&self, granule: u64) -> Option<u64> {
        let first = (granule / 64) as usize;
        let words = self.words.iter().enumerate().skip(first);
        let found = words.map(|(at, &word)| match at == first {
            true => (at, word & u64::MAX << (granule % 64)),
            false => (at, word),
        });
        let (at, word) = found.into_iter().find(|&(_, word)| word != 0)?;
        Some(at as u64 * 64 + u64::from(word.trailing_zeros()))
    }

    /// The volume has another length: what is new was changed, what is gone is forgotten.
    pub fn resize(&mut self, len: u64) {
        let granules = len.div_ceil(GRANULE);
        let before = self.granules;
        for granule in granules..before {
            self.clear(granule);
        }
        self.words.resize(granules.div_ceil(64) as usize, 0);
        self.granules = granules;
        if granules > before {
            // The last one was shorter.
            self.mark_granules(before.saturating_sub(1)..granules);
        }
    }

    /// Pages that it has on disk.
    pub fn pages(&self) -> u64 {
        self.granules.div_ceil(PER_PAGE)
    }

    /// Page `number` as it lies on disk, of record `record` of `replica`.
    pub fn page(&self, number: u64, replica: ReplicaId, record: u64) -> [u8; PAGE] {
        let mut bytes = [0; PAGE];
        put(&mut bytes, 0, &MAGIC);
        put(&mut bytes, 8, &u32::from(crate::VERSION).to_le_bytes());
        put(&mut bytes, 16, &replica.0);
        put(&mut bytes, 32, &record.to_le_bytes());
        put(&mut bytes, 40, &number.to_le_bytes());
        let words = self.words.iter().skip((number * PER_PAGE / 64) as usize);
        for (at, word) in words.take((PER_PAGE / 64) as usize).enumerate() {
            put(&mut bytes, BITS + 8 * at, &word.to_le_bytes());
        }
        let crc = checksum::crc32c(&bytes);
        put(&mut bytes, CHECKSUM, &crc.to_le_bytes());
        bytes
    }

    /// Takes page `number` as it was on disk; false if it is not that page of that record, and all of its granules count
    /// as changed.
    pub fn take_page(
        &mut self,
        bytes: &[u8; PAGE],
        number: u64,
        replica: ReplicaId,
        record: u64,
    ) -> bool {
        let is_it = bytes[..8] == MAGIC
            && u32_at(bytes, 8) == u32::from(crate::VERSION)
            && checksum::crc32c_stored_at(bytes, CHECKSUM) == u32_at(bytes, CHECKSUM)
            && array(bytes, 16) == replica.0
            && u64_at(bytes, 32) == record
            && u64_at(bytes, 40) == number;
        let granules = number * PER_PAGE..((number + 1) * PER_PAGE).min(self.granules);
        if !is_it {
            self.mark_granules(granules);
            return false;
        }
        for granule in granules {
            let at = (granule % PER_PAGE) as usize;
            match bytes[BITS + at / 8] >> (at % 8) & 1 {
                0 => self.clear(granule),
                _ => _ = self.mark_granules(granule..granule + 1),
            }
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use testkit::Random;

    use super::*;

    const OF: ReplicaId = ReplicaId([3; 16]);

    #[test]
    fn r07_a_record_is_what_was_marked_and_not_cleared() {
        let mut random = Random::new(1);
        for _ in 0..50 {
            let granules = 1 + random.below(3 * PER_PAGE);
            let len = granules * GRANULE - random.below(GRANULE);
            let (mut changed, mut model) = (Changed::none(len), BTreeSet::new());
            assert_eq!(changed.granules(), granules);
            for _ in 0..200 {
                let granule = random.below(granules);
                if random.one_in(3) {
                    changed.clear(granule);
                    model.remove(&granule);
                    continue;
                }
                let start = granule * GRANULE + random.below(GRANULE);
                let end = start + 1 + random.below(5 * GRANULE);
                let last = ((end - 1) / GRANULE).min(granules - 1);
                let news: BTreeSet<u64> = (granule..=last)
                    .filter(|granule| model.insert(*granule))
                    .collect();
                let pages = news.iter().map(|granule| granule / PER_PAGE);
                let pages = pages
                    .clone()
                    .min()
                    .map(|first| first..pages.max().unwrap_or(first) + 1);
                assert_eq!(changed.mark(start..end), pages);
            }
            let mut from = 0;
            for &granule in &model {
                assert_eq!(changed.first_from(from), Some(granule));
                from = granule + 1;
            }
            assert_eq!(changed.first_from(from), None);
            assert_eq!(changed.count(), model.len() as u64);
            // As it was, from disk.
            let mut read = Changed::all(len);
            for page in 0..changed.pages() {
                assert!(read.take_page(&changed.page(page, OF, 7), page, OF, 7));
            }
            assert_eq!(read, changed);
        }
    }

    #[test]
    fn r07_a_page_that_is_not_what_it_should_be_says_that_all_was_changed() {
        let len = 2 * PER_PAGE * GRANULE;
        let changed = Changed::none(len);
        let good = changed.page(1, OF, 7);
        let wrong = |change: &dyn Fn(&mut [u8; PAGE])| {
            let mut bytes = good;
            change(&mut bytes);
            let mut read = Changed::none(len);
            assert!(!read.take_page(&bytes, 1, OF, 7));
            assert_eq!(read.count(), PER_PAGE);
            assert!(!read.has(PER_PAGE - 1) && read.has(PER_PAGE) && read.has(2 * PER_PAGE - 1));
        };
        wrong(&|bytes| bytes[4095] ^= 1);
        wrong(&|bytes| bytes[512..].fill(0xff));
        wrong(&|bytes| *bytes = [0; PAGE]);
        wrong(&|bytes| *bytes = changed.page(0, OF, 7));
        wrong(&|bytes| *bytes = changed.page(1, OF, 6));
        wrong(&|bytes| *bytes = changed.page(1, ReplicaId([4; 16]), 7));
    }

    #[test]
    fn r07_what_is_new_of_a_volume_was_changed() {
        let mut changed = Changed::none(3 * GRANULE + 1);
        changed.resize(70 * GRANULE);
        assert_eq!((changed.granules(), changed.count()), (70, 67));
        assert!(!changed.has(2) && changed.has(3) && changed.has(69) && !changed.has(70));
        changed.resize(4 * GRANULE);
        assert_eq!((changed.granules(), changed.count()), (4, 1));
    }
}
